"""One benchmark for each promise about the speed of reading one process.

Each checks the result, then times our call and its baseline in turns.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bare
import peers
import pytest
import workloads
from fresh import timed
from measuring import Turns, run_fresh
from results import Result, ratio

import fastsmaps

Pid = Callable[[str], int]

TARGETS = {
    "many_small": "20,000 mappings of 8 KiB",
    "few_large": "400 mappings of 1 MiB",
    "ordinary": "ordinary process",
}


def counted(text: bytes) -> tuple[int, int]:
    """Count mappings and bytes of Rss in the text of smaps, in simple Python."""
    lines = text.splitlines()
    headers = sum(line[:1] in b"0123456789abcdef" for line in lines)
    return headers, sum(int(line.split()[1]) for line in lines if line.startswith(b"Rss:")) * 1024


def check(table: fastsmaps.Mappings, text: bytes) -> None:
    count, rss = counted(text)
    assert len(table) == count
    assert sum(table.column("rss")) == rss
    assert table.totals().rss == rss


def test_parse(turns: Turns, text: bytes, tmp_path: Path) -> None:
    check(fastsmaps.parse(text), text)
    assert bare.count_newlines(text).total == text.count(b"\n")
    saved = tmp_path / "smaps"
    saved.write_bytes(text)
    first = statistics.median(run_fresh("first_parse", saved)["first"] for _ in range(7))
    newlines = statistics.median(bare.count_newlines(text).ns for _ in range(21))
    turns.ratio(
        "parse(text), 20,000 mappings",
        lambda: fastsmaps.parse(text),
        lambda: bare.count_newlines(text).ns,
        against="newlines by memchr",
        goal=0.85,
        rounds=500,
        note=f"first call {first / 1000:,.1f} us ({first / newlines:.2f})",
    )


@pytest.mark.parametrize(
    ("workload", "goal", "rounds"),
    [("many_small", 0.95, 60), ("few_large", 0.88, 400), ("ordinary", 0.93, 1500)],
)
def test_mappings(turns: Turns, pid: Pid, workload: str, goal: float, rounds: int) -> None:
    number = pid(workload)
    path = f"/proc/{number}/smaps"
    text = workloads.smaps(number)
    check(fastsmaps.mappings(number), text)
    assert bare.read(path).total == bare.read_chunks(path).total == len(text)
    turns.ratio(
        f"mappings(pid), {TARGETS[workload]}",
        lambda: fastsmaps.mappings(number),
        lambda: bare.read(path).ns,
        against="bare read",
        goal=goal,
        rounds=rounds,
        also={"bare read in chunks": lambda: bare.read_chunks(path).ns},
    )


def test_totals(turns: Turns, pid: Pid) -> None:
    number = pid("ordinary")
    path = f"/proc/{number}/smaps_rollup"
    assert fastsmaps.totals(number).rss == counted(workloads.smaps(number))[1]
    turns.ratio(
        "totals(pid), ordinary process",
        lambda: fastsmaps.totals(number),
        lambda: bare.read(path).ns,
        against="bare open-read-close of the rollup",
        goal=1.05,
        rounds=3000,
        also={"psutil memory_full_info": lambda: timed(lambda: peers.psutil_totals(number))},
    )


def test_totals_kept(turns: Turns, pid: Pid) -> None:
    number = pid("ordinary")
    path = f"/proc/{number}/smaps_rollup"
    with fastsmaps.Process(number) as process:
        assert process.totals().rss == counted(workloads.smaps(number))[1]
        turns.ratio(
            "Process.totals(), kept descriptor",
            process.totals,
            lambda: bare.read(path).ns,
            against="bare open-read-close of the rollup",
            goal=1.0,
            rounds=3000,
        )


against_psutil = pytest.mark.parametrize(
    ("workload", "rounds"), [("many_small", 20), ("ordinary", 300)]
)


@against_psutil
@pytest.mark.skipif(fastsmaps.BACKEND != "c", reason="the backend is pure Python")
def test_psutil_c(turns: Turns, pid: Pid, workload: str, rounds: int) -> None:
    number = pid(workload)
    table = fastsmaps.mappings(number)
    check(table, workloads.smaps(number))
    assert sum(row.rss for row in peers.psutil_mappings(number)) == sum(table.column("rss"))
    turns.ratio(
        f"mappings(pid), C, {TARGETS[workload]}",
        lambda: fastsmaps.mappings(number),
        lambda: timed(lambda: peers.psutil_mappings(number)),
        against="psutil memory_maps",
        goal=1 / 6,
        rounds=rounds,
    )


@against_psutil
def test_psutil_python(
    record: Callable[[Result], None], pid: Pid, workload: str, rounds: int
) -> None:
    """Compare without pytest-benchmark, as the other backend needs its own process."""
    number = pid(workload)
    answer = run_fresh("against_psutil", number, rounds, backend="python")
    assert answer["backend"] == "python"
    assert answer["rss"] == counted(workloads.smaps(number))[1]
    record(
        ratio(
            f"mappings(pid), pure Python, {TARGETS[workload]}",
            answer["ours"],
            answer["psutil"],
            against="psutil memory_maps",
            goal=1 / 2,
        )
    )


def test_memory(record: Callable[[Result], None], pid: Pid) -> None:
    """Take medians over fresh processes; fresh.memory() says what they count."""
    number = pid("many_small")
    count = counted(workloads.smaps(number))[0]

    def median(library: str) -> dict[str, float]:
        runs: list[dict[str, Any]] = [run_fresh("memory", library, number) for _ in range(5)]
        assert {run["rows"] for run in runs} == {count}
        return {key: statistics.median(run[key] for run in runs) for key in runs[0]}

    ours, psutil = median("fastsmaps"), median("psutil")
    notes = {"kept": f"with every column requested: {ours['requested']:.0f} B", "peak": ""}
    for key, goal in (("kept", 280), ("peak", 640)):
        result = Result(
            f"memory per mapping, {key}",
            f"{ours[key]:.1f} B",
            f"{psutil[key]:.1f} B, psutil memory_maps",
            ours[key],
            goal,
            unit="B",
            also=notes[key],
        )
        record(result)
