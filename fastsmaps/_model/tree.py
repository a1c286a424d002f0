"""Process trees: parents and children, and the sum over each tree."""

from __future__ import annotations

from fastsmaps._model.process_totals import stored_totals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from fastsmaps._model.process_totals import ProcessTotals
    from fastsmaps._model.totals import Totals

# Outcomes of processes that have memory but were not read.
_UNREAD = ("denied", "skipped", "failed")


def is_missing(row: ProcessTotals) -> bool:
    """Whether a process has memory that a sum lacks.

    Memory shared with another process is counted in the other row.
    """
    return row.outcome in _UNREAD and row.shares_memory_with is None


class Branch:
    """A process and its descendants.

    ``processes`` is the number of those that have memory (not kernel threads, zombies, or
    processes that have ended), ``read`` the number of those that were read, and ``totals`` the
    sum over these, None if there are none.
    """

    __slots__ = ("children", "depth", "processes", "read", "row", "totals")

    def __init__(self, row: ProcessTotals, totals: Totals | None) -> None:
        self.row = row
        self.depth = 0
        self.children: list[Branch] = []
        self.totals = totals
        self.read = int(stored_totals(row) is not None)
        self.processes = int(self.read or is_missing(row))

    def _add(self, other: Branch) -> None:
        self.totals = _sum(self.totals, other.totals)
        self.read += other.read
        self.processes += other.processes


def _sum(a: Totals | None, b: Totals | None) -> Totals | None:
    return a or b if a is None or b is None else a + b


def forest(rows: Iterable[ProcessTotals], *, sums: bool = True) -> list[Branch]:
    """Return the trees of these processes; a process whose parent is not among them is a root.

    Without `sums` no branch has totals: adding takes 20 us a process.
    """
    branches = {row.pid: Branch(row, row.totals if sums else None) for row in rows}
    parents = _without_cycles(_parents(branch.row for branch in branches.values()))
    roots: list[Branch] = []
    for pid, parent in parents.items():
        (roots if parent is None else branches[parent].children).append(branches[pid])
    # Children before parents, without recursion: a tree may be deeper than Python's stack.
    for branch in reversed(list(walk(roots))) if sums else ():
        for child in branch.children:
            branch._add(child)
    return roots


def walk(roots: Iterable[Branch], key: Callable[[Branch], Any] | None = None) -> Iterator[Branch]:
    """Yield each process before its children; with `key` siblings are sorted by it."""
    waiting = [(root, 0) for root in _reversed(roots, key)]
    while waiting:
        branch, depth = waiting.pop()
        branch.depth = depth
        yield branch
        waiting += [(child, depth + 1) for child in _reversed(branch.children, key)]


def _reversed(branches: Iterable[Branch], key: Callable[[Branch], Any] | None) -> Iterator[Branch]:
    return reversed(list(branches) if key is None else sorted(branches, key=key))


def below(rows: Iterable[ProcessTotals], pids: Iterable[int]) -> list[ProcessTotals]:
    """Return the rows of the processes `pids` and of their descendants, in their order."""
    rows = list(rows)
    children: dict[int | None, list[int]] = {}
    for pid, parent in _parents(rows).items():
        children.setdefault(parent, []).append(pid)
    wanted: set[int] = set()
    new = list(pids)
    while new:
        pid = new.pop()
        if pid not in wanted:
            wanted.add(pid)
            new += children.get(pid, ())
    return [row for row in rows if row.pid in wanted]


def _parents(rows: Iterable[ProcessTotals]) -> dict[int, int | None]:
    """Return the parent of each process, None if it is not among them."""
    by_pid = {row.pid: row for row in rows}
    parents: dict[int, int | None] = {}
    for pid, row in by_pid.items():
        parent = None if row.ppid is None or row.ppid == pid else by_pid.get(row.ppid)
        parents[pid] = None if parent is None or _is_younger(parent, row) else parent.pid
    return parents


def _is_younger(parent: ProcessTotals, child: ProcessTotals) -> bool:
    """Whether the parent is another process, which got the pid after the child began.

    The processes are not read at the same moment: the parent may have ended meanwhile.
    """
    if parent.start_time is None or child.start_time is None:
        return False
    return parent.start_time > child.start_time


def _without_cycles(parents: dict[int, int | None]) -> dict[int, int | None]:
    """Break each cycle, which a damaged capture may have, by removing one parent."""
    seen: dict[int, int] = {}
    for first in parents:
        pid: int | None = first
        while pid is not None and pid not in seen:
            seen[pid] = first
            pid = parents[pid]
        if pid is not None and seen[pid] == first:
            parents[pid] = None
    return parents
