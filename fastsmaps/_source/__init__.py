"""Where the bytes come from: a procfs, a capture, one process, a text."""
