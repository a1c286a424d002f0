"""The command ``fastsmaps``: arguments, exit status, and what ends it early."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import NoReturn

import fastsmaps
from fastsmaps.cli import maps, ps, totals

COMMANDS = {"ps": ps, "totals": totals, "maps": maps}

EXAMPLES = """\
examples:
  fastsmaps                       every process, largest Pss first
  fastsmaps totals 1234           all that the kernel sums up of process 1234
  fastsmaps maps self --json      the mappings of this very process, as JSON
  fastsmaps maps saved.smaps.xz   those of a saved smaps

Tables are in KiB, JSON is in bytes. Exit status: 0; 1 where something that was named could not
be read; 2 for wrong use.
"""


def parser() -> argparse.ArgumentParser:
    """The arguments of all commands."""
    top = argparse.ArgumentParser(
        prog="fastsmaps",
        description="The memory of Linux processes, from /proc/<pid>/smaps and smaps_rollup.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = f"fastsmaps {fastsmaps.__version__} ({fastsmaps.BACKEND} backend)"
    top.add_argument("--version", action="version", version=version)
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").partition("\n")[0].partition(": ")[2]
        command = commands.add_parser(name, help=summary, description=summary)
        command.add_argument("--json", action="store_true", help="as JSON, in bytes")
        command.add_argument(
            "--procfs",
            default="/proc",
            metavar="DIR",
            help="another procfs (a host's, in a container) or a capture in its layout",
        )
        module.add_arguments(command)
    return top


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help", "--version")):
        argv = ["ps", *argv]
    args = parser().parse_args(argv)
    try:
        status: int = COMMANDS[args.command].run(args)
    except fastsmaps.Error as error:
        complain(error)
        status = 1
    return status


def complain(error: fastsmaps.Error) -> None:
    """One line on standard error."""
    from fastsmaps.cli.output import harmless

    print(f"fastsmaps: {harmless(str(error))}", file=sys.stderr)


def entry() -> NoReturn:
    """The console script: quiet when the reader of a pipe leaves, or at Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding cannot show is no reason to fail.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter would flush standard output once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    sys.exit(status)
