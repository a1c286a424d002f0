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
    from collections.abc import Callable, Collection, Iterable

    from fastsmaps._model.info import Info
    from fastsmaps._model.process_totals import ProcessTotals


class Match:
    """Whether a process's command line or name (comm) matches --filter.

    fastsmaps itself never matches, nor does an ancestor that was started with its arguments: sudo,
    timeout, sh -c.
    """

    def __init__(self, pattern: re.Pattern[str], procfs: str) -> None:
        self.pattern = pattern
        self._own = own_pids(procfs)
        #: How many processes matched by their command lines, and by their names alone.
        self.commands = self.names = 0

    def __call__(self, process: ProcessTotals | Info) -> bool:
        if process.pid in self._own:
            return False
        on = matched_on(self.pattern, process)
        self.commands += on == "command line"
        self.names += on == "name"
        return on is not None

    @property
    def note(self) -> str:
        """A line on what it matched: tables show only a part of a command line, and no name."""
        text = f"--filter matched {_counted(self.commands, 'command line')}"
        if self.names:
            text += f", and only the name (comm) of {_counted(self.names, 'other process')}"
        return text


def _counted(count: int, noun: str) -> str:
    plural = {"other process": "other processes"}.get(noun, f"{noun}s")
    return f"{count} {noun if count == 1 else plural}"


def matched_on(pattern: re.Pattern[str], process: ProcessTotals | Info) -> str | None:
    """Return what the pattern matches: "command line", "name" or None."""
    if search(pattern, command_of(process)) is not None:
        return "command line" if process.cmdline else "name"
    return "name" if process.comm is not None and pattern.search(process.comm) else None


def own_pids(procfs: str) -> set[int]:
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
    """The selected processes; ``pids`` is None for all. ``note`` says what --filter matched."""

    def __init__(
        self, rows: Collection[ProcessTotals] | None, pids: list[int] | None, note: str = ""
    ) -> None:
        self.note = note
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

    rows: Iterable[ProcessTotals] = seen(
        None if trees else pids, procfs=procfs, cmdline=args.filter is not None
    )
    if pids is not None and trees:
        rows = below(rows, pids)
        missing = set(pids).difference([row.pid for row in rows])
        rows = [*rows, *seen(missing, procfs=procfs)]
    match = None if args.filter is None else Match(args.filter, procfs)
    selected = [
        row
        for row in rows
        # A missing process that was named is reported when it is read.
        if (pids is not None and row.comm is None)
        or ((not users or row.uid in users) and (match is None or match(row)))
    ]
    return Selection(selected, None, "" if match is None else match.note)


def condition(
    args: argparse.Namespace, procfs: str, pids: Collection[int], users: Collection[int]
) -> Callable[[ProcessTotals], bool] | None:
    """Return whether a process is one of `pids`, belongs to `users` and matches --filter.

    None if all processes do.
    """
    match = None if args.filter is None else Match(args.filter, procfs)
    if match is None and not pids and not users:
        return None
    return lambda row: (
        (not pids or row.pid in pids)
        and (not users or row.uid in users)
        and (match is None or match(row))
    )


def add_user(parser: argparse.ArgumentParser) -> None:
    """Add --user."""
    parser.add_argument(
        "-u",
        "--user",
        metavar="NAME,...",
        help="only processes of these users, by name or number",
    )


def parse_users(args: argparse.Namespace) -> list[int]:
    """Return the numbers of the users in --user; [] without it."""
    if args.user is None:
        return []
    import pwd

    numbers = []
    for name in args.user.split(","):
        try:
            numbers.append(pwd.getpwnam(name).pw_uid)
        except (KeyError, ValueError):
            if not (name.isascii() and name.isdecimal() and len(name) < 11):
                from fastsmaps.cli.hints import similar

                hint = similar(name, [user.pw_name for user in pwd.getpwall()])
                raise UsageError(f"--user: unknown user {name!r}{hint}") from None
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
