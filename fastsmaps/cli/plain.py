"""Plain command lines, such as ``totals 1234 --json``, parsed without argparse.

Importing argparse and building its parser takes as long as starting Python, 9 ms of the 10 that
``python -c ''`` takes. The arguments are still defined in one place, the command's add_arguments():
for a plain command line it adds them to an object that only notes them.
"""

from __future__ import annotations

from fastsmaps.cli.command import command_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

# Commands that read the processes of this machine, print and end.
_COMMANDS = ("ps", "totals", "maps", "libs")


def is_plain(argv: list[str]) -> bool:
    """Whether these are one of some commands, then pids, then at most one option without a value.

    Such a command leaves nothing behind if a signal ends it: it reads no other file than those of
    processes, and writes none.
    """
    if not argv or argv[0] not in _COMMANDS:
        return False
    words = argv[1:-1] if argv[-1].startswith("--") else argv[1:]
    return all(word == "self" or (word.isascii() and word.isdecimal()) for word in words)


def parse(argv: list[str]) -> argparse.Namespace | None:
    """Parse a plain command line; None if argparse must do it, or report what is wrong."""
    noted = _Arguments()
    command_module(argv[0]).add_arguments(noted)  # type: ignore[arg-type]
    options = argv[-1:] if argv[-1].startswith("--") else []
    words = argv[1 : len(argv) - len(options)]
    values = noted.values
    for option in options:
        if option not in noted.flags:
            return None
        values.update(noted.flags[option])
    if noted.nargs is None and len(words) == 1:
        values["target"] = words[0]
    elif noted.nargs == "*" or (noted.nargs == "+" and words):
        values["target"] = words
    else:
        return None
    return _Values(command=argv[0], **values)  # type: ignore[return-value]


class _Values:
    """The values by name, as attributes."""

    def __init__(self, **values: object) -> None:
        vars(self).update(values)


class _Arguments:
    """The methods of ArgumentParser that plain commands call, noting what they are passed."""

    def __init__(self) -> None:
        #: The default of each option by the name of its value.
        self.values: dict[str, Any] = {}
        #: What each option without a value sets.
        self.flags: dict[str, dict[str, bool]] = {}
        #: How often the only positional argument is repeated.
        self.nargs: str | None = None

    def add_argument(
        self,
        *names: str,
        action: str = "",
        nargs: str | None = None,
        default: object = None,
        **_: object,
    ) -> None:
        if not names[0].startswith("-"):
            self.nargs = nargs
            return
        # Like argparse: the first long name; a short one alone is left to argparse.
        name = next(name for name in names if name.startswith("--"))
        key = name[2:].replace("-", "_")
        if action == "store_true":
            default = False
            self.flags[name] = {key: True}
        self.values[key] = default

    def add_argument_group(self, title: str) -> _Arguments:
        return self

    def add_mutually_exclusive_group(self) -> _Arguments:
        return self  # a plain command line has only one option

    def set_defaults(self, **defaults: object) -> None:
        self.values.update(defaults)
