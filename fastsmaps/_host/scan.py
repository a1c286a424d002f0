"""scan(): read many processes in one sweep."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Iterator

from fastsmaps._arguments import (
    Procfs,
    check_exclude,
    check_function,
    check_int,
    check_size,
    check_timeout,
)
from fastsmaps._host.sweeper import Sweeper, files_of
from fastsmaps._model.process_totals import ProcessTotals
from fastsmaps._model.processes import Cost, Scan
from fastsmaps._public import public
from fastsmaps._source.source import Source


@public
def scan(
    pids: Iterable[int] | None = None,
    *,
    procfs: Procfs = "/proc",
    workers: int = 1,
    cgroup: bool = False,
    cmdline: bool = False,
    exe: bool = False,
    mappings: bool = False,
    min_rss: int | None = None,
    max_rss: int | None = None,
    exclude: Container[int] | Callable[[ProcessTotals], bool] | None = None,
    timeout: float | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Scan:
    """Return the totals of many processes, one row each; of all processes if `pids` is None.

    `pids`, `exclude` and the rows use the numbers of `procfs`. They differ from those of
    os.getpid() and subprocess if it belongs to another pid namespace than this process (see
    Process).

    No single process raises an error: its ``outcome`` says what happened, and ``coverage`` counts
    outcomes. A row is read through one open directory, so a reused pid never mixes two processes.
    `workers` threads read at once, without the GIL (a capture is read by one).

    `cgroup` and `cmdline` are read on request (15 to 20 us each for a process), and so is `exe`,
    the path of the program (the text of the link, also in a capture). `mappings` counts the lines
    of maps (about 1 us each), also for processes above `max_rss`, since that walks no pages. The
    Scan then has ``max_map_count``, the kernel's limit for a process.

    These processes are "skipped": those whose Rss is below `min_rss` or above `max_rss` (bytes,
    from statm, which is read first); those in `exclude`, or if that is a function, those for
    which it returns a true value (its argument is a row without totals); and those that remain
    after `timeout` seconds. With a timeout, processes
    above 256 MiB are summed from smaps, which can stop midway.

    `progress(done, all)` is called with numbers of processes, by any of the threads.

    Raises NotProcfs, AccessDenied or ReadError if `procfs` cannot be listed, TypeError and
    ValueError for wrong arguments.

    Sources: proc_pid_stat(5), proc_pid_statm(5), proc_pid_smaps(5), proc_pid_maps(5).
    """
    source = Source(procfs)
    workers = check_int("workers", workers, 1)
    min_rss, max_rss = check_size("min_rss", min_rss), check_size("max_rss", max_rss)
    timeout = check_timeout(timeout)
    check_exclude(exclude)
    check_function("progress", progress)
    begun = time.monotonic()
    numbers = source.select(pids)
    sweeper = Sweeper(
        source,
        texts=files_of(cgroup=cgroup, cmdline=cmdline, exe=exe),
        limits=(min_rss, max_rss),
        until=None if timeout is None else begun + timeout,
        mappings=mappings,
        progress=progress,
    )
    try:
        if exclude is not None:
            numbers = sweeper.without(exclude, numbers)
        sweeper.run(numbers, workers)
        sweeper.settle()
    finally:
        sweeper.close()
    host, taken_at = source.origin(time.time())
    return Scan(
        sweeper.rows,
        cost=Cost(sum(sweeper.costs), time.monotonic() - begun),
        taken_at=taken_at,
        procfs=source.path,
        host=host,
        count=len(sweeper.order),
        sharing_known=sweeper.sharing_known,
        max_map_count=source.max_map_count() if mappings else None,
        hidden_by=source.hidden_by() if pids is None else None,
        host_pss=source.host_pss() if pids is None else None,
    )


def seen(
    pids: Iterable[int] | None, *, procfs: Procfs = "/proc", cmdline: bool = False
) -> Iterator[ProcessTotals]:
    """Yield rows without totals, to choose processes by; reads no memory."""
    source = Source(procfs)
    numbers = source.select(pids)
    sweeper = Sweeper(source, texts=("cmdline",) * bool(cmdline), limits=(None, None), until=None)
    try:
        yield from sweeper.seen(numbers)
    finally:
        sweeper.close()
