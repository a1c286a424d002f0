"""View: a small table for people, drawn as text, as HTML and by rich."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from fastsmaps._model.escaping import escaped
from fastsmaps._model.sizes import change, human

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from rich.table import Table

    #: The head of a column, and the function that writes its values.
    Column: TypeAlias = tuple[str, Callable[[Any], str]]
    Row: TypeAlias = Sequence[object]

#: A table with more rows is cut.
ROWS = 10
# Characters of a name: in a text for a terminal of 80 columns, and where lines may be longer.
_NARROW = 36
_WIDE = 120
# Notebooks align all cells to the right.
_LEFT, _RIGHT = "text-align: left", "text-align: right; white-space: nowrap"


def size(value: int | None) -> str:
    """Write a size in bytes with its unit."""
    return human(value)


def signed(value: int | None) -> str:
    """Write a difference of sizes with its sign."""
    return change(value)


def number(value: int | None) -> str:
    """Write a number; nothing for None."""
    return "" if value is None else str(value)


def seconds(value: float) -> str:
    """Write a number of seconds."""
    return f"{value:.2f} s"


def percent(value: float) -> str:
    """Write a percentage."""
    return f"{value:.1f}"


def name(value: str | None) -> str:
    """Write a name, escaped; "-" for None."""
    return "-" if value is None else escaped(value)


def shortened(text: str, length: int) -> str:
    """Return the text, without its middle if it is longer than `length`."""
    if len(text) <= length:
        return text
    end = (length - 3) * 2 // 3
    return f"{text[: length - 3 - end]}...{text[-end:]}"


class View:
    """A title, columns of some rows, sums below them, and notes.

    Every text is escaped when the view is made: none of them can hold anything that a terminal
    would act on. HTML and rich's markup are escaped where they are written.
    """

    def __init__(
        self,
        title: str,
        columns: Sequence[Column],
        rows: Iterable[Row],
        *,
        sums: Iterable[Row] = (),
        notes: Iterable[str] = (),
    ) -> None:
        self.title = escaped(title)
        self.heads = [head for head, _ in columns]
        writers = [write for _, write in columns]
        self.is_text = [write is name for write in writers]
        self.rows, self.sums = (
            [[write(value) for write, value in zip(writers, row, strict=True)] for row in part]
            for part in (rows, sums)
        )
        self.notes = [escaped(note) for note in notes if note]

    def text(self) -> str:
        """Return the view as lines for a terminal of 80 columns."""
        cells = [self.heads, *self.rows, *self.sums]
        lines = [[shortened(cell, _NARROW) for cell in line] for line in cells]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        texts = [
            "  ".join(
                cell.ljust(width) if is_text else cell.rjust(width)
                for cell, width, is_text in zip(line, widths, self.is_text, strict=True)
            ).rstrip()
            for line in lines
        ]
        return "\n".join([self.title, *texts, *self.notes])

    def html(self) -> str:
        """Return the view as HTML without colours of its own, for light and dark notebooks."""
        from html import escape

        def lines(rows: list[list[str]], tag: str) -> str:
            return "".join(
                "<tr>"
                + "".join(
                    f'<{tag} style="{_LEFT if is_text else _RIGHT}">'
                    f"{escape(shortened(cell, _WIDE))}</{tag}>"
                    for cell, is_text in zip(row, self.is_text, strict=True)
                )
                + "</tr>\n"
                for row in rows
            )

        notes = "".join(f"<p>{escape(note)}</p>\n" for note in self.notes)
        return (
            '<div style="overflow-x: auto">\n'
            f"<p>{escape(self.title)}</p>\n"
            '<table class="dataframe">\n'
            f"<thead>{lines([self.heads], 'th')}</thead>\n"
            f"<tbody>{lines(self.rows, 'td')}</tbody>\n"
            f"<tfoot>{lines(self.sums, 'th')}</tfoot>\n"
            f"</table>\n{notes}</div>"
        )

    def rich(self) -> Table:
        """Return the view as a rich.table.Table."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(
            title=Text(self.title),
            title_justify="left",
            caption=Text("\n".join(self.notes)),
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
        )
        for head, is_text in zip(self.heads, self.is_text, strict=True):
            if is_text:
                table.add_column(Text(head), overflow="fold")
            else:
                table.add_column(Text(head), justify="right", no_wrap=True)
        # Text objects, since a str would be markup: a process may be named "[red]".
        for i, row in enumerate(self.rows, 1):
            is_last = i == len(self.rows) and bool(self.sums)
            table.add_row(*(Text(shortened(cell, _WIDE)) for cell in row), end_section=is_last)
        for row in self.sums:
            table.add_row(*map(Text, row), style="bold")
        return table
