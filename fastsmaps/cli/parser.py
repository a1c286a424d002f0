"""The parser of all arguments, by argparse, and the help."""

from __future__ import annotations

import argparse

import fastsmaps
from fastsmaps.cli.command import command_module
from fastsmaps.cli.options import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from _typeshed import SupportsWrite


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises UsageError; argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError with one line; main() escapes it for the terminal."""
        raise UsageError(message)

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        """Print --help or --version; argparse's own method ignores a full disk."""
        if message and file is not None:
            file.write(message)


#: The commands with their summaries; a module is imported when its command is used.
COMMANDS = {
    "ps": "every process with its Pss, Uss, Rss and swap",
    "totals": "every summed field of the given processes",
    "maps": "the mappings of a process",
    "host": "where the memory of the host went",
    "libs": "mapped files, summed over all processes",
    "diff": "what grew and shrank between two points in time",
    "top": "a live ps, within a CPU budget",
    "watch": "a process over time: its peak and what grew",
    "report": "one HTML page on a host or a capture",
    "capture": "save processes for the other commands to read with --procfs",
    "collect": "every process over time, in a Parquet data set",
    "export": "Prometheus metrics for groups of processes",
}

EXAMPLES = """\
examples:
  fastsmaps                            every process, largest Pss first
  fastsmaps totals 1234                every summed field of process 1234
  fastsmaps maps 1234 --by kind        its heap, stack, files, ...
  fastsmaps maps saved.smaps.xz        the mappings of a saved smaps
  fastsmaps host                       all of this host's memory, by purpose
  fastsmaps diff 1234 --after 60       what grew within a minute
  fastsmaps watch -- make              a command's memory from start to end
  fastsmaps capture -o host7.tar.gz    save this machine's processes ...
  fastsmaps ps --procfs host7.tar.gz   ... and show them elsewhere
  fastsmaps report -o report.html      a page on this host, to look through
  fastsmaps export --by unit           Prometheus metrics by systemd unit

Run `fastsmaps COMMAND --help` for more. Sizes have units on a terminal, and are in KiB in a pipe;
JSON and CSV are in bytes. Exit status: 0 on success; 1 if a named process or file could not be
read, or if --filter matches nothing; 2 for a usage error.
"""


def parse(argv: list[str]) -> argparse.Namespace:
    """Parse the arguments; UsageError with a hint if they are invalid."""
    name = argv[0]
    if name not in COMMANDS and not name.startswith("-"):
        from fastsmaps.cli.hints import unknown_command

        raise UsageError(f"{unknown_command(name, COMMANDS)} (see fastsmaps --help)")
    parser = make_parser(name)
    try:
        return parser.parse_args(argv)
    except UsageError as error:
        from fastsmaps.cli.hints import usage_hint

        hint = usage_hint(str(error), argv, _options(parser, name))
        command = f"fastsmaps {name}" if name in COMMANDS else "fastsmaps"
        raise UsageError(f"{error}{hint} (see {command} --help)") from None


def _options(parser: argparse.ArgumentParser, name: str) -> list[str]:
    """Return the long options of a command."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) and name in action.choices:
            actions = action.choices[name]._actions
            return [text for each in actions for text in each.option_strings if text[:2] == "--"]
    return []


def make_parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """Return the parser; only the chosen command gets its arguments, which saves imports."""
    top = Parser(
        prog="fastsmaps",
        description="The memory of Linux processes, from /proc/<pid>/smaps and smaps_rollup.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = f"fastsmaps {fastsmaps.__version__} ({fastsmaps.BACKEND} backend)"
    top.add_argument("--version", action="version", version=version)
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    for name, summary in COMMANDS.items():
        if name != chosen:
            commands.add_parser(name, help=summary, add_help=False)
            continue
        module = command_module(name)
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=f"examples:\n{module.EXAMPLES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
    return top
