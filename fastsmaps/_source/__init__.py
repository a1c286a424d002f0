"""Sources of memory tables: a procfs, a capture, one process, a text."""
