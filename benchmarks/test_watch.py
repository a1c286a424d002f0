"""What a process loses of its own work while it is watched ten times a second."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import results
import workloads
from measuring import environment

import fastsmaps

GOAL = 1.01
# Ten samples a second cost less than the work varies from run to run. So fifty a second are
# measured, and a fifth of the loss is the result. A sample costs the worker as much at either rate
# (1.3 ms with pauses of 0.1 s and of 0.02 s; less with 0.01 s).
MANY = 0.02
TEN = 0.1
FACTOR = TEN / MANY
TURNS = 36
RUNS = 3


class Worker:
    """watched.py, ready."""

    def __init__(self, process: subprocess.Popen[str], work: str) -> None:
        self.work = work
        self._process = process
        self.pid = self._hear()

    def _hear(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def request(self, what: str) -> int:
        """Its answer: nanoseconds for "work"."""
        assert self._process.stdin is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        return self._hear()


@pytest.fixture(params=["ordinary", "mapping"])
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    command = [sys.executable, str(Path(__file__).with_name("watched.py")), request.param]
    with subprocess.Popen(
        command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Worker(process, request.param)
        finally:
            process.kill()


Watching = Callable[[Worker, float, list[int]], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def by_another(worker: Worker, interval: float, samples: list[int]) -> Iterator[None]:
    with fastsmaps.Watch(worker.pid, interval=interval, budget=1) as watch:
        yield
    samples.append(watch.count - 2)  # the first and the last are taken outside of the work


@contextlib.contextmanager
def by_itself(worker: Worker, interval: float, samples: list[int]) -> Iterator[None]:
    worker.request(f"watch {interval}")
    yield
    samples.append(worker.request("leave") - 2)


@pytest.mark.parametrize("watched", [by_another, by_itself])
def test_slow_down(
    record: Callable[[results.Result], None], worker: Worker, watched: Watching
) -> None:
    with fastsmaps.Watch(worker.pid, interval=TEN) as watch:
        time.sleep(3 * TEN)
    rss = sum(
        1024 * int(line.split()[1])
        for line in workloads.smaps(worker.pid).splitlines()
        if line.startswith(b"Rss:")
    )
    assert watch.samples[-1].totals.rss == rss
    assert watch.count >= 3
    times: dict[float, list[int]] = {0.0: [], TEN: [], MANY: []}
    samples: dict[float, list[int]] = {TEN: [], MANY: []}
    for turn in range(TURNS):
        # Each order equally often, so that no rate profits from a change over time.
        orders = list(itertools.permutations(times))
        for interval in orders[turn % len(orders)]:
            on = watched(worker, interval, samples[interval]) if interval else None
            with on or contextlib.nullcontext():
                times[interval].append(sum(worker.request("work") for _ in range(RUNS)))
    many, ten = ([a / b for a, b in zip(times[i], times[0.0], strict=True)] for i in (MANY, TEN))
    low, value, high = (1 + (q - 1) / FACTOR for q in statistics.quantiles(many, n=4))
    rates = {i: sum(samples[i]) / sum(times[i]) * 1e9 for i in samples}
    direct = " - ".join(f"{q:.3f}" for q in statistics.quantiles(ten, n=4))
    record(
        results.Result(
            f"{worker.work} work, watched {watched.__name__.replace('_', ' ')} ten times a second",
            f"{statistics.median(times[MANY]) / RUNS / 1e6:.1f} ms, {rates[MANY]:.0f} samples/s",
            f"{statistics.median(times[0.0]) / RUNS / 1e6:.1f} ms, unwatched",
            value,
            GOAL,
            spread=f"{low:.3f} - {high:.3f}",
            also=f"directly, {rates[TEN]:.1f} samples/s: quartiles {direct}",
        )
    )
