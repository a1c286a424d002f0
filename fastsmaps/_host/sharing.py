"""Which processes have all of their memory in common, and where it is counted.

A child between vfork() and exec, as posix_spawn() makes it, and what clone(CLONE_VM) made without
CLONE_THREAD shows its creator's memory under a number of its own: each file of /proc/<pid> has the
same figures, Pss too, so that a sum would hold them twice. They are counted in the creator's row.

Both have PF_FORKNOEXEC in the flags of stat, as has every fork that called no exec, which has
memory of its own. kcmp(2) distinguishes them for certain, where ptrace rights allow it and the
numbers are those of our own pid namespace; otherwise what /proc shows decides where it is enough:
see waits_in_vfork(). Where it is not, all are counted and ``Scan.sharing_known`` is False.

**The order.** A process comes to have its creator's memory by its creation alone, and leaves it by
exec or its end; it never comes back. So a comparison *before* its memory is read that finds a
difference holds for what is read then; the backend's Sweep makes it against the parent, a
microsecond before. What it finds to be the same is not read, but decided on after all others: where
the two are the same still, one is left out. Where they are not, the child called exec or ended, or
the parent did: both are read anew, so that nothing is missing and nothing is counted twice. Others
than parent and child (CLONE_PARENT, a parent that ended) are compared once at the end: there what
calls exec between its reading and that moment is counted in both, for this once. They are not
compared among more than MAX_FORKS of one program that all have another memory than their parent,
which is one of them: 10,000 children of a prefork server would take a fifth of the scan.
"""

from __future__ import annotations

from array import array

from fastsmaps import _backend
from fastsmaps._errors import Error, NoMemoryMap, ProcessGone
from fastsmaps._model.sharing import Member
from fastsmaps._model.stat import TICKS
from fastsmaps._source.process_dir import ProcessDir

#: See above; sorting so many takes 5 comparisons each.
MAX_FORKS = 32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastsmaps._source.source import Source


def swept_member(row: tuple[int, int, int, int, bool, int, bool, bool]) -> Member:
    """One of a backend's Sweep.members()."""
    _, pid, ppid, start, forked, stack, read, apart = row
    return Member(pid, ppid, start / TICKS, forked, stack, read, apart, linked=not read)


def member_of(process: ProcessDir) -> Member | None:
    """What is to be known of a process; None for one without memory, and where stat is missing."""
    try:
        stat = process.stat()
        # A capture holds a process's memory as its own, also where a thread had it.
        found = (process.pid, stat) if process.source.is_capture else process.memory_stat()
    except Error:
        return None
    if found is None:
        return None
    # A thread has the flag whatever the process did: its own says nothing.
    return Member(
        process.pid,
        stat.ppid or 0,
        stat.start_time or 0,
        stat.keeps_parents_memory,
        found[1].start_stack,
        read=False,
        apart=False,
        task=found[0],
    )


def related(members: Iterable[Member]) -> dict[int, Member]:
    """By pid those that may have memory in common with one that was forked, and these."""
    every = list(members)
    forked = [member for member in every if member.forked]
    stacks = {member.stack for member in forked}
    pids = {member.ppid for member in forked}
    return {m.pid: m for m in every if m.forked or m.stack in stacks or m.pid in pids}


def in_order(group: Iterable[Member]) -> list[Member]:
    """The one that is not another one's child first, then by their age."""
    members = list(group)
    pids = {member.pid for member in members}
    return sorted(members, key=lambda m: (m.forked, m.ppid in pids, m.start, m.pid))


class Sharing:
    """What is known of the processes of one procfs or capture.

    ``unknown`` are those that could not be compared with another one that was read. A capture says
    itself which processes have the memory of which others.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        noted = source.metadata.sharing if source.is_capture else None
        self._noted, self._all_noted = ({}, False) if noted is None else noted
        self.compares = source.counts_ours()
        self.unknown: set[int] = set()
        self._waiting: dict[int, bool] = {}

    def same(self, member: Member, task: int) -> bool | None:
        """Whether two have the same memory; None where they may not be compared, or one ended."""
        if not self.compares:
            return None
        places = _backend.same_memory(memoryview(array("i", [member.task, task])))
        if None in places:
            return None
        return places[0] == places[1] and self._has_memory([member])

    def still(self, member: Member, counted: Member) -> bool:
        """Whether a process still has its memory in common with the one where it is counted."""
        if member.pid in self._noted:
            return True
        answer = self.same(member, counted.task)
        if answer is None:
            return waits_in_vfork(member.pid, counted.pid, self.source)
        return answer

    def renew(self) -> None:
        """What was seen before is forgotten: another sweep begins."""
        self.unknown = set()
        self._waiting = {}

    def groups(self, members: Iterable[Member], *, trusted: bool = False) -> list[list[Member]]:
        """Those that have the same memory, at least two each.

        `trusted`: what is linked was so when it was read, and counts as it was then.
        """
        by_pid = {member.pid: member for member in members}
        same = _Sets()
        for member in by_pid.values():
            parent = by_pid.get(self._noted.get(member.pid, member.ppid))
            if not member.forked or parent is None or parent is member:
                continue
            if self._is_parents(member, parent, trusted):
                same.join(member.pid, parent.pid)
        for group in _by_stack(by_pid.values()):
            self._join_equal([m for m in group if m.read or m.pid not in same], same)
        return [[by_pid[pid] for pid in group] for group in same.groups()]

    def _is_parents(self, member: Member, parent: Member, trusted: bool) -> bool:
        if member.pid in self._noted or (member.linked and trusted):
            return True
        if member.linked:
            return bool(self.same(member, parent.task))
        if member.apart or not (member.read and parent.read):
            return False
        answer = self.same(member, parent.task)
        member.apart = answer is False
        if answer is None:
            answer = not self._all_noted and self._waits(member, parent)
            if not answer and not self._all_noted:
                self.unknown.add(member.pid)
        return answer

    def _join_equal(self, group: list[Member], same: _Sets) -> None:
        if not self.compares:
            if not self._all_noted:
                self.unknown.update(m.pid for m in group if m.forked and m.pid not in same)
            return
        if len(group) > MAX_FORKS:
            # Of a main thread that has left the backend's comparison says nothing.
            pids = {member.pid for member in group if member.task == member.pid}
            if all(not m.forked or (m.apart and m.ppid in pids) for m in group):
                return
        places = _backend.same_memory(memoryview(array("i", [member.task for member in group])))
        equal: dict[int, list[Member]] = {}
        for member, place in zip(group, places, strict=True):
            if place is not None:
                equal.setdefault(place, []).append(member)
        for members in equal.values():
            if len(members) > 1 and self._has_memory(members):
                for member in members:
                    same.join(member.pid, members[0].pid)

    def _has_memory(self, members: list[Member]) -> bool:
        """Whether they have not all ended by now: zombies have no memory, and that in common."""
        for member in members:
            try:
                with ProcessDir(self.source, member.pid) as process:
                    if process.memory_stat() is not None:
                        return True
            except (ProcessGone, NoMemoryMap):
                pass
            except Error:
                return True  # no descriptor is left, say: what has ended does not end so
        return False

    def _waits(self, child: Member, parent: Member) -> bool:
        if parent.pid not in self._waiting:
            self._waiting[parent.pid] = has_waiting_thread(parent.pid, self.source)
        return self._waiting[parent.pid] and waits_in_vfork(child.pid, parent.pid, self.source)


def _by_stack(members: Iterable[Member]) -> list[list[Member]]:
    """Those that may have the same memory: their stacks begin at the same address.

    Each exec chooses another one at random; forks keep it. 0 and 1: the reader may not see it.
    """
    groups: dict[int, list[Member]] = {}
    for member in members:
        if member.stack > 1:
            groups.setdefault(member.stack, []).append(member)
    return [
        group
        for group in groups.values()
        if len(group) > 1 and any(member.forked for member in group)
    ]


class _Sets:
    """Numbers that were joined, directly or by way of others."""

    def __init__(self) -> None:
        self._above: dict[int, int] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._above

    def _top(self, number: int) -> int:
        while (above := self._above.get(number, number)) != number:
            self._above[number] = self._above.get(above, above)
            number = above
        return number

    def join(self, a: int, b: int) -> None:
        if a != b:
            self._above.setdefault(a, a)
            self._above.setdefault(b, b)
            self._above[self._top(a)] = self._top(b)

    def groups(self) -> list[list[int]]:
        found: dict[int, list[int]] = {}
        for number in self._above:
            found.setdefault(self._top(number), []).append(number)
        return list(found.values())


# ---- where nothing may be compared


def has_waiting_thread(pid: int, source: Source) -> bool:
    """Whether a thread waits as vfork() does (state D), by its stat."""
    try:
        with ProcessDir(source, pid) as process:
            return process.has_waiting_thread()
    except Error:
        return False


# What the two have in common to the byte; Pss also depends on who else maps a file.
_SAME = ("rss", "anonymous", "pss_anon", "swap", "anon_huge_pages", "private_hugetlb")


def waits_in_vfork(child: int, parent: int, source: Source) -> bool:
    """Whether what /proc shows is enough to say that the child has its parent's memory.

    A thread of the parent waits (state D, as in vfork(), or for a disk). Both have the same Rss,
    anonymous memory and swap, and all anonymous memory is theirs alone. A fork's is not: each
    anonymous page is in both until one of them writes to it, and some are written to by nobody
    after the start, such as relocated data. So a fork would need to have written to every page,
    the parent too, have as many of them nevertheless, and the parent wait for a disk.
    """
    try:
        with ProcessDir(source, parent) as first, ProcessDir(source, child) as second:
            # The child may write to a page between the two readings.
            if not any(_have_the_same(first, second) for _ in range(3)):
                return False
            stat = second.stat()
            return stat.keeps_parents_memory and stat.ppid == parent
    except Error:
        return False


def _have_the_same(first: ProcessDir, second: ProcessDir) -> bool:
    figures, others = first.totals(), second.totals()
    anonymous = figures.anonymous
    if not anonymous or figures.pss_anon != anonymous:
        return False
    return all(figures[name] == others[name] for name in _SAME)
