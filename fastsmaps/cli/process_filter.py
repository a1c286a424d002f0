"""Which processes a command is about: chosen by their names, before any memory is read."""

from __future__ import annotations

import sys

import fastsmaps
from fastsmaps._host.scan import seen
from fastsmaps._model.grouping import command_of, search
from fastsmaps._model.tree import below
from fastsmaps._source.source import Source
from fastsmaps.cli.options import WrongUse
from fastsmaps.cli.output import print_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    import re
    from collections.abc import Collection, Iterable

    from fastsmaps._model.process_totals import ProcessTotals


class Match:
    """Whether a process's command line matches --filter; that of fastsmaps itself never does.

    Nor does one that was called to run fastsmaps, and so holds its arguments: sudo, timeout, sh -c.
    """

    def __init__(self, pattern: re.Pattern[str], procfs: str) -> None:
        self._pattern = pattern
        self._own = _own(procfs)

    def __call__(self, row: ProcessTotals) -> bool:
        return row.pid not in self._own and search(self._pattern, command_of(row)) is not None


def _own(procfs: str) -> set[int]:
    """This process, and those of its ancestors whose command lines hold its arguments."""
    own = Source(procfs).own_pid()
    if own is None:  # a capture, or the procfs of another pid namespace
        return set()
    found = {own}
    pid = own
    while True:
        try:
            with fastsmaps.Process(pid, procfs=procfs) as process:
                info = process.info()
        except fastsmaps.Error:
            return found
        if _holds(" ".join(info.cmdline or ()), sys.argv[1:]):
            found.add(pid)
        if not info.ppid or info.ppid in found:
            return found
        pid = info.ppid


def _holds(text: str, words: list[str]) -> bool:
    """Whether all words are in the text, one behind the other: a shell's may be in quotes."""
    at = 0
    for word in words:
        at = text.find(word, at)
        if at < 0:
            return False
        at += len(word)
    return True


class Choice:
    """The processes that were chosen; ``pids`` is None for all."""

    def __init__(self, rows: Collection[ProcessTotals] | None, pids: list[int] | None) -> None:
        self._starts = {} if rows is None else {row.pid: row.start_time for row in rows}
        self.pids = pids if rows is None else list(self._starts)

    def only(self, scan: fastsmaps.Scan) -> fastsmaps.Scan:
        """The scan without processes that got a chosen one's number meanwhile."""
        return scan.filter(self._is_chosen)

    def _is_chosen(self, row: ProcessTotals) -> bool:
        start = self._starts.get(row.pid)
        return start is None or row.start_time is None or row.start_time == start


def choose(
    args: argparse.Namespace,
    procfs: str,
    pids: list[int] | None,
    users: Collection[int] = (),
    *,
    tree: bool = False,
) -> Choice:
    """The processes of `pids` (None: all) that --filter and these users leave.

    With `tree` also those that descend from `pids`.
    """
    trees = pids is not None and tree
    if args.filter is None and not users and not trees:
        return Choice(None, pids)
    match = None if args.filter is None else Match(args.filter, procfs)
    found: Iterable[ProcessTotals] = seen(
        None if trees else pids, procfs=procfs, cmdline=match is not None
    )
    if pids is not None and trees:
        found = below(found, pids)
        missing = set(pids).difference([row.pid for row in found])
        found = [*found, *seen(missing, procfs=procfs)]
    rows = [
        row
        for row in found
        # A process that was named and is not there is reported when it is read.
        if (pids is not None and row.comm is None)
        or ((match is None or match(row)) and (not users or row.uid in users))
    ]
    return Choice(rows, None)


def users_of(names: str) -> list[int]:
    """The numbers of users, by names or numbers with commas between them."""
    import pwd

    numbers = []
    for name in names.split(","):
        try:
            numbers.append(pwd.getpwnam(name).pw_uid)
        except (KeyError, ValueError):
            if not (name.isascii() and name.isdecimal() and len(name) < 11):
                raise WrongUse(f"--user: unknown user {name!r}") from None
            numbers.append(int(name))
    return numbers


def check_matches(args: argparse.Namespace, found: object, what: str) -> int:
    """The exit status: 1, and a line on standard error, where --filter or --user leaves nothing."""
    given = {"filter": args.filter and args.filter.pattern, "user": getattr(args, "user", None)}
    asked = [f"--{name} {value!r}" for name, value in given.items() if value is not None]
    if found or not asked:
        return 0
    print_error(f"no {what} matches {' '.join(asked)}")
    return 1
