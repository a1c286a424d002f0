"""What most commands end with: records, sorted and cut, as a table, JSON or CSV."""

from __future__ import annotations

import sys

from fastsmaps.cli.arguments import WrongUse
from fastsmaps.cli.output import harmless, human, kib, print_csv, print_json, print_table
from fastsmaps.fields import python_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from fastsmaps.cli.output import Record

#: What has no path, where tables have a line for all of it; no path looks so.
NO_NAME = "(no name)"

#: The figures of the usual table.
FIGURES = ("pss", "uss", "rss", "swap")

# Heads of tables, where they are not the field's name.
_ALIASES = {"command": "cmdline", "user_name": "user", "address": "start"}


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


def number(name: str, head: str | None = None) -> Column:
    """A column of plain numbers."""
    return Column(head or name.upper(), lambda record: _shown(record.get(name)))


def sizes(names: Iterable[str], unit: Callable[[int | None], str]) -> list[Column]:
    """Columns of sizes."""

    def column(name: str) -> Column:
        return Column(name.upper(), lambda record: unit(record.get(name)))

    return [column(name) for name in names]


def unit_of(args: argparse.Namespace) -> Callable[[int | None], str]:
    """How sizes are written in tables."""
    return human if args.human else kib


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return str(value)


# ---- names


def names_of(records: Iterable[Record], known: Iterable[str] = ()) -> list[str]:
    """Every field that a record has, in their order; `known` where there is no record."""
    names: dict[str, None] = {}
    last: list[str] = []
    for record in records:
        keys = list(record)
        if keys != last:  # most have the same
            names.update(dict.fromkeys(keys))
            last = keys
    return list(names or dict.fromkeys(known))


def resolved(name: str, names: Sequence[str], what: str) -> str:
    """The field meant by a name in Python's or the kernel's spelling, or a table's head."""
    for candidate in (name, python_name(name), name.lower(), _ALIASES.get(name.lower(), "")):
        if candidate in names:
            return candidate
    raise WrongUse(f"{what}: no field {name!r}; there are: {' '.join(map(harmless, names))}")


# ---- order


def arranged(
    records: Sequence[Record], names: Sequence[str], sort: str | None, limit: int | None
) -> list[Record]:
    """Sorted as asked for, and no more than asked for; what is not known comes last."""
    result = list(records)
    if sort is not None:
        direction = sort[:1] if sort[:1] in ("+", "-") else ""
        name = resolved(sort[len(direction) :], names, "--sort")
        result = by_field(result, name, direction)
    return result if limit is None else result[:limit]


def by_field(records: list[Record], name: str, direction: str = "") -> list[Record]:
    """Sorted by a field: figures downwards and texts upwards where no direction is told."""
    known = [record for record in records if record.get(name) is not None]
    unknown = [record for record in records if record.get(name) is None]
    figures = all(isinstance(record[name], int | float) for record in known)
    down = direction == "-" or (not direction and figures and name not in _UPWARDS)
    known.sort(key=_key(name), reverse=down)
    return known + unknown


# Numbers that are names.
_UPWARDS = ("pid", "ppid", "uid", "start", "end", "offset", "inode", "start_time")


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
    csv_of: Callable[[Record], Record] = lambda record: record,
) -> None:
    """Prints the records as the arguments say.

    `known` names the fields where there are no records. In a table a `total` line and a `note`
    follow; it shows only records for which `table_of` is true. In CSV each is what `csv_of`
    makes of it.
    """
    names = names_of(records, known)
    if not (args.json or args.csv):
        records = [record for record in records if table_of(record)]
    records = arranged(records, names, args.sort, args.limit)
    if args.json:
        print_json(records)
    elif args.csv:
        flat = [csv_of(record) for record in records]
        print_csv(flat, names_of(flat, known))
    else:
        rows = [[column.cell(record) for column in columns] for record in records]
        if total:
            rows.append(list(total))
        left = [column.head for column in columns if column.left]
        print_table([column.head for column in columns], rows, left)
        if note:
            sys.stdout.write(f"\n{note}\n")
