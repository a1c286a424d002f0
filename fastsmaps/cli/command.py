"""The modules of the commands, and their interface."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
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


def command_module(name: str) -> Command:
    """Import the module of a command."""
    module: Command = __import__(f"fastsmaps.cli.commands.{name}", fromlist=["run"])
    return module
