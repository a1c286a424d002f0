"""--fields: the figures that a table, JSON, CSV or Parquet shows instead of the usual ones."""

from __future__ import annotations

import contextlib

from fastsmaps._fields import NAMES, NUMBERS, PAGE_SIZES
from fastsmaps.cli.options import WrongUse
from fastsmaps.cli.records_output import Column, number, parse_sort, resolve_field, sizes, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Mapping, Sequence

# Fields that are not sizes: shown as they are.
_TEXTS = frozenset(
    ("cgroup", "cmdline", "comm", "dev", "error", "exe", "extra", "kind", "label", "outcome",
     "path", "perms", "user", "vm_flags")
)  # fmt: skip
_PLAIN = _TEXTS.union(
    ("deleted", "depth", "end", "files", "inode", "mappings", "new_files", "offset", "old_files",
     "pid", "ppid", "processes", "start", "start_time", "tree_processes", "tree_unread", "uid",
     "unread"),
    map(NAMES.__getitem__, NUMBERS),
)  # fmt: skip
# Sizes that have no meaningful sum.
_PAGE_SIZES = frozenset(map(NAMES.__getitem__, PAGE_SIZES))


def add_fields(parser: argparse.ArgumentParser) -> None:
    """Add the argument."""
    parser.add_argument(
        "--fields",
        metavar="FIELD,...",
        help="print these fields; default: the usual ones in tables, otherwise all",
    )


def chosen(args: argparse.Namespace, names: Sequence[str], usual: Sequence[str]) -> list[str]:
    """Resolve --fields to names of fields, `usual` without it; WrongUse for an unknown one."""
    if args.fields is None:
        return list(usual)
    asked = [resolve_field(name.strip(), names, "--fields") for name in args.fields.split(",")]
    return list(dict.fromkeys(asked))


def only(args: argparse.Namespace, *names: str) -> list[str]:
    """The fields of JSON, CSV and Parquet, each once; [] (all of them) without --fields."""
    return [] if args.fields is None else list(dict.fromkeys(names))


def needed(args: argparse.Namespace, names: Sequence[str]) -> set[str]:
    """Which of the fields `names` the arguments --fields and --sort ask for, so must be read."""
    found: set[str] = set()
    for name in [] if args.fields is None else args.fields.split(","):
        with contextlib.suppress(WrongUse):  # perhaps a field of a newer kernel: known later
            found.add(resolve_field(name.strip(), names, "--fields"))
    if args.sort:
        with contextlib.suppress(WrongUse):
            found.add(parse_sort(args.sort, names)[0])
    return found


def is_size(name: str) -> bool:
    """Whether a field is a number of bytes that can be summed."""
    return name not in _PLAIN and name not in _PAGE_SIZES


def columns_of(names: Iterable[str], unit: Callable[[int | None], str]) -> list[Column]:
    """A table's column for each field: sizes in their unit, anything else as it is."""

    def column(name: str) -> Column:
        if name in _TEXTS:
            return text(name)
        return number(name) if name in _PLAIN else sizes([name], unit)[0]

    return [column(name) for name in names]


def total_cells(
    names: Iterable[str], sums: Mapping[str, int | None], unit: Callable[[int | None], str]
) -> list[str]:
    """The cells of a table's total line; empty for fields that are not summed."""
    return [unit(sums[name]) if is_size(name) and name in sums else "" for name in names]
