"""fastsmaps maps: the mappings of a process."""

from __future__ import annotations

from fastsmaps.cli.arguments import add_output
from fastsmaps.cli.listing import (
    FIGURES,
    NO_NAME,
    Column,
    names_of,
    number,
    resolved,
    show,
    sizes,
    text,
)
from fastsmaps.cli.listing import unit_of as unit_of_args
from fastsmaps.cli.output import complain
from fastsmaps.cli.replay import opened
from fastsmaps.cli.target import add_target, mappings_of
from fastsmaps.cli.working import working

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from fastsmaps.cli.output import Record
    from fastsmaps.mapping import Mapping
    from fastsmaps.mappings import Mappings

SUMMARY = "the mappings of a process"
EXAMPLES = """\
  fastsmaps maps 1234                           all of them, by address
  fastsmaps maps 1234 --by path --limit 10      the ten files with most Pss
  fastsmaps maps 1234 --by kind                 heap, stack, anon, file, ...
  fastsmaps maps 1234 --fields rss,swap,locked  these figures instead
  fastsmaps maps 1234 --filter 'libc' --json
"""

_TEXTS = ("perms", "dev", "path", "kind", "vm_flags", "extra")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The process, and what is shown of it."""
    add_target(parser, many=False)
    parser.add_argument("--by", choices=("path", "kind"), help="summed by these")
    parser.add_argument(
        "--fields",
        metavar="FIELD,...",
        help="the figures to be shown, instead of the usual ones",
    )
    add_output(parser, filters="path")


def run(args: argparse.Namespace) -> int:
    """Prints the mappings and their sum."""
    with opened(args.procfs) as replay:
        with working("reading mappings"):
            mappings = mappings_of(args.target, replay.procfs)
        if mappings.overlaps:
            complain("ranges overlap: the map changed while it was read")
        if args.filter:
            wanted = [i for i, m in enumerate(mappings) if args.filter.search(m.path)]
        else:
            wanted = list(range(len(mappings)))
        (_show_groups if args.by else _show_mappings)(args, mappings, wanted)
    return replay.status


def _record(mapping: Mapping) -> Record:
    record = mapping.as_dict()
    clean, dirty = record.get("private_clean"), record.get("private_dirty")
    record["uss"] = None if clean is None or dirty is None else clean + dirty
    return record


def _figures(args: argparse.Namespace, records: list[Record]) -> tuple[str, ...]:
    if not args.fields:
        return ("size", *FIGURES)
    names = names_of(records)
    return tuple(resolved(name, names, "--fields") for name in args.fields.split(","))


def _sum(records: list[Record], name: str) -> int | None:
    values = [record[name] for record in records if isinstance(record.get(name), int)]
    return sum(values) if values else None


def _show_mappings(args: argparse.Namespace, mappings: Mappings, wanted: list[int]) -> None:
    records = [_record(mappings[i]) for i in wanted]
    unit = unit_of_args(args)
    names = _figures(args, records) if records else ("size", *FIGURES)
    figures = [number(name) if name in _TEXTS else sizes([name], unit)[0] for name in names]
    columns = [
        Column("ADDRESS", lambda record: f"{record['start']:012x}", left=True),
        text("perms"),
        *figures,
        text("kind"),
        text("path"),
    ]
    sums = [unit(_sum(records, name)) if name not in _TEXTS else "" for name in names]
    show(
        args,
        records,
        columns,
        known=["start", "end", "perms", "path", *FIGURES],
        total=["total", "", *sums, "", f"{len(records)} mappings"],
    )


def _show_groups(args: argparse.Namespace, mappings: Mappings, wanted: list[int]) -> None:
    inside = {mappings[i].start for i in wanted}
    key = "path" if args.by == "path" else "kind"
    groups = (
        mappings.group_by(lambda m: getattr(m, key) if m.start in inside else None)
        if args.filter
        else mappings.group_by(key)
    )
    records: list[Record] = [
        {args.by: name, "mappings": group.count, **group.totals.as_dict()}
        for name, group in groups.items()
        if name is not None
    ]
    unit = unit_of_args(args)
    names = _figures(args, records) if records else ("size", *FIGURES)
    columns = [*sizes(names, unit), number("mappings"), text(args.by, empty=NO_NAME)]
    show(
        args,
        records,
        columns,
        known=[args.by, "mappings", *FIGURES],
        total=[*(unit(_sum(records, name)) for name in names), str(len(wanted)), "total"],
    )
