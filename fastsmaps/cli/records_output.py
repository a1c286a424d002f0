"""Print records as a table, JSON or CSV, or write them as Parquet; --sort and --limit."""

from __future__ import annotations

import itertools
import sys

from fastsmaps._fields import python_name
from fastsmaps._model.sizes import human
from fastsmaps._model.totals import NO_NAME
from fastsmaps._output.display import escaped, kib
from fastsmaps.cli.options import UsageError, is_table, write_errors
from fastsmaps.cli.output import print_csv, print_json, print_note, print_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from fastsmaps.cli.output import Record

#: The sizes of a table without --fields.
DEFAULT_SIZES = ("pss", "uss", "rss", "swap")

#: Pss as a part of the host's memory, in percent.
PERCENT = "pss_percent"

# Table heads that differ from the field's name.
_ALIASES = {"command": "cmdline", "address": "start", "mem%": PERCENT}


class Column:
    """A table column: its head, and a function from a record to its cell."""

    __slots__ = ("cell", "head", "left")

    def __init__(self, head: str, cell: Callable[[Record], str], *, left: bool = False) -> None:
        self.head = head
        self.cell = cell
        self.left = left


def text(name: str, head: str | None = None, *, empty: str = "") -> Column:
    """Return a column of texts; `empty` replaces an empty one."""
    return Column(head or name.upper(), lambda record: _shown(record.get(name)) or empty, left=True)


def key_columns(names: Iterable[str]) -> list[Column]:
    """Return columns for the keys of groups."""
    # Only a pattern can give an empty command line.
    empty = dict.fromkeys(("cmdline", "group"), "(no match)")
    empty |= {word: f"(no {word})" for word in ("unit", "slice", "container", "pod")}
    return [text(name, empty=empty.get(name, NO_NAME)) for name in names]


def number(name: str, head: str | None = None) -> Column:
    """Return a column of plain numbers."""
    return Column(head or name.upper(), lambda record: _shown(record.get(name)))


def sizes(names: Iterable[str], unit: Callable[[int | None], str]) -> list[Column]:
    """Return columns of sizes; the heads name the unit where the cells do not."""
    more = " KiB" if unit is kib else ""

    def column(name: str) -> Column:
        return Column(name.upper() + more, lambda record: unit(record.get(name)))

    return [column(name) for name in names]


def percents() -> Column:
    """Return the column of PERCENT."""
    return Column("MEM%", lambda record: shown_percent(record.get(PERCENT)))


def shown_percent(value: float | None) -> str:
    """Return a percentage as it is shown in tables."""
    return "-" if value is None else f"{value:.1f}"


def size_format(args: argparse.Namespace) -> Callable[[int | None], str]:
    """Return the function that formats sizes in tables: human() or kib()."""
    return human if args.human or (sys.stdout.isatty() and not args.kib) else kib


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return str(value)


# ---- names


def field_names(records: Iterable[Record], default: Iterable[str] = ()) -> list[str]:
    """Return all fields of the records, in order; `default` if there are no records."""
    names: dict[str, None] = {}
    last: list[str] = []
    for record in records:
        keys = list(record)
        if keys != last:  # usually all are the same
            names.update(dict.fromkeys(keys))
            last = keys
    return list(names or dict.fromkeys(default))


def resolve_field(name: str, names: Sequence[str], what: str) -> str:
    """Resolve a field name in Python's or the kernel's spelling, or a table's head."""
    for candidate in (name, python_name(name), name.lower(), _ALIASES.get(name.lower(), "")):
        if candidate in names:
            return candidate
    from fastsmaps.cli.hints import similar

    hint = similar(name, names)
    there_are = " There are" if hint else "; there are"
    known = " ".join(map(escaped, names))
    raise UsageError(f"{what}: no field {name!r}{hint}{there_are}: {known}")


# ---- order


def sort_and_limit(
    args: argparse.Namespace, records: Sequence[Record], names: Sequence[str]
) -> list[Record]:
    """Apply --sort, --reverse and --limit; values of --sort that are unknown come last."""
    result = list(records)
    if args.sort is not None:
        result = sort_records(result, *parse_sort(args.sort, names), reverse=args.reverse)
    elif args.reverse:
        result.reverse()
    return result[: args.limit]


def parse_sort(sort: str, names: Sequence[str]) -> tuple[str, str]:
    """Return the field of --sort and its direction: "+", "-" or ""."""
    direction = sort[:1] if sort[:1] in ("+", "-") else ""
    return resolve_field(sort[len(direction) :], names, "--sort"), direction


def sort_records(
    records: list[Record], name: str, direction: str = "", *, reverse: bool = False
) -> list[Record]:
    """Sort by a field; by default numbers descending, texts ascending; unknown values last."""
    present = [record for record in records if record.get(name) is not None]
    missing = [record for record in records if record.get(name) is None]
    descending = (direction or default_direction(present, name)) == "-"
    present.sort(key=_key(name), reverse=descending != reverse)
    return present + missing


def default_direction(records: Iterable[Record], name: str) -> str:
    """Return the direction in which a field is sorted by default."""
    values = (record.get(name) for record in records)
    numeric = all(isinstance(value, int | float) for value in values if value is not None)
    return "-" if numeric and name not in _ASCENDING else "+"


# Numbers that identify something.
_ASCENDING = ("pid", "ppid", "uid", "start", "end", "offset", "inode", "start_time")


def _key(name: str) -> Callable[[Record], Any]:
    def key(record: Record) -> Any:  # noqa: ANN401 - any comparable value
        value = record[name]
        return sorted(value.items()) if isinstance(value, dict) else value

    return key


# ---- output


def show(
    args: argparse.Namespace,
    records: Sequence[Record],
    columns: Sequence[Column],
    *,
    defaults: Sequence[str],
    total: Sequence[str] = (),
    note: str = "",
    in_table: Callable[[Record], bool] = lambda record: True,
    fields: Sequence[str] = (),
    origin: Record | None = None,
    kind: str = "",
) -> None:
    """Print or write the records in the requested format.

    `defaults` are the fields if there are no records. A table has only records for which
    `in_table` is true, followed by a `total` line and a `note`. JSON, CSV and Parquet have the
    `fields`, or all if there are none. Parquet has those of `origin` too, and the columns of that
    `kind` of table, which are null if they are not among the fields.
    """
    names = field_names(records, defaults)
    if is_table(args):
        records = [record for record in records if in_table(record)]
    sortable = [*dict.fromkeys((*names, *defaults))]
    records = sort_and_limit(args, records, sortable)
    if args.parquet:
        _write(args.parquet, kind, records, fields, origin or {})
        return
    if fields and not is_table(args):
        names = list(fields)
        records = [{name: record.get(name) for name in names} for record in records]
    if args.json:
        print_json(records)
    elif args.csv:
        print_csv(records, names)
    else:
        *first, last = columns
        cells = [[column.cell(record) for column in first] for record in records]
        lasts: Iterator[str] = map(last.cell, records)
        if total:
            cells.append(list(total[:-1]))
            lasts = itertools.chain(lasts, total[-1:])
        left = [column.head for column in columns if column.left]
        print_table([column.head for column in columns], cells, lasts, left)
        if note:
            print_note(f"\n{note}")


# ---- Parquet


def origin_of(
    args: argparse.Namespace, procfs: str | None, read_at: float | None, **more: object
) -> Record:
    """Return the columns that identify the origin of a Parquet file; {} for other formats.

    `procfs` is None if no process was read.
    """
    if not args.parquet:
        return {}
    import datetime

    from fastsmaps._source.source import Source

    host, seconds = (None, None) if procfs is None else Source(procfs).origin(read_at)
    taken_at = None if seconds is None else datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return {"host": host, "taken_at": taken_at, **more}


def _write(
    path: str, kind: str, records: Iterable[Record], fields: Iterable[str], origin: Record
) -> None:
    from fastsmaps._output.stored import rows_table
    from fastsmaps.parquet import write_parquet

    rows = [{**record, **origin} for record in records]
    table = rows_table(kind, rows, [*origin, *fields] if fields else None)
    with write_errors(path):
        write_parquet(table, path)
