"""Processes that may share all of their memory: what is known of each, and what its row says."""

from __future__ import annotations


class Member:
    """A process that may have its memory in common with others.

    ``task`` is the number that is compared: of a thread where the main one has left. ``read`` is
    whether it has figures, ``linked`` whether it was seen to have its parent's memory, ``apart``
    whether it was seen not to.
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
    """What the row of a process says whose memory is counted in another one's."""
    return (
        f"shares all its memory with process {pid}, where it is counted "
        "(vfork, or clone with CLONE_VM)"
    )
