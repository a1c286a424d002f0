"""Output: atomic files, HTML pages, escaped names, groups of processes."""
