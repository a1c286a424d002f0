"""Many processes, or one process many times."""
