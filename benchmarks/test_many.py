"""Reading many processes: scan(), libs() and the command.

Each benchmark checks the result, then times our call and its baseline in turns. The check leaves
out Pss, which changes whenever any process on the machine starts or ends.
"""

from __future__ import annotations

import collections
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import bare
import peers
import pytest
from fresh import timed
from herd import herd
from measuring import Turns, environment
from results import Result

import fastsmaps

COUNT = 1000
FILES = ("smaps_rollup", "stat")


@pytest.fixture(scope="module")
def pids() -> Iterator[list[int]]:
    """Pids of a thousand small programs, which end before other benchmarks start."""
    with herd(COUNT) as started:
        yield started.pids


def rollups(pids: list[int]) -> dict[int, int]:
    """Read the Rss of each process, in simple Python."""
    rss = {}
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Rss:"):
                rss[pid] = int(line.split()[1]) * 1024
    return rss


def check(scan: fastsmaps.Scan, pids: list[int]) -> None:
    assert scan.coverage["read"] == len(scan) == len(pids)
    assert {row.pid: row.totals.rss for row in scan if row.totals} == rollups(pids)
    # Some kernels name a program "exe" that was executed as /proc/self/exe.
    comm = Path(f"/proc/{pids[0]}/comm").read_text().removesuffix("\n")
    assert {(row.comm, row.uid, row.ppid) for row in scan} == {
        (comm, os.getuid(), scan[0].ppid),
    }


@pytest.mark.parametrize(("workers", "goal"), [(1, 1.10), (2, 0.60)])
def test_scan(turns: Turns, pids: list[int], workers: int, goal: float) -> None:
    check(fastsmaps.scan(pids, workers=workers), pids)
    assert bare.scan(pids, *FILES).total > 500 * COUNT
    turns.ratio(
        f"scan(), {COUNT:,} small processes, workers={workers}",
        lambda: fastsmaps.scan(pids, workers=workers),
        lambda: bare.scan(pids, *FILES).ns,
        against="bare open-read-close of each rollup and stat, 1 thread",
        goal=goal,
        rounds=60,
        also={"the same in 2 C threads": lambda: bare.scan(pids, *FILES, threads=2).ns},
    )


def test_scan_psutil(turns: Turns, pids: list[int]) -> None:
    wanted = set(pids)
    rows = peers.psutil_scan(wanted)
    assert {row["pid"]: row["memory_full_info"].rss for row in rows} == rollups(pids)
    check(fastsmaps.scan(pids, workers=2), pids)
    turns.ratio(
        f"scan(), {COUNT:,} small processes, workers=2",
        lambda: fastsmaps.scan(pids, workers=2),
        lambda: timed(lambda: peers.psutil_scan(wanted)),
        against="psutil process_iter: memory_full_info, name, uids",
        goal=0.25,
        rounds=20,
    )


def mapped(pids: list[int]) -> Mapping[str, tuple[int, int]]:
    """Sum the Rss and count the processes of each mapped file, in simple Python."""
    rss: collections.Counter[str] = collections.Counter()
    users: collections.Counter[str] = collections.Counter()
    for pid in pids:
        path, seen = "", set()
        for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
            words = line.split(maxsplit=5)
            if not words[0].endswith(":"):
                path = words[5] if len(words) == 6 else ""
                seen.add(path)
            elif words[0] == "Rss:":
                rss[path] += int(words[1]) * 1024
        users.update(seen)
    return {path: (rss[path], users[path]) for path in users if path.startswith("/")}


def test_libs(turns: Turns, pids: list[int]) -> None:
    subset = pids[:200]
    libs = fastsmaps.libs(subset, workers=1)
    assert {path: (use.totals.rss, use.processes) for path, use in libs.items()} == mapped(subset)
    turns.ratio(
        f"libs(), {len(subset)} small processes, workers=1",
        lambda: fastsmaps.libs(subset, workers=1),
        lambda: bare.scan(subset, "smaps").ns,
        against="bare open-read-close of each smaps",
        goal=1.10,
        rounds=100,
    )


def test_command(turns: Turns, pids: list[int]) -> None:
    """Time the whole command, from start to end, and compare it with its scan alone."""
    command = [sys.executable, "-P", "-m", "fastsmaps", "ps", "--json"]
    child = environment()

    def run() -> None:
        subprocess.run(command, env=child, stdout=subprocess.DEVNULL, check=True)

    output = subprocess.run(command, env=child, stdout=subprocess.PIPE, check=True).stdout
    rss = {row["pid"]: row["rss"] for row in json.loads(output)}
    expected = rollups(pids)
    assert {pid: rss.get(pid) for pid in pids} == expected
    times = turns.take(
        run,
        {
            "scan": lambda: timed(lambda: fastsmaps.scan(max_rss=64 << 30)),
            "start": lambda: timed(
                lambda: subprocess.run([sys.executable, "-P", "-c", ""], env=child, check=True)
            ),
        },
        rounds=30,
    )
    if not times:
        return
    ours, scan, start = (statistics.median(times[name]) / 1e6 for name in ("ours", "scan", "start"))
    for measure, value, goal, unit in (
        ("fastsmaps ps --json", ours / scan, 2.5, ""),
        ("fastsmaps ps --json, without its scan", ours - scan, 120, "ms"),
    ):
        turns.show(
            Result(
                f"{measure}, {len(rss):,} processes",
                f"{ours:.1f} ms",
                f"{scan:.1f} ms, scan() in a running Python",
                value,
                goal,
                unit=unit,
                also=f"python -c '' {start:.1f} ms",
            )
        )
