"""The texts that the rows of a scan keep (command lines, cgroups, programs), within a bound."""

from __future__ import annotations

from fastsmaps._backend.bounded import MAX_TEXT, MAX_TEXTS, cut, limit_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastsmaps._model.process_totals import ProcessTotals


class Shared:
    """The texts of rows that are kept: equal ones once each, the longest cut when it gets full."""

    def __init__(self) -> None:
        self.limit = MAX_TEXT
        self._texts: dict[bytes, bytes] = {}
        self._paths: dict[str, str] = {}
        self._size = 0
        self._allowed = MAX_TEXTS

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
        return row.replace(
            cmdline=self.text(row.raw_cmdline), cgroup=self.path(row.cgroup), exe=self.path(row.exe)
        )

    @property
    def is_full(self) -> bool:
        """Whether it is time to refit()."""
        return self._size > self._allowed

    def refit(self, rows: Iterable[ProcessTotals]) -> list[ProcessTotals]:
        """All rows that are kept, their longest texts cut; texts of other rows are forgotten."""
        kept = list(rows)
        texts = {row.raw_cmdline for row in kept if row.raw_cmdline is not None}
        paths = {path for row in kept for path in (row.cgroup, row.exe) if path is not None}
        self.limit = limit_of([*map(len, texts), *map(len, paths)])
        self._texts, self._paths, self._size = {}, {}, 0
        result = [self.fit(row) for row in kept]
        # With very many texts even the shortest limit may need more.
        self._allowed = max(MAX_TEXTS, 2 * self._size)
        return result
