"""What most commands end with: records, sorted and cut, as a table, JSON or CSV."""

from __future__ import annotations

import itertools

from fastsmaps._fields import python_name
from fastsmaps._model.sizes import human
from fastsmaps._output.display import escaped, kib
from fastsmaps.cli.options import WrongUse, cannot_write, is_table
from fastsmaps.cli.output import print_csv, print_json, print_table, wrapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from fastsmaps.cli.output import Record

#: What has no path, where tables have a line for all of it; no path looks so.
NO_NAME = "(no name)"

#: The figures of the usual table.
DEFAULT_SIZES = ("pss", "uss", "rss", "swap")

# Heads of tables, where they are not the field's name.
_ALIASES = {"command": "cmdline", "address": "start"}


class Column:
    """A column of a table: its head, and how a record's cell is made."""

    __slots__ = ("cell", "head", "left")

    def __init__(self, head: str, cell: Callable[[Record], str], *, left: bool = False) -> None:
        self.head = head
        self.cell = cell
        self.left = left


def text(name: str, head: str | None = None, *, empty: str = "") -> Column:
    """A column of texts; `empty` stands for one without a character."""
    return Column(head or name.upper(), lambda record: _shown(record.get(name)) or empty, left=True)


def key_columns(names: Iterable[str]) -> list[Column]:
    """Columns of what groups have in common."""
    # Only a pattern gives an empty command line.
    empty = {"cmdline": "(no match)", "unit": "(no unit)"}
    return [text(name, empty=empty.get(name, NO_NAME)) for name in names]


def number(name: str, head: str | None = None) -> Column:
    """A column of plain numbers."""
    return Column(head or name.upper(), lambda record: _shown(record.get(name)))


def sizes(names: Iterable[str], unit: Callable[[int | None], str]) -> list[Column]:
    """Columns of sizes."""

    def column(name: str) -> Column:
        return Column(name.upper(), lambda record: unit(record.get(name)))

    return [column(name) for name in names]


def size_format(args: argparse.Namespace) -> Callable[[int | None], str]:
    """How sizes are written in tables."""
    return human if args.human else kib


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return str(value)


# ---- names


def field_names(records: Iterable[Record], known: Iterable[str] = ()) -> list[str]:
    """Every field that a record has, in their order; `known` where there is no record."""
    names: dict[str, None] = {}
    last: list[str] = []
    for record in records:
        keys = list(record)
        if keys != last:  # most have the same
            names.update(dict.fromkeys(keys))
            last = keys
    return list(names or dict.fromkeys(known))


def resolve_field(name: str, names: Sequence[str], what: str) -> str:
    """The field meant by a name in Python's or the kernel's spelling, or a table's head."""
    for candidate in (name, python_name(name), name.lower(), _ALIASES.get(name.lower(), "")):
        if candidate in names:
            return candidate
    raise WrongUse(f"{what}: no field {name!r}; there are: {' '.join(map(escaped, names))}")


# ---- order


def sort_and_limit(
    records: Sequence[Record], names: Sequence[str], sort: str | None, limit: int | None
) -> list[Record]:
    """Sorted as asked for, and no more than asked for; what is not known comes last."""
    result = list(records)
    if sort is not None:
        result = sort_records(result, *parse_sort(sort, names))
    return result if limit is None else result[:limit]


def parse_sort(sort: str, names: Sequence[str]) -> tuple[str, str]:
    """The field that --sort names, and the direction that it tells: "+", "-" or none."""
    direction = sort[:1] if sort[:1] in ("+", "-") else ""
    return resolve_field(sort[len(direction) :], names, "--sort"), direction


def sort_records(records: list[Record], name: str, direction: str = "") -> list[Record]:
    """Sorted by a field: figures downwards and texts upwards where no direction is told."""
    known = [record for record in records if record.get(name) is not None]
    unknown = [record for record in records if record.get(name) is None]
    known.sort(key=_key(name), reverse=(direction or default_direction(known, name)) == "-")
    return known + unknown


def default_direction(records: Iterable[Record], name: str) -> str:
    """A field's direction where none is told."""
    values = (record.get(name) for record in records)
    figures = all(isinstance(value, int | float) for value in values if value is not None)
    return "-" if figures and name not in _ASCENDING else "+"


# Numbers that are names.
_ASCENDING = ("pid", "ppid", "uid", "start", "end", "offset", "inode", "start_time")


def _key(name: str) -> Callable[[Record], Any]:
    def key(record: Record) -> Any:  # noqa: ANN401 - whatever can be compared
        value = record[name]
        return sorted(value.items()) if isinstance(value, dict) else value

    return key


# ---- all of it


def show(
    args: argparse.Namespace,
    records: Sequence[Record],
    columns: Sequence[Column],
    *,
    known: Sequence[str],
    total: Sequence[str] = (),
    note: str = "",
    table_of: Callable[[Record], bool] = lambda record: True,
    only: Sequence[str] = (),
    origin: Record | None = None,
    texts: Iterable[str] = (),
) -> None:
    """Prints the records as the arguments say, or writes them.

    `known` names the fields where there are no records. In a table a `total` line and a `note`
    follow; it shows only records for which `table_of` is true. JSON, CSV and Parquet have the
    fields in `only`, all of them where it is empty; Parquet has those of `origin` before them, and
    in it the columns `texts` are texts, whatever fields of that name are elsewhere.
    """
    names = field_names(records, known)
    if is_table(args):
        records = [record for record in records if table_of(record)]
    records = sort_and_limit(records, names, args.sort, args.limit)
    if args.parquet:
        _write(args.parquet, records, list(only) or [*known, *names], origin or {}, texts)
        return
    if only and not is_table(args):
        names = list(only)
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
            print(f"\n{wrapped(note)}")


# ---- Parquet


def origin_of(
    args: argparse.Namespace, procfs: str | None, read_at: float | None, **more: object
) -> Record:
    """The columns that tell one file of a fleet from another; none where no file is written.

    `procfs` is None for what was read of no process.
    """
    if not args.parquet:
        return {}
    import datetime

    from fastsmaps._source.source import Source

    host, seconds = (None, None) if procfs is None else Source(procfs).origin(read_at)
    taken_at = None if seconds is None else datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return {"host": host, "taken_at": taken_at, **more}


def _write(
    path: str,
    records: Iterable[Record],
    names: Iterable[str],
    origin: Record,
    texts: Iterable[str],
) -> None:
    from fastsmaps.parquet import table_of, write_parquet

    rows = [{**record, **origin} for record in records]
    # What a kernel does not print is a column nevertheless, so that a fleet's files are alike.
    table = table_of(rows, dict.fromkeys([*origin, *names]), texts)
    try:
        write_parquet(table, path)
    except OSError as error:
        raise cannot_write(path, error) from None
