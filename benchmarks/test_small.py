"""What a call costs beyond the kernel's work, where that is little: small processes, and maps."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Callable
from pathlib import Path

import bare
import pytest
import workloads
from measuring import Turns
from results import Result, us
from test_core import check, counted

import fastsmaps

Pid = Callable[[str], int]


def show_above(
    turns: Turns,
    measure: str,
    ours: Callable[[], object],
    floor: Callable[[], float],
    *,
    against: str,
    goal: float,
) -> None:
    """Show the microseconds above the same system calls in C."""
    times = turns.take(ours, {"floor": floor}, rounds=5000)
    if not times:
        return
    above = [(a - b) / 1000 for a, b in zip(times["ours"], times["floor"], strict=True)]
    low, _, high = statistics.quantiles(above, n=4)
    ours_us, floor_us = (statistics.median(times[name]) for name in ("ours", "floor"))
    least = (min(times["ours"]) - min(times["floor"])) / 1000
    turns.show(
        Result(
            measure,
            us(ours_us),
            f"{us(floor_us)}, {against}",
            (ours_us - floor_us) / 1000,
            goal,
            unit="us",
            spread=f"{low:.1f} - {high:.1f}",
            also=f"the least of both: {least:.1f} us above",
        )
    )


def test_totals(turns: Turns, pid: Pid) -> None:
    number = pid("sleep")
    assert fastsmaps.totals(number).rss == counted(workloads.smaps(number))[1]
    size = len(Path(f"/proc/{number}/smaps_rollup").read_bytes())
    assert bare.read_rollup(number).total == size
    show_above(
        turns,
        "totals(pid), sleep, above",
        lambda: fastsmaps.totals(number),
        lambda: bare.read_rollup(number).ns,
        against="tgkill, open, pread, close in C",
        goal=4,
    )


def test_totals_kept(turns: Turns, pid: Pid) -> None:
    number = pid("sleep")
    fd = os.open(f"/proc/{number}/smaps_rollup", os.O_RDONLY)
    try:
        with fastsmaps.Process(number) as process:
            assert process.totals().rss == counted(workloads.smaps(number))[1]
            show_above(
                turns,
                "Process.totals(), sleep, above",
                process.totals,
                lambda: bare.read_once(fd).ns,
                against="pread in C",
                goal=3,
            )
    finally:
        os.close(fd)


@pytest.mark.parametrize(("workload", "goal"), [("sleep", 1.12), ("hundred", 1.0)])
def test_mappings(turns: Turns, pid: Pid, workload: str, goal: float) -> None:
    number = pid(workload)
    path = f"/proc/{number}/smaps"
    text = workloads.smaps(number)
    check(fastsmaps.mappings(number), text)
    turns.ratio(
        f"mappings(pid), {counted(text)[0]} mappings",
        lambda: fastsmaps.mappings(number),
        lambda: bare.read(path).ns,
        against="bare read",
        goal=goal,
        rounds=3000,
        also={"bare read in chunks": lambda: bare.read_chunks(path).ns},
    )


@pytest.mark.parametrize(
    ("workload", "goal", "rounds"),
    [("sleep", math.inf, 3000), ("hundred", 1.18, 3000), ("many_small", 1.18, 200)],
)
def test_maps(turns: Turns, pid: Pid, workload: str, goal: float, rounds: int) -> None:
    number = pid(workload)
    path = f"/proc/{number}/maps"
    text = Path(path).read_bytes()
    count = text.count(b"\n")
    assert len(fastsmaps.mappings(number, sizes=False)) == count
    assert bare.read_chunks(path).total == len(text)
    turns.ratio(
        f"mappings(pid, sizes=False), {count:,} mappings",
        lambda: fastsmaps.mappings(number, sizes=False),
        lambda: bare.read_chunks(path).ns,
        against="maps read in chunks",
        goal=goal,
        rounds=rounds,
    )


def address_in(number: int) -> int:
    """Return an address whose mapping find() and maps agree on."""
    table = fastsmaps.mappings(number, sizes=False)
    address = table[len(table) // 2].start
    expected = table.find(address)
    assert expected is not None
    assert fastsmaps.find(number, address) == expected
    with fastsmaps.Process(number) as process:
        assert process.find(address) == expected
    assert bare.query(number, address).total == expected.size
    return address


def test_find(turns: Turns, pid: Pid) -> None:
    number = pid("ordinary")
    address = address_in(number)
    show_above(
        turns,
        "find(pid, address), above",
        lambda: fastsmaps.find(number, address),
        lambda: bare.query(number, address).ns,
        against="tgkill, open, ioctl, close in C",
        goal=2.3,
    )


def test_find_kept(turns: Turns, pid: Pid) -> None:
    number = pid("ordinary")
    address = address_in(number)
    fd = os.open(f"/proc/{number}/maps", os.O_RDONLY)
    try:
        with fastsmaps.Process(number) as process:
            show_above(
                turns,
                "Process.find(address), above",
                lambda: process.find(address),
                lambda: bare.query_kept(fd, address).ns,
                against="ioctl in C",
                goal=1.1,
            )
    finally:
        os.close(fd)
