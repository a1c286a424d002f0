"""fastsmaps diff: what grew and shrank between two points in time, by path."""

from __future__ import annotations

import os
import time

import fastsmaps
from fastsmaps._model.processes import failures_of, is_failure, main_reason
from fastsmaps._model.totals import UNREAD
from fastsmaps.cli.options import BY_HELP, UsageError, add_output, group_keys, invalid, seconds
from fastsmaps.cli.process_argument import TARGET_HELP, is_pid, parse_pid, read_mappings
from fastsmaps.cli.process_filter import check_matches
from fastsmaps.cli.procfs_option import open_procfs
from fastsmaps.cli.progress import progress_bar
from fastsmaps.cli.records_output import (
    DEFAULT_SIZES,
    key_columns,
    number,
    parse_sort,
    show,
    size_format,
    sizes,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from fastsmaps._model.grouping import Keys
    from fastsmaps._model.mappings import Mappings
    from fastsmaps._model.processes import Scan
    from fastsmaps._model.totals import Change
    from fastsmaps.cli.output import Record

EXAMPLES = """\
  fastsmaps diff 1234 --after 60         process 1234, now and in a minute
  fastsmaps diff 1234 --after 9 --by range   where unnamed memory grew
  fastsmaps diff old.smaps new.smaps     two saved texts
  fastsmaps diff old.smaps 1234          what changed since it was saved
  fastsmaps diff monday.tar friday.tar   two captures, by process
"""


_TABLE_WORDS = ("path", "kind", "label", "use", "range")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of diff."""
    parser.add_argument("old", metavar="OLD", help=f"{TARGET_HELP}; or a capture of many processes")
    parser.add_argument("new", metavar="NEW", nargs="?", help="the same at a later time")
    parser.add_argument(
        "--after",
        metavar="SECONDS",
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
        raise UsageError("diff: expected OLD and NEW, or one PID with --after SECONDS")
    status = 0
    with open_procfs(args.procfs) as opened:
        before: Mappings | Scan
        after: Mappings | Scan
        if args.after is not None:
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
    changes = fastsmaps.diff(before, after, by=args.by)
    records = [_record(names, _key(change, before, after), change) for change in changes]
    if args.filter:
        records = [
            record
            for record in records
            if args.filter.search(" ".join(str(record[name]) for name in names))
        ]
    unit = size_format(args)
    columns = sizes([*DEFAULT_SIZES, "old", "new"], unit)
    if any(max(change.files or (0,)) > 1 for change in changes) and "path" in names:
        columns += [number("old_files"), number("new_files")]
    columns += key_columns(names)
    show(args, records, columns, defaults=_defaults(args, before))
    return check_matches(args, records, f"{', '.join(names)} that changed") or status


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


def _names(args: argparse.Namespace, before: Mappings | Scan) -> tuple[str, ...]:
    """Return the names of the key's fields."""
    if args.by is None or isinstance(args.by, str):
        if isinstance(before, fastsmaps.Scan):
            return "pid", "comm"
        return ("range", "path") if args.by == "range" else (args.by or "path",)
    names: tuple[str, ...] = args.by.names
    return names


def _defaults(args: argparse.Namespace, before: Mappings | Scan) -> list[str]:
    files = [] if isinstance(before, fastsmaps.Scan) else ["old_files", "new_files"]
    return [*_names(args, before), "old", "new", "change", *files, *UNREAD]


def _key(change: Change, before: Mappings | Scan, after: Mappings | Scan) -> tuple[Any, ...]:
    """Return the values of _names(); the key of a process is its pid alone."""
    key = change.key
    if isinstance(key, int) and isinstance(before, fastsmaps.Scan):
        assert isinstance(after, fastsmaps.Scan)
        row = after.by_pid.get(key)
        if row is None or row.totals is not change.new:  # the pid was used again
            row = before.by_pid[key]
        return key, row.comm
    return key if isinstance(key, tuple) else (key,)


def _record(names: tuple[str, ...], key: tuple[Any, ...], change: Change) -> Record:
    """Return Pss before and after (size if there is no Pss), and the changes of all fields."""
    field = "size" if change.pss is None else "pss"
    old, new = change.old[field], change.new[field]
    head = {**dict(zip(names, key, strict=True)), "old": old, "new": new, "change": change[field]}
    if change.files is not None:
        head["old_files"], head["new_files"] = change.files
    return {**head, **change.as_dict()}


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
