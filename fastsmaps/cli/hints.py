"""Hints in errors: what may have been meant. Imported only after an error."""

from __future__ import annotations

import difflib
import itertools
import re
import shlex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def similar(word: str, names: Iterable[str]) -> str:
    """Return "; did you mean NAME?" if one of the names resembles the word, else ""."""
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f"; did you mean {by_lower[close[0]]}?" if close else ""


def unknown_command(word: str, commands: Iterable[str]) -> str:
    """Return the message for a first argument that is not a command."""
    text = f"there is no command {word!r}"
    if word == "self" or (word.isascii() and word.isdecimal()):
        return f"{text}; for a process run `fastsmaps totals {word}` or `fastsmaps maps {word}`"
    hint = similar(word, (*commands, "--help", "--version"))
    return text + (hint or f"; there are {', '.join(commands)}")


def usage_hint(message: str, argv: Sequence[str], options: Iterable[str]) -> str:
    """Return a hint to add to argparse's message; "" if there is none.

    `options` are those of the command.
    """
    if message.startswith("unrecognized arguments: "):
        if argv[0] == "watch" and "--" not in argv:
            return _separator(argv[1:])
        options = [*options, "--version"]
        unknown = [word.partition("=")[0] for word in argv if word.startswith("--")]
        return next((similar(word, options) for word in unknown if word not in options), "")
    for pattern in _CHOICES:
        if choice := pattern.search(message):
            return similar(choice["word"], re.findall(r"[\w-]+", choice["names"]))
    option = re.match(r"argument [^ ]*--(sort|limit|filter): expected one argument", message)
    if option:
        name = f"--{option[1]}"
        for word, value in itertools.pairwise(argv):
            if word in (name, name[1:3]) and value.startswith("-"):
                return f"; write {shlex.quote(f'{name}={value}')}"
    return ""


# Messages on a value that is not one of the choices: argparse's, and that of --by.
_CHOICES = (
    re.compile(r"invalid choice: '(?P<word>[^']*)' \(choose from (?P<names>.*)\)"),
    re.compile(r"one or several of (?P<names>.*), got '(?P<word>[^']*)'"),
)


def _separator(words: Sequence[str]) -> str:
    """Return the hint for watch, whose command has options of its own."""
    command = "COMMAND" if words[0].startswith("-") else shlex.join(words)
    return f'; put "--" before a command that has options: fastsmaps watch -- {command}'
