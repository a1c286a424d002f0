"""fastsmaps watch: one process over time, or a command from its start to its end."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import time

import fastsmaps
from fastsmaps._model.sizes import human
from fastsmaps._source.source import Source
from fastsmaps.cli.change_table import duration
from fastsmaps.cli.handlers import signal_handlers
from fastsmaps.cli.live_line import Course, LiveLine
from fastsmaps.cli.options import (
    UsageError,
    add_sampling,
    add_units,
    count,
    extra_file,
    file_to_write,
    seconds,
)
from fastsmaps.cli.output import print_error
from fastsmaps.cli.plot_option import add_plot
from fastsmaps.cli.process_argument import is_pid, parse_pid, target_name
from fastsmaps.cli.procfs_option import open_procfs
from fastsmaps.cli.watch_report import WatchEnd, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from types import FrameType

EXAMPLES = """\
  fastsmaps watch 1234                        process 1234 until it ends or Ctrl-C
  fastsmaps watch 1234 --for 60 --csv out.csv one minute, samples saved
  fastsmaps watch -- python work.py --fast    a command, and exit with its status
  fastsmaps watch --plot out.html -- make     with a plot
  fastsmaps watch --tree -- make -j8          including all descendants
  fastsmaps watch -o report -- make           write the report to a file

The report of a process goes to standard output, that of a command to standard error.
"""

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Seconds of one wait, the longest time until a signal takes effect.
_WAIT_STEP = 0.5
_FORWARDED = (*_ENDING, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of watch."""
    parser.add_argument(
        "target",
        nargs="+",
        metavar="PID|COMMAND",
        help='a pid or "self"; anything else is a command to run; put "--" before it if it has '
        "options",
    )
    parser.add_argument(
        "--for",
        dest="time",
        metavar="TIME",
        type=seconds,
        help="stop after this time",
    )
    add_sampling(parser, interval=0.1, budget=0.05)
    parser.add_argument(
        "--tree", action="store_true", help="sum the process and all its descendants"
    )
    parser.add_argument(
        "--no-growth", dest="growth", action="store_false", help="do not read mappings"
    )
    group = parser.add_argument_group("output")
    group.add_argument(
        "-o", "--output", metavar="FILE", type=file_to_write, help="write the report to this file"
    )
    group.add_argument("--json", action="store_true", help="print the report as JSON, in bytes")
    add_units(group)
    group.add_argument(
        "--limit",
        metavar="N",
        type=count,
        default=10,
        help="the N mappings that grew most (default: 10)",
    )
    group.add_argument(
        "--csv", metavar="FILE", type=file_to_write, help="save all samples as CSV, in bytes"
    )
    group.add_argument(
        "--parquet",
        metavar="FILE",
        type=extra_file("fastsmaps.parquet"),
        help="save all samples as Parquet",
    )
    add_plot(group, "a plot of memory over time")
    parser.add_argument(
        "--procfs", default="/proc", metavar="DIR", help="read the PID from another procfs"
    )


def run(args: argparse.Namespace) -> int:
    """Watch the process until it ends, then report."""
    gc.enable()  # off for commands that end soon
    target = args.target[0]
    if is_pid(target) and len(args.target) > 1:
        raise UsageError(f"watch: expected one pid; to run a program of that name use ./{target}")
    if not is_pid(target) and args.time is not None:
        raise UsageError("watch: --for needs a pid; to end a command use `timeout SECONDS COMMAND`")
    return _watch_process(args) if is_pid(target) else _watch_command(args)


def _watch(
    args: argparse.Namespace, pid: int | str | fastsmaps.Process, procfs: str
) -> fastsmaps.Watch:
    try:
        return fastsmaps.Watch(
            pid,
            interval=args.interval,
            budget=args.budget,
            growth=args.growth,
            tree=args.tree,
            procfs=procfs,
        )
    except ValueError as error:
        raise UsageError(f"watch: --{error}") from None


def _watch_process(args: argparse.Namespace) -> int:
    with open_procfs(args.procfs) as opened:
        target = args.target[0]
        watch = _watch(args, parse_pid(target), opened.procfs)
        name = target_name(target, opened.procfs)
        stopped = False

        def stop(number: int, frame: FrameType | None) -> None:
            nonlocal stopped
            if stopped:
                raise KeyboardInterrupt  # without the report
            stopped = True
            watch.stop()

        failure = None
        try:
            title = f"Watching process {watch.pid}: Ctrl-C ends and shows the report"
            with signal_handlers(dict.fromkeys(_ENDING, stop)), watch, LiveLine(title) as line:
                _wait(watch, args.time, line)
        except fastsmaps.Error as error:
            if not watch.count:
                raise
            failure = error
        write(args, watch, WatchEnd(name, failure=failure))
    if failure is not None:
        print_error(failure)
        opened.status = 1
    return opened.status


def _wait(watch: fastsmaps.Watch, seconds: float | None, line: LiveLine) -> None:
    """Wait until the watch ends or the time is over; show how it goes.

    Waits in short steps: a signal just before a step begins does not end it.
    """
    until = None if seconds is None else time.monotonic() + seconds
    course = Course()
    while True:
        left = _WAIT_STEP if until is None else min(_WAIT_STEP, until - time.monotonic())
        if left <= 0 or watch.wait(left):
            return
        if line.is_on:
            _show_progress(watch, seconds, line, course)


def _show_progress(
    watch: fastsmaps.Watch, seconds: float | None, line: LiveLine, course: Course
) -> None:
    """Show the time, the samples, and Pss (Rss without it) now and at its peak."""
    peaks = watch.peaks
    name = "pss" if "pss" in peaks else "rss"
    last = watch.samples[-1]
    size = last.totals[name]
    course.add(size or 0)
    whole = "" if seconds is None else f" of {duration(seconds)}"
    parts = [f"{duration(watch.duration)}{whole}", f"{name.capitalize()} {human(size)}"]
    if name in peaks:
        parts.append(f"peak {human(peaks[name].totals[name])}")
    parts.append(f"{watch.count} samples")
    if watch.tree:
        parts.append(f"{last.processes} process{'' if last.processes == 1 else 'es'}")
    line.show(parts, course.values)


# ---- a command


class _ChildCommand:
    """A running command, which receives the signals sent to this process."""

    def __init__(self, signals: int) -> None:
        self.pid: int | None = None
        self._early: list[int] = []
        self._signals = signals  # a pipe: each handled signal writes a byte

    def start(self, words: list[str]) -> None:
        """Start the command; OSError if it cannot be run."""
        import subprocess

        # The command inherits descriptors as it would without fastsmaps; our own close on exec.
        self._process = subprocess.Popen(words, close_fds=False)
        self.pid = self._process.pid
        for number in self._early:
            self.forward(number, None)

    def forward(self, number: int, frame: FrameType | None) -> None:
        """Forward a signal; a signal handler."""
        if number in (signal.SIGINT, signal.SIGQUIT) and _is_in_foreground():
            return  # the terminal sends these to the command as well
        if self.pid is None:
            self._early.append(number)
        else:
            os.kill(self.pid, number)

    def wait(self) -> None:
        """Wait until it has ended; it stays a zombie, so that its pid is not reused."""
        assert self.pid is not None
        # SIGCHLD reports the end. Waiting only for that would miss a signal to forward that
        # arrives just before the wait.
        while os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            os.read(self._signals, 1 << 12)

    def reap(self) -> tuple[int, int]:
        """Return its exit status as subprocess does, and ru_maxrss in bytes."""
        self.wait()
        pid, self.pid = self.pid, None
        assert pid is not None
        _, status, usage = os.wait4(pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return self._process.returncode, usage.ru_maxrss * 1024


def _is_in_foreground() -> bool:
    """Whether this process is in the foreground of its terminal."""
    try:
        fd = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(fd)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing; a handler, so that the signal writes a byte to the pipe."""


@contextlib.contextmanager
def _closing(*fds: int) -> Iterator[None]:
    """Close these descriptors at the end of the block."""
    try:
        yield
    finally:
        for fd in fds:
            os.close(fd)


def _open_process(pid: int, procfs: str) -> fastsmaps.Process:
    """Open the process with this pid in our own pid namespace, whatever its pid in `procfs`."""
    if Source(procfs).counts_ours():
        return fastsmaps.Process(pid, procfs=procfs)
    # In another namespace the same number may be another process; only a pidfd is certain.
    try:
        fd = os.pidfd_open(pid)
    except (OSError, AttributeError) as error:
        raise fastsmaps.Error(
            f"{procfs} belongs to another pid namespace, and the command's pid there cannot be "
            f"found: pidfd_open: {error}",
            path=procfs,
        ) from None
    with _closing(fd):
        return fastsmaps.Process.from_pidfd(fd, procfs=procfs)


def _watch_command(args: argparse.Namespace) -> int:
    import resource

    # Wrong use, and a procfs in which the command cannot be found, are reported before it runs.
    watch = _watch(args, "self", args.procfs)
    _open_process(os.getpid(), args.procfs).close()
    signals, wake = os.pipe()
    os.set_blocking(wake, False)
    command = _ChildCommand(signals)
    failure = None
    # The kernel discards a child's exit status if SIGCHLD is ignored.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    handlers = {**dict.fromkeys(_FORWARDED, command.forward), signal.SIGCHLD: _ignore}
    with _closing(signals, wake), signal_handlers(handlers, wake):
        try:
            command.start(args.target)
        except OSError as error:
            print_error(f"cannot run {args.target[0]}: {error.strerror}")
            return 127 if isinstance(error, FileNotFoundError) else 126
        assert command.pid is not None
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        watch.pid = command.pid
        try:
            with _open_process(command.pid, args.procfs) as process:
                watch = _watch(args, process, args.procfs)
                with watch:
                    command.wait()
        except (fastsmaps.ProcessGone, fastsmaps.NoMemoryMap):
            pass  # it ended before the first sample
        except fastsmaps.Error as error:
            failure = error
        exit_code, largest = command.reap()
    status = exit_code if exit_code >= 0 else 128 - exit_code
    # ru_maxrss includes this process's Rss until the exec: a smaller value says nothing.
    ended = WatchEnd(
        " ".join(args.target),
        exit_code=exit_code,
        largest=largest if largest > own else None,
        failure=failure,
    )
    if failure is not None:
        print_error(failure)
    try:
        write(args, watch, ended)
    except fastsmaps.Error as error:
        print_error(error)
        return status or 1
    return status or (1 if failure else 0)
