"""Changes: the result of diff(), ordered by what a group itself gained or gave up."""

from __future__ import annotations

from collections.abc import Iterable

from fastsmaps._arguments import Any
from fastsmaps._model.frames import Frames
from fastsmaps._model.totals import Change
from fastsmaps._public import public

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import SupportsIndex, overload

    from fastsmaps._model.view import View


@public
class Changes(Frames, list[Change]):
    """A list of Change, as diff() returns it; a slice is one too.

    ``total`` is the Change of everything that was compared, unchanged groups included: its key is
    None. The changes add up to it. ``total.seconds`` is the time between the two sides, None if it
    is not known.
    """

    __slots__ = ("total",)

    total: Change

    def __init__(self, changes: Iterable[Change], total: Change) -> None:
        super().__init__(changes)
        self.total = total

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, index: SupportsIndex) -> Change: ...
        @overload
        def __getitem__(self, index: slice) -> Changes: ...

    def __getitem__(self, index: SupportsIndex | slice) -> Change | Changes:
        if isinstance(index, slice):
            return Changes(super().__getitem__(index), self.total)
        return super().__getitem__(index)

    def _view(self) -> View:
        from fastsmaps._model import views

        return views.of_changes(self)

    def _batch(self) -> Any:
        from fastsmaps._model import arrow

        return arrow.changes_batch(self)

    @property
    def grown(self) -> Changes:
        """What grew, the largest growth first, without what is only shared with fewer processes."""
        return Changes([change for change in self if _is_growth(change)], self.total)


def _is_growth(change: Change) -> bool:
    uss, own_pss, pss, size = rank(change)
    return uss > 0 or own_pss > 0 or (not (uss or own_pss or pss) and size > 0)


def rank(change: Change) -> tuple[int, int, int, int]:
    """Return the figures that changes are compared by, the most important first.

    These are the growth of Uss and of Pss as far as Rss grew too, of Pss, and of address space. A
    process that forked a child, or whose child ended, shares more or less of its memory with it:
    that changes Uss and Pss, but not Rss.
    """
    uss, pss, rss = change.uss, change.pss, change.rss
    return within(uss, rss), within(pss, rss), pss or 0, change.size or 0


def within(value: int | None, limit: int | None) -> int:
    """Return the value, at most as far from 0 as `limit`, and 0 if the signs differ."""
    if value is None or limit is None:
        return value or 0
    return max(min(value, limit), 0) or min(max(value, limit), 0)
