"""fastsmaps top: a live ps, within a CPU budget."""

from __future__ import annotations

import gc
import sys
import time

import fastsmaps
from fastsmaps._model.processes import is_failure
from fastsmaps._output.display import escaped
from fastsmaps.cli.coverage import note_of, read_of
from fastsmaps.cli.options import add_limits, add_output, add_sampling, count, is_table
from fastsmaps.cli.output import CommandLine, plain_lines
from fastsmaps.cli.process_filter import Match, check_matches
from fastsmaps.cli.procfs_option import open_procfs
from fastsmaps.cli.records_output import (
    DEFAULT_SIZES,
    default_direction,
    number,
    parse_sort,
    show,
    size_format,
    sizes,
    sort_records,
    text,
)
from fastsmaps.cli.terminal import REDRAW, Terminal, own_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from fastsmaps._model.processes import Scan
    from fastsmaps.cli.output import Record

EXAMPLES = """\
  fastsmaps top                          sort with a key: p Pss, u Uss, r Rss, s swap, c command
  fastsmaps top --budget 0.05            use up to 5 % of a core instead of 1 %
  fastsmaps top --filter python          only command lines that contain "python"
  fastsmaps top --iterations 3 --json    three samples, for scripts

keys: p u r s c sort, R reverses the order, q quits. ~ marks an estimate: a value read earlier,
scaled by the current Rss.
"""

_KEYS = {"p": "pss", "u": "uss", "r": "rss", "s": "swap", "c": "command"}
_DIRECTIONS = {"+": " ascending", "-": " descending"}
_HEADS = ("PID", "USER", "PSS", "USS", "RSS", "SWAP", "AGE", "COMMAND")
_LEFT = ("USER", "COMMAND")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How often, and how much it may cost."""
    add_sampling(parser, interval=2.0)
    parser.add_argument(
        "--iterations",
        metavar="N",
        type=count,
        help="stop after N samples (default: 1 if standard output is not a terminal)",
    )
    add_limits(parser)
    add_output(parser, filters="command line")


def run(args: argparse.Namespace) -> int:
    """Shows the processes again and again."""
    gc.enable()  # off for commands that end soon
    live = sys.stdout.isatty() and sys.stdin is not None and sys.stdin.isatty()
    live = live and is_table(args)
    if args.sort:
        # Told before anything is read; programs are not given the command.
        parse_sort(args.sort, [*_known(), "command"] if is_table(args) else _known())
    with open_procfs(args.procfs) as opened:
        match = None if args.filter is None else Match(args.filter, opened.procfs)
        with fastsmaps.Sampler(
            budget=args.budget,
            procfs=opened.procfs,
            cmdline=True,
            max_rss=args.max_rss,
            exclude=() if match is None else lambda row: not match(row),
        ) as sampler:
            if live:
                with own_terminal() as terminal:
                    _Screen(args, sampler, terminal).run()
            else:
                opened.status = _print(args, sampler) or opened.status
    return opened.status


def _sweep(args: argparse.Namespace, sampler: fastsmaps.Sampler) -> Scan:
    """A sweep, without what --filter leaves out."""
    scan = sampler.sweep()
    if args.filter is None:
        return scan
    # A process that the budget has not reached yet has no name.
    return scan.filter(
        lambda row: row.error != "excluded" and (row.comm is not None or row.outcome != "skipped")
    )


def _known() -> list[str]:
    return [*fastsmaps.ProcessTotals(0, "read").as_dict(), "age", "estimated"]


def _records(scan: Scan) -> list[Record]:
    return [
        {
            **row.as_dict(),
            "age": row.age,
            "estimated": row.estimated,
            "command": CommandLine(row),
        }
        for row in scan
    ]


def _marked(record: Record, unit: Callable[[int | None], str], name: str) -> str:
    """The figure; with a mark where it is an estimate."""
    value = unit(record.get(name))
    return f"~{value}" if record["estimated"] and name != "swap" else value


def _age(record: Record) -> str:
    age = record["age"]
    return "-" if age is None else f"{age:.0f}s"


def _print(args: argparse.Namespace, sampler: fastsmaps.Sampler) -> int:
    """Prints a table for each sweep, where no terminal is; the exit status."""
    unit = size_format(args)
    looks = 1 if args.iterations is None else args.iterations
    found = not looks
    failed = 0
    for look in range(looks):
        if look:
            time.sleep(args.interval)
        scan = _sweep(args, sampler)
        found = found or len(scan) > 0
        failed += is_failure(scan.coverage)
        records = sort_records(_records(scan), "pss")
        if args.json or args.csv:
            for record in records:
                del record["command"]
        show(
            args,
            records,
            [number("pid"), text("user"), *sizes(DEFAULT_SIZES, unit), text("command")],
            known=_known(),
            note=note_of(scan),
            table_of=lambda record: record["outcome"] == "read",
        )
        sys.stdout.flush()
    return check_matches(args, found, "process") or int(failed > 0 and failed == looks)


class _Screen:
    """What is shown on the terminal, and what the keys do."""

    def __init__(
        self, args: argparse.Namespace, sampler: fastsmaps.Sampler, terminal: Terminal
    ) -> None:
        self.args = args
        self.sampler = sampler
        self.terminal = terminal
        self.field, self.direction = "pss", ""
        self.turned = False
        if args.sort:
            self.field, self.direction = parse_sort(args.sort, [*_known(), "command"])

    def run(self) -> None:
        looks = self.args.iterations
        while looks is None or looks > 0:
            looks = None if looks is None else looks - 1
            scan = _sweep(self.args, self.sampler)
            self.draw(scan)
            until = time.monotonic() + self.args.interval
            while (left := until - time.monotonic()) > 0:
                key = self.terminal.key(left)
                if key == "q":
                    return
                if key == "R":
                    self.turned = not self.turned
                elif key in _KEYS:
                    self.field, self.direction, self.turned = _KEYS[key], "", False
                elif key != REDRAW:
                    continue
                self.draw(scan)

    def lines(self, scan: Scan, width: int, height: int) -> tuple[list[str], list[list[str]]]:
        """What is on the screen: two lines above, and the table's cells."""
        records = [r for r in _records(scan) if r["outcome"] == "read"]
        ages = [record["age"] for record in records if record["age"] is not None]
        own = default_direction(records, self.field)
        direction = self.direction or own
        if self.turned:
            direction = "+" if direction == "-" else "-"
        records = sort_records(records, self.field, direction)
        sums = scan.totals()
        unit = size_format(self.args)
        head = [
            f"Pss {unit(sums.pss)}  Rss {unit(sums.rss)}  {read_of(scan.coverage)}",
            f"budget {self.args.budget:.1%}, oldest value {max(ages, default=0):.0f} s; by "
            + self.field
            + ("" if direction == own else _DIRECTIONS[direction])
            + ": p u r s c R, q quits",
        ]
        most = height - 3 if self.args.limit is None else min(height - 3, self.args.limit)
        cells = [
            [
                str(record["pid"]),
                record["user"] or "?",
                *(_marked(record, unit, name) for name in DEFAULT_SIZES),
                _age(record),
                str(record["command"])[:width],
            ]
            for record in records[: max(0, most)]
        ]
        return [line[:width] for line in head], [[escaped(cell) for cell in row] for row in cells]

    def draw(self, scan: Scan) -> None:
        width, height = self.terminal.size()
        head, rows = self.lines(scan, width, height)
        lines = _table(rows, width)
        # Home, each line with what is behind it cleared, and what is below: no flicker.
        text = "\x1b[H" + "".join(f"{line}\x1b[K\r\n" for line in [*head, *lines[: height - 2]])
        self.terminal.write(text.removesuffix("\r\n") + "\x1b[J")


def _table(rows: list[list[str]], width: int) -> list[str]:
    """The lines, by rich in colour where it is installed."""
    try:
        from io import StringIO

        from rich.console import Console

        from fastsmaps.cli.tables import table_of
    except ImportError:
        return plain_lines(_HEADS, rows, _LEFT, width)
    console = Console(
        file=StringIO(), width=width, force_terminal=True, markup=False, highlight=False
    )
    with console.capture() as captured:
        console.print(table_of(_HEADS, rows, _LEFT))
    return captured.get().splitlines()
