"""Rows as Python data and as JSON, compared with psutil."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import peers
import pytest
import workloads
from fresh import timed
from measuring import Turns, environment
from test_core import TARGETS, counted

import fastsmaps

Pid = Callable[[str], int]
PSUTIL_JSON = """
import json, sys, psutil
rows = psutil.Process(int(sys.argv[1])).memory_maps(grouped=False)
json.dump([row._asdict() for row in rows], sys.stdout)
"""


@pytest.mark.parametrize(
    ("workload", "goal", "rounds"), [("many_small", 0.5, 10), ("ordinary", 0.45, 200)]
)
def test_all_mappings_as_dicts(
    turns: Turns, pid: Pid, workload: str, goal: float, rounds: int
) -> None:
    number = pid(workload)

    def row_by_row() -> list[dict[str, Any]]:
        return [mapping.as_dict() for mapping in fastsmaps.mappings(number)]

    count, rss = counted(workloads.smaps(number))
    table = fastsmaps.mappings(number)
    rows = table.to_dicts()
    assert (len(rows), sum(row["rss"] for row in rows)) == (count, rss)
    assert rows == [mapping.as_dict() for mapping in table]
    turns.ratio(
        f"mappings(pid).to_dicts(), {TARGETS[workload]}",
        lambda: fastsmaps.mappings(number).to_dicts(),
        lambda: timed(lambda: peers.psutil_mappings(number)),
        against="psutil memory_maps",
        goal=goal,
        rounds=rounds,
        also={"[m.as_dict() for m in mappings(pid)]": lambda: timed(row_by_row)},
    )


def test_maps_json(turns: Turns, pid: Pid) -> None:
    """Compare whole commands, from the start of the interpreter to its end."""
    number = pid("many_small")
    count, rss = counted(workloads.smaps(number))
    child = environment()
    ours = [sys.executable, "-P", "-m", "fastsmaps", "maps", str(number), "--json"]
    script = [sys.executable, "-P", "-c", PSUTIL_JSON, str(number)]
    for command in (ours, script):
        output = subprocess.run(command, env=child, stdout=subprocess.PIPE, check=True).stdout
        rows = json.loads(output)
        assert (len(rows), sum(row["rss"] for row in rows)) == (count, rss)

    def run(command: list[str]) -> None:
        subprocess.run(command, env=child, stdout=subprocess.DEVNULL, check=True)

    turns.ratio(
        "fastsmaps maps --json, 20,000 mappings of 8 KiB",
        lambda: run(ours),
        lambda: timed(lambda: run(script)),
        against="a psutil script that prints the same",
        goal=0.6,
        rounds=10,
    )


@pytest.mark.parametrize(
    ("workload", "goal", "rounds"), [("many_small", 5, 30), ("ordinary", 5, 200)]
)
def test_group_by_use(turns: Turns, pid: Pid, workload: str, goal: float, rounds: int) -> None:
    """A use depends on a mapping's neighbours, so it takes a few times as long as a kind."""
    table = fastsmaps.mappings(pid(workload))
    totals = table.totals()
    for by in ("use", "kind"):
        groups = table.group_by(by).values()
        assert sum(group.count for group in groups) == len(table)
        assert sum(group.totals.rss or 0 for group in groups) == totals.rss
    turns.ratio(
        f'group_by("use"), {TARGETS[workload]}',
        lambda: table.group_by("use"),
        lambda: timed(lambda: table.group_by("kind")),
        against='group_by("kind")',
        goal=goal,
        rounds=rounds,
    )


def test_what_grew_by_range(turns: Turns, pid: Pid) -> None:
    """A screen reads one process again and again, and few of its mappings change."""
    number = pid("many_small")
    records = re.split(rb"(?m)^(?=[0-9a-f]+-)", workloads.smaps(number))[1:]
    for i in range(0, len(records), 1000):
        records[i] = re.sub(rb"(\b(?:Rss|Pss|Private_Dirty):\s+)", rb"\g<1>1", records[i])
    before = fastsmaps.parse(b"".join(records))
    after = fastsmaps.mappings(number)
    changes = fastsmaps.diff(before, after, by="range")
    # The Pss of libraries depends on other processes.
    assert len(changes) >= len(range(0, len(records), 1000))
    assert changes.total == after.totals() - before.totals()
    assert changes.total.pss == sum(change.pss or 0 for change in changes)
    turns.ratio(
        'mappings(pid) and diff(by="range"), 20,000 mappings, 21 of them changed',
        lambda: fastsmaps.diff(before, fastsmaps.mappings(number), by="range"),
        lambda: timed(lambda: fastsmaps.mappings(number)),
        against="mappings(pid)",
        goal=1.5,
        rounds=30,
    )
