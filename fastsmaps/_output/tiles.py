"""Memory in parts with their sizes, as a page's JSON has them; small parts are merged."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
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
# Characters of a text on a page; the middle of a longer one is left out.
_MAX_TEXT = 200

Sizes = list[int | None]


class Part:
    """A part of a process's memory: its kind, use, path and range ("" if it has none), its sizes.

    ``merged`` is the number of parts that were merged into it, 0 for a part of its own.
    """

    __slots__ = ("kind", "merged", "path", "range", "sizes", "use")

    def __init__(self, kind: str, use: str, path: str, range: str, sizes: Sizes) -> None:
        self.kind = kind
        self.use = use
        self.path = path
        self.range = range
        self.sizes = sizes
        self.merged = 0


def parts_of(
    mappings: Iterable[Any], uses: Iterable[str], names: Iterable[str], *, ranges: bool = False
) -> list[Part]:
    """Return a part for each kind, use and path of some rows; with `ranges` for each row."""
    names = tuple(names)
    parts: dict[tuple[object, ...], Part] = {}
    for mapping, use in zip(mappings, uses, strict=True):
        sizes = [getattr(mapping, name) for name in names]
        if not any(sizes):
            continue
        kind = mapping.kind
        path = "" if kind == "heap" else mapping.path  # its path says no more
        place = f"{mapping.start:x}-{mapping.end:x} {mapping.perms}" if ranges else ""
        key = (kind, use, path, len(parts) if ranges else "")
        if key in parts:
            parts[key].sizes = added(parts[key].sizes, sizes)
        else:
            parts[key] = Part(kind, use, path, place, sizes)
    return list(parts.values())


def sizes_in(records: Iterable[Record]) -> tuple[str, ...]:
    """Return the names of SIZES that at least one record has, or "size"."""
    known: set[str] = set()
    for record in records:
        known.update(name for name in SIZES if record.get(name) is not None)
        if len(known) == len(SIZES):
            break
    return tuple(name for name in SIZES if name in known) or ("size",)


def added(old: Sizes, new: Iterable[int | None]) -> Sizes:
    """Return the sums; what is unknown adds nothing."""
    return [a if b is None else b + (a or 0) for a, b in zip(old, new, strict=True)]


def sums(rows: Iterable[Sizes]) -> list[int]:
    """Return the sum of each size, 0 if no row has it."""
    return [sum(size or 0 for size in column) for column in zip(*rows, strict=True)]


def folded(tables: list[list[Part]], limit: int) -> list[list[Part]]:
    """Keep the `limit` largest parts of all tables; merge the others by table and kind.

    A part is as large as the largest of its shares: a page can show any of the sizes. A table of
    which no part is kept becomes empty.
    """
    every = [part for parts in tables for part in parts]
    if len(every) <= limit:
        return tables
    shares = [1 / total if total else 0 for total in sums(part.sizes for part in every)]

    def weight(part: Part) -> float:
        return max((size or 0) * share for size, share in zip(part.sizes, shares, strict=True))

    kept = set(map(id, heapq.nlargest(limit, every, key=weight)))
    return [_merged(parts, kept) for parts in tables]


def _merged(parts: list[Part], kept: set[int]) -> list[Part]:
    result = [part for part in parts if id(part) in kept]
    if not result:
        return []
    others: dict[str, Part] = {}
    for part in parts:
        if id(part) in kept:
            continue
        if part.kind not in others:
            others[part.kind] = Part(part.kind, "", "", "", [None] * len(part.sizes))
        other = others[part.kind]
        other.sizes = added(other.sizes, part.sizes)
        other.merged += part.merged or 1
    return [*result, *others.values()]


class Texts:
    """The texts of a page, each once: libraries are mapped by most processes."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {"": 0}

    def number(self, text: str) -> int:
        """Return the text's number in ``all``, 0 for none."""
        return self._numbers.setdefault(shown(text), len(self._numbers))

    @property
    def all(self) -> list[str]:
        """The texts, harmless and of bounded length."""
        return list(self._numbers)

    def parts(self, parts: Iterable[Part]) -> list[list[Any]]:
        """Return [path, kind, sizes in KiB, use, range], without empty ends, for each part.

        The path of merged parts is minus their number.
        """
        rows = []
        for part in parts:
            row: list[Any] = [
                -part.merged or self.number(part.path),
                _NUMBERS[part.kind],
                kib(part.sizes),
                self.number(part.use),
                self.number(part.range),
            ]
            while not row[-1]:
                row.pop()
            rows.append(row)
        return rows


def kind_number(kind: str) -> int:
    """Return the number of a kind in a page's data."""
    return _NUMBERS[kind]


def shown(text: str, length: int = _MAX_TEXT) -> str:
    """Return a text without control characters, its middle left out if it is long."""
    if len(text) > 2 * length:  # escaping takes time and memory
        text = text[:length] + text[-length:]
    text = escaped(text)
    half = length // 2
    return text if len(text) <= length else f"{text[:half]}…{text[-half:]}"


def kib(sizes: Iterable[int | None]) -> list[float | None]:
    """Return sizes in KiB: whole numbers, as the kernel prints them, but for odd ranges."""
    return [s if s is None else s >> 10 if not s & 1023 else s / 1024 for s in sizes]
