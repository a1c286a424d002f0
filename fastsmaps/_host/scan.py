"""scan(): one sweep over many processes."""

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
from fastsmaps._source.source import Source


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
    """The totals of many processes, a row each; of all that procfs lists where `pids` is None.

    `pids`, `exclude` and the rows have numbers of `procfs`, which are not those of os.getpid() and
    subprocess where it belongs to another pid namespace than this process (see Process).

    Nothing raises for one process: its ``outcome`` says how it came out, ``coverage`` counts
    that. All of a row is read through one open directory, so that a number that is used again
    never mixes two processes. `workers` threads read at once, without the GIL (of a capture one
    reads). `cgroup` and `cmdline` are read where asked for (15 to 20 us each a process), and `exe`,
    the program's path: the text of the link, also in a capture. With
    `mappings` the lines of maps are counted (about 1 us each), also of processes above `max_rss`,
    as that walks no page; the Scan then has ``max_map_count``, the kernel's limit for a process.

    What is left out is "skipped": processes whose Rss (of statm, before anything else is read,
    in bytes) is below `min_rss` or above `max_rss`; those in `exclude`, or for which that
    function of a row without totals is true; and what remains when `timeout` seconds are over.
    Under a timeout processes above 256 MiB are summed from smaps, which can stop on the way.

    `progress` is called with how many processes are done and of how many, by whichever thread.

    Raises NotProcfs, AccessDenied or ReadError where `procfs` cannot be listed, TypeError and
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
    return Scan(
        sweeper.rows,
        cost=Cost(sum(sweeper.costs), time.monotonic() - begun),
        taken_at=time.time(),
        procfs=source.path,
        count=len(sweeper.order),
        sharing_known=sweeper.sharing_known,
        max_map_count=source.max_map_count() if mappings else None,
        hidden_by=source.hidden_by() if pids is None else None,
    )


def seen(
    pids: Iterable[int] | None, *, procfs: Procfs = "/proc", cmdline: bool = False
) -> Iterator[ProcessTotals]:
    """Rows of these processes without figures, to choose by: no memory is read for them."""
    source = Source(procfs)
    numbers = source.select(pids)
    sweeper = Sweeper(source, texts=("cmdline",) * bool(cmdline), limits=(None, None), until=None)
    try:
        yield from sweeper.seen(numbers)
    finally:
        sweeper.close()
