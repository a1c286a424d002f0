"""``python -m fastsmaps`` is the command ``fastsmaps``."""

from fastsmaps.cli.main import entry

entry()
