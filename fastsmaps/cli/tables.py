"""Tables for terminals, drawn by rich if it is installed.

Cells are always rich's Text, which ignores markup: "[red]" in a name is shown literally.
"""

from __future__ import annotations

import sys

from fastsmaps._output.display import cell_width, cut_path
from fastsmaps.cli.output import MIN_TEXT, color_system

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, ConsoleOptions
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

# rich measures every cell: 4,000 rows take it a second, and nobody needs them in colour.
_MAX_ROWS = 4000
# Texts up to this width are not cut, unless they are in the last column: addresses have 16 digits.
_MAX_SHORT = 16


def rich_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str]) -> Table:
    """Build a rich table; if it is too wide, texts are cut, never numbers."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold cyan")
    wide = _cut_columns(head, rows, left)
    for name in head:
        table.add_column(
            Text(name),
            justify="left" if name in left else "right",
            # rich narrows columns that may wrap first; the cells themselves never wrap.
            no_wrap=name not in wide,
            overflow="ellipsis",
        )
    cuts_start = left[-1:] == ["PATH"]
    for row in rows:
        style = "bold" if "total" in (*row[:1], *row[-1:]) else ""
        cells: list[Text | _Path] = [Text(cell, no_wrap=True, overflow="ellipsis") for cell in row]
        if cuts_start:
            cells[-1] = _Path(row[-1])
        table.add_row(*cells, style=style)
    return table


def _cut_columns(
    head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str]
) -> set[str]:
    """Return the columns that may be cut: the last, if it has texts, and other long texts."""
    columns = zip(head, zip(head, *rows, strict=True), strict=True)
    long = {name for name, cells in columns if max(map(cell_width, cells)) > _MAX_SHORT}
    return {*left[-1:], *long.intersection(left)}


class _Path:
    """A cell with a path, which is cut at its start."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        from rich.measure import Measurement

        return Measurement(1, cell_width(self._text))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        from rich.text import Text

        yield Text(cut_path(self._text, options.max_width), no_wrap=True, overflow="ellipsis")


def print_rich_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str]
) -> bool:
    """Print the table to the terminal; False without rich or with too many rows."""
    if len(rows) > _MAX_ROWS:
        return False
    try:
        from rich.console import Console
    except ImportError:
        return False
    console = Console(
        markup=False,
        highlight=False,
        emoji=False,
        color_system=color_system(sys.stdout),
        no_color=False,  # --color=always is stronger than NO_COLOR
    )
    # Columns that are not cut may need more: then the terminal wraps the lines.
    cut = _cut_columns(head, rows, left)
    widths = [
        MIN_TEXT if name in cut else max(map(cell_width, column))
        for name, column in zip(head, zip(head, *rows, strict=True), strict=True)
    ]
    console.width = max(console.width, sum(widths) + len(widths))
    console.print(rich_table(head, rows, left))
    return True
