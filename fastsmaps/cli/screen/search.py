"""The line in which one types what to search for."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Input

from fastsmaps.cli.screen.table import Table


class SearchLine(Input):
    """An input at the bottom, shown while one types; each key filters the table."""

    DEFAULT_CSS = """
    SearchLine { height: 1; border: none; padding: 0; display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "finish(False)", "end search"),
        Binding("enter,down,up", "finish(True)", "to the table", priority=True),
    ]

    def __init__(self) -> None:
        super().__init__(placeholder="search", compact=True, select_on_focus=False)

    def begin(self, text: str) -> None:
        """Show the line with the current text."""
        self.value = text
        self.cursor_position = len(text)
        self.display = True
        # At once, and by a binding with priority: keys typed meanwhile would be commands.
        self.screen.set_focus(self)

    def action_finish(self, keep: bool) -> None:
        """Hide the line; without `keep` the search ends."""
        if not keep:
            self.value = ""
        self.screen.set_focus(self.screen.query_one(Table))
        self.display = False


def contains(text: str, query: str) -> bool:
    """Whether the text contains the query; case matters if that has a capital letter."""
    return query in (text.lower() if query == query.lower() else text)
