"""The process that a pidfd refers to, by its number in a procfs."""

from __future__ import annotations

import errno
import os

from fastsmaps._arguments import check_int, pids_among, wrong
from fastsmaps._errors import (
    NotInNamespace,
    NotProcfs,
    NotSupported,
    ProcessGone,
    is_foreign,
)
from fastsmaps._model.stat import status_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import SupportsIndex

    from fastsmaps._source.source import Source


def pidfd_number(fd: SupportsIndex, source: Source) -> int:
    """Return the number that the process of a pidfd has in the procfs now.

    The kernel writes the number to the descriptor's fdinfo, in the pid namespace of the procfs
    through which fdinfo is read (fs/pidfs.c, before 6.9 kernel/fork.c). Numbers are not reused
    while their process exists: if the number is the same before and after a read, the read was of
    this process.

    Raises TypeError or ValueError if `fd` is not a pidfd, ProcessGone if the process has been
    reaped, NotInNamespace if the process has no number in the procfs, NotSupported if the kernel
    does not report it, ReadError if fdinfo cannot be read.
    """
    fd = _check_open(fd)
    task = _own_task(source)
    path = f"{source.path}/{task}/fdinfo/{fd}"
    try:
        text = source.read(f"{task}/fdinfo/{fd}")
    except OSError as error:
        raise source.failure(error, None, path) from None
    number = status_number(text, b"Pid:", None, path)
    if number is None:
        if not _is_pidfd(f"{source.path}/{task}/fd/{fd}"):
            raise wrong("fd", "a pidfd", fd, int)
        problem = f"{path} has no line Pid: (since Linux 5.2): open the process by its number"
        raise NotSupported(problem, path=path)
    if number < 0:
        raise ProcessGone(f"the process of pidfd {fd} has ended", path=path)
    if number == 0:
        problem = f"the process of pidfd {fd} is not in the pid namespace of procfs={source.path!r}"
        raise NotInNamespace(f"{problem}: pass a procfs that shows it", path=path)
    return number


def _check_open(fd: SupportsIndex) -> int:
    number = check_int("fd", fd)
    try:
        os.fstat(number)
    except (OSError, OverflowError) as error:
        if isinstance(error, OverflowError) or error.errno == errno.EBADF:
            raise wrong("fd", "an open descriptor", number, int) from None
        if is_foreign(error):
            raise
    return number


def _own_task(source: Source) -> str:
    """Return this thread's directory in the procfs.

    Not the process's: the main thread may have ended, and then has no descriptors.
    """
    try:
        pid, task, tid = os.readlink(f"{source.path}/thread-self").split("/")
        # Unless it is a procfs, the link may lead anywhere.
        if task == "task" and len(pids_among((pid, tid))) == 2:
            return f"{pid}/task/{tid}"
    except (OSError, ValueError) as error:
        if is_foreign(error):
            raise
    number = source.own_pid()  # before Linux 3.17
    if number is None:
        if os.path.isdir(source.path) and source.is_capture:
            raise NotProcfs(source.path, "not a procfs: a pidfd has no number there")
        raise source.not_found(None, f"{source.path}/self")
    return str(number)


def _is_pidfd(path: str) -> bool:
    try:
        return "pidfd" in os.readlink(path)  # anon_inode:[pidfd]
    except OSError as error:
        if is_foreign(error):
            raise
        return False
