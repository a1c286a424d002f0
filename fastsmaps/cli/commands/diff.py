"""fastsmaps diff: what grew and shrank between two points in time, by path or address range."""

from __future__ import annotations

import os
import time

import fastsmaps
from fastsmaps._model.diff import TABLE_WORDS
from fastsmaps._model.processes import failures_of, is_failure, main_reason
from fastsmaps.cli.change_table import (
    FEWER,
    FIELDS,
    MAPPING_NAMES,
    change_columns,
    duration,
    mapping_keys,
    mapping_name,
    marked_name,
    names_of,
    record_of,
    sum_of,
    total_record,
)
from fastsmaps.cli.options import BY_HELP, UsageError, add_output, group_keys, invalid, seconds
from fastsmaps.cli.output import terminal_width
from fastsmaps.cli.process_argument import (
    TARGET_HELP,
    is_pid,
    named_process,
    parse_pid,
    read_mappings,
)
from fastsmaps.cli.process_filter import check_matches
from fastsmaps.cli.procfs_option import open_procfs
from fastsmaps.cli.progress import progress_bar
from fastsmaps.cli.records_output import (
    Column,
    key_columns,
    number,
    parse_sort,
    show,
    size_format,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from fastsmaps._model.grouping import Keys
    from fastsmaps._model.mappings import Mappings
    from fastsmaps._model.processes import Scan
    from fastsmaps._model.totals import Change
    from fastsmaps.cli.output import Record

EXAMPLES = """\
  fastsmaps diff 1234 --after 1m         process 1234, now and in a minute
  fastsmaps diff 1234 --after 1m --by range  each mapping by its address range
  fastsmaps diff old.smaps new.smaps     two saved texts
  fastsmaps diff old.smaps 1234          what changed since it was saved
  fastsmaps diff monday.tar friday.tar   two captures, by process
"""


_MAPPING_WORDS = ("path", "range")
# "name" is what --by path means here.
_TABLE_WORDS = tuple(word for word in TABLE_WORDS if word != "name")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of diff."""
    parser.add_argument("old", metavar="OLD", help=f"{TARGET_HELP}; or a capture of many processes")
    parser.add_argument("new", metavar="NEW", nargs="?", help="the same at a later time")
    parser.add_argument(
        "--after",
        metavar="TIME",
        type=seconds,
        help="compare a process with itself after this time",
    )
    parser.add_argument(
        "--by",
        type=_by,
        metavar="KEY",
        help="path (default), kind, label, use or range; "
        f"for captures {BY_HELP}; default: each process",
    )
    add_output(parser, filters="changes whose path (or value of --by)")


def _by(text: str) -> str | Keys:
    if text in (*_TABLE_WORDS, "pid"):
        return text
    from argparse import ArgumentTypeError

    try:
        return group_keys(text)
    except ArgumentTypeError as error:
        raise invalid(f"{error}; for a process one of {', '.join(_TABLE_WORDS)}") from None


def run(args: argparse.Namespace) -> int:
    """Print the changes, the largest first."""
    if (args.new is None) == (args.after is None):
        raise UsageError("diff: expected OLD and NEW, or one PID with --after TIME")
    status = 0
    with open_procfs(args.procfs) as opened:
        before: Mappings | Scan
        after: Mappings | Scan
        if args.after is not None:
            args.old = named_process(args.old, opened.procfs)
            if not is_pid(args.old):
                raise UsageError("diff: --after needs a pid")
            # Pinned: a process that reuses the pid is an error, not a change.
            with fastsmaps.Process(parse_pid(args.old), procfs=opened.procfs) as process:
                before = process.mappings()
                _check(args, before, before)  # report wrong use before waiting
                with progress_bar("waiting"):
                    time.sleep(args.after)
                after = process.mappings()
        else:
            before, old_status = _read(args, args.old, opened.procfs)
            after, new_status = _read(args, args.new, opened.procfs)
            _check(args, before, after)
            status = old_status or new_status
            if status and isinstance(before, fastsmaps.Scan) and isinstance(after, fastsmaps.Scan):
                before, after = _in_both(before, after)
        status = status or opened.status
    names = _names(args, before)
    found = fastsmaps.diff(before, after, by=_library_word(args, before))
    changes: Sequence[Change] = found
    total = found.total
    keys = [_keys(change, names, before, after) for change in changes]
    if args.filter:
        pairs = [
            (change, key)
            for change, key in zip(changes, keys, strict=True)
            if args.filter.search(" ".join(str(v) for v in key.values() if v is not None))
        ]
        changes, keys = [change for change, _ in pairs], [key for _, key in pairs]
        total = sum_of(changes) if changes else total
    _show(args, changes, total, keys, _defaults(args, before))
    what = "path" if names == MAPPING_NAMES and args.by != "range" else ", ".join(names)
    return check_matches(args, changes, f"{what} that changed") or status


def _show(
    args: argparse.Namespace,
    changes: Sequence[Change],
    total: Change,
    keys: list[Record],
    defaults: list[str],
) -> None:
    records = [record_of(change, key) for change, key in zip(changes, keys, strict=True)]
    names = defaults[: defaults.index(FIELDS[0])]
    whole = total_record(total, dict.fromkeys(names, ""))
    columns = change_columns([*records, whole], size_format(args), terminal_width())
    shown = [column.cell(whole) for column in columns]
    if any(max(change.files or (0,)) > 1 for change in changes) and "path" in names:
        columns += [number("old_files"), number("new_files")]
        shown += ["", ""]
    if names == list(MAPPING_NAMES):
        columns.append(Column("PATH", mapping_name, left=True))
    else:
        *first, last = key_columns(names)
        marked = Column(last.head, lambda record: marked_name(last.cell(record), record), left=True)
        columns += [*first, marked]
    notes = [] if total.seconds is None else [f"Differences after {duration(total.seconds)}."]
    notes += [FEWER] if any(record["shared_with_fewer"] for record in records) else []
    show(
        args,
        records,
        columns,
        defaults=defaults,
        # Without a match there is nothing that a total would be of.
        total=[*shown, "total", *[""] * (len(columns) - len(shown) - 1)]
        if records or not args.filter
        else [],
        note="\n".join(notes),
    )


def _check(args: argparse.Namespace, before: Mappings | Scan, after: Mappings | Scan) -> None:
    """Raise UsageError if the two cannot be compared, or not by these keys."""
    many = isinstance(before, fastsmaps.Scan)
    if many != isinstance(after, fastsmaps.Scan):
        raise UsageError("diff: cannot compare a capture of many processes with a single process")
    if many and args.by in _TABLE_WORDS:
        raise UsageError(f"diff: --by for captures must be {BY_HELP}, got {args.by}")
    if not many and args.by not in (None, *_TABLE_WORDS):
        words = ", ".join(_TABLE_WORDS)
        raise UsageError(f"diff: --by for a process must be one of {words}, got {args.by}")
    if args.sort:
        names = dict.fromkeys([*_defaults(args, before), *before.totals().as_dict()])
        parse_sort(args.sort, list(names))


def _in_both(before: Scan, after: Scan) -> list[Scan]:
    """Keep the processes of both scans: one that a damaged capture lacks may have been lost."""
    pids = before.by_pid.keys() & after.by_pid.keys()
    return [scan.filter(lambda row: row.pid in pids) for scan in (before, after)]


def _library_word(args: argparse.Namespace, before: Mappings | Scan) -> str | Keys | None:
    """Return the word of --by for diff(): by path, but unnamed memory by its range."""
    by: str | Keys | None = args.by
    return "name" if isinstance(before, fastsmaps.Mappings) and by in (None, "path") else by


def _names(args: argparse.Namespace, before: Mappings | Scan) -> tuple[str, ...]:
    """Return the names of the key's fields."""
    if args.by is None or isinstance(args.by, str):
        if isinstance(before, fastsmaps.Scan):
            return "pid", "comm"
        return MAPPING_NAMES if args.by in (None, *_MAPPING_WORDS) else (args.by,)
    names: tuple[str, ...] = args.by.names
    return names


def _defaults(args: argparse.Namespace, before: Mappings | Scan) -> list[str]:
    return names_of(*_names(args, before), files=isinstance(before, fastsmaps.Mappings))


def _keys(
    change: Change, names: tuple[str, ...], before: Mappings | Scan, after: Mappings | Scan
) -> Record:
    """Return the values of _names(); the key of a process is its pid alone."""
    key = change.key
    if names == MAPPING_NAMES:
        return mapping_keys(change)
    if isinstance(key, int) and isinstance(before, fastsmaps.Scan):
        assert isinstance(after, fastsmaps.Scan)
        row = after.by_pid.get(key)
        if row is None or row.totals is not change.new:  # the pid was used again
            row = before.by_pid[key]
        key = key, row.comm
    return dict(zip(names, key if isinstance(key, tuple) else (key,), strict=True))


def _read(args: argparse.Namespace, target: str, procfs: str) -> tuple[Mappings | Scan, int]:
    """Read a table, or scan a capture; with the exit status, 1 if the capture is damaged."""
    if not is_pid(target) and (os.path.isdir(target) or _is_tar(target)):
        with open_procfs(target) as opened:
            reads = getattr(args.by, "reads", {})
            scan = fastsmaps.scan(procfs=opened.procfs, **reads)
            if is_failure(scan.coverage):
                reason = main_reason(failures_of(scan)) or "not permitted"
                raise fastsmaps.Error(f"{target}: no process could be read: {reason}")
            return scan, opened.status
    return read_mappings(target, procfs), 0


def _is_tar(target: str) -> bool:
    if not os.path.isfile(target):
        return False  # a pipe can be opened and read only once
    from fastsmaps._capture.unpack import is_archive

    return is_archive(target)
