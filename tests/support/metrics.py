"""Helpers for tests of metrics: a fake /proc, the running exporter, parsed samples."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import pytest
from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import fastsmaps
from fastsmaps.prometheus import Collector
from support import processes
from support.commands import COMMAND, environment
from support.smaps_texts import header, kb

#: A sample's metric and labels.
Series: TypeAlias = tuple[str, frozenset[tuple[str, str]]]

#: Hostile process names, of at most 15 bytes, as many as the kernel keeps.
HOSTILE = (
    b'a"} 1\nup{x="',
    b"\\",
    b"\\n\\",
    b"\x1b[31mred",
    b"\xff\xfe\xed\xa0\x80",
    b"\xe2\x80\xaegnp.exe",
    b"# HELP x\n# EOF",
    b"tab\tcr\rff\x0c",
    b"\xe2\x80\xa8\xc2\x85",
    b"<script>{{x}}",
    b"",
    b" ",
    b"other",
    "käse".encode(),
)


def write_process(
    root: Path, pid: int, comm: bytes = b"it", *, uid: int = 0, cgroup: bytes = b"/", **sizes: int
) -> None:
    """Write the files of a process into a fake /proc.

    Sizes are in kB, by the kernel's field names; a negative size leaves the field out.
    """
    directory = root / str(pid)
    directory.mkdir(parents=True)
    sizes = {"Rss": 100, "Pss": 50, "Private_Clean": 10, "Private_Dirty": 20, "Shared_Hugetlb": 0,
             "Private_Hugetlb": 0, "Swap": 0, **sizes}  # fmt: skip
    lines = [kb(name, size) for name, size in sizes.items() if size >= 0]
    (directory / "smaps_rollup").write_bytes(header(name=b"[rollup]") + b"".join(lines))
    (directory / "stat").write_bytes(b"%d (%s) S 1 " % (pid, comm) + b"0 " * 45 + b"\n")
    (directory / "statm").write_bytes(b"100 25 10 1 0 20 0\n")
    (directory / "status").write_bytes(
        b"Name:\tit\nTgid:\t%d\nUid:\t%d\t%d\t%d\t%d\n" % (pid, *[uid] * 4)
    )
    (directory / "cgroup").write_bytes(b"0::" + cgroup + b"\n")
    (directory / "cmdline").write_bytes(b"it\0")


class GatedSampler(fastsmaps.Sampler):
    """A Sampler that does not sweep while another thread holds the gate."""

    gate: ClassVar[threading.Lock]
    waiting: ClassVar[threading.Event]

    def sweep(self) -> fastsmaps.Scan:
        """Wait for the gate, with `waiting` set meanwhile."""
        self.waiting.set()
        with self.gate:
            self.waiting.clear()
            return super().sweep()


def gate_samplers(monkeypatch: pytest.MonkeyPatch) -> type[GatedSampler]:
    """Make all new samplers wait for one gate."""
    GatedSampler.gate, GatedSampler.waiting = threading.Lock(), threading.Event()
    monkeypatch.setattr(fastsmaps, "Sampler", GatedSampler)
    return GatedSampler


def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition is true."""
    deadline = time.monotonic() + processes.TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# ---- exported samples


class Metrics:
    """Samples by metric and labels."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        samples = [sample for metric in metrics for sample in metric.samples]
        self.samples: dict[Series, float] = {
            (sample.name, frozenset(sample.labels.items())): sample.value for sample in samples
        }
        assert len(self.samples) == len(samples)  # no series twice

    def get(self, name: str, **labels: str) -> float | None:
        """Value of a series; None if it does not exist."""
        return self.samples.get((f"fastsmaps_{name}", frozenset(labels.items())))

    def of(self, name: str, label: str = "comm") -> dict[str, float]:
        """Values of a metric by one label."""
        return {
            dict(labels)[label]: value
            for (metric, labels), value in self.samples.items()
            if metric == f"fastsmaps_{name}"
        }

    @property
    def up(self) -> bool:
        return self.get("up") == 1


def parse_metrics(text: str) -> Metrics:
    """Parse a text as a scraper does."""
    return Metrics(text_string_to_metric_families(text))


def scrape(collector: Any) -> Metrics:
    """Parse the text that a collector gives to a scraper."""
    return parse_metrics(generate_latest(collector).decode())


def promtool(*arguments: str, text: bytes = b"", where: Path | None = None) -> None:
    """Run promtool, which must find no mistake; skip the test if it is not installed."""
    command = shutil.which("promtool")
    if command is None:
        pytest.skip("no promtool (Debian's package prometheus has it)")
    done = subprocess.run(
        [command, *arguments], input=text, capture_output=True, check=False, cwd=where
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert done.stderr == b""


# ---- the command


class Exporter:
    """`fastsmaps export`, listening."""

    def __init__(
        self,
        *arguments: str,
        listen: str | None = "127.0.0.1:0",
        command: list[str] = COMMAND,
        tls: ssl.SSLContext | None = None,
        **options: Any,
    ) -> None:
        where = () if listen is None else ("--listen", listen)
        self.tls = tls
        self.popen = subprocess.Popen(
            [*command, "export", *where, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), **options,
        )  # fmt: skip
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline().decode()
        assert line.startswith("listening on http"), (line, self.popen.communicate()[1])
        self.url = line.split()[2]
        host, _, port = self.url.split("/")[2].rpartition(":")
        self.host, self.port = host.strip("[]"), int(port)

    def __enter__(self) -> Exporter:
        return self

    def __exit__(self, *_: object) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.communicate()

    def request(
        self, path: str = "/metrics", method: str = "GET", **headers: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Send a request; return the response and its body."""
        connection: http.client.HTTPConnection
        if self.tls is None:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=processes.TIMEOUT)
        else:
            connection = http.client.HTTPSConnection(
                self.host, self.port, timeout=processes.TIMEOUT, context=self.tls
            )
        with contextlib.closing(connection):
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers=fields)
            answer = connection.getresponse()
            return answer, answer.read()

    def scrape(self) -> Metrics:
        """Scrape the exporter once the first sweep has finished."""
        until(lambda: parse_metrics(self.request()[1].decode()).up)
        return parse_metrics(self.request()[1].decode())

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, bytes]:
        """Send a signal; return the exit status and standard error without the coverage."""
        self.popen.send_signal(number)
        _, error = self.popen.communicate(timeout=processes.TIMEOUT)
        lines = error.splitlines(keepends=True)
        self.coverage = [line.decode() for line in lines if b" processes read" in line]
        return self.popen.returncode, b"".join(
            line for line in lines if b" processes read" not in line
        )


def query(port: int, expression: str) -> list[dict[str, Any]]:
    """Query a Prometheus server; an empty list while it is starting."""
    from urllib.parse import quote

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=processes.TIMEOUT)
    with contextlib.closing(connection), contextlib.suppress(ConnectionError):
        connection.request("GET", f"/api/v1/query?query={quote(expression)}")
        answer = connection.getresponse()
        if answer.status == 200:
            result: list[dict[str, Any]] = json.loads(answer.read())["data"]["result"]
            return result
    return []


def small_host(root: Path) -> Path:
    """Write a fake /proc of four processes."""
    write_process(root, 1, b"init", cgroup=b"/init.scope", Pss=10)
    write_process(root, 7, b"web", uid=33, cgroup=b"/system.slice/web.service", Pss=500, Swap=8)
    write_process(root, 8, b"web", uid=33, cgroup=b"/system.slice/web.service/worker", Pss=300)
    write_process(root, 9, b"db", uid=4711, cgroup=b"/system.slice/db@main.service", Pss=400,
            Shared_Hugetlb=2048, Private_Hugetlb=4096)  # fmt: skip
    return root


def write_maps(root: Path, limit: int = 65530, **counts: int) -> None:
    """Write the limit of mappings, and `maps` files with so many mappings (p7=3: pid 7)."""
    (root / "sys/vm").mkdir(parents=True)
    (root / "sys/vm/max_map_count").write_text(f"{limit}\n")
    for pid, count in counts.items():
        lines = (header(0x1000 * i, 0x1000 * i + 0x1000) for i in range(1, count + 1))
        (root / pid.removeprefix("p") / "maps").write_bytes(b"".join(lines))


def sweep_metrics(
    host: Path,
    by: str | tuple[str, ...] = "comm",
    limit: int | None = 100,
    *,
    mappings: bool = False,
    max_rss: int | None = None,
) -> Metrics:
    """Return the metrics after a first sweep."""
    with Collector(
        by, limit=limit, procfs=str(host), mappings=mappings, max_rss=max_rss
    ) as collector:
        assert collector.wait(processes.TIMEOUT)
        return scrape(collector)
