"""fastsmaps totals: every summed field of the given processes."""

from __future__ import annotations

import fastsmaps
from fastsmaps import Error
from fastsmaps._model.grouping import search
from fastsmaps._model.totals import UNREAD
from fastsmaps._output.display import kib
from fastsmaps.cli.options import UsageError, add_output, is_table
from fastsmaps.cli.output import print_error, print_note
from fastsmaps.cli.process_argument import (
    add_target,
    is_pid,
    named_process,
    parse_pid,
    read_totals,
    shown_pid,
)
from fastsmaps.cli.process_filter import Match, check_matches, select_processes
from fastsmaps.cli.procfs_option import open_procfs
from fastsmaps.cli.progress import progress_bar
from fastsmaps.cli.records_output import (
    Column,
    field_names,
    show,
    size_format,
    sort_and_limit,
    text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from fastsmaps.cli.output import Record

EXAMPLES = """\
  fastsmaps totals 1234              one line per field
  fastsmaps totals nginx             of the one process of that name
  fastsmaps totals --tree 1234       the sum of 1234 and all its descendants
  fastsmaps totals self 1            two processes side by side
  fastsmaps totals 1234 --json       in bytes; null for what the kernel did not report
  xzcat saved.xz | fastsmaps totals -
"""


_HEAD = ("pid", "target", "source")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of totals."""
    add_target(parser, many=True)
    parser.add_argument(
        "--tree",
        action="store_true",
        help="sum these processes and all their descendants, each counted once",
    )
    add_output(parser, filters="processes whose command line or name")


def run(args: argparse.Namespace) -> int:
    """Print the totals of every process that can be read; return 1 if one cannot."""
    if args.tree:
        return _tree(args)
    records: list[Record] = []
    with open_procfs(args.procfs) as opened:
        match = None if args.filter is None else Match(args.filter, opened.procfs)
        for target in args.target:
            try:
                process = named_process(target, opened.procfs)
                if match is not None and not _matches(match, process, opened.procfs):
                    continue
                totals = read_totals(process, opened.procfs)
                number = shown_pid(process, opened.procfs)
            except Error as error:
                print_error(error)
                opened.status = 1
                continue
            head = {"pid": number, "target": target, "source": totals.source}
            records.append({**head, **totals.as_dict()})
    if not opened.status:  # an unread process might have matched
        opened.status = check_matches(args, records, "process")
    defaults = [*_HEAD, *UNREAD]
    _show(args, records, defaults)
    return opened.status


def _matches(match: Match, target: str, procfs: str) -> bool:
    """Whether --filter matches a process, or the name of a file."""
    if not is_pid(target):
        return search(match.pattern, target) is not None
    with fastsmaps.Process(parse_pid(target), procfs=procfs) as process:
        return match(process.info())


def _show(args: argparse.Namespace, records: list[Record], defaults: list[str]) -> None:
    if args.json or args.csv:
        show(args, records, [], defaults=defaults)
    elif records:
        records = sort_and_limit(args, records, field_names(records))
        _show_side_by_side(args, records)


def _tree(args: argparse.Namespace) -> int:
    """Print one sum over the trees of all targets; return 1 if a target cannot be read."""
    from fastsmaps._model.tree import is_missing
    from fastsmaps.cli.coverage import scan_note

    with open_procfs(args.procfs) as opened:
        pids = _roots(args, opened.procfs)
        selection = select_processes(args, opened.procfs, pids, tree=True)
        with progress_bar("reading processes"):
            scan = selection.drop_reused(fastsmaps.scan(selection.pids, procfs=opened.procfs))
        named = [row for row in scan if row.pid in pids]
        for row in named:
            if row.totals is None and row.shares_memory_with is None:
                print_error(row.error or row.outcome)
                opened.status = 1
        if not opened.status:
            opened.status = check_matches(args, scan, "process")
    read = scan.coverage["read"]
    totals = scan.totals()
    records: list[Record] = []
    if any(row.comm is not None or row.totals is not None for row in scan):
        head = {
            "pid": pids[0] if len(pids) == 1 else None,
            "target": " ".join(args.target),
            "source": totals.source if read else None,
            "processes": read,
            "unread": sum(map(is_missing, scan)),
        }
        records = [{**head, **totals.as_dict()}]
    _show(args, records, [*_HEAD, "processes", "unread", *UNREAD])
    if records and is_table(args):
        note = f"{scan_note(scan)}\n{selection.note}".rstrip()
        print_note(f"\n{note}")
    return opened.status


def _roots(args: argparse.Namespace, procfs: str) -> list[int]:
    pids = []
    for target in args.target:
        target = named_process(target, procfs)
        number = shown_pid(target, procfs)
        if number is None:
            raise UsageError(f"totals: --tree expected a pid, got {target!r}")
        parse_pid(target)  # Error for an invalid number
        pids.append(number)
    return pids


def _show_side_by_side(args: argparse.Namespace, records: list[Record]) -> None:
    """Print a line for each field and a column for each process, to fit a terminal."""
    unit = size_format(args)
    heads = (*_HEAD, "processes", "unread")
    names = [name for name in field_names(records) if name not in heads]
    rows: list[Record] = [
        {"field": name, **{str(i): record.get(name) for i, record in enumerate(records)}}
        for name in names
        if any(record.get(name) is not None for record in records)
    ]

    def column(place: str, head: str) -> Column:
        return Column(head, lambda row: unit(row[place]))

    columns = [text("field", "KiB" if unit is kib else "SIZE")]
    columns += [column(str(i), record["target"][-20:]) for i, record in enumerate(records)]
    args.sort, args.reverse, args.limit = None, False, None
    show(args, rows, columns, defaults=["field"])
