"""The process that a pidfd refers to, by its number in a procfs."""

from __future__ import annotations

import errno
import os

from fastsmaps._backend.descriptors import read_file
from fastsmaps._errors import Error, NotProcfs, ProcessGone, is_foreign
from fastsmaps._model.stat import status_number
from fastsmaps._source import procfs as _procfs
from fastsmaps._source.openat import open_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import SupportsIndex


def pidfd_number(fd: SupportsIndex, procfs: str) -> int:
    """The number that the procfs gives to the process of a pidfd, now.

    The kernel writes it to the descriptor's fdinfo, counted as the pid namespace of the procfs
    counts through which that is read (fs/pidfs.c, before 6.9 kernel/fork.c). While a process has
    a number no other one gets it: a number that is the same before and after something else was
    read means that both are of one process.

    Raises TypeError and ValueError for what is not a pidfd, ProcessGone where the process is
    reaped, Error where the procfs has no number for it or does not show it, ReadError where its
    fdinfo cannot be read.
    """
    fd = _check_open(fd)
    task = _own_task(procfs)
    path = f"{procfs}/{task}/fdinfo/{fd}"
    try:
        info = open_in(procfs, f"{task}/fdinfo/{fd}")
        try:
            text = read_file(info)
        finally:
            os.close(info)
    except OSError as error:
        raise _procfs.failure(error, None, path, procfs) from None
    number = status_number(text, b"Pid:", None, path)
    if number is None:
        if not _is_pidfd(f"{procfs}/{task}/fd/{fd}"):
            raise ValueError(f"fd: descriptor {fd} is not a pidfd")
        raise Error(f"{path} has no line Pid: (Linux 5.2 and newer have it)", path=path)
    if number < 0:
        raise ProcessGone(f"the process of pidfd {fd} has ended", path=path)
    if number == 0:
        raise Error(
            f"the process of pidfd {fd} is not in the pid namespace of procfs={procfs!r}", path=path
        )
    return number


def _check_open(fd: SupportsIndex) -> int:
    if isinstance(fd, bool) or not hasattr(fd, "__index__"):
        raise TypeError(f"fd: a pidfd as an int, not {type(fd).__name__}")
    number = fd.__index__()
    try:
        os.fstat(number)
    except (OSError, OverflowError) as error:
        if isinstance(error, OverflowError) or error.errno == errno.EBADF:
            raise ValueError(f"fd: descriptor {number} is not open") from None
        if is_foreign(error):
            raise
    return number


def _own_task(procfs: str) -> str:
    """The directory of this thread below the procfs.

    Of the thread, not the process: the main thread may have ended, and has no descriptors then.
    """
    try:
        pid, task, tid = os.readlink(f"{procfs}/thread-self").split("/")
        # What is not a procfs may lead anywhere.
        if task == "task" and len(_procfs.numbers((pid, tid))) == 2:
            return f"{pid}/task/{tid}"
    except (OSError, ValueError) as error:
        if is_foreign(error):
            raise
    number = _procfs.self_pid(procfs)  # before Linux 3.17
    if number is None:
        if os.path.isdir(procfs) and not _procfs.is_procfs(procfs):
            raise NotProcfs(procfs, "not a procfs: a pidfd has no number there")
        raise _procfs.not_found(None, f"{procfs}/self", procfs)
    return str(number)


def _is_pidfd(path: str) -> bool:
    try:
        return "pidfd" in os.readlink(path)  # anon_inode:[pidfd]
    except OSError as error:
        if is_foreign(error):
            raise
        return False
