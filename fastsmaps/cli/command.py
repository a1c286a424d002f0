"""The interface of a command's module; only type checkers import this."""

from __future__ import annotations

import argparse
from typing import Protocol


class Command(Protocol):
    """A module of the package ``commands``, named like the command."""

    #: Lines for the end of its help: a command line, two or more spaces, its purpose.
    EXAMPLES: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's own arguments and the shared ones that it takes."""

    def run(self, args: argparse.Namespace) -> int:
        """Run the command and return its exit status."""
