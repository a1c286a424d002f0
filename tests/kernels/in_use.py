"""Swap, hugetlb, KSM and transparent huge pages, each in use by one process.

guest sets the machine up for it; where one of these is off, holder.py never says that it is ready.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import fastsmaps
from support import independent, processes

USED = ["Swap", "AnonHugePages", "Private_Hugetlb", "Rss", "Private_Dirty"]
CUT = {"Pss", "Pss_Dirty", "SwapPss", "Locked"}  # to kB, once a record


@pytest.fixture(scope="module")
def holder() -> Iterator[processes.Process]:
    program = Path(__file__).with_name("holder.py")
    with processes.running(sys.executable, "-EsSB", str(program)) as process:
        yield process


def test_every_figure(holder: processes.Process, backend: ModuleType) -> None:
    for attempt in processes.attempts(
        lambda: fastsmaps.mappings(holder.pid), f"/proc/{holder.pid}/smaps"
    ):
        with attempt as (table, (text,)):
            records = independent.read(text)
            labels = {label for record in records for label in record.fields}
            for label in labels:
                expected = [record.fields.get(label, fastsmaps.ABSENT) for record in records]
                assert table.column(label).tolist() == expected
            for label in USED:
                assert sum(record.fields[label] for record in records) > 0
                assert table.totals()[label] == sum(record.fields[label] for record in records)
            if "KSM" in labels:  # since 6.7
                assert any(row["KSM"] for row in table)
            assert any("mg" in (row.vm_flags or ()) for row in table)
            assert any("ht" in (row.vm_flags or ()) for row in table)


def test_the_rollup(holder: processes.Process, backend: ModuleType) -> None:
    rollup = f"/proc/{holder.pid}/smaps_rollup"
    for attempt in processes.attempts(
        lambda: (fastsmaps.totals(holder.pid), fastsmaps.mappings(holder.pid)),
        rollup,
        f"/proc/{holder.pid}/smaps",
    ):
        with attempt as ((totals, table), (text, smaps)):
            (record,) = independent.read(text)
            assert totals.source == "smaps_rollup"
            assert {label: totals[label] for label in record.fields} == record.fields
            # Pss_Anon and its like are the rollup's alone.
            both = set(record.fields) & set(independent.read(smaps)[0].fields)
            assert both >= set(USED)
            for label in both - CUT:
                assert table.totals()[label] == record.fields[label], label


def test_a_scan_has_it(holder: processes.Process, backend: ModuleType) -> None:
    for attempt in processes.attempts(lambda: fastsmaps.scan(), f"/proc/{holder.pid}/smaps_rollup"):
        with attempt as (scan, (text,)):
            (record,) = independent.read(text)
            found = scan.by_pid[holder.pid]
            assert found.totals is not None, found.outcome
            for label in USED:
                assert found.totals[label] == record.fields[label] > 0
