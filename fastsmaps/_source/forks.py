"""Which process this is, to notice a fork."""

from __future__ import annotations

import os

_forks = 0


def own_process() -> tuple[int, int]:
    """A value that differs in each child of this process.

    Not os.getpid() alone: the first process of a new pid namespace is 1, and its parent may be
    the 1 of the outer one.
    """
    return os.getpid(), _forks


def _count() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_count)
