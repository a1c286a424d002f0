"""The screen of one process: its totals over time, its mappings, and what grew."""

from __future__ import annotations

import asyncio
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar, TypeVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Footer, Static

import fastsmaps
from fastsmaps._model.grouping import command_of
from fastsmaps._output.display import escaped
from fastsmaps._source.process import process_of
from fastsmaps._source.source import Source
from fastsmaps.cli.output import CommandLine
from fastsmaps.cli.screen.dialogs import Help
from fastsmaps.cli.screen.drawing import short, signed, sparkline
from fastsmaps.cli.screen.mappings import VIEWS, MappingRows, name_of
from fastsmaps.cli.screen.search import SearchLine
from fastsmaps.cli.screen.table import NoRows, Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from textual.app import ComposeResult

    from fastsmaps._model.info import Info
    from fastsmaps._model.mappings import Mappings
    from fastsmaps._model.process_totals import ProcessTotals
    from fastsmaps.cli.screen.sweeps import Sweeps

T = TypeVar("T")

# A process is read again after at least so many times what reading it took.
_REST = 20
_MAX_SAMPLES = 600
_SORTS = {
    "P": "pss", "U": "uss", "R": "rss", "S": "swap", "V": "size", "G": "grew", "C": "name",
}  # fmt: skip

HELP = """\
u i p a    mappings by use, by kind, by path, by address
Enter      the mappings of a group
P U R S V  sort by Pss, Uss, Rss, swap, virtual size
G C        sort by growth, by name; a click on a head sorts, too
/          search; Escape ends it
d          mark this moment: GREW counts from here
space      pause
arrows     select; left and right show more of long names
Escape     back: ends a search, leaves a group, goes to the list

GREW is the growth of Uss since this screen was opened, or since the mark, as far as Rss \
grew, too: memory that is only shared with fewer processes has not grown.
"""


class ProcessScreen(Screen[None]):
    """One process, read again and again: these reads are asked for, and not held to the budget."""

    AUTO_FOCUS = "Table"
    CSS = "#head { height: auto; min-height: 4; text-wrap: nowrap; text-overflow: ellipsis; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "back", "back"),
        Binding("h,question_mark", "help", "help"),
        *(Binding(key, f"view('{view}')", name_of(view)) for key, view in VIEWS.items()),
        *(Binding(key, f"sort('{name}')", show=False) for key, name in _SORTS.items()),
        Binding("G", "sort('grew')", "growth"),
        Binding("slash", "search", "search", priority=True),
        Binding("d", "mark", "mark"),
        Binding("space", "pause", "pause", show=False),
    ]

    def __init__(self, sweeps: Sweeps, row: ProcessTotals) -> None:
        super().__init__()
        self._sweeps, self._row, self._command = sweeps, row, str(CommandLine(row))
        # One thread, so that the process is closed after the last read.
        self._reader = ThreadPoolExecutor(1, "reader")
        # Not query_one(): rows may be ready when the screen is closed.
        self._head = Static(id="head", markup=False)
        self._table = Table(NoRows())
        self._is_saved = Source(sweeps.procfs).is_capture
        self._view, self._sort, self._query = "use", "pss", ""
        self._inside: tuple[str, Hashable] | None = None
        self._old: Mappings | None = None
        self._new: Mappings | None = None
        self._marked_at = time.time()
        self._info: Info | None = None
        self._samples: list[int] = []
        self._cost = 0.0
        self._shown = 0  # how often rows were made
        self._wait = sweeps.interval
        self._paused = False
        self._problem = ""

    def compose(self) -> ComposeResult:
        """Lay out the head, the table and the keys."""
        yield self._head
        yield self._table
        yield SearchLine()
        yield Footer()

    def on_mount(self) -> None:
        """Begin to read."""
        self._draw_head()
        self.run_worker(self._read(), exclusive=True)

    # ---- reading

    async def _read(self) -> None:
        """Read the process until the screen is closed; a capture once."""
        try:
            process = await self._in_reader(process_of, self._row, self._sweeps.procfs)
            try:
                while True:
                    if not self._paused:
                        await self._sample(process)
                    if self._is_saved:
                        return
                    self._wait = max(self._sweeps.interval, _REST * self._cost)
                    await asyncio.sleep(self._wait)
            finally:
                self._reader.submit(process.close)
        except fastsmaps.Error as error:
            self._problem = str(error)
            self._draw_head()
        finally:
            self._reader.shutdown(wait=False)

    async def _in_reader(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reader, function, *arguments)

    async def _sample(self, process: fastsmaps.Process) -> None:
        table, info, self._cost = await self._in_reader(_timed, process)
        self._sweeps.asked(self._cost)
        if self._info is not None and self._info.cmdline != info.cmdline:
            self._command = command_of(info)  # it runs another program, or has another title
        self._info = info
        self._new = table
        self._old = self._old or table
        self._samples.append(table.totals().pss or 0)
        del self._samples[:-_MAX_SAMPLES]
        await self._show()

    # ---- drawing

    async def _show(self) -> None:
        if self._old is None or self._new is None:
            return
        self._shown += 1
        number = self._shown
        rows = await asyncio.to_thread(
            MappingRows,
            self._old,
            self._new,
            self._view,
            query=self._query,
            sort=self._sort,
            inside=self._inside,
        )
        if number == self._shown:  # else a key or a sample asked for others meanwhile
            self._table.show(rows, self._sort, rows.descending)
            self._draw_head(rows)

    def _draw_head(self, rows: MappingRows | None = None) -> None:
        width = self.app.size.width  # the screen's own is set later
        lines = [Text(f"{self._row.pid} {escaped(self._command)}", "bold")]
        if self._new is None and not self._problem:
            lines.append(Text("reading its mappings", "dim"))
        if self._new is not None and self._old is not None:
            now, then = self._new.totals(), self._old.totals()
            text = Text()
            for name in ("pss", "uss", "rss", "swap", "size"):
                text.append(f"{name.capitalize()} ", "dim").append(short(now.get(name)), "bold")
                grew = signed((now.get(name) or 0) - (then.get(name) or 0))
                text.append(f" {grew}" if grew else "", "red" if "+" in grew else "green")
                text.append("  ")
            if self._info is not None and self._info.peak_rss is not None:
                text.append("Peak Rss ", "dim").append(short(self._info.peak_rss), "bold")
            lines.append(text)
            since = time.strftime("%H:%M:%S", time.localtime(self._marked_at))
            shown = f"{len(rows)} of {rows.total}" if rows is not None else "?"
            state = f"Pss {sparkline(self._samples, max(8, min(40, width - 50)))}  since {since}"
            lines.append(Text(state))
            cost = f"read in {1000 * self._cost:.1f} ms every {self._wait:.0f} s, at your request"
            if self._is_saved:
                cost = "a capture"
            search = f", with '{escaped(self._query)}'" if self._query else ""
            where = "" if self._inside is None else f" in {escaped(str(self._inside[1]))}"
            lines.append(Text(f"{shown} by {name_of(self._view)}{where}{search}; {cost}", "dim"))
        if self._paused:
            lines[-1].append("  PAUSED", "yellow")
        if self._problem:
            del lines[2:]
            words = textwrap.wrap(escaped(self._problem), max(width, 20))
            lines += [Text(line, "red") for line in words]
        self._head.update(Text("\n").join(lines))

    # ---- keys

    async def action_view(self, view: str) -> None:
        """Group the mappings in another way."""
        self._view, self._inside = view, None
        if self._sort == "address" and view != "range":
            self._sort = "pss"
        await self._show()

    async def action_sort(self, name: str) -> None:
        """Sort by another column."""
        self._sort = name
        await self._show()

    async def on_table_head_clicked(self, event: Table.HeadClicked) -> None:
        """Sort by a clicked head."""
        await self.action_sort("pss" if event.name == "bar" else event.name)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Let a slash be typed in the search line."""
        return action != "search" or not isinstance(self.focused, SearchLine)

    def action_search(self) -> None:
        """Search names."""
        self.query_one(SearchLine).begin(self._query)

    async def on_input_changed(self, event: SearchLine.Changed) -> None:
        """Show the rows that contain the text."""
        self._query = event.value
        await self._show()

    async def action_mark(self) -> None:
        """Count growth from now."""
        self._old, self._marked_at = self._new, time.time()
        await self._show()

    def action_pause(self) -> None:
        """Stop or continue reading."""
        self._paused = not self._paused
        self._draw_head()

    def action_help(self) -> None:
        """Show the keys."""
        self.app.push_screen(Help(HELP))

    async def action_back(self) -> None:
        """End a search, or close the screen."""
        if self._query:
            self._query = ""
            await self._show()
        elif self._inside is not None:
            await self.action_view(self._inside[0])
        else:
            self.dismiss()

    async def on_table_opened(self, event: Table.Opened) -> None:
        """Show the mappings of a group."""
        if self._view != "range":
            self._inside = self._view, event.key
            self._view = "range"
            await self._show()


def _timed(process: fastsmaps.Process) -> tuple[Mappings, Info, float]:
    """Return the mappings and other facts, and the CPU time it took to read them."""
    begun = time.thread_time()
    table, info = process.mappings(), process.info()
    return table, info, time.thread_time() - begun
