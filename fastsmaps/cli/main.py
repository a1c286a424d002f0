"""The entry point of the command: arguments, exit status, signals and fatal errors."""

from __future__ import annotations

import gc
import os
import sys

import fastsmaps
from fastsmaps.cli import plain
from fastsmaps.cli.command import command_module
from fastsmaps.cli.options import UsageError
from fastsmaps.cli.output import print_error, print_written, set_color
from fastsmaps.cli.signals import SIGINT_STATUS, SignalReceived, termination

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import NoReturn, TextIO


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    try:
        args = _parse(_with_command(sys.argv[1:] if argv is None else argv))
        set_color(getattr(args, "color", "auto"))
        return command_module(args.command).run(args)
    except SystemExit as end:  # of --help, --version and signals: entry() flushes what is printed
        return int(end.code or 0)
    except UsageError as error:
        print_error(error)
        return 2
    except fastsmaps.Error as error:
        print_error(error)
        return 1
    finally:
        print_written()


def _with_command(argv: list[str]) -> list[str]:
    """Put in the default command."""
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help", "--version")):
        return ["ps", *argv]
    return argv


def _parse(argv: list[str]) -> argparse.Namespace:
    args = plain.parse(argv) if plain.is_plain(argv) else None
    if args is None:
        from fastsmaps.cli import parser

        args = parser.parse(argv)
    return args


# Ends of the messages of other errors without memory: CPython 3.11's SystemError if it cannot
# allocate a function's frame, and the ImportError if dlopen() cannot map a module.
_WITHOUT_MEMORY = (
    "error return without exception set",
    "failed to map segment from shared object",
    "Cannot allocate memory",
)

# Address space, never touched, that is freed when memory runs out: without it CPython 3.12 has none
# left to propagate the exception up to here.
_reserve = [bytes(1 << 20)]


def entry() -> NoReturn:
    """Run the console script and end the process; silent on a closed pipe and on Ctrl-C."""
    # Objects live until the command ends; collecting took 18 ms of 200 for a thousand processes.
    gc.disable()
    _open_standard_streams()
    sys.unraisablehook = termination.lost
    try:
        # A plain command leaves nothing behind: signals may end it as they end any process. But an
        # init process, of a container for example, ignores signals that it does not handle.
        if os.getpid() == 1 or not plain.is_plain(_with_command(sys.argv[1:])):
            termination.install()
        status = _run_main()
        termination.ignore()
    except SignalReceived as end:
        termination.die(end.number)
    except MemoryError:  # while _run_main() handled another
        _reserve.clear()
        print_error("out of memory")
        status = 1
    except KeyboardInterrupt:
        termination.interrupted()
        _discard_output(sys.stdout)
        status = SIGINT_STATUS
    # The interpreter flushes stderr again at exit, and exits with 120 if that fails.
    if sys.stderr is not None:
        try:
            sys.stderr.flush()
        except OSError:
            _discard_output(sys.stderr)
    if not termination.installed:
        os._exit(status)  # freeing all objects takes 2 ms, or 4 for a hundred processes
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
        import signal

        _discard_output(sys.stdout)
        status = 128 + signal.SIGPIPE
    except (MemoryError, SystemError, ImportError) as error:
        _reserve.clear()
        if not isinstance(error, MemoryError) and not str(error).endswith(_WITHOUT_MEMORY):
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
