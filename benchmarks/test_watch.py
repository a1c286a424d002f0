"""What a process loses of its own work while it is watched ten times a second."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import figures
import pytest
import workloads
from measuring import environment
from watched import INTERVAL

import fastsmaps

# What is looked for is less than what most pieces of work differ by: many are needed, in short
# turns. A piece takes as long as one or two looks are apart.
TURNS = 30
PIECES = 4
GOAL = 1.01


class Worker:
    """watched.py, ready."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = self._hear()

    def _hear(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def tell(self, what: str) -> int:
        """Its answer: nanoseconds for "work"."""
        assert self._process.stdin is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        return self._hear()


@pytest.fixture
def worker() -> Iterator[Worker]:
    command = [sys.executable, str(Path(__file__).with_name("watched.py"))]
    with subprocess.Popen(
        command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Worker(process)
        finally:
            process.kill()


@contextlib.contextmanager
def by_another(worker: Worker, looks: list[int]) -> Iterator[None]:
    with fastsmaps.Watch(worker.pid, interval=INTERVAL) as watch:
        yield
    looks.append(watch.count)


@contextlib.contextmanager
def by_itself(worker: Worker, looks: list[int]) -> Iterator[None]:
    worker.tell("watch")
    yield
    looks.append(worker.tell("leave"))


Watching = Callable[[Worker, list[int]], contextlib.AbstractContextManager[None]]


@pytest.mark.parametrize("watched", [by_another, by_itself])
def test_slow_down(
    record: Callable[[figures.Figure], None], worker: Worker, watched: Watching
) -> None:
    with fastsmaps.Watch(worker.pid, interval=INTERVAL) as watch:
        time.sleep(3 * INTERVAL)
    rss = sum(
        1024 * int(line.split()[1])
        for line in workloads.smaps(worker.pid).splitlines()
        if line.startswith(b"Rss:")
    )
    assert watch.samples[-1].totals.rss == rss
    assert watch.count >= 3
    times: dict[bool, list[int]] = {True: [], False: []}
    looks: list[int] = []
    for i in range(TURNS):
        # Both orders in turns: what slows down or speeds up meanwhile favours neither.
        for on in (i % 2 == 0, i % 2 == 1):
            with watched(worker, looks) if on else contextlib.nullcontext():
                times[on] += [worker.tell("work") for _ in range(PIECES)]
    record(
        figures.ratio(
            f"work of a process watched {watched.__name__.replace('_', ' ')} ten times a second",
            times[True],
            times[False],
            against="unwatched",
            goal=GOAL,
            # Without those at the beginning and at the end, which fall into no piece of work.
            note=f"{sum(looks, -2 * len(looks)) / sum(times[True]) * 1e9:.1f} looks a second",
        )
    )
