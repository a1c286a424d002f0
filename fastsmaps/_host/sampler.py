"""Sampler: repeated sweeps within a share of one CPU."""

from __future__ import annotations

import errno
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Sequence

from fastsmaps._arguments import Procfs, check_exclude, check_number, check_size
from fastsmaps._backend.descriptors import is_exhausted
from fastsmaps._errors import Error, is_foreign
from fastsmaps._host.estimate import estimate, estimate_pss
from fastsmaps._host.families import Families
from fastsmaps._host.listing import Listing
from fastsmaps._host.rollup_queue import RollupQueue
from fastsmaps._host.sharing import Sharing, in_order, related
from fastsmaps._host.statm_table import MOVED, OTHER_INODE, StatmTable
from fastsmaps._host.sweeper import Sweeper, files_of
from fastsmaps._host.texts import Shared
from fastsmaps._model.process_totals import ProcessTotals, aged, counted_in, member_of_row
from fastsmaps._model.processes import Cost, Scan
from fastsmaps._model.stat import parse_stat
from fastsmaps._public import public
from fastsmaps._source.chunks import PAGE
from fastsmaps._source.source import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, TypeVar

    from fastsmaps._model.sharing import Member
    from fastsmaps._model.totals import Totals

    T = TypeVar("T")
    # What a row is made of: the row, when its totals were read, and statm then and now.
    Seen = tuple[ProcessTotals, float | None, tuple[int, int], tuple[int, int]]

_EXHAUSTED = (-errno.EMFILE, -errno.ENFILE)  # no descriptor is left
_NEVER = float("inf")
# The parts of a sweep's credit for statm: of processes that moved within so many seconds; of the
# others, the least and the most, depending on how many of them have moved; and at least, if the
# host's memory moved otherwise than the processes that were sampled.
_LIVELY_SHARE = 1 / 4
_LIVELY_SECONDS = 30.0
_TURN_SHARES = 1 / 32, 1 / 4
_DRIFT_SHARE = 1 / 8
# Seconds that reading a statm takes at least, and at most if its descriptor is kept.
_MIN_COST = 5e-7
_MAX_COST = 2e-6
# Such a change of the host's memory: this part of it, and so many bytes.
_DRIFT = 1 / 1024
_DRIFT_BYTES = 4 << 20
# The part for asking a function whether it excludes a process, and how long one answer takes.
_EXCLUDE_SHARE = 1 / 4
_EXCLUDE_COST = 100e-6
# At each sweep, ask again about one of so many processes that it excluded.
_ASK_AGAIN = 16
# One process may take this part of the budget with its rollup: one of 60 GiB takes half a second.
_ROLLUP_SHARE = 1 / 2
# A value that was this far off its estimate changes in ways that statm does not show: read it
# again soon, so many times.
_SURPRISE = 1 / 32
_SURPRISE_BYTES = 64 << 10
_SURPRISE_READS = 2
# A sweep that is worth less than so many times its fixed cost waits for the next one.
_MIN_WORTH = 3
# charge() leaves at most what the budget earns in so many seconds.
_MAX_DEBT = 60.0
# Seconds until a denied process is tried again. An exec is seen when its statm is.
_MIN_PAUSE = 60.0
_MAX_PAUSE = 900.0


class _Entry:
    """The state of a process between two sweeps."""

    __slots__ = (
        "cost", "live", "moved_at", "pause", "pid", "pss", "read_at", "reads_due", "retry_at",
        "row", "slot", "text", "then",
    )  # fmt: skip

    def __init__(self, pid: int, slot: int) -> None:
        self.pid = pid
        self.slot = slot  # in the StatmTable
        self.row = ProcessTotals(pid, "skipped", error=_NOT_YET)
        self.read_at: float | None = None
        self.then = (0, 0)  # resident and shared when the totals were read
        self.live = (0, 0)
        self.text = -1  # statm's; -1 if it was never read
        self.pss = 0  # the estimate
        self.moved_at = -_NEVER
        self.reads_due = 0  # how often it is to be read soon
        self.cost = 0.0  # seconds of CPU time of its last read
        self.pause = 0.0  # seconds until a denied process is tried again
        self.retry_at = 0.0

    @property
    def totals(self) -> Totals | None:
        """The totals last read."""
        return self.row.totals

    @property
    def moved(self) -> int:
        """The change of statm since the totals were read, in bytes."""
        resident, shared = self.live
        before, shared_before = self.then
        return abs(resident - shared - before + shared_before) + abs(shared - shared_before)

    def put_off(self, now: float) -> None:
        """Set when a denied process is tried again.

        A try costs as much as a read, and if a security module refuses it, adds a line to the
        host's audit log.
        """
        self.pause = min(max(_MIN_PAUSE, 2 * self.pause), _MAX_PAUSE)
        self.retry_at = now + self.pause


class _Turn:
    """Slots whose statm is sampled in turn, and the place of the next one."""

    def __init__(self) -> None:
        self.slots = array("I")
        self.at = 0


_NOT_YET = "not read yet: the budget did not allow it"


@public
class Sampler:
    """Repeated sweeps over all processes that use at most `budget` of one CPU (0.01 is 1 %).

    Each sweep() spends what the budget has earned since the last one: it samples the Rss of
    processes (statm, 1 us through a kept descriptor) and then reads rollups. Processes whose Rss
    moved within 30 seconds are sampled at each sweep, the others in turn, and more of them if
    AnonPages + Mapped in /proc/meminfo says that some have moved. Rollups are read of new
    processes, of those that changed, and of the oldest, in turns (see RollupQueue). A process whose
    new values differ from their estimate, and the family of a process that forked or ended, are
    read again soon. All CPU time of a sweep is charged to the budget. A debt is carried over, and
    takes up to half of what the next sweeps earn. The first sweep reads all processes, whatever
    that takes, and is not charged. Rows are made when they are asked for; charge() charges that,
    and whatever else the caller does with them. A Sampler never sleeps: the caller decides how
    often to sweep.

    Each row has an ``age``, the seconds since its totals were read. If its Rss changed since, the
    totals are scaled and the row is marked ``estimated``. A process that began or ended is noticed
    at the next sweep, or if there are thousands, within seconds. A reused pid starts anew, and so
    does a process that called exec: the size of its code (statm's text) has changed. An exec of the
    same program is noticed when its rollup is read next. A denied process is tried again after a
    minute, then after up to a quarter of an hour, and after an exec.

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
        self._shared = Shared()  # the texts of all rows
        self._watched: dict[int, _Entry] = {}
        # What the next Scan shows, by pid; copied by each, so that earlier ones do not change.
        self._seen: dict[int, Seen] = {}
        self._shown: dict[int, Seen] | None = None  # the last copy, if nothing changed since
        self._listing = Listing()
        self._statms = StatmTable()
        self._large, self._rest = _Turn(), _Turn()
        self._turn_share = _TURN_SHARES[1]  # of the credit
        self._lively: OrderedDict[int, _Entry] = OrderedDict()
        self._queue = RollupQueue()
        self._families = Families()
        self._moved_now: set[int] = set()  # in this sweep
        self._denied: dict[int, _Entry] = {}
        self._excluded: OrderedDict[int, None] = OrderedDict()
        self._unjudged: dict[int, None] = {}  # the function was not asked yet
        self._linked: set[int] = set()  # their memory is counted in another row
        self._sharing: Sharing | None = None
        self._unknown: set[int] = set()
        self._pss = 0  # the sum of all estimates
        self._host_pss: int | None = None
        self._unseen = 0  # host_pss less the sum, when all statm had been sampled
        self._last = 0.0
        self._is_first = True  # until a sweep has read all
        self._hidden_by: str | None = None  # at the first sweep
        self._credit = 0.0
        self._fixed_cost = 0.0001  # of a sweep that samples nothing, in seconds, smoothed
        self._closed = False

    def close(self) -> None:
        """Close all descriptors; may be called again."""
        self._closed = True
        self._statms.close()
        self._watched.clear()

    def __enter__(self) -> Sampler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_statms"):
            self._statms.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._watched)} processes"
        return f"<Sampler of {self.procfs}, budget={self.budget:g}: {state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Sampler holds open descriptors: it is neither copied nor pickled")

    def charge(self, seconds: float) -> None:
        """Charge CPU time to the budget: of what the caller does with the rows, such as drawing.

        Like any debt it takes at most half of what the next sweeps earn, and no more is carried
        over than a minute earns. Raises ValueError for a negative number.
        """
        seconds = check_number("seconds", seconds, 0, _NEVER)
        self._credit = max(self._credit - seconds, min(self._credit, -_MAX_DEBT * self.budget))

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
        earned = 0.0 if first else self.budget * (now - self._last)
        self._last = now
        credit = self._credit + earned
        if self._credit < 0:
            credit = max(credit, earned / 2)
        works = first or credit > _MIN_WORTH * self._fixed_cost
        if works:
            self._shown = None
            self._source = Source(self.procfs)  # the path may name another directory by now
            self._work(cpu, None if first else credit)
        if self._shown is None:
            self._shown = dict(self._seen)
        seen, ended = self._shown, time.monotonic()
        scan = Scan(
            lambda: [_row(*found, ended) for found in seen.values()],
            cost=Cost(time.thread_time() - cpu, ended - now),
            taken_at=time.time(),
            procfs=self.procfs,
            count=len(seen),
            sharing_known=self._watched.keys().isdisjoint(self._unknown),
            max_map_count=self._source.max_map_count() if self._mappings else None,
            hidden_by=self._hidden_by,
            host_pss=self._host_pss,
        )
        left = self._credit + earned - (time.thread_time() - cpu)
        if first:
            self._last = ended  # all processes take seconds, which would earn more than is needed
        # What is left after all was read is not needed later.
        self._credit = 0.0 if first else min(0.0, left) if works else left
        self._is_first = False
        return scan

    def _work(self, cpu: float, credit: float | None) -> None:
        """List, sample and read; the credit counts from thread_time() `cpu`, None if endless."""
        self._statms.fit()
        if credit is None:
            self._hidden_by = self._source.hidden_by()
        sweeper = self._with_descriptors(self._sweeper)
        try:
            try:
                self._with_descriptors(lambda: self._list(sweeper))
            except (Error, OSError) as error:
                if credit is None or not is_exhausted(error):
                    raise  # otherwise keep what was read before; the next sweep tries again
            self._host_pss = self._source.host_pss()
            if credit is not None:
                fixed = time.thread_time() - cpu - self._listing.last_cost
                self._fixed_cost += (fixed - self._fixed_cost) / 8
            self._moved_now.clear()
            self._sample(sweeper, credit)
            self._forget_separated()
            self._with_descriptors(lambda: self._judge(credit))
            self._read_some(sweeper, cpu, credit)
            if credit is None:
                self._take_turns()
        finally:
            sweeper.close()

    def _sweeper(self) -> Sweeper:
        return Sweeper(
            self._source,
            texts=self._texts,
            limits=(None, self._max_rss),
            until=None,
            mappings=self._mappings,
        )

    def _with_descriptors(self, action: Callable[[], T]) -> T:
        """Call `action`; if no descriptor is free, close the kept ones and call it again."""
        try:
            return action()
        except (Error, OSError) as error:
            if not self._statms.give_up(error):
                raise
        return action()

    # ---- which processes there are

    def _list(self, sweeper: Sweeper) -> None:
        pids, all_listed = self._listing.update(
            self._source, sweeper.root, sweeper.sharing.compares, self.budget
        )
        if all_listed:
            for pid in self._watched.keys() - set(pids):
                self._drop(pid)
        for pid in pids:
            if pid not in self._watched:
                self._add(pid)

    def _add(self, pid: int) -> None:
        entry = self._watched[pid] = _Entry(pid, self._statms.add(pid))
        self._start_anew(entry)

    def _start_anew(self, entry: _Entry) -> None:
        """Drop the totals, so that the process is read as a new one."""
        pid = entry.pid
        entry.row, entry.read_at = ProcessTotals(pid, "skipped", error=_NOT_YET), None
        self._excluded.pop(pid, None)
        self._denied.pop(pid, None)
        self._linked.discard(pid)
        self._lively.pop(pid, None)
        self._families.remove(pid)
        if callable(self._exclude):
            self._queue.discard(pid)
            self._unjudged[pid] = None
        else:
            self._queue.add_new(pid)
        self._show(entry)

    def _drop(self, pid: int) -> None:
        self._mark_family(pid)
        entry = self._watched.pop(pid)
        self._statms.remove(entry.slot)
        self._pss -= entry.pss
        self._seen.pop(pid, None)
        self._queue.discard(pid)
        self._families.remove(pid)
        for pids in (self._lively, self._denied, self._excluded, self._unjudged):
            pids.pop(pid, None)
        self._linked.discard(pid)

    def _show(self, entry: _Entry) -> None:
        """Let the next Scan have the row as it is now."""
        self._seen[entry.pid] = entry.row, entry.read_at, entry.then, entry.live
        totals = entry.totals
        pss = 0 if totals is None else estimate_pss(totals.by_label, entry.then, entry.live)
        self._pss += pss - entry.pss
        entry.pss = pss

    # ---- statm

    def _sample(self, sweeper: Sweeper, credit: float | None) -> None:
        """Sample those that moved lately, and some of the others in turn; all without a credit."""
        if credit is None:
            self._sample_slots(sweeper, range(len(self._statms)), _NEVER)
            return
        now = time.monotonic()
        for pid in [p for p, e in self._lively.items() if now - e.moved_at > _LIVELY_SECONDS]:
            del self._lively[pid]
        lively = [entry.slot for entry in self._lively.values()]
        done = self._sample_slots(sweeper, lively, credit * _LIVELY_SHARE)
        if done < len(lively):
            for slot in lively[:done]:
                if (pid := self._statms.pid(slot)) in self._lively:
                    self._lively.move_to_end(pid)
        share = self._turn_share
        if self._has_drifted():
            # All of them, if that is cheap.
            is_cheap = len(self._statms) * _MAX_COST <= credit * _TURN_SHARES[1]
            share = _TURN_SHARES[1] if is_cheap else max(share, _DRIFT_SHARE)
        # Large processes are few and have most of the memory: they get half of the time.
        before = len(self._lively)
        self._sample_turn(sweeper, self._large, credit * share / 2)
        at_end = self._sample_turn(sweeper, self._rest, credit * share / 2, keep=1 / 2)
        least, most = _TURN_SHARES
        share *= 2 if len(self._lively) > before else 1 / 2
        self._turn_share = min(max(share, least), most)
        if at_end:
            self._take_turns()

    def _take_turns(self) -> None:
        """Begin a new round of all statm, with the processes above the average apart."""
        self._unseen = (self._host_pss or 0) - self._pss
        average = self._pss / max(1, len(self._watched))
        large, rest = self._large, self._rest
        large.slots, rest.slots, large.at, rest.at = array("I"), array("I"), 0, 0
        for entry in self._watched.values():
            (large if entry.pss > average else rest).slots.append(entry.slot)

    def _sample_turn(
        self, sweeper: Sweeper, turn: _Turn, seconds: float, keep: float = 1.0
    ) -> bool:
        """Sample the next slots, and return whether the end is reached; each at most once."""
        most = int(seconds / _MIN_COST) + 1
        slots = turn.slots[turn.at : turn.at + most]
        turn.at += self._sample_slots(sweeper, slots, seconds, keep)
        if turn.at < len(turn.slots):
            return False
        turn.at = 0
        return True

    def _has_drifted(self) -> bool:
        """Whether the host's memory moved otherwise than the processes that were sampled."""
        if self._host_pss is None:
            return True
        drift = abs(self._host_pss - self._pss - self._unseen)
        return drift > max(self._host_pss * _DRIFT, _DRIFT_BYTES)

    def _sample_slots(
        self, sweeper: Sweeper, slots: Sequence[int], seconds: float, keep: float = 1.0
    ) -> int:
        """Sample these, and return how many the time was enough for; see StatmTable.sample()."""
        done, events = self._statms.sample(self._source, sweeper.root, slots, seconds, keep)
        if any(what in _EXHAUSTED for _, what in events) and self._statms.give_up():
            return self._sample_slots(sweeper, slots, seconds, keep)
        for slot, what in events:
            entry = self._watched[self._statms.pid(slot)]
            if what == MOVED:
                self._record(entry)
            elif what == OTHER_INODE:
                self._check_identity(entry)
            elif what == -errno.ESRCH or (what == -errno.ENOENT and not self._source.is_capture):
                # smem's captures have no statm. Another failure (EPERM with hidepid=1, damage)
                # keeps what was read before.
                self._drop(entry.pid)
        return done

    def _record(self, entry: _Entry) -> None:
        """Take over the values of statm, which have changed."""
        resident, shared, text = self._statms.pages(entry.slot)
        entry.live = resident * PAGE, shared * PAGE
        before, entry.text = entry.text, text
        if before not in (-1, text):
            # Another program (exec): the old totals are not its own.
            self._mark_family(entry.pid)
            self._start_anew(entry)
            return
        if entry.totals is not None:
            self._show(entry)
            if before != -1:
                entry.moved_at = time.monotonic()
                self._lively[entry.pid] = entry
            if entry.live != entry.then:
                self._moved_now.add(entry.pid)
                self._read_soon(entry, 1)

    def _check_identity(self, entry: _Entry) -> None:
        """Start anew if another process has the number.

        statm of each process has its own inode, which also changes for the same process when the
        kernel was short of memory. Checking it costs 0.2 us, and reading stat 20.
        """
        pid, started = entry.pid, entry.row.start_time
        if started is not None:
            path = f"{self.procfs}/{pid}/stat"
            try:
                stat = parse_stat(self._source.read(f"{pid}/stat"), pid, path)
            except (OSError, Error) as error:
                if is_foreign(error):
                    raise
                return  # ended: the next sample says so
            if stat.start_time != started:
                self._drop(pid)
                self._add(pid)
                return
        self._statms.forget_inode(entry.slot)

    # ---- exclusion

    def _judge(self, credit: float | None) -> None:
        """Find the excluded processes; a function is asked only where its answer may differ."""
        exclude = self._exclude
        if not callable(exclude):
            self._exclude_numbers(exclude)
            return
        most = len(self._watched)
        if credit is not None:
            most = int(credit * _EXCLUDE_SHARE / _EXCLUDE_COST) + 1
        due = list(self._unjudged)[:most]
        # A process may change its command line without an exec.
        for pid in list(self._excluded)[: min(most, len(self._excluded) // _ASK_AGAIN + 1)]:
            self._excluded.move_to_end(pid)
            due.append(pid)
        if not due:
            return
        sweeper = Sweeper(self._source, texts=self._texts, limits=(None, None), until=None)
        try:
            for row in sweeper.seen(due):
                if row.outcome != "gone" and row.pid not in sweeper.exhausted:
                    self._exclude_or_not(self._watched[row.pid], row, exclude(row))
        finally:
            sweeper.close()

    def _exclude_numbers(self, exclude: Container[int]) -> None:
        candidates: Iterable[int] = self._watched
        if isinstance(exclude, set | frozenset | dict | list | tuple) and len(exclude) < len(
            self._watched
        ):
            candidates = [pid for pid in exclude if pid in self._watched]
        excluded = {pid for pid in candidates if pid in exclude}
        for pid in self._excluded.keys() - excluded:
            self._start_anew(self._watched[pid])
        for pid in excluded - self._excluded.keys():
            self._exclude_or_not(self._watched[pid], self._watched[pid].row, True)

    def _exclude_or_not(self, entry: _Entry, row: ProcessTotals, excluded: bool) -> None:
        pid = entry.pid
        self._unjudged.pop(pid, None)
        if excluded:
            self._queue.discard(pid)
            self._excluded.setdefault(pid)
            row = row.replace(outcome="skipped", error="excluded", totals=None)
            entry.row, entry.read_at = self._shared.fit(row), None
            self._show(entry)
        elif entry.read_at is None:
            self._excluded.pop(pid, None)
            self._queue.add_new(pid)

    # ---- rollups

    def _read_soon(self, entry: _Entry, times: int) -> None:
        if entry.pid in self._queue.all:
            entry.reads_due = max(entry.reads_due, times)
            self._queue.changed.setdefault(entry.pid)

    def _mark_family(self, pid: int) -> None:
        """Read soon who shares pages with a process since a fork.

        Its fork, exec, end and writes change their Pss, but not their Rss.
        """
        for relative in self._families.relatives(pid):
            entry = self._watched.get(relative)
            if entry is not None:
                self._read_soon(entry, _SURPRISE_READS)

    def _may_read(self, pid: int) -> bool:
        entry = self._watched[pid]
        if entry.read_at is None:
            return True
        return time.monotonic() >= entry.read_at + entry.cost / (self.budget * _ROLLUP_SHARE)

    def _read_some(self, sweeper: Sweeper, cpu: float, credit: float | None) -> None:
        """Read rollups until the credit is used up; CPU time since `cpu` counts against it."""
        now = time.monotonic()
        for pid in [pid for pid, entry in self._denied.items() if now >= entry.retry_at]:
            del self._denied[pid]
            self._queue.add_new(pid)
        largest = sorted(
            (pid for pid in self._moved_now if pid in self._watched),
            key=lambda pid: self._watched[pid].moved,
        )
        new: list[int] = []
        for pid in self._queue.pids(largest, self._may_read):
            before = time.thread_time()
            if credit is not None and before - cpu >= credit:
                break
            is_new = self._watched[pid].read_at is None
            self._read(sweeper, pid)
            entry = self._watched.get(pid)
            if entry is not None:
                entry.cost = time.thread_time() - before
                if is_new:
                    new.append(pid)
                    if credit is not None:
                        self._mark_family(pid)
                        # Young processes change and end sooner than others.
                        entry.moved_at = now
                        self._lively[pid] = entry
        self._share(sweeper, new)

    def _read(self, sweeper: Sweeper, pid: int, *, shared: bool = False) -> None:
        entry = self._watched[pid]
        # Read statm at the same moment: the rollup already includes growth since the sample.
        self._sample_slots(sweeper, (entry.slot,), _NEVER)
        if self._watched.get(pid) is not entry or pid in self._unjudged:
            return  # it has ended or called exec
        read = sweeper.read_one_shared if shared else sweeper.read_one
        row = read(pid)
        if pid in sweeper.exhausted and self._statms.give_up():
            row = read(pid)
        if pid in sweeper.exhausted:
            if entry.read_at is None:
                entry.row = row
                self._show(entry)
            return  # keep what was read before; the next sweep tries again
        if row.outcome == "gone":
            self._drop(pid)
            return
        if entry.row.start_time not in (None, row.start_time):
            # The pid was reused.
            self._drop(pid)
            self._add(pid)
            entry = self._watched[pid]
            self._sample_slots(sweeper, (entry.slot,), _NEVER)
            if self._watched.get(pid) is not entry:
                return
        self._take_over(entry, row)
        if callable(self._exclude) and self._exclude(row.replace(totals=None)):
            self._exclude_or_not(entry, row, True)  # it has changed its command line
        if self._shared.is_full:
            rows = self._shared.refit(entry.row for entry in self._watched.values())
            for entry, row in zip(self._watched.values(), rows, strict=True):
                entry.row = row
                self._show(entry)

    def _take_over(self, entry: _Entry, row: ProcessTotals) -> None:
        """Store a row that was just read, and decide when the process is read again."""
        pid = entry.pid
        old, moved, estimated = entry.totals, entry.live != entry.then, entry.pss
        entry.row, entry.read_at, entry.then = self._shared.fit(row), time.monotonic(), entry.live
        self._unjudged.pop(pid, None)
        self._show(entry)
        self._families.put(pid, member_of_row(row))
        if row.outcome == "denied":
            entry.put_off(entry.read_at)
            self._queue.discard(pid)
            self._denied[pid] = entry
            return
        if row.outcome == "kernel_thread":
            self._queue.discard(pid)
            return
        entry.reads_due = max(0, entry.reads_due - 1)
        if old is not None and row.totals is not None:
            tolerated = max(_SURPRISE_BYTES, entry.pss * _SURPRISE)
            if abs(entry.pss - estimated) > tolerated:
                entry.reads_due = _SURPRISE_READS
            elif moved and self._families.has(pid):
                entry.reads_due = max(entry.reads_due, 1)  # its writes do not change its Rss
        self._queue.put_back(pid, changed=entry.reads_due > 0)

    # ---- shared memory: see sharing.py

    def _forget_separated(self) -> None:
        """Treat a process that no longer shares its memory as a new one."""
        if self._sharing is None:
            self._sharing = Sharing(self._source)
        self._sharing.renew()
        for pid in list(self._linked):
            entry = self._watched[pid]
            other = self._watched.get(entry.row.shares_memory_with or 0)
            if other is None or other.row.totals is None or not self._is_shared(entry, other):
                self._start_anew(entry)

    def _is_shared(self, entry: _Entry, other: _Entry) -> bool:
        member, counted = member_of_row(entry.row), member_of_row(other.row)
        assert self._sharing is not None
        if member is None or counted is None:
            return False
        return self._sharing.still(member, counted)

    def _share(self, sweeper: Sweeper, new: Iterable[int]) -> None:
        """Decide which row counts memory that newly read processes share with others."""
        assert self._sharing is not None
        new = [pid for pid in new if pid in self._watched]
        members = []
        for pid in self._families.may_share(new):
            row = self._watched[pid].row
            member = member_of_row(row)
            if member is not None and (row.totals is not None or member.linked):
                members.append(member)
        if not members:
            return
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
                        self._count_in(entry, counted.pid)
        for member in found.values():
            if member.linked and member.pid not in settled:
                for pid in (member.ppid, member.pid):
                    if pid in found and pid in self._watched:
                        self._read(sweeper, pid, shared=True)
        self._unknown = self._sharing.unknown | {pid for pid in self._unknown if pid not in new}

    def _count_in(self, entry: _Entry, pid: int) -> None:
        entry.row = counted_in(entry.row, pid)
        self._linked.add(entry.pid)
        self._queue.discard(entry.pid)
        self._show(entry)

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
    age = max(0.0, now - read_at)
    if then == live:
        return aged(row, age)
    return row.replace(age=age, totals=estimate(row.totals, then, live), estimated=True)
