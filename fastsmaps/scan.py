"""scan(): one sweep over many processes."""

from __future__ import annotations

import errno
import os
import time
from array import array

from fastsmaps import _backend
from fastsmaps import openat as _openat
from fastsmaps import procfs as _procfs
from fastsmaps.errors import AccessDenied, Error, NoMemoryMap, ProcessGone
from fastsmaps.notes import as_noted, noted
from fastsmaps.openat import OPEN
from fastsmaps.process import Process
from fastsmaps.processes import Cost, ProcessTotals, Scan
from fastsmaps.rollups import Rollups
from fastsmaps.stat import TICKS, arguments, cgroup_path
from fastsmaps.workers import counted, spread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Sequence
    from typing import Any

    from fastsmaps._backend import Sweep, Task
    from fastsmaps.procfs import Procfs

# What the backends' Sweep says of a row.
FATES = ("read", "denied", "kernel_thread", "zombie", "outside", "large", "other")
_DENIED, _OUTSIDE, _LARGE, _OTHER = map(FATES.index, ("denied", "outside", "large", "other"))
_READ = 0

_PAGE = os.sysconf("SC_PAGE_SIZE")
# Processes a backend call: many, so that what is between two calls costs nothing, and fewer
# towards the end, so that workers end together.
_MOST_BATCH = 64
_LEAST_BATCH = 2
# Back in the interpreter after this, so that signals are served.
_TURN = 0.02
# Under a timeout larger processes than this are read in pieces: their rollup takes 3 to 4 ms.
_LARGE_BYTES = 256 << 20


def scan(
    pids: Iterable[int] | None = None,
    *,
    procfs: Procfs = "/proc",
    workers: int = 1,
    cgroup: bool = False,
    cmdline: bool = False,
    min_rss: int | None = None,
    max_rss: int | None = None,
    exclude: Container[int] | Callable[[ProcessTotals], bool] | None = None,
    timeout: float | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Scan:
    """The totals of many processes, a row each; of all that procfs lists where `pids` is None.

    Nothing raises for one process: its ``outcome`` says how it came out, ``coverage`` counts
    that. All of a row is read through one open directory, so that a number that is used again
    never mixes two processes. `workers` threads read at once, without the GIL (of a capture one
    reads). `cgroup` and
    `cmdline` are read where asked for (15 to 20 us each a process).

    What is left out is "skipped": processes whose Rss (of statm, before anything else is read,
    in bytes) is below `min_rss` or above `max_rss`; those in `exclude`, or for which that
    function of a row without totals is true; and what remains when `timeout` seconds are over.
    Under a timeout processes above 256 MiB are summed from smaps, which can stop on the way.

    `progress` is called with how many processes are done and of how many, by whichever thread.

    Raises Error where `procfs` cannot be listed, TypeError and ValueError for wrong arguments.

    Sources: proc_pid_stat(5), proc_pid_statm(5), proc_pid_smaps(5).
    """
    root = _procfs.root(procfs)
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ValueError(f"workers: 1 or more, not {workers!r}")
    if isinstance(pids, int | str):
        raise TypeError(f"pids: several numbers, not {pids!r}")
    for name, limit in (("min_rss", min_rss), ("max_rss", max_rss)):
        if limit is not None and not isinstance(limit, int):
            raise TypeError(f"{name}: bytes as an int, or None, not {limit!r}")
    begun = time.monotonic()
    numbers = numbers_of(pids, root)
    sweeper = Sweeper(
        root,
        texts=("cgroup",) * cgroup + ("cmdline",) * cmdline,
        limits=(min_rss, max_rss),
        until=None if timeout is None else begun + timeout,
        progress=progress,
    )
    try:
        if exclude is not None:
            numbers = sweeper.without(exclude, numbers)
        live = sweeper.fd >= 0
        (sweeper.run if live else sweeper.replay)(numbers, workers)
    finally:
        sweeper.close()
    return Scan(
        sweeper.rows,
        cost=Cost(sum(sweeper.costs), time.monotonic() - begun),
        taken_at=time.time(),
        procfs=root,
        count=len(sweeper.order),
    )


def numbers_of(pids: Iterable[int] | None, root: str) -> list[int]:
    """The processes asked for, each once; those that are listed where none are named."""
    if pids is None:
        return _procfs.pids(root)
    if not os.path.isdir(root):
        raise Error(f"procfs={root!r} is no directory", path=root)
    given = list(pids)
    # One by one only where some are no plain numbers: that takes as long as reading 1 % of them.
    if set(map(type, given)) != {int} or min(given) < 1 or max(given) >= 2**31:
        given = [_number_of(pid) for pid in given]
    return list(dict.fromkeys(given))


def _number_of(pid: int) -> int:
    number = _procfs.check_pid(pid)
    if isinstance(number, str):
        raise TypeError(f"pids: numbers, not {number!r}")
    return number


def outcome_of(error: Error) -> str:
    """The word for what an error says of a process."""
    if isinstance(error, AccessDenied):
        return "denied"
    if isinstance(error, ProcessGone):
        return "gone"
    if isinstance(error, NoMemoryMap):
        return "kernel_thread" if error.what == "kernel thread" else "zombie"
    return "failed"


def _batches(numbers: Sequence[int], workers: int) -> Iterator[memoryview]:
    every = memoryview(array("i", numbers))
    at = 0
    while at < len(every):
        size = max(_LEAST_BATCH, min(_MOST_BATCH, (len(every) - at) // (4 * workers)))
        yield every[at : at + size]
        at += size


class Sweeper:
    """One scan under way: what it was told, and what it found."""

    def __init__(
        self,
        root: str,
        *,
        texts: tuple[str, ...],
        limits: tuple[int | None, int | None],
        until: float | None,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        self.root = root
        self.texts = texts
        self.limits = limits
        self.until = until
        self.progress = progress
        self.costs: list[float] = []  # processor seconds, one of each thread: += would lose some
        self.order: list[int] = []
        self.excluded = 0
        self.sweeps: list[Sweep] = []
        self.known: dict[int, ProcessTotals] = {}  # rows that no sweep made
        self._notes: dict[int, tuple[str, str]] | None = None
        # The directories of a capture tell nothing of owners, and lead anywhere: it is read one
        # process after the other.
        self.fd = -1
        if _procfs.is_procfs(root):
            try:
                self.fd = os.open(root, OPEN | os.O_DIRECTORY)
            except OSError as error:
                raise _procfs.failure(error, None, root, root) from None
            if not _openat.is_kernels(root, self.fd):
                self.close()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _sweep(self, rollups: bool = True) -> Sweep:
        least, most = self.limits
        timed = rollups and self.until is not None
        return _backend.Sweep(
            self.texts,
            0 if least is None else min(-(-max(least, 0) // _PAGE), 2**64 - 1),
            2**64 - 1 if most is None else min(max(most, 0) // _PAGE, 2**64 - 1),
            _LARGE_BYTES // _PAGE if timed else 2**64 - 1,
            timed or least is not None or most is not None,
            rollups,
        )

    # ---- what is left out

    def without(
        self, exclude: Container[int] | Callable[[ProcessTotals], bool], numbers: list[int]
    ) -> list[int]:
        """The processes that are not excluded; the others' rows are made."""
        self.order = numbers
        if not callable(exclude):
            rows = {pid: ProcessTotals(pid, "skipped") for pid in numbers if pid in exclude}
        elif self.fd < 0:
            seen = (self._by_process(pid, figures=False) for pid in numbers)
            rows = self._excluded(exclude, seen)
        else:
            first = Sweeper(self.root, texts=self.texts, limits=(None, None), until=self.until)
            try:
                first.run(numbers, 1, rollups=False)
            finally:
                first.close()
            self.costs += first.costs
            rows = self._excluded(exclude, first.rows())
        for pid, row in rows.items():
            self.known[pid] = row._replaced(outcome="skipped", error="excluded", totals=None)
        self.excluded = len(rows)
        return [pid for pid in numbers if pid not in rows]

    def _excluded(
        self, exclude: Callable[[ProcessTotals], bool], seen: Iterable[ProcessTotals]
    ) -> dict[int, ProcessTotals]:
        rows = {}
        for row in seen:
            if self._over():
                break  # what is left is not read either
            if exclude(row):
                rows[row.pid] = row
        return rows

    # ---- reading

    def run(self, numbers: Sequence[int], workers: int, rollups: bool = True) -> None:
        """Takes all of them, in so many threads of which this one is one."""
        self.order = self.order or list(numbers)
        workers = max(1, min(workers, len(numbers)))
        spread(_batches(numbers, workers), workers, lambda some: self._work(some, rollups))

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
        before = len(sweep)
        taken = sweep.take(self.fd, pids, self._turn())
        for i, fate in enumerate(sweep.fates(before), before):
            if fate in (_LARGE, _OTHER):
                pid = sweep.row(i)[0]
                self.known[pid] = self._by_process(pid, large=fate == _LARGE, figures=rollups)
        return taken

    def _turn(self) -> float:
        return _TURN if self.until is None else min(_TURN, self.until - time.monotonic())

    def replay(self, numbers: Sequence[int], workers: int) -> None:
        """Reads a capture's processes, one after the other."""
        self.order = self.order or list(numbers)
        cpu = time.thread_time()
        for pid in counted(numbers, self.progress):
            if self._over():
                break
            self.known[pid] = self._replayed(pid)
        self.costs.append(time.thread_time() - cpu)

    def _replayed(self, pid: int) -> ProcessTotals:
        if self._notes is None:
            self._notes = noted(self.root)
        return as_noted(self._by_process(pid), self._notes)

    def _by_process(self, pid: int, *, large: bool = False, figures: bool = True) -> ProcessTotals:
        """A row by Process, which knows all fates: for whatever is not as usual."""
        facts: dict[str, Any] = {}
        try:
            with Process(pid, procfs=self.root) as process:
                info = process.info(heap=False)
                facts = {
                    "ppid": info.ppid,
                    "comm": info.comm,
                    "uid": info.uid,
                    "start_time": info.start_time,
                    "cgroup": info.cgroup if "cgroup" in self.texts else None,
                    "cmdline": info.cmdline if "cmdline" in self.texts else None,
                }
                if not figures:
                    return ProcessTotals(pid, "skipped", **facts)
                if self.fd < 0 or not large:
                    resident = process._resident() if self.limits != (None, None) else None
                    if resident is not None and not self._within(resident):
                        error = self._why_outside(resident)
                        return ProcessTotals(pid, "skipped", error=error, **facts)
                if large and self.until is not None:
                    totals = process._totals_until(self.until)
                else:
                    totals = process.totals()
            return ProcessTotals(pid, "read", totals=totals, **facts)
        except TimeoutError:
            return ProcessTotals(pid, "skipped", error=_TIME_OVER, **facts)
        except Error as error:
            return ProcessTotals(pid, outcome_of(error), error=str(error), **facts)

    def _within(self, resident: int) -> bool:
        least, most = self.limits
        return (least is None or resident >= least) and (most is None or resident <= most)

    def _why_outside(self, resident: int) -> str:
        least, most = self.limits
        if least is not None and resident < least:
            return f"its Rss of {resident} bytes is below min_rss={least}"
        return f"its Rss of {resident} bytes is above max_rss={most}"

    def one(self, pid: int) -> ProcessTotals:
        """One process now, by the sweep at hand."""
        if self.fd < 0:
            return self._replayed(pid)
        if not self.sweeps:
            self.sweeps.append(self._sweep())
        sweep = self.sweeps[0]
        self._take(sweep, memoryview(array("i", [pid])), True)
        if pid in self.known:
            return self.known.pop(pid)
        row = self._row(sweep.row(len(sweep) - 1), Rollups(sweep.table))
        # The totals are made now: whoever keeps the row should not keep the table for it.
        return row._replaced(totals=row.totals)

    # ---- rows

    def rows(self) -> list[ProcessTotals]:
        """All rows, in the order asked for."""
        found = dict(self.known)
        for sweep in self.sweeps:
            rollups = Rollups(sweep.table)
            for task in map(sweep.row, range(len(sweep))):
                if task[0] not in found:
                    found[task[0]] = self._row(task, rollups)
        return [
            found.get(pid) or ProcessTotals(pid, "skipped", error=_TIME_OVER) for pid in self.order
        ]

    def _row(self, task: Task, rollups: Rollups) -> ProcessTotals:
        pid, fate, record, resident, texts, who = task
        facts: dict[str, Any] = {}
        if who is not None:
            comm, ppid, uid, start = who
            facts = {
                "comm": os.fsdecode(comm),
                "ppid": ppid,
                "uid": uid,
                "start_time": start / TICKS,
            }
        for name, text in zip(self.texts, texts, strict=True):
            path = f"{self.root}/{pid}/{name}"
            if name == "cmdline":
                facts[name] = None if text is None else arguments(text)
            else:
                facts[name] = cgroup_path(text or b"", pid, path)
        if fate == _READ:
            if record is None:
                return ProcessTotals(pid, "skipped", **facts)
            return ProcessTotals(pid, "read", totals=(rollups, record), **facts)
        if fate == _OUTSIDE:
            error_ = self._why_outside(resident * _PAGE)
            return ProcessTotals(pid, "skipped", error=error_, **facts)
        path = f"{self.root}/{pid}/smaps_rollup"
        error: Error
        if fate == _DENIED:
            # Everybody may read stat, unless the mount forbids it (hidepid=1, EPERM).
            number = errno.EPERM if who is None else errno.EACCES
            error = _procfs.denied(PermissionError(number, ""), pid, path, self.root)
        else:
            error = NoMemoryMap(FATES[fate].replace("_", " "), pid=pid, path=path)
        return ProcessTotals(pid, outcome_of(error), error=str(error), **facts)


_TIME_OVER = "the time was over before it was read"
