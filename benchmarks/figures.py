"""What was measured: one Figure a row, and the table that shows them."""

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

HEADINGS = ("measure", "ours", "baseline", "figure", "middle half", "goal", "reached", "beside")


@dataclass(frozen=True)
class Figure:
    """One row: ``value`` is what the goal is about, a ratio unless there is a ``unit``.

    An infinite goal is none.
    """

    measure: str
    ours: str
    baseline: str
    value: float
    goal: float
    unit: str = ""
    spread: str = ""
    beside: str = ""

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
            self.beside,
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
    beside: Mapping[str, Sequence[float]] | None = None,
    note: str = "",
    neighbours: bool = False,
) -> Figure:
    """Ratio of medians, from nanoseconds measured in turns (``ours[i]``, then ``baseline[i]``).

    The middle half is that of the ratios of neighbours: what the machine's noise leaves open. With
    `neighbours` the figure is their median: it tells less apart than the machine changes meanwhile.
    """
    base = statistics.median(baseline)
    low, middle, high = statistics.quantiles(
        [a / b for a, b in zip(ours, baseline, strict=True)], n=4
    )
    notes = [note] if note else []
    for name, times in (beside or {}).items():
        median = statistics.median(times)
        notes.append(f"{name} {us(median)} ({median / base:.2f})")
    return Figure(
        measure,
        us(statistics.median(ours)),
        f"{us(base)}, {against}",
        middle if neighbours else statistics.median(ours) / base,
        goal,
        spread=f"{low:.3f} - {high:.3f}",
        beside="; ".join(notes),
    )


def table(figures: Iterable[Figure]) -> str:
    """Format a Markdown table, aligned so that it is readable in a terminal too."""
    rows = [HEADINGS, *(figure.cells() for figure in figures)]
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
    """Describe the machine and the versions, on which every value depends."""
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


def markdown(figures: Iterable[Figure]) -> str:
    """Format the table and the machine's description for the documentation."""
    return "\n".join([table(figures), "", *(f"- {fact}" for fact in facts()), ""])
