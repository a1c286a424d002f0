"""fastsmaps maps: the mappings of a process."""

from __future__ import annotations

from fastsmaps._fields import ABSENT, NAMES, NUMBERS, SUMS
from fastsmaps._model.mappings import GROUPS
from fastsmaps._model.totals import NO_NAME, UNREAD
from fastsmaps.cli.fields_option import (
    add_fields,
    columns_of,
    is_size,
    output_fields,
    requested_fields,
    selected_fields,
    total_cells,
)
from fastsmaps.cli.options import add_output
from fastsmaps.cli.output import print_error
from fastsmaps.cli.plot_option import add_plot, command_line, save_page
from fastsmaps.cli.process_argument import add_target, named_process, read_mappings, target_name
from fastsmaps.cli.process_filter import check_matches
from fastsmaps.cli.procfs_option import open_procfs
from fastsmaps.cli.progress import progress_bar
from fastsmaps.cli.records_output import (
    DEFAULT_SIZES,
    Column,
    field_names,
    number,
    origin_of,
    show,
    size_format,
    text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from fastsmaps._model.mappings import Mappings
    from fastsmaps.cli.output import Record

EXAMPLES = """\
  fastsmaps maps 1234                           all mappings, by address
  fastsmaps maps nginx                          of the one process of that name
  fastsmaps maps 1234 --by path --limit 10      the ten files with the most Pss
  fastsmaps maps 1234 --by kind                 heap, stack, anon, file, ...
  fastsmaps maps 1234 --by use                  thread stacks, malloc arenas, JIT code, text, ...
  fastsmaps maps 1234 --by label                named memory: malloc, Java heap, each file, ...
  fastsmaps maps 1234 --fields rss,swap,locked  these fields instead of the usual ones
  fastsmaps maps 1234 --fields use,rss          what each mapping is for
  fastsmaps maps 1234 --fields rss --csv        rss with address, perms, kind and path, for scripts
  fastsmaps maps 1234 --filter 'libc' --json
  fastsmaps maps 1234 --plot out.html           a treemap
"""

# The fields that are not sizes.
_PLAIN = (
    "start", "end", "perms", "offset", "dev", "inode", "path", "kind", "deleted", "vm_flags",
    "extra", *map(NAMES.__getitem__, NUMBERS),
)  # fmt: skip
# The sizes of a table without --fields.
_USUAL = ("size", *DEFAULT_SIZES)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of maps."""
    add_target(parser, many=False)
    parser.add_argument(
        "--by",
        choices=GROUPS,
        help="sum mappings by path, kind, label (the purpose of named memory) or use (what they "
        "are for: stacks, arenas, code, ...; doubtful ones end with ?)",
    )
    add_fields(parser)
    add_output(parser, filters="mappings whose path", parquet=True)
    add_plot(parser, "a treemap, kind > path > range")


def run(args: argparse.Namespace) -> int:
    """Print the mappings and their sum."""
    with open_procfs(args.procfs) as opened:
        args.target = named_process(args.target, opened.procfs)
        with progress_bar("reading mappings"):
            name = target_name(args.target, opened.procfs) if args.plot else ""
            mappings = read_mappings(args.target, opened.procfs)
        if mappings.overlaps:
            if mappings.pid is None:
                print_error(
                    "ranges overlap: several processes, or a map that changed while being read"
                )
            else:
                print_error("ranges overlap: the map changed while being read")
        if args.filter:
            mappings = mappings.filter(lambda mapping: args.filter.search(mapping.path))
        if args.plot:
            _save_plot(args, mappings, name)
        (_show_groups if args.by else _show_mappings)(args, mappings)
        opened.status = check_matches(args, mappings, "path") or opened.status
    return opened.status


def _save_plot(args: argparse.Namespace, mappings: Mappings, name: str) -> None:
    from fastsmaps import plot

    title = name if mappings.pid is None else f"{name} (process {mappings.pid})"
    save_page(plot.mappings(mappings, title=title, command=command_line()), args.plot)


def _records(mappings: Mappings) -> list[Record]:
    records = mappings.to_dicts()
    for name in SUMS:
        for record, value in zip(records, mappings.column(name), strict=True):
            record[name] = None if value == ABSENT else value
    return records


def _origin(args: argparse.Namespace, mappings: Mappings) -> Record:
    return origin_of(args, mappings.procfs, mappings.taken_at, pid=mappings.pid)


def _sums(records: list[Record], names: list[str]) -> dict[str, int | None]:
    """Sum the fields that have a sum; None for a field that no record has."""
    sums: dict[str, int | None] = {}
    for name in filter(is_size, names):
        values = [record[name] for record in records if record.get(name) is not None]
        if name == "size" and len(values) < len(records):
            values = []  # a rollup has no size, so the sum is unknown
        sums[name] = sum(values) if values else None
    return sums


def _show_mappings(args: argparse.Namespace, mappings: Mappings) -> None:
    records = _records(mappings)
    if "use" in requested_fields(args, ["use"]):  # more work than all other columns
        for record, use in zip(records, mappings.uses(), strict=True):
            record["use"] = use
    defaults = [*dict.fromkeys((*_PLAIN, "size", *NAMES.values(), *SUMS))]
    unit = size_format(args)
    # A field that this kernel does not print is a column, too: scripts run on several kernels.
    every = [*dict.fromkeys((*field_names(records, defaults), *defaults, "use"))]
    names = selected_fields(args, every, _USUAL)
    columns = [
        Column("ADDRESS", lambda record: f"{record['start']:012x}", left=True),
        text("perms"),
        *columns_of(names, unit),
        text("kind"),
        text("path"),
    ]
    show(
        args,
        records,
        columns,
        defaults=defaults,
        total=[
            "total",
            "",
            *total_cells(names, _sums(records, names), unit),
            "",
            f"{len(records)} mappings",
        ],
        fields=output_fields(args, "start", "end", "perms", *names, "kind", "path"),
        kind="mappings",
        origin=_origin(args, mappings),
    )


def _show_groups(args: argparse.Namespace, mappings: Mappings) -> None:
    records: list[Record] = [
        {args.by: name, "mappings": group.count, "files": group.files, **group.totals}
        for name, group in mappings.group_by(args.by).items()
    ]
    defaults = [args.by, "mappings", "files", *UNREAD]
    unit = size_format(args)
    every = [*dict.fromkeys((*field_names(records, defaults), *defaults))]
    names = selected_fields(args, every, _USUAL)
    several = args.by == "path" and any(record["files"] > 1 for record in records)
    last = [*([number("files")] if several else []), text(args.by, empty=NO_NAME)]
    show(
        args,
        records,
        [*columns_of(names, unit), number("mappings"), *last],
        defaults=defaults,
        total=[
            *total_cells(names, _sums(records, names), unit),
            str(len(mappings)),
            *([""] if several else []),
            "total",
        ],
        fields=output_fields(args, args.by, "mappings", *names),
        kind="mapping_groups",
        origin=_origin(args, mappings),
    )
