"""Arguments shared by several commands, and the types of argument values."""

from __future__ import annotations

import os

import fastsmaps
from fastsmaps._model.grouping import WORDS, Keys
from fastsmaps.cli.output import COLOR_CHOICES, note_written

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    import re
    from collections.abc import Callable, Sequence

#: The default of --max-rss: reading a larger rollup stalls the process for a second or longer.
MAX_RSS = 64 << 30

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

_TIMES = {"s": 1, "m": 60, "h": 3600, "d": 86400}

#: The values of --by, for its help.
BY_HELP = f"{', '.join(WORDS)} or cmdline:REGEX; several with commas between them"


class UsageError(Exception):
    """Invalid arguments: printed as one line, exit status 2."""


def add_output(
    parser: argparse.ArgumentParser,
    *,
    filters: str,
    parquet: bool = False,
    short_limit: bool = True,
) -> None:
    """Add the output options; `filters` is what --filter selects by.

    With `parquet` also --parquet, with the same rows as --json. -n is --limit if `short_limit`.
    """
    group = parser.add_argument_group("output")
    form = group.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON, in bytes")
    form.add_argument("--csv", action="store_true", help="print CSV, in bytes")
    parser.set_defaults(parquet=None)
    if parquet:
        form.add_argument(
            "--parquet",
            metavar="FILE",
            type=extra_file("fastsmaps.parquet"),
            help="write a Parquet file, in bytes, with host and time in each row",
        )
    add_units(group)
    add_color(group)
    group.add_argument(
        "-s",
        "--sort",
        metavar="FIELD",
        help="sort by any field of --json: numbers descending, text ascending; "
        "--sort=-FIELD is always descending, --sort=+FIELD always ascending",
    )
    group.add_argument("-r", "--reverse", action="store_true", help="reverse the order")
    group.add_argument(
        *(["-n"] if short_limit else []),
        "--limit",
        metavar="N",
        type=count,
        help="print only the first N",
    )
    group.add_argument(
        "--filter",
        metavar="REGEX",
        type=pattern,
        help=f"only {filters} matches; exit status 1 if none does",
    )
    add_procfs(parser)


def add_units(parser: argparse._ActionsContainer) -> None:
    """Add --human and --kib."""
    units = parser.add_mutually_exclusive_group()
    units.add_argument(
        "--human", action="store_true", help="print sizes with units (default on a terminal)"
    )
    units.add_argument(
        "--kib", action="store_true", help="print sizes in KiB (default elsewhere, as in a pipe)"
    )


def add_color(parser: argparse._ActionsContainer) -> None:
    """Add --color; main() sets it."""
    parser.add_argument(
        "--color",
        choices=COLOR_CHOICES,
        default="auto",
        help="auto (default): colours on a terminal; NO_COLOR, FORCE_COLOR and TERM=dumb count",
    )


def add_procfs(parser: argparse.ArgumentParser) -> None:
    """Add --procfs."""
    parser.add_argument(
        "--procfs",
        default="/proc",
        metavar="DIR|CAPTURE",
        help="read another procfs (a host's, mounted in a container) or a capture",
    )


def is_table(args: argparse.Namespace) -> bool:
    """Whether the output is a table for people."""
    return not (args.json or args.csv or args.parquet)


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add --max-rss."""
    parser.add_argument(
        "--max-rss",
        metavar="SIZE",
        type=size,
        default=MAX_RSS,
        help='skip processes with a larger Rss, in K, M, G or T, or "none" (default: 64G)',
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add --workers."""
    parser.add_argument(
        "--workers",
        metavar="N",
        type=positive,
        default=min(4, os.cpu_count() or 1),
        help="number of threads that read (default: %(default)s)",
    )


def invalid(message: str) -> argparse.ArgumentTypeError:
    """Return the error for the text of a value."""
    import argparse

    return argparse.ArgumentTypeError(message)


def size(text: str) -> int | None:
    """Parse a number of bytes; None for "none"."""
    if text == "none":
        return None
    import re

    match = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)([KMGT]?)(?:i?B)?", text, re.IGNORECASE)
    if match is None:
        raise invalid(f"expected a size such as 500M or 1.5G, got {text!r}")
    number, unit = match[1], _UNITS[match[2].upper()]
    return int(float(number) * unit) if "." in number else int(number) * unit


def extra_file(module: str) -> Callable[[str], str]:
    """Return file_to_write() with a check that the module's extra is installed."""

    def check_file(path: str) -> str:
        try:
            __import__(module)
        except ImportError as error:
            raise invalid(str(error)) from None
        return file_to_write(path)

    return check_file


def file_to_write(path: str) -> str:
    """Check that a file can be written, so that errors are reported before any work is done."""
    from fastsmaps._output.files import check

    try:
        check(path)
    except OSError as error:
        raise _not_written(path, error) from None
    return path


def _not_written(path: str, error: OSError) -> fastsmaps.Error:
    return fastsmaps.Error(f"cannot write {path}: {error.strerror or error}")


class write_errors:  # noqa: N801 - called like a function
    """Raise fastsmaps.Error if the file cannot be written in the block; else note that it was."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise _not_written(self._path, error) from None
        if error is None:
            note_written(self._path)


def pattern(text: str) -> re.Pattern[str]:
    """Parse a regular expression."""
    import re

    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        message = f"invalid regular expression {text!r}: {error}"
        raise invalid(message) from None


def group_keys(text: str) -> Keys:
    """Parse the keys that processes are grouped by."""
    try:
        return Keys(text)
    except ValueError as error:
        raise invalid(str(error).removeprefix("by ")) from None


def add_groups(parser: argparse.ArgumentParser) -> None:
    """Add --group, which comes before the words of --by: see named_groups()."""
    parser.add_argument(
        "--group",
        metavar="NAME=REGEX",
        action="append",
        type=lambda text: group_keys(f"group:{text}"),
        default=[],
        help="name the processes whose command line matches; the first of several counts; NAME may "
        "have {comm}, {user} and named parts of the pattern: {app}",
    )


def named_groups(groups: Sequence[Keys], by: Keys | None) -> Keys | None:
    """Return the keys for --group and --by together; None if neither was given."""
    return Keys([word for keys in (*groups, by) if keys for word in keys.words]) if groups else by


def count(text: str) -> int:
    """Parse a whole number, 0 or more."""
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise invalid(f"expected a whole number, got {text!r}")
    return int(text)


def positive(text: str) -> int:
    """Parse a whole number, 1 or more."""
    number = count(text)
    if not 0 < number <= 1 << 20:
        raise invalid(f"expected a whole number from 1 to 1048576, got {text!r}")
    return number


def seconds(text: str) -> float:
    """Parse a time, 0 or more, in seconds or another unit; return seconds."""
    factor = _TIMES.get(text[-1:], 1)
    number = factor * _number(text[:-1] if text[-1:] in _TIMES else text)
    # select() and sleep() are certain to accept a month.
    if not 0 <= number <= 31 * 86400:
        raise invalid(
            f"expected a time such as 30 (seconds), 1.5m, 2h or 1d, at most 31 days, got {text!r}"
        )
    return number


def share(text: str) -> float:
    """Parse a share of one core."""
    number = _number(text)
    if not 0 < number <= 1:
        raise invalid(f"expected a share above 0 and at most 1, got {text!r}")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return -1.0


def add_sampling(parser: argparse.ArgumentParser, *, interval: float, budget: float = 0.01) -> None:
    """Add --interval and --budget."""
    parser.add_argument(
        "--interval",
        metavar="TIME",
        type=seconds,
        default=interval,
        help="time between two samples (default: %(default)g)",
    )
    parser.add_argument(
        "--budget",
        metavar="SHARE",
        type=share,
        default=budget,
        help="share of one core to use (default: %(default)s); large processes get fewer samples",
    )
