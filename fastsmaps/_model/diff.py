"""diff(): what grew and shrank between two tables or two scans."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator

from fastsmaps._arguments import Any, wrong
from fastsmaps._model.grouping import key_of
from fastsmaps._model.mappings import Group, Mappings
from fastsmaps._model.process_totals import ProcessTotals
from fastsmaps._model.processes import Scan
from fastsmaps._model.totals import Change, Totals
from fastsmaps._public import public

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastsmaps._model.mapping import Mapping

# These processes have ended. Any other unread outcome means the memory is unknown, not zero.
_ENDED = ("gone", "zombie")


@public
def diff(
    old: Mappings | Scan,
    new: Mappings | Scan,
    by: str | Callable[[Any], Hashable] | None = None,
) -> list[Change]:
    """Return the changes between two tables or two scans, in signed bytes.

    Two tables are compared by "path" (the default), "kind", "label", "range" or a function of a
    Mapping. Two scans are compared by process (the default, or "pid": ``key`` is the pid; a reused
    pid makes two changes, since one process ended and another started), or by the words and
    functions of Scan.group_by().

    "range" compares mappings of the same path (or of none) with overlapping addresses, so that
    growth of unnamed memory has an address; ``key`` is a tuple of the range
    ("7f21a4000000-7f21a4800000", from the new table, or from the old one if the memory is gone)
    and the path. Whole ranges are compared, since a mapping that grows downwards changes its start.

    A path makes one change, even if its file was replaced in between (an upgraded library);
    ``files`` is the number of different files with that path before and after.

    The largest change of Pss comes first, whether growth or shrinkage. Unchanged groups are left
    out. A group that is missing on one side counts as 0 there. A process that only one of the
    scans could read is left out: its memory in the other scan is unknown.

    Raises TypeError for a table with a scan or any other type, ValueError for another `by`.
    """
    if isinstance(old, Mappings) and isinstance(new, Mappings):
        if by == "range":
            old_key, new_key = _ranges(old, new)
            changes = _of_tables(_groups(old, old_key), _groups(new, new_key))
        else:
            changes = _of_tables(_groups(old, by), _groups(new, by))
    elif isinstance(old, Scan) and isinstance(new, Scan):
        changes = _of_scans(old, new, by)
    else:
        raise TypeError(
            "old and new must be two Mappings or two Scans, "
            f"got {type(old).__name__} and {type(new).__name__}"
        )
    return sorted(filter(_is_change, changes), key=_order)


def _groups(table: Mappings, by: str | Callable[[Any], Hashable] | None) -> dict[Any, Group]:
    key = "path" if by is None else by
    if not callable(key) and key not in ("path", "kind", "label"):
        raise wrong("by", "'path', 'kind', 'label', 'range' or a function", by, str)
    return table.group_by(key)


def _ranges(
    old: Mappings, new: Mappings
) -> tuple[Callable[[Mapping], Hashable], Callable[[Mapping], Hashable]]:
    """Return functions from a mapping of each table to the key of its range.

    Ranges of one path that overlap, directly or through others, have one key: mprotect() and
    munmap() split a mapping, and the kernel merges neighbours.
    """
    rows = [
        (row.path, row.start, row.end, side)
        for side, table in enumerate((old, new))
        for row in table
    ]
    rows.sort()
    keys: tuple[dict[tuple[str, int], Hashable], ...] = ({}, {})
    first = 0
    while first < len(rows):
        path, _, end, _ = rows[first]
        last = first + 1
        while last < len(rows) and rows[last][0] == path and rows[last][1] < end:
            end = max(end, rows[last][2])
            last += 1
        members = rows[first:last]
        shown = [row for row in members if row[3]] or members
        key = f"{shown[0][1]:x}-{max(row[2] for row in shown):x}", path
        for _, start, _, side in members:
            keys[side][path, start] = key
        first = last
    return (
        lambda mapping: keys[0][mapping.path, mapping.start],
        lambda mapping: keys[1][mapping.path, mapping.start],
    )


def _of_tables(old: dict[Any, Group], new: dict[Any, Group]) -> Iterable[Change]:
    for key in {**old, **new}:
        before, after = old.get(key), new.get(key)
        files = _files(before), _files(after)
        yield _change(_totals(before), _totals(after), key, files)


def _totals(side: Group | ProcessTotals | None) -> Totals | None:
    return None if side is None else side.totals


def _files(group: Group | None) -> int:
    return 0 if group is None else group.files or 0


def _of_scans(old: Scan, new: Scan, by: str | Callable[[Any], Hashable] | None) -> Iterable[Change]:
    if by is None or by == "pid":
        # Not by groups: a reused pid makes two changes.
        return [_change(_totals(a), _totals(b), pid) for pid, a, b in _pairs(old, new)]
    key = key_of(by)
    first: dict[Any, Totals] = {}
    second: dict[Any, Totals] = {}
    for _, *pair in _pairs(old, new):
        for side, row in zip((first, second), pair, strict=True):
            if row is not None and row.totals is not None:
                name = key(row)
                side[name] = side[name] + row.totals if name in side else row.totals
    return [_change(first.get(name), second.get(name), name) for name in {**first, **second}]


def _pairs(
    old: Scan, new: Scan
) -> Iterator[tuple[int, ProcessTotals | None, ProcessTotals | None]]:
    """Yield each process before and after (None if it did not exist), unless one is unknown."""
    for pid in {**old.by_pid, **new.by_pid}:
        before, after = old.by_pid.get(pid), new.by_pid.get(pid)
        if before is not None and after is not None and _is_another(before, after):
            pairs = [(before, None), (None, after)]
        else:
            pairs = [(before, after)]
        for pair in pairs:
            a, b = (None if row is None or row.outcome in _ENDED else row for row in pair)
            if (a or b) and all(row is None or row.totals is not None for row in (a, b)):
                yield pid, a, b


def _is_another(before: ProcessTotals, after: ProcessTotals) -> bool:
    times = before.start_time, after.start_time
    return None not in times and times[0] != times[1]


def _change(
    old: Totals | None,
    new: Totals | None,
    key: object,
    files: tuple[int, int] | None = None,
) -> Change:
    if old is None:
        assert new is not None
        old = _none_of(new)
    return Change(old, _none_of(old) if new is None else new, key, files)


def _none_of(other: Totals) -> Totals:
    """Return the totals of a missing group: 0 for each field that the other side has."""
    return Totals(dict.fromkeys(other.by_label, 0), None if other.size is None else 0, other.source)


def _is_change(change: Change) -> bool:
    return bool(change.size) or any(change.by_label.values())


def _order(change: Change) -> tuple[int, int, str]:
    return -abs(change.pss or 0), -abs(change.size or 0), str(change.key)
