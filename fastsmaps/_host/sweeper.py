"""One scan under way: processes in batches, over threads, and the rows that come of it."""

from __future__ import annotations

import errno
import os
import time
from _thread import allocate_lock
from array import array

from fastsmaps import _backend
from fastsmaps._backend.descriptors import is_exhausted
from fastsmaps._errors import Error, NoMemoryMap, is_foreign, outcome_of
from fastsmaps._host.sharing import Sharing, in_order, member_of, related, swept_member
from fastsmaps._host.texts import Shared
from fastsmaps._host.workers import counted, spread
from fastsmaps._model.processes import ProcessTotals
from fastsmaps._model.rollups import Rollups
from fastsmaps._model.sharing import Member
from fastsmaps._model.stat import TICKS, texts_of
from fastsmaps._source.chunks import CHUNK_SIZE, PAGE
from fastsmaps._source.process_dir import ProcessDir
from fastsmaps._source.rights import own_rights

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Sequence
    from typing import Any

    from fastsmaps._backend import Sweep, SweepRow
    from fastsmaps._model.totals import Totals
    from fastsmaps._source.rights import Rights
    from fastsmaps._source.source import Source

# What the backends' Sweep says of a row.
SWEEP_OUTCOMES = (
    "read",
    "denied",
    "kernel_thread",
    "zombie",
    "outside",
    "large",
    "other",
    "shared",
)
_DENIED, _OUTSIDE, _LARGE, _OTHER, _SHARED = map(
    SWEEP_OUTCOMES.index, ("denied", "outside", "large", "other", "shared")
)
_READ = 0

# Processes a backend call: many, so that what is between two calls costs nothing, and fewer
# towards the end, so that workers end together.
_MOST_BATCH = 64
_LEAST_BATCH = 2
# Back in the interpreter after this, so that signals are served.
_TURN = 0.02
# Under a timeout larger processes than this are read in chunks: their rollup takes 3 to 4 ms.
_LARGE_BYTES = 256 << 20


def _batches(numbers: Sequence[int], workers: int) -> Iterator[memoryview]:
    every = memoryview(array("i", numbers))
    at = 0
    while at < len(every):
        size = max(_LEAST_BATCH, min(_MOST_BATCH, (len(every) - at) // (4 * workers)))
        yield every[at : at + size]
        at += size


def files_of(*, cgroup: bool, cmdline: bool, exe: bool) -> tuple[str, ...]:
    """The files to read of each process besides its figures."""
    return ("cgroup",) * cgroup + ("cmdline",) * cmdline + ("exe",) * exe


class Sweeper:
    """One scan under way: what it was told, and what it found."""

    def __init__(
        self,
        source: Source,
        *,
        texts: tuple[str, ...],
        limits: tuple[int | None, int | None],
        until: float | None,
        mappings: bool = False,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        self.source = source
        self.texts = texts
        self.limits = limits
        self.until = until
        self.mappings = mappings
        self.progress = progress
        self.costs: list[float] = []  # processor seconds, one of each thread: += would lose some
        self.order: list[int] = []
        self.excluded = 0
        self.sweeps: list[Sweep] = []
        self.known: dict[int, ProcessTotals] = {}  # rows that no sweep made
        self._shared = Shared()  # their texts
        self._lock = allocate_lock()  # for these two
        #: Processes that no descriptor was left for, and whether they were large.
        self.exhausted: dict[int, bool] = {}
        self._rights: Rights | None = None  # asked once: thousands may be denied
        self.sharing = Sharing(source)
        # None: the fast path may not be taken. A capture's directories have no owners to go by,
        # and may lead anywhere: processes are read one after the other by `Process`.
        self._root = source.open_trusted()

    def close(self) -> None:
        root, self._root = self._root, None
        if root is not None:
            os.close(root)

    @property
    def is_fast(self) -> bool:
        """Whether the backend reads the processes, and `Process` only those that fail."""
        return self._root is not None

    def _sweep(self, rollups: bool = True) -> Sweep:
        least, most = self.limits
        timed = rollups and self.until is not None
        return _backend.Sweep(
            self.texts,
            0 if least is None else min(-(-max(least, 0) // PAGE), 2**64 - 1),
            2**64 - 1 if most is None else min(max(most, 0) // PAGE, 2**64 - 1),
            _LARGE_BYTES // PAGE if timed else 2**64 - 1,
            timed or least is not None or most is not None,
            rollups,
            CHUNK_SIZE if self.mappings else 0,
            self.sharing.compares,
        )

    @property
    def sharing_known(self) -> bool:
        """Whether all that may have memory in common could be compared."""
        return not self.sharing.unknown

    # ---- what is left out

    def without(
        self, exclude: Container[int] | Callable[[ProcessTotals], bool], numbers: list[int]
    ) -> list[int]:
        """The processes that are not excluded; the others' rows are made."""
        self.order = numbers
        if callable(exclude):
            rows = self._excluded(exclude, self.seen(numbers))
        else:
            rows = (ProcessTotals(pid, "skipped") for pid in numbers if pid in exclude)
        for row in rows:
            left_out = {"outcome": "skipped", "error": "excluded", "totals": None, "member": None}
            self._know(row.replace(**left_out))
        self.excluded = len(self.known)
        return [pid for pid in numbers if pid not in self.known]

    def seen(self, numbers: list[int]) -> Iterable[ProcessTotals]:
        """Rows without figures: no memory is read for them."""
        if not self.is_fast:
            return (self._by_process(pid, figures=False) for pid in numbers)
        first = Sweeper(self.source, texts=self.texts, limits=(None, None), until=self.until)
        first.sharing.compares = False
        try:
            first.run(numbers, 1, rollups=False)
        finally:
            first.close()
        self.exhausted |= first.exhausted
        self.costs += first.costs
        return first.rows()

    def _excluded(
        self, exclude: Callable[[ProcessTotals], bool], seen: Iterable[ProcessTotals]
    ) -> Iterator[ProcessTotals]:
        for row in seen:
            if self._over():
                break  # what is left is not read either
            if exclude(row):
                yield row

    # ---- reading

    def run(self, numbers: Sequence[int], workers: int, rollups: bool = True) -> None:
        """Read all processes, using `workers` threads including the caller's.

        Without the fast path, one thread reads.
        """
        self.order = self.order or list(numbers)
        if not self.is_fast:
            self._replay(numbers)
            return
        workers = max(1, min(workers, len(numbers)))
        spread(_batches(numbers, workers), workers, lambda some: self._work(some, rollups))
        if workers > 1:
            self._work_again(rollups)

    def _work_again(self, rollups: bool) -> None:
        """Reads what no descriptor was left for: each of the threads had some, which are free."""
        cpu = time.thread_time()
        for pid, large in list(self.exhausted.items()):
            if self._over():
                break
            self._know(self._by_process(pid, large=large, figures=rollups))
        self.costs.append(time.thread_time() - cpu)

    def _work(self, batches: Iterable[memoryview], rollups: bool) -> None:
        cpu = time.thread_time()
        sweep = self._sweep(rollups)
        self.sweeps.append(sweep)
        for batch in batches:
            at = 0
            while at < len(batch) and not self._over():
                at += self._take(sweep, batch[at:], rollups)
                if self.progress is not None:
                    self.progress(sum(map(len, self.sweeps)), len(self.order) - self.excluded)
        self.costs.append(time.thread_time() - cpu)

    def _over(self) -> bool:
        return self.until is not None and time.monotonic() >= self.until

    def _take(self, sweep: Sweep, pids: memoryview, rollups: bool) -> int:
        assert self._root is not None
        before = len(sweep)
        taken = sweep.take(self._root, pids, self._turn())
        for i, outcome in enumerate(sweep.outcomes(before), before):
            if outcome in (_LARGE, _OTHER):
                pid = sweep.row(i)[0]
                self._know(self._by_process(pid, large=outcome == _LARGE, figures=rollups))
        return taken

    def _know(self, row: ProcessTotals) -> None:
        with self._lock:
            self.known[row.pid] = self._shared.fit(row)
            if self._shared.is_full:
                for one in self._shared.refit(self.known.values()):
                    self.known[one.pid] = one

    def _turn(self) -> float:
        return _TURN if self.until is None else min(_TURN, self.until - time.monotonic())

    def _replay(self, numbers: Sequence[int]) -> None:
        """Read processes one after the other by `Process`."""
        cpu = time.thread_time()
        for pid in counted(numbers, self.progress):
            if self._over():
                break
            self._know(self._replayed(pid))
        self.costs.append(time.thread_time() - cpu)

    def _replayed(self, pid: int) -> ProcessTotals:
        return self.source.metadata.complete(self._by_process(pid))

    def _by_process(
        self, pid: int, *, large: bool = False, figures: bool = True, shared: bool = False
    ) -> ProcessTotals:
        """Read a row with Process, which classifies every failure.

        With `shared` it is read also where it has its parent's memory.
        """
        facts: dict[str, Any] = {}
        self.exhausted.pop(pid, None)
        try:
            with ProcessDir(self.source, pid) as process:
                facts = process.facts(self.texts)
                facts["member"] = member = member_of(process)
                if not figures:
                    if member is not None:
                        member.read = True  # as far as is known
                    return ProcessTotals(pid, "skipped", **facts)
                if not self.is_fast or not large:
                    resident = process.resident() if self.limits != (None, None) else None
                    if resident is not None and not self._within(resident):
                        if self.mappings and resident >= (self.limits[0] or 0):
                            facts["mappings"] = process.with_mapping_count(_nothing, self.until)[1]
                        facts["error"] = self._why_outside(resident)
                        return ProcessTotals(pid, "skipped", **facts)
                if member is not None and member.forked and not shared:
                    answer = self.sharing.same(member, member.ppid)
                    member.linked, member.apart = answer is True, answer is False
                    if answer:
                        return ProcessTotals(pid, "skipped", **facts).counted_in(member.ppid)
                until = self.until if large else None

                def take() -> Totals:
                    return process.totals() if until is None else process.totals_until(until)

                if self.mappings:
                    totals, facts["mappings"] = process.with_mapping_count(take, self.until)
                else:
                    totals = take()
            if member is not None:
                member.read = True
            return ProcessTotals(pid, "read", totals=totals, **facts)
        except TimeoutError as error:
            if is_foreign(error):
                raise
            return ProcessTotals(pid, "skipped", **{**facts, "error": _TIME_OVER})
        except Error as error:
            if is_exhausted(error):
                self.exhausted[pid] = large
            return ProcessTotals(pid, outcome_of(error), **{**facts, "error": str(error)})

    def _within(self, resident: int) -> bool:
        least, most = self.limits
        return (least is None or resident >= least) and (most is None or resident <= most)

    def _why_outside(self, resident: int) -> str:
        least, most = self.limits
        if least is not None and resident < least:
            return f"its Rss of {resident} bytes is below min_rss={least}"
        return f"its Rss of {resident} bytes is above max_rss={most}"

    def one_uncompared(self, pid: int) -> ProcessTotals:
        """One process now, also where it has its parent's memory."""
        return self._by_process(pid, shared=True)

    def one(self, pid: int) -> ProcessTotals:
        """One process now, by the sweep at hand."""
        if not self.is_fast:
            return self._replayed(pid)
        if not self.sweeps:
            self.sweeps.append(self._sweep())
        sweep = self.sweeps[0]
        self._take(sweep, memoryview(array("i", [pid])), True)
        if pid in self.known:
            return self.known.pop(pid)
        found = sweep.row(len(sweep) - 1)
        row = self._row(found, Rollups(sweep.table), Shared())
        # The totals are made now: whoever keeps the row should not keep the table for it.
        member = None
        if found[5] is not None:
            _, ppid, _, start, forked, stack, apart = found[5]
            read, linked = row.outcome == "read", row.shares_memory_with is not None
            member = Member(pid, ppid, start / TICKS, forked, stack, read, apart, linked=linked)
        return row.replace(totals=row.totals, member=member)

    # ---- memory that several have in common

    def settle(self) -> None:
        """Leaves out what has its memory in common with another one that was read.

        Also reads what the backend left for this moment: see sharing.py.
        """
        cpu = time.thread_time()
        members = related(self.members())
        groups = self.sharing.groups(members.values())
        settled = set()
        for group in groups:
            order = in_order(group)
            counted = next((m for m in order if m.read), None) or self._read_one_of(order)
            for member in order:
                settled.add(member.pid)
                if counted is not None and member is not counted:
                    self._know(self._row_of(member.pid).counted_in(counted.pid))
        for member in members.values():
            if member.linked and member.pid not in settled:
                # It has left its parent, or the parent it: one of them is another program now.
                parent = members.get(member.ppid)
                if parent is not None and parent.read:
                    self._read_again(parent.pid)
                self._read_again(member.pid)
        self.costs.append(time.thread_time() - cpu)

    def _any_forked(self) -> bool:
        if any(sweep.forked for sweep in self.sweeps):
            return True
        return any(row.member is not None and row.member.forked for row in self.known.values())

    def _read_one_of(self, members: Iterable[Member]) -> Member | None:
        for member in members:
            self._read_again(member.pid)
            if self.known[member.pid].outcome == "read":
                return member
        return None

    def _read_again(self, pid: int) -> None:
        if self._over():
            self._know(ProcessTotals(pid, "skipped", error=_TIME_OVER))
        else:
            self._know(self._by_process(pid, large=self.until is not None, shared=True))

    def members(self) -> list[Member]:
        """All that have memory; none where each has its own, as none was forked without an exec."""
        if not self._any_forked():
            return []
        members = [
            swept_member(row)
            for sweep in self.sweeps
            for row in sweep.members()
            if row[1] not in self.known
        ]
        members += [
            row.member
            for row in self.known.values()
            if row.member is not None and (row.member.read or row.member.linked)
        ]
        return members

    def _row_of(self, pid: int) -> ProcessTotals:
        """One row before all are made, which is rare."""
        if pid not in self.known:
            for sweep in self.sweeps:
                for place, number, *_ in sweep.members():
                    if number == pid:
                        return self._row(sweep.row(place), Rollups(sweep.table), Shared())
        return self.known[pid]

    # ---- rows

    def rows(self) -> list[ProcessTotals]:
        """All rows, in the order asked for."""
        found = dict(self.known)
        shared = Shared()
        for sweep in self.sweeps:
            rollups = Rollups(sweep.table)
            for row in map(sweep.row, range(len(sweep))):
                if row[0] not in found:
                    found[row[0]] = self._row(row, rollups, shared)
        return [
            found.get(pid) or ProcessTotals(pid, "skipped", error=_TIME_OVER) for pid in self.order
        ]

    def _row(self, found: SweepRow, rollups: Rollups, shared: Shared) -> ProcessTotals:
        pid, outcome, record, resident, texts, who, mappings = found
        facts: dict[str, Any] = {"mappings": mappings}
        if who is not None:
            comm, ppid, uid, start, *_ = who
            facts |= {
                "comm": os.fsdecode(comm),
                "ppid": ppid,
                "uid": uid,
                "start_time": start / TICKS,
            }
        if self.texts:
            files = dict(zip(self.texts, texts, strict=True))
            facts |= texts_of(files, pid, f"{self.source.path}/{pid}")
            facts["cmdline"] = shared.text(facts.get("cmdline"))
            facts["cgroup"] = shared.path(facts.get("cgroup"))
            facts["exe"] = shared.path(facts.get("exe"))
        if outcome == _READ:
            if record is None:
                return ProcessTotals(pid, "skipped", **facts)
            return ProcessTotals(pid, "read", totals=(rollups, record), **facts)
        if outcome == _SHARED:
            return ProcessTotals(pid, "skipped", **facts).counted_in(facts["ppid"])
        if outcome == _OUTSIDE:
            facts["error"] = self._why_outside(resident * PAGE)
            return ProcessTotals(pid, "skipped", **facts)
        path = f"{self.source.path}/{pid}/smaps_rollup"
        error: Error
        if outcome == _DENIED:
            # Everybody may read stat, unless the mount forbids it (hidepid=1, EPERM).
            number = errno.EPERM if who is None else errno.EACCES
            self._rights = self._rights or own_rights()
            refusal = PermissionError(number, "")
            error = self.source.denied(refusal, pid, path, self._rights)
        else:
            error = NoMemoryMap(SWEEP_OUTCOMES[outcome].replace("_", " "), pid=pid, path=path)
        return ProcessTotals(pid, outcome_of(error), **{**facts, "error": str(error)})


def _nothing() -> None:
    """For a count of mappings alone."""


_TIME_OVER = "the time was over before it was read"
