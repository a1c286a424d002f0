"""Watch: sample one process over time from a background thread."""

from __future__ import annotations

import math
import os
import time
from _thread import TIMEOUT_MAX

from fastsmaps._arguments import (
    Pid,
    Procfs,
    check_int,
    check_number,
    check_pid,
    check_timeout,
    path_of,
)
from fastsmaps._backend.descriptors import is_exhausted
from fastsmaps._errors import Error, NoMemoryMap, ProcessGone, outcome_of
from fastsmaps._host.scan import scan
from fastsmaps._model.changes import Changes
from fastsmaps._model.diff import diff
from fastsmaps._model.samples import Sample, Samples, Series
from fastsmaps._model.stat import status_number
from fastsmaps._public import public
from fastsmaps._source.forks import own_process
from fastsmaps._source.process import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Thread
    from typing import NoReturn

    from fastsmaps._model.mappings import Mappings
    from fastsmaps._model.totals import Totals

# Mappings are read again when the process exceeds its size at the last such read by this much. That
# is rare, however long it grows (24 times for a factor of ten), and noise never triggers it.
_GROWTH_RATIO = 0.1
_GROWTH_BYTES = 1 << 20


@public
class Watch:
    """Sample a process every `interval` seconds while the ``with`` block runs.

        with fastsmaps.Watch() as watch:  # this process; or Watch(pid)
            work()
        watch.peak.totals.pss, watch.peak.elapsed, watch.peak_rss, watch.growth

    A background thread reads the totals through kept descriptors. Any thread can read these
    attributes, during the watch and after it:

    ``samples``: the table of samples with their times; see `max_samples`.
    ``peak``, ``peaks``: the sample with the largest Pss; the samples with the maximum of each size.
    ``peak_rss``: VmHWM, the kernel's record of the largest Rss, in bytes. It includes peaks between
    two samples, and counts from the start of the program, not of the watch.
    ``growth``: what grew since the first sample, by path, or by address range; see below.
    ``outcome``: "read" while the process can be read; "gone" or "zombie" after its end, which ends
    the watch without an error; "denied" or "failed" after any other failure, which ends it too and
    is raised, see below. An exec is followed.
    ``count``, ``skipped``: the samples taken, and those skipped because an earlier one took too
    long, the budget did not allow them, or the program had no free descriptor.
    ``pid``, ``duration`` (seconds).

    **Cost.** A sample reads a rollup: 0.5 to 2 ms for an ordinary process, 11 to 50 ms a GiB of
    4 KiB pages for a large one. For part of that time the process waits if it maps or unmaps
    memory. So samples take at most `budget` of one CPU (0.05 is 5 %; a process above 100 to 400 MiB
    gets fewer than ten a second), and tables of mappings the same again; `budget=1` is unlimited.
    Samples are scheduled at multiples of the interval; missed samples are skipped.

    **Growth.** Mappings are read at the start, whenever the process has grown by a tenth (and
    1 MiB), and at the end if it is still alive. ``before`` and ``after`` are the first and the last
    of these tables, `growth` is their diff(). `growth=False` reads none: a table costs two to four
    samples.

    **Memory.** About `max_samples` are kept, 270 bytes each. Beyond that, of each two neighbours
    the one with the larger Pss is kept, now and for later samples: a long watch becomes coarser,
    but keeps its peaks, and always its first and last sample.

    `pid` is a number in `procfs` (see Process), or "self", or an open Process, such as
    Process.from_pidfd() returns for a child. That stays open, and its `procfs` is used.

    `tree=True` sums over the process and its descendants at the time of each sample, which lists
    all processes each time (30 us each). ``peak_rss`` is None then, since the kernel has no VmHWM
    of a tree; ``root_peak_rss`` is that of the process itself. ``growth`` is its own, too.

    Raises ValueError for an `interval` outside of 0.001 to 86400, a `budget` outside of 0 to 1, 0
    excluded, a `max_samples` below 2 and a `pid` that no process can have; TypeError for a wrong
    type. On entry it raises what totals() raises, and ValueError if it was used before. A failure
    during the watch (such as AccessDenied after an exec of another user's program) is raised at
    the end of the block, unless the block itself raises. A fork of this process does not continue
    the watch. The thread does not keep the interpreter alive.
    """

    def __init__(
        self,
        pid: Pid | Process = "self",
        *,
        interval: float = 0.1,
        budget: float = 0.05,
        growth: bool = True,
        tree: bool = False,
        max_samples: int = 10_000,
        procfs: Procfs = "/proc",
    ) -> None:
        import threading  # takes 2 ms

        self.interval = check_number("interval", interval, 0.001, 86400)
        self.budget = check_number("budget", budget, 0, 1, above=True)
        max_samples = check_int("max_samples", max_samples, 2)
        self.tree = tree
        self._is_callers = isinstance(pid, Process)  # so the caller closes it
        self._process: Process | None = None
        if isinstance(pid, Process):
            self._process, procfs = pid, pid.procfs
            pid = pid.pid
        self.procfs = path_of(procfs)
        self.pid = check_pid(pid)
        self.outcome = "read"
        self.skipped = 0
        #: The first and the last table of mappings; None if none was read.
        self.before: Mappings | None = None
        self.after: Mappings | None = None
        self.peak_rss: int | None = None
        #: With `tree`, VmHWM of the process itself, without its descendants; otherwise None.
        self.root_peak_rss: int | None = None
        self._growth = growth
        self._mapped_size = 0  # the largest size at which mappings were read
        self._mappings_due = 0.0
        self._series = Series(max_samples)
        self._status = -1
        self._owner: tuple[int, int] | None = None
        self._thread: Thread | None = None
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._begun = 0.0
        self._ended: float | None = None
        self._due = 0.0
        self._tick = 0

    # ---- start and end

    def __enter__(self) -> Watch:
        import threading

        if self._owner is not None:
            raise ValueError("this Watch was used already")
        self._owner = own_process()
        if self._process is None:
            self._process = Process(self.pid, procfs=self.procfs)
        try:
            self.pid = self._process.pid
            self._status = self._open_status(self._process)
            self._begun = time.monotonic()
            self._take_sample(with_mappings=True)
            self._thread = threading.Thread(
                target=self._run, name=f"fastsmaps.Watch({self.pid})", daemon=True
            )
            self._thread.start()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        assert self._thread is not None
        try:
            if self._owner != own_process():
                return  # in a fork: the thread, and the rest of the watch, are in the parent
            self.stop()
            self._thread.join()
            if self.outcome == "read":
                self._guarded(lambda: self._take_sample(with_mappings=True))
            self._end()
        finally:
            self._close()
        if self._failure is not None and kind is None:
            raise self._failure

    def stop(self) -> None:
        """End the watch, so that wait() returns. Any thread or signal handler may call it."""
        self._stop.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the watch has ended; return False after `timeout` seconds.

        It ends by stop(), by a failure, or at the first sample after the end of the process.
        Raises ValueError before the block has begun.
        """
        if self._thread is None:
            raise ValueError("this Watch has not begun")
        seconds = check_timeout(timeout)
        # join() refuses more than TIMEOUT_MAX, infinity too.
        self._thread.join(None if seconds is None else min(seconds, TIMEOUT_MAX))
        return not self._thread.is_alive()

    def _end(self) -> None:
        if self._ended is None:
            self._ended = time.monotonic()

    def _close(self) -> None:
        if self._process is not None and not self._is_callers:
            self._process.close()
        if self._status >= 0:
            fd, self._status = self._status, -1
            os.close(fd)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Watch has a thread: it is neither copied nor pickled")

    def __repr__(self) -> str:
        return f"<Watch of {self.pid}: {self.count} samples, {self.outcome}>"

    # ---- results

    @property
    def samples(self) -> Samples:
        """The samples until now, or until the end."""
        return self._series.samples()

    @property
    def count(self) -> int:
        """The number of samples taken."""
        return self._series.count

    @property
    def peaks(self) -> dict[str, Sample]:
        """The samples with the maximum of "pss", "uss", "rss" and "swap", as far as known."""
        return self._series.peaks()

    @property
    def peak(self) -> Sample:
        """The sample with the largest Pss, or Rss if no sample has Pss.

        Raises ValueError while no sample has either.
        """
        peaks = self.peaks
        for name in ("pss", "rss"):
            if name in peaks:
                return peaks[name]
        if not self._begun:
            raise ValueError("this Watch has not begun")
        raise ValueError("no sample of this Watch has Pss or Rss")

    @property
    def growth(self) -> Changes | None:
        """The changes from `before` to `after`, by path, unnamed memory by its address range.

        The same as diff(before, after, by="name"), in that order; None unless two tables were read.
        """
        before, after = self.before, self.after
        return None if before is None or after is None else diff(before, after, by="name")

    @property
    def duration(self) -> float:
        """Seconds from the beginning of the watch until now, or until its end."""
        if not self._begun:
            return 0.0
        return (time.monotonic() if self._ended is None else self._ended) - self._begun

    # ---- the thread

    def _run(self) -> None:
        self._guarded(self._sample_until_stopped)

    def _guarded(self, action: Callable[[], None]) -> None:
        """Keep a failure for __exit__, which raises it."""
        try:
            action()
        except Exception as error:
            self._failure = error
            self.outcome = outcome_of(error) if isinstance(error, Error) else "failed"
            self._end()

    def _sample_until_stopped(self) -> None:
        while not self._stop.wait(max(0.0, self._due - time.monotonic())):
            self._take_sample()
            if self.outcome != "read":
                break

    def _allowed(self, begun: float, cpu: float) -> float:
        """Return when the budget has paid for work since `begun`, when thread_time() was `cpu`."""
        return begun + (time.thread_time() - cpu) / self.budget

    def _plan(self, allowed: float) -> None:
        """Schedule the next sample: at a multiple of the interval, not before `allowed`."""
        earliest = max(time.monotonic(), allowed)
        tick = max(self._tick + 1, math.ceil((earliest - self._begun) / self.interval))
        self.skipped += tick - self._tick - 1
        self._tick = tick
        self._due = self._begun + tick * self.interval

    def _take_sample(self, *, with_mappings: bool = False) -> None:
        """Take a sample, and read the mappings if asked or if the process has grown."""
        begun, cpu = time.monotonic(), time.thread_time()
        count = self.count
        try:
            try:
                size = self._sample()
            finally:
                self._plan(self._allowed(begun, cpu))
            if self._growth and (with_mappings or self._has_grown(size)):
                begun, cpu = time.monotonic(), time.thread_time()
                self._read_mappings()
                self._mapped_size = max(self._mapped_size, size)
                self._mappings_due = self._allowed(begun, cpu)
        except (ProcessGone, NoMemoryMap) as error:
            self.outcome = outcome_of(error)
            self._end()
            if not self.count:
                raise  # nothing was sampled
        except Error as error:
            if self._thread is None or not is_exhausted(error):
                raise
            # The program may have closed some descriptors by the next sample.
            if self.count == count:
                self.skipped += 1

    def _has_grown(self, size: int) -> bool:
        limit = self._mapped_size + max(_GROWTH_BYTES, int(_GROWTH_RATIO * self._mapped_size))
        return size >= limit and time.monotonic() >= self._mappings_due

    def _sample(self) -> int:
        """Store a sample; return its Pss, or Rss without Pss."""
        totals, processes, unread = self._totals()
        peak_rss = self._high_water()
        self._series.add(
            totals,
            elapsed=int((time.monotonic() - self._begun) * 1e9),
            time=time.time_ns(),
            processes=processes,
            unread=unread,
            peak_rss=None if self.tree else peak_rss,
        )
        if peak_rss is not None:
            # An exec resets VmHWM.
            if self.tree:
                self.root_peak_rss = max(peak_rss, self.root_peak_rss or 0)
            else:
                self.peak_rss = max(peak_rss, self.peak_rss or 0)
        return totals.pss or totals.rss or 0

    def _read_mappings(self) -> None:
        assert self._process is not None
        table = self._process.mappings()
        if self.before is None:
            self.before = table
        else:
            self.after = table

    def _totals(self) -> tuple[Totals, int, int]:
        """Return the totals, the number of processes in them, and of those not read."""
        assert self._process is not None
        tree = self._tree_totals(self._process.pid) if self.tree else None
        return tree or (self._process.totals(), 1, 0)

    def _tree_totals(self, root: int) -> tuple[Totals, int, int] | None:
        """Return the same for the tree; None if `root` is not listed (reading it says why)."""
        listed = scan(procfs=self.procfs, max_rss=0)  # reads stat, walks no pages
        if root not in listed.by_pid:
            return None
        started = {row.pid: row.start_time for row in listed.descendants(root)}
        # Whether these belong to the tree is unknown.
        unread = sum(row.outcome == "failed" and row.ppid is None for row in listed)
        if len(started) == 1:
            assert self._process is not None
            return self._process.totals(), 1, unread
        # In one scan, since a child between vfork and exec has its parent's memory.
        rows = scan(started, procfs=self.procfs)
        # Leave out processes that reused a pid since.
        same = [row for row in rows if row.start_time == started[row.pid]]
        read = {row.pid: row.totals for row in same if row.totals is not None}
        if root not in read and rows.by_pid[root].shares_memory_with not in read:
            # Its kept descriptor may still read it; otherwise the error says why not.
            assert self._process is not None
            read[root] = self._process.totals()
        missing = (row.pid not in read and row.outcome in ("denied", "failed") for row in rows)
        first, *rest = read.values()
        return sum(rest, first), len(read), unread + sum(missing)

    # ---- VmHWM

    @staticmethod
    def _open_status(process: Process) -> int:
        """Open status, which stays valid after an exec; return -1 if a capture lacks it."""
        try:
            return process.directory.open("status")
        except FileNotFoundError:
            return -1
        except OSError as error:
            raise process.directory.failure(error, "status") from None

    def _high_water(self) -> int | None:
        if self._status < 0:
            return None
        try:
            text = os.pread(self._status, 1 << 16, 0)
        except ProcessLookupError:
            return None  # the next sample reports it
        assert self._process is not None
        path = f"{self.procfs}/{self.pid}/status"
        size = status_number(text, b"VmHWM:", self._process.pid, path)
        return None if size is None else size * 1024
