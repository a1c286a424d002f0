"""totals() and mappings(): one call for one process.

Each tries the one file that nearly always answers, by its path: the fast path. On any failure it
reads again through ProcessDir, which classifies the failure.
"""

from __future__ import annotations

import os
import time

from fastsmaps._arguments import Pid, Procfs, check_pid
from fastsmaps._backend.descriptors import OPEN
from fastsmaps._errors import ParseError, is_foreign
from fastsmaps._model.mappings import Mappings
from fastsmaps._model.totals import Totals
from fastsmaps._source.process_dir import ProcessDir, take_mappings, take_rollup
from fastsmaps._source.source import PROC, Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")


def totals(pid: Pid = "self", *, procfs: Procfs = "/proc") -> Totals:
    """The memory of a process, summed by the kernel (smaps_rollup), in bytes.

    Where the kernel has no smaps_rollup (before 4.14), smaps is summed. `procfs` may be another
    directory with procfs's layout: a host's /proc in a container, or a capture. `pid` is a number
    in that: where `procfs` belongs to another pid namespace than this process, os.getpid() and
    subprocess give other numbers (see Process).

    Raises ProcessGone, AccessDenied (it names what would be enough), NoMemoryMap for a kernel
    thread or zombie, ReadError for another failure of the system, ParseError for a damaged
    capture, NotAProcess for a thread's number, NotProcfs for a directory that is neither a procfs
    nor a capture; TypeError and ValueError for what is no pid.

    Source: proc_pid_smaps(5), Documentation/ABI/testing/procfs-smaps_rollup.
    """
    source = _source_of(procfs)
    number = check_pid(pid)
    result = None
    if source.is_proc or not source.is_capture:
        result = _at_first_try(number, source, "smaps_rollup", take_rollup)
    if result is None:
        with ProcessDir(Source(procfs), number) as process:
            return process.totals()
    return Totals(result[1], None, "smaps_rollup")


def mappings(pid: Pid = "self", *, sizes: bool = True, procfs: Procfs = "/proc") -> Mappings:
    """All mappings of a process, a row each.

    `sizes=False` reads maps instead of smaps: addresses and names alone, without the walk over
    the page tables that the sizes cost. The table is whole: a process that ends or calls exec
    meanwhile gives an error, or the new program's mappings. `pid` is a number in `procfs`, as for
    totals().

    Raises what totals() raises. Source: proc_pid_maps(5), proc_pid_smaps(5).
    """
    source = _source_of(procfs)
    number = check_pid(pid)
    table = _at_first_try(number, source, "smaps" if sizes else "maps", take_mappings)
    if table is None:
        with ProcessDir(Source(procfs), number) as process:
            return process.mappings(sizes=sizes)
    own = source.own_pid() if number == "self" else int(number)
    return Mappings(table, pid=own, procfs=source.path, taken_at=time.time())


# It has nothing that could change: whether /proc is a capture is not asked here.
_PROC = Source()


def _source_of(procfs: Procfs) -> Source:
    return _PROC if procfs == PROC else Source(procfs)


def _at_first_try(
    number: int | str, source: Source, name: str, take: Callable[[int], T | None]
) -> T | None:
    """What `take` makes of the process's file; None where anything stands in the way."""
    path = f"{source.path}/{number}/{name}"
    try:
        # Without Source.open(): one call of a Python function is a hundredth of the 15 us.
        fd = os.open(path, OPEN) if source.is_proc else source.open(f"{number}/{name}")
        try:
            result = take(fd)
        finally:
            os.close(fd)
    except ParseError as error:
        error.path = path
        error.pid = None if number == "self" else int(number)
        raise
    except OSError as error:
        if is_foreign(error):
            raise
        return None
    if result is not None and number != "self":
        source.check_is_process(int(number))
    return result
