"""The rollups of one sweep in a backend's table; a row's totals are made on demand."""

from __future__ import annotations

from array import array

from fastsmaps._fields import ABSENT, SIZES, SUMS, Fields
from fastsmaps._model.columns import absent_column, sum_column
from fastsmaps._model.mapping import FIRST_FIELD, NO_GROUP
from fastsmaps._model.totals import Totals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from fastsmaps._backend import Table


class Rollups:
    """Totals by row of a table with one rollup a row; equal only to itself."""

    __slots__ = ("labels", "table")

    def __init__(self, table: Table) -> None:
        self.table = table
        labels = enumerate(zip(table.labels, table.sized, strict=True), FIRST_FIELD)
        # As in totals, a field without kB is not summed.
        self.labels = {label: place for place, (label, sized) in labels if sized}

    @property
    def fields(self) -> Fields:
        """The table's fields, and those that all totals have."""
        return Fields(self.labels, known=SIZES)

    def __contains__(self, name: str) -> bool:
        return name in SUMS or self.fields.find(name) is not None

    def __len__(self) -> int:
        return len(self.table)

    def totals(self, i: int) -> Totals:
        """Return the totals of a row."""
        row: tuple[Any, ...] = self.table.row(i)
        places = self.labels.items()
        by_label = {label: row[place] for label, place in places if row[place] is not None}
        return Totals(by_label, None, "smaps_rollup")

    def column(self, name: str) -> Sequence[int]:
        """Return a field of all rows, ABSENT if a row lacks it; KeyError for an unknown name."""
        if name in SUMS:
            return sum_column(name, self.column)
        label = name
        if label not in self.labels:
            label = self.fields.label(name, ("size", *SUMS))
        return self.table.column(label) if label in self.labels else absent_column(len(self))

    def sums(self, members: Iterable[tuple[int, int]], count: int) -> list[tuple[int, Totals]]:
        """Return sums over (row, group); the caller adds up several of one group."""
        if any(ABSENT in self.table.column(label).tolist() for label in self.labels):
            # A sum of Totals lacks a field that one of them lacks; a sum by the table has it.
            return [(group, self.totals(i)) for i, group in members]
        groups = array("I", [NO_GROUP]) * len(self.table)
        used = set()
        for i, group in members:
            groups[i] = group
            used.add(group)
        sums = self.table.sums(memoryview(groups), count)
        return [(group, Totals(sums[group][1], None, "smaps_rollup")) for group in used]
