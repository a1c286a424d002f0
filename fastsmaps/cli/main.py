"""The entry point of the command: arguments, exit status, signals and fatal errors."""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import signal
import sys

import fastsmaps
from fastsmaps._output.temporary import remove_all
from fastsmaps.cli.options import Parser, UsageError
from fastsmaps.cli.output import print_error
from fastsmaps.cli.signals import SignalReceived, TerminationSignals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, TextIO

    from fastsmaps.cli.command import Command

#: The commands with their summaries; a module is imported when its command is used.
COMMANDS = {
    "ps": "every process with its Pss, Uss, Rss and swap",
    "totals": "every summed field of the given processes",
    "maps": "the mappings of a process",
    "libs": "mapped files, summed over all processes",
    "diff": "what grew and shrank between two points in time",
    "top": "a live ps, within a CPU budget",
    "watch": "a process over time: its peak and what grew",
    "capture": "save processes for the other commands to read with --procfs",
    "export": "Prometheus metrics for groups of processes",
}

EXAMPLES = """\
examples:
  fastsmaps                            every process, largest Pss first
  fastsmaps totals 1234                every summed field of process 1234
  fastsmaps maps 1234 --by kind        its heap, stack, files, ...
  fastsmaps maps saved.smaps.xz        the mappings of a saved smaps
  fastsmaps diff 1234 --after 60       what grew within a minute
  fastsmaps watch -- make              a command's memory from start to end
  fastsmaps capture -o host7.tar.gz    save this machine's processes ...
  fastsmaps ps --procfs host7.tar.gz   ... and show them elsewhere
  fastsmaps export --by unit           Prometheus metrics by systemd unit

Run `fastsmaps COMMAND --help` for more. Tables are in KiB, JSON and CSV in bytes. Exit status: 0 on
success; 1 if a named process or file could not be read, or if --filter matches nothing; 2 for a
usage error.
"""


def make_parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """Return the parser; only the chosen command gets its arguments, which saves imports."""
    top = Parser(
        prog="fastsmaps",
        description="The memory of Linux processes, from /proc/<pid>/smaps and smaps_rollup.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = f"fastsmaps {fastsmaps.__version__} ({fastsmaps.BACKEND} backend)"
    top.add_argument("--version", action="version", version=version)
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    for name, summary in COMMANDS.items():
        if name != chosen:
            commands.add_parser(name, help=summary, add_help=False)
            continue
        module = command_module(name)
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=f"examples:\n{module.EXAMPLES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
    return top


def command_module(name: str) -> Command:
    """Import the module of a command."""
    module: Command = importlib.import_module(f"fastsmaps.cli.commands.{name}")
    return module


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help", "--version")):
        argv = ["ps", *argv]
    try:
        args = make_parser(argv[0]).parse_args(argv)
        return command_module(args.command).run(args)
    except SystemExit as end:  # of --help, --version and signals: entry() flushes what is printed
        return int(end.code or 0)
    except UsageError as error:
        print_error(error)
        return 2
    except fastsmaps.Error as error:
        print_error(error)
        return 1


# CPython 3.11 raises this SystemError, not a MemoryError, if it cannot allocate a function's frame.
_NO_FRAME = "error return without exception set"

# Address space, never touched, that is freed when memory runs out: without it CPython 3.12 has none
# left to propagate the exception up to here.
_reserve = [bytes(1 << 20)]


def entry() -> NoReturn:
    """Run the console script; silent on a closed pipe and on Ctrl-C."""
    # Objects live until the command ends; collecting took 18 ms of 200 for a thousand processes.
    gc.disable()
    _open_standard_streams()
    signals = TerminationSignals()
    try:
        signals.install()
        status = _run_main()
        signals.ignore()
    except SignalReceived as end:
        remove_all()
        signals.die(end.number)
    except MemoryError:  # while _run_main() handled another
        _reserve.clear()
        print_error("out of memory")
        status = 1
    except KeyboardInterrupt:
        signals.ignore()
        remove_all()
        _discard_output(sys.stdout)
        status = 128 + signal.SIGINT
    # The interpreter flushes stderr again at exit, and exits with 120 if that fails.
    if sys.stderr is not None:
        try:
            sys.stderr.flush()
        except OSError:
            _discard_output(sys.stderr)
    sys.exit(status)


def _open_standard_streams() -> None:
    """Open the standard descriptors that are closed.

    Otherwise a file opened later could get one of their numbers, and receive messages.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:  # closed by the parent process
        sys.stdout = open(os.devnull, "w")  # type: ignore[unreachable,unused-ignore]
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding cannot represent must not raise.
        if stream is not None:
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _run_main() -> int:
    """Run main(); return the exit status, also for exceptions."""
    without_memory = False
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output(sys.stdout)
        status = 128 + signal.SIGPIPE
    except (MemoryError, SystemError) as error:
        _reserve.clear()
        if isinstance(error, SystemError) and str(error) != _NO_FRAME:
            raise
        without_memory, status = True, 1
    except OSError as error:  # a full disk behind standard output
        print_error(f"cannot write: {error.strerror or error}")
        _discard_output(sys.stdout)
        status = 1
    if without_memory:  # printed here, after the exception has released its memory
        print_error("out of memory")
    return status


def _discard_output(stream: TextIO) -> None:
    """Discard the stream's buffered output."""
    fd = os.open(os.devnull, os.O_WRONLY)
    os.dup2(fd, stream.fileno())
    os.close(fd)
