"""fastsmaps totals: all that the kernel sums up of some processes."""

from __future__ import annotations

from fastsmaps import Error
from fastsmaps.cli.arguments import add_output
from fastsmaps.cli.choose import check_matches
from fastsmaps.cli.listing import Column, arranged, names_of, show, text, written
from fastsmaps.cli.output import complain
from fastsmaps.cli.replay import opened
from fastsmaps.cli.target import add_target, command_line, number_of, totals_of
from fastsmaps.processes import NOTHING

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from fastsmaps.cli.output import Record

EXAMPLES = """\
  fastsmaps totals 1234              a line a field
  fastsmaps totals self 1 --human    two processes side by side
  fastsmaps totals 1234 --json       in bytes; null is what the kernel did not print
  xzcat saved.xz | fastsmaps totals -
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The processes."""
    add_target(parser, many=True)
    add_output(parser, filters="command line")


def run(args: argparse.Namespace) -> int:
    """Prints the totals of each that can be read; 1 if one cannot."""
    records: list[Record] = []
    with opened(args.procfs) as replay:
        for target in args.target:
            try:
                if args.filter and not args.filter.search(command_line(target, replay.procfs)):
                    continue
                totals = totals_of(target, replay.procfs)
                number = number_of(target, replay.procfs)
            except Error as error:
                complain(error)
                replay.status = 1
                continue
            head = {"pid": number, "target": target, "source": totals.source}
            records.append({**head, **totals.as_dict()})
    if not replay.status:  # what could not be read may have matched
        replay.status = check_matches(args, records, "process")
    known = ["pid", "target", "source", *NOTHING.as_dict()]
    if args.json or args.csv:
        show(args, records, [], known=known)
    elif records:
        _show_side_by_side(args, arranged(records, names_of(records), args.sort, args.limit))
    return replay.status


def _show_side_by_side(args: argparse.Namespace, records: list[Record]) -> None:
    """A line a field, a column a process: so that all of it fits a terminal."""
    unit = written(args)
    names = [name for name in names_of(records) if name not in ("pid", "target", "source")]
    rows: list[Record] = [
        {"field": name, **{str(i): record.get(name) for i, record in enumerate(records)}}
        for name in names
        if any(record.get(name) is not None for record in records)
    ]

    def column(place: str, head: str) -> Column:
        return Column(head, lambda row: unit(row[place]))

    columns = [text("field", "SIZE" if args.human else "KiB")]
    columns += [column(str(i), record["target"][-20:]) for i, record in enumerate(records)]
    args.sort = args.limit = None
    show(args, rows, columns, known=["field"])
