"""Memory of ``fastsmaps export`` beside thousands of processes, in a cgroup with a limit.

``python exporter_memory.py`` as root: starts 3,000 small programs, then the exporter in a memory
cgroup of 32 MiB (v1 or v2, whichever has the controller), scrapes it once a second for two minutes,
and prints what the cgroup was charged for. Fails if the exporter ends or misses a process, if
a sweep failed, or if the kernel killed something in the cgroup.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from herd import herd

MIB = 1 << 20
_STARTS = 60.0  # seconds until the first sweep must be done


class Cgroup:
    """A memory cgroup of our own below the current one; its limit counts kernel memory."""

    def __init__(self, limit: int) -> None:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        v1 = [line.split()[4] for line in lines if re.search(r" - cgroup \S+ \S*\bmemory\b", line)]
        v2 = [line.split()[4] for line in lines if " - cgroup2 " in line]
        self.version = 1 if v1 else 2
        root = Path((v1 or v2)[0])
        wanted = r"^\d+:(?:.*,)?memory(?:,.*)?:(.*)$" if v1 else r"^0::(.*)$"
        found = re.search(wanted, Path("/proc/self/cgroup").read_text(), re.MULTILINE)
        assert found
        # In v2 a cgroup that has processes cannot give controllers to those below.
        parent = root / found[1].lstrip("/") if v1 else root
        self.path = parent / f"fastsmaps-memory-{os.getpid()}"
        if not v1:
            (root / "cgroup.subtree_control").write_text("+memory")
        self.path.mkdir()
        self.write("memory.limit_in_bytes" if v1 else "memory.max", limit)

    def write(self, name: str, value: int) -> None:
        """Write to a file of the cgroup."""
        (self.path / name).write_text(str(value))

    def stat(self) -> dict[str, int]:
        """Return current, peak, anon, file and kernel memory in bytes, and killed processes."""

        def pairs(name: str) -> dict[str, int]:
            lines = (self.path / name).read_text().splitlines()
            return {key: int(value) for key, value in map(str.split, lines)}

        def number(name: str) -> int:
            path = self.path / name
            return int(path.read_text()) if path.exists() else 0  # memory.peak is of Linux 5.19

        stat = pairs("memory.stat")
        if self.version == 1:
            return {
                "current": number("memory.usage_in_bytes"),
                "peak": number("memory.max_usage_in_bytes"),
                "anon": stat["rss"],
                "file": stat["cache"],
                "kernel": number("memory.kmem.usage_in_bytes"),
                "reclaims": number("memory.failcnt"),
                "killed": pairs("memory.oom_control").get("oom_kill", 0),
            }
        events = pairs("memory.events")
        return {
            "current": number("memory.current"),
            "peak": number("memory.peak"),
            "anon": stat["anon"],
            "file": stat["file"],
            "kernel": stat.get("kernel", stat["slab"] + stat["kernel_stack"]),
            "reclaims": events["max"],
            "killed": events["oom_kill"],
        }

    def remove(self) -> None:
        """Remove the cgroup once its last process has been reaped."""
        for _ in range(100):
            try:
                self.path.rmdir()
            except OSError:
                time.sleep(0.1)
            else:
                return


@contextlib.contextmanager
def exporter(cgroup: Cgroup, options: list[str]) -> Iterator[tuple[int, str]]:
    """Run the exporter in the cgroup; yield its pid and URL."""
    enter = (
        "import os, sys; open(sys.argv[1], 'w').write('0');"
        "os.execv(sys.executable, [sys.executable, '-m', 'fastsmaps', 'export', *sys.argv[2:]])"
    )
    listen = ["--listen", "127.0.0.1:0"]
    command = [sys.executable, "-c", enter, str(cgroup.path / "cgroup.procs"), *listen, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            address = re.search(r"http://[\d.]+:\d+/metrics", line)
            if address is None:
                raise SystemExit(f"the exporter did not start: {line or process.wait()}")
            yield process.pid, address[0]
        finally:
            process.terminate()


def scrape(url: str) -> dict[str, float]:
    """Return the samples of the exporter."""
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - our own exporter
        lines = answer.read().decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(limit: int, processes: int, seconds: float, options: list[str]) -> dict[str, float]:
    """Scrape an exporter for so long, and return its figures; raise if it did not do its work."""
    cgroup = Cgroup(limit)
    try:
        with exporter(cgroup, options) as (pid, url):
            begun = time.monotonic()
            while not (samples := scrape(url))["fastsmaps_up"]:
                if time.monotonic() - begun > _STARTS:
                    raise SystemExit("no sweep was done")
                time.sleep(0.2)
            first, cpu, begun = samples, cpu_seconds(pid), time.monotonic()
            most: dict[str, int] = {}
            while time.monotonic() - begun < seconds:
                samples = scrape(url)
                for name, value in cgroup.stat().items():
                    most[name] = max(most.get(name, 0), value)
                time.sleep(1)
            wall = time.monotonic() - begun
            read = samples['fastsmaps_coverage_processes{outcome="read"}']
            sweeps = samples["fastsmaps_sweeps_total"] - first["fastsmaps_sweeps_total"]
            if read < processes or samples["fastsmaps_sweep_errors_total"]:
                raise SystemExit(f"{read:g} processes were read, in {sweeps:g} sweeps")
            if most["killed"]:
                raise SystemExit(f"the kernel killed {most['killed']} in the cgroup")
            return {
                **most,
                "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
                "sweeps": sweeps,
                "cpu": (cpu_seconds(pid) - cpu) / wall,
            }
    finally:
        cgroup.remove()


def main() -> None:
    """Print one line of figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--limit", type=int, default=32, help="MiB; default: 32")
    parser.add_argument("--processes", type=int, default=3000)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("options", nargs="*", help="of fastsmaps export, after --")
    args = parser.parse_args()
    with herd(args.processes):
        figures = measure(args.limit * MIB, args.processes, args.seconds, args.options)
    for name in ("current", "peak", "anon", "file", "kernel"):
        print(f"{name:12} {figures[name] / MIB:8.1f} MiB")
    for name in ("reclaims", "descriptors", "sweeps"):
        print(f"{name:12} {figures[name]:8.0f}")
    print(f"{'CPU':12} {100 * figures['cpu']:8.2f} % of a core")


if __name__ == "__main__":
    main()
