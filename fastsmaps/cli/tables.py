"""Tables for terminals, by rich where it is installed.

Names are always rich's Text, which knows no markup: "[red]" in a name is shown as it is.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

# rich measures every cell: 4,000 rows take it a second, and nobody reads them for their colour.
_MANY = 4000


def table_of(head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str]) -> Table:
    """Rich's table; where it is too wide the texts get shorter, never a number."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold cyan")
    wide = set(left[-1:])
    for name in head:
        table.add_column(
            Text(name),
            justify="left" if name in left else "right",
            # What may be wrapped is made narrower first; the cells themselves never wrap.
            no_wrap=name not in wide,
            overflow="ellipsis",
        )
    for row in rows:
        style = "bold" if "total" in row[:1] else ""
        table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in row), style=style)
    return table


def print_pretty(head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str]) -> bool:
    """Prints it to the terminal; False where there is no rich."""
    if len(rows) > _MANY:
        return False
    try:
        from rich.console import Console
    except ImportError:
        return False
    Console(markup=False, highlight=False, emoji=False).print(table_of(head, rows, left))
    return True
