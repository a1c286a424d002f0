"""What every command's module has; only type checkers import this."""

from __future__ import annotations

import argparse
from typing import Protocol


class Command(Protocol):
    """A module of this package: its name is the command's."""

    #: Lines for the end of its help: a command line, two spaces or more, what it is for.
    EXAMPLES: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds its own arguments, and of the common ones those that it takes."""

    def run(self, args: argparse.Namespace) -> int:
        """Does it; the exit status."""
