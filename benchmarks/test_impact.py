"""What a process pays for being read once a second: latency and number of its own mmap and munmap.

mapper.c maps and unmaps without a pause, beside mappings that stand still, on one processor: where
it may move, its own calls differ by 10 % from second to second, else by 2 %. Each way of reading
has a second next to one of what it is compared with, and what counts is the ratio of neighbours;
a fresh reading is checked first.
"""

from __future__ import annotations

import math
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import bare
import peers
import pytest
from results import Result, ratio
from test_core import counted

import fastsmaps

PAIRS = 30  # of each way and what it is compared with
Record = Callable[[Result], None]


class Latency(NamedTuple):
    """Calls of mmap or munmap in a while, and nanoseconds that one took."""

    mean: float
    p50: int
    p99: int
    p999: int
    max: int


class Mapper:
    """mapper.c, ready."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid
        assert self._hear() == "ready\n"

    def _hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def work(self, read: Callable[[], object], seconds: int, times: int = 1) -> Latency:
        """Measure its latencies while it is read `times` times, once a second at max."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds * 1000}\n")
        self._process.stdin.flush()
        begun = time.monotonic()
        for second in range(times):
            time.sleep(max(0.0, begun + second + 0.3 - time.monotonic()))
            read()
        calls, *latencies = map(int, self._hear().split())
        return Latency(seconds * 1e9 / calls, *latencies)


@pytest.fixture(params=[100, 20_000, 60_000])
def mapper(request: pytest.FixtureRequest) -> Iterator[Mapper]:
    with tempfile.TemporaryDirectory() as directory:
        program = os.path.join(directory, "mapper")
        bare.build("-o", program, str(Path(__file__).with_name("mapper.c")))
        with subprocess.Popen(
            [program, str(request.param)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            os.sched_setaffinity(process.pid, {min(os.sched_getaffinity(0))})
            yield Mapper(process)


class Others:
    """All processes but one: a Sampler that leaves these out spends its budget on that one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def __contains__(self, pid: object) -> bool:
        return pid != self.pid


class OneASecond:
    """Sweeps of a Sampler, each with what 1 % of one second allows, whenever they come."""

    def __init__(self, sampler: fastsmaps.Sampler) -> None:
        self._sampler = sampler
        self._last = time.monotonic()

    def __call__(self) -> None:
        now = time.monotonic()
        # Between its seconds are those of its neighbours, which would be credit to it.
        self._sampler.budget = 0.01 / max(1.0, now - self._last)
        self._last = now
        self._sampler.sweep()


def test_mmap_and_munmap(record: Record, mapper: Mapper) -> None:
    pid = mapper.pid
    count, rss = counted(Path(f"/proc/{pid}/smaps").read_bytes())
    table = fastsmaps.mappings(pid)
    assert (len(table), table.totals().rss) == (count, rss)
    with fastsmaps.Sampler(budget=0.01, exclude=Others(pid)) as sampler:
        row = sampler.sweep().by_pid[pid]
        assert row.totals is not None
        assert row.totals.rss == rss
        ways: dict[str, Callable[[], object]] = {
            "nothing": lambda: None,
            "Sampler, 1 %": OneASecond(sampler),
            "totals": lambda: fastsmaps.totals(pid),
            "psutil memory_full_info": lambda: peers.psutil_totals(pid),
            "mappings": lambda: fastsmaps.mappings(pid),
            "psutil memory_maps": lambda: peers.psutil_mappings(pid),
        }
        pairs = (
            ("Sampler, 1 %", "nothing", (1.2, 1.01)),
            ("totals", "psutil memory_full_info", (1.0, 1.0)),
            ("mappings", "psutil memory_maps", (1.0, 1.0)),
        )
        begun = time.monotonic()
        ways["psutil memory_maps"]()
        # Of 60,000 mappings psutil's takes 3 s: then both have four seconds for it.
        slow = 1 if time.monotonic() - begun < 0.6 else 4
        seen: dict[str, list[Latency]] = {way: [] for way in ways}
        for turn in range(PAIRS):
            for name, peer, _ in pairs:
                for way in (name, peer) if turn % 2 else (peer, name):
                    seen[way].append(mapper.work(ways[way], slow if "map" in way else 1))
    for name, peer, goals in pairs:
        for what, goal in (("p99", goals[0]), ("p999", math.inf), ("mean", goals[1])):
            ours, theirs, alone = (
                [float(getattr(run, what)) for run in seen[way]] for way in (name, peer, "nothing")
            )
            record(
                ratio(
                    f"mmap, munmap beside {count:,} mappings, read by {name}: {what}",
                    ours,
                    theirs,
                    against=f"by {peer}",
                    goal=goal,
                    also={"by nothing": alone},
                    paired=True,
                )
            )
