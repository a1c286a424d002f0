"""totals() and mappings(): one call for one process.

Each tries the one file that nearly always answers, by its path. Whatever else happens is told
apart by Process, which reads the same once more and knows all fates of a process.
"""

from __future__ import annotations

import os
import time

from fastsmaps import _backend
from fastsmaps.errors import ParseError
from fastsmaps.mappings import Mappings
from fastsmaps.process import Process
from fastsmaps.procfs import OPEN, PIECE, PIECES, check_is_process, check_pid, root, self_pid
from fastsmaps.totals import Totals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastsmaps.procfs import Pid, Procfs


def totals(pid: Pid = "self", *, procfs: Procfs = "/proc") -> Totals:
    """The memory of a process, summed by the kernel (smaps_rollup), in bytes.

    Where the kernel has no smaps_rollup (before 4.14), smaps is summed. `procfs` may be another
    directory with procfs's layout: a host's /proc in a container, or a capture.

    Raises ProcessGone, AccessDenied (it names what would be enough), NoMemoryMap for a kernel
    thread or zombie, ReadError for another failure of the system, ParseError for a damaged
    capture, Error for a thread's number or a directory that is no procfs; TypeError and
    ValueError for what is no pid.

    Source: proc_pid_smaps(5), Documentation/ABI/testing/procfs-smaps_rollup.
    """
    procfs = root(procfs)
    number = check_pid(pid)
    path = f"{procfs}/{number}/smaps_rollup"
    try:
        fd = os.open(path, OPEN)
        try:
            result = _backend.total(fd, PIECE, PIECES, False)
        finally:
            os.close(fd)
    except ParseError as error:
        error.path = path
        error.pid = None if number == "self" else int(number)
        raise
    except OSError:
        result = None
    if result is None:
        with Process(pid, procfs=procfs) as process:
            return process.totals()
    if number != "self":
        check_is_process(int(number), procfs)
    return Totals(result[1], None, "smaps_rollup")


def mappings(pid: Pid = "self", *, sizes: bool = True, procfs: Procfs = "/proc") -> Mappings:
    """All mappings of a process, a row each.

    `sizes=False` reads maps instead of smaps: addresses and names alone, without the walk over
    the page tables that the sizes cost. The table is whole: a process that ends or calls exec
    meanwhile gives an error, or the new program's mappings.

    Raises what totals() raises. Source: proc_pid_maps(5), proc_pid_smaps(5).
    """
    procfs = root(procfs)
    number = check_pid(pid)
    path = f"{procfs}/{number}/{'smaps' if sizes else 'maps'}"
    try:
        fd = os.open(path, OPEN)
        try:
            table = _backend.read(fd, PIECE, PIECES)
        finally:
            os.close(fd)
    except ParseError as error:
        error.path = path
        error.pid = None if number == "self" else int(number)
        raise
    except OSError:
        table = None
    if table is None:
        with Process(pid, procfs=procfs) as process:
            return process.mappings(sizes=sizes)
    own: int | None
    if number == "self":
        own = self_pid(procfs)
    else:
        own = int(number)
        check_is_process(own, procfs)
    return Mappings(table, pid=own, procfs=procfs, taken_at=time.time())
