"""--plot: save the output as an HTML plot."""

from __future__ import annotations

from fastsmaps.cli.options import extra_file, write_errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any


def add_plot(parser: argparse._ActionsContainer, what: str) -> None:
    """Add --plot; `what` describes the plot in the help."""
    parser.add_argument(
        "--plot",
        metavar="FILE",
        type=extra_file("fastsmaps.plot"),
        help=f"save {what} as one HTML page",
    )


def save_plot(figure: Any, path: str) -> None:  # noqa: ANN401 - plotly has no types
    """Write the plot as an HTML page."""
    from fastsmaps.plot import save

    with write_errors(path):
        save(figure, path)
