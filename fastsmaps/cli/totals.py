"""fastsmaps totals: all that the kernel sums up of some processes."""

from __future__ import annotations

import argparse

from fastsmaps import Error, Totals
from fastsmaps.cli.output import kib, print_json, print_table
from fastsmaps.cli.target import add_target, is_pid, totals_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The processes."""
    add_target(parser, many=True)


def run(args: argparse.Namespace) -> int:
    """Prints the totals of each that can be read; 1 if one cannot."""
    from fastsmaps.cli import complain

    read: list[tuple[str, Totals]] = []
    for target in args.target:
        try:
            read.append((target, totals_of(target, args.procfs)))
        except Error as error:
            complain(error)
    if args.json:
        print_json(
            [
                {
                    "pid": int(target) if target.isdecimal() else None,
                    "target": target,
                    "source": totals.source,
                    **totals.as_dict(),
                }
                for target, totals in read
            ]
        )
    elif read:
        figures = [(target, totals.as_dict()) for target, totals in read]
        names = dict.fromkeys(name for _, values in figures for name in values)
        print_table(
            ("KiB", *(target if is_pid(target) else target[-20:] for target, _ in figures)),
            [
                (name, *(kib(values.get(name)) for _, values in figures))
                for name in names
                if any(values.get(name) is not None for _, values in figures)
            ],
            left=("KiB",),
        )
    return 0 if len(read) == len(args.target) else 1
