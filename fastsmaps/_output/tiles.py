"""The tiles of a treemap: memory with its sizes and its parts, as a page's JSON has them."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

from fastsmaps._model.record import Record
from fastsmaps._output.display import escaped

#: The sizes that a page can show, in this order. "size" stands in if a text has none of them.
SIZES = ("pss", "uss", "rss", "swap")

#: The kinds of mappings, which have a colour each, with what a legend says.
KINDS = {
    "heap": "heap",
    "anon": "anonymous",
    "anon_named": "anonymous, named",
    "stack": "stack",
    "file": "file",
    "shmem": "shared memory",
    "hugetlb": "huge pages",
    "device": "device",
    "special": "special",
}
_NUMBERS = {kind: number for number, kind in enumerate(KINDS)}
# Kinds whose path says no more than the kind does.
_WITHOUT_PATH = ("heap", "anon")

# Characters of a text on a page; the middle of a longer one is left out.
_MAX_TEXT = 200

Sizes = list[int | None]


class Tile:
    """A tile: a text, a kind or "", sizes in bytes (None if unknown), parts by key.

    ``count`` is the number of processes in it, None if that says nothing.
    """

    __slots__ = ("count", "kind", "parts", "sizes", "text")

    def __init__(self, text: str, sizes: Iterable[int | None], kind: str = "") -> None:
        self.text = text
        self.kind = kind
        self.sizes: Sizes = list(sizes)
        self.count: int | None = None
        self.parts: dict[Hashable, Tile] = {}

    def part(self, key: Hashable, text: str, kind: str = "") -> Tile:
        """Return the part with that key, which is made if it does not exist."""
        if key not in self.parts:
            self.parts[key] = Tile(text, [None] * len(self.sizes), kind)
        return self.parts[key]

    def add(self, sizes: Iterable[int | None]) -> None:
        """Add sizes; what is unknown adds nothing."""
        self.sizes = [
            old if new is None else new + (old or 0)
            for old, new in zip(self.sizes, sizes, strict=True)
        ]


def sizes_in(records: Iterable[Record]) -> tuple[str, ...]:
    """Return the names of SIZES that at least one record has, or "size"."""
    known: set[str] = set()
    for record in records:
        known.update(name for name in SIZES if record.get(name) is not None)
        if len(known) == len(SIZES):
            break
    return tuple(name for name in SIZES if name in known) or ("size",)


def add_mapping(root: Tile, mapping: Any, names: Iterable[str], *, ranges: bool = False) -> None:  # noqa: ANN401
    """Add a Mapping below a tile: kind > path, and > range with `ranges`."""
    sizes = [getattr(mapping, name) for name in names]
    if not any(sizes):
        return
    kind, path = mapping.kind, mapping.path
    tile = root.part(kind, KINDS[kind], kind)
    tile.add(sizes)
    if kind not in _WITHOUT_PATH:
        tile = tile.part(path, path or "(no name)", kind)
        tile.add(sizes)
    if ranges:
        text = f"{mapping.start:x}-{mapping.end:x} {mapping.perms}"
        tile.part((mapping.start, len(tile.parts)), text, kind).add(sizes)


def fold(roots: Iterable[Tile], limit: int) -> None:
    """Keep the `limit` largest tiles below the roots; merge the other parts of each tile into one.

    A tile is as large as the largest of its shares: a page can show any of the sizes.
    """
    roots = list(roots)
    tiles = [tile for root in roots for tile in _descend(root) if tile is not root]
    if len(tiles) <= limit:
        return
    shares = [1 / total if total else 0 for total in sums(roots)]

    def weight(tile: Tile) -> float:
        return max((size or 0) * share for size, share in zip(tile.sizes, shares, strict=True))

    # A tile comes before its parts and is not smaller, so it is kept if one of them is.
    kept = set(map(id, heapq.nlargest(limit, tiles, key=weight)))
    for tile in [*roots, *(tile for tile in tiles if id(tile) in kept)]:
        merge(tile, [key for key, part in tile.parts.items() if id(part) not in kept])


def sums(tiles: Iterable[Tile]) -> list[int]:
    """Return the sum of each size, 0 if no tile has it."""
    columns = zip(*(tile.sizes for tile in tiles), strict=True)
    return [sum(size or 0 for size in column) for column in columns]


def merge(tile: Tile, keys: Iterable[Hashable]) -> None:
    """Merge these parts of a tile into one; if they are all of them, remove them."""
    keys = list(keys)
    if keys and len(keys) == len(tile.parts):
        tile.parts = {}
    elif len(keys) > 1:
        other = Tile(f"{len(keys)} smaller", [None] * len(tile.sizes), tile.kind)
        for key in keys:
            other.add(tile.parts.pop(key).sizes)
        tile.parts[other] = other


def _descend(tile: Tile) -> Iterator[Tile]:
    yield tile
    for part in tile.parts.values():
        yield from _descend(part)


class Texts:
    """The texts of a page, each once: libraries are mapped by most processes."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        """Return the text's number in ``all``."""
        return self._numbers.setdefault(shown(text), len(self._numbers))

    @property
    def all(self) -> list[str]:
        """The texts, harmless and of bounded length."""
        return list(self._numbers)

    def tiles(self, tiles: Iterable[Tile]) -> list[list[Any]]:
        """Return [text, kind, sizes in KiB, parts, count] for each tile, without empty ends."""
        rows = []
        for tile in tiles:
            row: list[Any] = [
                self.number(tile.text),
                _NUMBERS.get(tile.kind, -1),
                kib(tile.sizes),
                self.tiles(tile.parts.values()) or 0,
                tile.count,
            ]
            while not row[-1]:
                row.pop()
            rows.append(row)
        return rows


def shown(text: str) -> str:
    """Return a text without control characters, its middle left out if it is long."""
    if len(text) > 2 * _MAX_TEXT:  # escaping takes time and memory
        text = text[:_MAX_TEXT] + text[-_MAX_TEXT:]
    text = escaped(text)
    half = _MAX_TEXT // 2
    return text if len(text) <= _MAX_TEXT else f"{text[:half]}…{text[-half:]}"


def kib(sizes: Iterable[int | None]) -> list[float | None]:
    """Return sizes in KiB: whole numbers, as the kernel prints them, but for odd ranges."""
    return [s if s is None else s >> 10 if not s & 1023 else s / 1024 for s in sizes]
