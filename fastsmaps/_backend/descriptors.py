"""File descriptors: flags to open, reads of small files, and how many more may be opened."""

from __future__ import annotations

import errno
import os

from fastsmaps._backend.bounded import MARK, MAX_TEXT, cut
from fastsmaps._errors import is_foreign

#: O_NONBLOCK is for a FIFO that is mounted over a file: opening it would block forever.
OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK

#: Errors of open() where this process, or the whole system, has no descriptor left.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE)
#: Stands for an unlimited RLIMIT_NOFILE: more than any program opens.
_ENDLESS = 1 << 30


def is_exhausted(error: BaseException | None) -> bool:
    """Whether the cause of an error is that no descriptor was left."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _EXHAUSTED:
            return True
        error = error.__cause__
    return False


def limit() -> int:
    """RLIMIT_NOFILE: new descriptors are numbers below it; it may change at any time."""
    value = os.sysconf("SC_OPEN_MAX")  # without the module resource: 0.3 ms to import
    return _ENDLESS if value < 0 else value


def free_descriptors() -> int | None:
    """Count the descriptors that this process may still open; None if it cannot be counted.

    Negative if the limit was lowered below the number of open ones.
    """
    # The thread's, since the main thread may have ended.
    path = "/proc/thread-self/fd"
    try:
        # The size is the number of open descriptors since Linux 6.2, and 0 before.
        used = os.stat(path).st_size or len(os.listdir(path))
    except OSError as error:
        if is_foreign(error):
            raise
        return None
    return limit() - used


def is_low(fd: int) -> bool:
    """Whether a descriptor just opened shows that at most half of the limit is used.

    A new descriptor gets the lowest free number. This costs a tenth of counting, and is only wrong
    if low numbers were closed while higher ones stayed open.
    """
    return fd < limit() // 2


def read_file(fd: int, limit: int = MAX_TEXT) -> bytes:
    """Read an open small file from its start, cut after `limit` bytes.

    A process may declare all of its memory its command line (PR_SET_MM_MAP, which needs no right):
    3 GB from one that has 6 MB.
    """
    blocks = []
    offset = 0
    enough = limit + len(MARK) + 1
    while block := os.pread(fd, min(1 << 16, enough - offset), offset):
        blocks.append(block)
        offset += len(block)
    return cut(b"".join(blocks), limit) if offset > limit else b"".join(blocks)


def gives_a_byte(fd: int) -> bool:
    """Whether the file still has text; it has none once its process ended or called exec."""
    try:
        return bool(os.pread(fd, 1, 0))
    except OSError as error:
        if is_foreign(error):
            raise
        return False
