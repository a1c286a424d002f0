"""``python -m fastsmaps`` is the command ``fastsmaps``."""

from fastsmaps.cli import entry

entry()
