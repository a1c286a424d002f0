"""Sampler: repeated sweeps within a share of one CPU."""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Callable, Container, Iterable

from fastsmaps import _backend
from fastsmaps._arguments import Procfs, check_exclude, check_number, check_size
from fastsmaps._backend.descriptors import OPEN, free_descriptors, is_exhausted, read_file
from fastsmaps._errors import Error, is_foreign
from fastsmaps._host.estimate import estimate
from fastsmaps._host.sharing import Sharing, in_order, related
from fastsmaps._host.sweeper import Sweeper, files_of
from fastsmaps._host.texts import Shared
from fastsmaps._model.process_totals import ProcessTotals, counted_in, member_of_row
from fastsmaps._model.processes import Cost, Scan
from fastsmaps._model.stat import parse_stat
from fastsmaps._public import public
from fastsmaps._source.chunks import PAGE
from fastsmaps._source.source import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, TypeVar

    from fastsmaps._model.sharing import Member

    T = TypeVar("T")

_UNREAD = 2**64 - 1
# Every so many sweeps, ask the function again about a process that it excluded.
_ASK_AGAIN_SWEEPS = 16
# Keep one of so many free descriptors, since the program may open more meanwhile.
_FREE_PER_KEPT = 4
# Seconds without kept descriptors after none was free.
_NONE_KEPT = 60.0
# Every fourth rollup is of the oldest values, so that steady change elsewhere starves nobody.
_OLDEST_EVERY = 4
# Seconds until a denied process is tried again. An exec is seen at once.
_MIN_PAUSE = 60.0
_MAX_PAUSE = 900.0


class _Entry:
    """The state of a process between two sweeps."""

    __slots__ = (
        "excluded", "fd", "inode", "live", "pause", "read_at", "retry_at", "row", "text", "then",
    )  # fmt: skip

    def __init__(self, pid: int) -> None:
        self.excluded: bool | None = None  # None if `exclude` must be asked
        self.fd = -1  # of its statm, if one is kept
        self.inode = 0  # of its directory, if it is read by its path
        self.row = ProcessTotals(pid, "skipped", error=_NOT_YET)
        self.read_at: float | None = None
        self.then = (0, 0)  # resident and shared when the totals were read
        self.live = (0, 0)
        self.text = 0
        self.pause = 0.0  # seconds until a denied process is tried again
        self.retry_at = 0.0

    def forget(self) -> None:
        """Drop the totals, so that the process is read as a new one."""
        self.row, self.read_at = ProcessTotals(self.row.pid, "skipped", error=_NOT_YET), None

    def put_off(self, now: float) -> None:
        """Set when a denied process is tried again.

        A try costs as much as a read, and if a security module refuses it, adds a line to the
        host's audit log.
        """
        self.pause = min(max(_MIN_PAUSE, 2 * self.pause), _MAX_PAUSE)
        self.retry_at = now + self.pause

    @property
    def moved(self) -> int:
        """The change of statm since the totals were read, in bytes."""
        resident, shared = self.live
        before, shared_before = self.then
        return abs(resident - shared - before + shared_before) + abs(shared - shared_before)


_NOT_YET = "not read yet: the budget did not allow it"


@public
class Sampler:
    """Repeated sweeps over all processes that use at most `budget` of one CPU (0.01 is 1 %).

    Each sweep() samples the Rss of every process (statm, 1.4 us through a kept descriptor). It then
    reads rollups until its credit is used up: of new processes, of those whose Rss changed most
    since their totals were read, and of the oldest. The credit is `budget` x the time since the
    last sweep; all CPU time of a sweep is charged to it, and debt is carried over. The first sweep
    reads all processes, whatever that takes. A Sampler never sleeps: the caller decides how often
    to sweep.

    Each row has an ``age``, the seconds since its totals were read. If its Rss changed since, the
    totals are scaled and the row is marked ``estimated``. A process that ended is dropped. A
    reused pid starts anew, and so does a process that called exec: the size of its code (statm's
    text) has changed. An exec of the same program is noticed when its rollup is read next. A denied
    process is tried again after a minute, then after up to a quarter of an hour, and after an exec.

    `cgroup`, `cmdline`, `exe` and `mappings` are read with the totals on request, as scan() does.
    Processes above `max_rss` bytes are skipped, and so are those in `exclude`: numbers of `procfs`,
    or a function of a row without totals, which is called for each new process, after an exec, and
    from time to time. A Sampler is a context manager, and for one thread at a time.

    It keeps at most a quarter of the program's free descriptors (RLIMIT_NOFILE less the open ones),
    counted anew at each sweep. If this process or the whole system has none left, it closes those
    it keeps, and keeps none for a minute.

    Raises ValueError for a `budget` outside of 0 to 1, 0 excluded, and TypeError for a wrong type.
    sweep() raises what depends on `procfs` and the contents of `exclude`.
    """

    def __init__(
        self,
        *,
        budget: float = 0.01,
        procfs: Procfs = "/proc",
        cgroup: bool = False,
        cmdline: bool = False,
        exe: bool = False,
        mappings: bool = False,
        max_rss: int | None = None,
        exclude: Container[int] | Callable[[ProcessTotals], bool] = (),
    ) -> None:
        self.budget = check_number("budget", budget, 0, 1, above=True)
        max_rss = check_size("max_rss", max_rss)
        check_exclude(exclude)
        self._source = Source(procfs)
        self.procfs = self._source.path
        self._mappings = mappings
        self._texts = files_of(cgroup=cgroup, cmdline=cmdline, exe=exe)
        self._max_rss = max_rss
        self._exclude = exclude
        self._sweeps = 0
        self._shared = Shared()  # the texts of all rows
        self._kept = 0
        self._max_kept = 0
        self._none_kept_until = 0.0
        self._watched: dict[int, _Entry] = {}
        self._last = 0.0
        self._is_first = True  # until a sweep has read all
        self._hidden_by: str | None = None  # at the first sweep
        self._credit = 0.0
        self._statm_cost = 0.0  # of sampling all statm, in seconds
        self._rollup_cost = 0.0005  # seconds, smoothed
        self._closed = False
        self._sharing: Sharing | None = None
        self._unknown: set[int] = set()

    def close(self) -> None:
        """Close all descriptors; may be called again."""
        self._closed = True
        for pid in list(self._watched):
            self._drop(pid)

    def __enter__(self) -> Sampler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_watched"):
            self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._watched)} processes"
        return f"<Sampler of {self.procfs}, budget={self.budget:g}: {state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Sampler holds open descriptors: it is neither copied nor pickled")

    def sweep(self) -> Scan:
        """Sweep once within the budget, and return all processes.

        No single process raises an error. Raises NotProcfs, AccessDenied or ReadError if `procfs`
        cannot be listed, TypeError for an `exclude` that is not a container, ValueError after
        close().
        """
        if self._closed:
            raise ValueError("this Sampler is closed")
        now, cpu = time.monotonic(), time.thread_time()
        first = self._is_first
        if not first:
            self._credit += self.budget * (now - self._last)
        self._last = now
        self._fit()
        self._source = Source(self.procfs)  # the path may name another directory by now
        # If sampling statm alone exceeds the budget, it waits until the credit covers it and as
        # much for rollups.
        if first:
            self._hidden_by = self._source.hidden_by()
        if first or self._credit >= 2 * self._statm_cost:
            self._with_descriptors(self._sample_all)
            self._forget_separated()
            self._statm_cost = time.thread_time() - cpu
            self._read_some(cpu, everything=first)
            self._credit = min(0.0, self._credit - (time.thread_time() - cpu))
        else:
            self._credit -= time.thread_time() - cpu
        if first:
            self._credit, self._is_first = 0.0, False
        taken_at, ended = time.time(), time.monotonic()
        state = [
            (entry.row, entry.read_at, entry.then, entry.live) for entry in self._watched.values()
        ]
        return Scan(
            lambda: [_row(*entry, ended) for entry in state],
            cost=Cost(time.thread_time() - cpu, ended - now),
            taken_at=taken_at,
            procfs=self.procfs,
            count=len(state),
            sharing_known=self._unknown.isdisjoint(self._watched),
            max_map_count=self._source.max_map_count() if self._mappings else None,
            hidden_by=self._hidden_by,
        )

    # ---- descriptors

    def _fit(self) -> None:
        """Set how many descriptors are kept, and close the rest."""
        free = None if time.monotonic() < self._none_kept_until else free_descriptors()
        self._max_kept = 0 if free is None else max(0, free + self._kept) // _FREE_PER_KEPT
        self._shrink()

    def _shrink(self) -> None:
        for entry in self._watched.values():
            if self._kept <= self._max_kept:
                break
            if entry.fd >= 0:
                self._let_go(entry)

    def _give_up(self) -> bool:
        """Close all kept descriptors; return whether there were any."""
        any_kept = self._kept > 0
        self._max_kept = 0
        self._none_kept_until = time.monotonic() + _NONE_KEPT
        self._shrink()
        return any_kept

    def _with_descriptors(self, action: Callable[[], T]) -> T:
        """Call `action`; if no descriptor is free, close the kept ones and call it again."""
        try:
            return action()
        except (Error, OSError) as error:
            if not is_exhausted(error) or not self._give_up():
                raise
        return action()

    def _let_go(self, entry: _Entry) -> None:
        fd, entry.fd = entry.fd, -1
        self._kept -= 1
        os.close(fd)

    # ---- statm of all

    def _sample_all(self) -> None:
        listed = set(self._source.pids())
        for pid in self._watched.keys() - listed:
            self._drop(pid)
        kept = [(pid, entry) for pid, entry in self._watched.items() if entry.fd >= 0]
        pages = array("Q", bytes(24 * len(kept)))
        _backend.statms(memoryview(array("i", [entry.fd for _, entry in kept])), memoryview(pages))
        for i, (pid, entry) in enumerate(kept):
            if pages[3 * i] == _UNREAD:
                self._drop(pid)  # reaped; a listed process of this number is another one
            else:
                self._record(entry, *pages[3 * i : 3 * i + 3])
        for pid, entry in self._watched.items():
            if entry.fd < 0 and not self._sample_by_path(pid, entry):
                self._watched[pid] = _Entry(pid)
        for pid in sorted(listed - self._watched.keys()):
            self._watched[pid] = entry = _Entry(pid)
            self._sample_by_path(pid, entry)

    @staticmethod
    def _record(entry: _Entry, resident: int, shared: int, text: int) -> None:
        if text != entry.text:
            # Another program (exec): the old totals are not its own.
            entry.excluded = None
            if entry.read_at is not None:
                entry.forget()
        entry.text = text
        entry.live = resident * PAGE, shared * PAGE

    def _sample_by_path(self, pid: int, entry: _Entry) -> bool:
        """Sample one process; return False if it has ended, or another one has its number."""
        try:
            statm = os.pread(entry.fd, 256, 0) if entry.fd >= 0 else self._statm_by_path(pid, entry)
            resident, shared, text = map(int, statm.split()[1:4])
        except ProcessLookupError:
            return False
        except FileNotFoundError:
            return self._source.is_capture  # smem's captures have no statm
        except (OSError, ValueError) as error:
            if is_foreign(error):
                raise
            return True  # denied (hidepid=1) or damaged: keep what was read before
        self._record(entry, resident, shared, text)
        return True

    def _statm_by_path(self, pid: int, entry: _Entry) -> bytes:
        """Read statm without a kept descriptor; ProcessLookupError if another has the number."""
        path = f"{self.procfs}/{pid}"
        directory = os.open(path, OPEN | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            inode = os.fstat(directory).st_ino
            if inode != entry.inode:
                # Each process's directory has its own inode. It also changes for the same process
                # when the kernel was short of memory. This check costs 2 us, and stat 20.
                started = entry.row.start_time
                if entry.inode and started is not None:
                    stat = parse_stat(self._source.read("stat", directory), pid, f"{path}/stat")
                    if stat.start_time != started:
                        raise ProcessLookupError
                entry.inode = inode
            fd = self._source.open("statm", directory)
            try:
                text = read_file(fd)
                if self._kept < self._max_kept:
                    self._kept += 1
                    entry.fd, fd = fd, -1
                return text
            finally:
                if fd >= 0:
                    os.close(fd)
        finally:
            os.close(directory)

    def _drop(self, pid: int) -> None:
        entry = self._watched.pop(pid)
        if entry.fd >= 0:
            self._let_go(entry)

    # ---- exclusion

    def _judge(self) -> None:
        """Find the excluded processes; a function is asked only where its answer may differ."""
        exclude = self._exclude
        if not callable(exclude):
            for pid, entry in self._watched.items():
                entry.excluded = pid in exclude
                if entry.excluded:
                    entry.row = entry.row.replace(outcome="skipped", error="excluded")
            return
        self._sweeps += 1
        due = [
            pid
            for pid, entry in self._watched.items()
            # A process may change its command line without an exec.
            if entry.excluded is None
            or (entry.excluded and not (pid + self._sweeps) % _ASK_AGAIN_SWEEPS)
        ]
        sweeper = Sweeper(self._source, texts=self._texts, limits=(None, None), until=None)
        try:
            for row in sweeper.seen(due):
                if row.outcome != "gone" and row.pid not in sweeper.exhausted:
                    self._exclude_or_not(row, exclude(row))
        finally:
            sweeper.close()

    def _exclude_or_not(self, row: ProcessTotals, excluded: bool) -> None:
        entry = self._watched[row.pid]
        entry.excluded = bool(excluded)
        if excluded:
            row = row.replace(outcome="skipped", error="excluded", totals=None)
            entry.row, entry.read_at = self._shared.fit(row), None

    # ---- rollups

    def _order(self) -> Iterable[int]:
        """Yield the pids to read: new ones, then the most changed, every fourth the oldest."""
        new, moved, old = [], [], []
        now = time.monotonic()
        for pid, entry in self._watched.items():
            if entry.excluded:
                continue
            if entry.read_at is None:
                new.append(pid)
            elif entry.row.outcome == "denied" and now < entry.retry_at:
                continue
            elif entry.row.outcome != "kernel_thread" and entry.row.shares_memory_with is None:
                old.append((entry.read_at, pid))
                if entry.moved:
                    moved.append((entry.moved, pid))
        yield from new
        moved.sort()
        old.sort(reverse=True)
        done: set[int] = set()
        count = 0
        while old:
            count += 1
            queue = moved if moved and count % _OLDEST_EVERY else old
            pid = queue.pop()[1]
            if pid not in done:
                done.add(pid)
                yield pid

    def _read_some(self, cpu: float, *, everything: bool) -> None:
        """Read rollups until the credit is used up; CPU time since `cpu` counts against it."""
        self._with_descriptors(self._judge)

        def begin() -> Sweeper:
            return Sweeper(
                self._source,
                texts=self._texts,
                limits=(None, self._max_rss),
                until=None,
                mappings=self._mappings,
            )

        sweeper = self._with_descriptors(begin)
        new: list[int] = []
        try:
            for pid in self._order():
                before = time.thread_time()
                if not everything and before - cpu + self._rollup_cost > self._credit:
                    break
                first = self._watched[pid].read_at is None
                self._read(sweeper, pid)
                entry = self._watched.get(pid)
                if entry is not None and (first or entry.row.shares_memory_with is not None):
                    new.append(pid)
                took = time.thread_time() - before
                self._rollup_cost += (took - self._rollup_cost) / 8
            self._share(sweeper, new)
        finally:
            sweeper.close()

    def _read(self, sweeper: Sweeper, pid: int, *, shared: bool = False) -> None:
        entry = self._watched[pid]
        # Read statm at the same moment: the rollup already includes growth since the sample.
        self._sample_by_path(pid, entry)
        read = sweeper.read_one_shared if shared else sweeper.read_one
        row = read(pid)
        if pid in sweeper.exhausted and self._give_up():
            row = read(pid)
        if pid in sweeper.exhausted:
            if entry.read_at is None:
                entry.row = row
            return  # keep what was read before; the next sweep tries again
        if row.outcome == "gone":
            self._drop(pid)
            return
        if entry.row.start_time not in (None, row.start_time):
            # The pid was reused.
            self._drop(pid)
            entry = self._watched[pid] = _Entry(pid)
            self._sample_by_path(pid, entry)
        entry.row, entry.read_at, entry.then = self._shared.fit(row), time.monotonic(), entry.live
        if row.outcome == "denied":
            entry.put_off(entry.read_at)
        if callable(self._exclude) and self._exclude(row.replace(totals=None)):
            self._exclude_or_not(row, True)  # it has changed its command line
        if self._shared.is_full:
            rows = self._shared.refit(entry.row for entry in self._watched.values())
            for entry, row in zip(self._watched.values(), rows, strict=True):
                entry.row = row

    # ---- shared memory: see sharing.py

    def _forget_separated(self) -> None:
        """Treat a process that no longer shares its memory as a new one."""
        if self._sharing is None:
            self._sharing = Sharing(self._source)
        self._sharing.renew()
        for entry in self._watched.values():
            if entry.row.shares_memory_with is None:
                continue
            other = self._watched.get(entry.row.shares_memory_with)
            if other is None or other.row.totals is None or not self._is_shared(entry, other):
                entry.forget()

    def _is_shared(self, entry: _Entry, other: _Entry) -> bool:
        member, counted = member_of_row(entry.row), member_of_row(other.row)
        assert self._sharing is not None
        if member is None or counted is None:
            return False
        return self._sharing.still(member, counted)

    def _share(self, sweeper: Sweeper, new: Iterable[int]) -> None:
        """Decide which row counts memory that newly read processes share with others."""
        assert self._sharing is not None
        fresh = [member_of_row(self._watched[pid].row) for pid in new if pid in self._watched]
        stacks = {member.stack for member in fresh if member is not None}
        pids = {member.ppid for member in fresh if member is not None and member.forked}
        if not stacks:
            return
        members = [
            member
            for entry in self._watched.values()
            if (member := member_of_row(entry.row)) is not None
            and (member.stack in stacks or member.pid in pids)
            and (entry.row.totals is not None or member.linked)
        ]
        found = related(members)
        settled = set()
        for group in self._sharing.groups(found.values()):
            order = in_order(group)
            counted = next((m for m in order if m.read), None) or self._first_read(sweeper, order)
            for member in order:
                settled.add(member.pid)
                if counted is not None and member is not counted:
                    entry = self._watched.get(member.pid)
                    if entry is not None:
                        entry.row = counted_in(entry.row, counted.pid)
        for member in found.values():
            if member.linked and member.pid not in settled:
                for pid in (member.ppid, member.pid):
                    if pid in found and pid in self._watched:
                        self._read(sweeper, pid, shared=True)
        self._unknown = self._sharing.unknown | {pid for pid in self._unknown if pid not in new}

    def _first_read(self, sweeper: Sweeper, members: list[Member]) -> Member | None:
        for member in members:
            if member.pid in self._watched:
                self._read(sweeper, member.pid, shared=True)
            entry = self._watched.get(member.pid)
            if entry is not None and entry.row.totals is not None:
                return member
        return None


def _row(
    row: ProcessTotals,
    read_at: float | None,
    then: tuple[int, int],
    live: tuple[int, int],
    now: float,
) -> ProcessTotals:
    """Return the row with its age, scaled if the process changed since."""
    if read_at is None or row.totals is None:
        return row
    if then == live:
        return row.replace(age=max(0.0, now - read_at))
    totals = estimate(row.totals, then, live)
    return row.replace(age=max(0.0, now - read_at), totals=totals, estimated=True)
