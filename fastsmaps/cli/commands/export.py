"""fastsmaps export: the memory of groups of processes, for Prometheus."""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
import threading
import time

import fastsmaps
from fastsmaps._output import groups
from fastsmaps._source.source import Source
from fastsmaps.cli.coverage import cgroups_note, scan_note
from fastsmaps.cli.options import (
    BY_HELP,
    UsageError,
    add_groups,
    add_limits,
    add_procfs,
    add_sampling,
    group_keys,
    named_groups,
    positive,
)
from fastsmaps.cli.output import print_error
from fastsmaps.cli.procfs_option import open_procfs
from fastsmaps.cli.signals import SignalReceived

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping
    from email.message import Message
    from typing import Any

    from fastsmaps._model.processes import Scan
    from fastsmaps.cli.http_server import Server
    from fastsmaps.cli.tls import Tls
    from fastsmaps.prometheus import Collector

    _Format = tuple[str, bool]  # the content type, and whether it is compressed
    _Encode = Callable[[Any], bytes]

EXAMPLES = """\
  fastsmaps export                           http://127.0.0.1:19779/metrics, by comm
  fastsmaps export --by unit                 by systemd unit; also: user, container, cgroup, pid
  fastsmaps export --by user,comm            by both
  fastsmaps export --group 'web=nginx|php-fpm' --group '{app}=-Dapp=(?P<app>\\w+)'
                                             by patterns of the command line
  fastsmaps export --listen 192.0.2.7:19779  for Prometheus on another machine
  fastsmaps export --listen :19779           on all addresses of this machine
  fastsmaps export --mappings                how close processes are to vm.max_map_count
  fastsmaps export --budget 0.05             use up to 5 % of a core instead of 1 %
  fastsmaps export --once                    print the current metrics and exit
"""

_PORT = 19779
_ADDRESS = f"127.0.0.1:{_PORT}"
# Soft limit of open files.
_MAX_DESCRIPTORS = 256
_INDEX = b"""<!DOCTYPE html>
<html lang="en"><title>fastsmaps</title>
<h1>fastsmaps</h1>
<p>The memory of this machine's processes: <a href="/metrics">metrics</a>.</p>
</html>
"""
# The coverage is printed again if so many more or fewer processes are denied or fail, and if their
# share of the processes with memory changed by so much, too.
_GREAT_CHANGE = 5
_GREAT_CHANGE_SHARE = 0.1
# Encodings of the metrics (text, OpenMetrics, compressed) that are kept until the next sweep.
_MAX_ENCODINGS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of export."""
    parser.add_argument(
        "--by",
        metavar="LABEL,...",
        type=group_keys,
        help=f"group processes by {BY_HELP} (default: comm, or only --group)",
    )
    add_groups(parser)
    parser.add_argument(
        "--limit",
        metavar="N",
        type=positive,
        help=f'report the N largest groups, the rest as "{groups.OTHER}" (default: 100, or 500 by '
        "container or pod)",
    )
    parser.add_argument(
        "--listen",
        metavar="ADDRESS:PORT",
        help=f"where to listen (default: {_ADDRESS}, or the socket that systemd passes); "
        ":PORT listens on all addresses",
    )
    parser.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        default=[],
        help="also answer requests for this host name; localhost, addresses and this machine's "
        'own name are always answered; "*" allows any',
    )
    parser.add_argument(
        "--tls-cert",
        metavar="FILE",
        help="serve HTTPS with this certificate (PEM, with its chain; read again if it changes)",
    )
    parser.add_argument(
        "--tls-key",
        metavar="FILE",
        help="the certificate's key (PEM; default: it is in the file of --tls-cert)",
    )
    parser.add_argument(
        "--tls-client-ca",
        metavar="FILE",
        help="answer only clients with a certificate that one of these signed (PEM)",
    )
    add_sampling(parser, interval=5.0)
    parser.add_argument(
        "--mappings",
        action="store_true",
        help="also count each process's mappings (reads maps) and report vm.max_map_count",
    )
    parser.add_argument("--once", action="store_true", help="print the metrics once and exit")
    add_limits(parser)
    add_procfs(parser)
    parser.add_argument(
        "--cgroupfs",
        metavar="DIR",
        help="another place for /sys/fs/cgroup (a host's, mounted in a container)",
    )


def run(args: argparse.Namespace) -> int:
    """Answer scrapes until SIGTERM or Ctrl-C."""
    gc.enable()  # off for commands that end soon
    try:
        from fastsmaps.prometheus import Collector
    except ImportError as error:
        raise UsageError(str(error)) from None
    with open_procfs(args.procfs) as opened:
        Source(opened.procfs).pids()  # report a wrong directory at once, not at the first scrape

        keys = named_groups(args.group, args.by)
        by = keys.words if keys else "comm"

        def collector(
            on_error: Callable[[Exception], object],
            on_sweep: Callable[[Scan], object] | None = None,
        ) -> Collector:
            try:
                return Collector(
                    by,
                    limit=args.limit,
                    budget=args.budget,
                    interval=args.interval,
                    procfs=opened.procfs,
                    cgroupfs=args.cgroupfs,
                    mappings=args.mappings,
                    max_rss=args.max_rss,
                    whole_process=True,
                    on_error=on_error,
                    on_sweep=on_sweep,
                )
            except ValueError as error:
                raise UsageError(f"--{error}") from None

        if args.once:
            _print_once(collector)
        else:
            with _few_descriptors():
                _serve(args, collector)
    return opened.status


def _print_once(
    make: Callable[[Callable[[Exception], object], Callable[[Scan], object]], Collector],
) -> None:
    from prometheus_client import generate_latest

    def check(scan: Scan) -> None:
        if note := cgroups_note(scan):
            print_error(note)

    failures: list[Exception] = []
    with make(failures.append, check) as collector:
        collector.wait()
        sys.stdout.buffer.write(generate_latest(collector))
    if failures:
        raise failures[0]


def _serve(
    args: argparse.Namespace,
    make: Callable[[Callable[[Exception], object], Callable[[Scan], object]], Collector],
) -> None:
    # A scrape and the sweep take turns in the interpreter, five or six times a scrape. With the
    # default of 5 ms, one scrape in a hundred took 12 ms while a sweep ran; with 0.5 ms it is 9.
    sys.setswitchinterval(0.0005)
    # Bind first: if that fails, no sweep starts.
    server = _server(args)
    metrics = _Metrics()
    coverage, errors = _CoveragePrinter(), _ErrorPrinter()

    def on_error(error: Exception) -> None:
        metrics.update(again=False)
        errors(error)

    def on_sweep(scan: Scan) -> None:
        metrics.update(again=True)
        coverage(scan)

    try:
        collector = metrics.collector = make(on_error, on_sweep)
    except BaseException:
        server.server_close()
        raise
    server.serve(
        {
            "/": _index,
            "/metrics": metrics,
            "/-/healthy": _healthy,
            "/-/ready": lambda _: _ready(collector),
        }
    )
    try:
        print(f"listening on {server.url}/metrics", flush=True)
        while True:
            time.sleep(86400)
    except SignalReceived as end:
        if end.number != signal.SIGTERM:  # SIGTERM is how services are stopped
            raise


def _server(args: argparse.Namespace) -> Server:
    from fastsmaps.cli.http_server import Server, parse_host_name
    from fastsmaps.cli.listening import listen, parse_address, passed_socket

    names = [parse_host_name(name) for name in args.allow_host]
    host, port = parse_address(_ADDRESS if args.listen is None else args.listen, _PORT)
    tls = _tls(args)
    passed = passed_socket()
    if passed is None:
        try:
            return Server(listen(host, port), host, names, tls)
        except OSError as error:
            raise fastsmaps.Error(
                f"cannot listen on {args.listen or _ADDRESS}: {error.strerror}"
            ) from None
    if args.listen is not None:
        passed.close()
        raise UsageError("--listen: systemd has passed a socket, which decides the address")
    return Server(passed, names=names, tls=tls)


def _tls(args: argparse.Namespace) -> Tls | None:
    if args.tls_cert is None:
        for option in ("tls_key", "tls_client_ca"):
            if getattr(args, option) is not None:
                raise UsageError(f"--{option.replace('_', '-')} needs --tls-cert")
        return None
    from fastsmaps.cli.tls import Tls

    return Tls(args.tls_cert, args.tls_key or args.tls_cert, args.tls_client_ca)


@contextlib.contextmanager
def _few_descriptors() -> Iterator[None]:
    """Lower RLIMIT_NOFILE meanwhile: a Sampler keeps a quarter of it.

    A kept statm takes 7 KiB of kernel memory, which the exporter's cgroup is charged for: 21 MiB
    beside 3,000 processes. It saves 4.6 us a sample, which 50 ms per sweep (the default budget and
    interval) can do without.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft > _MAX_DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_MAX_DESCRIPTORS, hard))
    try:
        yield
    finally:
        # The caller of main() may need more.
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class _ErrorPrinter:
    """Prints an error once, not once a sweep for as long as it lasts."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, error: Exception) -> None:
        if str(error) != self._last:
            self._last = str(error)
            print_error(error)


class _CoveragePrinter:
    """Prints how much was read and what prevents more: once, and after great changes."""

    def __init__(self) -> None:
        self._last: tuple[int, float, bool] | None = None

    def __call__(self, scan: Scan) -> None:
        coverage = scan.coverage
        missed = coverage["denied"] + coverage["failed"]
        share = missed / max(1, missed + coverage["read"])
        hidden = scan.hidden_by is not None
        if self._last is not None:
            before, share_before, hidden_before = self._last
            if hidden == hidden_before and (
                abs(missed - before) < _GREAT_CHANGE
                or abs(share - share_before) < _GREAT_CHANGE_SHARE
            ):
                return
        self._last = missed, share, hidden
        print_error(scan_note(scan).replace("\n", "; "))


def _index(_: Message) -> tuple[int, bytes, Mapping[str, str]]:
    return 200, _INDEX, {"Content-Type": "text/html; charset=utf-8"}


def _healthy(_: Message) -> tuple[int, bytes, Mapping[str, str]]:
    return 200, b"fastsmaps is healthy.\n", {}


def _ready(collector: Collector) -> tuple[int, bytes, Mapping[str, str]]:
    """Answer 200 once the first sweep has ended, even if it failed: fastsmaps_up reports that."""
    if collector.wait(0):
        return 200, b"fastsmaps is ready.\n", {}
    return 503, b"The first sweep has not ended yet.\n", {}


class _Metrics:
    """Answers to scrapes: each sweep is encoded once for each format.

    Formats that were asked for since the sweep before the last one are encoded by the thread that
    sweeps, so that a scrape does not wait: that takes 45 ms for 500 groups.
    """

    def __init__(self) -> None:
        # Import now: the first scrape would wait for it.
        import gzip

        from prometheus_client.exposition import choose_encoder, gzip_accepted

        self._encoder_for, self._wants_gzip = choose_encoder, gzip_accepted
        self._compress = gzip.compress
        self._lock = threading.Lock()
        self._formats: dict[_Format, _Encode] = {}
        self._formats_before: dict[_Format, _Encode] = {}
        self._encoded: dict[_Format, bytes] = {}
        self.collector: Collector | None = None

    def __call__(self, headers: Message) -> tuple[int, bytes, Mapping[str, str]]:
        accept = headers.get("Accept", "")
        try:
            # Part of it is repeated in the answer's headers; a version may be any word.
            encode, content_type = self._encoder_for(accept if accept.isprintable() else "")
        except TypeError:
            encode, content_type = self._encoder_for("")
        compressed = self._wants_gzip(headers.get("Accept-Encoding", ""))
        form = content_type, compressed
        with self._lock:
            if len(self._encoded) > _MAX_ENCODINGS:
                self._encoded, self._formats, self._formats_before = {}, {}, {}
            self._formats[form] = encode
            body = self._encoded.get(form)
            if body is None:
                body = self._encoded[form] = self._encode(form, encode)
        answer = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        if compressed:
            answer["Content-Encoding"] = "gzip"
        return 200, body, answer

    def update(self, *, again: bool) -> None:
        """Take the metrics of a new sweep; with `again`, encode them in the formats in use."""
        with self._lock:
            formats = {**self._formats_before, **self._formats} if again else {}
            self._formats, self._formats_before = {}, self._formats
        encoded = {form: self._encode(form, encode) for form, encode in formats.items()}
        with self._lock:
            self._encoded = encoded

    def _encode(self, form: _Format, encode: _Encode) -> bytes:
        body = encode(self.collector)
        return self._compress(body, 1, mtime=0) if form[1] else body
