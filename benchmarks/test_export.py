"""The exporter: duration of a scrape, CPU time, and growth of its memory.

The exporter runs as its command and is scraped over HTTP, as by Prometheus. Each benchmark first
checks the metrics against a plain sum over the processes' rollups.
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
def processes() -> Iterator[Herd]:
    """Start a herd; the exporter sees the whole machine, so no other herd may run."""
    with herd(COUNT, names=NAMES) as started:
        yield started


class Exporter:
    """`fastsmaps export`, ready after its first sweep."""

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
        """Return all the metrics, over a new connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            return connection.getresponse().read()

    def timed(self, count: int) -> list[float]:
        """Return the milliseconds that each of ``count`` consecutive scrapes took."""
        times = []
        for _ in range(count):
            start = time.perf_counter()
            self.scrape()
            times.append((time.perf_counter() - start) * 1e3)
        return times

    def cpu(self) -> float:
        """CPU time of all its threads, including those that ended, in seconds."""
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


def check(exporter: Exporter, processes: Herd) -> None:
    """Check that the Rss of each group is the sum over its processes."""
    groups: collections.Counter[str] = collections.Counter()
    for pid in processes.pids:
        comm = Path(f"/proc/{pid}/comm").read_text().strip()
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                groups[comm] += int(line.split()[1]) * 1024
    assert len(groups) == NAMES
    exported = {}
    for line in exporter.scrape().decode().splitlines():
        if line.startswith('fastsmaps_rss_bytes{comm="herd-'):
            exported[line.split('"')[1]] = int(float(line.split()[1]))
    assert exported == dict(groups)


def write_containers(root: Path, containers: int, each: int) -> None:
    """Write the files of a node's processes, in the layout of /proc."""
    fields = ("Rss", "Pss", "Pss_Anon", "Pss_File", "Pss_Shmem", "Private_Clean", "Private_Dirty",
              "Swap", "Shared_Hugetlb", "Private_Hugetlb")  # fmt: skip
    sizes = "".join(f"{name}:{2000:>12} kB\n" for name in fields)
    rollup = f"55d0c0000000-7ffc00000000 ---p 00000000 00:00 0 {'':20} [rollup]\n{sizes}"
    for container in range(containers):
        pod = f"{container:08x}-0000-4000-8000-000000000000"
        cgroup = f"0::/kubepods/burstable/pod{pod}/{container:012x}{52 * '0'}\n"
        for pid in range(1000 + container * each, 1000 + (container + 1) * each):
            directory = root / str(pid)
            directory.mkdir(parents=True)
            (directory / "smaps_rollup").write_text(rollup)
            (directory / "stat").write_text(f"{pid} (it) S 1 {'0 ' * 45}\n")
            (directory / "statm").write_text("1000 500 10 1 0 20 0\n")
            (directory / "status").write_text(f"Tgid:\t{pid}\nUid:\t0\t0\t0\t0\n")
            (directory / "cgroup").write_text(cgroup)
            (directory / "cmdline").write_bytes(b"it\0")


def test_scrape_of_a_node(record: Record, tmp_path: Path) -> None:
    """Time scrapes as Prometheus makes them, a second apart, over several sweeps."""
    containers, each = 500, 10
    write_containers(tmp_path, containers, each)
    with Exporter("--procfs", str(tmp_path), "--by", "container") as exporter:
        lines = exporter.scrape().decode().splitlines()
        sums = [float(line.split()[1]) for line in lines if line.startswith("fastsmaps_pss_bytes{")]
        assert sums == [each * 2000 * 1024] * containers
        times = []
        cpu, began = exporter.cpu(), time.monotonic()
        while time.monotonic() < began + 120:
            times += exporter.timed(1)
            time.sleep(1)
        share = (exporter.cpu() - cpu) / (time.monotonic() - began)
        size = len(exporter.scrape())
    record(
        Result(
            f"a scrape, {containers} containers of {each} processes",
            f"{size / 1024:.1f} KiB",
            "",
            statistics.median(times),
            10,
            unit="ms",
            also=f"max {max(times):.1f} ms, {share:.1%} of a core",
        )
    )


@pytest.mark.parametrize("busy", [False, True])
def test_scrape(record: Record, processes: Herd, busy: bool) -> None:
    """Time scrapes at the default interval, and during sweeps without a pause."""
    arguments = ("--budget", "1", "--interval", "0.001") if busy else ()
    with Exporter(*arguments) as exporter:
        check(exporter, processes)
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
            also=f"99 % within {worst:.1f} ms, max {max(times):.1f} ms",
        )
    )


def test_share(record: Record, processes: Herd) -> None:
    """Measure the CPU time of the process with a scrape per second, after its first sweep."""
    with Exporter("--budget", str(BUDGET)) as exporter:
        check(exporter, processes)
        wall, cpu = time.monotonic(), exporter.cpu()
        due = wall
        while due < wall + SECONDS:
            due += 1
            time.sleep(max(0.0, due - time.monotonic()))
            exporter.scrape()
        share = (exporter.cpu() - cpu) / (time.monotonic() - wall)
    record(
        Result(
            f"exporter's share of a core, a scrape per second, {COUNT} processes",
            f"{share * 1e3:.1f} ms per second",
            f"{BUDGET * 1e3:.0f} ms, its budget",
            share * 100,
            1.3,
            unit="%",
        )
    )


def test_memory(record: Record, processes: Herd) -> None:
    """Compare resident memory after 10,000 scrapes and after 100, over some 20 sweeps."""
    with Exporter("--interval", "0.5") as exporter:
        check(exporter, processes)
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
