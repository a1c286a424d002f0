"""The command `fastsmaps`: `main` runs it, `commands/` has one module for each subcommand."""
