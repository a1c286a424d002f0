"""Select processes by --filter, --user and --tree, before any memory is read."""

from __future__ import annotations

import sys

import fastsmaps
from fastsmaps._model.grouping import command_of, search
from fastsmaps._source.source import Source
from fastsmaps.cli.options import UsageError
from fastsmaps.cli.output import print_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    import re
    from collections.abc import Collection, Iterable

    from fastsmaps._model.process_totals import ProcessTotals


class Match:
    """Whether a process's command line matches --filter.

    fastsmaps itself never matches, nor does an ancestor that was started with its arguments: sudo,
    timeout, sh -c.
    """

    def __init__(self, pattern: re.Pattern[str], procfs: str) -> None:
        self._pattern = pattern
        self._own = _own_pids(procfs)

    def __call__(self, row: ProcessTotals) -> bool:
        return row.pid not in self._own and search(self._pattern, command_of(row)) is not None


def _own_pids(procfs: str) -> set[int]:
    """Return this process and those ancestors whose command lines contain its arguments."""
    own = Source(procfs).own_pid()
    if own is None:  # a capture, or the procfs of another pid namespace
        return set()
    pids = {own}
    pid = own
    while True:
        try:
            with fastsmaps.Process(pid, procfs=procfs) as process:
                info = process.info()
        except fastsmaps.Error:
            return pids
        if _contains_in_order(" ".join(info.cmdline or ()), sys.argv[1:]):
            pids.add(pid)
        if not info.ppid or info.ppid in pids:
            return pids
        pid = info.ppid


def _contains_in_order(text: str, words: list[str]) -> bool:
    """Whether the text contains all words in order; in a shell's they may be quoted."""
    position = 0
    for word in words:
        position = text.find(word, position)
        if position < 0:
            return False
        position += len(word)
    return True


class Selection:
    """The selected processes; ``pids`` is None for all."""

    def __init__(self, rows: Collection[ProcessTotals] | None, pids: list[int] | None) -> None:
        self._starts = {} if rows is None else {row.pid: row.start_time for row in rows}
        self.pids = pids if rows is None else list(self._starts)

    def drop_reused(self, scan: fastsmaps.Scan) -> fastsmaps.Scan:
        """Drop processes that reused the pid of a selected one."""
        return scan.filter(self._is_chosen)

    def _is_chosen(self, row: ProcessTotals) -> bool:
        start = self._starts.get(row.pid)
        return start is None or row.start_time is None or row.start_time == start


def select_processes(
    args: argparse.Namespace,
    procfs: str,
    pids: list[int] | None,
    users: Collection[int] = (),
    *,
    tree: bool = False,
) -> Selection:
    """Select those of `pids` (None: all processes) that match --filter and belong to `users`.

    With `tree` also the descendants of `pids`.
    """
    trees = pids is not None and tree
    if args.filter is None and not users and not trees:
        return Selection(None, pids)
    from fastsmaps._host.scan import seen
    from fastsmaps._model.tree import below

    match = None if args.filter is None else Match(args.filter, procfs)
    rows: Iterable[ProcessTotals] = seen(
        None if trees else pids, procfs=procfs, cmdline=match is not None
    )
    if pids is not None and trees:
        rows = below(rows, pids)
        missing = set(pids).difference([row.pid for row in rows])
        rows = [*rows, *seen(missing, procfs=procfs)]
    selected = [
        row
        for row in rows
        # A missing process that was named is reported when it is read.
        if (pids is not None and row.comm is None)
        or ((match is None or match(row)) and (not users or row.uid in users))
    ]
    return Selection(selected, None)


def parse_users(names: str) -> list[int]:
    """Parse user names or numbers separated by commas; return the numbers."""
    import pwd

    numbers = []
    for name in names.split(","):
        try:
            numbers.append(pwd.getpwnam(name).pw_uid)
        except (KeyError, ValueError):
            if not (name.isascii() and name.isdecimal() and len(name) < 11):
                raise UsageError(f"--user: unknown user {name!r}") from None
            numbers.append(int(name))
    return numbers


def check_matches(args: argparse.Namespace, matches: object, what: str) -> int:
    """Return 1, with a line on standard error, if --filter or --user match nothing; else 0."""
    given = {"filter": args.filter and args.filter.pattern, "user": getattr(args, "user", None)}
    conditions = [f"--{name} {value!r}" for name, value in given.items() if value is not None]
    if matches or not conditions:
        return 0
    print_error(f"no {what} matches {' '.join(conditions)}")
    return 1
