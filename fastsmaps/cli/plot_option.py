"""--plot: save the output as an HTML plot."""

from __future__ import annotations

import argparse

from fastsmaps.cli.options import cannot_write, file_to_write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def add_plot(parser: argparse._ActionsContainer, what: str) -> None:
    """Add --plot; `what` describes the plot in the help."""
    parser.add_argument(
        "--plot", metavar="FILE", type=plot_file, help=f"save {what} as one HTML page"
    )


def plot_file(path: str) -> str:
    """Check that the file can be written, and that plotly is installed."""
    try:
        import fastsmaps.plot  # noqa: F401
    except ImportError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return file_to_write(path)


def save_plot(figure: Any, path: str) -> None:  # noqa: ANN401 - plotly has no types
    """Write the plot as an HTML page."""
    from fastsmaps.plot import save

    try:
        save(figure, path)
    except OSError as error:
        raise cannot_write(path, error) from None
