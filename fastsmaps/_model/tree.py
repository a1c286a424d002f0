"""Processes as a tree: which descend from which, and the sum of each tree."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from fastsmaps._model.process_totals import ProcessTotals
    from fastsmaps._model.totals import Totals

# Outcomes of processes that have memory and were not read.
_UNREAD = ("denied", "skipped", "failed")


def is_missing(row: ProcessTotals) -> bool:
    """Whether a process has memory that is missing in a sum.

    What it has in common with another process is counted there.
    """
    return row.outcome in _UNREAD and row.shares_memory_with is None


class Branch:
    """A process and all that descend from it.

    ``totals`` is the sum over the ``read`` of its ``processes`` that were read, None where none
    was; processes without memory (kernel threads, zombies, those that have ended) do not count.
    """

    __slots__ = ("children", "depth", "processes", "read", "row", "totals")

    def __init__(self, row: ProcessTotals) -> None:
        self.row = row
        self.depth = 0
        self.children: list[Branch] = []
        self.totals = row.totals
        self.read = int(row.totals is not None)
        self.processes = int(row.totals is not None or is_missing(row))

    def _add(self, other: Branch) -> None:
        self.totals = _sum(self.totals, other.totals)
        self.read += other.read
        self.processes += other.processes


def _sum(one: Totals | None, other: Totals | None) -> Totals | None:
    if one is None or other is None:
        return one or other
    return one + other


def forest(rows: Iterable[ProcessTotals]) -> list[Branch]:
    """The trees of these processes; one whose parent is not among them is a root."""
    branches = {row.pid: Branch(row) for row in rows}
    parents = _without_circles(_parents(branch.row for branch in branches.values()))
    roots: list[Branch] = []
    for pid, parent in parents.items():
        (roots if parent is None else branches[parent].children).append(branches[pid])
    # Children before their parents: a tree may be deeper than Python's stack.
    for branch in reversed(list(walk(roots))):
        for child in branch.children:
            branch._add(child)
    return roots


def walk(roots: Iterable[Branch], key: Callable[[Branch], Any] | None = None) -> Iterator[Branch]:
    """Each process before its children; with `key` siblings are sorted by it."""
    ahead = [(root, 0) for root in _reversed(roots, key)]
    while ahead:
        branch, depth = ahead.pop()
        branch.depth = depth
        yield branch
        ahead += [(child, depth + 1) for child in _reversed(branch.children, key)]


def _reversed(branches: Iterable[Branch], key: Callable[[Branch], Any] | None) -> Iterator[Branch]:
    return reversed(list(branches) if key is None else sorted(branches, key=key))


def below(rows: Iterable[ProcessTotals], pids: Iterable[int]) -> list[ProcessTotals]:
    """Those of the rows that are, or descend from, one of the processes `pids`; each once."""
    every = list(rows)
    children: dict[int | None, list[int]] = {}
    for pid, parent in _parents(every).items():
        children.setdefault(parent, []).append(pid)
    wanted: set[int] = set()
    new = list(pids)
    while new:
        pid = new.pop()
        if pid not in wanted:
            wanted.add(pid)
            new += children.get(pid, ())
    return [row for row in every if row.pid in wanted]


def _parents(rows: Iterable[ProcessTotals]) -> dict[int, int | None]:
    """The parent of each process, None where it is not among them."""
    by_pid = {row.pid: row for row in rows}
    found: dict[int, int | None] = {}
    for pid, row in by_pid.items():
        parent = None if row.ppid is None or row.ppid == pid else by_pid.get(row.ppid)
        found[pid] = None if parent is None or _is_younger(parent, row) else parent.pid
    return found


def _is_younger(parent: ProcessTotals, child: ProcessTotals) -> bool:
    """Whether a parent has got its number after the child began.

    The processes are not read at one moment: the parent may have ended meanwhile.
    """
    if parent.start_time is None or child.start_time is None:
        return False
    return parent.start_time > child.start_time


def _without_circles(parents: dict[int, int | None]) -> dict[int, int | None]:
    """The same, and one of each circle has no parent: a capture may say anything."""
    seen: dict[int, int] = {}
    for first in parents:
        pid: int | None = first
        while pid is not None and pid not in seen:
            seen[pid] = first
            pid = parents[pid]
        if pid is not None and seen[pid] == first:
            parents[pid] = None
    return parents
