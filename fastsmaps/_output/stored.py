"""The schemas of stored tables: one for each kind, whatever the host, kernel, version or options.

Files of a fleet are read together, by engines that take the columns of one file for those of all.
So known fields are always columns, and any other number is in the map ``extra_fields``. Numbers
are signed, since many engines have no unsigned type: Spark makes decimal(20,0) of one. Addresses
alone have all 64 bits: [vsyscall] is at 0xffffffffff600000.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from fastsmaps._fields import NAMES
from fastsmaps._model.arrow import (
    ADDRESSES,
    EXTRA,
    MAPPING,
    PROCESS,
    UINT64,
    column_of,
    lists_of,
    plain_column,
    signed_column,
)
from fastsmaps._model.escaping import utf8
from fastsmaps._model.grouping import Keys
from fastsmaps._model.totals import SUM_NAMES
from fastsmaps._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import BinaryIO

    from fastsmaps._model.process_totals import ProcessTotals

#: The number of these schemas. Increase it if a column is added; never rename or retype one.
SCHEMA = 1

#: The numbers that have no column of their own, by name.
EXTRA_FIELDS = "extra_fields"

_INT = pa.int64()
_TEXT = pa.string()
_NUMBERS = pa.map_(_TEXT, _INT)
# In a directory host=NAME/, pyarrow and pandas give the column this type, and refuse another one.
_HOST = pa.dictionary(pa.int32(), _TEXT)
_ORIGIN = {"host": _HOST, "taken_at": pa.timestamp("us", tz="UTC")}
_SUMS = dict.fromkeys(("size", "uss", "rss_swap", *SUM_NAMES), _INT)

#: The parts of ``cgroup`` that are columns of their own, if it was read.
CGROUP_PARTS = ("unit", "slice", "container", "pod")


def cgroup_parts(rows: Iterable[ProcessTotals]) -> dict[str, list[str | None]]:
    """Return CGROUP_PARTS of each row: "" for none, None if its cgroup was not read."""
    rows = list(rows)
    keys = {name: Keys(name) for name in CGROUP_PARTS}
    return {
        name: [None if row.cgroup is None else str(key(row)) for row in rows]
        for name, key in keys.items()
    }


def _stored_type(name: str, kind: Any) -> Any:
    if kind == UINT64 and name not in ADDRESSES:
        return _INT
    # Parquet has dictionaries of its own.
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _stored_types(columns: dict[str, Any]) -> dict[str, Any]:
    return {name: _stored_type(name, kind) for name, kind in columns.items()}


_PROCESS = _stored_types(PROCESS)
_MAPPING = _stored_types(MAPPING)
_FIELDS = dict.fromkeys(("size", *NAMES.values(), "uss", "rss_swap"), _INT)
_FILES = {"path": _TEXT, "raw_path": pa.binary()}

# The columns of each kind of table, in their order.
_KINDS: dict[str, dict[str, Any]] = {
    "processes": {
        **_ORIGIN,
        **_PROCESS,
        **dict.fromkeys(CGROUP_PARTS, _TEXT),
        "pss_percent": pa.float64(),
        **_SUMS,
    },
    "process_groups": {
        **_ORIGIN,
        "pid": _INT,
        **dict.fromkeys(
            ("comm", "user", "cgroup", *CGROUP_PARTS, "exe", "cmdline", "group"), _TEXT
        ),
        **dict.fromkeys(("processes", "unread"), _INT),
        "pss_percent": pa.float64(),
        **_SUMS,
    },
    "mappings": {**_ORIGIN, "pid": _INT, **_MAPPING, **_FIELDS, "use": _TEXT, "extra": EXTRA},
    "mapping_groups": {
        **_ORIGIN,
        "pid": _INT,
        **dict.fromkeys(("path", "kind", "label", "use"), _TEXT),
        **dict.fromkeys(("mappings", "files"), _INT),
        **_SUMS,
    },
    "files": {
        **_ORIGIN,
        **_FILES,
        "dev": _TEXT,
        **dict.fromkeys(("inode", "files", "processes"), _INT),
        **_SUMS,
    },
    "samples": {
        "elapsed": pa.float64(),
        "time": _ORIGIN["taken_at"],
        **dict.fromkeys(("processes", "unread", "peak_rss"), _INT),
        **_SUMS,
    },
    "changes": {
        "name": _TEXT,
        "seconds": pa.float64(),
        "shared_with_fewer": pa.bool_(),
        **_SUMS,
    },
}

#: The type of each column whose type does not depend on the kind of table; others are int64.
TYPES = {**_PROCESS, **_MAPPING, **_ORIGIN, "pss_percent": pa.float64(), "extra": EXTRA}

# A table in memory with all of these columns is of that kind.
_MARKS = {
    "processes": {*PROCESS},
    "mappings": {*MAPPING, "extra"},
    "files": {*_FILES, "files", "processes", "size"},
    "samples": {"elapsed", "time", "processes", "unread", "peak_rss"},
    "changes": {"name", "seconds", "shared_with_fewer"},
}


def write_stored(table: Any, file: BinaryIO) -> None:
    """Write a table as Parquet."""
    from pyarrow import parquet

    parquet.write_table(table, file, compression=compression())


def compression() -> str:
    """Return the compression of Parquet files. All engines read both.

    For 20,000 mappings zstd's file is half as large as snappy's (120 kB).
    """
    return "zstd" if pa.Codec.is_available("zstd") else "snappy"


def schema_of(kind: str) -> Any:
    """Return the schema of a kind of table."""
    columns = {**_KINDS[kind], EXTRA_FIELDS: _NUMBERS}
    return pa.schema(columns, _metadata(kind))


def _metadata(kind: str | None) -> dict[str, str]:
    facts = {"fastsmaps.version": __version__}
    return facts if kind is None else {**facts, "fastsmaps.schema": f"{kind} {SCHEMA}"}


def rows_table(
    kind: str, records: Sequence[dict[str, Any]], names: Iterable[str] | None = None
) -> Any:
    """Convert records to a table of that kind; without those of its values not in `names`."""
    schema = schema_of(kind)
    wanted = None if names is None else {*names}
    columns = []
    for field in schema:
        if wanted is not None and field.name not in wanted and field.name != EXTRA_FIELDS:
            columns.append(pa.nulls(len(records), field.type))
            continue
        if field.name == EXTRA_FIELDS:
            columns.append(
                pa.array(
                    [_numbers(record, schema.names, wanted) or None for record in records],
                    _NUMBERS,
                )
            )
        else:
            columns.append(array_of([record.get(field.name) for record in records], field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _numbers(
    record: dict[str, Any], columns: Sequence[str], wanted: set[str] | None
) -> list[tuple[str, int]]:
    """Return the numbers of a record that have no column; a larger one than fits is left out."""
    return [
        (utf8(name), value)
        for name, value in record.items()
        if name not in columns
        and (wanted is None or name in wanted)
        and isinstance(value, int)
        and -(2**63) <= value < 2**63
    ]


def array_of(values: Sequence[Any], kind: Any) -> Any:
    """Convert values to an array; null for a value that does not fit."""
    if pa.types.is_dictionary(kind):
        return column_of(values, kind.value_type).dictionary_encode()
    if pa.types.is_map(kind):
        items = [
            None if extra is None else [(label, utf8(text)) for label, text in extra.items()]
            for extra in values
        ]
        return pa.array(items, kind)
    if pa.types.is_list(kind):
        return lists_of(values, kind)
    return column_of(values, kind)


def stored(table: Any) -> Any:
    """Return a pyarrow.Table as it is stored: with signed numbers, and the schema of its kind.

    A table with all columns that Mappings, a Scan, Libs, Samples or Changes have in memory gets
    their one schema; columns of yours come after them. Of any other table only the unsigned
    numbers change. A number of 2**63 or more becomes null.
    """
    found = {*table.column_names}
    kind = next((kind for kind, marks in _MARKS.items() if marks <= found), None)
    metadata = {**(table.schema.metadata or {}), **_metadata(kind)}
    if kind is None:
        names = table.column_names
        arrays = [
            column if name in ADDRESSES else signed_column(column)
            for name, column in zip(names, table.columns, strict=True)
        ]
        return pa.Table.from_arrays(arrays, names).replace_schema_metadata(metadata)
    columns: dict[str, Any] = {}
    more: dict[str, Any] = {}
    numbers: dict[str, Any] = {}
    for name, kind_of in {**_KINDS[kind], EXTRA_FIELDS: _NUMBERS}.items():
        if name in found:
            columns[name] = _cast(plain_column(name, table[name]), kind_of)
        else:
            columns[name] = pa.nulls(len(table), kind_of)
    for name in table.column_names:
        if name not in columns:
            column = plain_column(name, table[name])
            is_figure = table.schema.field(name).type in (UINT64, _INT)
            (numbers if is_figure else more)[name] = column
    if EXTRA_FIELDS not in found:
        columns[EXTRA_FIELDS] = _map_of(numbers, len(table))
    columns |= more
    schema = pa.schema({name: column.type for name, column in columns.items()}, metadata)
    return pa.Table.from_arrays(list(columns.values()), schema=schema)


def _cast(column: Any, kind: Any) -> Any:
    if pa.types.is_dictionary(kind) and not pa.types.is_dictionary(column.type):
        return column.dictionary_encode()
    return column if column.type == kind else column.cast(kind)


def _map_of(numbers: dict[str, Any], length: int) -> Any:
    if not numbers:
        return pa.nulls(length, _NUMBERS)
    rows = zip(*(column.to_pylist() for column in numbers.values()), strict=True)
    return pa.array(
        [
            [(name, value) for name, value in zip(numbers, row, strict=True) if value is not None]
            or None
            for row in rows
        ],
        _NUMBERS,
    )
