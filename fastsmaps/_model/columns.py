"""Columns of 64-bit numbers, with ABSENT for missing values."""

from __future__ import annotations

from array import array

from fastsmaps._fields import ABSENT, SUMS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def cell(value: int | None) -> int:
    """Return the value for a column.

    ABSENT stands for an unknown value, and for one that does not fit into 64 bits: no kernel
    prints such a number, but a capture may hold one.
    """
    return value if value is not None and 0 <= value < ABSENT else ABSENT


def absent_column(count: int) -> memoryview:
    """Return a column of `count` rows without a value: a known field that no row has."""
    return memoryview(array("Q", [ABSENT]) * count).toreadonly()


def sum_column(name: str, column: Callable[[str], Sequence[int]]) -> memoryview:
    """Return one of SUMS for all rows; `column` returns the column of a label."""
    first, second = map(column, SUMS[name])
    # ABSENT is the largest number. A sum beyond 64 bits, which no kernel prints, is ABSENT too.
    sums = array("Q", [min(a + b, ABSENT) for a, b in zip(first, second, strict=True)])
    return memoryview(sums).toreadonly()
