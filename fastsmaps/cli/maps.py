"""fastsmaps maps: the mappings of a process."""

from __future__ import annotations

import argparse

from fastsmaps import Mapping
from fastsmaps.cli.output import kib, print_json, print_table
from fastsmaps.cli.target import add_target, mappings_of

HEAD = ("ADDRESS", "PERMS", "SIZE", "RSS", "PSS", "USS", "SWAP", "KIND", "PATH")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The process."""
    add_target(parser, many=False)


def cells(mapping: Mapping) -> tuple[str, ...]:
    """A line of the table."""
    clean, dirty = mapping.private_clean, mapping.private_dirty
    uss = None if clean is None or dirty is None else clean + dirty
    return (
        f"{mapping.start:012x}",
        mapping.perms,
        *map(kib, (mapping.size, mapping.rss, mapping.pss, uss, mapping.swap)),
        mapping.kind,
        mapping.path,
    )


def run(args: argparse.Namespace) -> int:
    """Prints the mappings and their sum."""
    mappings = mappings_of(args.target, args.procfs)
    if args.json:
        print_json([mapping.as_dict() for mapping in mappings])
        return 0
    sums = mappings.totals()
    figures = map(kib, (sums.size, sums.rss, sums.pss, sums.uss, sums.swap))
    rows = [cells(mapping) for mapping in mappings]
    rows.append(("total", "", *figures, "", f"{len(mappings)} mappings"))
    print_table(HEAD, rows, left=("ADDRESS", "PERMS", "KIND", "PATH"))
    return 0
