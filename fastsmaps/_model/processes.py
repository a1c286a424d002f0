"""Scan: the result of one sweep as a table of processes, and its views."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

from fastsmaps._arguments import Any, check_function, check_int, check_str
from fastsmaps._errors import OUTCOMES
from fastsmaps._fields import ABSENT, SIZES, SUMMED, SUMS, Fields
from fastsmaps._model.columns import cell
from fastsmaps._model.frames import Frames
from fastsmaps._model.grouping import By, key_of
from fastsmaps._model.mappings import Group
from fastsmaps._model.process_totals import ProcessTotals, stored_totals
from fastsmaps._model.totals import UNREAD, Totals
from fastsmaps._model.tree import below
from fastsmaps._model.values import Value
from fastsmaps._public import public

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import overload

    from fastsmaps._model.rollups import Rollups
    from fastsmaps._model.view import View

_NUMBERS = ("pid", "ppid", "uid", "mappings", "shares_memory_with")
_SECONDS = ("start_time", "age")
_ORIGIN = (
    "cost", "hidden_by", "host", "host_pss", "max_map_count", "procfs", "sharing_known",
    "taken_at",
)  # fmt: skip


@public
class Cost(Value):
    """The cost of a scan: seconds of CPU time (``cpu``) and of wall-clock time (``wall``)."""

    __slots__ = ("cpu", "wall")

    cpu: float
    wall: float

    def __init__(self, cpu: float, wall: float) -> None:
        super().__init__(cpu=cpu, wall=wall)

    def __repr__(self) -> str:
        return f"Cost(cpu={self.cpu:.6f}, wall={self.wall:.6f})"


@public
class Scan(Frames):
    """A table of processes: ``len(s)``, ``s[i]``, iteration; ``s[i:j]`` is a smaller table.

    Rows (ProcessTotals) are made at the first use. ``taken_at`` is when the sweep ended, or when
    a capture was taken (seconds since the epoch; None if the capture does not say), ``cost`` its
    Cost, ``procfs`` the directory that was read, ``host`` the name of its host as ``uname -n``
    shows it (None if a capture does not say). ``max_map_count`` is the kernel's limit of mappings
    for one process (/proc/sys/vm/max_map_count); None if it is not known, or the numbers
    of mappings were not requested. ``hidden_by`` is the mount option
    that hides processes from this reader ("hidepid=invisible"), so that they are in no row and no
    count; None if all were listed. ``host_pss`` is AnonPages + Mapped in /proc/meminfo at that
    time, in bytes: the kernel's own sum of the Pss of all processes. The sum of the rows differs by
    what was denied or is out of date (proc_meminfo(5)). None if only some processes were asked for,
    or the file is missing. ``explained`` is the sum of the rows divided by it.

    Memory that processes share as a whole is counted once: see
    ``ProcessTotals.shares_memory_with``. ``sharing_known`` is False if processes that may share
    could not be compared (kcmp(2) is not permitted, or `procfs` belongs to another pid namespace):
    their memory may be counted twice.
    """

    __slots__ = (
        "_by_pid", "_count", "_make", "_rows", "cost", "hidden_by", "host", "host_pss",
        "max_map_count", "procfs", "sharing_known", "taken_at",
    )  # fmt: skip

    def __init__(
        self,
        rows: Iterable[ProcessTotals] | Callable[[], list[ProcessTotals]],
        *,
        cost: Cost,
        taken_at: float | None,
        procfs: str,
        host: str | None = None,
        count: int = 0,
        max_map_count: int | None = None,
        hidden_by: str | None = None,
        host_pss: int | None = None,
        sharing_known: bool = True,
    ) -> None:
        # `count` is the number of rows that a function would make, so that len() makes none.
        self._count = count
        self._make: Callable[[], list[ProcessTotals]] | None = None
        self._rows: list[ProcessTotals] = []
        if callable(rows):
            self._make = rows
        else:
            self._rows = list(rows)
            self._count = len(self._rows)
        self._by_pid: dict[int, ProcessTotals] | None = None
        self.cost = cost
        self.taken_at = taken_at
        self.procfs = procfs
        self.host = host
        self.max_map_count = max_map_count
        self.hidden_by = hidden_by
        self.host_pss = host_pss
        self.sharing_known = sharing_known

    def _all(self) -> list[ProcessTotals]:
        make = self._make
        if make is not None:
            self._rows = make()
            self._make = None
        return self._rows

    def _part(self, rows: Iterable[ProcessTotals]) -> Scan:
        return Scan(**{**self.__getstate__(), "rows": rows})

    def __getstate__(self) -> dict[str, Any]:
        return {"rows": self._all(), **{name: getattr(self, name) for name in _ORIGIN}}

    def __setstate__(self, facts: dict[str, Any]) -> None:
        Scan.__init__(self, **facts)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[ProcessTotals]:
        return iter(self._all())

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, index: int) -> ProcessTotals: ...
        @overload
        def __getitem__(self, index: slice) -> Scan: ...

    def __getitem__(self, index: int | slice) -> ProcessTotals | Scan:
        if isinstance(index, slice):
            return self._part(self._all()[index])
        return self._all()[index]

    def _view(self) -> View:
        from fastsmaps._model import views

        return views.of_scan(self)

    def filter(self, wanted: Callable[[ProcessTotals], object]) -> Scan:
        """Return a table of the rows for which the function returns a true value."""
        check_function("wanted", wanted, optional=False)
        return self._part(row for row in self if wanted(row))

    def sort(
        self, by: str | Callable[[ProcessTotals], Any] = "pss", *, reverse: bool = False
    ) -> Scan:
        """Return a table of the same rows, the smallest first; with `reverse`, the largest first.

        `by` is a name that column() takes, or a function of a row. Rows without a value (None
        from a function) come last in both directions; equal rows keep their order. Raises
        KeyError for an unknown name.
        """
        present, missing = self._ranked(by, bool(reverse))
        return self._part((*present, *missing))

    def top(self, n: int, by: str | Callable[[ProcessTotals], Any] = "pss") -> Scan:
        """Return a table of the `n` rows with the largest values, the largest first.

        `by` is as in sort(). Rows without a value are left out; an `n` below 1 gives no rows.
        Raises KeyError for an unknown name, TypeError if `n` is not an int.
        """
        n = check_int("n", n)
        present, _ = self._ranked(by, True)
        return self._part(present[: max(n, 0)])

    def _ranked(
        self, by: str | Callable[[ProcessTotals], Any], reverse: bool
    ) -> tuple[list[ProcessTotals], list[ProcessTotals]]:
        """Return the rows with a value, ordered by it, and those without."""
        rows = self._all()
        if not callable(by):
            check_str("by", by, "a field's name or a function")
        values = list(map(by, rows)) if callable(by) else self._values(by)
        present = [i for i, value in enumerate(values) if value is not None]
        missing = [row for row, value in zip(rows, values, strict=True) if value is None]
        present.sort(key=values.__getitem__, reverse=reverse)
        return [rows[i] for i in present], missing

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields that at least one process has, as column() takes them."""
        found: dict[str, None] = {}
        seen: set[Rollups] = set()
        for row in self._all():
            totals = stored_totals(row)
            if isinstance(totals, tuple):
                rollups = totals[0]
                if rollups not in seen:  # all its rows have the same labels
                    seen.add(rollups)
                    found |= dict.fromkeys(rollups.fields.names.values())
            elif totals is not None:
                found |= dict.fromkeys(Fields(totals.by_label, known=SIZES).names.values())
        return tuple(found)

    def absent(self, name: str) -> int:
        """Return how many rows have no value for a name that column() takes."""
        return self._values(name).count(None)

    @property
    def by_pid(self) -> dict[int, ProcessTotals]:
        """The rows by pid; made once."""
        if self._by_pid is None:
            self._by_pid = {row.pid: row for row in self._all()}
        return self._by_pid

    @property
    def coverage(self) -> dict[str, int]:
        """The number of processes for each Outcome; together ``len(scan)``."""
        counts: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
        for row in self._all():
            counts[row.outcome] += 1
        return counts

    @property
    def explained(self) -> float | None:
        """The sum of Pss divided by ``host_pss``: the part of all mapped memory that was read.

        It may be a little above 1, since the kernel's sum is of another moment. None if either is
        not known.
        """
        # Not totals(), which takes five times as long.
        sizes = [size for size in self.column("pss") if size != ABSENT]
        return explained_part(sum(sizes) if sizes else None, self.host_pss)

    def column(self, name: str) -> memoryview:
        """Return a field of all processes: a contiguous, read-only memoryview in the rows' order.

        `name` is a field's in Python's or the kernel's spelling, or "uss", "rss_swap", "size",
        "pid", "ppid", "uid", "mappings" or "shares_memory_with" (format "Q"; ABSENT, 2**64 - 1,
        for an unknown value: in all rows if no process has the field); "start_time" and "age" are
        in seconds (format "d", NaN for an unknown value). Raises KeyError for an unknown name;
        texts such as "comm" are only in the rows.
        """
        values = self._values(name)
        if name in _SECONDS:
            times = array("d", [float("nan") if value is None else value for value in values])
            return memoryview(times).toreadonly()
        return memoryview(array("Q", map(cell, values))).toreadonly()

    def _values(self, name: str) -> list[Any]:
        """Return a value of each row, None if it is unknown; KeyError for an unknown name."""
        check_str("name", name)
        if name in _SECONDS or name in _NUMBERS:
            return [getattr(row, name) for row in self._all()]
        values: list[int | None] = []
        columns: dict[Rollups, Sequence[int] | None] = {}
        known = name in UNREAD
        for row in self._all():
            totals = stored_totals(row)
            value = None
            if isinstance(totals, tuple):
                rollups, i = totals
                if rollups not in columns:
                    columns[rollups] = rollups.column(name) if name in rollups else None
                    known = known or columns[rollups] is not None
                column = columns[rollups]
                if column is not None and column[i] != ABSENT:
                    value = column[i]
            elif totals is not None:
                value = totals.get(name)
                known = known or name in totals
            values.append(value)
        if not known:
            SUMMED.label(name, (*_NUMBERS, *_SECONDS, "size", *SUMS))  # raises KeyError
        return values

    @property
    def _facts(self) -> dict[str, object]:
        return {"procfs": self.procfs, "taken_at": self.taken_at}

    def __arrow_c_schema__(self) -> object:
        """Return the columns as an Arrow schema (PyCapsule); DuckDB needs it before each query."""
        from fastsmaps._model import arrow

        return arrow.scan_schema(self._all(), self._facts).__arrow_c_schema__()

    def _batch(self) -> Any:
        from fastsmaps._model import arrow

        return arrow.scan_batch(self._all(), self._facts)

    def totals(self) -> Totals:
        """Return the totals over the processes that were read; None for a field that one lacks."""
        return self._sums([0] * len(self), 1)[0]

    def _sums(self, groups: list[int], count: int) -> list[Totals]:
        """Return the totals of each group of rows; a row that was not read adds nothing."""
        parts: list[list[Totals]] = [[] for _ in range(count)]
        swept: dict[Rollups, list[tuple[int, int]]] = {}
        for row, group in zip(self, groups, strict=True):
            totals = stored_totals(row)
            if isinstance(totals, tuple):
                rollups, i = totals
                swept.setdefault(rollups, []).append((i, group))
            elif totals is not None:
                parts[group].append(totals)
        for rollups, members in swept.items():
            for group, totals in rollups.sums(members, count):
                parts[group].append(totals)
        return [sum(part[1:], part[0]) if part else UNREAD for part in parts]

    def group_by(self, by: By | Callable[[ProcessTotals], Hashable]) -> dict[Any, Group]:
        """Return groups of the processes that were read, the largest Pss first.

        `by` is a function of a row, or words: "comm", "user", "cgroup", "unit" and "slice"
        (systemd's), "container" ("docker:" and the first 12 digits of its id), "pod" (its uid),
        "exe" (the program, or its comm in brackets if the kernel does not show it), "cmdline" and
        "pid".
        "cmdline:REGEX" groups by the part of the command line that the pattern matches: its named
        groups if it has any, else the whole match; "" if it does not match. "group:NAME=REGEX"
        names the processes whose command line matches, with the pattern's named groups and "comm"
        and "user" in braces ("app {name}"); of several in a sequence the first that matches counts,
        "" if none does. Several words, in a comma-separated text or a sequence, give tuples as
        keys; a pattern comes last in a text.

        The scan must have read the files for them (``cgroup=True`` for cgroup, unit, slice,
        container and pod, ``cmdline=True``, ``exe=True``); an unknown value is None. Raises
        ValueError for another `by` or an invalid pattern, TypeError if the function returns an
        unhashable value.
        """
        key = key_of(by)
        numbers: dict[Any, int] = {}
        read = self._part(row for row in self if stored_totals(row) is not None)
        places = [numbers.setdefault(key(row), len(numbers)) for row in read]
        counts = [0] * len(numbers)
        for place in places:
            counts[place] += 1
        sums = read._sums(places, len(numbers))
        groups = {name: Group(sums[place], counts[place]) for name, place in numbers.items()}
        order = sorted(groups, key=lambda name: groups[name].totals.pss or 0, reverse=True)
        return {name: groups[name] for name in order}

    def descendants(self, pid: int) -> Scan:
        """Return the process and its descendants, so that a tree's Pss takes one call.

        Parents are those at the time of the scan: an orphan belongs to the process that adopted
        it. A parent is never younger than its child: if it is, its pid was reused. Raises KeyError
        for a process that is not in the scan.
        """
        pid = self.by_pid[check_int("pid", pid)].pid
        return self._part(below(self, [pid]))


# ---- coverage and failures


def coverage_text(coverage: Mapping[str, int]) -> str:
    """Return a text such as "412 of 430 processes read, 15 denied"."""
    processes = sum(coverage.values()) - coverage.get("kernel_thread", 0)
    missed = [
        f", {count} {outcome}"
        for outcome, count in coverage.items()
        if count and outcome not in ("read", "kernel_thread")
    ]
    return f"{coverage['read']} of {processes} processes read{''.join(missed)}"


def explained_part(pss: int | None, mapped: int | None) -> float | None:
    """Return the part of all mapped memory that was read; None if either is not known."""
    return pss / mapped if pss is not None and mapped else None


def explained_text(part: float | None) -> str:
    """Return a text such as "98.2 % of all mapped memory explained"; "" if it is not known."""
    return "" if part is None else f"{100 * part:.1f} % of all mapped memory explained"


# A reason may quote a line of a damaged capture.
_MAX_REASON = 300


def is_failure(coverage: Mapping[str, int]) -> bool:
    """Whether no process was read although some were tried: denied or failed, not skipped."""
    return not coverage["read"] and bool(coverage["denied"] or coverage["failed"])


def failures_of(scan: Scan) -> Iterable[tuple[int, str]]:
    """Return pid and error of each process that failed."""
    return ((row.pid, row.error or "") for row in scan if row.outcome == "failed")


def main_reason(failures: Iterable[tuple[int, str]]) -> str:
    """Return the most frequent reason, as the error of the first such process; "" if none failed.

    Errors that only differ in the pid are one reason.
    """
    first: dict[str, str] = {}
    counts: dict[str, int] = {}
    for pid, error in failures:
        kind = error.replace(str(pid), "PID")
        first.setdefault(kind, error)
        counts[kind] = counts.get(kind, 0) + 1
    if not counts:
        return ""
    kind = max(counts, key=lambda kind: counts[kind])
    reason = first[kind]
    if len(reason) > _MAX_REASON:
        reason = reason[:_MAX_REASON] + "..."
    total = sum(counts.values())
    return reason if counts[kind] == total else f"{reason} ({counts[kind]} of {total})"
