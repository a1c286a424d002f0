"""What a command is told to look at: a pid, a saved smaps, or ``-`` for standard input."""

from __future__ import annotations

import argparse
import sys

import fastsmaps


def add_target(parser: argparse.ArgumentParser, *, many: bool) -> None:
    """The argument for it."""
    parser.add_argument(
        "target",
        nargs="+" if many else None,
        metavar="PID",
        help='a process\'s number, "self", a file with the text of smaps, or "-" (standard input)',
    )


def is_pid(target: str) -> bool:
    """Whether the target names a process; a file of that name is ./1234."""
    return target == "self" or (target.isascii() and target.isdecimal())


def totals_of(target: str, procfs: str) -> fastsmaps.Totals:
    """The target's totals."""
    if is_pid(target):
        return fastsmaps.totals(_pid(target), procfs=procfs)
    return mappings_of(target, procfs).totals()


def mappings_of(target: str, procfs: str) -> fastsmaps.Mappings:
    """The target's mappings."""
    if is_pid(target):
        return fastsmaps.mappings(_pid(target), procfs=procfs)
    return fastsmaps.load(sys.stdin.buffer if target == "-" else target)


def _pid(target: str) -> int | str:
    if target == "self":
        return target
    number = int(target) if len(target) < 20 else 2**63
    if not 0 < number < 2**31:
        raise fastsmaps.Error(f"{target} is no process's number")
    return number
