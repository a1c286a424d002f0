"""Watch: one process over time, from a thread of its own."""

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
from fastsmaps._model.diff import diff
from fastsmaps._model.samples import Sample, Samples, Series
from fastsmaps._model.stat import status_number
from fastsmaps._model.totals import Change
from fastsmaps._source.forks import own_process
from fastsmaps._source.process import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Thread

    from fastsmaps._model.mappings import Mappings
    from fastsmaps._model.totals import Totals

# Mappings are read again once the process is larger by this much than it ever was when they were
# read: few times, however long it grows (24 for a factor of ten), and never for noise.
_GROWN = 0.1
_GROWN_BYTES = 1 << 20


class Watch:
    """Looks at a process every `interval` seconds while the ``with`` block runs.

        with fastsmaps.Watch() as watch:  # this process; or Watch(pid)
            work()
        watch.peak.totals.pss, watch.peak.elapsed, watch.peak_rss, watch.growth

    A thread of its own reads the totals through kept descriptors. All that it found can be read
    meanwhile, by any thread, and after the end:

    ``samples``: a table of what was seen, a row a look, with the times; see max_samples.
    ``peak``, ``peaks``: the samples with the largest Pss, and with the most of each figure.
    ``peak_rss``: VmHWM, the kernel's own account of the largest Rss, in bytes: sampling misses
    peaks between two looks. It counts from the start of the program, not of the watch.
    ``growth``: what grew from the first look on, by path; see below.
    ``outcome``: "read" as long as the process could be read, "gone" or "zombie" once it has
    ended, which ends the watch and is no error; an exec is followed. "denied" or "failed" after
    any other failure, which ends it too and is raised: see below.
    ``count``, ``skipped``: looks taken, and looks that were due while another one took too long,
    that the budget did not allow, or for which the program had no descriptor left. ``pid``,
    ``duration`` (seconds).

    **Cost.** A look takes what a rollup takes: 0.5 to 2 ms of an ordinary process, of large ones
    11 to 50 ms a GiB of 4 KiB pages; for some of that time the process waits if it maps or unmaps
    memory. So looks take at most `budget` of one core (0.05: 5 %; of a process above 100 to
    400 MiB there are fewer than ten a second), and tables of mappings as much again; `budget=1`
    leaves that out. Looks are due at multiples of the interval since the beginning, and what was
    missed is left out, not caught up with.

    **Growth.** Mappings are read at the beginning, again whenever the process has grown by a
    tenth (and 1 MiB), and at the end if it still lives. ``before`` and ``after`` are the first
    and the last of these tables, `growth` their diff(). `growth=False` reads none: a table costs
    two to four looks.

    **Bounded.** Some `max_samples` are kept, 270 bytes each. When there are more, of each
    two neighbours the one with the larger Pss stays, and so on for those to come: a long watch
    is told coarsely, its peaks never lost. The first and the last sample are always there.

    `pid` is a number as `procfs` counts (see Process), or "self". It may also be an open Process,
    as Process.from_pidfd() gives for a child; it stays open, and `procfs` is that of the Process.

    `tree=True` sums over the process and all that descend from it at the time of a look; that
    lists all processes each time (30 us each). ``peak_rss`` is None then: the kernel has no VmHWM
    of a tree. ``growth`` is that of the process itself.

    Raises ValueError for an `interval` that is not 0.001 to 86400, a `budget` that is not above 0
    and at most 1, a `max_samples` below 2, and a `pid` that no process can have; TypeError for what
    is no number, no pid or no path of str. On entry it raises what totals() raises, ValueError
    where it was used before. A failure meanwhile (AccessDenied after an exec of another user's
    program, say) ends the watch, and is raised at the end of the block, unless that raises itself.
    A fork of this process does not go on watching. The thread keeps no interpreter alive.
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
        import threading  # 2 ms, for those who watch

        self.interval = check_number("interval", interval, 0.001, 86400)
        self.budget = check_number("budget", budget, 0, 1, above=True)
        max_samples = check_int("max_samples", max_samples, 2)
        self.tree = tree
        self._given = isinstance(pid, Process)  # the caller's, who closes it
        self._process: Process | None = None
        if isinstance(pid, Process):
            self._process, procfs = pid, pid.procfs
            pid = pid.pid
        self.procfs = path_of(procfs)
        self.pid = check_pid(pid)
        self.outcome = "read"
        self.skipped = 0
        #: The first and the last table of mappings; None where none was read.
        self.before: Mappings | None = None
        self.after: Mappings | None = None
        self.peak_rss: int | None = None
        self._growth = growth
        self._tabled = 0  # the largest weight at which mappings were read
        self._table_due = 0.0
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

    # ---- its life

    def __enter__(self) -> Watch:
        import threading

        if self._owner is not None:
            raise ValueError("this Watch was used already")
        self._owner = own_process()
        if self._process is None:
            self._process = Process(self.pid, procfs=self.procfs)
        try:
            self.pid = self._process.pid
            if not self.tree:
                self._status = self._open_status(self._process)
            self._begun = time.monotonic()
            self._look(whole=True)
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
                return  # a fork's: the thread is in the parent, and so is the rest of the watch
            self.stop()
            self._thread.join()
            if self.outcome == "read":
                self._guarded(lambda: self._look(whole=True))
            self._end()
        finally:
            self._close()
        if self._failure is not None and kind is None:
            raise self._failure

    def stop(self) -> None:
        """Ends it before the block does: wait() comes back. From any thread or signal's handler."""
        self._stop.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the watch has ended; False where that takes more than `timeout` seconds.

        It ends by stop(), with the process, which is noticed at the next look, or with a failure.
        ValueError before the block has begun.
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
        if self._process is not None and not self._given:
            self._process.close()
        if self._status >= 0:
            fd, self._status = self._status, -1
            os.close(fd)

    def __repr__(self) -> str:
        return f"<Watch of {self.pid}: {self.count} looks, {self.outcome}>"

    # ---- what it found

    @property
    def samples(self) -> Samples:
        """What was seen until now, or until the end."""
        return self._series.samples()

    @property
    def count(self) -> int:
        """How many looks were taken."""
        return self._series.count

    @property
    def peaks(self) -> dict[str, Sample]:
        """The samples with the most of "pss", "uss", "rss" and "swap", where these are known."""
        return self._series.peaks()

    @property
    def peak(self) -> Sample:
        """The sample with the largest Pss, the largest Rss where there is no Pss.

        ValueError as long as nothing was seen that has either.
        """
        peaks = self.peaks
        for name in ("pss", "rss"):
            if name in peaks:
                return peaks[name]
        if not self._begun:
            raise ValueError("this Watch has not begun")
        raise ValueError("this Watch has seen neither Pss nor Rss")

    @property
    def growth(self) -> list[Change] | None:
        """What changed from `before` to `after`, by path, the largest change of Pss first.

        None where two tables were not read. For another key: diff(watch.before, watch.after, ...).
        """
        before, after = self.before, self.after
        return None if before is None or after is None else diff(before, after)

    @property
    def duration(self) -> float:
        """Seconds since the watch began, until it ended where it has."""
        if not self._begun:
            return 0.0
        return (time.monotonic() if self._ended is None else self._ended) - self._begun

    # ---- the thread

    def _run(self) -> None:
        self._guarded(self._go_on)

    def _guarded(self, act: Callable[[], None]) -> None:
        """What fails is raised by __exit__."""
        try:
            act()
        except Exception as error:
            self._failure = error
            self.outcome = outcome_of(error) if isinstance(error, Error) else "failed"
            self._end()

    def _go_on(self) -> None:
        while not self._stop.wait(max(0.0, self._due - time.monotonic())):
            self._look()
            if self.outcome != "read":
                break

    def _allowed(self, begun: float, cpu: float) -> float:
        """When the budget has paid for what was begun then, and when thread_time() was `cpu`."""
        return begun + (time.thread_time() - cpu) / self.budget

    def _plan(self, allowed: float) -> None:
        """The next look: at a multiple of the interval, not before it is allowed."""
        earliest = max(time.monotonic(), allowed)
        tick = max(self._tick + 1, math.ceil((earliest - self._begun) / self.interval))
        self.skipped += tick - self._tick - 1
        self._tick = tick
        self._due = self._begun + tick * self.interval

    def _look(self, *, whole: bool = False) -> None:
        """A sample; and the mappings, where it is the first or last look or the process grew."""
        begun, cpu = time.monotonic(), time.thread_time()
        count = self.count
        try:
            try:
                weight = self._sample()
            finally:
                self._plan(self._allowed(begun, cpu))
            if self._growth and (whole or self._has_grown(weight)):
                begun, cpu = time.monotonic(), time.thread_time()
                self._read_mappings()
                self._tabled = max(self._tabled, weight)
                self._table_due = self._allowed(begun, cpu)
        except (ProcessGone, NoMemoryMap) as error:
            self.outcome = outcome_of(error)
            self._end()
            if not self.count:
                raise  # there was nothing to watch
        except Error as error:
            if self._thread is None or not is_exhausted(error):
                raise
            # The program may have closed some by the next look.
            if self.count == count:
                self.skipped += 1

    def _has_grown(self, weight: int) -> bool:
        least = self._tabled + max(_GROWN_BYTES, int(_GROWN * self._tabled))
        return weight >= least and time.monotonic() >= self._table_due

    def _sample(self) -> int:
        """Its Pss (Rss, where there is no Pss)."""
        totals, processes, unread = self._totals()
        peak_rss = self._high_water()
        self._series.add(
            totals,
            elapsed=int((time.monotonic() - self._begun) * 1e9),
            time=time.time_ns(),
            processes=processes,
            unread=unread,
            peak_rss=peak_rss,
        )
        if peak_rss is not None:
            # An exec starts it anew.
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
        """The figures, of how many processes, and how many of the tree have none."""
        assert self._process is not None
        found = self._tree(self._process.pid) if self.tree else None
        return found or (self._process.totals(), 1, 0)

    def _tree(self, root: int) -> tuple[Totals, int, int] | None:
        """None where the process is not listed: its own error says why."""
        listed = scan(procfs=self.procfs, max_rss=0)  # stat alone: no page is walked
        if root not in listed.by_pid:
            return None
        started = {row.pid: row.start_time for row in listed.descendants(root)}
        # Where these belong is not known.
        unread = sum(row.outcome == "failed" and row.ppid is None for row in listed)
        if len(started) == 1:
            assert self._process is not None
            return self._process.totals(), 1, unread
        # Together: a child between vfork and exec has its parent's memory, which counts once.
        rows = scan(started, procfs=self.procfs)
        # Another one that got its number meanwhile is none of them.
        same = [row for row in rows if row.start_time == started[row.pid]]
        read = {row.pid: row.totals for row in same if row.totals is not None}
        if root not in read and rows.by_pid[root].shares_memory_with not in read:
            # Its kept descriptor may still read it; otherwise the error says why there is no look.
            assert self._process is not None
            read[root] = self._process.totals()
        missing = (row.pid not in read and row.outcome in ("denied", "failed") for row in rows)
        first, *others = read.values()
        return sum(others, first), len(read), unread + sum(missing)

    # ---- VmHWM

    @staticmethod
    def _open_status(process: Process) -> int:
        """A descriptor of status, which stays good after an exec; -1 for a capture without."""
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
            return None  # the next look tells
        assert self._process is not None
        path = f"{self.procfs}/{self.pid}/status"
        size = status_number(text, b"VmHWM:", self._process.pid, path)
        return None if size is None else size * 1024
