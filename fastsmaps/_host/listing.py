"""Listing: which processes began or ended, without listing all of them at each sweep."""

from __future__ import annotations

import os
import time

from fastsmaps import _backend
from fastsmaps._backend.descriptors import OPEN
from fastsmaps._errors import is_foreign

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastsmaps._source.source import Source

# Listing all takes 1.1 us a process, 9 ms for 8,000. It may take this part of the budget.
_MAX_SHARE = 1 / 16
# Seconds until all are listed even if the kernel counts no change: a process may be created with a
# number of the caller's choice (clone3(2), set_tid), and two changes may cancel out.
_MAX_AGE = 60.0
_MAX_PID = 2**31 - 1


class Listing:
    """The state of the list of processes between two sweeps."""

    def __init__(self) -> None:
        # The last pid and the number of threads, at the last update and at the last full listing.
        self._mark: tuple[int, int] | None = None
        self._full_mark: tuple[int, int] | None = None
        self._listed_at: float | None = None
        self._cost = 0.0
        #: Seconds of CPU time that the last update took.
        self.last_cost = 0.0

    def update(
        self, source: Source, root: int | None, counts_ours: bool, budget: float
    ) -> tuple[list[int], bool]:
        """Return pids, and whether these are all; otherwise they are those assigned since.

        `root` is the open directory of a trusted procfs, and `counts_ours` says whether it shows
        our own pid namespace, which /proc/loadavg describes. Otherwise all are listed, as often as
        a part of the budget allows.
        """
        cpu = time.thread_time()
        try:
            return self._update(source, root, counts_ours, budget)
        finally:
            self.last_cost = time.thread_time() - cpu

    def list_soon(self) -> None:
        """List all as soon as the budget allows, whatever the kernel counts."""
        self._full_mark = None

    def _update(
        self, source: Source, root: int | None, counts_ours: bool, budget: float
    ) -> tuple[list[int], bool]:
        now = time.monotonic()
        mark = _mark(root) if root is not None and counts_ours else None
        if self._listed_at is None or self._is_due(mark, now - self._listed_at, budget):
            cpu = time.thread_time()
            pids = source.pids()
            self._cost = time.thread_time() - cpu
            self._listed_at = now
            self._mark = self._full_mark = mark
            return pids, True
        before, self._mark = self._mark, mark
        if root is None or mark is None or before is None or mark[0] == before[0]:
            return [], False
        if mark[0] > before[0]:
            return _backend.pids_between(root, before[0], mark[0]), False
        # The numbers have started again from the lowest.
        high = _backend.pids_between(root, before[0], _MAX_PID)
        return high + _backend.pids_between(root, 0, mark[0]), False

    def _is_due(self, mark: tuple[int, int] | None, age: float, budget: float) -> bool:
        if age < self._cost / (budget * _MAX_SHARE):
            return False
        return mark is None or mark != self._full_mark or age >= _MAX_AGE


def _mark(root: int) -> tuple[int, int] | None:
    """Return the last pid that was assigned and the number of threads on the host.

    The end of /proc/loadavg: "2/345 6789" (proc_loadavg(5)). If both are as before, no process
    began or ended. None if they are not known: subset=pid hides the file, and lxcfs mounts its own
    over it.
    """
    try:
        fd = os.open("loadavg", OPEN, dir_fd=root)
        try:
            if os.fstat(fd).st_dev != os.fstat(root).st_dev:
                return None
            threads, last = os.pread(fd, 256, 0).split()[3:5]
        finally:
            os.close(fd)
        return int(last), int(threads.partition(b"/")[2])
    except (OSError, ValueError) as error:
        if is_foreign(error):
            raise
        return None
