"""The argument PID: a pid, a file with the text of smaps, or ``-`` for standard input."""

from __future__ import annotations

import os
import sys

import fastsmaps
from fastsmaps._model.grouping import command_of, process_label, short_command
from fastsmaps._source.source import Source
from fastsmaps.cli.output import print_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from fastsmaps._model.process_totals import ProcessTotals

TARGET_HELP = (
    'a pid, "self", the name of one process, a file with the text of smaps, or "-" (standard input)'
)


def add_target(parser: argparse.ArgumentParser, *, many: bool) -> None:
    """Add the argument PID."""
    parser.add_argument("target", nargs="+" if many else None, metavar="PID", help=TARGET_HELP)


def named_process(target: str, procfs: str) -> str:
    """Return the target, or if it is the name of one process, that pid.

    A name is a process's comm, the base name of its program, or its script; an existing file of
    that name takes precedence. Error if no process or several have it: fastsmaps does not guess.
    """
    if is_pid(target) or target == "-" or "/" in target or not target:
        return target
    if os.path.lexists(target) and not os.path.isdir(target):
        return target
    from fastsmaps._host.scan import seen
    from fastsmaps.cli.process_filter import own_pids

    own = own_pids(procfs)
    rows = [row for row in seen(None, procfs=procfs, cmdline=True) if row.pid not in own]
    named = [row for row in rows if target in _names(row)]
    # A kernel thread or zombie is found only if no process with memory has the name.
    named = [row for row in named if row.cmdline] or named
    if len(named) == 1:
        return str(named[0].pid)
    if named:
        shown = [f"{row.pid} ({short_command(row, _SHOWN)})" for row in named[:_MAX_SHOWN]]
        more = ", ..." if len(named) > _MAX_SHOWN else ""
        raise fastsmaps.Error(
            f"{len(named)} processes are called {target}; choose one by its pid: "
            f"{', '.join(shown)}{more}"
        )
    if os.path.isdir(target):
        return target
    from fastsmaps.cli.hints import similar

    names = {name for row in rows for name in _names(row)}
    raise fastsmaps.Error(f"there is no process or file called {target}{similar(target, names)}")


# Processes of one name that an error lists, and characters of their command lines.
_MAX_SHOWN, _SHOWN = 10, 30


def _names(row: ProcessTotals) -> set[str]:
    program = short_command(row).partition(" ")[0].rstrip(":") if row.cmdline else ""
    return {name for name in (row.comm, program, process_label(row)) if name}


def is_pid(target: str) -> bool:
    """Whether the target is a pid; a file with such a name is given as ./1234."""
    return target == "self" or (target.isascii() and target.isdecimal())


def parse_pid(target: str) -> int | str:
    """Return the pid to read; Error for an invalid number."""
    if target == "self":
        return target
    number = int(target) if len(target) < 20 else 2**63
    if not 0 < number < 2**31:
        raise fastsmaps.Error(f"{target} is not a valid pid")
    return number


def shown_pid(target: str, procfs: str) -> int | None:
    """Return the pid to print; None for a file."""
    if target == "self":
        return Source(procfs).own_pid()
    return int(target) if is_pid(target) else None


def read_totals(target: str, procfs: str) -> fastsmaps.Totals:
    """Read the target's totals."""
    if is_pid(target):
        return fastsmaps.totals(parse_pid(target), procfs=procfs)
    return read_mappings(target, procfs).totals()


def read_mappings(target: str, procfs: str) -> fastsmaps.Mappings:
    """Read the target's mappings."""
    if is_pid(target):
        return fastsmaps.mappings(parse_pid(target), procfs=procfs)
    if target == "-" and sys.stdin is None:
        raise fastsmaps.Error("standard input is closed")
    table = fastsmaps.load(sys.stdin.buffer if target == "-" else target, lenient=True)
    name = "standard input" if target == "-" else target
    if table.skipped:
        kinds = ", ".join(f"{count} {kind}" for kind, count in table.skipped.items())
        noun = "line" if table.skipped_lines == 1 else "lines"
        print_error(f"{name}: {table.skipped_lines} {noun} skipped: {kinds}")
    if not len(table):
        raise fastsmaps.Error(f"{name} is empty: nothing was read", path=target)
    return table


def add_pids(parser: argparse.ArgumentParser) -> None:
    """Add the arguments PID of a command that reads all processes without them."""
    parser.add_argument("target", nargs="*", metavar="PID", help="only these processes")
    parser.add_argument(
        "-p", "--pid", action="append", metavar="PID,...", help="the same, as in ps and htop"
    )


def parse_pids(args: argparse.Namespace) -> list[int]:
    """Return the pids of add_pids(); UsageError for other arguments, "self" included."""
    from fastsmaps.cli.options import UsageError

    numbers = []
    for text in (*args.target, *(args.pid or ())):
        for target in text.split(","):
            number = parse_pid(target) if is_pid(target) else target
            if not isinstance(number, int):
                raise UsageError(
                    f"expected a pid, got {target!r}; --filter selects processes by name"
                )
            numbers.append(number)
    return numbers


def target_name(target: str, procfs: str) -> str:
    """Return a process's command line or comm, or the name of a file."""
    if not is_pid(target):
        return target
    with fastsmaps.Process(parse_pid(target), procfs=procfs) as process:
        info = process.info()
    return command_of(info)
