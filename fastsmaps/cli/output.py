"""Text for people and for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence


def harmless(text: str) -> str:
    r"""The text with all that a terminal would act on made visible: ``\x1b``, ``\xff``.

    Names come from whoever runs a process or maps a file: control characters, changes of the
    writing direction and bytes that are no UTF-8 must not reach a terminal.
    """
    if text.isprintable():
        return text
    text = os.fsencode(text).decode("utf-8", "backslashreplace")
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def kib(size: int | None) -> str:
    """A size in KiB; "-" for what is not known, which is not 0."""
    return "-" if size is None else str(size // 1024)


def print_json(value: object) -> None:
    """ASCII, so that it is harmless too; bytes that are no UTF-8 come as lone surrogates."""
    json.dump(value, sys.stdout, indent=1)
    sys.stdout.write("\n")


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[str]) -> None:
    """Columns as wide as their widest cell, numbers to the right; the last one is not filled.

    On a terminal a line ends at the terminal's edge.
    """
    lines = [head, *([harmless(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    limit = os.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in lines:
        cells = [
            cell.ljust(width) if name in left else cell.rjust(width)
            for name, cell, width in zip(head, line, widths, strict=True)
        ]
        print("  ".join(cells).rstrip()[:limit])
