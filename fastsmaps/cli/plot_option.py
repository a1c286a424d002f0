"""--plot: save the output as an HTML page."""

from __future__ import annotations

import sys

from fastsmaps.cli.options import file_to_write, write_errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from fastsmaps.plot import Page


def add_plot(parser: argparse._ActionsContainer, what: str) -> None:
    """Add --plot; `what` describes the page in the help."""
    parser.add_argument(
        "--plot", metavar="FILE", type=file_to_write, help=f"save {what} as one HTML page"
    )


def command_line() -> str:
    """Return this command's line, as a shell takes it."""
    import shlex

    return shlex.join(["fastsmaps", *sys.argv[1:]])


def save_page(page: Page, path: str) -> None:
    """Write the page."""
    from fastsmaps.plot import save

    with write_errors(path):
        save(page, path)
