"""fastsmaps diff: what grew and shrank between two looks, by path."""

from __future__ import annotations

import contextlib
import os
import time

import fastsmaps
from fastsmaps.cli.arguments import WrongUse, add_output, seconds
from fastsmaps.cli.choose import check_matches
from fastsmaps.cli.listing import FIGURES, NO_NAME, show, sizes, sorted_by, text, written
from fastsmaps.cli.replay import opened
from fastsmaps.cli.target import WHAT, is_pid, mappings_of, pid_of
from fastsmaps.cli.working import working
from fastsmaps.processes import NOTHING

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from fastsmaps.cli.output import Record
    from fastsmaps.mappings import Mappings
    from fastsmaps.processes import Scan
    from fastsmaps.totals import Change

EXAMPLES = """\
  fastsmaps diff 1234 --after 60         process 1234, now and in a minute
  fastsmaps diff old.smaps new.smaps     two saved texts
  fastsmaps diff old.smaps 1234          what changed since it was saved
  fastsmaps diff monday.tar friday.tar   two captures, by process
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is compared."""
    parser.add_argument("old", metavar="OLD", help=f"{WHAT}; or a capture of many processes")
    parser.add_argument("new", metavar="NEW", nargs="?", help="the same, later")
    parser.add_argument(
        "--after", metavar="SECONDS", type=seconds, help="one process, now and after so long"
    )
    parser.add_argument(
        "--by",
        choices=("path", "kind", "comm", "user", "cgroup"),
        default="path",
        help="of what the changes are; captures: comm, user, cgroup, otherwise a process each",
    )
    add_output(parser, filters="path (or whatever --by tells)")


def run(args: argparse.Namespace) -> int:
    """Prints the changes, the largest first."""
    if (args.new is None) == (args.after is None):
        raise WrongUse("diff: either OLD and NEW, or one PID with --after SECONDS")
    status = 0
    with opened(args.procfs) as replay:
        before: Mappings | Scan
        after: Mappings | Scan
        if args.after is not None:
            if not is_pid(args.old):
                raise WrongUse("diff: --after is for a process, by its number")
            # Pinned: another process that gets its number meanwhile is an error, no change.
            with fastsmaps.Process(pid_of(args.old), procfs=replay.procfs) as process:
                before = process.mappings()
                _check(args, before, before)  # before the time is waited for
                with working("waiting"):
                    time.sleep(args.after)
                after = process.mappings()
        else:
            before, one = _look(args.old, replay.procfs)
            after, other = _look(args.new, replay.procfs)
            _check(args, before, after)
            status = one or other
            if status and isinstance(before, fastsmaps.Scan) and isinstance(after, fastsmaps.Scan):
                before, after = _in_both(before, after)
        status = status or replay.status
    name = _name(args, before)
    changes = fastsmaps.diff(before, after, by=args.by)
    records = [_record(name, change) for change in changes]
    if args.filter:
        records = [record for record in records if args.filter.search(str(record[name]))]
    unit = written(args)
    columns = [*sizes([*FIGURES, "old", "new"], unit), text(name, empty=NO_NAME)]
    show(args, records, columns, known=_known(name))
    return check_matches(args, records, f"{name} that changed") or status


def _check(args: argparse.Namespace, before: Mappings | Scan, after: Mappings | Scan) -> None:
    """WrongUse for what cannot be compared, or not so."""
    many = isinstance(before, fastsmaps.Scan)
    if many != isinstance(after, fastsmaps.Scan):
        raise WrongUse("diff: two captures of many processes, or a process (or its text) each")
    fitting = ("path", "comm", "user", "cgroup") if many else ("path", "kind")
    if args.by not in fitting:
        what = "captures" if many else "a process"
        raise WrongUse(f"diff: --by for {what}: one of {', '.join(fitting)}, not {args.by}")
    if args.sort:
        names = dict.fromkeys([*_known(_name(args, before)), *before.totals().as_dict()])
        sorted_by(args.sort, list(names))


def _in_both(before: Scan, after: Scan) -> list[Scan]:
    """What a damaged capture lacks did not come or go: it may have been behind the damage."""
    pids = before.by_pid.keys() & after.by_pid.keys()
    return [
        fastsmaps.Scan(
            [row for row in scan if row.pid in pids],
            cost=scan.cost,
            taken_at=scan.taken_at,
            procfs=scan.procfs,
        )
        for scan in (before, after)
    ]


def _name(args: argparse.Namespace, before: Mappings | Scan) -> str:
    """What the changes are of."""
    return "pid" if isinstance(before, fastsmaps.Scan) and args.by == "path" else args.by


def _known(name: str) -> list[str]:
    return [name, "old", "new", "change", *NOTHING.as_dict()]


def _record(name: str, change: Change) -> Record:
    """Pss before and after (size, where there is no Pss), and the changes of all figures."""
    figure = "size" if change.pss is None else "pss"
    old, new = change.old[figure], change.new[figure]
    head = {name: change.key, "old": old, "new": new, "change": change[figure]}
    return {**head, **change.as_dict()}


def _look(target: str, procfs: str) -> tuple[Mappings | Scan, int]:
    """A table, or a scan of a capture; and the status that its damage leads to."""
    if not is_pid(target) and (os.path.isdir(target) or _is_tar(target)):
        with opened(target) as replay:
            return fastsmaps.scan(procfs=replay.procfs, cgroup=True), replay.status
    return mappings_of(target, procfs), 0


def _is_tar(target: str) -> bool:
    if not os.path.isfile(target):
        return False  # a pipe can be opened and read only once
    import tarfile

    with contextlib.suppress(Exception):  # whatever it is then, load() tells
        return tarfile.is_tarfile(target)
    return False
