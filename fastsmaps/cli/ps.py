"""fastsmaps ps: every process with its Pss, Uss, Rss and swap, largest Pss first."""

from __future__ import annotations

import argparse
import os
import pwd
from collections import Counter
from typing import Any, NamedTuple

from fastsmaps import (
    AccessDenied,
    Error,
    Info,
    NoMemoryMap,
    Process,
    ProcessGone,
    Totals,
)
from fastsmaps.cli.output import kib, print_json, print_table
from fastsmaps.procfs import pids
from fastsmaps.totals import NAMES

HEAD = ("PID", "USER", "PSS", "USS", "RSS", "SWAP", "COMMAND")

# How an outcome is told of; kernel threads have no memory to be missed.
WORDS = {"denied": "denied", "gone": "gone meanwhile", "zombie": "zombies", "failed": "failed"}


class Row(NamedTuple):
    """One process: what could be told of it."""

    pid: int
    outcome: str
    info: Info | None
    totals: Totals | None
    error: str | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON; what was not read is null."""
        info, totals = self.info, self.totals
        figures = totals.as_dict() if totals else dict.fromkeys(("size", "uss", *NAMES))
        return {
            "pid": self.pid,
            "ppid": info and info.ppid,
            "comm": info and info.comm,
            "user": user_name(info),
            "uid": info and info.uid,
            "outcome": self.outcome,
            "error": self.error,
            **figures,
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none of its own."""


def read(pid: int, procfs: str) -> Row:
    """One process, all of it through one open directory, so that no two are mixed."""
    info = None
    try:
        with Process(pid, procfs=procfs) as process:
            info = process.info(heap=False)
            totals = process.totals()
        return Row(pid, "read", info, totals, None)
    except AccessDenied as error:
        return Row(pid, "denied", info, None, str(error))
    except ProcessGone as error:
        return Row(pid, "gone", info, None, str(error))
    except NoMemoryMap as error:
        outcome = "kernel_thread" if error.what == "kernel thread" else "zombie"
        return Row(pid, outcome, info, None, str(error))
    except Error as error:
        return Row(pid, "failed", info, None, str(error))


def user_name(info: Info | None) -> str | None:
    """The user's name, else number."""
    if info is None or info.uid is None:
        return None
    try:
        return pwd.getpwuid(info.uid).pw_name
    except KeyError:
        return str(info.uid)


def command_of(info: Info | None) -> str:
    """The arguments as they were given, or the name in brackets, as ps does."""
    if info is None:
        return "?"
    return " ".join(info.cmdline) or f"[{info.comm}]"


def run(args: argparse.Namespace) -> int:
    """Prints every process."""
    rows = [read(pid, args.procfs) for pid in pids(args.procfs)]
    rows.sort(key=lambda row: (row.totals.pss or 0) if row.totals else -1, reverse=True)
    if args.json:
        print_json([row.as_dict() for row in rows])
        return 0
    done = [(row, row.totals) for row in rows if row.totals]
    print_table(
        HEAD,
        [
            (
                str(row.pid),
                user_name(row.info) or "?",
                *map(kib, (totals.pss, totals.uss, totals.rss, totals.swap)),
                command_of(row.info),
            )
            for row, totals in done
        ],
        left=("USER", "COMMAND"),
    )
    print()
    print(summary(rows))
    return 0


def summary(rows: list[Row]) -> str:
    """The totals, and what is missing from them."""
    counts = Counter(row.outcome for row in rows)
    processes = len(rows) - counts["kernel_thread"]
    figures = ""
    if read := [row.totals for row in rows if row.totals]:
        sums = sum(read[1:], read[0])
        named = (("Pss", sums.pss), ("Uss", sums.uss), ("Rss", sums.rss), ("Swap", sums.swap))
        figures = ", ".join(f"{name} {kib(size)}" for name, size in named) + " KiB; "
    missed = [f", {counts[outcome]} {word}" for outcome, word in WORDS.items() if counts[outcome]]
    line = f"total: {figures}{counts['read']} of {processes} processes read{''.join(missed)}"
    if counts["denied"] and os.geteuid() != 0:
        line += "\nCAP_SYS_PTRACE would be enough for those denied, or CAP_PERFMON on newer kernels"
    return line
