"""ProcessTotals: one process of a scan, with its outcome and totals."""

from __future__ import annotations

from operator import attrgetter

from fastsmaps._arguments import Any
from fastsmaps._errors import Outcome
from fastsmaps._fields import SIZES, SUMMED, SUMS, Fields
from fastsmaps._model import sizes
from fastsmaps._model.container import Container
from fastsmaps._model.record import Record, add_fields
from fastsmaps._model.sharing import error_of
from fastsmaps._model.stat import OUTSIDE, arguments
from fastsmaps._model.totals import UNREAD, Totals
from fastsmaps._public import public

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fastsmaps._model.rollups import Rollups
    from fastsmaps._model.sharing import Member


@public
class ProcessTotals(Record):
    """One process of a scan; immutable, equal by value.

    Each field of its totals is an attribute and a key too (``row.pss``, ``row["Pss"]``), None if
    the process was not read: ``dict(row) == row.as_dict()``.

    ``pid``, ``ppid``, ``comm``, ``uid`` (the effective one, as ps shows it, even for a process
    that is not dumpable), ``start_time`` (seconds since boot); on request ``cgroup``, ``cmdline``,
    ``exe`` (the target of the link) and ``mappings`` (their number: the lines of maps, including
    x86's [vsyscall], which the kernel does not count against vm.max_map_count); ``outcome`` (an
    Outcome), ``totals`` (None if they were not read), ``error`` (why they were not; or, if the
    process was read, which other value is damaged). A Sampler's rows also have ``age``, the
    seconds since the totals were read, and ``estimated``, whether they were scaled since. An
    unknown value is None.
    ``raw_cmdline`` has the bytes of ``cmdline``; replace() returns a copy with other values.

    ``shares_memory_with`` is the pid of a process with the same memory, if that is counted in the
    other's row (a child between vfork and exec, or of clone with CLONE_VM): then this row is
    "skipped" and has no totals.

    Sources: proc_pid_stat(5), proc_pid_smaps(5), proc_pid_maps(5), cgroups(7).
    """

    __slots__ = (
        "_member", "_stored_totals", "age", "cgroup", "comm", "error", "estimated", "exe",
        "mappings", "outcome", "pid", "ppid", "raw_cmdline", "shares_memory_with", "start_time",
        "systemd_cgroup", "uid",
    )  # fmt: skip

    pid: int
    ppid: int | None
    comm: str | None
    uid: int | None
    start_time: float | None
    cgroup: str | None
    #: Where ``unit`` and ``container`` are on cgroup v1; None if that is ``cgroup`` or the root.
    #: "/.." if the reader's cgroup namespace hides where they are.
    systemd_cgroup: str | None
    exe: str | None
    mappings: int | None
    error: str | None
    age: float | None
    estimated: bool
    #: The bytes of ``cmdline``, bounded: each argument ends in a NUL.
    raw_cmdline: bytes | None
    shares_memory_with: int | None
    if TYPE_CHECKING:  # typing.get_type_hints() could not resolve these names
        outcome: Outcome
        #: A place in a sweep's rollups until the first use: Totals take half of a row's time.
        _stored_totals: Totals | tuple[Rollups, int] | None
        #: The facts that decide whether memory is shared; only while a scan is made.
        _member: Member | None

    def __init__(
        self,
        pid: int,
        outcome: Outcome,
        *,
        ppid: int | None = None,
        comm: str | None = None,
        uid: int | None = None,
        start_time: float | None = None,
        cgroup: str | None = None,
        systemd_cgroup: str | None = None,
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
        set_(self, "systemd_cgroup", systemd_cgroup)
        set_(self, "raw_cmdline", cmdline)
        set_(self, "exe", exe)
        set_(self, "mappings", mappings)
        set_(self, "_stored_totals", totals)
        set_(self, "error", error)
        set_(self, "age", age)
        set_(self, "estimated", estimated)
        set_(self, "shares_memory_with", shares_memory_with)
        set_(self, "_member", member)

    @property
    def totals(self) -> Totals | None:
        """The totals; None if they were not read."""
        totals = self._stored_totals
        if isinstance(totals, tuple):
            rollups, i = totals
            totals = rollups.totals(i)
            object.__setattr__(self, "_stored_totals", totals)
        return totals

    @property
    def cmdline(self) -> tuple[str, ...] | None:
        """The arguments; () for a kernel thread or zombie, None if they were not read.

        Made anew at each access. A command line is cut after 128 KiB and 4,096 arguments, or
        earlier if those of all processes have more than 8 MiB: then it ends in "...".
        """
        return arguments(self.raw_cmdline)

    @property
    def container(self) -> Container | None:
        """The container that the process runs in; None if there is none, or it is not known."""
        from fastsmaps._model.containers import container_of

        return next(filter(None, map(container_of, managed_cgroups(self))), None)

    @property
    def user(self) -> str | None:
        """The user's name, or the uid's digits if it has none."""
        return None if self.uid is None else user_name(self.uid)

    @property
    def size(self) -> int | None:
        """The size of the address space in bytes; None from a rollup, which lacks it."""
        return None if self._stored_totals is None else (self.totals or UNREAD).size

    def _value(self, label: str) -> int | None:
        totals = self.totals
        return None if totals is None else totals.get(label)

    def _fields(self) -> Fields:
        totals = self.totals
        return SUMMED if totals is None else Fields(totals.by_label, known=SIZES)

    def as_dict(self) -> dict[str, Any]:
        """Return the values that ps shows by name, totals included; None if not read.

        ``cmdline``, ``exe``, ``age`` and ``estimated`` are only attributes.
        """
        return {**{name: getattr(self, name) for name in _SHOWN}, **(self.totals or UNREAD)}

    def replace(self, **changes: object) -> ProcessTotals:
        """Return a copy with other values for these attributes; ``cmdline`` is bytes or None.

        Raises TypeError for an unknown name.
        """
        values: dict[str, Any] = {name: getattr(self, name) for name in _NAMES}
        values |= {
            "totals": self._stored_totals,
            "cmdline": self.raw_cmdline,
            "member": self._member,
        }
        return ProcessTotals(**{**values, **changes})

    def __getstate__(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in (*_NAMES, "totals")}
        return {**values, "cmdline": self.raw_cmdline}

    def __setstate__(self, values: dict[str, Any]) -> None:
        ProcessTotals.__init__(self, **values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ProcessTotals):
            return NotImplemented
        compared = (*_NAMES, "totals", "raw_cmdline")
        return all(getattr(self, name) == getattr(other, name) for name in compared)

    def __hash__(self) -> int:
        return hash((self.pid, self.start_time, self.totals))

    def __repr__(self) -> str:
        totals = self.totals
        what = self.outcome if totals is None else f"pss={sizes.human(totals.pss)}"
        return f"<ProcessTotals {self.pid} {'?' if self.comm is None else self.comm} {what}>"


_SHOWN = (
    "pid", "ppid", "comm", "user", "uid", "start_time", "cgroup", "mappings", "outcome", "error",
)  # fmt: skip
_NAMES = tuple(
    name
    for name in ProcessTotals.__slots__
    if name not in ("_member", "_stored_totals", "raw_cmdline")
)
#: For this package only: attrgetter() costs less than a property in a loop over all rows.
stored_totals: Callable[[ProcessTotals], Totals | tuple[Rollups, int] | None]
stored_totals = attrgetter("_stored_totals")
member_of_row: Callable[[ProcessTotals], Member | None] = attrgetter("_member")


def aged(row: ProcessTotals, age: float) -> ProcessTotals:
    """Return a copy with an age: replace() takes three times as long."""
    copy = object.__new__(ProcessTotals)
    for name in ProcessTotals.__slots__:
        object.__setattr__(copy, name, getattr(row, name))
    object.__setattr__(copy, "age", age)
    return copy


def managed_cgroups(row: ProcessTotals) -> tuple[str | None, ...]:
    """Return the paths that may name a unit and a container, the first that does counts."""
    return () if row.systemd_cgroup == OUTSIDE else (row.systemd_cgroup, row.cgroup)


def counted_in(row: ProcessTotals, pid: int) -> ProcessTotals:
    """Return the row of a process whose memory is counted in the row of `pid`."""
    return row.replace(outcome="skipped", totals=None, error=error_of(pid), shares_memory_with=pid)


ProcessTotals._derived = (*_SHOWN, "size", *SUMS)
add_fields(ProcessTotals, [label for label in SIZES if label != "Size"])

_names: dict[int, str] = {}


def user_name(uid: int) -> str:
    """Return the user's name, or the uid's digits if it has none."""
    # Asked once each: with a directory service a query may take milliseconds.
    if uid not in _names:
        import pwd

        try:
            _names[uid] = pwd.getpwuid(uid).pw_name
        except (KeyError, OverflowError):
            _names[uid] = str(uid)
    return _names[uid]
