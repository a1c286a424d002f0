"""Print text: error lines, command lines, JSON, CSV and plain tables."""

from __future__ import annotations

import itertools
import os
import sys

from fastsmaps._model.grouping import short_command
from fastsmaps._output.display import cell_width, cut_cells, escaped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any, Literal, TextIO

    from fastsmaps._model.process_totals import ProcessTotals

    Record = dict[str, Any]


# Characters of JSON that are written at a time.
_BLOCK = 1 << 16
#: Characters of a command line in a table or report, unless a terminal's width limits it.
MAX_COMMAND_LENGTH = 4096
#: Cells to which a table's last column is cut at most.
MIN_TEXT = 8
# Characters by which command lines are sorted.
_SORTED_LENGTH = 256


def print_error(problem: Exception | str) -> None:
    """Print one line to standard error, if it is open; a terminal's lines end between words."""
    if sys.stderr is not None:
        import contextlib

        with contextlib.suppress(OSError):  # nobody reads it; the exit status still counts
            text = f"fastsmaps: {escaped(str(problem))}"
            print(wrapped(text, terminal_width(sys.stderr)), file=sys.stderr)


class CommandLine:
    """A row's command line in a record, decoded on demand and only as far as it is printed.

    Iteration yields the arguments; str() is short_command(), with the program's base name, or with
    `full` its path; it is cut after MAX_COMMAND_LENGTH characters, with "..." added.
    """

    __slots__ = ("_full", "_key", "_row")

    def __init__(self, row: ProcessTotals, *, full: bool = False) -> None:
        self._row = row
        self._full = full
        self._key: str | None = None

    def __iter__(self) -> Iterator[str]:
        return iter(self._row.cmdline or ())

    def __str__(self) -> str:
        return short_command(self._row, MAX_COMMAND_LENGTH, full=self._full)

    def __lt__(self, other: CommandLine) -> bool:
        return self._sort_key() < other._sort_key()

    def _sort_key(self) -> str:
        if self._key is None:  # kept: a sort compares each row a dozen times
            self._key = short_command(self._row, _SORTED_LENGTH, full=self._full)
        return self._key


def print_json(records: Iterable[Record]) -> None:
    """Print a JSON list with one object per line.

    The output is ASCII, so a terminal is safe; bytes that are not UTF-8 are lone surrogates. The
    encoder in C works only without an indent: 1,000 processes take 13 ms instead of 60.
    """
    import json

    encode = json.JSONEncoder(default=list).encode  # a CommandLine becomes a list of arguments
    # Several rows per write, but never the text of all rows at once.
    texts: list[str] = []
    length = 0
    before = "["
    for record in records:
        texts.append(encode(record))
        length += len(texts[-1])
        if length > _BLOCK:
            sys.stdout.write(before + ",\n ".join(texts))
            texts, length, before = [], 0, ",\n "
    if texts:
        sys.stdout.write(before + ",\n ".join(texts))
        before = ""
    sys.stdout.write("[]\n" if before == "[" else "]\n")


def print_csv(records: Sequence[Record], names: Sequence[str], *, head: bool = True) -> None:
    """Print a header, then a line for each record; unknown values are empty."""
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    if head:
        writer.writerow(map(escaped, names))
    for record in records:
        writer.writerow([_csv_cell(record.get(name)) for name in names])


def _csv_cell(value: object) -> str | int | float:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return value
    if isinstance(value, dict):
        return escaped(" ".join(f"{name}={text}" for name, text in value.items()))
    if isinstance(value, list | tuple | CommandLine):
        return escaped(" ".join(map(str, value)))
    return escaped(str(value))


def print_table(
    head: Sequence[str], cells: Sequence[Sequence[str]], lasts: Iterable[str], left: Sequence[str]
) -> None:
    """Print columns below their heads; `left` names those that are aligned left.

    `lasts` are the cells of the last column, made one at a time, since command lines may be long.
    On a terminal rich draws the table if it is installed. Elsewhere no text is cut.
    """
    safe = [[escaped(cell) for cell in row] for row in cells]
    last: Iterator[str] = map(escaped, lasts)
    if sys.stdout.isatty():
        from fastsmaps.cli.tables import print_rich_table

        rows = [[*row, cell] for row, cell in zip(safe, last, strict=True)]
        if print_rich_table(head, rows, left):
            return
        last = iter([row[-1] for row in rows])
    coloured = color_system(sys.stdout) is not None
    totals = [True, *("total" in row[:1] for row in safe)]
    for line, bold in zip(_lines(head, safe, last, left, terminal_width()), totals, strict=True):
        print(f"\x1b[1m{line}\x1b[0m" if bold and coloured else line)


def terminal_width(stream: TextIO | None = None) -> int | None:
    """Return the terminal's width; None if the stream (standard output) is not a terminal."""
    stream = stream or sys.stdout
    if not stream.isatty():
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except OSError:
        return None


#: The values of --color.
COLOR_CHOICES = ("auto", "always", "never")
_color = "auto"


def set_color(choice: str) -> None:
    """Set --color for the whole process."""
    global _color
    _color = choice


def color_system(stream: TextIO | None) -> Literal["standard"] | None:
    """Return rich's colour system for the stream; None for no colours.

    NO_COLOR, FORCE_COLOR and TERM=dumb count in this order, as in Python.
    """
    if _color != "auto":
        return "standard" if _color == "always" else None
    if os.environ.get("NO_COLOR"):
        return None
    if os.environ.get("FORCE_COLOR"):
        return "standard"
    is_terminal = stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
    return "standard" if is_terminal else None


_written: list[str] = []


def note_written(path: str) -> None:
    """Note a file that was written; print_written() names it."""
    _written.append(path)


def forget_written() -> None:
    """Forget the files that were written."""
    _written.clear()


def print_written() -> None:
    """Print the names of the files that were written, as the last lines, to standard error."""
    if _written and sys.stderr is not None:
        import contextlib

        sys.stdout.flush()
        with contextlib.suppress(OSError):
            for path in _written:
                print(f"Wrote {escaped(path)}", file=sys.stderr)
    _written.clear()


def wrapped(text: str, width: int | None) -> str:
    """Break lines between words; None does not. Options and paths are not broken."""
    if width is None or len(text) <= width:
        return text
    import textwrap

    return "\n".join(
        textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
        for line in text.splitlines()
    )


def print_note(text: str) -> None:
    """Print lines, which a terminal breaks between words."""
    print(wrapped(text, terminal_width()))


def plain_lines(
    head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str], limit: int | None
) -> list[str]:
    """Return the table's lines, without trailing spaces, cut to `limit` cells of a terminal."""
    lasts = iter([row[-1] for row in rows])
    return list(_lines(head, [row[:-1] for row in rows], lasts, left, limit))


def _lines(
    head: Sequence[str],
    cells: Sequence[Sequence[str]],
    lasts: Iterator[str],
    left: Sequence[str],
    limit: int | None,
) -> Iterator[str]:
    *names, name = head
    widths = [max(map(cell_width, column)) for column in zip(names, *cells, strict=True)]
    width = 0
    if name not in left:
        last_cells = [*lasts]
        width = max(map(cell_width, [name, *last_cells]))
        lasts = iter(last_cells)
    if limit is not None:  # a number that is cut would be another one
        limit = max(limit, sum(widths) + 2 * len(widths) + (width or MIN_TEXT))
    for row, last in zip([names, *cells], itertools.chain([name], lasts), strict=True):
        line = []
        for column, cell, size in zip(names, row, widths, strict=True):
            padding = " " * (size - cell_width(cell))
            line.append(cell + padding if column in left else padding + cell)
        line.append(" " * (width - cell_width(last)) + last)
        yield cut_cells("  ".join(line).rstrip(), limit)
