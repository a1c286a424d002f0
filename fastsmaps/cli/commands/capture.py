"""fastsmaps capture: save processes for the other commands to read with --procfs."""

from __future__ import annotations

import fastsmaps
from fastsmaps._model.processes import is_failure
from fastsmaps.cli.coverage import scan_note
from fastsmaps.cli.options import UsageError, add_output
from fastsmaps.cli.output import note_written, print_error, print_note
from fastsmaps.cli.process_argument import add_pids, parse_pids
from fastsmaps.cli.process_filter import check_matches, select_processes
from fastsmaps.cli.procfs_option import open_procfs
from fastsmaps.cli.progress import progress_bar
from fastsmaps.cli.records_output import DEFAULT_SIZES, number, show, size_format, sizes, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
  fastsmaps capture -o host7.tar.gz        all processes, in one file
  fastsmaps capture -o bug42 1234 1235     these two, in a directory
  fastsmaps capture -o web.tar --filter nginx
  fastsmaps ps --procfs host7.tar.gz       show it
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of capture."""
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        required=True,
        help="a new directory, or a tar archive if it ends in .tar, .tar.gz, .tgz or .tar.xz",
    )
    add_pids(parser)
    add_output(parser, filters="processes whose command line or name")


def run(args: argparse.Namespace) -> int:
    """Save the processes and print what was saved."""
    pids = parse_pids(args) or None
    with open_procfs(args.procfs) as opened:
        selection = select_processes(args, opened.procfs, pids)
        if status := check_matches(args, selection.pids, "process"):
            if args.json or args.csv:
                show(args, [], [], defaults=["pid", "outcome"])
            return status
        with progress_bar("saving processes") as progress:
            try:
                scan = fastsmaps.capture(
                    args.output, selection.pids, procfs=opened.procfs, progress=progress
                )
            except ValueError as error:  # an invalid name for a capture
                if isinstance(error, fastsmaps.Error):
                    raise
                raise UsageError(f"capture: {error}") from None
    note_written(args.output)
    unit = size_format(args)
    if args.json or args.csv:
        show(args, [row.as_dict() for row in scan], [], defaults=["pid", "outcome"])
    else:
        if pids:
            columns = [number("pid"), text("outcome"), *sizes(DEFAULT_SIZES, unit), text("comm")]
            show(args, [row.as_dict() for row in scan], columns, defaults=["pid"])
        print_note(scan_note(scan))
    if is_failure(scan.coverage):
        opened.status = 1
    if pids:
        for row in scan:
            if row.outcome != "read":
                print_error(row.error or row.outcome)
                opened.status = 1
    return opened.status
