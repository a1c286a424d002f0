"""How much a process slows down while it is watched ten times a second."""

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
# Ten samples per second cost less than the work varies from run to run. So fifty per second are
# measured, and a fifth of the loss is the result. A sample costs the worker the same at both rates
# (1.3 ms at intervals of 0.1 s and of 0.02 s; less at 0.01 s).
FAST = 0.02
NORMAL = 0.1
FACTOR = NORMAL / FAST
TURNS = 36
RUNS = 3


class Worker:
    """A process of watched.py that is ready."""

    def __init__(self, process: subprocess.Popen[str], work: str) -> None:
        self.work = work
        self._process = process
        self.pid = self._receive()

    def _receive(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def request(self, line: str) -> int:
        """Send a line and return the reply; for "work", nanoseconds."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._receive()


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
def by_another_process(worker: Worker, interval: float, samples: list[int]) -> Iterator[None]:
    with fastsmaps.Watch(worker.pid, interval=interval, budget=1) as watch:
        yield
    samples.append(watch.count - 2)  # the first and the last are outside of the work


@contextlib.contextmanager
def by_itself(worker: Worker, interval: float, samples: list[int]) -> Iterator[None]:
    worker.request(f"watch {interval}")
    yield
    samples.append(worker.request("leave") - 2)


@pytest.mark.parametrize("watched", [by_another_process, by_itself])
def test_slow_down(
    record: Callable[[results.Result], None], worker: Worker, watched: Watching
) -> None:
    with fastsmaps.Watch(worker.pid, interval=NORMAL) as watch:
        time.sleep(3 * NORMAL)
    rss = sum(
        1024 * int(line.split()[1])
        for line in workloads.smaps(worker.pid).splitlines()
        if line.startswith(b"Rss:")
    )
    assert watch.samples[-1].totals.rss == rss
    assert watch.count >= 3
    times: dict[float, list[int]] = {0.0: [], NORMAL: [], FAST: []}
    samples: dict[float, list[int]] = {NORMAL: [], FAST: []}
    for turn in range(TURNS):
        # Every order is used equally often, so that no rate profits from a drift over time.
        orders = list(itertools.permutations(times))
        for interval in orders[turn % len(orders)]:
            watching = watched(worker, interval, samples[interval]) if interval else None
            with watching or contextlib.nullcontext():
                times[interval].append(sum(worker.request("work") for _ in range(RUNS)))
    fast, normal = (
        [watched_ns / alone_ns for watched_ns, alone_ns in zip(times[i], times[0.0], strict=True)]
        for i in (FAST, NORMAL)
    )
    low, value, high = (1 + (q - 1) / FACTOR for q in statistics.quantiles(fast, n=4))
    rates = {i: sum(samples[i]) / sum(times[i]) * 1e9 for i in samples}
    direct = " - ".join(f"{q:.3f}" for q in statistics.quantiles(normal, n=4))
    record(
        results.Result(
            f"{worker.work} work, watched {watched.__name__.replace('_', ' ')} ten times a second",
            f"{statistics.median(times[FAST]) / RUNS / 1e6:.1f} ms, {rates[FAST]:.0f} samples/s",
            f"{statistics.median(times[0.0]) / RUNS / 1e6:.1f} ms, unwatched",
            value,
            GOAL,
            spread=f"{low:.3f} - {high:.3f}",
            also=f"measured directly, {rates[NORMAL]:.1f} samples/s: quartiles {direct}",
        )
    )
