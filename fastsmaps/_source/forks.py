"""Detection of a fork."""

from __future__ import annotations

import os

_forks = 0


def own_process() -> tuple[int, int]:
    """Return a value that is different in each child of this process.

    os.getpid() is not enough: the first process of a new pid namespace has pid 1, and its parent
    may have pid 1 in the outer namespace.
    """
    return os.getpid(), _forks


def _count() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_count)
