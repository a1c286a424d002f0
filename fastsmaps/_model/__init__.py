"""What is handed out: totals, tables, rows and their views; nothing here opens a file."""
