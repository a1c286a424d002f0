"""What one sweep over many processes tells: a table of processes, and its views."""

from __future__ import annotations

from array import array

from fastsmaps._model.columns import cell
from fastsmaps._model.grouping import key_of
from fastsmaps._model.mappings import Group
from fastsmaps._model.sharing import error_of
from fastsmaps._model.stat import arguments
from fastsmaps._model.totals import UNREAD, Totals
from fastsmaps._model.tree import below
from fastsmaps._model.values import Frozen, Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
    from typing import Any, overload

    from fastsmaps._model.grouping import By
    from fastsmaps._model.rollups import Rollups
    from fastsmaps._model.sharing import Member

#: Every way in which a process can come out of a scan; ``coverage`` counts them.
OUTCOMES = ("read", "denied", "gone", "kernel_thread", "zombie", "skipped", "failed")

_NUMBERS = ("pid", "ppid", "uid", "mappings", "shares_memory_with")
_SECONDS = ("start_time", "age")


class ProcessTotals(Frozen):
    """One process of a scan; immutable, equal by value.

    ``pid``, ``ppid``, ``comm``, ``uid`` (the effective one, as ps shows it, also of a process
    that is not dumpable), ``start_time`` (seconds since boot), ``cgroup``, ``cmdline`` and ``exe``
    (the program's path, as the link says it; these where they were asked for), ``mappings``
    (their number, where it was asked for: the lines of maps, x86's [vsyscall] among them, which
    the kernel does not count against vm.max_map_count), ``outcome`` (one of OUTCOMES), ``totals``
    (None where they were not read), ``error`` (why; of a process that was read, which of the
    other facts is damaged). On a Sampler's also ``age``, the seconds since its figures were read,
    and ``estimated``, whether they were scaled since. None stands for what is not known.

    ``shares_memory_with`` is the pid of a process that has the very same memory, where that is
    counted in its row (a child between vfork and exec, or one of clone with CLONE_VM): then this
    row is "skipped" and has no totals.

    Sources: proc_pid_stat(5), proc_pid_smaps(5), proc_pid_maps(5), cgroups(7).
    """

    __slots__ = (
        "_figures", "age", "cgroup", "comm", "error", "estimated", "exe",
        "mappings", "member", "outcome", "pid", "ppid", "raw_cmdline", "shares_memory_with",
        "start_time", "uid",
    )  # fmt: skip

    pid: int
    ppid: int | None
    comm: str | None
    uid: int | None
    start_time: float | None
    cgroup: str | None
    exe: str | None
    mappings: int | None
    outcome: str
    error: str | None
    age: float | None
    estimated: bool
    # A place in a sweep's rollups until the totals are asked for: making them is half of a row.
    _figures: Totals | tuple[Rollups, int] | None
    #: The bytes of ``cmdline``, bounded.
    raw_cmdline: bytes | None
    #: What decides whether memory is shared; only while a scan is made.
    member: Member | None
    shares_memory_with: int | None

    def __init__(
        self,
        pid: int,
        outcome: str,
        *,
        ppid: int | None = None,
        comm: str | None = None,
        uid: int | None = None,
        start_time: float | None = None,
        cgroup: str | None = None,
        cmdline: bytes | None = None,
        exe: str | None = None,
        mappings: int | None = None,
        totals: Totals | tuple[Rollups, int] | None = None,
        error: str | None = None,
        age: float | None = None,
        estimated: bool = False,
        shares_memory_with: int | None = None,
        member: Member | None = None,
    ) -> None:
        set_ = object.__setattr__
        set_(self, "pid", pid)
        set_(self, "outcome", outcome)
        set_(self, "ppid", ppid)
        set_(self, "comm", comm)
        set_(self, "uid", uid)
        set_(self, "start_time", start_time)
        set_(self, "cgroup", cgroup)
        set_(self, "raw_cmdline", cmdline)
        set_(self, "exe", exe)
        set_(self, "mappings", mappings)
        set_(self, "_figures", totals)
        set_(self, "error", error)
        set_(self, "age", age)
        set_(self, "estimated", estimated)
        set_(self, "shares_memory_with", shares_memory_with)
        set_(self, "member", member)

    @property
    def totals(self) -> Totals | None:
        """The figures; None where they were not read."""
        figures = self._figures
        if isinstance(figures, tuple):
            rollups, i = figures
            figures = rollups.totals(i)
            object.__setattr__(self, "_figures", figures)
        return figures

    @property
    def cmdline(self) -> tuple[str, ...] | None:
        """The arguments; () for a kernel thread or zombie, None where they were not read.

        Made anew each time. A command line is cut after 128 KiB and 4,096 arguments, and further
        where those of all processes have more than 8 MiB: then it ends in "...".
        """
        return arguments(self.raw_cmdline)

    @property
    def user(self) -> str | None:
        """The user's name, the uid's digits where it has none."""
        return None if self.uid is None else user_name(self.uid)

    def as_dict(self) -> dict[str, Any]:
        """What ps shows, by name, the figures among them; None for what was not read.

        ``cmdline``, ``exe``, ``age`` and ``estimated`` are attributes alone.
        """
        return {**{name: getattr(self, name) for name in _SHOWN}, **(self.totals or UNREAD)}

    def replace(self, **changes: object) -> ProcessTotals:
        """Return a row like this one, with other values for these arguments."""
        values: dict[str, Any] = {name: getattr(self, name) for name in _NAMES}
        values |= {"totals": self._figures, "cmdline": self.raw_cmdline, "member": self.member}
        return ProcessTotals(**{**values, **changes})

    def counted_in(self, pid: int) -> ProcessTotals:
        """Return the row of a process whose memory is counted in the row of `pid`."""
        return self.replace(
            outcome="skipped", totals=None, error=error_of(pid), shares_memory_with=pid
        )

    def __getstate__(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in (*_NAMES, "totals")}
        return {**values, "cmdline": self.raw_cmdline}

    def __setstate__(self, state: dict[str, Any]) -> None:
        ProcessTotals.__init__(self, **state)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ProcessTotals):
            return NotImplemented
        compared = (*_NAMES, "totals", "raw_cmdline")
        return all(getattr(self, name) == getattr(other, name) for name in compared)

    def __hash__(self) -> int:
        return hash((self.pid, self.start_time, self.totals))

    def __repr__(self) -> str:
        return f"<ProcessTotals {self.pid} {self.comm!r} {self.outcome}: {self.totals!r}>"


_SHOWN = (
    "pid", "ppid", "comm", "user", "uid", "start_time", "cgroup", "mappings", "outcome", "error",
)  # fmt: skip
_NAMES = tuple(
    name for name in ProcessTotals.__slots__ if name not in ("_figures", "member", "raw_cmdline")
)


_names: dict[int, str] = {}


def user_name(uid: int) -> str:
    """The user's name, the number's digits where there is none."""
    # Asked once each: with a directory service a look-up may cost milliseconds.
    if uid not in _names:
        import pwd

        try:
            _names[uid] = pwd.getpwuid(uid).pw_name
        except (KeyError, OverflowError):
            _names[uid] = str(uid)
    return _names[uid]


class Cost(Value):
    """What a scan took: seconds of processor time (``cpu``) and of the clock (``wall``)."""

    __slots__ = ("cpu", "wall")

    cpu: float
    wall: float

    def __init__(self, cpu: float, wall: float) -> None:
        super().__init__(cpu=cpu, wall=wall)

    def __repr__(self) -> str:
        return f"Cost(cpu={self.cpu:.6f}, wall={self.wall:.6f})"


class Scan:
    """A table of processes: ``len(s)``, ``s[i]``, iteration; ``s[i:j]`` is a smaller table.

    Rows (ProcessTotals) are made when first asked for. ``taken_at`` is when the sweep ended
    (seconds since the epoch), ``cost`` what it took, ``procfs`` where it was read.
    ``max_map_count`` is the kernel's limit of mappings for one process
    (/proc/sys/vm/max_map_count), where their numbers were asked for; None where it is not known.
    ``hidden_by`` is the mount option that hid processes from this reader ("hidepid=invisible"):
    they are in no row and no count. It is None where all were listed.

    Memory that several processes have in common as a whole is counted once: see
    ``ProcessTotals.shares_memory_with``. ``sharing_known`` is False where some that may have could
    not be compared (kcmp(2) is not permitted, or `procfs` is of another pid namespace), so that it
    may be counted twice.
    """

    __slots__ = (
        "_by_pid", "_count", "_make", "_rows", "cost", "hidden_by", "max_map_count", "procfs",
        "sharing_known", "taken_at",
    )  # fmt: skip

    def __init__(
        self,
        rows: Iterable[ProcessTotals] | Callable[[], list[ProcessTotals]],
        *,
        cost: Cost,
        taken_at: float,
        procfs: str,
        count: int = 0,
        max_map_count: int | None = None,
        hidden_by: str | None = None,
        sharing_known: bool = True,
    ) -> None:
        # `count` is how many rows a function would make: nobody pays for them who only counts.
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
        self.max_map_count = max_map_count
        self.hidden_by = hidden_by
        self.sharing_known = sharing_known

    def _all(self) -> list[ProcessTotals]:
        make = self._make
        if make is not None:
            self._rows = make()
            self._make = None
        return self._rows

    def _part(self, rows: Iterable[ProcessTotals]) -> Scan:
        return Scan(
            rows,
            cost=self.cost,
            taken_at=self.taken_at,
            procfs=self.procfs,
            max_map_count=self.max_map_count,
            hidden_by=self.hidden_by,
            sharing_known=self.sharing_known,
        )

    def __getstate__(self) -> tuple[list[ProcessTotals], dict[str, Any]]:
        facts = {
            "cost": self.cost,
            "taken_at": self.taken_at,
            "procfs": self.procfs,
            "max_map_count": self.max_map_count,
            "hidden_by": self.hidden_by,
            "sharing_known": self.sharing_known,
        }
        return self._all(), facts

    def __setstate__(self, state: tuple[list[ProcessTotals], dict[str, Any]]) -> None:
        rows, facts = state
        Scan.__init__(self, rows, **facts)

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

    def __repr__(self) -> str:
        return f"<Scan of {len(self)} processes, {self.coverage['read']} read>"

    def filter(self, wanted: Callable[[ProcessTotals], object]) -> Scan:
        """A smaller table: the rows for which the function gives something true."""
        return self._part(row for row in self if wanted(row))

    @property
    def by_pid(self) -> dict[int, ProcessTotals]:
        """The rows by their numbers; made once."""
        if self._by_pid is None:
            self._by_pid = {row.pid: row for row in self._all()}
        return self._by_pid

    @property
    def coverage(self) -> dict[str, int]:
        """How many processes came out how: every one of OUTCOMES, together ``len(scan)``."""
        counts = dict.fromkeys(OUTCOMES, 0)
        for row in self._all():
            counts[row.outcome] += 1
        return counts

    def column(self, name: str) -> memoryview:
        """A figure of all processes: a contiguous, read-only memoryview, in the rows' order.

        `name` is Python's or the kernel's of a field, or "uss", "rss_swap", "size", "pid", "ppid",
        "uid" or "mappings" (format "Q"; ABSENT, 2**64 - 1, for what is not known); "start_time" and
        "age" are in seconds (format "d", not a number for what is not known). KeyError for what is
        no field.
        """
        if name in _SECONDS:
            seconds = (getattr(row, name) for row in self)
            times = array("d", [float("nan") if value is None else value for value in seconds])
            return memoryview(times).toreadonly()
        if name in _NUMBERS:
            values = [getattr(row, name) for row in self]
        else:
            values = self._figures_of(name)
        return memoryview(array("Q", map(cell, values))).toreadonly()

    def _figures_of(self, name: str) -> list[int | None]:
        values: list[int | None] = []
        columns: dict[Rollups, Sequence[int]] = {}
        known = False
        for row in self:
            figures = row._figures
            value = None
            try:
                if isinstance(figures, tuple):
                    rollups, i = figures
                    column = columns.get(rollups)
                    if column is None:
                        column = columns[rollups] = rollups.column(name)
                    value = column[i] if column else None
                elif figures is not None:
                    value = figures[name]
                else:
                    UNREAD[name]
                known = True
            except KeyError:
                pass  # perhaps another process has it
            values.append(value)
        if not known:
            UNREAD[name]  # KeyError for what is no field
        return values

    def __arrow_c_schema__(self) -> object:
        """The columns as an Arrow schema (a PyCapsule); DuckDB asks for it before each query."""
        from fastsmaps._model import arrow

        return arrow.scan_schema(self).__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The table as an Arrow stream (a PyCapsule): for pyarrow.table(), polars.DataFrame()...

        A row a process, all its attributes and figures as columns, null for what is not known;
        docs/arrow.md. ImportError without pyarrow.
        """
        from fastsmaps._model import arrow

        return arrow.stream(arrow.scan_batch(self), requested_schema)

    def totals(self) -> Totals:
        """The figures summed over the processes that were read; None for what one of them lacks."""
        return self._sums([0] * len(self), 1)[0]

    def _sums(self, groups: list[int], count: int) -> list[Totals]:
        """Totals of each group of rows; a row that was not read adds nothing."""
        parts: list[list[Totals]] = [[] for _ in range(count)]
        swept: dict[Rollups, list[tuple[int, int]]] = {}
        for row, group in zip(self, groups, strict=True):
            figures = row._figures
            if isinstance(figures, tuple):
                rollups, i = figures
                swept.setdefault(rollups, []).append((i, group))
            elif figures is not None:
                parts[group].append(figures)
        for rollups, members in swept.items():
            for group, totals in rollups.sums(members, count):
                parts[group].append(totals)
        return [sum(some[1:], some[0]) if some else UNREAD for some in parts]

    def group_by(self, by: By | Callable[[ProcessTotals], Hashable]) -> dict[Any, Group]:
        """Groups of what was read, by words or a function of a row; the largest Pss comes first.

        Each has ``totals`` and ``count``. The words: "comm", "user", "cgroup", "unit" (systemd's),
        "exe" (the program; its comm in brackets where the kernel does not show it), "cmdline" and
        "pid". "cmdline:REGEX" groups by what the pattern finds in the command line: its named
        groups if it has some, else the whole match; "" for no match. Several words, with commas
        between them or as a sequence, give tuples as keys; a pattern comes last in a text.

        The scan must have read what they are about (``cgroup=True`` for cgroup and unit,
        ``cmdline=True``, ``exe=True``); what is not known is None. Raises ValueError for another
        `by` and a bad pattern, TypeError where the function gives what is not hashable.
        """
        key = key_of(by)
        numbers: dict[Any, int] = {}
        read = self._part(row for row in self if row._figures is not None)
        places = [numbers.setdefault(key(row), len(numbers)) for row in read]
        counts = [0] * len(numbers)
        for place in places:
            counts[place] += 1
        sums = read._sums(places, len(numbers))
        groups = {name: Group(sums[place], counts[place]) for name, place in numbers.items()}
        order = sorted(groups, key=lambda name: groups[name].totals.pss or 0, reverse=True)
        return {name: groups[name] for name in order}

    def descendants(self, pid: int) -> Scan:
        """The process and all that descend from it, so that a tree's Pss is one call.

        By the parents at the time of the scan: what lost its parent before belongs to whoever
        took it over. A parent is never younger than its child: such a number was used again.
        KeyError for a process that is not in the scan.
        """
        self.by_pid[pid]
        return self._part(below(self, [pid]))


# ---- what failed


# A reason may quote a line of a damaged capture.
_LONGEST_REASON = 300


def is_failure(coverage: Mapping[str, int]) -> bool:
    """Whether none was read though some should have been: denied or failed, not left out."""
    return not coverage["read"] and bool(coverage["denied"] or coverage["failed"])


def failures_of(scan: Scan) -> Iterable[tuple[int, str]]:
    """Pid and error of each process that failed."""
    return ((row.pid, row.error or "") for row in scan if row.outcome == "failed")


def main_reason(failures: Iterable[tuple[int, str]]) -> str:
    """The most frequent reason, in the words of the first process that has it; "" for none.

    Errors that differ in the process's number alone are one reason.
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
    if len(reason) > _LONGEST_REASON:
        reason = reason[:_LONGEST_REASON] + "..."
    total = sum(counts.values())
    return reason if counts[kind] == total else f"{reason} ({counts[kind]} of {total})"
