"""Swap, hugetlb, KSM and transparent huge pages, each in use by one process.

guest enables all of them; where one is off, holder.py never reports that it is ready.
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
TRUNCATED = {"Pss", "Pss_Dirty", "SwapPss", "Locked"}  # to kB per record


@pytest.fixture(scope="module")
def holder() -> Iterator[processes.Process]:
    program = Path(__file__).with_name("holder.py")
    with processes.running(sys.executable, "-EsSB", str(program)) as process:
        yield process


def test_values_match_independent_parser(holder: processes.Process, backend: ModuleType) -> None:
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


def test_rollup_matches_smaps(holder: processes.Process, backend: ModuleType) -> None:
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
            # Only a rollup has Pss_Anon, Pss_File and Pss_Shmem.
            both = set(record.fields) & set(independent.read(smaps)[0].fields)
            assert both >= set(USED)
            for label in both - TRUNCATED:
                assert table.totals()[label] == record.fields[label], label


def test_scan_matches_rollup(holder: processes.Process, backend: ModuleType) -> None:
    for attempt in processes.attempts(lambda: fastsmaps.scan(), f"/proc/{holder.pid}/smaps_rollup"):
        with attempt as (scan, (text,)):
            (record,) = independent.read(text)
            row = scan.by_pid[holder.pid]
            assert row.totals is not None, row.outcome
            for label in USED:
                assert row.totals[label] == record.fields[label] > 0
