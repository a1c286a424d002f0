"""Text for people and for programs."""

from __future__ import annotations

import os
import sys

from fastsmaps.display import harmless

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    Record = dict[str, Any]


def complain(problem: Exception | str) -> None:
    """One line on standard error, where there is one."""
    if sys.stderr is not None:
        print(f"fastsmaps: {harmless(str(problem))}", file=sys.stderr)


def print_json(records: Iterable[Record]) -> None:
    """A list, an object a line.

    ASCII, so that it is harmless too; bytes that are no UTF-8 come as lone surrogates. The
    encoder in C works only without an indent: 1,000 processes take 13 ms instead of 60.
    """
    import json

    encode = json.JSONEncoder().encode
    # Whole, so that it costs one write for each 8 KiB and not two for each row.
    sys.stdout.write("[" + ",\n ".join(map(encode, records)) + "]\n")


def print_csv(records: Sequence[Record], names: Sequence[str], *, head: bool = True) -> None:
    """A line of names, then a line a record; what is not known is empty."""
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    if head:
        writer.writerow(map(harmless, names))
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
        return harmless(" ".join(f"{name}={text}" for name, text in value.items()))
    if isinstance(value, list | tuple):
        return harmless(" ".join(map(str, value)))
    return harmless(str(value))


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str]) -> None:
    """Columns under their heads, numbers to the right.

    In colour on a terminal where rich is installed; otherwise plain, and where no terminal is,
    with every name in full.
    """
    safe = [[harmless(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from fastsmaps.cli.pretty import print_pretty

        if print_pretty(head, safe, left):
            return
    for line in plain_lines(head, safe, left, terminal_width()):
        print(line)


def terminal_width() -> int | None:
    """Where lines have to end; None where no terminal is."""
    if not sys.stdout.isatty():
        return None
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except OSError:
        return None


def plain_lines(
    head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str], limit: int | None
) -> list[str]:
    """The table's lines: columns as wide as their widest cell, the last one not filled."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return [
        "  ".join(
            [
                cell.ljust(width) if name in left else cell.rjust(width)
                for name, cell, width in zip(head, line, widths, strict=True)
            ]
        ).rstrip()[:limit]
        for line in lines
    ]
