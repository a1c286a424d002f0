"""Text for people and for programs."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys

from fastsmaps._output.display import escaped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from fastsmaps._model.process_totals import ProcessTotals

    Record = dict[str, Any]


# Characters of JSON that are written at once.
_BLOCK = 1 << 16
#: Characters of a command line in a table or report, where no terminal's width is the limit.
MAX_SHOWN = 4096


def print_error(problem: Exception | str) -> None:
    """One line on standard error, where there is one."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):  # nobody reads it: the exit status still counts
            print(f"fastsmaps: {escaped(str(problem))}", file=sys.stderr)


class CommandLine:
    """A row's command line in a record: decoded when it is shown, and no more than is shown.

    Iteration gives the arguments; str() at most `most` characters and "..." for what is cut off.
    """

    __slots__ = ("_most", "_row")

    def __init__(self, row: ProcessTotals, most: int = MAX_SHOWN) -> None:
        self._row = row
        self._most = most

    def __iter__(self) -> Iterator[str]:
        return iter(self._row.cmdline or ())

    def __str__(self) -> str:
        text = self._bytes()
        # A character has four bytes at most.
        shown = os.fsdecode(text[: 4 * self._most + 4].replace(b"\0", b" "))
        return shown if len(shown) <= self._most else shown[: self._most] + "..."

    def __lt__(self, other: CommandLine) -> bool:
        return self._bytes() < other._bytes()

    def _bytes(self) -> bytes:
        text = (self._row.raw_cmdline or b"").removesuffix(b"\0")
        if text.strip(b"\0"):
            return text
        return b"?" if self._row.comm is None else b"[%b]" % os.fsencode(self._row.comm)


def print_json(records: Iterable[Record]) -> None:
    """A list, an object a line.

    ASCII, so it needs no escaping; bytes that are not UTF-8 come as lone surrogates. The
    encoder in C works only without an indent: 1,000 processes take 13 ms instead of 60.
    """
    import json

    encode = json.JSONEncoder(default=list).encode  # of command lines arguments are made here
    # Some rows a write, and never the text of all of them at once.
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
    """A line of names, then a line a record; what is not known is empty."""
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
    """Columns under their heads, numbers to the right; `lasts` are the cells of the last one.

    In colour on a terminal where rich is installed; otherwise plain, and where no terminal is,
    with every name in full. The last column's cells are then made one after the other: command
    lines may be long.
    """
    safe = [[escaped(cell) for cell in row] for row in cells]
    last: Iterator[str] = map(escaped, lasts)
    if sys.stdout.isatty():
        from fastsmaps.cli.tables import print_pretty

        rows = [[*row, cell] for row, cell in zip(safe, last, strict=True)]
        if print_pretty(head, rows, left):
            return
        last = iter([row[-1] for row in rows])
    for line in _lines(head, safe, last, left, terminal_width()):
        print(line)


def terminal_width() -> int | None:
    """Where lines have to end; None where no terminal is."""
    if not sys.stdout.isatty():
        return None
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except OSError:
        return None


def wrapped(text: str) -> str:
    """The lines, none longer than the terminal is wide."""
    width = terminal_width()
    if width is None:
        return text
    import textwrap

    return "\n".join(textwrap.fill(line, width) for line in text.splitlines())


def plain_lines(
    head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str], limit: int | None
) -> list[str]:
    """The table's lines: columns as wide as their widest cell, the last one not filled."""
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
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    width = 0
    if name not in left:
        every = [*lasts]
        width = max(map(len, [name, *every]))
        lasts = iter(every)
    for row, last in zip([names, *cells], itertools.chain([name], lasts), strict=True):
        line = [
            cell.ljust(size) if column in left else cell.rjust(size)
            for column, cell, size in zip(names, row, widths, strict=True)
        ]
        yield "  ".join([*line, last.rjust(width)]).rstrip()[:limit]
