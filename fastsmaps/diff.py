"""diff(): what grew, shrank, came and went between two tables or two scans."""

from __future__ import annotations

from fastsmaps.mappings import Mappings
from fastsmaps.processes import Scan
from fastsmaps.totals import Change, Totals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Any


def diff(
    old: Mappings | Scan, new: Mappings | Scan, by: str | Callable[[Any], Hashable] = "path"
) -> list[Change]:
    """The groups whose figures differ, the largest change of Pss first, whichever its sign.

    Two tables are grouped by "path", "kind" or a function of a Mapping; two scans by "comm",
    "user", "cgroup" or a function of a ProcessTotals, and with "path" or "pid" each process is
    one, its number the key: a number that is another process's in `new` is two changes. What
    came has an ``old`` of zeros, what went a ``new`` of zeros, so that each Change is whole.

    Raises TypeError for a table and a scan, ValueError for what cannot be grouped by.
    """
    before: dict[Any, Totals]
    after: dict[Any, Totals]
    if isinstance(old, Mappings) and isinstance(new, Mappings):
        before, after = _groups(old, by), _groups(new, by)
    elif isinstance(old, Scan) and isinstance(new, Scan):
        by_process = by in ("path", "pid")
        before = _processes(old) if by_process else _groups(old, by)
        after = _processes(new) if by_process else _groups(new, by)
    else:
        raise TypeError(
            f"diff: two Mappings or two Scans, not {type(old).__name__} and {type(new).__name__}"
        )
    changes = []
    for key in {**before, **after}:
        one, other = before.get(key), after.get(key)
        was = one if one is not None else _zeros(other)
        now = other if other is not None else _zeros(one)
        if was != now:
            name = key[0] if isinstance(key, _Key) else key
            changes.append(Change(was, now, name))
    changes.sort(key=lambda change: (-abs(change.pss or 0), -abs(change.size or 0)))
    return changes


class _Key(tuple[int, "float | None"]):
    """A process: its number, and when it began."""

    __slots__ = ()


def _groups(table: Mappings | Scan, by: str | Callable[[Any], Hashable]) -> dict[Any, Totals]:
    return {key: group.totals for key, group in table.group_by(by).items()}


def _processes(scan: Scan) -> dict[_Key, Totals]:
    return {_Key((row.pid, row.start_time)): row.totals for row in scan if row.totals is not None}


def _zeros(totals: Totals | None) -> Totals:
    """As many figures, all 0: what is not there has no memory."""
    assert totals is not None
    size = None if totals.size is None else 0
    return Totals(dict.fromkeys(totals._figures, 0), size, totals.source)
