"""Tables for terminals, drawn by rich if it is installed.

Cells are always rich's Text, which ignores markup: "[red]" in a name is shown literally.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

# rich measures every cell: 4,000 rows take it a second, and nobody needs them in colour.
_MAX_ROWS = 4000


def rich_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str]) -> Table:
    """Build a rich table; if it is too wide, texts are cut, never numbers."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold cyan")
    wide = set(left[-1:])
    for name in head:
        table.add_column(
            Text(name),
            justify="left" if name in left else "right",
            # rich narrows columns that may wrap first; the cells themselves never wrap.
            no_wrap=name not in wide,
            overflow="ellipsis",
        )
    for row in rows:
        style = "bold" if "total" in (*row[:1], *row[-1:]) else ""
        table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in row), style=style)
    return table


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
    Console(markup=False, highlight=False, emoji=False).print(rich_table(head, rows, left))
    return True
