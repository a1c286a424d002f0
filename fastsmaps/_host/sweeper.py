"""Sweeper, the engine of scan() and Sampler: reads many processes, by the fast or slow path."""

from __future__ import annotations

import os
import time
from array import array

from fastsmaps import _backend
from fastsmaps._backend.descriptors import is_exhausted
from fastsmaps._errors import Error, is_foreign, outcome_of
from fastsmaps._host.rows import LARGE, OTHER, TIMED_OUT, Rows, why_outside
from fastsmaps._host.sharing import Sharing, in_order, member_of, related
from fastsmaps._host.workers import counted, spread
from fastsmaps._model.process_totals import ProcessTotals, counted_in
from fastsmaps._model.sharing import Member
from fastsmaps._source.chunks import CHUNK_SIZE, PAGE
from fastsmaps._source.process_dir import ProcessDir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Sequence
    from typing import Any

    from fastsmaps._backend import Sweep
    from fastsmaps._host.rows import Limits
    from fastsmaps._model.totals import Totals
    from fastsmaps._source.source import Source

# Processes in a backend call: many, so that the time between two calls does not matter, and fewer
# towards the end, so that workers finish together.
_MAX_BATCH = 64
_MIN_BATCH = 2
# Seconds until a backend call returns, so that signals are handled.
_TURN = 0.02
# With a timeout, larger processes are read in chunks: their rollup takes 3 to 4 ms.
_LARGE_BYTES = 256 << 20


def _batches(numbers: Sequence[int], workers: int) -> Iterator[memoryview]:
    pids = memoryview(array("i", numbers))
    at = 0
    while at < len(pids):
        size = max(_MIN_BATCH, min(_MAX_BATCH, (len(pids) - at) // (4 * workers)))
        yield pids[at : at + size]
        at += size


def files_of(*, cgroup: bool, cmdline: bool, exe: bool) -> tuple[str, ...]:
    """Return the files to read of each process, in addition to its totals."""
    return ("cgroup",) * bool(cgroup) + ("cmdline",) * bool(cmdline) + ("exe",) * bool(exe)


class Sweeper:
    """A running scan.

    The fast path is the backend, which reads processes in batches and leaves anything unusual to
    ProcessDir. The slow path is ProcessDir alone, one process after the other: for captures, and
    directories that the kernel did not mount.
    """

    def __init__(
        self,
        source: Source,
        *,
        texts: tuple[str, ...],
        limits: Limits,
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
        self.costs: list[float] = []  # CPU seconds of each thread; += would lose updates
        self.order: list[int] = []
        self.excluded = 0
        self._rows = Rows(source, texts, limits)
        self._single: Sweep | None = None  # for one process at a time
        #: Processes for which no descriptor was free, and whether they were large.
        self.exhausted: dict[int, bool] = {}
        self.sharing = Sharing(source)
        # None forbids the fast path. The directories of a capture do not have the owners of the
        # processes, and may contain links to anywhere.
        self._root = source.open_trusted()

    def close(self) -> None:
        """Close the directory; the rows stay."""
        root, self._root = self._root, None
        if root is not None:
            os.close(root)

    @property
    def root(self) -> int | None:
        """The open directory, if the fast path is taken."""
        return self._root

    @property
    def is_fast(self) -> bool:
        """Whether the fast path is taken."""
        return self._root is not None

    def _begin_sweep(self, rollups: bool = True) -> Sweep:
        min_rss, max_rss = self.limits
        timed = rollups and self.until is not None
        sweep = _backend.Sweep(
            self.texts,
            0 if min_rss is None else min(-(-max(min_rss, 0) // PAGE), 2**64 - 1),
            2**64 - 1 if max_rss is None else min(max(max_rss, 0) // PAGE, 2**64 - 1),
            _LARGE_BYTES // PAGE if timed else 2**64 - 1,
            timed or min_rss is not None or max_rss is not None,
            rollups,
            CHUNK_SIZE if self.mappings else 0,
            self.sharing.compares,
        )
        self._rows.add_sweep(sweep)
        return sweep

    @property
    def sharing_known(self) -> bool:
        """Whether all processes that may share memory could be compared."""
        return not self.sharing.unknown

    # ---- exclusion

    def without(
        self, exclude: Container[int] | Callable[[ProcessTotals], bool], numbers: list[int]
    ) -> list[int]:
        """Return the processes that are not excluded, and add rows for the others."""
        self.order = numbers
        if callable(exclude):
            rows = self._excluded(exclude, self.seen(numbers))
        else:
            rows = (ProcessTotals(pid, "skipped") for pid in numbers if pid in exclude)
        for row in rows:
            left_out = {"outcome": "skipped", "error": "excluded", "totals": None, "member": None}
            self._rows.add(row.replace(**left_out))
        remaining = [pid for pid in numbers if pid not in self._rows]
        self.excluded = len(numbers) - len(remaining)
        return remaining

    def seen(self, numbers: list[int]) -> Iterable[ProcessTotals]:
        """Return rows without totals; reads no memory."""
        if not self.is_fast:
            return (self._by_process(pid, with_totals=False) for pid in numbers)
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
                break  # the remaining processes are not read either
            if exclude(row):
                yield row

    # ---- reading

    def run(self, numbers: Sequence[int], workers: int, rollups: bool = True) -> None:
        """Read all processes, using `workers` threads including the caller's.

        Without the fast path, one thread reads.
        """
        self.order = self.order or list(numbers)
        if not self.is_fast:
            self._take_slowly(numbers)
            return
        workers = max(1, min(workers, len(numbers)))
        spread(_batches(numbers, workers), workers, lambda batches: self._work(batches, rollups))
        if workers > 1:
            self._work_again(rollups)

    def _work_again(self, rollups: bool) -> None:
        """Read processes for which no descriptor was free: other threads have closed theirs."""
        cpu = time.thread_time()
        for pid, large in list(self.exhausted.items()):
            if self._over():
                break
            self._rows.add(self._by_process(pid, large=large, with_totals=rollups))
        self.costs.append(time.thread_time() - cpu)

    def _work(self, batches: Iterable[memoryview], rollups: bool) -> None:
        cpu = time.thread_time()
        sweep = self._begin_sweep(rollups)
        for batch in batches:
            at = 0
            while at < len(batch) and not self._over():
                at += self._take(sweep, batch[at:], rollups)
                if self.progress is not None:
                    self.progress(self._rows.count_swept(), len(self.order) - self.excluded)
        self.costs.append(time.thread_time() - cpu)

    def _over(self) -> bool:
        return self.until is not None and time.monotonic() >= self.until

    def _take(self, sweep: Sweep, pids: memoryview, rollups: bool) -> int:
        assert self._root is not None
        before = len(sweep)
        taken = sweep.take(self._root, pids, self._turn())
        for i, outcome in enumerate(sweep.outcomes(before), before):
            if outcome in (LARGE, OTHER):
                pid = sweep.row(i)[0]
                self._rows.add(self._by_process(pid, large=outcome == LARGE, with_totals=rollups))
        return taken

    def _turn(self) -> float:
        return _TURN if self.until is None else min(_TURN, self.until - time.monotonic())

    def _take_slowly(self, numbers: Sequence[int]) -> None:
        """Read processes one after the other: the slow path."""
        cpu = time.thread_time()
        for pid in counted(numbers, self.progress):
            if self._over():
                break
            self._rows.add(self._slow_row(pid))
        self.costs.append(time.thread_time() - cpu)

    def _slow_row(self, pid: int) -> ProcessTotals:
        return self.source.metadata.complete(self._by_process(pid))

    def _by_process(
        self, pid: int, *, large: bool = False, with_totals: bool = True, shared: bool = False
    ) -> ProcessTotals:
        """Read a row with ProcessDir, which classifies every failure.

        `shared` reads it even if it has its parent's memory.
        """
        facts: dict[str, Any] = {}
        self.exhausted.pop(pid, None)
        try:
            with ProcessDir(self.source, pid) as process:
                facts = process.facts(self.texts)
                facts["member"] = member = member_of(process)
                if not with_totals:
                    if member is not None:
                        member.read = True  # nothing says otherwise yet
                    return ProcessTotals(pid, "skipped", **facts)
                if not self.is_fast or not large:
                    resident = process.resident() if self.limits != (None, None) else None
                    if resident is not None and not self._within(resident):
                        if self.mappings and resident >= (self.limits[0] or 0):
                            facts["mappings"] = process.with_mapping_count(_nothing, self.until)[1]
                        facts["error"] = why_outside(self.limits, resident)
                        return ProcessTotals(pid, "skipped", **facts)
                if member is not None and member.forked and not shared:
                    answer = self.sharing.same(member, member.ppid)
                    member.linked, member.apart = answer is True, answer is False
                    if answer:
                        return counted_in(ProcessTotals(pid, "skipped", **facts), member.ppid)
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
            return ProcessTotals(pid, "skipped", **{**facts, "error": TIMED_OUT})
        except Error as error:
            if is_exhausted(error):
                self.exhausted[pid] = large
            return ProcessTotals(pid, outcome_of(error), **{**facts, "error": str(error)})

    def _within(self, resident: int) -> bool:
        min_rss, max_rss = self.limits
        return (min_rss is None or resident >= min_rss) and (max_rss is None or resident <= max_rss)

    def read_one_shared(self, pid: int) -> ProcessTotals:
        """Read one process now, even if it has its parent's memory."""
        return self._by_process(pid, shared=True)

    def read_one(self, pid: int) -> ProcessTotals:
        """Read one process now."""
        if not self.is_fast:
            return self._slow_row(pid)
        if self._single is None:
            self._single = self._begin_sweep()
        self._take(self._single, memoryview(array("i", [pid])), True)
        return self._rows.take_last(self._single, pid)

    # ---- shared memory

    def settle(self) -> None:
        """Leave out processes that share the memory of another one that was read.

        Also reads those that the backend left for now: see sharing.py.
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
                    self._rows.add(counted_in(self._rows.get(member.pid), counted.pid))
        for member in members.values():
            if member.linked and member.pid not in settled:
                # The child or its parent has called exec: one of them is another program now.
                parent = members.get(member.ppid)
                if parent is not None and parent.read:
                    self._read_again(parent.pid)
                self._read_again(member.pid)
        self.costs.append(time.thread_time() - cpu)

    def _read_one_of(self, members: Iterable[Member]) -> Member | None:
        for member in members:
            self._read_again(member.pid)
            if self._rows.get(member.pid).outcome == "read":
                return member
        return None

    def _read_again(self, pid: int) -> None:
        if self._over():
            self._rows.add(ProcessTotals(pid, "skipped", error=TIMED_OUT))
        else:
            self._rows.add(self._by_process(pid, large=self.until is not None, shared=True))

    def members(self) -> list[Member]:
        """Return all processes that may share memory: see Rows.members()."""
        return self._rows.members()

    def rows(self) -> list[ProcessTotals]:
        """Return all rows, in the order asked for."""
        return self._rows.all(self.order)


def _nothing() -> None:
    """Read no totals: only the mappings are counted."""
