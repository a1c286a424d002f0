"""Results of the benchmarks, and the table that shows them."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import bare
import peers

import fastsmaps

HEADINGS = ("measure", "ours", "baseline", "value", "middle half", "goal", "reached", "also")


@dataclass(frozen=True)
class Result:
    """One row of the table.

    The goal applies to ``value``, which is a ratio if ``unit`` is empty. An infinite goal means
    that there is none; the table then leaves its cells empty.
    """

    measure: str
    ours: str
    baseline: str
    value: float
    goal: float
    unit: str = ""
    spread: str = ""
    also: str = ""

    @property
    def reached(self) -> bool:
        return self.value <= self.goal

    def cells(self) -> tuple[str, ...]:
        value, goal = (
            (f"{self.value:.1f} {self.unit}", f"{self.goal:g} {self.unit}")
            if self.unit
            else (f"{self.value:.3f}", f"{self.goal:.3f}")
        )
        reached = "yes" if self.reached else "no"
        return (
            self.measure,
            self.ours,
            self.baseline,
            value,
            self.spread,
            "" if math.isinf(self.goal) else f"<= {goal}",
            "" if math.isinf(self.goal) else reached,
            self.also,
        )


def us(ns: float) -> str:
    return f"{ns / 1000:,.1f} us"


def ratio(
    measure: str,
    ours: Sequence[float],
    baseline: Sequence[float],
    *,
    against: str,
    goal: float,
    also: Mapping[str, Sequence[float]] | None = None,
    note: str = "",
    paired: bool = False,
) -> Result:
    """Ratio of the medians of nanoseconds measured in turns (``ours[i]``, then ``baseline[i]``).

    The middle half is taken over the ratios of each pair of rounds: it shows the machine's noise.
    With ``paired`` the value is their median: it resolves differences that are smaller than the
    machine's drift over the run. ``also`` adds other series for comparison.
    """
    base = statistics.median(baseline)
    low, middle, high = statistics.quantiles(
        [a / b for a, b in zip(ours, baseline, strict=True)], n=4
    )
    notes = [note] if note else []
    for name, times in (also or {}).items():
        median = statistics.median(times)
        notes.append(f"{name} {us(median)} ({median / base:.2f})")
    return Result(
        measure,
        us(statistics.median(ours)),
        f"{us(base)}, {against}",
        middle if paired else statistics.median(ours) / base,
        goal,
        spread=f"{low:.3f} - {high:.3f}",
        also="; ".join(notes),
    )


def table(results: Iterable[Result]) -> str:
    """Format a Markdown table, padded to be readable in a terminal too."""
    rows = [HEADINGS, *(result.cells() for result in results)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADINGS))]
    rows.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _compiler() -> str:
    version = subprocess.run(
        [*bare.compiler(), "--version"], check=True, capture_output=True, text=True
    )
    return version.stdout.partition("\n")[0]


def facts() -> list[str]:
    """Describe the machine and the versions that all results depend on."""
    try:
        version = importlib.metadata.version("fastsmaps")
    except importlib.metadata.PackageNotFoundError:
        version = "not installed"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    kernel = f"Linux {platform.release()} {platform.machine()}"
    return [
        f"fastsmaps {version}, backend {fastsmaps.BACKEND}; psutil {peers.PSUTIL_VERSION}",
        f"{python} ({platform.python_compiler()})",
        f"{kernel}; {_cpu()}, {os.cpu_count()} CPUs; load at the end {os.getloadavg()[0]:.1f}",
        f"baselines compiled -O2 by {_compiler()}",
    ]


def markdown(results: Iterable[Result]) -> str:
    """Format the table and the machine's description for the documentation."""
    return "\n".join([table(results), "", *(f"- {fact}" for fact in facts()), ""])
