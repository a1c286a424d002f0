"""--fields: the fields of a table, JSON, CSV or Parquet, instead of the usual ones."""

from __future__ import annotations

from fastsmaps._fields import NAMES, NUMBERS, PAGE_SIZES
from fastsmaps.cli.options import UsageError
from fastsmaps.cli.records_output import (
    PERCENT,
    Column,
    number,
    parse_sort,
    percents,
    resolve_field,
    shown_percent,
    sizes,
    text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

# Fields that are not sizes: shown as they are.
_TEXTS = frozenset(
    ("cgroup", "cmdline", "comm", "dev", "error", "exe", "extra", "kind", "label", "outcome",
     "path", "perms", "use", "user", "vm_flags")
)  # fmt: skip
_PLAIN = _TEXTS.union(
    ("cgroup_oom_kills", "deleted", "depth", "end", "files", "inode", "mappings", "new_files",
     "offset", "old_files", "pid", "ppid", "processes", PERCENT, "start", "start_time",
     "tree_processes", "tree_unread", "uid", "unread"),
    map(NAMES.__getitem__, NUMBERS),
)  # fmt: skip
# Sizes that have no meaningful sum.
_PAGE_SIZES = frozenset(map(NAMES.__getitem__, PAGE_SIZES))


def add_fields(parser: argparse.ArgumentParser) -> None:
    """Add --fields; --columns is its name in smem."""
    parser.add_argument(
        "--fields",
        "--columns",
        metavar="FIELD,...",
        help="print these fields; default: the usual ones in tables, otherwise all",
    )


def selected_fields(
    args: argparse.Namespace, names: Sequence[str], usual: Sequence[str]
) -> list[str]:
    """Return the fields of --fields, `usual` without it; UsageError for an unknown one."""
    if args.fields is None:
        return list(usual)
    fields = [resolve_field(name.strip(), names, "--fields") for name in args.fields.split(",")]
    return list(dict.fromkeys(fields))


def output_fields(args: argparse.Namespace, *names: str) -> list[str]:
    """Return the fields of JSON, CSV and Parquet, each once; [] (all) without --fields."""
    return [] if args.fields is None else list(dict.fromkeys(names))


def requested_fields(args: argparse.Namespace, names: Sequence[str]) -> set[str]:
    """Return those of the fields `names` that --fields and --sort need to be read."""
    if args.fields is None and not args.sort:
        return set()
    import contextlib

    fields: set[str] = set()
    for name in (args.fields or "").split(","):
        # It may be a field of a newer kernel, which is checked after reading.
        with contextlib.suppress(UsageError):
            fields.add(resolve_field(name.strip(), names, "--fields"))
    if args.sort:
        with contextlib.suppress(UsageError):
            fields.add(parse_sort(args.sort, names)[0])
    return fields


def is_size(name: str) -> bool:
    """Whether a field is a number of bytes that can be summed."""
    return name not in _PLAIN and name not in _PAGE_SIZES


def columns_of(names: Iterable[str], unit: Callable[[int | None], str]) -> list[Column]:
    """Return a table column for each field; sizes are printed by `unit`."""

    def column(name: str) -> Column:
        if name in _TEXTS:
            return text(name)
        if name == PERCENT:
            return percents()
        return number(name) if name in _PLAIN else sizes([name], unit)[0]

    return [column(name) for name in names]


def total_cells(
    names: Iterable[str], sums: Mapping[str, Any], unit: Callable[[int | None], str]
) -> list[str]:
    """Return the cells of a table's total line; empty for fields that are not summed."""

    def cell(name: str) -> str:
        if name not in sums:
            return ""
        if name == PERCENT:
            return shown_percent(sums[name])
        return unit(sums[name]) if is_size(name) else ""

    return [cell(name) for name in names]
