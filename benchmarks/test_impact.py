"""The cost for a process that is read once a second: latency and rate of its mmap and munmap.

mapper.c maps and unmaps without a pause, in addition to mappings that it keeps. It is bound to one
CPU: where it may migrate, its calls differ by 10 % from second to second, else by 2 %. A second of
each reader is next to a second of its baseline, and the result is the median of the ratios of these
pairs. Each benchmark first checks what the readers return.
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

PAIRS = 30  # of a reader and its baseline
Record = Callable[[Result], None]


class Latency(NamedTuple):
    """Nanoseconds per call of mmap or munmap: mean, percentiles and maximum."""

    mean: float
    p50: int
    p99: int
    p999: int
    max: int


class Mapper:
    """A process of mapper.c that is ready."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid
        assert self._read_line() == "ready\n"

    def _read_line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def work(self, read: Callable[[], object], seconds: int, times: int = 1) -> Latency:
        """Measure its latencies over ``seconds`` while ``read`` is called ``times`` times.

        The calls start at least a second apart.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds * 1000}\n")
        self._process.stdin.flush()
        start = time.monotonic()
        for second in range(times):
            time.sleep(max(0.0, start + second + 0.3 - time.monotonic()))
            read()
        calls, *latencies = map(int, self._read_line().split())
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


class AllExcept:
    """All pids except one; a Sampler that excludes these spends its budget on that process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def __contains__(self, pid: object) -> bool:
        return pid != self.pid


class SweepASecond:
    """Sweeps of a Sampler, each with a credit of 1 % of a second, whenever they are."""

    def __init__(self, sampler: fastsmaps.Sampler) -> None:
        self._sampler = sampler
        self._last = time.monotonic()

    def __call__(self) -> None:
        now = time.monotonic()
        # Credit would also grow in the seconds of the other readers, between two of its own.
        self._sampler.budget = 0.01 / max(1.0, now - self._last)
        self._last = now
        self._sampler.sweep()


def test_mmap_and_munmap(record: Record, mapper: Mapper) -> None:
    pid = mapper.pid
    count, rss = counted(Path(f"/proc/{pid}/smaps").read_bytes())
    table = fastsmaps.mappings(pid)
    assert (len(table), table.totals().rss) == (count, rss)
    with fastsmaps.Sampler(budget=0.01, exclude=AllExcept(pid)) as sampler:
        row = sampler.sweep().by_pid[pid]
        assert row.totals is not None
        assert row.totals.rss == rss
        readers: dict[str, Callable[[], object]] = {
            "nothing": lambda: None,
            "Sampler, 1 %": SweepASecond(sampler),
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
        start = time.monotonic()
        readers["psutil memory_maps"]()
        # For 60,000 mappings psutil takes 3 s; then both read once in four seconds.
        slow = 1 if time.monotonic() - start < 0.6 else 4
        runs: dict[str, list[Latency]] = {reader: [] for reader in readers}
        for turn in range(PAIRS):
            for name, peer, _ in pairs:
                for reader in (name, peer) if turn % 2 else (peer, name):
                    seconds = slow if "map" in reader else 1
                    runs[reader].append(mapper.work(readers[reader], seconds))
    for name, peer, goals in pairs:
        for statistic, goal in (("p99", goals[0]), ("p999", math.inf), ("mean", goals[1])):
            ours, theirs, alone = (
                [float(getattr(run, statistic)) for run in runs[reader]]
                for reader in (name, peer, "nothing")
            )
            record(
                ratio(
                    f"mmap, munmap with {count:,} other mappings, read by {name}: {statistic}",
                    ours,
                    theirs,
                    against=f"by {peer}",
                    goal=goal,
                    also={"by nothing": alone},
                    paired=True,
                )
            )
