"""Bounded storage for the texts in a scan's rows: command lines, cgroups, programs."""

from __future__ import annotations

from fastsmaps._backend.bounded import MAX_TEXT, MAX_TEXTS, cut, limit_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastsmaps._model.process_totals import ProcessTotals

#: The values of a row that are paths.
PATHS = ("cgroup", "systemd_cgroup", "exe")


class Shared:
    """Store equal texts once; cut the longest ones when the storage is full."""

    def __init__(self) -> None:
        self.limit = MAX_TEXT
        self._texts: dict[bytes, bytes] = {}
        self._paths: dict[str, str] = {}
        self._size = 0
        self._allowed = MAX_TEXTS

    def text(self, text: bytes | None) -> bytes | None:
        """Return an equal stored text, cut if it is too long."""
        if text is None:
            return None
        text = cut(text, self.limit)
        known = self._texts.setdefault(text, text)
        if known is text:
            self._size += len(text)
        return known

    def path(self, path: str | None) -> str | None:
        """Return an equal stored path, or None if it is too long: a part would be another path."""
        if path is None or len(path) > self.limit:
            return None
        known = self._paths.setdefault(path, path)
        if known is path:
            self._size += len(path)
        return known

    def fit(self, row: ProcessTotals) -> ProcessTotals:
        """Return the row with stored texts."""
        paths = {name: self.path(getattr(row, name)) for name in PATHS}
        return row.replace(cmdline=self.text(row.raw_cmdline), **paths)

    @property
    def is_full(self) -> bool:
        """Whether refit() is due."""
        return self._size > self._allowed

    def refit(self, rows: Iterable[ProcessTotals]) -> list[ProcessTotals]:
        """Return the rows with their longest texts cut; drop the texts of other rows."""
        kept = list(rows)
        texts = {row.raw_cmdline for row in kept if row.raw_cmdline is not None}
        paths = {getattr(row, name) for row in kept for name in PATHS} - {None}
        self.limit = limit_of([*map(len, texts), *map(len, paths)])
        self._texts, self._paths, self._size = {}, {}, 0
        result = [self.fit(row) for row in kept]
        # Very many texts may exceed the bound even with the shortest limit.
        self._allowed = max(MAX_TEXTS, 2 * self._size)
        return result
