"""Shared by the tests: live processes, smaps texts, captures, commands, an independent parser."""
