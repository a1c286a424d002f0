"""fastsmaps libs: each mapped file over all processes."""

from __future__ import annotations

import time

import fastsmaps
from fastsmaps.cli.arguments import add_output, add_workers
from fastsmaps.cli.choose import check_matches
from fastsmaps.cli.coverage import note
from fastsmaps.cli.listing import FIGURES, number, origin_of, show, sizes, text, written
from fastsmaps.cli.output import complain
from fastsmaps.cli.replay import opened
from fastsmaps.cli.target import pids_of
from fastsmaps.cli.working import working
from fastsmaps.processes import NOTHING, is_failure
from fastsmaps.procfs import is_procfs
from fastsmaps.rights import hidden_by
from fastsmaps.totals import beside

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from fastsmaps.cli.output import Record

EXAMPLES = """\
  fastsmaps libs --limit 20            the twenty files with most Pss
  fastsmaps libs --filter '\\.so'       shared libraries
  fastsmaps libs --sort processes      what most processes map
  fastsmaps libs 1234 1235             of these alone
  fastsmaps libs --parquet libs.parquet  for DuckDB, Spark, pandas: with host and time
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which processes."""
    parser.add_argument("target", nargs="*", metavar="PID", help="these processes alone")
    add_workers(parser)
    add_output(parser, filters="path", parquet=True)


def run(args: argparse.Namespace) -> int:
    """Prints every mapped file."""
    pids = pids_of(args.target) or None
    with opened(args.procfs) as replay, working("reading mappings") as progress:
        libs = fastsmaps.libs(pids, procfs=replay.procfs, workers=args.workers, progress=progress)
        origin = origin_of(args, replay.procfs, time.time())
        hidden = None if pids or not is_procfs(replay.procfs) else hidden_by(replay.procfs)
    records: list[Record] = [
        beside({"path": path, "processes": use.processes}, use.totals)
        for path, use in libs.items()
        if args.filter is None or args.filter.search(path)
    ]
    failures = [(pid, libs.errors[pid]) for pid, why in libs.outcomes.items() if why == "failed"]
    unit = written(args)
    show(
        args,
        records,
        [*sizes(FIGURES, unit), number("processes"), text("path")],
        known=["path", "processes", *NOTHING.as_dict()],
        note=note(libs.coverage, failures, replay.procfs, hidden),
        origin=origin,
    )
    replay.status = check_matches(args, records, "path") or replay.status
    if is_failure(libs.coverage):
        replay.status = 1
    if pids:
        for error in libs.errors.values():
            complain(error)
            replay.status = 1
    return replay.status
