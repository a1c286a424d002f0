"""fastsmaps report: one HTML page on a host or a capture."""

from __future__ import annotations

import time

import fastsmaps
from fastsmaps._model.processes import is_failure
from fastsmaps.cli.coverage import scan_note
from fastsmaps.cli.options import (
    add_limits,
    add_procfs,
    add_workers,
    file_to_write,
    seconds,
)
from fastsmaps.cli.output import print_note
from fastsmaps.cli.plot_option import command_line, save_page
from fastsmaps.cli.procfs_option import open_procfs
from fastsmaps.cli.progress import progress_bar

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
  fastsmaps report -o report.html                       this host
  fastsmaps report -o then.html --procfs host7.tar.gz   a capture
  fastsmaps report -o report.html --timeout 30          what can be read within 30 seconds
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of report."""
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        required=True,
        type=file_to_write,
        help="the page, one HTML file",
    )
    add_limits(parser)
    parser.add_argument(
        "--timeout",
        metavar="TIME",
        type=seconds,
        help="leave out what is not read within this time",
    )
    add_workers(parser)
    add_procfs(parser)


def run(args: argparse.Namespace) -> int:
    """Read every process, its mappings too, and write the page."""
    from fastsmaps import plot

    begun = time.monotonic()
    with open_procfs(args.procfs) as opened:
        with progress_bar("reading processes") as progress:
            scan = fastsmaps.scan(
                procfs=opened.procfs,
                workers=args.workers,
                cgroup=True,
                cmdline=True,
                max_rss=args.max_rss,
                timeout=args.timeout,
                progress=progress,
            )
        left = None if args.timeout is None else max(0.0, begun + args.timeout - time.monotonic())
        with progress_bar("reading mappings") as progress:
            page = plot.report(scan, timeout=left, command=command_line(), progress=progress)
        save_page(page, args.output)
        print_note(scan_note(scan))
    if is_failure(scan.coverage):
        opened.status = 1
    return opened.status
