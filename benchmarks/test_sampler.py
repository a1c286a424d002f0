"""CPU time of a Sampler, and how soon it sees that a process has grown."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from herd import Herd, herd
from measuring import run_fresh
from results import Result

import fastsmaps

BUDGET = 0.05
Record = Callable[[Result], None]


@pytest.fixture(scope="module")
def processes() -> Iterator[Herd]:
    """Start a herd; a Sampler sees the whole machine, so no other herd may run."""
    with herd(300, 400) as started:
        yield started


def pss(scan: fastsmaps.Scan, pid: int) -> int:
    totals = scan.by_pid[pid].totals
    assert totals is not None
    assert totals.pss is not None
    return totals.pss


@pytest.mark.parametrize("interval", [0.1, 1.0])
def test_share(record: Record, processes: Herd, interval: float) -> None:
    """Measure in a fresh process, without the first sweep, which reads everything."""
    spent = run_fresh("sampler", BUDGET, interval, 4)
    assert spent["rows"] >= len(processes.pids)
    record(
        Result(
            f"Sampler(budget={BUDGET}), 300 processes, a sweep every {interval:g} s",
            f"{spent['cpu'] * 1e3:.0f} ms in {spent['wall']:.1f} s",
            f"{BUDGET * spent['wall'] * 1e3:.0f} ms, its budget",
            spent["cpu"] / spent["wall"],
            0.06,
            also=f"first sweep {spent['first'] * 1e3:.0f} ms",
        )
    )


@pytest.mark.parametrize("interval", [0.1, 1.0])
def test_share_of_10_000(record: Record, interval: float) -> None:
    """Measure beside so many processes that listing them alone takes a second's budget."""
    with herd(10_000):
        spent = run_fresh("sampler", 0.01, interval, 30)
    assert spent["rows"] >= 10_000
    record(
        Result(
            f"Sampler(budget=0.01), 10,000 processes, a sweep every {interval:g} s",
            f"{spent['cpu'] * 1e3:.0f} ms in {spent['wall']:.1f} s",
            f"{0.01 * spent['wall'] * 1e3:.0f} ms, its budget",
            spent["cpu"] / spent["wall"],
            0.011,
            also=f"first sweep {spent['first'] * 1e3:.0f} ms",
        )
    )


@pytest.mark.parametrize("interval", [0.1, 1.0])
def test_growth(record: Record, processes: Herd, interval: float) -> None:
    """Take the worst of several processes at different places in the Sampler's order."""
    max_sweeps = 100
    sweeps_needed = []
    with fastsmaps.Sampler(budget=BUDGET) as sampler:
        scan = sampler.sweep()
        for pid in processes.pids[5::60]:
            before = pss(scan, pid)
            processes.grow(pid)
            sweeps = 0
            while sweeps < max_sweeps and pss(scan, pid) - before < 60 << 20:
                time.sleep(interval)
                scan = sampler.sweep()
                sweeps += 1
            sweeps_needed.append(sweeps)
    record(
        Result(
            f"64 MiB of growth in one of 300 processes, a sweep every {interval:g} s",
            f"{max(sweeps_needed)} at most",
            "",
            max(sweeps_needed),
            2,
            unit="sweeps",
            also="each: " + ", ".join(map(str, sweeps_needed)),
        )
    )
