"""Sampled: what a Sampler knows of each process, and the work of a sweep."""

from __future__ import annotations

import errno
import time
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Sequence

from fastsmaps._backend.descriptors import is_exhausted
from fastsmaps._errors import Error, is_foreign
from fastsmaps._host.estimate import estimate, estimate_pss
from fastsmaps._host.families import Families
from fastsmaps._host.listing import Listing
from fastsmaps._host.rollup_queue import RollupQueue
from fastsmaps._host.sharing import Sharing, in_order, related
from fastsmaps._host.statm_table import MOVED, OTHER_INODE, StatmTable
from fastsmaps._host.statm_turns import StatmTurns
from fastsmaps._host.sweeper import Sweeper
from fastsmaps._host.texts import Shared
from fastsmaps._model.process_totals import ProcessTotals, aged, counted_in, member_of_row
from fastsmaps._model.stat import parse_stat
from fastsmaps._source.chunks import PAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    from fastsmaps._model.sharing import Member
    from fastsmaps._model.totals import Totals
    from fastsmaps._source.source import Source

    T = TypeVar("T")
    # What a row is made of: the row, when its totals were read, and statm then and now.
    Seen = tuple[ProcessTotals, float | None, tuple[int, int], tuple[int, int]]

_EXHAUSTED = (-errno.EMFILE, -errno.ENFILE)  # no descriptor is left
_NEVER = float("inf")
# Such a change of the host's memory is a drift: this part of it, and so many bytes.
_DRIFT = 1 / 1024
_DRIFT_BYTES = 4 << 20
# The part of the credit for asking a function whether it excludes a process, and how long one
# answer takes.
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
# Seconds until a denied process is tried again. An exec is seen when its statm is.
_MIN_PAUSE = 60.0
_MAX_PAUSE = 900.0


class _Entry:
    """The state of a process between two sweeps."""

    __slots__ = (
        "cost", "live", "pause", "pid", "pss", "read_at", "reads_due", "retry_at", "row", "slot",
        "text", "then",
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


_NOT_YET = "not read yet: the budget did not allow it"


class Sampled:
    """All processes of a procfs, and the rows that the next Scan shows.

    ``seen`` has what each row is made of, by pid, ``host_pss`` the kernel's sum at the last sweep.
    """

    def __init__(
        self,
        source: Source,
        *,
        texts: tuple[str, ...],
        mappings: bool,
        max_rss: int | None,
        exclude: Container[int] | Callable[[ProcessTotals], bool],
    ) -> None:
        self._source = source
        self._texts = texts
        self._mappings = mappings
        self._max_rss = max_rss
        self._exclude = exclude
        self.seen: dict[int, Seen] = {}
        self.host_pss: int | None = None
        self.hidden_by: str | None = None  # at the first sweep
        #: CPU seconds of a sweep that samples nothing, smoothed.
        self.fixed_cost = 0.0001
        self.listing = Listing()
        self.statms = StatmTable()
        self.turns = StatmTurns()
        self.queue = RollupQueue()
        self._watched: dict[int, _Entry] = {}
        self._families = Families()
        self._shared = Shared()  # the texts of all rows
        self._moved_now: set[int] = set()  # in this sweep
        self._denied: dict[int, _Entry] = {}
        self._excluded: OrderedDict[int, None] = OrderedDict()
        self._unjudged: dict[int, None] = {}  # the function was not asked yet
        self._linked: set[int] = set()  # their memory is counted in another row
        self._sharing: Sharing | None = None
        self._unknown: set[int] = set()
        self._budget = 1.0
        self._pss = 0  # the sum of all estimates
        self._unseen = 0  # host_pss less the sum, when a round of all statm began

    def __len__(self) -> int:
        """Return the number of processes."""
        return len(self._watched)

    def close(self) -> None:
        """Close all descriptors, and forget all processes."""
        self.statms.close()
        self._watched.clear()

    @property
    def sharing_known(self) -> bool:
        """Whether all processes that may share memory could be compared."""
        return self._watched.keys().isdisjoint(self._unknown)

    def sweep(self, source: Source, budget: float, cpu: float, credit: float | None) -> None:
        """List, sample and read; the credit counts from thread_time() `cpu`, None if endless."""
        self._source, self._budget = source, budget
        self.statms.fit()
        if credit is None:
            self.hidden_by = self._source.hidden_by()
        sweeper = self._with_descriptors(self._sweeper)
        try:
            try:
                self._with_descriptors(lambda: self._list(sweeper))
            except (Error, OSError) as error:
                if credit is None or not is_exhausted(error):
                    raise  # otherwise keep what was read before; the next sweep tries again
            self.host_pss = self._source.host_pss()
            if credit is not None:
                fixed = time.thread_time() - cpu - self.listing.last_cost
                self.fixed_cost += (fixed - self.fixed_cost) / 8
            self._moved_now.clear()
            self._sample(sweeper, credit)
            self._forget_separated()
            self._with_descriptors(lambda: self._judge(credit))
            self._read_some(sweeper, cpu, credit)
            if credit is None:
                self._begin_round()
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
            if not self.statms.give_up(error):
                raise
        return action()

    # ---- which processes there are

    def _list(self, sweeper: Sweeper) -> None:
        pids, all_listed = self.listing.update(
            self._source, sweeper.root, sweeper.sharing.compares, self._budget
        )
        if all_listed:
            for pid in self._watched.keys() - set(pids):
                self._drop(pid)
        for pid in pids:
            if pid not in self._watched:
                self._add(pid)

    def _add(self, pid: int) -> None:
        entry = self._watched[pid] = _Entry(pid, self.statms.add(pid))
        self._start_anew(entry)

    def _start_anew(self, entry: _Entry) -> None:
        """Drop the totals, so that the process is read as a new one."""
        pid = entry.pid
        entry.row, entry.read_at = ProcessTotals(pid, "skipped", error=_NOT_YET), None
        self._excluded.pop(pid, None)
        self._denied.pop(pid, None)
        self._linked.discard(pid)
        self.turns.lively.pop(entry.slot, None)
        self._families.remove(pid)
        if callable(self._exclude):
            self.queue.discard(pid)
            self._unjudged[pid] = None
        else:
            self.queue.add_new(pid)
        self._show(entry)

    def _drop(self, pid: int) -> None:
        self._mark_family(pid)
        entry = self._watched.pop(pid)
        self.statms.remove(entry.slot)
        self._pss -= entry.pss
        self.seen.pop(pid, None)
        self.queue.discard(pid)
        self._families.remove(pid)
        self.turns.lively.pop(entry.slot, None)
        for pids in (self._denied, self._excluded, self._unjudged):
            pids.pop(pid, None)
        self._linked.discard(pid)

    def _show(self, entry: _Entry) -> None:
        """Let the next Scan have the row as it is now."""
        self.seen[entry.pid] = entry.row, entry.read_at, entry.then, entry.live
        totals = entry.totals
        pss = 0 if totals is None else estimate_pss(totals.by_label, entry.then, entry.live)
        self._pss += pss - entry.pss
        entry.pss = pss

    # ---- statm

    def _sample(self, sweeper: Sweeper, credit: float | None) -> None:
        """Sample those that moved lately, and some of the others in turn; all without a credit."""
        if credit is None:
            # Half of the descriptors stay free for those that will move.
            self._sample_slots(sweeper, range(len(self.statms)), _NEVER, 1 / 2)
            return

        def sample(slots: Sequence[int], seconds: float, keep: float) -> int:
            return self._sample_slots(sweeper, slots, seconds, keep)

        if self.turns.sample(sample, credit, self._has_drifted()):
            self._begin_round()

    def _begin_round(self) -> None:
        """Begin a new round, and remember what part of the host's memory is in no estimate."""
        self._unseen = (self.host_pss or 0) - self._pss
        self.turns.begin(((e.slot, e.pss) for e in self._watched.values()), self._pss)

    def _has_drifted(self) -> bool:
        """Whether the host's memory moved otherwise than the processes that were sampled."""
        if self.host_pss is None:
            return True
        drift = abs(self.host_pss - self._pss - self._unseen)
        return drift > max(self.host_pss * _DRIFT, _DRIFT_BYTES)

    def _sample_slots(
        self, sweeper: Sweeper, slots: Sequence[int], seconds: float, keep: float = 1.0
    ) -> int:
        """Sample these, and return how many the time was enough for; see StatmTable.sample()."""
        done, events = self.statms.sample(self._source, sweeper.root, slots, seconds, keep)
        exhausted = []
        for slot, what in events:
            entry = self._watched[self.statms.pid(slot)]
            if what == MOVED:
                self._record(entry)
            elif what == OTHER_INODE:
                self._check_identity(entry)
            elif what == -errno.ESRCH or (what == -errno.ENOENT and not self._source.is_capture):
                # smem's captures have no statm. Another failure (EPERM with hidepid=1, damage)
                # keeps what was read before.
                self._drop(entry.pid)
                self.listing.list_soon()  # its number may be in use again
            elif what in _EXHAUSTED:
                exhausted.append(slot)
        if exhausted and self.statms.give_up():
            self._sample_slots(sweeper, exhausted, seconds, keep)
        return done

    def _record(self, entry: _Entry) -> None:
        """Take over the values of statm, which have changed."""
        resident, shared, text = self.statms.pages(entry.slot)
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
                self.turns.lively[entry.slot] = time.monotonic()
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
            path = f"{self._source.path}/{pid}/stat"
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
        self.statms.forget_inode(entry.slot)

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
                if row.outcome == "gone":
                    self._drop(row.pid)
                elif row.pid not in sweeper.exhausted:
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
            self.queue.discard(pid)
            self._denied.pop(pid, None)
            self._excluded.setdefault(pid)
            row = row.replace(outcome="skipped", error="excluded", totals=None)
            entry.row, entry.read_at = self._shared.fit(row), None
            self._show(entry)
        elif entry.read_at is None:
            self._excluded.pop(pid, None)
            self.queue.add_new(pid)

    # ---- rollups

    def _read_soon(self, entry: _Entry, times: int) -> None:
        if entry.pid in self.queue.all:
            entry.reads_due = max(entry.reads_due, times)
            self.queue.changed.setdefault(entry.pid)

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
        return time.monotonic() >= entry.read_at + entry.cost / (self._budget * _ROLLUP_SHARE)

    def _read_some(self, sweeper: Sweeper, cpu: float, credit: float | None) -> None:
        """Read rollups until the credit is used up; CPU time since `cpu` counts against it."""
        now = time.monotonic()
        for pid in [pid for pid, entry in self._denied.items() if now >= entry.retry_at]:
            del self._denied[pid]
            self.queue.add_new(pid)
        largest = sorted(
            (pid for pid in self._moved_now if pid in self._watched),
            key=lambda pid: self._watched[pid].moved,
        )
        new: list[int] = []
        for pid in self.queue.pids(largest, self._may_read):
            before = time.thread_time()
            if credit is not None and before - cpu >= credit:
                break
            is_new = self._watched[pid].read_at is None
            self._read(sweeper, pid)
            entry = self._watched.get(pid)
            if entry is not None:
                entry.cost = time.thread_time() - before
                if is_new or entry.row.shares_memory_with is not None:
                    new.append(pid)
                if is_new and credit is not None:
                    self._mark_family(pid)
                    # Young processes change and end sooner than others.
                    self.turns.lively[entry.slot] = now
        self._share(sweeper, new)

    def _read(self, sweeper: Sweeper, pid: int, *, shared: bool = False) -> None:
        entry = self._watched[pid]
        # Read statm at the same moment: the rollup already includes growth since the sample.
        self._sample_slots(sweeper, (entry.slot,), _NEVER)
        if self._watched.get(pid) is not entry or pid in self._unjudged:
            return  # it has ended or called exec
        read = sweeper.read_one_shared if shared else sweeper.read_one
        row = read(pid)
        if pid in sweeper.exhausted and self.statms.give_up():
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
            self.queue.discard(pid)
            self._denied[pid] = entry
            return
        if row.outcome == "kernel_thread":
            self.queue.discard(pid)
            return
        entry.reads_due = max(0, entry.reads_due - 1)
        if old is not None and row.totals is not None:
            tolerated = max(_SURPRISE_BYTES, entry.pss * _SURPRISE)
            if abs(entry.pss - estimated) > tolerated:
                entry.reads_due = _SURPRISE_READS
            elif moved and self._families.has(pid):
                entry.reads_due = max(entry.reads_due, 1)  # its writes do not change its Rss
        self.queue.put_back(pid, changed=entry.reads_due > 0)

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
        self.queue.discard(entry.pid)
        self._show(entry)

    def _first_read(self, sweeper: Sweeper, members: list[Member]) -> Member | None:
        for member in members:
            if member.pid in self._watched:
                self._read(sweeper, member.pid, shared=True)
            entry = self._watched.get(member.pid)
            if entry is not None and entry.row.totals is not None:
                return member
        return None


def row_of(
    row: ProcessTotals,
    read_at: float | None,
    then: tuple[int, int],
    live: tuple[int, int],
    now: float,
) -> ProcessTotals:
    """Return the row of a Scan made at `now`, with its age, scaled if the process changed since."""
    if read_at is None or row.totals is None:
        return row
    age = max(0.0, now - read_at)
    if then == live:
        return aged(row, age)
    return row.replace(age=age, totals=estimate(row.totals, then, live), estimated=True)
