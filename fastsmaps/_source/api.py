"""totals(), and how one call reads one process; mappings() is apart, since it imports more.

The fast path opens one file by its path, which nearly always works. On any failure the process is
read again through ProcessDir, which classifies the failure.
"""

from __future__ import annotations

import os

from fastsmaps._arguments import Pid, Procfs, check_pid
from fastsmaps._backend.descriptors import OPEN
from fastsmaps._errors import ParseError, is_foreign
from fastsmaps._model.totals import Totals
from fastsmaps._public import public
from fastsmaps._source.chunks import take_rollup
from fastsmaps._source.source import PROC, Source

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
    source = source_of(procfs)
    number = check_pid(pid)
    result = None
    if source.is_proc or not source.is_capture:
        result = at_first_try(number, source, "smaps_rollup", take_rollup)
    if result is None:
        from fastsmaps._source.process_dir import ProcessDir

        with ProcessDir(Source(procfs), number) as process:
            return process.totals()
    return Totals(result[1], None, "smaps_rollup")


# Shared: it holds no state, since nothing here asks whether /proc is a capture.
_PROC = Source()


def source_of(procfs: Procfs) -> Source:
    """Return the source of a directory."""
    return _PROC if procfs == PROC else Source(procfs)


def at_first_try(
    number: int | str, source: Source, name: str, take: Callable[[int], T | None]
) -> T | None:
    """Return the result of `take` for the process's file; None on any failure of the system."""
    path = f"{source.path}/{number}/{name}"
    try:
        # /proc without Source.open(): one Python call is a hundredth of the 15 us.
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
