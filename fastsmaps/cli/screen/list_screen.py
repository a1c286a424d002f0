"""The screen with the list of processes, and its keys."""

from __future__ import annotations

import time
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Footer, Static

from fastsmaps._model.grouping import WORDS, Keys
from fastsmaps._model.process_totals import user_name
from fastsmaps._output.display import escaped
from fastsmaps._source.meminfo import meminfo
from fastsmaps.cli.screen.dialogs import ChooseOne, ChooseSeveral, Help
from fastsmaps.cli.screen.head import memory_line, reading_line
from fastsmaps.cli.screen.process_screen import ProcessScreen
from fastsmaps.cli.screen.processes import COLUMNS, Choices, ListRows, Marked, name_of
from fastsmaps.cli.screen.search import SearchLine
from fastsmaps.cli.screen.table import NoRows, Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable

    from textual.app import ComposeResult

    from fastsmaps._model.processes import Scan
    from fastsmaps.cli.screen.sweeps import Sweeps

_SORTS = {
    "P": "pss", "U": "uss", "R": "rss", "S": "swap", "G": "grew", "A": "age", "N": "pid",
    "C": "command",
}  # fmt: skip
#: Words to group by that a list offers; a pattern and several words come with --by.
_GROUPS = tuple(word for word in WORDS if word not in ("pid", "cmdline"))

# How many values of the memory in use the head keeps.
_MAX_SAMPLES = 600

HELP = """\
arrows, j k        select a row; it stays on its process. PageUp, PageDown, Home, End, too.
                   Left and right show more of a long command
Enter              open a process: its mappings, and what grew; or a group's processes
/                  search: shows what contains the text, as you type; Escape ends it
t                  trees, with the sum of each tree; - closes a tree, + opens it, * all
g                  group by comm, user, cgroup, unit, slice, container, pod or exe
u                  only one user
P U R S            sort by Pss, Uss, Rss, swap
G A N C            sort by growth, age, pid, command
< >                sort by the column to the left, to the right; a click on a head, too
r                  reverse the order
c                  choose columns
d                  mark this moment: GREW counts from here
b B                more budget, less budget
space              pause
Escape             back: ends search, groups, trees, one user; then to the first row
h ?                this help
q                  quit

~ marks an estimate: a value read AGE ago, scaled by the current Rss.
MEMORY is Uss (solid) and the shared part of Pss (shaded); the largest Pss fills the bar.
GREW is the growth of Uss since the start, or since the mark, as far as Rss grew, too: \
a process that only shares less with others has not grown.
"""


class ListScreen(Screen[None]):
    """The processes of the last scan, in the order and the selection that the user chose."""

    AUTO_FOCUS = "Table"
    CSS = "#head { height: 3; text-wrap: nowrap; text-overflow: ellipsis; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("h,question_mark", "help", "help"),
        Binding("q", "app.quit", "quit"),
        Binding("slash", "search", "search", priority=True),
        Binding("t", "tree", "tree"),
        Binding("g", "group", "group"),
        Binding("u", "user", "user"),
        Binding("c", "columns", "columns"),
        Binding("r", "reverse", "reverse", show=False),
        Binding("d", "mark", "mark"),
        Binding("b", "budget(1)", show=False),
        Binding("B", "budget(-1)", show=False),
        Binding("space", "pause", "pause"),
        Binding("plus", "plus", show=False),
        Binding("minus", "minus", show=False),
        Binding("asterisk", "collapse_all", show=False),
        Binding("less_than_sign", "neighbour(-1)", show=False),
        Binding("greater_than_sign", "neighbour(1)", show=False),
        Binding("escape", "back", show=False),
        *(Binding(key, f"sort('{name}')", show=False) for key, name in _SORTS.items()),
    ]

    def __init__(self, sweeps: Sweeps, choices: Choices) -> None:
        super().__init__()
        self._sweeps = sweeps
        # Not query_one(): a sweep may end while the app does.
        self._head = Static("reading processes", id="head", markup=False)
        self._table = Table(NoRows())
        self.choices = choices
        self.scan: Scan | None = None
        self.rows: ListRows | None = None
        self._marked: Marked | None = None
        self._since = ""  # the time of the user's mark
        self._values: dict[str, int] = {}
        self._used: list[int] = []  # the host's memory in use, at each scan

    def compose(self) -> ComposeResult:
        """Lay out the head, the table, the search line and the keys."""
        yield self._head
        yield self._table
        yield SearchLine()
        yield Footer()

    # ---- drawing

    def show_scan(self, scan: Scan) -> None:
        """Show the rows of a new scan."""
        self.scan = scan
        self._marked = self._marked or Marked(scan)
        self._values = values = meminfo(self._sweeps.procfs)
        if "MemTotal" in values and "MemAvailable" in values:
            self._used.append(values["MemTotal"] - values["MemAvailable"])
            del self._used[:-_MAX_SAMPLES]
        if self.is_current:
            self.show_rows()

    def on_screen_resume(self) -> None:
        """Show what was swept while another screen covered this one."""
        self.show_rows()

    def show_rows(self) -> None:
        """Show the rows for the last scan and the current choices."""
        if self.scan is None or self._marked is None:
            return
        choices = self.choices
        self.rows = ListRows(self.scan, choices, self._marked, self._values.get("MemTotal"))
        self._table.show(self.rows, choices.sort, choices.descending)
        self._draw_head()

    def _draw_head(self) -> None:
        if self.scan is None or self.rows is None:
            return
        width = self.app.size.width  # the screen's own is set later
        lines = [
            memory_line(self._sweeps.procfs, width, self._values, self._used),
            reading_line(self.scan, width, self._sweeps.own_share()),
            self._state(),
        ]
        self._head.update(Text("\n").join(lines))

    def _state(self) -> Text:
        choices, rows = self.choices, self.rows
        assert rows is not None
        what = "groups" if choices.by is not None else "processes"
        if len(rows) == 1:
            what = "group" if choices.by is not None else "process"
        line = Text(f"{len(rows)} {what}", "dim", no_wrap=True, overflow="ellipsis")
        if choices.by is not None:
            line.append(f" by {choices.by}")
        line.append(f", by {choices.sort}{'' if choices.descending else ' ascending'}")
        if choices.query:
            line.append(f", with '{escaped(choices.query)}' (of {rows.processes})", "yellow")
        for by, key in choices.inside:
            line.append(f", in {by} {escaped(name_of(key))}", "yellow")
        if choices.user is not None:
            line.append(f", of user {escaped(user_name(choices.user))}", "yellow")
        if choices.tree:
            line.append(", as trees")
        if self._since:
            line.append(f", GREW since {self._since}")
        if self._sweeps.paused:
            line.append("  PAUSED", "bold yellow")
        return line

    def on_resize(self) -> None:
        """Fit the head anew."""
        self._draw_head()

    # ---- keys

    def action_help(self) -> None:
        """Show all keys."""
        self.app.push_screen(Help(HELP))

    def action_sort(self, name: str) -> None:
        """Sort by a column, in its own direction; once more reverses it."""
        if name == self.choices.sort:
            self.choices.reverse = not self.choices.reverse
        else:
            self.choices.sort, self.choices.reverse = name, False
        self.show_rows()

    def on_table_head_clicked(self, event: Table.HeadClicked) -> None:
        """Sort by a clicked head."""
        self.action_sort("pss" if event.name in ("tree", "bar", "share") else event.name)

    def action_neighbour(self, step: int) -> None:
        """Sort by the next column to one side."""
        names = [n for n in (*self.choices.names, "command") if n not in ("bar", "share")]
        place = names.index(self.choices.sort) if self.choices.sort in names else 0
        self.action_sort(names[(place + step) % len(names)])

    def action_reverse(self) -> None:
        """Reverse the order."""
        self.choices.reverse = not self.choices.reverse
        self.show_rows()

    def action_tree(self) -> None:
        """Show trees, or a list again."""
        self.choices.tree, self.choices.by = not self.choices.tree, None
        self.show_rows()

    def action_plus(self) -> None:
        """Open a tree."""
        self._collapse(False)

    def action_minus(self) -> None:
        """Close a tree."""
        self._collapse(True)

    def _collapse(self, closed: bool) -> None:
        key = self._table.selected
        if not self.choices.tree:
            self.action_budget(-1 if closed else 1)
        elif isinstance(key, tuple):
            (self.choices.collapsed.add if closed else self.choices.collapsed.discard)(key[0])
            self.show_rows()

    def action_collapse_all(self) -> None:
        """Close all trees, or open them again."""
        choices = self.choices
        if choices.tree and self.scan is not None:
            parents = {row.ppid for row in self.scan if row.ppid is not None}
            choices.collapsed = set() if choices.collapsed else parents
            self.show_rows()

    def action_budget(self, step: int) -> None:
        """Take the next larger or smaller budget."""
        self._sweeps.change_budget(step)
        self._draw_head()

    def action_pause(self) -> None:
        """Stop or continue the sweeps."""
        self._sweeps.pause(not self._sweeps.paused)
        self._draw_head()

    def action_mark(self) -> None:
        """Count growth from now."""
        if self.scan is not None:
            self._marked = Marked(self.scan)
            self._since = time.strftime("%H:%M:%S")
            self.show_rows()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Let a slash be typed in the search line."""
        return action != "search" or not isinstance(self.focused, SearchLine)

    def action_search(self) -> None:
        """Search as one types."""
        self.query_one(SearchLine).begin(self.choices.query)

    def on_input_changed(self, event: SearchLine.Changed) -> None:
        """Show what contains the text."""
        self.choices.query = event.value
        self.show_rows()

    def action_back(self) -> None:
        """End search, groups, trees and one user, one at a time; then go to the first row."""
        choices = self.choices
        closed: Hashable = None
        if choices.query:
            choices.query = ""
        elif choices.by is not None:
            choices.by = None
        elif choices.tree:
            choices.tree = False
        elif choices.inside:
            choices.by, closed = choices.inside.pop()
        elif choices.user is not None:
            choices.user = None
        else:
            self._table.clear_selection()
        self.show_rows()
        if choices.by is not None:
            self._table.select(("group", closed))

    def action_group(self) -> None:
        """Choose what to group by."""

        def chosen(word: str | None) -> None:
            if word is not None:
                self.choices.by = Keys(word) if word else None
                if not word:
                    self.choices.inside.clear()
                self.choices.tree = False
                self.show_rows()

        options = [("", "(no groups)"), *((word, word) for word in _GROUPS)]
        current = "" if self.choices.by is None else str(self.choices.by)
        self.app.push_screen(ChooseOne("group by", options, current), chosen)

    def action_user(self) -> None:
        """Choose one user."""
        if self.scan is None:
            return
        counts: dict[int, int] = {}
        for row in self.scan:
            if row.uid is not None and row.outcome == "read":
                counts[row.uid] = counts.get(row.uid, 0) + 1

        def chosen(word: str | None) -> None:
            if word is not None:
                self.choices.user = int(word) if word else None
                self.show_rows()

        options = [("", "(all users)")] + [
            (str(uid), f"{escaped(user_name(uid))}  {counts[uid]}")
            for uid in sorted(counts, key=counts.__getitem__, reverse=True)
        ]
        current = "" if self.choices.user is None else str(self.choices.user)
        self.app.push_screen(ChooseOne("processes of", options, current), chosen)

    def action_columns(self) -> None:
        """Choose the columns."""

        def chosen(words: list[str] | None) -> None:
            if words is not None:
                self.choices.columns = tuple(words)
                self.show_rows()

        self.app.push_screen(ChooseSeveral("columns", COLUMNS, self.choices.columns), chosen)

    def on_table_opened(self, event: Table.Opened) -> None:
        """Open a process; of a group show the processes."""
        if self.rows is None:
            return
        if self.choices.by is not None:
            assert isinstance(event.key, tuple)
            self.choices.inside.append((self.choices.by, event.key[1]))
            self.choices.by = None
            self.show_rows()
            self._table.clear_selection()
            return
        place = self.rows.place(event.key)
        if place is not None:
            self.app.push_screen(ProcessScreen(self._sweeps, self.rows.process(place)))
