"""Writing for others: files, pages, names that are safe to show, groups."""
