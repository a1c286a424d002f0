"""Arguments that several commands take, and what is said of wrong ones."""

from __future__ import annotations

import argparse
import os
import re

import fastsmaps
from fastsmaps._model.grouping import WORDS, Keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from _typeshed import SupportsWrite

#: What --max-rss is unless told: a rollup of more stalls the process for a second and longer.
MAX_RSS = "64G"

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


#: What --by takes, in its help.
BY = f"{', '.join(WORDS)} or cmdline:REGEX; several with commas between them"


class WrongUse(Exception):
    """Arguments that make no sense: one line, and status 2."""


class Parser(argparse.ArgumentParser):
    """Raises WrongUse where argparse would print its usage and leave."""

    def error(self, message: str) -> NoReturn:
        """Raise WrongUse with one line; main() escapes it for the terminal."""
        raise WrongUse(f"{message} (see {self.prog} --help)")

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        """Of --help and --version; argparse's own passes over a full disk."""
        if message and file is not None:
            file.write(message)


def add_output(parser: argparse.ArgumentParser, *, filters: str, parquet: bool = False) -> None:
    """How it is shown: what all commands take. `filters` is what --filter looks at.

    With `parquet` also --parquet, whose rows are those of --json.
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
            type=parquet_file,
            help="write a Parquet file, in bytes, with host and time in each row",
        )
    group.add_argument(
        "--human", action="store_true", help="print sizes with units (default: tables in KiB)"
    )
    group.add_argument(
        "--sort",
        metavar="FIELD",
        help="sort by any field of --json: numbers descending, text ascending; "
        "--sort=-FIELD is always descending, --sort=+FIELD always ascending",
    )
    group.add_argument("--limit", metavar="N", type=count, help="print only the first N")
    group.add_argument(
        "--filter",
        metavar="REGEX",
        type=pattern,
        help=f"print only rows whose {filters} matches; exit status 1 if none does",
    )
    add_procfs(parser)


def add_procfs(parser: argparse.ArgumentParser) -> None:
    """Add --procfs."""
    parser.add_argument(
        "--procfs",
        default="/proc",
        metavar="DIR|CAPTURE",
        help="read another procfs (a host's, mounted in a container) or a capture",
    )


def is_table(args: argparse.Namespace) -> bool:
    """Whether it is shown to people, as a table."""
    return not (args.json or args.csv or args.parquet)


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Which processes are left alone."""
    parser.add_argument(
        "--max-rss",
        metavar="SIZE",
        type=size,
        default=size(MAX_RSS),
        help=f'skip processes with a larger Rss, in K, M, G or T, or "none" (default: {MAX_RSS})',
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    """How many threads read."""
    parser.add_argument(
        "--workers",
        metavar="N",
        type=positive,
        default=min(4, os.cpu_count() or 1),
        help="number of threads that read (default: %(default)s)",
    )


def size(text: str) -> int | None:
    """Bytes; None for "none"."""
    if text == "none":
        return None
    match = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)([KMGT]?)(?:i?B)?", text, re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected a size such as 500M or 1.5G, got {text!r}")
    number, unit = match[1], _UNITS[match[2].upper()]
    return int(float(number) * unit) if "." in number else int(number) * unit


def parquet_file(path: str) -> str:
    """file_to_write(), and whether pyarrow is there to write it."""
    try:
        import fastsmaps.parquet  # noqa: F401
    except ImportError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return file_to_write(path)


def file_to_write(path: str) -> str:
    """A file that can be written: what stands in the way is told before anything is done."""
    from fastsmaps._output.files import check

    try:
        check(path)
    except OSError as error:
        raise cannot_write(path, error) from None
    return path


def cannot_write(path: str, error: OSError) -> fastsmaps.Error:
    """The one line for a file that cannot be written."""
    return fastsmaps.Error(f"cannot write {path}: {error.strerror or error}")


def pattern(text: str) -> re.Pattern[str]:
    """A regular expression."""
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        message = f"invalid regular expression {text!r}: {error}"
        raise argparse.ArgumentTypeError(message) from None


def keys(text: str) -> Keys:
    """What processes are grouped by."""
    try:
        return Keys(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("by ")) from None


def count(text: str) -> int:
    """A number of things, 0 too."""
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}")
    return int(text)


def positive(text: str) -> int:
    """A number of things, at least one."""
    number = count(text)
    if not 0 < number <= 1 << 20:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 1048576, got {text!r}")
    return number


def seconds(text: str) -> float:
    """A time, which may be 0."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    # A month is the most that select() and sleep() certainly take.
    if not 0 <= number <= 31 * 86400:
        raise argparse.ArgumentTypeError(f"expected seconds, at most 31 days, got {text!r}")
    return number


def share(text: str) -> float:
    """A share of one core."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"expected a share above 0 and at most 1, got {text!r}")
    return number


def add_sampling(parser: argparse.ArgumentParser, *, interval: float, budget: float = 0.01) -> None:
    """Add --interval and --budget."""
    parser.add_argument(
        "--interval",
        metavar="SECONDS",
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
