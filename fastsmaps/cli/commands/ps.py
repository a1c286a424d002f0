"""fastsmaps ps: every process with its Pss, Uss, Rss and swap, largest Pss first."""

from __future__ import annotations

import time

import fastsmaps
from fastsmaps._host.cgroups import WORDS as CGROUP_WORDS
from fastsmaps._host.cgroups import of_several_groups
from fastsmaps._model.cgroup_memory import NAMES as MEMORY
from fastsmaps._model.cgroup_memory import PARTS
from fastsmaps._model.processes import is_failure
from fastsmaps._model.totals import UNREAD
from fastsmaps._model.tree import forest, is_missing, walk
from fastsmaps.cli.coverage import scan_note
from fastsmaps.cli.fields_option import (
    add_fields,
    columns_of,
    output_fields,
    requested_fields,
    selected_fields,
    total_cells,
)
from fastsmaps.cli.options import (
    BY_HELP,
    UsageError,
    add_groups,
    add_limits,
    add_output,
    add_workers,
    group_keys,
    is_table,
    named_groups,
    seconds,
    size,
)
from fastsmaps.cli.output import CommandLine, print_error, terminal_width
from fastsmaps.cli.plot_option import add_plot, command_line, save_page
from fastsmaps.cli.process_argument import add_pids, parse_pids
from fastsmaps.cli.process_filter import add_user, check_matches, parse_users, select_processes
from fastsmaps.cli.procfs_option import open_procfs
from fastsmaps.cli.progress import progress_bar
from fastsmaps.cli.records_output import (
    DEFAULT_SIZES,
    PERCENT,
    Column,
    field_names,
    key_columns,
    number,
    origin_of,
    parse_sort,
    show,
    size_format,
    sort_records,
    text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from fastsmaps._model.grouping import Keys
    from fastsmaps._model.process_totals import ProcessTotals
    from fastsmaps._model.processes import Scan
    from fastsmaps.cli.output import Record

EXAMPLES = """\
  fastsmaps ps --by user             one line per user; also comm, container, unit, cgroup, exe
  fastsmaps ps --by user,comm        one line per user and name
  fastsmaps ps --by container --cgroup-memory  beside what the kernel charges each for
  fastsmaps ps --by 'cmdline:--name=(?P<name>\\w+)'  one line per --name
  fastsmaps ps --group 'web=nginx|php' --group 'java={comm}'  groups by command line
  fastsmaps ps --filter python       only command lines that contain "python"
  fastsmaps ps -u alice -p 1,1234    only these processes, if they are of this user
  fastsmaps ps -s swap -n 9          the nine with the most swap; -r reverses the order
  fastsmaps ps --sort rss+swap       by memory in use, including swap
  fastsmaps ps --fields pss,mem%     with the part of the host's memory, in percent
  fastsmaps ps --fields pss,locked,ppid  these fields instead of the usual ones
  fastsmaps ps --json                every field the kernel reports, in bytes
  fastsmaps ps --filter . --json     ... and command lines (slower)
  fastsmaps ps --cgroup --csv        ... and cgroups (slower)
  fastsmaps ps --parquet here.parquet  for DuckDB, Spark, pandas: with host and time
  fastsmaps ps --plot all.html       a treemap of processes and their mappings
  fastsmaps ps --tree                each process below its parent, with the sum of its tree
  fastsmaps ps --tree 1234           the tree of process 1234
  fastsmaps ps --max-rss 1G          skip large processes, which take long to read
"""


# All fields of a process, including those that are read only on request.
_FIELDS = (*fastsmaps.ProcessTotals(0, "read").as_dict(), "cmdline", "exe", PERCENT)
# A narrower terminal's table leaves out MEM%: the command lines would be too short.
_WIDE = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ps."""
    add_pids(parser)
    add_user(parser)
    parser.add_argument(
        "--by", metavar="KEY,...", type=group_keys, help=f"sum processes by {BY_HELP}"
    )
    add_groups(parser)
    parser.add_argument(
        "--cgroup", action="store_true", help="also read and show the cgroup of each process"
    )
    parser.add_argument(
        "--cgroup-memory",
        action="store_true",
        help="with --by container, pod, unit, slice or cgroup: what the kernel charges each for, "
        "and how that differs from Pss",
    )
    parser.add_argument(
        "--tree",
        action="store_true",
        help="each process below its parent, with the sum of its tree; with PID only those trees",
    )
    add_fields(parser)
    add_limits(parser)
    parser.add_argument(
        "--min-rss", metavar="SIZE", type=size, help="skip processes with a smaller Rss"
    )
    parser.add_argument(
        "--timeout",
        metavar="TIME",
        type=seconds,
        help="skip processes not read within this time",
    )
    add_workers(parser)
    add_output(parser, filters="processes whose command line or name", parquet=True)
    add_plot(parser, "a treemap, process > kind > path (reads their mappings too)")


def run(args: argparse.Namespace) -> int:
    """Print every process."""
    args.by = named_groups(args.group, args.by)
    if args.tree and args.by:
        raise UsageError("ps: --tree and --by cannot be combined")
    if args.cgroup_memory and str(args.by) not in CGROUP_WORDS:
        raise UsageError(f"ps: --cgroup-memory needs --by {', '.join(CGROUP_WORDS)}")
    # Command lines cost 15 us a process: they are read only for tables, plots and --filter.
    for_people = (is_table(args) and not args.by) or args.plot is not None
    requested = requested_fields(args, _FIELDS)
    args.cgroup = args.cgroup or "cgroup" in requested
    args.cmdline = args.filter is not None or "cmdline" in requested
    args.exe = "exe" in requested
    width = terminal_width()
    args.percent = is_table(args) and not args.tree and (width is None or width >= _WIDE)
    args.percent |= PERCENT in requested
    reads = {
        "cgroup": args.cgroup,
        "cmdline": for_people or args.cmdline,
        "exe": args.exe,
        "mappings": "mappings" in requested,
        **(args.by.reads if args.by else {}),
    }
    pids = parse_pids(args) or None
    named = set(pids or ())
    users = parse_users(args)
    begun = time.monotonic()
    with open_procfs(args.procfs) as opened:
        args.ram = _ram(opened.procfs) if args.percent else None
        # Not every capture has it.
        args.percent = args.ram is not None or PERCENT in requested
        with progress_bar("reading processes") as progress:
            selection = select_processes(args, opened.procfs, pids, users, tree=args.tree)
            scan = fastsmaps.scan(
                selection.pids,
                procfs=opened.procfs,
                workers=args.workers,
                **reads,
                min_rss=args.min_rss,
                max_rss=args.max_rss,
                timeout=_left(args, begun),
                progress=progress,
            )
        scan = selection.drop_reused(scan)
        opened.status = check_matches(args, scan, "process") or opened.status
        if is_failure(scan.coverage):
            opened.status = 1
        for row in scan if pids else ():
            if row.pid in named and row.outcome != "read":
                print_error(row.error or row.outcome)
                opened.status = 1
        if args.plot:
            _save_plot(args, scan, begun)
        note = _note(scan, selection.note)
        if args.by:
            _show_groups(args, scan, note)
        elif args.tree:
            _show_tree(args, scan, note)
        else:
            _show_processes(args, scan, note)
    return opened.status


def _ram(procfs: str) -> int | None:
    from fastsmaps._source.meminfo import meminfo

    return meminfo(procfs).get("MemTotal") or None


def _percent(args: argparse.Namespace, sizes: Mapping[str, Any]) -> float | None:
    """Return the Pss in percent of the host's memory; None if one of them is not known."""
    pss = sizes["pss"]
    return None if pss is None or args.ram is None else round(100 * pss / args.ram, 3)


def _usual(args: argparse.Namespace) -> tuple[str, ...]:
    return (*DEFAULT_SIZES, PERCENT) if args.percent else DEFAULT_SIZES


def _left(args: argparse.Namespace, begun: float) -> float | None:
    """Return the seconds left until --timeout, which covers all reads together."""
    return None if args.timeout is None else max(0.0, begun + args.timeout - time.monotonic())


def _save_plot(args: argparse.Namespace, scan: Scan, begun: float) -> None:
    from fastsmaps import plot

    with progress_bar("reading mappings"):
        left = _left(args, begun)
        page = plot.processes(scan, by=args.by, timeout=left, command=command_line())
    save_page(page, args.plot)


def _records(args: argparse.Namespace, rows: Iterable[ProcessTotals]) -> list[Record]:
    """Return a record for each process; fields that cost an extra read only on request."""
    rows, records = list(rows), []
    for row in rows:
        record = row.as_dict()
        if args.exe:
            record["exe"] = row.exe
        if args.percent:
            record[PERCENT] = _percent(args, record)
        if args.cmdline:
            record["cmdline"] = None if row.raw_cmdline is None else CommandLine(row, full=True)
        records.append(record)
    if args.parquet and args.cgroup:
        from fastsmaps._output.stored import cgroup_parts

        for name, values in cgroup_parts(rows).items():
            for record, value in zip(records, values, strict=True):
                record[name] = value
    return records


def _defaults(args: argparse.Namespace) -> list[str]:
    asked = {"cmdline": args.cmdline, "exe": args.exe, PERCENT: args.percent}
    return [name for name in _FIELDS if asked.get(name, True)]


def _note(scan: Scan, matched: str) -> str:
    lines = [scan_note(scan), matched]
    if scan.max_map_count is not None:
        lines.append(f"vm.max_map_count: at most {scan.max_map_count} mappings per process")
    return "\n".join(filter(None, lines))


def _show_processes(args: argparse.Namespace, scan: Scan, note: str) -> None:
    scan = scan.sort("pss", reverse=True)
    _show_rows(
        args,
        scan,
        _records(args, scan),
        head=("pid", "user", "outcome"),
        usual=_usual(args),
        defaults=_defaults(args),
        command=text("command"),
        in_table=lambda record: record["outcome"] == "read",
        note=note,
    )


def _show_rows(
    args: argparse.Namespace,
    scan: Scan,
    records: list[Record],
    *,
    head: tuple[str, ...],
    usual: tuple[str, ...],
    defaults: list[str],
    command: Column,
    in_table: Callable[[Record], bool],
    note: str,
) -> None:
    """Print a record for each process; `usual` are the fields of a table without --fields."""
    known = [*dict.fromkeys((*field_names(records, defaults), *_FIELDS))]
    names = selected_fields(args, known, usual)
    columns: list[Column] = []
    total: list[str] = []
    if is_table(args):
        # A command line is the last column, even if it is named: it may be cut there.
        full = "cmdline" in names
        names = [name for name in names if name != "cmdline"]
        for record in records:
            record["command"] = CommandLine(scan.by_pid[record["pid"]], full=full)
        unit = size_format(args)
        first = [name for name in ("pid", "user") if name not in names]
        last = ["cgroup"] if args.cgroup and "cgroup" not in names else []
        columns = [*columns_of([*first, *names, *last], unit), command]
        cells = total_cells([*first, *names, *last], _sums(args, scan), unit)
        total = ["total", *cells[1:], f"{scan.coverage['read']} read"]
    show(
        args,
        records,
        columns,
        defaults=defaults,
        total=total,
        note=note,
        in_table=in_table,
        fields=output_fields(args, *head, *names, "comm"),
        origin=origin_of(args, scan.procfs, scan.taken_at),
        kind="processes",
    )


def _sums(args: argparse.Namespace, scan: Scan) -> dict[str, Any]:
    sums = scan.totals().as_dict()
    return {**sums, PERCENT: _percent(args, sums)}


# ---- --tree

_TREE = "tree_"
_TREE_SIZES = tuple(_TREE + name for name in UNREAD)
_TREE_FIELDS = ("depth", "tree_processes", "tree_unread", *_TREE_SIZES)
_TREE_USUAL = (*DEFAULT_SIZES, "tree_pss", "tree_uss", "tree_processes", "tree_unread")
_TREE_NARROW = ("pss", "tree_pss", "tree_processes")
_TREE_WIDTH = 140
# Deeper processes are not indented further: a fork bomb's table would be as wide as it is long.
_MAX_INDENT = 20


def _show_tree(args: argparse.Namespace, scan: Scan, note: str) -> None:
    rows = list(scan)
    records = dict(zip([row.pid for row in rows], _records(args, rows), strict=True))
    roots = forest(rows)
    for branch in walk(roots):
        record = records[branch.row.pid]
        record |= {
            "depth": branch.depth,
            "tree_processes": branch.read,
            "tree_unread": branch.processes - branch.read,
            **{_TREE + name: size for name, size in (branch.totals or UNREAD).as_dict().items()},
        }
    defaults = [*_defaults(args), *_TREE_FIELDS]
    all_names = field_names(records.values(), defaults)
    field, direction = parse_sort(args.sort, all_names) if args.sort else ("tree_pss", "")
    places = {
        record["pid"]: place
        for place, record in enumerate(
            sort_records(list(records.values()), field, direction, reverse=args.reverse)
        )
    }
    ordered = [records[b.row.pid] for b in walk(roots, lambda b: places[b.row.pid])]
    args.sort, args.reverse = None, False
    width = terminal_width()
    _show_rows(
        args,
        scan,
        ordered,
        head=("pid", "ppid", "depth", "user", "outcome"),
        usual=_TREE_USUAL if width is None or width >= _TREE_WIDTH else _TREE_NARROW,
        defaults=defaults,
        command=Column("COMMAND", _indented, left=True),
        # An unread process is shown if one of its descendants was read.
        in_table=lambda record: record["tree_processes"] > 0,
        note=note,
    )


def _indented(record: Record) -> str:
    depth = record["depth"]
    more = f"+{depth - _MAX_INDENT} " if depth > _MAX_INDENT else ""
    return f"{'  ' * min(depth, _MAX_INDENT)}{more}{record['command']}"


def _show_groups(args: argparse.Namespace, scan: Scan, note: str) -> None:
    unit = size_format(args)
    groups = scan.group_by(args.by)
    unread: dict[Any, int] = {}
    for row in scan:
        if is_missing(row) and row.comm is not None:
            key = args.by(row)
            unread[key] = unread.get(key, 0) + 1
    records: list[Record] = [
        {
            **args.by.named(key),
            "processes": group.count,
            "unread": unread.pop(key, 0),
            **group.totals,
        }
        for key, group in groups.items()
    ]
    records += [
        {**args.by.named(key), "processes": 0, "unread": count, **UNREAD}
        for key, count in unread.items()
    ]
    defaults = [*args.by.names, "processes", "unread", *UNREAD]
    usual = _usual(args)
    if args.cgroup_memory:
        _add_cgroup_memory(records, scan, args.by)
        defaults += _CHARGES
        usual = _CHARGES_USUAL
    if args.percent:
        defaults.append(PERCENT)
        for record in records:
            record[PERCENT] = _percent(args, record)
    names = selected_fields(args, field_names(records, defaults), usual)
    sums = total_cells(names, _sums(args, scan), unit)
    show(
        args,
        records,
        [*columns_of(names, unit), number("processes"), *key_columns(args.by.names)],
        defaults=defaults,
        total=[*sums, str(scan.coverage["read"]), "total", *("" for _ in args.by.names[1:])],
        note=note,
        in_table=lambda record: record["processes"] > 0,
        fields=output_fields(args, *args.by.names, "processes", "unread", *names),
        origin=origin_of(args, scan.procfs, scan.taken_at),
        kind="process_groups",
    )


# ---- --cgroup-memory

_CHARGES = (*(f"cgroup_{name}" for name in MEMORY if name != "path"), *PARTS)
_CHARGES_USUAL = ("pss", "cgroup_current", "cgroup_working_set", "cgroup_limit", *PARTS)


def _add_cgroup_memory(records: list[Record], scan: Scan, by: Keys) -> None:
    """Add what the cgroup of each group is charged for; None if it has none of its own.

    The parts of the difference are None if the Pss is not that of all processes in the cgroup.
    """
    charged = fastsmaps.cgroup_memory(scan, str(by))
    in_part = of_several_groups(scan, str(by), charged)
    groups = scan.group_by(by)
    for record in records:
        key = record[str(by)]
        memory, group = charged.get(key), groups.get(key)
        record |= dict.fromkeys(_CHARGES)
        if memory is not None:
            values = memory.as_dict()
            record |= {f"cgroup_{name}": values[name] for name in MEMORY if name != "path"}
            if group is not None and key not in in_part and not record["unread"]:
                record |= memory.difference(group.totals)
