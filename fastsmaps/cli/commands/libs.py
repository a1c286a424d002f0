"""fastsmaps libs: each mapped file over all processes."""

from __future__ import annotations

import time

import fastsmaps
from fastsmaps._model.processes import is_failure
from fastsmaps._model.totals import UNREAD
from fastsmaps._source.source import Source
from fastsmaps.cli.coverage import coverage_note
from fastsmaps.cli.fields_option import add_fields, columns_of, output_fields, selected_fields
from fastsmaps.cli.options import add_output, add_workers
from fastsmaps.cli.output import print_error
from fastsmaps.cli.process_argument import add_pids, parse_pids
from fastsmaps.cli.process_filter import check_matches
from fastsmaps.cli.procfs_option import open_procfs
from fastsmaps.cli.progress import progress_bar
from fastsmaps.cli.records_output import (
    DEFAULT_SIZES,
    field_names,
    origin_of,
    show,
    size_format,
    text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from fastsmaps.cli.output import Record

EXAMPLES = """\
  fastsmaps libs --limit 20            the twenty files with the most Pss
  fastsmaps libs --filter '\\.so'       shared libraries
  fastsmaps libs --sort processes      most widely mapped first
  fastsmaps libs --by path             one row for all files of a path
  fastsmaps libs --fields rss,uss      these fields instead of the usual ones
  fastsmaps libs 1234 1235             of these processes only
  fastsmaps libs --parquet libs.parquet  for DuckDB, Spark, pandas: with host and time
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of libs."""
    add_pids(parser)
    parser.add_argument(
        "--by",
        choices=("file", "path"),
        default="file",
        help="a row for each file (device and inode), or one for all files of a path",
    )
    add_fields(parser)
    add_workers(parser)
    add_output(parser, filters="files whose path", parquet=True)


def run(args: argparse.Namespace) -> int:
    """Print every mapped file."""
    pids = parse_pids(args) or None
    with open_procfs(args.procfs) as opened, progress_bar("reading mappings") as progress:
        libs = fastsmaps.libs(pids, procfs=opened.procfs, workers=args.workers, progress=progress)
        origin = origin_of(args, opened.procfs, time.time())
        hidden = None if pids else Source(opened.procfs).hidden_by()
    denied = [libs.errors[pid] for pid, why in libs.outcomes.items() if why == "denied"]
    failures = [(pid, libs.errors[pid]) for pid, why in libs.outcomes.items() if why == "failed"]
    matching = [
        (path, use) for path, use in libs.items() if args.filter is None or args.filter.search(path)
    ]
    several = any(use.files > 1 for _, use in matching)
    if args.by == "path":
        head = ["path", "files", "processes"]
        table_fields = ["files", "processes"] if several else ["processes"]
        records = [_record(path, use, files=use.files) for path, use in matching]
    else:
        head = ["path", "dev", "inode", "processes"]
        table_fields = ["processes", "dev", "inode"] if several else ["processes"]
        records = [
            _record(path, part, dev=dev, inode=inode)
            for path, use in matching
            for (dev, inode), part in use.parts.items()
        ]
        records.sort(key=lambda record: record["pss"] or 0, reverse=True)
    defaults = [*head, *UNREAD]
    names = selected_fields(args, field_names(records, defaults), DEFAULT_SIZES)
    more = [name for name in table_fields if name not in names]
    show(
        args,
        records,
        [*columns_of([*names, *more], size_format(args)), text("path")],
        defaults=defaults,
        note=coverage_note(libs.coverage, failures, opened.procfs, hidden, denied),
        origin=origin,
        kind="files",
        fields=output_fields(args, *head, *names),
    )
    opened.status = check_matches(args, records, "path") or opened.status
    if is_failure(libs.coverage):
        opened.status = 1
    if pids:
        for error in libs.errors.values():
            print_error(error)
            opened.status = 1
    return opened.status


def _record(path: str, use: fastsmaps.LibUse, **head: object) -> Record:
    return {"path": path, **head, "processes": use.processes, **use.totals}
