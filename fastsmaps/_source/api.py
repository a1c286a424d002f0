"""totals() and mappings(): one call for one process.

Each tries the one file that nearly always answers, by its path. Whatever else happens is told
apart by Process, which reads the same once more and knows all fates of a process.
"""

from __future__ import annotations

import os
import time

from fastsmaps._backend.descriptors import OPEN
from fastsmaps._errors import ParseError, is_foreign
from fastsmaps._model.mappings import Mappings
from fastsmaps._model.totals import Totals
from fastsmaps._source.openat import KERNELS, open_in
from fastsmaps._source.process import Process, take_mappings, take_rollup
from fastsmaps._source.procfs import check_is_process, check_pid, is_procfs, root, self_pid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from fastsmaps._source.procfs import Pid, Procfs

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
    procfs = root(procfs)
    number = check_pid(pid)
    result = None
    if procfs == KERNELS or is_procfs(procfs):
        result = _at_first_try(number, procfs, "smaps_rollup", take_rollup)
    if result is None:
        with Process(pid, procfs=procfs) as process:
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
    procfs = root(procfs)
    number = check_pid(pid)
    table = _at_first_try(number, procfs, "smaps" if sizes else "maps", take_mappings)
    if table is None:
        with Process(pid, procfs=procfs) as process:
            return process.mappings(sizes=sizes)
    own = self_pid(procfs) if number == "self" else int(number)
    return Mappings(table, pid=own, procfs=procfs, taken_at=time.time())


def _at_first_try(
    number: int | str, procfs: str, name: str, take: Callable[[int], T | None]
) -> T | None:
    """What `take` makes of the process's file; None where anything stands in the way."""
    path = f"{procfs}/{number}/{name}"
    try:
        # Of a call that takes 15 us one of Python's own is a hundredth.
        fd = os.open(path, OPEN) if procfs == KERNELS else open_in(procfs, f"{number}/{name}")
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
        check_is_process(int(number), procfs)
    return result
