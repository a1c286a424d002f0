"""Find processes that share all of their memory, and decide which row counts it.

A child between vfork() and exec (posix_spawn), and a process made by clone(CLONE_VM) without
CLONE_THREAD, show their creator's memory under their own pid. Each file of /proc/<pid> has the same
values, Pss included, so a sum would count them twice. The creator's row counts them.

Both have PF_FORKNOEXEC in the flags of stat, like every fork that has not called exec, which has
memory of its own. kcmp(2) distinguishes them, if ptrace rights allow it and the pids are those of
our own pid namespace. Otherwise /proc decides if it shows enough: see waits_in_vfork(). If not, all
are counted and ``Scan.sharing_known`` is False.

**The order of comparisons.** A process shares its creator's memory only from its creation on, and
stops for good by exec or its end. So if a comparison *before* the read finds a difference, it holds
for the read; the backend's Sweep compares with the parent a microsecond before. A process found to
share is not read, but decided on after all others. If it still shares, it is left out. If not, the
child or the parent called exec or ended: both are read anew, so that nothing is missing or counted
twice. Processes other than parent and child (CLONE_PARENT, a parent that ended) are compared once
at the end. One that calls exec between its read and that moment counts twice in this scan. Forks of
one program are not compared if they are more than MAX_FORKS, all children of one of them, and have
other memory than it: 10,000 children of a prefork server would take a fifth of the scan.
"""

from __future__ import annotations

from array import array

from fastsmaps import _backend
from fastsmaps._errors import Error, NoMemoryMap, ProcessGone
from fastsmaps._model.sharing import Member
from fastsmaps._model.stat import TICKS
from fastsmaps._source.process_dir import ProcessDir

#: See above. Sorting this many takes 5 comparisons each.
MAX_FORKS = 32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastsmaps._source.source import Source


def swept_member(row: tuple[int, int, int, int, bool, int, bool, bool]) -> Member:
    """Return the Member for a row of a backend's Sweep.members()."""
    _, pid, ppid, start, forked, stack, read, apart = row
    return Member(pid, ppid, start / TICKS, forked, stack, read, apart, linked=not read)


def member_of(process: ProcessDir) -> Member | None:
    """Return the Member of a process; None without memory, or if stat is missing."""
    try:
        stat = process.stat()
        # A capture stores the memory under the process, even if a thread had it.
        found = (process.pid, stat) if process.source.is_capture else process.memory_stat()
    except Error:
        return None
    if found is None:
        return None
    # Threads always have the flag, so take it from the process.
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
    """Return, by pid, the forked processes and those that may share memory with them."""
    members = list(members)
    forked = [member for member in members if member.forked]
    stacks = {member.stack for member in forked}
    pids = {member.ppid for member in forked}
    return {m.pid: m for m in members if m.forked or m.stack in stacks or m.pid in pids}


def in_order(group: Iterable[Member]) -> list[Member]:
    """Sort: a member that is not the child of another one first, then by age."""
    members = list(group)
    pids = {member.pid for member in members}
    return sorted(members, key=lambda m: (m.forked, m.ppid in pids, m.start, m.pid))


class Sharing:
    """Which processes of a procfs or capture share memory.

    ``unknown`` has those that could not be compared with another one that was read. A capture
    records which processes share memory.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        noted = source.metadata.sharing if source.is_capture else None
        self._noted, self._all_noted = ({}, False) if noted is None else noted
        self.compares = source.counts_ours()
        self.unknown: set[int] = set()
        self._waiting: dict[int, bool] = {}

    def same(self, member: Member, task: int) -> bool | None:
        """Return whether two share memory; None if that is not allowed, or one has ended."""
        if not self.compares:
            return None
        places = _backend.same_memory(memoryview(array("i", [member.task, task])))
        if None in places:
            return None
        return places[0] == places[1] and self._has_memory([member])

    def still(self, member: Member, counted: Member) -> bool:
        """Return whether a process still shares memory with the one that counts it."""
        if member.pid in self._noted:
            return True
        answer = self.same(member, counted.task)
        if answer is None:
            return waits_in_vfork(member.pid, counted.pid, self.source)
        return answer

    def renew(self) -> None:
        """Forget earlier answers: another sweep begins."""
        self.unknown = set()
        self._waiting = {}

    def groups(self, members: Iterable[Member], *, trusted: bool = False) -> list[list[Member]]:
        """Return groups of at least two members that share memory.

        `trusted` believes a link that was found when the row was read.
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
            # The backend cannot compare a main thread that has exited.
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
        """Return whether one is still alive: kcmp finds zombies, without memory, equal."""
        for member in members:
            try:
                with ProcessDir(self.source, member.pid) as process:
                    if process.memory_stat() is not None:
                        return True
            except (ProcessGone, NoMemoryMap):
                pass
            except Error:
                return True  # such as no free descriptor: not the error of an ended process
        return False

    def _waits(self, child: Member, parent: Member) -> bool:
        if parent.pid not in self._waiting:
            self._waiting[parent.pid] = has_waiting_thread(parent.pid, self.source)
        return self._waiting[parent.pid] and waits_in_vfork(child.pid, parent.pid, self.source)


def _by_stack(members: Iterable[Member]) -> list[list[Member]]:
    """Group members that may share memory: their stacks begin at the same address.

    Each exec chooses a random address, and forks keep it. 0 and 1 mean that it is hidden.
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
    """Disjoint sets of numbers (union-find)."""

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


# ---- without kcmp


def has_waiting_thread(pid: int, source: Source) -> bool:
    """Return whether a thread is in state D, as in vfork()."""
    try:
        with ProcessDir(source, pid) as process:
            return process.has_waiting_thread()
    except Error:
        return False


# Fields that are equal to the byte. Pss also depends on other processes that map a file.
_SAME = ("rss", "anonymous", "pss_anon", "swap", "anon_huge_pages", "private_hugetlb")


def waits_in_vfork(child: int, parent: int, source: Source) -> bool:
    """Return whether /proc shows enough to say that the child shares its parent's memory.

    A thread of the parent must be in state D (in vfork(), or waiting for a disk). Both must have
    the same Rss, anonymous memory and swap, and all their anonymous memory must be private. A
    fork's is not: each anonymous page is in both until one of them writes to it, and some pages,
    such as relocated data, are never written after the start. So a fork would have to write to
    every page, still have as many as its parent, and its parent would have to wait for a disk.
    """
    try:
        with ProcessDir(source, parent) as first, ProcessDir(source, child) as second:
            # The child may write to a page between the two reads.
            if not any(_have_equal_totals(first, second) for _ in range(3)):
                return False
            stat = second.stat()
            return stat.keeps_parents_memory and stat.ppid == parent
    except Error:
        return False


def _have_equal_totals(first: ProcessDir, second: ProcessDir) -> bool:
    a, b = first.totals(), second.totals()
    if not a.anonymous or a.pss_anon != a.anonymous:
        return False
    return all(a[name] == b[name] for name in _SAME)
