"""Families: which processes may share pages, or all of their memory, since a fork."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastsmaps._model.sharing import Member

# In a larger family one process more or less changes the Pss of the others by less than 3 %.
_MAX_FAMILY = 32
# Generations of forks that share pages.
_MAX_GENERATIONS = 4


class Families:
    """Facts about processes that were forked without an exec, by pid."""

    def __init__(self) -> None:
        self._members: dict[int, Member] = {}
        self._children: dict[int, set[int]] = {}  # the forked ones
        self._stacks: dict[int, set[int]] = {}

    def put(self, pid: int, member: Member | None) -> None:
        """Store the facts about a process; None if it has no memory."""
        old = self._members.get(pid)
        if old is not None and member is not None:
            before = old.ppid, old.stack, old.forked
            if before == (member.ppid, member.stack, member.forked):
                self._members[pid] = member
                return
        self.remove(pid)
        if member is not None:
            self._members[pid] = member
            self._stacks.setdefault(member.stack, set()).add(pid)
            if member.forked:
                self._children.setdefault(member.ppid, set()).add(pid)

    def remove(self, pid: int) -> None:
        """Forget a process; its children stay."""
        member = self._members.pop(pid, None)
        if member is not None:
            _discard(self._stacks, member.stack, pid)
            if member.forked:
                _discard(self._children, member.ppid, pid)

    def has(self, pid: int) -> bool:
        """Whether the process was forked without an exec, or has such a child."""
        member = self._members.get(pid)
        return pid in self._children or (member is not None and member.forked)

    def relatives(self, pid: int) -> set[int]:
        """Return the processes that share pages with this one: parents, children, siblings."""
        found: set[int] = set()
        groups = [self._children.get(pid, set())]
        member = self._members.get(pid)
        for _ in range(_MAX_GENERATIONS):
            if member is None or not member.forked:
                break
            found.add(member.ppid)
            groups.append(self._children.get(member.ppid, set()))
            member = self._members.get(member.ppid)
        for group in groups:
            if len(group) <= _MAX_FAMILY:
                found |= group
        return found - {pid}

    def may_share(self, pids: Iterable[int]) -> list[int]:
        """Return these processes and all others that may have the same memory as one of them."""
        found: dict[int, None] = {}
        for pid in pids:
            member = self._members.get(pid)
            if member is not None:
                found[pid] = None
                if member.stack > 1:  # 0 and 1 mean that it is hidden
                    found |= dict.fromkeys(self._stacks[member.stack])
                if member.forked and member.ppid in self._members:
                    found[member.ppid] = None
        return list(found)


def _discard(groups: dict[int, set[int]], key: int, pid: int) -> None:
    group = groups[key]
    group.discard(pid)
    if not group:
        del groups[key]
