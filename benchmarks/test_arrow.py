"""Time to convert a table to Arrow, compared with reading it."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import workloads
from fresh import timed
from measuring import Turns
from pyarrow import compute as pc
from test_core import counted

import fastsmaps


def test_mappings_to_arrow(turns: Turns, pid: Callable[[str], int]) -> None:
    number = pid("many_small")
    count, rss = counted(workloads.smaps(number))
    table = pa.table(fastsmaps.mappings(number))
    table.validate(full=True)
    assert (len(table), pc.sum(table["rss"]).as_py()) == (count, rss)
    read: list[fastsmaps.Mappings] = []

    def mappings() -> float:
        read.clear()
        return timed(lambda: read.append(fastsmaps.mappings(number)))

    # Each table is converted once, just after reading: that builds its columns.
    turns.ratio(
        "pyarrow.table(mappings), 20,000 mappings",
        lambda: pa.table(read[0]),
        mappings,
        against="mappings(pid)",
        goal=0.05,
        rounds=60,
    )
