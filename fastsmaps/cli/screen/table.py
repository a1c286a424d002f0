"""A table with a selected row that draws only the lines on the screen.

Textual's DataTable holds a cell object for each value: with thousands of rows an update takes
seconds (Textualize/textual#1892, #5951).
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import ClassVar, NamedTuple, Protocol

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from fastsmaps._output.display import cut_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastsmaps.cli.screen.drawing import Span

    #: A cell: a text, or several with styles.
    Cell = str | list[Span]

_SHIFT = 8


class Column(NamedTuple):
    """A column: the name by which its rows are sorted, its head, and its width in cells.

    The last column takes the rest of the line, at least its width: a narrow screen leaves out
    columns for it, those with the largest ``rank`` first. If it ``keeps_end``, paths that are too
    long lose their start.
    """

    name: str
    head: str
    width: int
    right: bool = True
    rank: int = 0
    keeps_end: bool = False


class Rows(Protocol):
    """The rows of a table; cells are asked for only while they are on the screen."""

    @property
    def columns(self) -> Sequence[Column]: ...

    def __len__(self) -> int: ...

    def key(self, index: int) -> Hashable:
        """Return what identifies the row, also in later rows."""

    def place(self, key: Hashable) -> int | None:
        """Return the index of the row with this key."""

    def cells(self, index: int) -> Sequence[Cell]:
        """Return a cell for each column."""


class NoRows:
    """No rows, until the first are read."""

    columns = ()

    def __len__(self) -> int:
        return 0

    def key(self, index: int) -> Hashable:
        """Raise IndexError: there are no rows."""
        raise IndexError(index)

    def place(self, key: Hashable) -> int | None:
        """Return None."""

    def cells(self, index: int) -> list[Cell]:
        """Raise IndexError: there are no rows."""
        raise IndexError(index)


class Table(ScrollView, can_focus=True):
    """Rows below a head; the selected row stays on its key when the order changes."""

    DEFAULT_CSS = "Table { height: 1fr; overflow-x: hidden; scrollbar-size-vertical: 1; }"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup,ctrl+b", "page(-1)", show=False),
        Binding("pagedown,ctrl+f", "page(1)", show=False),
        Binding("home", "edge(0)", show=False),
        Binding("end", "edge(1)", show=False),
        Binding("left", "shift(-1)", show=False),
        Binding("right", "shift(1)", show=False),
        Binding("enter", "open", "open"),
    ]

    class Opened(Message):
        """Enter or a double click on a row."""

        def __init__(self, key: Hashable) -> None:
            super().__init__()
            self.key = key

    class HeadClicked(Message):
        """A click on the head of a column."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self.rows = rows
        self._sort: tuple[str, bool] = ("", True)
        self._cursor = 0
        # None until the user selects a row: then the screen follows it.
        self._selected: Hashable | None = None
        self._shift = 0
        self._lines: dict[int, Strip] = {}
        self._drawn: dict[int, Strip] = {}

    # ---- content

    def show(self, rows: Rows, sort: str, descending: bool) -> None:
        """Show other rows; `sort` is the column to mark."""
        self.rows, self._sort = rows, (sort, descending)
        size = Size(self.size.width, len(rows) + 1)
        if size != self.virtual_size:
            self.virtual_size = size
        if self._selected is not None:
            place = rows.place(self._selected)
            if place is None:  # it has gone: select its neighbour, without following it
                self._selected = None
            else:
                self._cursor = place
        self._cursor = max(0, min(self._cursor, len(rows) - 1))
        if self._selected is not None:
            self._reveal()
        self._update()

    @property
    def selected(self) -> Hashable | None:
        """The key of the marked row; None in an empty table."""
        return self.rows.key(self._cursor) if len(self.rows) else None

    def select(self, key: Hashable) -> None:
        """Select the row with this key, if there is one."""
        place = self.rows.place(key)
        if place is not None:
            self._go(place)

    def clear_selection(self) -> None:
        """Go back to the first row, and follow none."""
        self._cursor, self._selected = 0, None
        self._reveal()
        self._update()

    # ---- drawing

    def _columns(self) -> list[tuple[int, Column, int]]:
        """Return the columns that fit: index, column, width."""
        columns = self.rows.columns
        width = self.size.width
        if not columns:
            return []
        shown = list(range(len(columns)))
        while len(shown) > 2:
            fixed = sum(columns[i].width + 1 for i in shown[:-1])
            if fixed + columns[-1].width <= width:
                break
            worst = max(shown[:-1], key=lambda i: columns[i].rank)
            if not columns[worst].rank:
                break
            shown.remove(worst)
        rest = width - sum(columns[i].width + 1 for i in shown[:-1])
        return [
            (i, columns[i], columns[i].width if i != shown[-1] else max(rest, 1)) for i in shown
        ]

    def _head(self) -> Strip:
        name, descending = self._sort
        segments = []
        style = Style(bold=True, reverse=True)
        for _, column, width in self._columns():
            text = column.head
            if column.name == name:
                text += "▼" if descending else "▲"
            segments.append(Segment(_fitted(text, width, column.right) + " ", style))
        return Strip(segments).simplify().adjust_cell_length(self.size.width, style)

    def _row(self, index: int) -> Strip:
        segments: list[Segment] = []
        marked = index == self._cursor
        base = Style(reverse=True) if marked else Style.null()
        columns = self._columns()
        cells = self.rows.cells(index)
        for i, column, width in columns:
            cell = cells[i]
            spans = [(cell, "")] if isinstance(cell, str) else cell
            if column is columns[-1][1]:
                if column.keeps_end and not self._shift:
                    spans = [(cut_path(text, width), style) for text, style in spans]
                spans = _cut(spans, self._shift, width)
            elif isinstance(cell, str):
                spans = [(_fitted(cell, width, column.right), "")]
            elif (missing := width - sum(cell_len(text) for text, _ in spans)) > 0:
                blank = (" " * missing, "")
                spans = [blank, *spans] if column.right else [*spans, blank]
            segments += [Segment(text, base + _style(style)) for text, style in spans]
            segments.append(Segment(" ", base))
        return Strip(segments).simplify().adjust_cell_length(self.size.width, base)

    def _line(self, y: int) -> Strip:
        if y == 0:
            return self._head()
        index = self.scroll_offset.y + y - 1
        if index < len(self.rows):
            return self._row(index)
        return Strip.blank(self.size.width, Style.null())

    def render_line(self, y: int) -> Strip:
        """Return a line of the screen; Textual asks for those that it draws."""
        strip = self._lines.pop(y, None)
        if strip is None:
            strip = self._line(y)
        self._drawn[y] = strip
        return strip

    def _update(self) -> None:
        """Draw the lines that changed: a terminal far away gets only those."""
        if not self.is_mounted or not self.size.width:
            return
        for y in range(self.size.height):
            strip = self._line(y)
            if self._drawn.get(y) != strip:
                self._lines[y] = strip
                self.refresh(Region(0, y, self.size.width, 1))

    def on_resize(self, event: events.Resize) -> None:
        """Fit the columns anew."""
        self._lines.clear()
        self._drawn.clear()
        self.virtual_size = Size(event.size.width, len(self.rows) + 1)
        if self._selected is not None:
            self._reveal()
        self.refresh()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Draw all lines after scrolling."""
        self._lines.clear()
        super().watch_scroll_y(old_value, new_value)

    # ---- selection

    def _go(self, index: int) -> None:
        if len(self.rows):
            self._cursor = max(0, min(index, len(self.rows) - 1))
            self._selected = self.rows.key(self._cursor)
            self._reveal()
            self._update()

    def _reveal(self) -> None:
        """Scroll until the selected row is visible."""
        lines = max(self.size.height - 1, 1)
        top = self.scroll_offset.y
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False, immediate=True)
        elif self._cursor >= top + lines:
            self.scroll_to(y=self._cursor - lines + 1, animate=False, immediate=True)

    def action_move(self, lines: int) -> None:
        """Move the selection by some rows."""
        self._go(self._cursor + lines)

    def action_page(self, pages: int) -> None:
        """Move the selection by some screens."""
        self._go(self._cursor + pages * max(self.size.height - 2, 1))

    def action_edge(self, last: int) -> None:
        """Select the first or the last row."""
        self._go(len(self.rows) - 1 if last else 0)

    def action_shift(self, steps: int) -> None:
        """Show another part of the last column's texts."""
        self._shift = max(0, self._shift + steps * _SHIFT)
        self._update()

    def action_open(self) -> None:
        """Open the selected row."""
        if len(self.rows):
            self.post_message(self.Opened(self.rows.key(self._cursor)))

    def on_click(self, event: events.Click) -> None:
        """Sort by a head, select a row, open it by a double click."""
        if event.y == 0:
            start = 0
            for _, column, width in self._columns():
                if start <= event.x < start + width + 1:
                    self.post_message(self.HeadClicked(column.name))
                start += width + 1
            return
        index = self.scroll_offset.y + event.y - 1
        if index < len(self.rows):
            self._go(index)
            if event.chain == 2:
                self.action_open()


def _fitted(text: str, width: int, right: bool) -> str:
    size = cell_len(text)
    if size > width:
        return set_cell_size(text[: width * 2], width)
    return " " * (width - size) + text if right else text + " " * (width - size)


def _cut(spans: list[Span], shift: int, width: int) -> list[Span]:
    """Return the cells from `shift` on, `width` of them."""
    cut = []
    for text, style in spans:
        if shift:
            size = cell_len(text)
            if size <= shift:
                shift -= size
                continue
            while shift > 0:
                shift -= cell_len(text[0])
                text = text[1:]
            shift = 0
        cut.append((text, style))
    out: list[Span] = []
    for text, style in cut:
        if width <= 0:
            break
        size = cell_len(text)
        out.append((set_cell_size(text, width) if size > width else text, style))
        width -= size
    return out


_styles: dict[str, Style] = {"": Style.null()}


def _style(name: str) -> Style:
    style = _styles.get(name)
    if style is None:
        style = _styles[name] = Style.parse(name)
    return style
