"""Texts that belong to others (command lines, cgroups, programs), kept within a bound.

Other users choose them. A process may name all of its memory as its command line, and
every process may do so. What is cut off ends in MARK.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastsmaps.processes import ProcessTotals

#: Bytes of one text that are kept; ps(1) shows as many. What is beyond is not even read.
MOST_TEXT = 1 << 17
#: Bytes that one sweep keeps of all texts, equal ones once. Beyond that the longest are cut
#: further, so that a few long texts never shorten ordinary ones.
MOST_TEXTS = 1 << 23
#: The shortest limit that texts are ever cut at.
LEAST_TEXT = 64
#: Stands for the part that was cut off.
MARK = b"..."


def cut(text: bytes, limit: int = MOST_TEXT) -> bytes:
    """The text, or its first `limit` bytes and MARK; a text that was cut before stays the same."""
    return text if len(text) <= limit + len(MARK) else text[:limit] + MARK


def limit_of(sizes: Iterable[int], limit: int = MOST_TEXT) -> int:
    """The limit at which texts of these sizes need at most half of MOST_TEXTS."""
    known = list(sizes)
    while limit > LEAST_TEXT and sum(min(size, limit) for size in known) > MOST_TEXTS // 2:
        limit //= 2
    return limit


class Shared:
    """The texts of rows that are kept: equal ones once each, the longest cut when it gets full."""

    def __init__(self) -> None:
        self.limit = MOST_TEXT
        self._texts: dict[bytes, bytes] = {}
        self._paths: dict[str, str] = {}
        self._size = 0
        self._allowed = MOST_TEXTS

    def text(self, text: bytes | None) -> bytes | None:
        """A text equal to this one; cut if it is too long."""
        if text is None:
            return None
        text = cut(text, self.limit)
        known = self._texts.setdefault(text, text)
        if known is text:
            self._size += len(text)
        return known

    def path(self, path: str | None) -> str | None:
        """A path equal to this one; None if it is too long: a part is another path."""
        if path is None or len(path) > self.limit:
            return None
        known = self._paths.setdefault(path, path)
        if known is path:
            self._size += len(path)
        return known

    def fit(self, row: ProcessTotals) -> ProcessTotals:
        """The row with shared texts."""
        return row._replaced(
            cmdline=self.text(row._cmdline), cgroup=self.path(row.cgroup), exe=self.path(row.exe)
        )

    @property
    def is_full(self) -> bool:
        """Whether it is time to refit()."""
        return self._size > self._allowed

    def refit(self, rows: Iterable[ProcessTotals]) -> list[ProcessTotals]:
        """All rows that are kept, their longest texts cut; texts of other rows are forgotten."""
        kept = list(rows)
        texts = {row._cmdline for row in kept if row._cmdline is not None}
        paths = {path for row in kept for path in (row.cgroup, row.exe) if path is not None}
        self.limit = limit_of([*map(len, texts), *map(len, paths)])
        self._texts, self._paths, self._size = {}, {}, 0
        result = [self.fit(row) for row in kept]
        # With very many texts even the shortest limit may need more.
        self._allowed = max(MOST_TEXTS, 2 * self._size)
        return result
