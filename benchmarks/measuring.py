"""How figures are taken: in turns with their baseline, or in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import figures

import fastsmaps

WARMUP_ROUNDS = 3


def environment(backend: str = fastsmaps.BACKEND) -> dict[str, str]:
    """For a child: the very package that is measured here, with the given backend."""
    package = str(Path(fastsmaps.__file__).parents[1])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    child = {**os.environ, "PYTHONPATH": path, "FASTSMAPS_BACKEND": backend}
    child.pop("PYTHONDONTWRITEBYTECODE", None)  # imports are of compiled modules, as elsewhere
    return child


def run_fresh(what: str, *arguments: object, backend: str = fastsmaps.BACKEND) -> dict[str, Any]:
    """Run fresh.py in a new process and return its output."""
    command = [sys.executable, str(Path(__file__).with_name("fresh.py")), what]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        env=environment(backend),
        stdout=subprocess.PIPE,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


class Benchmark(Protocol):
    """What is used of pytest-benchmark's fixture, which has no types of its own."""

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
    """Times ours and others in turns, so that whatever slows the machine slows them all."""

    def __init__(self, benchmark: Benchmark, record: Callable[[figures.Figure], None]) -> None:
        self._benchmark = benchmark
        self._record = record

    def take(
        self, ours: Callable[[], object], others: Mapping[str, Callable[[], float]], rounds: int
    ) -> dict[str, list[float]]:
        """Nanoseconds of each by name, "ours" among them; nothing under --benchmark-disable.

        ``others`` return their own nanoseconds. ``ours`` is timed by pytest-benchmark, with the
        time to free what it returned.
        """
        times: dict[str, list[float]] = {name: [] for name in others}

        def setup() -> None:
            for name, other in others.items():
                times[name].append(other())

        def target() -> None:
            ours()

        self._benchmark.pedantic(target, setup=setup, rounds=rounds, warmup_rounds=WARMUP_ROUNDS)
        if self._benchmark.disabled:
            return {}
        taken = {name: series[WARMUP_ROUNDS:] for name, series in times.items()}
        return {"ours": [s * 1e9 for s in self._benchmark.stats.stats.data], **taken}

    def show(self, figure: figures.Figure) -> None:
        """Into the table, and into pytest-benchmark's JSON."""
        self._record(figure)
        unit = figure.unit or "ratio"
        self._benchmark.extra_info.update(
            {unit: figure.value, "goal": figure.goal, "baseline": figure.baseline}
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
        beside: Mapping[str, Callable[[], float]] | None = None,
        note: str = "",
    ) -> None:
        """Ours / the baseline, with other ways ``beside`` them for whoever compares."""
        times = self.take(ours, {against: baseline, **(beside or {})}, rounds)
        if times:
            self.show(
                figures.ratio(
                    measure,
                    times.pop("ours"),
                    times.pop(against),
                    against=against,
                    goal=goal,
                    beside=times,
                    note=note,
                )
            )
