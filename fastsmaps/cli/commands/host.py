"""fastsmaps host: where a host's memory went, in rows that add up to MemTotal."""

from __future__ import annotations

import fastsmaps
from fastsmaps._model.processes import is_failure
from fastsmaps._model.sizes import human
from fastsmaps.cli.coverage import scan_note
from fastsmaps.cli.options import (
    add_limits,
    add_output,
    add_workers,
    seconds,
)
from fastsmaps.cli.process_filter import check_matches
from fastsmaps.cli.procfs_option import open_procfs
from fastsmaps.cli.progress import progress_bar
from fastsmaps.cli.records_output import (
    Column,
    show,
    shown_percent,
    size_format,
    sizes,
    text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from fastsmaps.cli.output import Record

EXAMPLES = """\
  fastsmaps host                       all of this host's memory, by purpose
  fastsmaps host --sort size           the largest first
  fastsmaps host --filter 'slab|page'  only these rows
  fastsmaps host --json                every row that was read, in bytes
  fastsmaps host --procfs host7.tar.gz   of a capture: without zram
  fastsmaps host --procfs /host/proc --sysfs /host/sys   of the host, in a container
"""

_FIELDS = ("name", "size", "percent", "about")
# Parts that are not in meminfo, and huge pages of sizes that it does not divide.
_ELSEWHERE = ("zram", "free_per_cpu")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of host."""
    parser.add_argument(
        "--sysfs",
        metavar="DIR",
        help="a host's /sys, for zram and huge pages (default: /sys, unless --procfs is a capture)",
    )
    add_limits(parser)
    parser.add_argument(
        "--timeout",
        metavar="TIME",
        type=seconds,
        help="skip processes not read within this time: they are in the row unread",
    )
    add_workers(parser)
    add_output(parser, filters="rows whose name")


def run(args: argparse.Namespace) -> int:
    """Print the account."""
    with open_procfs(args.procfs) as opened:
        with progress_bar("reading processes") as progress:
            scan = fastsmaps.scan(
                procfs=opened.procfs,
                workers=args.workers,
                max_rss=args.max_rss,
                timeout=args.timeout,
                progress=progress,
            )
        account = fastsmaps.host(scan=scan, sysfs=args.sysfs)
        if is_failure(scan.coverage):
            opened.status = 1
        records: list[Record] = [
            {
                "name": row.name,
                "size": row.size,
                "percent": round(100 * row.size / account.total, 3),
                "about": row.about,
            }
            for row in account.rows
            if args.filter is None or args.filter.search(row.name)
        ]
        opened.status = check_matches(args, records, "row") or opened.status
        unit = size_format(args)
        percent = Column("MEM%", lambda record: shown_percent(record["percent"]))
        show(
            args,
            records,
            [*sizes(["size"], unit), percent, text("name"), text("about")],
            defaults=_FIELDS,
            total=[unit(account.total), "100.0", "total", "MemTotal"] if not args.filter else (),
            note="\n".join([scan_note(scan), *_notes(account)]),
            in_table=lambda record: record["size"] > 0,
        )
    return opened.status


def _notes(account: fastsmaps.HostAccount) -> list[str]:
    """Return lines on what the rows lack."""
    notes = []
    known = account.as_dict()
    missing = [name for name in _ELSEWHERE if known[name] is None]
    if missing:
        notes.append(f"not read: {', '.join(missing)}")
    if account.excess:
        notes.append(f"{human(account.excess)} more was read than fits: values of other moments")
    if balloon := account.meminfo.get("Balloon"):
        notes.append(f"a balloon returned {human(balloon)} to the hypervisor, beside MemTotal")
    return notes
