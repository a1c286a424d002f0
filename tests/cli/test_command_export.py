"""fastsmaps export: responses to scrapers, slow clients, signals."""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

import fastsmaps
from fastsmaps._output.groups import label_value
from fastsmaps.cli import http_server, listening
from fastsmaps.cli.main import main
from fastsmaps.cli.options import UsageError
from support import processes
from support.commands import environment, run
from support.metrics import HOSTILE, Exporter, parse_metrics, promtool, query, until, write_process


@pytest.fixture
def idle() -> Iterator[processes.Process]:
    with processes.workload("idle") as child:
        yield child


def labels(child: processes.Process) -> dict[str, str]:
    comm = Path(f"/proc/{child.pid}/comm").read_bytes().removesuffix(b"\n")
    return {"pid": str(child.pid), "comm": label_value(os.fsdecode(comm))}


# ---- metrics


def test_once_prints_metrics(backend: ModuleType, idle: processes.Process) -> None:
    text = run("export", "--once", "--by", "pid").stdout
    metrics = parse_metrics(text)
    assert metrics.up
    assert metrics.get("rss_bytes", **labels(idle)) == fastsmaps.totals(idle.pid).rss
    promtool("check", "metrics", text=text.encode())


def test_metrics_of_a_capture(backend: ModuleType, tmp_path: Path, idle: processes.Process) -> None:
    fastsmaps.capture(tmp_path / "host.tar.gz", [idle.pid])
    arguments = ("--once", "--by", "pid", "--procfs", str(tmp_path / "host.tar.gz"))
    metrics = parse_metrics(run("export", *arguments).stdout)
    assert metrics.get("rss_bytes", **labels(idle)) == fastsmaps.totals(idle.pid).rss
    assert len(metrics.of("processes", "pid")) == 1


def test_arguments_reach_the_collector(backend: ModuleType, tmp_path: Path) -> None:
    for pid in (1, 2, 3):
        write_process(tmp_path / "host", pid, b"p%d" % pid, Rss=pid * 100, Pss=pid)
    once = ("export", "--once", "--procfs", str(tmp_path / "host"))
    assert parse_metrics(run(*once).stdout).of("pss_bytes") == {"p1": 1024, "p2": 2048, "p3": 3072}
    metrics = parse_metrics(run(*once, "--limit", "1", "--budget", "0.5").stdout)
    assert metrics.of("pss_bytes") == {"p3": 3072, "other": 3072}
    assert metrics.get("budget_ratio") == 0.5
    metrics = parse_metrics(run(*once, "--max-rss", "50K", "--by", "user,comm").stdout)
    assert metrics.of("unread_processes") == {"p1": 1, "p2": 1, "p3": 1}
    assert metrics.of("pss_bytes") == {}


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ("--by nonsense", 2),
        ("--by=", 2),
        ("--limit 0", 2),
        ("--budget 7", 2),
        ("--interval 0", 2),
        ("--listen=", 2),
        ("--listen :", 2),
        ("--listen []:1", 2),
        ("--listen " + "1" * 5000, 2),
        ("--listen 127.0.0.1:" + "1" * 5000, 2),
        ("--listen 127.0.0.1:" + "\u0663", 2),
        ("--listen ::1", 2),
        ("--listen ::1:19779", 2),
        ("--listen 127.0.0.1:x", 2),
        ("--listen 127.0.0.1:65536", 2),
        ("--listen 127.0.0.1:-1", 2),
        ("nonsense", 2),
        ("--listen a..b:0", 1),
        ("--listen no.such.name.invalid:0", 1),
        ("--procfs /none", 1),
        ("--procfs /none --once", 1),
        ("--procfs /dev/null", 1),
    ],
)
def test_usage_errors(arguments: str, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert main(["export", *arguments.split()]) == status
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == limits
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("fastsmaps: ")
    assert said.err.count("\n") == 1
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    assert "fastsmaps" not in {
        thread.name for thread in threading.enumerate()
    }  # no sweeping thread


def test_missing_prometheus_client_names_the_extra() -> None:
    code = "import sys; sys.modules['prometheus_client'] = None\n"
    enter = "from fastsmaps.cli.main import entry; entry()"
    command = [sys.executable, "-c", code + enter, "export"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert 'pip install "prometheus_client>=0.20"' in done.stderr


def test_listen_addresses_are_parsed() -> None:
    for text, address in (
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        ("127.0.0.1", ("127.0.0.1", 7)),
        ("80", ("127.0.0.1", 80)),
        ("localhost:80", ("localhost", 80)),
        ("[::1]:80", ("::1", 80)),
        ("[::]", ("::", 7)),
        (":80", ("", 80)),
    ):
        assert listening.parse_address(text, 7) == address


# ---- responses


def test_http_responses(backend: ModuleType, idle: processes.Process) -> None:
    with Exporter("--by", "pid") as exporter:
        assert exporter.scrape().get("rss_bytes", **labels(idle)) == fastsmaps.totals(idle.pid).rss
        answer, body = exporter.request()
        assert answer.status == 200
        assert answer.getheader("Content-Type", "").startswith("text/plain; version=0.0.4")
        assert answer.getheader("X-Content-Type-Options") == "nosniff"
        assert answer.getheader("Server") == "fastsmaps"
        promtool("check", "metrics", text=body)
        assert exporter.request("/metrics?x=y")[0].status == 200
        answer, body = exporter.request("/")
        assert (answer.status, b'href="/metrics"' in body) == (200, True)
        answer, body = exporter.request("/", method="HEAD")
        assert (answer.status, body) == (200, b"")
        assert int(answer.getheader("Content-Length", "")) > 100
        for path in ("/nothing", "/metrics/", "/../metrics", "/%2e%2e/etc/passwd"):
            assert exporter.request(path)[0].status == 404
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "NONSENSE"):
            answer, body = exporter.request(method=method)
            assert (answer.status, answer.getheader("Allow")) == (405, "GET, HEAD")
            assert body.count(b"\n") == 1
        assert exporter.end() == (0, b"")


def test_accept_header_selects_format(backend: ModuleType) -> None:
    with Exporter() as exporter:
        exporter.scrape()
        accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
        answer, body = exporter.request(Accept=accept)
        assert answer.getheader("Content-Type", "").startswith("application/openmetrics-text")
        text = body.decode()
        assert text.endswith("# EOF\n")
        families = {
            family.name: family
            for family in text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        }
        assert families["fastsmaps_pss_bytes"].unit == "bytes"
        assert families["fastsmaps_cpu_seconds"].type == "counter"
        answer, body = exporter.request(Accept_Encoding="gzip")
        assert answer.getheader("Content-Encoding") == "gzip"
        assert parse_metrics(gzip.decompress(body).decode()).up
        # Accept headers that no scraper sends get the plain text format.
        for accept in ("nonsense", "application/openmetrics-text;version=x", ";;;", "\xe9",
                    "application/openmetrics-text;version=1.0.0;escaping=nonsense"):  # fmt: skip
            answer, body = exporter.request(Accept=accept)
            assert (answer.status, b"fastsmaps_up 1.0" in body) == (200, True), accept
        assert exporter.end() == (0, b"")


def test_formats_in_use_are_encoded_by_the_sweeping_thread(
    backend: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A scrape in a format that is asked for at each sweep encodes nothing itself."""
    from email.message import Message

    from fastsmaps.cli.commands import export
    from fastsmaps.prometheus import Collector

    write_process(tmp_path / "host", 1)
    with Collector(procfs=str(tmp_path / "host"), interval=1000) as collector:
        collector.wait(processes.TIMEOUT)
        metrics = export._Metrics()
        metrics.collector = collector
        threads = []
        encode = export._Metrics._encode

        def noted(*arguments: Any) -> bytes:
            threads.append(threading.current_thread().name)
            return encode(*arguments)

        monkeypatch.setattr(export._Metrics, "_encode", noted)

        def sweep(again: bool) -> None:
            thread = threading.Thread(name="sweep", target=lambda: metrics.update(again=again))
            thread.start()
            thread.join()

        def scrape() -> bytes:
            body = metrics(Message())[1]
            assert parse_metrics(body.decode()).up
            return body

        text = scrape()
        assert threads == ["MainThread"]
        sweep(True)
        assert threads == ["MainThread", "sweep"]
        assert scrape() == text
        sweep(True)
        sweep(True)  # asked for before the sweep before this one
        assert len(threads) == 4
        sweep(True)
        assert len(threads) == 4
        scrape()
        sweep(False)
        assert len(threads) == 5
        scrape()
        assert threads[4:] == ["MainThread"] * 2


def test_vary_header_separates_formats(backend: ModuleType) -> None:
    with Exporter() as exporter:
        answer, _ = exporter.request()
        assert answer.getheader("Vary") == "Accept, Accept-Encoding"


def test_health_and_readiness(backend: ModuleType, tmp_path: Path) -> None:
    """Healthy at once, and ready after the first sweep, even if that failed."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    waiting = (
        "import fastsmaps\n"
        "sweep = fastsmaps.Sampler.sweep\n"
        f"fastsmaps.Sampler.sweep = lambda self: (open({str(gate)!r}).close(), sweep(self))[1]\n"
        "from fastsmaps.cli.main import entry; entry()"
    )
    command = [sys.executable, "-c", waiting]
    with Exporter("--interval", "1000", command=command) as exporter:
        answer, body = exporter.request("/-/healthy")
        assert (answer.status, body) == (200, b"fastsmaps is healthy.\n")
        answer, body = exporter.request("/-/ready")
        assert (answer.status, body) == (503, b"The first sweep has not ended yet.\n")
        with gate.open("w"):
            until(lambda: exporter.request("/-/ready")[0].status == 200)
        assert exporter.request("/-/ready")[1] == b"fastsmaps is ready.\n"
        assert exporter.scrape().up


@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("127.0.0.1", True),
        ("127.0.0.1:19779", True),
        ("[::1]:19779", True),
        ("[::1]", True),
        ("[fe80::1%eth0]:1", True),
        ("192.0.2.7", True),
        ("localhost", True),
        ("LocalHost.:19779", True),
        ("a.localhost", True),
        ("node7", True),
        ("NODE7:19779", True),
        ("evil.example", False),
        ("evil.example:19779", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("notlocalhost", False),
        ("node7.evil.example", False),
        ("127.0.0.1:evil.example", False),
        ("localhost:1@evil.example", False),
        ("[::1].evil.example", False),
        ("127.0.0.1%evil.example", False),
        ("[::1", False),
        ("[::1]1", False),
        ("[node7]", False),
        ("", False),
    ],
)
def test_host_header_is_checked(host: str, served: bool) -> None:
    assert http_server.is_allowed_host(host, {"node7"}) == served


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("Proxy.example", "proxy.example"),
        ("proxy.example.", "proxy.example"),
        ("proxy.example:80", "proxy.example"),
        ("*", "*"),
    ],
)
def test_allowed_host_is_normalized(host: str, name: str) -> None:
    assert http_server.parse_host_name(host) == name
    assert http_server.is_allowed_host(host, {name})


@pytest.mark.parametrize("host", ["", " ", ".", ":80", "http://a.example/", "a@b", "[a]", "a b"])
def test_impossible_allowed_hosts_are_refused(host: str) -> None:
    with pytest.raises(UsageError, match="--allow-host: expected a host name such as "):
        http_server.parse_host_name(host)


def test_requests_for_another_host_are_refused(backend: ModuleType) -> None:
    """A web page whose name resolves to this address (DNS rebinding) gets no metrics."""
    with Exporter("--allow-host", "Metrics.example") as exporter:
        exporter.scrape()
        for path in ("/", "/metrics", "/-/healthy", "/nothing"):
            answer, body = exporter.request(path, Host="evil.example:19779")
            assert (answer.status, body.count(b"\n")) == (421, 1)
            assert b"evil" not in body
        for host in ("localhost", "metrics.example:80", socket.gethostname()):
            assert exporter.request(Host=host)[0].status == 200
        two = raw(exporter, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n")
        assert two.startswith(b"HTTP/1.0 400 ")
        # Browsers always send a Host header.
        assert raw(exporter, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200 ")
        other = b"GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
        assert raw(exporter, other).startswith(b"HTTP/1.0 404 ")
    with Exporter("--allow-host", "*") as exporter:
        assert exporter.request(Host="evil.example")[0].status == 200


def raw(exporter: Exporter, request: bytes) -> bytes:
    """Send bytes and return everything that is received."""
    with socket.create_connection((exporter.host, exporter.port), processes.TIMEOUT) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        blocks = []
        with contextlib.suppress(ConnectionError):
            while block := client.recv(1 << 16):
                blocks.append(block)
        return b"".join(blocks)


def test_malformed_requests_are_not_echoed(backend: ModuleType) -> None:
    """Response headers repeat no part of a malformed request, and none is logged."""
    with Exporter() as exporter:
        folded = b"Accept: application/openmetrics-text; version=2.0\r\n Evil: 1\r\n\r\n"
        for request in (
            b"", b"\r\n", b"GET\r\n\r\n", b"GET /metrics\r\n\r\n",
            b"GET /metrics HTTP/9.9\r\n\r\n", b"\0" * 1000,
            b"GET /" + b"x" * 70000 + b" HTTP/1.1\r\n\r\n", b"GET /metrics HTTP/1.1\r\nx\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
            b"GET /<script> HTTP/1.1\r\n\r\n", b"<script> / HTTP/1.1\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\n" + folded,
        ):  # fmt: skip
            answer = raw(exporter, request)
            assert b"<script>" not in answer
            assert b"\nEvil" not in answer
            assert b"\n Evil" not in answer
        assert exporter.scrape().up
        assert exporter.end() == (0, b"")


def test_hostile_process_names_are_escaped(backend: ModuleType, idle: processes.Process) -> None:
    idle.request("name", os.fsdecode(HOSTILE[0]))
    with Exporter("--by", "pid,comm") as exporter:
        assert exporter.scrape().get("processes", **labels(idle)) == 1
        promtool("check", "metrics", text=exporter.request()[1])


# ---- listening


def test_exporter_listens_on_given_address_only(backend: ModuleType) -> None:
    with Exporter() as exporter:
        assert exporter.host == "127.0.0.1"
        # All of 127.0.0.0/8 is local.
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", exporter.port), processes.TIMEOUT)


def test_ipv6_address_is_served(backend: ModuleType) -> None:
    try:
        with socket.socket(socket.AF_INET6) as instance:
            instance.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"no IPv6: {error}")
    with Exporter(listen="[::1]:0") as exporter:
        assert exporter.host == "::1"
        assert exporter.scrape().up


def test_all_addresses_are_served(backend: ModuleType) -> None:
    with Exporter(listen=":0") as exporter:
        families = [socket.AF_INET] + [socket.AF_INET6] * socket.has_dualstack_ipv6()
        for family in families:
            address = "127.0.0.1" if family == socket.AF_INET else "::1"
            with socket.socket(family) as client:
                client.settimeout(processes.TIMEOUT)
                client.connect((address, exporter.port))
                client.sendall(b"GET /-/healthy HTTP/1.0\r\n\r\n")
                assert client.recv(1 << 12).startswith(b"HTTP/1.0 200 ")


def test_unusable_address_is_an_error(backend: ModuleType) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run("export", "--listen", address, status=1)
    assert done.stderr == f"fastsmaps: cannot listen on {address}: Address already in use\n"
    done = run(
        "export", "--listen", "192.0.2.1:0", status=1
    )  # TEST-NET-1, an address for documentation
    assert done.stderr.count("\n") == 1


def test_port_is_reusable_after_exit(backend: ModuleType) -> None:
    """Connections of the previous exporter do not block the port."""
    with Exporter() as exporter:
        exporter.request()
        port = exporter.port
        assert exporter.end() == (0, b"")
    with Exporter(listen=f"127.0.0.1:{port}") as exporter:
        assert exporter.port == port


def test_idle_clients_do_not_block_scrapes(backend: ModuleType) -> None:
    """A scrape is answered despite more silent clients than the server has threads."""
    with Exporter() as exporter, contextlib.ExitStack() as stack:
        clients = []
        for i in range(2 * http_server._MAX_CONNECTIONS):
            client = socket.create_connection((exporter.host, exporter.port), processes.TIMEOUT)
            clients.append(stack.enter_context(client))
            client.sendall(b"GET /metr" if i % 2 else b"G")
        assert exporter.scrape().up
        status = Path(f"/proc/{exporter.popen.pid}/status").read_text()
        threads = int(status.partition("Threads:")[2].split()[0])
        assert threads <= http_server._MAX_CONNECTIONS + 8
        # The oldest connections were closed for it.
        with contextlib.suppress(ConnectionResetError):
            assert clients[0].recv(1) == b""
        assert exporter.end() == (0, b"")


@contextlib.contextmanager
def server(monkeypatch: pytest.MonkeyPatch, body: bytes) -> Iterator[http_server.Server]:
    """Run a server with short timeouts in this process."""
    monkeypatch.setattr(http_server, "_REQUEST_TIMEOUT", 0.2)
    monkeypatch.setattr(http_server, "_POLL_INTERVAL", 0.01)
    with http_server.Server(listening.listen("127.0.0.1", 0)) as instance:
        instance.serve({"/": lambda _: (200, body, {})})
        yield instance
        instance.shutdown()


def test_slow_clients_are_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that send slowly or do not read are disconnected."""
    with server(monkeypatch, b"x" * (64 << 20)) as instance:
        with socket.create_connection(instance.server_address, processes.TIMEOUT) as client:  # type: ignore[arg-type]
            deadline = time.monotonic() + processes.TIMEOUT
            with contextlib.suppress(ConnectionError):
                client.sendall(b"GET / HTTP/1.1\r\n")
                while time.monotonic() < deadline:
                    client.sendall(b"a: b\r\n")
                    time.sleep(0.05)
            assert time.monotonic() < deadline
        with socket.create_connection(instance.server_address, processes.TIMEOUT) as client:  # type: ignore[arg-type]
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            until(lambda: not instance._open)


# ---- signals and failures


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 128 + signal.SIGINT)]
)
def test_signal_ends_exporter(backend: ModuleType, number: signal.Signals, status: int) -> None:
    with Exporter() as exporter:
        exporter.scrape()
        assert exporter.end(number) == (status, b"")


def test_signal_ends_exporter_during_sweep_and_response(backend: ModuleType) -> None:
    """A hanging sweep and a connected client do not delay the exit."""
    hanging = (
        "import time, fastsmaps\n"
        "fastsmaps.Sampler.sweep = lambda self: time.sleep(1e6)\n"
        "from fastsmaps.cli.main import entry; entry()"
    )
    with (
        Exporter(command=[sys.executable, "-c", hanging]) as exporter,
        socket.create_connection((exporter.host, exporter.port), processes.TIMEOUT),
    ):
        assert parse_metrics(exporter.request()[1].decode()).get("up") == 0
        assert exporter.end() == (0, b"")


def test_ignored_sigint_stays_ignored(backend: ModuleType) -> None:
    """As for a shell's background job."""
    ignoring = "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    command = [sys.executable, "-c", ignoring + "from fastsmaps.cli.main import entry; entry()"]
    with subprocess.Popen(
        [*command, "export", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, env=environment()
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline().startswith(b"listening")
        child.send_signal(signal.SIGINT)
        child.send_signal(signal.SIGTERM)
        assert child.wait(processes.TIMEOUT) == 0


def test_repeated_failure_is_reported_once(backend: ModuleType, tmp_path: Path) -> None:
    write_process(tmp_path / "host", 1)
    with Exporter("--procfs", str(tmp_path / "host"), "--interval", "0.01") as exporter:
        exporter.scrape()
        (tmp_path / "host").rename(tmp_path / "gone")
        until(
            lambda: (
                (parse_metrics(exporter.request()[1].decode()).get("sweep_errors_total") or 0) > 2
            )
        )
        assert not parse_metrics(exporter.request()[1].decode()).up
        status, error = exporter.end()
        assert status == 0
        # A sweep that had begun may have found the process missing, before the directory was.
        *earlier, last = error.splitlines()
        assert last.endswith(b"is not a directory")
        assert last not in earlier
        assert len(earlier) == len(set(earlier)) <= 1


def test_coverage_is_printed_once_and_after_great_changes(
    backend: ModuleType, tmp_path: Path
) -> None:
    """One line says how much was read and what prevents more; small changes are not news."""
    host = tmp_path / "host"

    def write(pids: range, *, broken: bool = False) -> None:
        for pid in pids:
            (tmp_path / "new").mkdir(exist_ok=True)
            write_process(tmp_path / "new", pid)
            if broken:
                (tmp_path / "new" / str(pid) / "smaps_rollup").write_bytes(b"no rollup\n")
            (tmp_path / "new" / str(pid)).rename(host / str(pid))

    host.mkdir()
    write(range(1, 41))
    write(range(41, 43), broken=True)
    with Exporter("--procfs", str(host), "--interval", "0.01", "--budget", "1") as exporter:

        def counts() -> tuple[float | None, float | None]:
            metrics = exporter.scrape()
            return tuple(metrics.get("coverage_processes", outcome=o) for o in ("read", "failed"))  # type: ignore[return-value]

        until(lambda: counts() == (40, 2))
        write(range(43, 47), broken=True)  # too small a share
        until(lambda: counts() == (40, 6))
        write(range(50, 70), broken=True)
        until(lambda: counts() == (40, 26))
        write(range(70, 72))
        until(lambda: counts() == (42, 26))
        assert exporter.end() == (0, b"")
    first, *later = exporter.coverage
    assert first.startswith("fastsmaps: 40 of 42 processes read, 2 failed; failed: ")
    # A sweep may see a part of the new ones: then the rest is no great change.
    printed = [re.search(r" ([0-9]+) failed;", line) for line in later]
    failed = [int(found[1]) for found in printed if found]
    assert failed == sorted(failed)
    assert 1 <= len(failed) == len(later) <= 4
    assert 26 - failed[-1] < 5 or 26 / 66 - failed[-1] / (40 + failed[-1]) < 0.1


def test_closed_pipe_is_quiet(backend: ModuleType) -> None:
    shell = f"{sys.executable} -m fastsmaps export --once | head -n 1"
    done = subprocess.run(
        ["bash", "-c", shell], capture_output=True, text=True, check=True, env=environment()
    )
    assert (done.stderr, done.stdout.count("\n")) == ("", 1)


# ---- Prometheus itself


@pytest.mark.slow
def test_prometheus_scrapes_exporter(
    backend: ModuleType, idle: processes.Process, tmp_path: Path
) -> None:
    """Prometheus scrapes the exporter; queries return the values with unchanged names."""
    command = shutil.which("prometheus")
    if command is None:
        pytest.skip("no prometheus (Debian's package of this name)")
    idle.request("name", os.fsdecode(HOSTILE[0]))
    with Exporter("--by", "pid", "--interval", "0.2") as exporter:
        exporter.scrape()
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        config = tmp_path / "prometheus.yml"
        config.write_text(
            "scrape_configs:\n"
            "  - {job_name: fastsmaps, scrape_interval: 1s,\n"
            f"     static_configs: [{{targets: ['127.0.0.1:{exporter.port}']}}]}}\n"
        )
        with subprocess.Popen(
            [command, f"--config.file={config}", f"--storage.tsdb.path={tmp_path}/data",
             f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        ) as server:  # fmt: skip
            try:
                ask = f'fastsmaps_rss_bytes{{pid="{idle.pid}"}}'
                until(lambda: server.poll() is not None or bool(query(port, ask)))
                (series,) = query(port, ask)
                assert int(series["value"][1]) == fastsmaps.totals(idle.pid).rss
                assert series["metric"]["comm"] == label_value(os.fsdecode(HOSTILE[0]))
                (healthy,) = query(port, 'up{job="fastsmaps"}')
                assert healthy["value"][1] == "1"
            finally:
                server.terminate()
                server.communicate(timeout=processes.TIMEOUT)


POD, FIRST, SECOND = "1f2e3d4c-0001-4000-8000-00000000000a", "ab" * 32, "cd" * 32


def documented_queries() -> list[str]:
    """Return the queries of docs/prometheus.md that add the names of pods and containers."""
    page = Path(__file__).parents[2] / "docs/prometheus.md"
    part = page.read_text().partition("\n## Kubernetes\n")[2].partition("\n## ")[0]
    return [block.partition("```")[0] for block in part.split("```promql\n")[1:]]


@pytest.mark.slow  # Prometheus starts, and scrapes several times
def test_names_of_kube_state_metrics_are_added(backend: ModuleType, tmp_path: Path) -> None:
    """The documented queries work in Prometheus; a restarted container's series ends."""
    command = shutil.which("prometheus")
    if command is None:
        pytest.skip("no prometheus (Debian's package of this name)")
    host = tmp_path / "host"

    def start(pid: int, container: str) -> None:
        write_process(tmp_path / "new", pid, cgroup=f"/kubepods/pod{POD}/crio-{container}".encode())
        host.mkdir(exist_ok=True)
        (tmp_path / "new" / str(pid)).rename(host / str(pid))

    start(7, FIRST)
    info = "".join(
        f'kube_pod_container_info{{namespace="shop",pod="web-0",uid="{POD}",container="app",'
        f'image="app:1",container_id="cri-o://{container}"}} 1\n'
        for container in (FIRST, SECOND)
    )
    info += f'kube_pod_info{{namespace="shop",pod="web-0",uid="{POD}",node="a"}} 1\n'
    with (
        http_server.Server(listening.listen("127.0.0.1", 0)) as state,
        Exporter("--by", "container", "--interval", "0.2", "--procfs", str(host)) as exporter,
    ):
        state.serve({"/metrics": lambda _: (200, info.encode(), {})})
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        config = tmp_path / "prometheus.yml"
        # As relabelling adds the labels of the exporters' own pods.
        config.write_text(
            "scrape_configs:\n"
            "  - {job_name: fastsmaps, scrape_interval: 1s, static_configs: [{\n"
            f"     targets: ['127.0.0.1:{exporter.port}'],\n"
            "     labels: {namespace: monitoring, pod: fastsmaps-x, container: fastsmaps}}]}\n"
            "  - {job_name: state, scrape_interval: 1s, honor_labels: true, static_configs: [{\n"
            f"     targets: ['{state.url.removeprefix('http://')}'],\n"
            "     labels: {namespace: monitoring, pod: state-x, container: state}}]}\n"
        )
        with subprocess.Popen(
            [command, f"--config.file={config}", f"--storage.tsdb.path={tmp_path}/data",
             f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        ) as server:  # fmt: skip
            try:
                by_container, by_pod = documented_queries()
                until(lambda: server.poll() is not None or bool(query(port, by_container)))
                (series,) = query(port, by_container)
                names = {"namespace": "shop", "pod": "web-0", "container": "app"}
                assert names.items() <= series["metric"].items()
                assert series["metric"]["container_id"] == f"cri-o://{FIRST}"
                assert series["value"][1] == str(50 * 1024)
                (series,) = query(port, by_pod)
                assert series["metric"] == {"namespace": "shop", "pod": "web-0", "uid": POD}
                shutil.rmtree(host / "7")
                start(8, SECOND)
                series_of = 'count by (container_id) (fastsmaps_pss_bytes{container_id!=""})'

                def restarted() -> bool:
                    found = [result["metric"]["container_id"] for result in query(port, series_of)]
                    return found == [f"cri-o://{SECOND}"]

                until(lambda: server.poll() is not None or restarted())
                assert restarted()
            finally:
                server.terminate()
                server.communicate(timeout=processes.TIMEOUT)
        state.shutdown()


def test_help_lists_options(backend: ModuleType) -> None:
    text = run("export", "--help").stdout
    assert "examples:" in text
    assert "fastsmaps export --by unit" in text
    assert "export" in run("--help").stdout


@pytest.mark.skipif(not os.path.exists("/proc/self/limits"), reason="no /proc/PID/limits")
def test_exporter_keeps_few_descriptors() -> None:
    """Each takes 7 KiB of kernel memory of the exporter's cgroup."""
    with Exporter() as exporter:
        lines = Path(f"/proc/{exporter.popen.pid}/limits").read_text().splitlines()
        soft = next(line.split()[3] for line in lines if line.startswith("Max open files"))
        assert int(soft) <= 256
