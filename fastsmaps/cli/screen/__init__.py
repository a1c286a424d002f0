"""The live screen of top, on Textual: the list of processes, and one process."""
