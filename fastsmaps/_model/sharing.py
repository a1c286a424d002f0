"""Processes that may share all of their memory: facts to compare them, and the row's error."""

from __future__ import annotations


class Member:
    """A process that may share its memory with others.

    ``task`` is the id that is compared: a thread's if the main thread has exited. ``read`` is
    whether the row has totals, ``linked`` whether the process was seen to have its parent's
    memory, ``apart`` whether it was seen not to.
    """

    __slots__ = ("apart", "forked", "linked", "pid", "ppid", "read", "stack", "start", "task")

    def __init__(
        self,
        pid: int,
        ppid: int,
        start: float,
        forked: bool,
        stack: int,
        read: bool,
        apart: bool,
        *,
        linked: bool = False,
        task: int | None = None,
    ) -> None:
        self.pid = pid
        self.ppid = ppid
        self.start = start
        self.forked = forked
        self.stack = stack
        self.read = read
        self.apart = apart
        self.linked = linked
        self.task = pid if task is None else task


def error_of(pid: int) -> str:
    """Return the error in the row of a process whose memory is counted in the row of `pid`."""
    return (
        f"shares all its memory with process {pid}, where it is counted "
        "(vfork, or clone with CLONE_VM)"
    )
