"""totals(), and how one call reads one process; mappings() is apart, since it imports more.

In /proc the backend does everything in one call, which nearly always works. Another procfs's file
is opened by its path. On any failure the process is read again through ProcessDir, which classifies
the failure.
"""

from __future__ import annotations

import os
from os import getpid

from fastsmaps import _backend
from fastsmaps._arguments import Pid, Procfs, check_pid
from fastsmaps._errors import ParseError, is_foreign
from fastsmaps._model.totals import Totals
from fastsmaps._public import public
from fastsmaps._source.source import PROC, Source, proc_counts_ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")


@public
def totals(pid: Pid = "self", *, procfs: Procfs = "/proc") -> Totals:
    """Return the memory of a process in bytes, summed by the kernel (smaps_rollup).

    If the kernel has no smaps_rollup (before 4.14), smaps is summed. `procfs` may be another
    directory with procfs's layout: a host's /proc in a container, or a capture. `pid` is a number
    in `procfs`: if that belongs to another pid namespace than this process, os.getpid() and
    subprocess give other numbers (see Process).

    Raises ProcessGone, AccessDenied (its message names the missing right), NoMemoryMap for a
    kernel thread or zombie, ReadError for other system errors, ParseError for a damaged capture,
    NotAProcess for a thread's number, NotProcfs for a directory that is neither a procfs nor a
    capture; TypeError and ValueError for an invalid pid.

    Source: proc_pid_smaps(5), Documentation/ABI/testing/procfs-smaps_rollup.
    """
    if procfs == PROC and proc_counts_ours():
        sums = _backend.rollup_at(own_number(pid))
        if sums is not None:
            return Totals(sums, None, "smaps_rollup")
    source = Source(procfs)
    number = check_pid(pid)
    sums = None
    if source.is_proc or not source.is_capture:
        sums = at_first_try(number, source, "smaps_rollup", _backend.rollup)
    if sums is not None:
        return Totals(sums, None, "smaps_rollup")
    from fastsmaps._source.process_dir import ProcessDir

    with ProcessDir(source, number) as process:
        return process.totals()


def own_number(pid: Pid) -> int:
    """Return the pid in our own pid namespace."""
    number = pid if type(pid) is int else check_pid(pid)
    return getpid() if isinstance(number, str) else number


def at_first_try(
    number: int | str, source: Source, name: str, take: Callable[[int], T | None]
) -> T | None:
    """Return the result of `take` for the process's file; None on any failure of the system."""
    path = f"{source.path}/{number}/{name}"
    try:
        fd = source.open(f"{number}/{name}")
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
