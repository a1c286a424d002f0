"""Descriptors: how files are opened, small ones read, and how many more may be opened."""

from __future__ import annotations

import errno
import os

from fastsmaps._backend.bounded import MARK, MAX_TEXT, cut
from fastsmaps._errors import is_foreign

#: O_NONBLOCK is for a FIFO that somebody mounted over a file: opening it would wait for ever.
OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK

#: Errors of open() where this process, or the whole system, has no descriptor left.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE)
#: Where RLIMIT_NOFILE is unlimited: more than any program opens.
_ENDLESS = 1 << 30


def is_exhausted(error: BaseException | None) -> bool:
    """Whether it failed for want of a descriptor, or what caused it did."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _EXHAUSTED:
            return True
        error = error.__cause__
    return False


def limit() -> int:
    """RLIMIT_NOFILE: numbers of descriptors to come are below it. It may change at any time."""
    most = os.sysconf("SC_OPEN_MAX")  # without the module resource, which takes 0.3 ms to import
    return _ENDLESS if most < 0 else most


def free_descriptors() -> int | None:
    """How many more this process may open, at least; None where that is not known.

    Below 0 where the limit was lowered since some were opened.
    """
    # Of the thread: the main one may have ended.
    path = "/proc/thread-self/fd"
    try:
        # Since Linux 6.2 the size is the number of open descriptors, before it is 0.
        used = os.stat(path).st_size or len(os.listdir(path))
    except OSError as error:
        if is_foreign(error):
            raise
        return None
    return limit() - used


def is_low(fd: int) -> bool:
    """Whether a descriptor just opened shows that at most half of the limit is used.

    A new descriptor gets the lowest number that is free. Costs a tenth of counting, and is only
    wrong where low numbers were closed while higher ones stayed open.
    """
    return fd < limit() // 2


def read_file(fd: int, most: int = MAX_TEXT) -> bytes:
    """An open small file from its start; after `most` bytes it is cut.

    A process may name all of its memory as its command line (PR_SET_MM_MAP, no right needed): 3 GB
    from one that has 6 MB.
    """
    blocks = []
    offset = 0
    beyond = most + len(MARK) + 1
    while block := os.pread(fd, min(1 << 16, beyond - offset), offset):
        blocks.append(block)
        offset += len(block)
    return b"".join(blocks) if offset <= most else cut(b"".join(blocks), most)


def gives_a_byte(fd: int) -> bool:
    """Return whether the file still has text: none after its process ended or called exec."""
    try:
        return bool(os.pread(fd, 1, 0))
    except OSError as error:
        if is_foreign(error):
            raise
        return False
