"""Dialogs above a screen: choose one, choose several, help."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import ClassVar, TypeVar

from textual import events
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import OptionList, Static

TYPE_CHECKING = False
if TYPE_CHECKING:
    from textual.app import ComposeResult

_CSS = """
{name} {{ align: center middle; }}
{name} > .dialog, {name} > .dialog:focus {{
    width: auto; max-width: 100%; height: auto; max-height: 90%;
    border: round $primary; padding: 0 1;
}}
"""


W = TypeVar("W", bound=Widget)


def _titled(widget: W, title: str) -> W:
    """Return the widget as a dialog with a title, which is not cut."""
    widget.add_class("dialog")
    widget.border_title = title
    widget.styles.min_width = len(title) + 8
    return widget


class ChooseOne(ModalScreen[str | None]):
    """A list of words with texts; returns the chosen word, None for Escape."""

    DEFAULT_CSS = _CSS.format(name="ChooseOne")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss(None)", "back"),
        Binding("j", "app.simulate_key('down')", show=False),
        Binding("k", "app.simulate_key('up')", show=False),
    ]

    def __init__(self, title: str, options: Sequence[tuple[str, str]], current: str) -> None:
        super().__init__()
        self._title, self._options, self._current = title, options, current

    def compose(self) -> ComposeResult:
        """Make the list."""
        options = OptionList(*(text for _, text in self._options), markup=False)
        words = [word for word, _ in self._options]
        options.highlighted = words.index(self._current) if self._current in words else 0
        yield _titled(options, self._title)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Return the chosen word."""
        self.dismiss(self._options[event.option_index][0])


class ChooseSeveral(ModalScreen[list[str] | None]):
    """A list of words to switch on and off; returns the chosen ones in their order."""

    DEFAULT_CSS = _CSS.format(name="ChooseSeveral")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss(None)", "back"),
        Binding("space", "switch", "switch"),
        Binding("j", "app.simulate_key('down')", show=False),
        Binding("k", "app.simulate_key('up')", show=False),
    ]

    def __init__(self, title: str, words: Sequence[str], chosen: Sequence[str]) -> None:
        super().__init__()
        self._title, self._words, self._before = title, words, chosen
        self._chosen = set(chosen)

    def compose(self) -> ComposeResult:
        """Make the list."""
        # Textual's SelectionList shows the choice by a colour only.
        yield _titled(
            OptionList(*map(self._prompt, self._words), markup=False),
            f"{self._title}: space switches, Enter uses them",
        )

    def _prompt(self, word: str) -> str:
        return f"[{'x' if word in self._chosen else ' '}] {word}"

    def action_switch(self) -> None:
        """Switch the highlighted word."""
        options = self.query_one(OptionList)
        if options.highlighted is not None:
            word = self._words[options.highlighted]
            self._chosen ^= {word}
            options.replace_option_prompt_at_index(options.highlighted, self._prompt(word))

    def on_option_list_option_selected(self) -> None:
        """Return the chosen words, those that were chosen before in their order."""
        old = [word for word in self._before if word in self._chosen]
        self.dismiss(old + [w for w in self._words if w in self._chosen and w not in old])


class Help(ModalScreen[None]):
    """All keys."""

    DEFAULT_CSS = _CSS.format(name="Help") + "Help > .dialog > Static { width: auto; }"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,h,question_mark", "dismiss", "back")]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """Show the text."""
        yield _titled(VerticalScroll(Static(markup=False)), "keys")

    def on_resize(self, event: events.Resize) -> None:
        """Wrap the lines; those that follow begin where the explanation of the key does."""
        lines = []
        for line in self._text.splitlines():
            keys = re.match(r"(\S+ )* +| *", line)
            indent = " " * len(keys[0] if keys else "")
            wrapped = textwrap.wrap(line, max(event.size.width - 6, 20), subsequent_indent=indent)
            lines += wrapped or [""]
        self.query_one(Static).update("\n".join(lines))
