"""fastsmaps collect: every process, again and again, into a partitioned Parquet data set."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import sys
import time

import fastsmaps
from fastsmaps.cli.handlers import signal_handlers
from fastsmaps.cli.options import UsageError, add_limits, add_procfs, invalid, seconds, share
from fastsmaps.cli.output import print_error
from fastsmaps.cli.procfs_option import open_procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from typing import Any

    from fastsmaps._model.processes import Scan
    from fastsmaps._output.dataset import DataSet

EXAMPLES = """\
  fastsmaps collect --to /var/lib/fastsmaps                 every minute, all processes
  fastsmaps collect --every 5m --to DIR --cgroup            ... every five, with their cgroups
  fastsmaps collect --to s3://bucket/memory --write-every 1h  into an object store
  fastsmaps collect --to DIR --keep 30d                     delete this host's days before that
"""

# Rows that cannot be written are kept up to this size; then the oldest are dropped.
_MAX_BYTES = 64 << 20
# The part of the budget for merging files, so that busy hosts merge them too.
_MERGE_SHARE = 1 / 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of collect."""
    parser.add_argument(
        "--to",
        metavar="DIR|URL",
        required=True,
        help="where date=YYYY-MM-DD/host=NAME/ are made; also s3://, gs:// and file:// URLs",
    )
    parser.add_argument(
        "--every",
        metavar="TIME",
        type=_interval,
        default=60.0,
        help="time between two sweeps (default: 1m)",
    )
    parser.add_argument(
        "--write-every",
        metavar="TIME",
        type=_interval,
        default=600.0,
        help="time between two writes: what a crash may lose (default: 10m)",
    )
    parser.add_argument(
        "--budget",
        metavar="SHARE",
        type=share,
        default=0.01,
        help="share of one core to use, files included (default: %(default)s)",
    )
    parser.add_argument(
        "--keep", metavar="TIME", type=_days, help="delete this host's days older than that"
    )
    for name, what in (
        ("cgroup", "cgroup"),
        ("cmdline", "command line"),
        ("exe", "program's path"),
        ("mappings", "number of mappings"),
    ):
        parser.add_argument(f"--{name}", action="store_true", help=f"also read the {what}")
    add_limits(parser)
    add_procfs(parser)


def _interval(text: str) -> float:
    number = seconds(text)
    if number < 0.01:
        raise invalid(f"expected a time of at least 0.01 seconds, got {text!r}")
    return number


def _days(text: str) -> int:
    """Parse a number of days such as 30d."""
    number = text.removesuffix("d")
    if not (number.isascii() and number.isdecimal() and 0 < int(number[:6]) <= 36500):
        raise invalid(f"expected a number of days such as 30d, got {text!r}")
    return int(number)


def run(args: argparse.Namespace) -> int:
    """Collect until SIGTERM or Ctrl-C."""
    gc.enable()  # off for commands that end soon
    try:
        import fastsmaps._model.arrow
    except ImportError as error:
        raise UsageError(str(error)) from None
    from fastsmaps._output.dataset import DataSet
    from fastsmaps._output.stores import store_of

    with open_procfs(args.procfs) as opened, contextlib.ExitStack() as stack:
        from fastsmaps._model.escaping import utf8
        from fastsmaps._source.source import Source

        host = utf8(Source(opened.procfs).origin(None)[0] or os.uname().nodename)
        try:
            store = store_of(args.to)
            lock = store.lock(host)
        except BlockingIOError:
            raise fastsmaps.Error(f"another process collects {host} in {args.to}") from None
        except (OSError, ValueError) as error:
            raise fastsmaps.Error(f"cannot write {args.to}: {_reason(error)}") from None
        stack.callback(lambda: lock)  # held until the end
        sampler = stack.enter_context(
            fastsmaps.Sampler(
                budget=args.budget,
                procfs=opened.procfs,
                cgroup=args.cgroup,
                cmdline=args.cmdline,
                exe=args.exe,
                mappings=args.mappings,
                max_rss=args.max_rss,
            )
        )
        collector = _Collector(args, sampler, DataSet(store, host), host)
        ends = stack.enter_context(_ends())
        all_written = collector.run(ends)
    return opened.status if all_written else 1


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


@contextlib.contextmanager
def _ends() -> Iterator[int]:
    """Give a descriptor that is readable after a signal that ends the command."""
    read_end, write_end = os.pipe()
    try:
        os.set_blocking(write_end, False)
        names = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        with signal_handlers(dict.fromkeys(names, lambda *_: None), write_end):
            yield read_end
    finally:
        os.close(read_end)
        os.close(write_end)


class _Collector:
    """The loop, and the rows that are not written yet."""

    def __init__(
        self, args: argparse.Namespace, sampler: fastsmaps.Sampler, data: DataSet, host: str
    ) -> None:
        self._args = args
        self._sampler = sampler
        self._data = data
        self._host = host
        self._waiting: list[tuple[str, Any, int]] = []  # hour, rows, bytes; the oldest first
        self._dropped = 0
        self._error = ""
        self._merging: Iterator[None] | None = None
        self._day = ""
        self._merge_cpu = 0.0

    def run(self, ends: int) -> bool:
        """Sweep until `ends` is readable, then write what is left; whether that could be done."""
        begun = due = time.monotonic()
        next_write = begun + self._args.write_every
        cpu: float | None = None  # process_time() after the last sweep
        while not select.select([ends], [], [], max(0.0, due - time.monotonic()))[0]:
            now = time.monotonic()
            due += self._args.every * max(1, int((now - due) / self._args.every) + 1)
            if cpu is not None:
                self._sampler.charge(time.process_time() - cpu)
            try:
                scan = self._sampler.sweep()
            except fastsmaps.Error as error:
                self._say(str(error))
                continue
            cpu = time.process_time()
            self._add(scan)
            full = not self._error and (
                self._hours() > 1 or self._rows() >= 1 << 15 or self._size() > _MAX_BYTES // 2
            )
            if full or now >= next_write:
                next_write = now + self._args.write_every
                self._write()
            self._merge(now - begun)
        self._write()
        if self._error:
            self._say(f"{self._rows() + self._dropped} rows are lost: {self._error}")
        return not self._error

    def _add(self, scan: Scan) -> None:
        from fastsmaps._output.dataset import hour_of, table_of

        rows = table_of(scan, self._host)
        self._waiting.append((hour_of(scan.taken_at or 0.0), rows, rows.nbytes))
        while self._error and len(self._waiting) > 1 and self._size() > _MAX_BYTES:
            self._dropped += len(self._waiting.pop(0)[1])

    def _hours(self) -> int:
        return len({hour for hour, _, _ in self._waiting})

    def _rows(self) -> int:
        return sum(len(rows) for _, rows, _ in self._waiting)

    def _size(self) -> int:
        return sum(size for _, _, size in self._waiting)

    def _write(self) -> None:
        for hour in sorted({hour for hour, _, _ in self._waiting}):
            tables = [rows for each, rows, _ in self._waiting if each == hour]
            try:
                self._data.add(hour, tables)
            except OSError as error:
                reason = f"cannot write {self._args.to}: {_reason(error)}"
                if reason != self._error:
                    self._error = reason
                    self._say(f"{reason}; rows are kept, up to {_MAX_BYTES >> 20} MiB")
                return
            self._waiting = [each for each in self._waiting if each[0] != hour]
        if self._error:
            lost = f"; {self._dropped} rows were dropped" if self._dropped else ""
            self._say(f"can write {self._args.to} again{lost}")
            self._error, self._dropped = "", 0

    def _merge(self, elapsed: float) -> None:
        """Merge the files of days that have ended, as far as the budget allows."""
        from fastsmaps._output.dataset import hour_of

        today = hour_of(time.time())[:10]
        if today != self._day and self._merging is None:
            self._day = today
            self._merging = self._data.compact(today)
            self._delete_old()
        allowed = self._args.budget * _MERGE_SHARE * elapsed
        while self._merging is not None and self._merge_cpu <= allowed:
            cpu = time.process_time()
            try:
                next(self._merging)
            except StopIteration:
                self._merging = None
            except OSError as error:
                self._merging = None
                self._say(f"cannot merge files in {self._args.to}: {_reason(error)}")
            self._merge_cpu += time.process_time() - cpu

    def _delete_old(self) -> None:
        if self._args.keep is None:
            return
        from fastsmaps._output.dataset import hour_of

        try:
            self._data.delete_before(hour_of(time.time() - self._args.keep * 86400)[:10])
        except OSError as error:
            self._say(f"cannot delete old days in {self._args.to}: {_reason(error)}")

    def _say(self, text: str) -> None:
        print_error(text)
        if sys.stderr is not None:
            with contextlib.suppress(OSError):
                sys.stderr.flush()
