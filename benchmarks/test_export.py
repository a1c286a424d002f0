"""The exporter: how long a scrape takes, what all of it takes of a core, whether it grows.

It is the command as it is run, and scraped over HTTP as Prometheus does. Each first checks the
answer against a plain sum over the processes' rollups.
"""

from __future__ import annotations

import collections
import contextlib
import http.client
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from herd import Herd, herd
from measuring import environment
from results import Result

COUNT, NAMES = 500, 20
BUDGET = 0.01
SECONDS = 20
Record = Callable[[Result], None]


@pytest.fixture(scope="module")
def flock() -> Iterator[Herd]:
    """Herd of processes; the exporter sees the whole machine, so no other herd may run."""
    with herd(COUNT, names=NAMES) as started:
        yield started


class Exporter:
    """`fastsmaps export`, which has done its first sweep."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "fastsmaps", "export", "--listen", "127.0.0.1:0"]
        self.popen = subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, text=True, env=environment()
        )
        assert self.popen.stdout is not None
        self.port = int(self.popen.stdout.readline().split(":")[2].partition("/")[0])
        while b"\nfastsmaps_up 1.0\n" not in self.scrape():
            time.sleep(0.1)

    def scrape(self) -> bytes:
        """All the metrics, on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            return connection.getresponse().read()

    def timed(self, count: int) -> list[float]:
        """Milliseconds of so many scrapes, one after the other."""
        times = []
        for _ in range(count):
            begun = time.perf_counter()
            self.scrape()
            times.append((time.perf_counter() - begun) * 1e3)
        return times

    def cpu(self) -> float:
        """Processor time of all its threads, also of those that ended, in seconds."""
        stat = Path(f"/proc/{self.popen.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def rss(self) -> int:
        """Its resident memory, in bytes."""
        statm = Path(f"/proc/{self.popen.pid}/statm").read_text()
        return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def __enter__(self) -> Exporter:
        return self

    def __exit__(self, *_: object) -> None:
        self.popen.terminate()
        self.popen.communicate()


def check(exporter: Exporter, flock: Herd) -> None:
    """Check that the Rss of each group is the sum over its processes, even where pages move."""
    groups: collections.Counter[str] = collections.Counter()
    for pid in flock.pids:
        comm = Path(f"/proc/{pid}/comm").read_text().strip()
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                groups[comm] += int(line.split()[1]) * 1024
    assert len(groups) == NAMES
    found = {}
    for line in exporter.scrape().decode().splitlines():
        if line.startswith('fastsmaps_rss_bytes{comm="herd-'):
            found[line.split('"')[1]] = int(float(line.split()[1]))
    assert found == dict(groups)


@pytest.mark.parametrize("busy", [False, True])
def test_scrape(record: Record, flock: Herd, busy: bool) -> None:
    """As it is usually, and while one sweep follows the other: an answer waits for none."""
    arguments = ("--budget", "1", "--interval", "0.001") if busy else ()
    with Exporter(*arguments) as exporter:
        check(exporter, flock)
        times = exporter.timed(1000)
        size = len(exporter.scrape())
    worst = statistics.quantiles(times, n=100)[98]
    record(
        Result(
            f"a scrape, {COUNT} processes in {NAMES} groups"
            + (", sweeps without a pause" if busy else ""),
            f"{size / 1024:.1f} KiB",
            "",
            statistics.median(times),
            10,
            unit="ms",
            also=f"99 of 100 within {worst:.1f} ms, the longest {max(times):.1f} ms",
        )
    )


def test_share(record: Record, flock: Herd) -> None:
    """All that the process takes while it is scraped once a second, the first sweep left out."""
    with Exporter("--budget", str(BUDGET)) as exporter:
        check(exporter, flock)
        wall, cpu = time.monotonic(), exporter.cpu()
        due = wall
        while due < wall + SECONDS:
            due += 1
            time.sleep(max(0.0, due - time.monotonic()))
            exporter.scrape()
        share = (exporter.cpu() - cpu) / (time.monotonic() - wall)
    record(
        Result(
            f"exporter's share of a core, a scrape a second, {COUNT} processes",
            f"{share * 1e3:.1f} ms a second",
            f"{BUDGET * 1e3:.0f} ms, its budget",
            share * 100,
            1.3,
            unit="%",
        )
    )


def test_memory(record: Record, flock: Herd) -> None:
    """Resident memory after 10,000 scrapes against after 100, over some 20 sweeps."""
    with Exporter("--interval", "0.5") as exporter:
        check(exporter, flock)
        exporter.timed(100)
        before = exporter.rss()
        exporter.timed(9900)
        after = exporter.rss()
    record(
        Result(
            "exporter's resident memory, 10,000 scrapes / 100",
            f"{after / 2**20:.1f} MiB",
            f"{before / 2**20:.1f} MiB",
            after / before,
            1.02,
        )
    )
