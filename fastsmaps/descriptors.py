"""How many more descriptors may be opened: those of the program that uses this come first."""

from __future__ import annotations

import errno
import os

from fastsmaps.errors import is_foreign

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
