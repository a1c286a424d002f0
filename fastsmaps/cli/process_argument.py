"""What a command is told to look at: a pid, a saved smaps, or ``-`` for standard input."""

from __future__ import annotations

import sys

import fastsmaps
from fastsmaps._model.grouping import command_of
from fastsmaps._source.source import Source
from fastsmaps.cli.output import print_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

WHAT = 'a pid, "self", a file with the text of smaps, or "-" (standard input)'


def add_target(parser: argparse.ArgumentParser, *, many: bool) -> None:
    """The argument for it."""
    parser.add_argument("target", nargs="+" if many else None, metavar="PID", help=WHAT)


def is_pid(target: str) -> bool:
    """Whether the target names a process; a file of that name is ./1234."""
    return target == "self" or (target.isascii() and target.isdecimal())


def pid_of(target: str) -> int | str:
    """The pid to read; Error for a number that is none."""
    if target == "self":
        return target
    number = int(target) if len(target) < 20 else 2**63
    if not 0 < number < 2**31:
        raise fastsmaps.Error(f"{target} is not a valid pid")
    return number


def number_of(target: str, procfs: str) -> int | None:
    """The pid to be shown; None for a file."""
    if target == "self":
        return Source(procfs).own_pid()
    return int(target) if is_pid(target) else None


def totals_of(target: str, procfs: str) -> fastsmaps.Totals:
    """The target's totals."""
    if is_pid(target):
        return fastsmaps.totals(pid_of(target), procfs=procfs)
    return mappings_of(target, procfs).totals()


def mappings_of(target: str, procfs: str) -> fastsmaps.Mappings:
    """The target's mappings."""
    if is_pid(target):
        return fastsmaps.mappings(pid_of(target), procfs=procfs)
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


def pids_of(targets: list[str]) -> list[int]:
    """Pids that are given as numbers and nothing else; WrongUse for the rest."""
    from fastsmaps.cli.options import WrongUse

    numbers = []
    for target in targets:
        number = pid_of(target) if is_pid(target) else target
        if not isinstance(number, int):
            raise WrongUse(f"expected a pid, got {target!r}")
        numbers.append(number)
    return numbers


def command_line(target: str, procfs: str) -> str:
    """What --filter looks at: the command line or name of a process, the name of a file."""
    if not is_pid(target):
        return target
    with fastsmaps.Process(pid_of(target), procfs=procfs) as process:
        info = process.info()
    return command_of(info)
