"""diff(): what grew and shrank between two tables or two scans."""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Sequence
from itertools import compress
from operator import ne

from fastsmaps._arguments import Any, wrong
from fastsmaps._model.changes import Changes, rank
from fastsmaps._model.grouping import key_of
from fastsmaps._model.mappings import GROUPS, Group, Mappings, groups_of, part_of, paths_of
from fastsmaps._model.process_totals import ProcessTotals
from fastsmaps._model.processes import Scan
from fastsmaps._model.totals import UNREAD, Change, Totals
from fastsmaps._public import public

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Addresses, the side (0 is old) and the place of a mapping in its table.
    _Row = tuple[int, int, int, int]

# These processes have ended. Any other unread outcome means the memory is unknown, not zero.
_ENDED = ("gone", "zombie")

#: The words by which two tables are compared.
TABLE_WORDS = (*GROUPS, "range", "name")


@public
def diff(
    old: Mappings | Scan,
    new: Mappings | Scan,
    by: str | Callable[[Any], Hashable] | None = None,
) -> Changes:
    """Return the changes between two tables or two scans, in signed bytes.

    Two tables are compared by "path" (the default), "range", "name", any word or function that
    Mappings.group_by() accepts. Two scans are compared by process (the default, or "pid": ``key``
    is the pid; a reused pid makes two changes, since one process ended and another started), or by
    the words and functions of Scan.group_by().

    "range" compares mappings of the same path (or of none) with overlapping addresses, so that
    growth of unnamed memory has an address; ``key`` is a tuple of the range
    ("7f21a4000000-7f21a4800000", from the new table, or from the old one if the memory is gone)
    and the path. Whole ranges are compared, since a mapping that grows downwards changes its start.
    "name" does so only for memory without a path, and compares the rest by path.

    A path makes one change, even if its file was replaced in between (an upgraded library);
    ``files`` is the number of different files with that path before and after.

    The largest change comes first, whether growth or shrinkage: the change of Uss, but at most
    that of Rss, since a process that forks, or whose child ends, only shares more or less of what
    it has (``Change.shared_with_fewer``). Then Pss counts, then size. Unchanged groups are left
    out. A group that is missing on one side counts as 0 there. A process that only one of the
    scans could read is left out: its memory in the other scan is unknown.

    Raises TypeError for a table with a scan or any other type, ValueError for another `by`.
    """
    if isinstance(old, Mappings) and isinstance(new, Mappings):
        total = _change(old.totals() if len(old) else None, new.totals() if len(new) else None)
        if by == "range":
            changes = _by_range(old, new)
        elif by == "name":
            changes = _by_name(old, new)
        else:
            changes = _of_tables(_groups(old, by), _groups(new, by))
    elif isinstance(old, Scan) and isinstance(new, Scan):
        total, changes = _of_scans(old, new, by)
    else:
        raise TypeError(
            "old and new must be two Mappings or two Scans, "
            f"got {type(old).__name__} and {type(new).__name__}"
        )
    seconds = _seconds(old, new)
    return Changes(
        sorted((_timed(change, seconds) for change in changes if _is_change(change)), key=_order),
        _timed(total, seconds),
    )


def _seconds(old: Mappings | Scan, new: Mappings | Scan) -> float | None:
    """Return the time between two readings; None if unknown, or if the clock was set back.

    Between two different processes nothing has grown.
    """
    if isinstance(old, Mappings) and isinstance(new, Mappings) and old.pid != new.pid:
        return None
    first, second = old.taken_at, new.taken_at
    return second - first if first is not None and second is not None and second > first else None


def _timed(change: Change, seconds: float | None) -> Change:
    return Change(change.old, change.new, change.key, change.files, seconds)


def _groups(table: Mappings, by: str | Callable[[Any], Hashable] | None) -> dict[Any, Group]:
    key = "path" if by is None else by
    if not callable(key) and key not in GROUPS:
        raise wrong("by", f"{', '.join(map(repr, TABLE_WORDS))} or a function", by, str)
    return table.group_by(key)


# ---- by range


def _by_name(old: Mappings, new: Mappings) -> Iterable[Change]:
    """Compare memory without a path by range, the rest by path."""
    groups = old.group_by("path"), new.group_by("path")
    for side in groups:
        side.pop("", None)
    yield from _of_tables(*groups)
    yield from _by_range(old, new, paths=("",))


def _by_range(old: Mappings, new: Mappings, *, paths: Container[str] = ()) -> Iterable[Change]:
    """Compare by range: all mappings, or those of these paths."""
    tables = old, new
    names = paths_of(old), paths_of(new)
    rows: list[_Row] = []
    for side, (table, places) in enumerate(zip(tables, _different(old, new, *names), strict=True)):
        starts, ends = table.column("start"), table.column("end")
        for place in places:
            if not paths or names[side][place] in paths:
                rows.append((starts[place], ends[place], side, place))
    chosen: tuple[list[int], list[int]] = ([], [])
    keys: tuple[list[Hashable], list[Hashable]] = ([], [])
    for path, cluster in _clusters(rows, names):
        shown = [row for row in cluster if row[2]] or cluster
        key = f"{shown[0][0]:x}-{max(row[1] for row in shown):x}", path
        for _, _, side, place in cluster:
            chosen[side].append(place)
            keys[side].append(key)
    return _of_tables(
        *(groups_of(part_of(tables[side], chosen[side]), keys[side]) for side in (0, 1))
    )


def _clusters(
    rows: list[_Row], names: tuple[list[str], list[str]]
) -> Iterable[tuple[str, list[_Row]]]:
    """Return the rows that belong together, with their path.

    Ranges of one path that overlap, directly or through others, are one cluster: mprotect() and
    munmap() split a mapping, and the kernel merges neighbours.
    """
    rows.sort()
    found: list[tuple[str, list[_Row]]] = []
    latest: dict[str, list[_Row]] = {}
    ends: dict[str, int] = {}
    for row in rows:
        start, end, side, place = row
        path = names[side][place]
        if path in latest and start < ends[path]:
            latest[path].append(row)
            ends[path] = max(ends[path], end)
        else:
            latest[path] = [row]
            ends[path] = end
            found.append((path, latest[path]))
    return found


def _different(
    old: Mappings, new: Mappings, old_paths: list[str], new_paths: list[str]
) -> tuple[Iterable[int], Iterable[int]]:
    """Return the places of all rows but those that are the same in both tables.

    Few of thousands of mappings change, and a group takes 10 us. A mapping that is in both tables
    overlaps no other, unless a table has overlaps itself.
    """
    all_old, all_new = range(len(old)), range(len(new))
    if old.overlaps or new.overlaps or old.fields != new.fields:
        return all_old, all_new
    starts = old.column("start").tolist(), new.column("start").tolist()
    is_aligned = starts[0] == starts[1]
    left: Sequence[int] = all_old
    right: Sequence[int] = all_new
    if not is_aligned:
        place_of = dict(zip(starts[1], all_new, strict=True))
        left = [i for i, start in enumerate(starts[0]) if start in place_of]
        right = [place_of[starts[0][i]] for i in left]
    unequal: set[int] = set()

    def compare(first: Sequence[Any], second: Sequence[Any]) -> None:
        pairs: tuple[Iterable[Any], Iterable[Any]] = first, second
        if not is_aligned:
            pairs = map(first.__getitem__, left), map(second.__getitem__, right)
        unequal.update(compress(range(len(left)), map(ne, *pairs)))

    compare(old_paths, new_paths)
    for name in {"end", *old.fields} - {"size"}:  # which is end - start
        first, second = old.column(name), new.column(name)
        # Most columns are equal, and most only have zeros.
        texts = first.tobytes(), second.tobytes()
        if not (texts[0] == texts[1] if is_aligned else not any(t.strip(b"\0") for t in texts)):
            compare(first.tolist(), second.tolist())
    if is_aligned:
        return unequal, unequal
    equal = [k for k in range(len(left)) if k not in unequal]
    gone, come = {left[k] for k in equal}, {right[k] for k in equal}
    return (i for i in all_old if i not in gone), (j for j in all_new if j not in come)


def _of_tables(old: dict[Any, Group], new: dict[Any, Group]) -> Iterable[Change]:
    for key in {**old, **new}:
        before, after = old.get(key), new.get(key)
        files = _files(before), _files(after)
        yield _change(_totals(before), _totals(after), key, files)


def _totals(side: Group | ProcessTotals | None) -> Totals | None:
    return None if side is None else side.totals


def _files(group: Group | None) -> int:
    return 0 if group is None else group.files or 0


# ---- scans


def _of_scans(
    old: Scan, new: Scan, by: str | Callable[[Any], Hashable] | None
) -> tuple[Change, Iterable[Change]]:
    """Return the change of all processes that are compared, and that of each group."""
    pairs = list(_pairs(old, new))
    # Not by groups: a reused pid makes two changes.
    changes = [_change(_totals(a), _totals(b), pid) for pid, a, b in pairs]
    total = _sum([change.old for change in changes]), _sum([change.new for change in changes])
    if by is not None and by != "pid":
        key = key_of(by)
        first: dict[Any, Totals] = {}
        second: dict[Any, Totals] = {}
        for _, *pair in pairs:
            for side, row in zip((first, second), pair, strict=True):
                if row is not None and row.totals is not None:
                    name = key(row)
                    side[name] = side[name] + row.totals if name in side else row.totals
        changes = [_change(first.get(name), second.get(name), name) for name in {**first, **second}]
    return _change(*total), changes


def _sum(totals: list[Totals]) -> Totals:
    return sum(totals[1:], totals[0]) if totals else UNREAD


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
    key: object = None,
    files: tuple[int, int] | None = None,
) -> Change:
    if old is None:
        old = UNREAD if new is None else _none_of(new)
    return Change(old, _none_of(old) if new is None else new, key, files)


def _none_of(other: Totals) -> Totals:
    """Return the totals of a missing group: 0 for each field that the other side has."""
    return Totals(dict.fromkeys(other.by_label, 0), None if other.size is None else 0, other.source)


def _is_change(change: Change) -> bool:
    return bool(change.size) or any(change.by_label.values())


def _order(change: Change) -> tuple[int | str, ...]:
    return *(-abs(value) for value in rank(change)), str(change.key)
