"""The rows of the list of processes: plain, as trees, or in groups."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from operator import attrgetter

from fastsmaps._fields import ABSENT
from fastsmaps._model.changes import within
from fastsmaps._model.grouping import Keys, command_of
from fastsmaps._model.totals import UNREAD
from fastsmaps._model.tree import Branch, forest, walk
from fastsmaps._output.display import escaped
from fastsmaps.cli.output import CommandLine
from fastsmaps.cli.screen.drawing import memory_bar, short, signed
from fastsmaps.cli.screen.search import contains
from fastsmaps.cli.screen.table import Column

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fastsmaps._model.mappings import Group
    from fastsmaps._model.process_totals import ProcessTotals
    from fastsmaps._model.processes import Scan
    from fastsmaps.cli.screen.table import Cell

_PLAIN = {
    "pid": Column("pid", "PID", 7, rank=1),
    "user": Column("user", "USER", 9, right=False, rank=4),
    "share": Column("share", "MEM%", 5, rank=6),
    "bar": Column("bar", "MEMORY", 10, right=False, rank=8),
    "grew": Column("grew", "GREW", 7, rank=7),
    "age": Column("age", "AGE", 5, rank=9),
    "comm": Column("comm", "COMM", 15, right=False, rank=5),
    "ppid": Column("ppid", "PPID", 7, rank=5),
    "uid": Column("uid", "UID", 7, rank=5),
    "processes": Column("processes", "COUNT", 6, rank=1),
}
_RANKS = {"pss": 0, "uss": 3, "rss": 4, "swap": 5}
#: The columns at the start.
USUAL = ("pid", "user", "share", "bar", "pss", "uss", "rss", "swap", "grew", "age")
#: Every column that can be chosen; the command always comes last.
COLUMNS = (*_PLAIN, *UNREAD)
#: Columns that only groups have, or that they lack.
_ONLY_GROUPS = ("processes",)
_NOT_IN_GROUPS = ("pid", "user", "age", "comm", "ppid", "uid", "grew")
_NUMBERS = ("pid", "ppid", "uid")
_TEXTS = ("user", "comm", "command", "cgroup", "outcome", "error")
#: The fewest cells of the command, also behind the branches of trees.
_MIN_COMMAND, _MIN_TREE = 14, 26
_BAR_WIDTH = 10
# Deeper processes of a tree are not indented further.
_MAX_INDENT = 20


def is_size(name: str) -> bool:
    """Whether a column holds sizes in bytes."""
    return name in UNREAD


def column_of(name: str) -> Column:
    """Return a column by its name."""
    found = _PLAIN.get(name)
    return found or Column(name, name.upper(), max(7, len(name) + 1), rank=_RANKS.get(name, 5))


class Choices:
    """What the user chose for the list."""

    def __init__(self) -> None:
        self.columns: tuple[str, ...] = USUAL
        self.sort = "pss"
        self.reverse = False
        self.query = ""
        self.user: int | None = None
        self.tree = False
        self.by: Keys | None = None
        #: The groups that were opened, one inside the other.
        self.inside: list[tuple[Keys, Hashable]] = []
        self.limit: int | None = None
        self.collapsed: set[int] = set()

    @property
    def descending(self) -> bool:
        """Whether the largest come first; texts and pids begin with the smallest."""
        return (self.sort not in (*_TEXTS, *_NUMBERS)) != self.reverse

    def sort_by(self, name: str, direction: str = "") -> None:
        """Sort by a column, in its own direction, or in that of --sort: "+" or "-"."""
        self.sort, self.reverse = name, False
        self.reverse = direction not in ("", "-" if self.descending else "+")

    @property
    def names(self) -> list[str]:
        """The columns of the rows that are shown."""
        if self.by is not None:
            return ["processes", *(n for n in self.columns if n not in _NOT_IN_GROUPS)]
        return [name for name in self.columns if name not in _ONLY_GROUPS]


class Marked:
    """The memory of all processes at a moment, from which growth is counted."""

    def __init__(self, scan: Scan) -> None:
        sizes = zip(scan.column("uss"), scan.column("rss"), strict=True)
        self._sizes = {
            row.pid: (row.start_time, *pair)
            for row, pair in zip(scan, sizes, strict=True)
            if row.outcome == "read"
        }

    def growth(self, row: ProcessTotals) -> int | None:
        """Return the growth of Uss as far as Rss grew, too; a newer process grew from nothing."""
        return self._within(row, row.uss, row.rss)

    def growths(self, scan: Scan) -> dict[int, int | None]:
        """Return the growth of each process by pid, four times as fast as by row."""
        sizes = zip(scan.column("uss"), scan.column("rss"), strict=True)
        return {
            row.pid: None if ABSENT in pair else self._within(row, *pair)
            for row, pair in zip(scan, sizes, strict=True)
        }

    def _within(self, row: ProcessTotals, uss: int | None, rss: int | None) -> int | None:
        start, *before = self._sizes.get(row.pid, (None, 0, 0))
        if start != row.start_time:
            before = [0, 0]
        if uss is None or rss is None or ABSENT in before:
            return None
        return within(uss - before[0], rss - before[1])


class ListRows:
    """The rows for a scan and the user's choices; texts are escaped here."""

    def __init__(self, scan: Scan, choices: Choices, marked: Marked, total: int | None) -> None:
        self.scan, self.choices, self._marked = scan, choices, marked
        self._total = total
        self.columns = [*map(column_of, choices.names)]
        self._places: dict[Hashable, int] | None = None
        rows = scan.filter(lambda row: row.outcome == "read")
        if choices.user is not None:
            rows = rows.filter(lambda row: row.uid == choices.user)
        for by, key in choices.inside:
            rows = _members(rows, by, key)
        self.processes = len(rows)
        self._rows: Any = []  # a Scan, branches or groups
        if choices.by is not None:
            head = ",".join(choices.by.names).upper()
            self.columns.append(Column("command", head, _MIN_COMMAND, right=False))
            self._group(self._matching(rows))
        else:
            least = _MIN_TREE if choices.tree else _MIN_COMMAND
            self.columns.append(Column("command", "COMMAND", least, right=False))
            if choices.tree:
                self._plant(rows, scan)
            else:
                self._rows = self._sorted(self._matching(rows))
        if choices.limit is not None:
            self._rows = self._rows[: choices.limit]
        self._largest = max((self._value(i, "pss") or 0 for i in self._sample()), default=0)

    def _sample(self) -> Sequence[int]:
        """Return the indexes of the rows among which the largest Pss is."""
        # In a list by Pss the first one has it.
        if self.choices.sort == "pss" and not self.choices.tree:
            return [0, len(self) - 1] if len(self) else []
        return range(len(self))

    def __len__(self) -> int:
        return len(self._rows)

    def key(self, index: int) -> Hashable:
        """Return pid and start time of a process, or the key of a group."""
        row = self._rows[index]
        if self.choices.by is not None:
            return ("group", row[0])
        process = self.process(index)
        return (process.pid, process.start_time)

    def place(self, key: Hashable) -> int | None:
        """Return the index of the row with this key."""
        if self._places is None:
            self._places = {self.key(i): i for i in range(len(self))}
        return self._places.get(key)

    def process(self, index: int) -> ProcessTotals:
        """Return the process of a row that is not a group."""
        row = self._rows[index]
        process: ProcessTotals = row.row if isinstance(row, Branch) else row
        return process

    # ---- which rows, in which order

    def _matching(self, rows: Scan) -> Scan:
        query = self.choices.query
        return rows.filter(lambda row: matches(row, query)) if query else rows

    def _sorted(self, rows: Scan) -> Scan:
        return rows.sort(self._sort_key(), reverse=self.choices.descending)

    def _sort_key(self) -> str | Callable[[ProcessTotals], Any]:
        name = self.choices.sort
        if name == "command":
            return command_of
        if name == "grew":
            growths = self._marked.growths(self.scan)
            return lambda row: growths[row.pid]
        if name in ("share", "bar", "processes"):
            return "pss"
        return attrgetter(name) if name in (*_TEXTS, "estimated") else name

    def _group(self, rows: Scan) -> None:
        groups = rows.group_by(self.choices.by or "comm")
        self._rows = list(groups.items())
        name = self.choices.sort

        def value(item: tuple[Hashable, Group]) -> Any:  # noqa: ANN401 - a size, a name, a number
            key, group = item
            if name in ("processes", "command"):
                return group.count if name == "processes" else name_of(key)
            return group.totals.get(self._summed()) or 0

        self._rows.sort(key=value, reverse=self.choices.descending)

    def _plant(self, rows: Scan, scan: Scan) -> None:
        """Order the rows as trees; an unread process stays if it has descendants that were read."""
        read = {row.pid for row in rows}
        query = self.choices.query
        values = dict(zip([row.pid for row in scan], self._numbers(scan), strict=True))
        roots = forest(scan, sums=False)
        self._sums: dict[int, int] = {}
        wanted: set[int] = set()
        for branch in reversed(list(walk(roots))):
            row = branch.row
            own = row.pid in read and (not query or matches(row, query))
            if own or any(child.row.pid in wanted for child in branch.children):
                wanted.add(row.pid)
            self._sums[row.pid] = values[row.pid] + sum(
                self._sums[child.row.pid] for child in branch.children
            )
        places = self._sums
        if self.choices.sort in (*_TEXTS, *_NUMBERS):
            ordered = scan.sort(self._sort_key(), reverse=self.choices.descending)
            places = {row.pid: place for place, row in enumerate(ordered)}
        elif self.choices.descending:
            places = {pid: -size for pid, size in self._sums.items()}
        shown = []
        closed: float = math.inf  # the depth below which nothing is shown
        for branch in walk(roots, lambda branch: places[branch.row.pid]):
            if branch.depth <= closed:
                pid = branch.row.pid
                closed = branch.depth if pid in self.choices.collapsed else math.inf
                if pid in wanted:
                    shown.append(branch)
        self._rows = shown
        place = 1 if self.columns[0].name == "pid" else 0
        self.columns.insert(place, Column("tree", f"TREE {self._summed().upper()}", 9, rank=2))

    def _summed(self) -> str:
        name = self.choices.sort
        return name if is_size(name) else "pss"

    def _numbers(self, scan: Scan) -> list[int]:
        return [0 if v == ABSENT else v for v in scan.column(self._summed())]

    # ---- cells

    def _value(self, index: int, name: str) -> Any:  # noqa: ANN401 - a size, a text, a number
        if self.choices.by is not None:
            group = self._rows[index][1]
            return group.count if name == "processes" else group.totals.get(name)
        row = self.process(index)
        if name == "grew":
            return self._marked.growth(row)
        if name == "tree":
            return self._sums[row.pid]
        return getattr(row, name, None) if name in _PLAIN or name == "size" else row.get(name)

    def cells(self, index: int) -> list[Cell]:
        """Return a row's cells."""
        cells = [self._cell(index, column.name) for column in self.columns[:-1]]
        return [*cells, self._command(index)]

    def _cell(self, index: int, name: str) -> Cell:
        if name == "share":
            pss = self._value(index, "pss")
            return f"{100 * pss / self._total:.1f}" if self._total and pss is not None else "-"
        if name == "bar":
            uss, pss = self._value(index, "uss"), self._value(index, "pss")
            return memory_bar(uss, pss, self._largest, _BAR_WIDTH)
        value = self._value(index, name)
        if name == "grew":
            text = signed(value)
            return [(text.rjust(7), "red" if (value or 0) > 0 else "green")] if text else ""
        if is_size(name) or name == "tree":
            estimated = self.choices.by is None and self.process(index).estimated
            return f"~{short(value)}" if estimated and name != "swap" else short(value)
        if name == "age":
            return "-" if value is None else f"{value:.0f}s"
        return "-" if value is None else escaped(str(value))

    def _command(self, index: int) -> Cell:
        if self.choices.by is not None:
            return escaped(name_of(self._rows[index][0]))
        row = self._rows[index]
        text = escaped(str(CommandLine(self.process(index))))
        if not isinstance(row, Branch):
            return text
        depth = row.depth
        more = f"+{depth - _MAX_INDENT} " if depth > _MAX_INDENT else ""
        closed = row.row.pid in self.choices.collapsed and row.children
        indent = "  " * (min(depth, _MAX_INDENT) - 1) + ("└ " if depth else "")
        return [(indent + ("+ " if closed else "") + more, "dim"), (text, "")]


def _members(rows: Scan, by: Keys, key: Hashable) -> Scan:
    return rows.filter(lambda row: by(row) == key)


def name_of(key: object) -> str:
    """Return the name of a group."""
    if isinstance(key, tuple):
        return ", ".join(map(name_of, key))
    return "(none)" if key is None or key == "" else str(key)


def matches(row: ProcessTotals, query: str) -> bool:
    """Whether a process's pid, user, name or command line contains the text."""
    texts = (str(row.pid), row.user or "", row.comm or "", command_of(row))
    return any(contains(text, query) for text in texts)
