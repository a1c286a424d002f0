"""fastsmaps watch: one process over time, or a command from its start to its end."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import time

import fastsmaps
from fastsmaps._source.source import Source
from fastsmaps.cli.options import (
    WrongUse,
    add_sampling,
    count,
    file_to_write,
    parquet_file,
    seconds,
)
from fastsmaps.cli.output import print_error
from fastsmaps.cli.plot_option import add_plot
from fastsmaps.cli.process_argument import command_line, is_pid, pid_of
from fastsmaps.cli.procfs_option import open_procfs
from fastsmaps.cli.signals import handled
from fastsmaps.cli.watch_report import Ended, write

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
# Seconds that a signal may go unheard.
_TURN = 0.5
_FORWARDED = (*_ENDING, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is watched, how often, and where it is saved."""
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
        metavar="SECONDS",
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
    group.add_argument("--human", action="store_true", help="print sizes with units (default: KiB)")
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
        "--parquet", metavar="FILE", type=parquet_file, help="save all samples as Parquet"
    )
    add_plot(group, "a plot of memory over time")
    parser.add_argument(
        "--procfs", default="/proc", metavar="DIR", help="read the PID from another procfs"
    )


def run(args: argparse.Namespace) -> int:
    """Watches it to its end, then reports."""
    gc.enable()  # off for commands that end soon
    target = args.target[0]
    if is_pid(target) and len(args.target) > 1:
        raise WrongUse(f"watch: expected one pid; to run a program of that name use ./{target}")
    if not is_pid(target) and args.time is not None:
        raise WrongUse("watch: --for needs a pid; to end a command use `timeout SECONDS COMMAND`")
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
        raise WrongUse(f"watch: --{error}") from None


def _watch_process(args: argparse.Namespace) -> int:
    with open_procfs(args.procfs) as opened:
        target = args.target[0]
        watch = _watch(args, pid_of(target), opened.procfs)
        name = command_line(target, opened.procfs)
        stopped = False

        def stop(number: int, frame: FrameType | None) -> None:
            nonlocal stopped
            if stopped:
                raise KeyboardInterrupt  # nor is the report wanted
            stopped = True
            watch.stop()

        failure = None
        try:
            with handled(dict.fromkeys(_ENDING, stop)), watch:
                _wait(watch, args.time)
        except fastsmaps.Error as error:
            if not watch.count:
                raise
            failure = error
        write(args, watch, Ended(name, failure=failure))
    if failure is not None:
        print_error(failure)
        opened.status = 1
    return opened.status


def _wait(watch: fastsmaps.Watch, seconds: float | None) -> None:
    """Until it ends, or so long. In short turns: a signal just before one begins is not heard."""
    until = None if seconds is None else time.monotonic() + seconds
    while True:
        left = _TURN if until is None else min(_TURN, until - time.monotonic())
        if left <= 0 or watch.wait(left):
            return


# ---- a command


class _Command:
    """A command that runs, and gets the signals that are sent to this process."""

    def __init__(self, signals: int) -> None:
        self.pid: int | None = None
        self._early: list[int] = []
        self._signals = signals  # where each signal that is handled writes a byte

    def start(self, words: list[str]) -> None:
        """OSError where it cannot be run."""
        import subprocess

        # What else is open here is the command's as it would be without us: ours all close.
        self._process = subprocess.Popen(words, close_fds=False)
        self.pid = self._process.pid
        for number in self._early:
            self.forward(number, None)

    def forward(self, number: int, frame: FrameType | None) -> None:
        """A handler of signals."""
        if number in (signal.SIGINT, signal.SIGQUIT) and _is_in_front():
            return  # the terminal sends these to the command too
        if self.pid is None:
            self._early.append(number)
        else:
            os.kill(self.pid, number)

    def wait(self) -> None:
        """Until it has ended; it stays a zombie, so that its number is no other's."""
        assert self.pid is not None
        # Its end is a SIGCHLD. Waiting for that alone would miss a signal to be forwarded that
        # comes just before the wait.
        while os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            os.read(self._signals, 1 << 12)

    def reap(self) -> tuple[int, int]:
        """Its exit status, as subprocess has it, and ru_maxrss in bytes."""
        self.wait()
        pid, self.pid = self.pid, None
        assert pid is not None
        _, status, usage = os.wait4(pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return self._process.returncode, usage.ru_maxrss * 1024


def _is_in_front() -> bool:
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


def _is_heard(number: int, frame: FrameType | None) -> None:
    """A handler, so that the signal wakes whoever waits."""


@contextlib.contextmanager
def _closed(*fds: int) -> Iterator[None]:
    """Closes these descriptors at the end."""
    try:
        yield
    finally:
        for fd in fds:
            os.close(fd)


def _followed(pid: int, procfs: str) -> fastsmaps.Process:
    """The process that has this number in our own pid namespace, whatever it is in the procfs."""
    if Source(procfs).counts_ours():
        return fastsmaps.Process(pid, procfs=procfs)
    # A number of another namespace may be a stranger's there: nothing else is certain.
    try:
        fd = os.pidfd_open(pid)
    except (OSError, AttributeError) as error:
        raise fastsmaps.Error(
            f"{procfs} belongs to another pid namespace, and the command's pid there cannot be "
            f"found: pidfd_open: {error}",
            path=procfs,
        ) from None
    with _closed(fd):
        return fastsmaps.Process.from_pidfd(fd, procfs=procfs)


def _watch_command(args: argparse.Namespace) -> int:
    import resource

    # Wrong use, and a procfs in which the command cannot be found, are reported before it runs.
    watch = _watch(args, "self", args.procfs)
    _followed(os.getpid(), args.procfs).close()
    signals, wake = os.pipe()
    os.set_blocking(wake, False)
    command = _Command(signals)
    failure = None
    # Of a child whose SIGCHLD is ignored nobody is told how it ended.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    handlers = {**dict.fromkeys(_FORWARDED, command.forward), signal.SIGCHLD: _is_heard}
    with _closed(signals, wake), handled(handlers, wake):
        try:
            command.start(args.target)
        except OSError as error:
            print_error(f"cannot run {args.target[0]}: {error.strerror}")
            return 127 if isinstance(error, FileNotFoundError) else 126
        assert command.pid is not None
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        watch.pid = command.pid
        try:
            with _followed(command.pid, args.procfs) as process:
                watch = _watch(args, process, args.procfs)
                with watch:
                    command.wait()
        except (fastsmaps.ProcessGone, fastsmaps.NoMemoryMap):
            pass  # it ended before the first look
        except fastsmaps.Error as error:
            failure = error
        exit_code, largest = command.reap()
    status = exit_code if exit_code >= 0 else 128 - exit_code
    # The kernel counts what this process had until the exec, too: below that it says nothing.
    ended = Ended(
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
