"""Rollups in a text: detect them, and leave out those that repeat mappings of the same text.

A rollup is the sum over one process. The kernel names its record ``[rollup]``; its address range
goes from the start of the process's first mapping to the end of the last. People put several into
one text, or a rollup and the smaps of the same process. The range decides which mappings a rollup
sums up:

- Mappings come in order of address. Where addresses go back, or after a rollup, another process
  begins (a *run* of mappings). A rollup's range does not include x86's ``[vsyscall]`` and Arm's
  ``[vectors]``.
- A rollup and a run with the same start and end belong to one process. Each run is paired with one
  rollup, so that two processes with the same layout (forked, no exec) stay two.
- A run without ``[stack]`` is an excerpt. It belongs to a rollup whose range contains it and whose
  Rss is not smaller: first one with the same start or end, then the nearest one before or after it
  in the text.
- For a run with ``[stack]`` the same end is enough: it is random, and does not change when the
  process maps more at lower addresses.
- A rollup paired with a run that has fields is left out. All others count.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left

from fastsmaps._model.mapping import NO_GROUP, ROLLUP, is_rollup
from fastsmaps._model.rollups import Rollups
from fastsmaps._model.totals import Totals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence, Set

    from fastsmaps._backend import Table

#: Mappings outside a process's own list, which a rollup does not include.
_GATES = (b"[vsyscall]", b"[vectors]")
_STACK = b"[stack]"


def kept_rows(table: Table) -> tuple[Sequence[int], frozenset[int]]:
    """Return the rows without rollups that repeat mappings, and the rollups among them."""
    number = table.names.index(ROLLUP)
    named = [i for i, name in enumerate(table.column("name")) if name == number]
    rollups = [i for i in named if is_rollup(table.row(i))]
    repeated = _repeated(table, rollups) if len(rollups) < len(table) else set()
    if not repeated:
        return range(len(table)), frozenset(rollups)
    rows = [i for i in range(len(table)) if i not in repeated]
    return rows, frozenset(rollups) - repeated


def with_rollups(
    sums: list[Totals], mapped: Set[int], table: Table, rollups: list[tuple[int, int]]
) -> list[Totals]:
    """Add rollups (row, group) to the sums of groups; the groups in `mapped` have mappings."""
    rows = Rollups(table)
    result = list(sums)
    filled = set(mapped)
    for i, group in rollups:
        totals = rows.totals(i)
        if group not in filled:
            result[group] = totals
        elif result[group].by_label:
            result[group] += totals
        else:  # maps, which have no fields
            result[group] = Totals(totals.by_label, None, "mixed")
        filled.add(group)
    return result


class _Run:
    """Mappings of one process, in order of address: ``start`` to ``end`` without gates."""

    __slots__ = ("at", "end", "has_stack", "start", "sums")

    def __init__(self, at: int) -> None:
        self.at = at  # the row of the first mapping
        self.start = self.end = -1  # until there is a mapping that is not a gate
        self.has_stack = False
        self.sums: dict[str, int] = {}

    @property
    def range(self) -> tuple[int, int]:
        return self.start, self.end


def _runs(table: Table, rollups: set[int]) -> list[_Run]:
    """Return the text's runs, each with its sums."""
    starts, ends = table.column("start").tolist(), table.column("end").tolist()
    gates = {i for i, name in enumerate(table.names) if name in _GATES}
    stacks = {i for i, name in enumerate(table.names) if name == _STACK}
    runs: list[_Run] = []
    groups = []
    run: _Run | None = None
    before = 0
    for i, name in enumerate(table.column("name")):
        if i in rollups:
            run = None
            groups.append(NO_GROUP)
            continue
        if run is None or starts[i] < before:
            run = _Run(i)
            runs.append(run)
        before = ends[i]
        if name not in gates:
            run.start = starts[i] if run.start < 0 else run.start
            run.end = ends[i]
            run.has_stack |= name in stacks
        groups.append(len(runs) - 1)
    sums = table.sums(memoryview(array("I", groups)), len(runs))
    for run, (_, by_label) in zip(runs, sums, strict=True):
        run.sums = by_label
    return runs


def _repeated(table: Table, rollups: list[int]) -> set[int]:
    """Return the rollups of processes that also have mappings with sizes in the text."""
    runs = [run for run in _runs(table, set(rollups)) if run.sums and run.start >= 0]
    starts, ends = table.column("start"), table.column("end")
    by_range: dict[tuple[int, int], list[_Run]] = {}
    for run in reversed(runs):
        by_range.setdefault(run.range, []).append(run)
    repeated = set()
    paired = set()
    for i in rollups:
        same = by_range.get((starts[i], ends[i]))
        if same:
            paired.add(same.pop().at)
            repeated.add(i)
    unpaired = _Unpaired(table, [i for i in rollups if i not in repeated])
    for run in runs:
        if run.at not in paired:
            repeated.update(unpaired.rollup_of(run))
    return repeated


class _Unpaired:
    """The rollups without a run of the same range."""

    def __init__(self, table: Table, rows: list[int]) -> None:
        self._rows = rows
        self._totals = Rollups(table)
        self._starts, self._ends = table.column("start"), table.column("end")
        self._by_start: dict[int, list[int]] = {}
        self._by_end: dict[int, list[int]] = {}
        for i in rows:
            self._by_start.setdefault(self._starts[i], []).append(i)
            self._by_end.setdefault(self._ends[i], []).append(i)

    def rollup_of(self, run: _Run) -> Iterator[int]:
        """Yield the rollup that sums up this run, if there is one."""
        if run.has_stack:
            same_end = self._by_end.get(run.end, [])
            yield from _nearest(same_end, run.at)[:1]
            return
        for rows in (self._by_start.get(run.start), self._by_end.get(run.end), self._rows):
            for i in _nearest(rows or [], run.at):
                if self._contains(i, run):
                    yield i
                    return

    def _contains(self, i: int, run: _Run) -> bool:
        if not (self._starts[i] <= run.start and run.end <= self._ends[i]):
            return False
        rollup = self._totals.totals(i).by_label
        # Only Rss: other sizes are rounded, and a live process's change between two reads.
        return run.sums.get("Rss", 0) <= rollup.get("Rss", run.sums.get("Rss", 0))


def _nearest(rows: list[int], at: int) -> list[int]:
    """Return the last of the ordered rows before a place in the text, and the first after it."""
    i = bisect_left(rows, at)
    return rows[max(i - 1, 0) : i + 1]
