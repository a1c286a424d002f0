"""Names and sizes as text for people: on terminals, in metrics, on pages."""

from __future__ import annotations

from fastsmaps._model.escaping import escaped as escaped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_BLOCKS = "▁▂▃▄▅▆▇█"
# Less of a path says nothing.
_MIN_PATH = 8


def cell_width(text: str) -> int:
    """Return the number of a terminal's cells that a printable text takes.

    Wide letters (CJK, emoji) take two, combining ones none. Source: Unicode's EastAsianWidth.
    """
    if text.isascii():
        return len(text)
    return sum(map(_cells, text))


def cut_cells(text: str, width: int | None) -> str:
    """Return as much of the beginning as fits into `width` cells; all if that is None."""
    if width is None or text.isascii():
        return text[:width]
    for i, c in enumerate(text):
        width -= _cells(c)
        if width < 0:
            return text[:i]
    return text


def cut_path(text: str, width: int) -> str:
    """Return a name in at most `width` cells: a path loses its start, other names their end.

    What is before the path stays: "7f12a000-7f13b000 …ib/libc.so.6".
    """
    if cell_width(text) <= width:
        return text
    before, slash, path = text.partition("/")
    room = width - cell_width(before) - 1
    if not slash or room < _MIN_PATH:
        return f"{cut_cells(text, width - 1)}…"
    start = len(path)
    while room >= 0:
        start -= 1
        room -= _cells(path[start])
    return f"{before}…{path[start + 1 :]}"


def _cells(letter: str) -> int:
    import unicodedata  # 1 ms, which plain tables of ASCII save

    if unicodedata.category(letter) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "FW" else 1


def blocks(values: Iterable[float], low: float, high: float) -> str:
    """Return a character for each value: a low block for `low`, a full one for `high`."""
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BLOCKS[round((value - low) * scale)] for value in values)


def kib(size: int | None) -> str:
    """Return a size in KiB; "-" for an unknown one, which is not 0."""
    return "-" if size is None else str(size // 1024 if size >= 0 else -(-size // 1024))


def signed_kib(size: int | None) -> str:
    """Return a difference of sizes in KiB, with its sign unless it is 0."""
    text = kib(size)
    return f"+{text}" if size is not None and size > 0 and text != "0" else text
