"""The argument PID: a pid, a file with the text of smaps, or ``-`` for standard input."""

from __future__ import annotations

import sys

import fastsmaps
from fastsmaps._model.grouping import command_of
from fastsmaps._source.source import Source
from fastsmaps.cli.output import print_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

TARGET_HELP = 'a pid, "self", a file with the text of smaps, or "-" (standard input)'


def add_target(parser: argparse.ArgumentParser, *, many: bool) -> None:
    """Add the argument PID."""
    parser.add_argument("target", nargs="+" if many else None, metavar="PID", help=TARGET_HELP)


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
