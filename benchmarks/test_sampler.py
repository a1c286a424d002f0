"""What a Sampler takes of a core, and how soon it sees what grew."""

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
def flock() -> Iterator[Herd]:
    """Herd of processes; a sampler sees the whole machine, so no other herd may run."""
    with herd(300, 400) as started:
        yield started


def pss(scan: fastsmaps.Scan, pid: int) -> int:
    totals = scan.by_pid[pid].totals
    assert totals is not None
    assert totals.pss is not None
    return totals.pss


@pytest.mark.parametrize("interval", [0.1, 1.0])
def test_share(record: Record, flock: Herd, interval: float) -> None:
    """A process of its own for each; the first sweep, which reads all, is left out."""
    answer = run_fresh("sampler", BUDGET, interval, 4)
    assert answer["rows"] >= len(flock.pids)
    record(
        Result(
            f"Sampler(budget={BUDGET}), 300 processes, a sweep every {interval:g} s",
            f"{answer['cpu'] * 1e3:.0f} ms in {answer['wall']:.1f} s",
            f"{BUDGET * answer['wall'] * 1e3:.0f} ms, its budget",
            answer["cpu"] / answer["wall"],
            0.06,
            also=f"first sweep {answer['first'] * 1e3:.0f} ms",
        )
    )


@pytest.mark.parametrize("interval", [0.1, 1.0])
def test_growth(record: Record, flock: Herd, interval: float) -> None:
    """The worst of some processes, each at another place of the sampler's order."""
    max_sweeps = 100
    taken = []
    with fastsmaps.Sampler(budget=BUDGET) as sampler:
        scan = sampler.sweep()
        for pid in flock.pids[5::60]:
            before = pss(scan, pid)
            flock.grow(pid)
            sweeps = 0
            while sweeps < max_sweeps and pss(scan, pid) - before < 60 << 20:
                time.sleep(interval)
                scan = sampler.sweep()
                sweeps += 1
            taken.append(sweeps)
    record(
        Result(
            f"64 MiB of growth in one of 300 processes, a sweep every {interval:g} s",
            f"{max(taken)} sweeps at most",
            "",
            max(taken),
            2,
            unit="sweeps",
            also="each: " + ", ".join(map(str, taken)),
        )
    )
