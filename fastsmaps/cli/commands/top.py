"""fastsmaps top: a live ps, within a CPU budget."""

from __future__ import annotations

import gc
import sys
import time

import fastsmaps
from fastsmaps._host.scan import seen
from fastsmaps._model.processes import is_failure
from fastsmaps._output.display import escaped
from fastsmaps.cli.coverage import coverage_text, scan_note
from fastsmaps.cli.options import add_limits, add_output, add_sampling, count, is_table
from fastsmaps.cli.output import CommandLine, plain_lines, print_error
from fastsmaps.cli.process_argument import add_pids, parse_pids
from fastsmaps.cli.process_filter import add_user, check_matches, condition, parse_users
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

    from fastsmaps._model.process_totals import ProcessTotals
    from fastsmaps._model.processes import Scan
    from fastsmaps.cli.output import Record

EXAMPLES = """\
  fastsmaps top                          sort with a key: p Pss, u Uss, r Rss, s swap, c command
  fastsmaps top --budget 0.05            use up to 5 % of a core instead of 1 %
  fastsmaps top 1234 1235                only these processes
  fastsmaps top -u alice                 only those of this user
  fastsmaps top --filter python          only command lines that contain "python"
  fastsmaps top --iterations 3 --json    three samples, for scripts

keys: p u r s c sort, R reverses the order, q quits. ~ marks an estimate: a value read earlier,
scaled by the current Rss.
"""

_KEYS = {"p": "pss", "u": "uss", "r": "rss", "s": "swap", "c": "command"}
_DIRECTIONS = {"+": " ascending", "-": " descending"}
_HEADS = ("PID", "USER", "PSS", "USS", "RSS", "SWAP", "AGE", "COMMAND")
_LEFT = ("USER", "COMMAND")
# The part of the budget that drawing may take.
_MAX_DRAWING_SHARE = 1 / 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of top."""
    add_pids(parser)
    add_user(parser)
    add_sampling(parser, interval=2.0)
    parser.add_argument(
        "-n",
        "--iterations",
        metavar="N",
        type=count,
        help="stop after N samples (default: 1 if standard output is not a terminal)",
    )
    add_limits(parser)
    # -n is --iterations, as in top and htop.
    add_output(parser, filters="processes whose command line", short_limit=False)


def run(args: argparse.Namespace) -> int:
    """Show the processes again and again."""
    gc.enable()  # off for commands that end soon
    live = sys.stdout.isatty() and sys.stdin is not None and sys.stdin.isatty()
    live = live and is_table(args)
    if args.sort:
        # Report a wrong field before reading; JSON and CSV do not have the command.
        parse_sort(args.sort, [*_defaults(), "command"] if is_table(args) else _defaults())
    pids = parse_pids(args)
    users = parse_users(args)
    with open_procfs(args.procfs) as opened:
        missing = [row for row in seen(pids, procfs=opened.procfs) if row.comm is None]
        for row in missing:
            print_error(row.error or row.outcome)
            opened.status = 1
        if pids and len(missing) == len(set(pids)):
            return opened.status
        selected = condition(args, opened.procfs, pids, users)
        with fastsmaps.Sampler(
            budget=args.budget,
            procfs=opened.procfs,
            cmdline=True,
            max_rss=args.max_rss,
            exclude=() if selected is None else lambda row: not selected(row),
        ) as sampler:
            if live:
                with own_terminal() as terminal:
                    _Screen(args, sampler, terminal).run()
            else:
                opened.status = _print(args, sampler) or opened.status
    return opened.status


def _sweep(args: argparse.Namespace, sampler: fastsmaps.Sampler) -> Scan:
    """Return a sweep of the selected processes."""
    scan = sampler.sweep()
    if args.filter is None and args.user is None and not args.target and not args.pid:
        return scan
    # A process that the budget has not reached yet has no comm.
    return scan.filter(
        lambda row: row.error != "excluded" and (row.comm is not None or row.outcome != "skipped")
    )


def _defaults() -> list[str]:
    return [*fastsmaps.ProcessTotals(0, "read").as_dict(), "age", "estimated"]


def _record(row: ProcessTotals) -> Record:
    return {
        **row.as_dict(),
        "age": row.age,
        "estimated": row.estimated,
        "command": CommandLine(row),
    }


def _marked(record: Record, unit: Callable[[int | None], str], name: str) -> str:
    """Format a size; estimates are marked with ~."""
    value = unit(record.get(name))
    return f"~{value}" if record["estimated"] and name != "swap" else value


def _age(record: Record) -> str:
    age = record["age"]
    return "-" if age is None else f"{age:.0f}s"


def _print(args: argparse.Namespace, sampler: fastsmaps.Sampler) -> int:
    """Print the output of each sweep, without a live screen; return the exit status."""
    unit = size_format(args)
    samples = 1 if args.iterations is None else args.iterations
    matched = not samples
    failed = 0
    for i in range(samples):
        if i:
            time.sleep(args.interval)
        scan = _sweep(args, sampler)
        matched = matched or len(scan) > 0
        failed += is_failure(scan.coverage)
        records = list(map(_record, scan.sort("pss", reverse=True)))
        if args.json or args.csv:
            for record in records:
                del record["command"]
        show(
            args,
            records,
            [number("pid"), text("user"), *sizes(DEFAULT_SIZES, unit), text("command")],
            defaults=_defaults(),
            note=scan_note(scan),
            in_table=lambda record: record["outcome"] == "read",
        )
        sys.stdout.flush()
    return check_matches(args, matched, "process") or int(failed > 0 and failed == samples)


class _Screen:
    """The live screen and its keys."""

    def __init__(
        self, args: argparse.Namespace, sampler: fastsmaps.Sampler, terminal: Terminal
    ) -> None:
        self.args = args
        self.sampler = sampler
        self.terminal = terminal
        self.field, self.direction = "pss", ""
        self.reversed = args.reverse
        # Wall and CPU time after the first sweep, which is not charged.
        self.began: tuple[float, float] | None = None
        if args.sort:
            self.field, self.direction = parse_sort(args.sort, [*_defaults(), "command"])

    def run(self) -> None:
        samples = self.args.iterations
        while samples is None or samples > 0:
            samples = None if samples is None else samples - 1
            cpu = time.process_time()
            scan = _sweep(self.args, self.sampler)
            self.began = self.began or (time.monotonic(), time.process_time())
            before = time.process_time()
            self.draw(scan)
            drawing = time.process_time() - before
            # With thousands of processes drawing alone would take more than the budget.
            pause = max(self.args.interval, drawing / (self.args.budget * _MAX_DRAWING_SHARE))
            until = time.monotonic() + pause
            while (left := until - time.monotonic()) > 0:
                key = self.terminal.key(left)
                if key == "q":
                    return
                if key == "R":
                    self.reversed = not self.reversed
                elif key in _KEYS:
                    self.field, self.direction, self.reversed = _KEYS[key], "", False
                elif key != REDRAW:
                    continue
                self.draw(scan)
            self.sampler.charge(max(0.0, time.process_time() - cpu - scan.cost.cpu))

    def lines(self, scan: Scan, width: int, height: int) -> tuple[list[str], list[list[str]]]:
        """Return the two lines at the top of the screen, and the table's cells."""
        rows = [row for row in scan if row.outcome == "read"]
        ages = [row.age for row in rows if row.age is not None]
        field = self.field
        # Only the rows that are shown get all of their values.
        records: list[Record] = [
            {"row": row, field: CommandLine(row) if field == "command" else getattr(row, field)}
            for row in rows
        ]
        own = default_direction(records, self.field)
        direction = self.direction or own
        if self.reversed:
            direction = "+" if direction == "-" else "-"
        records = sort_records(records, self.field, direction)
        sums = scan.totals()
        unit = size_format(self.args)
        head = [
            f"Pss {unit(sums.pss)}  Rss {unit(sums.rss)}  {coverage_text(scan.coverage)}",
            f"budget {self.args.budget:.1%}{self.used()}, oldest value "
            f"{max(ages, default=0):.0f} s; by "
            + self.field
            + ("" if direction == own else _DIRECTIONS[direction])
            + ": p u r s c R, q quits",
        ]
        max_rows = height - 3 if self.args.limit is None else min(height - 3, self.args.limit)
        cells = [
            [
                str(record["pid"]),
                record["user"] or "?",
                *(_marked(record, unit, name) for name in DEFAULT_SIZES),
                _age(record),
                str(record["command"])[:width],
            ]
            for record in (_record(ranked["row"]) for ranked in records[: max(0, max_rows)])
        ]
        return [line[:width] for line in head], [[escaped(cell) for cell in row] for row in cells]

    def used(self) -> str:
        """Return the share of one core that the whole command takes, once it is known."""
        if self.began is None or time.monotonic() - self.began[0] < 1:
            return ""
        wall, cpu = self.began
        return f", used {(time.process_time() - cpu) / (time.monotonic() - wall):.1%}"

    def draw(self, scan: Scan) -> None:
        width, height = self.terminal.size()
        head, rows = self.lines(scan, width, height)
        lines = _head_in_bold(plain_lines(_HEADS, rows, _LEFT, width))
        # Cursor home, then clear to the end of each line and below: no flicker.
        text = "\x1b[H" + "".join(f"{line}\x1b[K\r\n" for line in [*head, *lines[: height - 2]])
        self.terminal.write(text.removesuffix("\r\n") + "\x1b[J")


def _head_in_bold(lines: list[str]) -> list[str]:
    """Return a table's lines for a terminal; rich would take 10 ms for 40 rows, 1 % of 1 s."""
    return [f"\x1b[1m{lines[0]}\x1b[0m", *lines[1:]]
