"""Measure in turns with a baseline, or in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import results

import fastsmaps

WARMUP_ROUNDS = 3


def environment(backend: str = fastsmaps.BACKEND) -> dict[str, str]:
    """Environment for a child that imports the same fastsmaps with the given backend."""
    package = str(Path(fastsmaps.__file__).parents[1])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    child = {**os.environ, "PYTHONPATH": path, "FASTSMAPS_BACKEND": backend}
    child.pop("PYTHONDONTWRITEBYTECODE", None)  # imports load bytecode, as usual
    return child


def run_fresh(name: str, *arguments: object, backend: str = fastsmaps.BACKEND) -> dict[str, Any]:
    """Run a function of fresh.py in a new process and return its result."""
    command = [sys.executable, str(Path(__file__).with_name("fresh.py")), name]
    completed = subprocess.run(
        [*command, *map(str, arguments)],
        env=environment(backend),
        stdout=subprocess.PIPE,
        check=True,
    )
    answer: dict[str, Any] = json.loads(completed.stdout)
    return answer


class Benchmark(Protocol):
    """The part used here of pytest-benchmark's fixture, which is not typed."""

    disabled: bool
    extra_info: dict[str, object]
    stats: Any

    def pedantic(
        self,
        target: Callable[[], object],
        *,
        setup: Callable[[], None],
        rounds: int,
        warmup_rounds: int,
    ) -> object: ...


class Turns:
    """Time our function and others in turns, so that a slow machine slows all of them."""

    def __init__(self, benchmark: Benchmark, record: Callable[[results.Result], None]) -> None:
        self._benchmark = benchmark
        self._record = record

    def take(
        self, ours: Callable[[], object], others: Mapping[str, Callable[[], float]], rounds: int
    ) -> dict[str, list[float]]:
        """Return the nanoseconds of each round by name; ours are under "ours".

        Each of ``others`` returns its own nanoseconds. ``ours`` is timed by pytest-benchmark,
        including the time to free its result. Empty under --benchmark-disable.
        """
        times: dict[str, list[float]] = {name: [] for name in others}

        def setup() -> None:
            for name, measure in others.items():
                times[name].append(measure())

        def target() -> None:
            ours()

        self._benchmark.pedantic(target, setup=setup, rounds=rounds, warmup_rounds=WARMUP_ROUNDS)
        if self._benchmark.disabled:
            return {}
        ours_ns = [seconds * 1e9 for seconds in self._benchmark.stats.stats.data]
        return {"ours": ours_ns, **{name: ns[WARMUP_ROUNDS:] for name, ns in times.items()}}

    def show(self, result: results.Result) -> None:
        """Add a result to the table and to pytest-benchmark's JSON."""
        self._record(result)
        unit = result.unit or "ratio"
        self._benchmark.extra_info.update(
            {unit: result.value, "goal": result.goal, "baseline": result.baseline}
        )

    def ratio(
        self,
        measure: str,
        ours: Callable[[], object],
        baseline: Callable[[], float],
        *,
        against: str,
        goal: float,
        rounds: int,
        also: Mapping[str, Callable[[], float]] | None = None,
        note: str = "",
    ) -> None:
        """Show the ratio of our time to the baseline's; ``also`` is timed and shown for comparison.

        All but ``ours`` return their own nanoseconds.
        """
        times = self.take(ours, {against: baseline, **(also or {})}, rounds)
        if times:
            self.show(
                results.ratio(
                    measure,
                    times.pop("ours"),
                    times.pop(against),
                    against=against,
                    goal=goal,
                    also=times,
                    note=note,
                )
            )
