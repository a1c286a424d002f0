"""fastsmaps top: a live ps, within a CPU budget."""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import sys
import threading
import time

import fastsmaps
from fastsmaps._host.scan import seen
from fastsmaps._model.processes import is_failure
from fastsmaps.cli.coverage import scan_note
from fastsmaps.cli.options import add_limits, add_output, add_sampling, count, is_table
from fastsmaps.cli.output import CommandLine, print_error, wrapped
from fastsmaps.cli.process_argument import add_pids, parse_pids
from fastsmaps.cli.process_filter import add_user, check_matches, condition, parse_users
from fastsmaps.cli.procfs_option import open_procfs
from fastsmaps.cli.records_output import (
    DEFAULT_SIZES,
    number,
    parse_sort,
    show,
    size_format,
    sizes,
    text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastsmaps._model.process_totals import ProcessTotals
    from fastsmaps._model.processes import Scan
    from fastsmaps.cli.output import Record

EXAMPLES = """\
  fastsmaps top                          h shows all keys
  fastsmaps top --budget 0.05            use up to 5 % of a core instead of 1 %
  fastsmaps top 1234 1235                only these processes
  fastsmaps top -u alice                 only those of this user
  fastsmaps top --filter python          only command lines that contain "python"
  fastsmaps top --iterations 3 --json    three samples, for scripts

Enter opens a process, / searches, t shows trees, g groups, h lists all keys, q quits. ~ marks an
estimate: a value read earlier, scaled by the current Rss.
"""

# The head, an empty line above the note, and the prompt.
_LINES_AROUND_TABLE = 3


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
    add_output(parser, filters="processes whose command line or name", short_limit=False)


def run(args: argparse.Namespace) -> int:
    """Show the processes again and again."""
    gc.enable()  # off for commands that end soon
    if args.sort:
        # Report a wrong field before reading; JSON and CSV do not have the command.
        parse_sort(args.sort, [*_defaults(), "command"] if is_table(args) else _defaults())
    pids = parse_pids(args)
    users = parse_users(args)
    live = is_table(args) and _has_screen()
    with open_procfs(args.procfs) as opened:
        missing = [row for row in seen(pids or (), procfs=opened.procfs) if row.comm is None]
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
            # The screen groups by these.
            cgroup=live,
            exe=live,
            max_rss=args.max_rss,
            exclude=() if selected is None else lambda row: not selected(row),
        ) as sampler:
            status = (_show_live if live else _print)(args, sampler)
        opened.status = status or opened.status
    return opened.status


def _has_screen() -> bool:
    """Whether there is a terminal for the live screen, and Textual, which draws it."""
    streams = (sys.stdin, sys.stdout, sys.stderr)  # Textual writes to standard error
    if not all(stream is not None and stream.isatty() for stream in streams):
        return False
    if os.environ.get("TERM", "dumb") == "dumb" or sys.stdout.encoding.lower() != "utf-8":
        return False
    if threading.current_thread() is not threading.main_thread():
        return False  # it could not handle signals
    try:
        import textual  # noqa: F401 - only whether it is there
    except ImportError:
        print_error('the live screen needs Textual: pip install "textual>=8"')
        return False
    return True


def _show_live(args: argparse.Namespace, sampler: fastsmaps.Sampler) -> int:
    """Show the live screen; after --iterations the last scan stays on the terminal as a table."""
    from fastsmaps.cli.screen.sweeps import Sweeps

    sweeps = Sweeps(
        sampler,
        lambda: _sweep(args, sampler),
        interval=args.interval,
        iterations=args.iterations,
    )
    with contextlib.closing(sweeps):
        from fastsmaps.cli.screen.app import TopApp, kept_terminal
        from fastsmaps.cli.screen.processes import Choices

        choices = Choices()
        if args.sort:
            choices.sort_by(*parse_sort(args.sort, [*_defaults(), "command"]))
        choices.limit = args.limit
        choices.reverse ^= args.reverse
        app = TopApp(sweeps, choices)
        with kept_terminal():
            status = app.run()
    if app.failure is not None:
        raise app.failure
    if args.iterations and app.last_scan is not None:
        _print_scan(args, app.last_scan)
    return (app.return_code or 1) if status is None else status


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


def _print(args: argparse.Namespace, sampler: fastsmaps.Sampler) -> int:
    """Print a table for each sweep, one below the other; return the exit status.

    On a terminal until it is interrupted, elsewhere once, unless --iterations is given.
    """
    left = args.iterations
    if left is None and not sys.stdout.isatty():
        left = 1
    samples = failed = 0
    matched = left == 0
    while left is None or samples < left:
        if samples:
            time.sleep(args.interval)
        scan = _sweep(args, sampler)
        samples += 1
        matched = matched or len(scan) > 0
        failed += is_failure(scan.coverage)
        _print_scan(args, scan)
        sys.stdout.flush()
    return check_matches(args, matched, "process") or int(failed > 0 and failed == samples)


def _height(note: str) -> int | None:
    """Return how many rows of a table fit on the terminal above a note; None elsewhere."""
    if not sys.stdout.isatty():
        return None
    size = os.get_terminal_size(sys.stdout.fileno())
    lines = wrapped(note, size.columns).count("\n") + 1
    return max(1, size.lines - _LINES_AROUND_TABLE - lines)


def _print_scan(args: argparse.Namespace, scan: Scan) -> None:
    note = scan_note(scan)
    rows = _height(note)
    unit = size_format(args)
    records = list(map(_record, scan.sort("pss", reverse=True)))
    if args.json or args.csv:
        for record in records:
            del record["command"]
    if is_table(args) and rows is not None and args.limit is None:
        args = argparse.Namespace(**{**vars(args), "limit": rows})
    show(
        args,
        records,
        [number("pid"), text("user"), *sizes(DEFAULT_SIZES, unit), text("command")],
        defaults=_defaults(),
        note=note,
        in_table=lambda record: record["outcome"] == "read",
    )
