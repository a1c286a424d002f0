"""Mappings, Scan, Samples, Libs and Changes as Arrow tables (pyarrow), and as data frames.

Columns of numbers are the backend's own memory, without a copy. The backend keeps each name,
device and line of flags once and numbers the rows, as Arrow's dictionaries do. No row is made.
"""

from __future__ import annotations

import math
import os
from functools import lru_cache
from itertools import accumulate, cycle, islice

from fastsmaps._fields import ABSENT, SIZES, SUMS, Fields
from fastsmaps._model.escaping import utf8
from fastsmaps._model.kinds import is_deleted, is_unnamed_device, kind_of
from fastsmaps._model.mapping import PERMS, SHARED, fields_of
from fastsmaps._model.process_totals import stored_totals
from fastsmaps._model.totals import SUM_NAMES
from fastsmaps._version import __version__

try:
    import pyarrow as pa
    from pyarrow import compute as pc
except ImportError as error:
    raise ImportError(f'{error}: pip install "pyarrow>=14"') from error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, TypeAlias

    from numpy import ndarray

    from fastsmaps._backend import Table
    from fastsmaps._model.process_totals import ProcessTotals
    from fastsmaps._model.rollups import Rollups
    from fastsmaps._model.totals import Change, Totals
    from fastsmaps._model.views import Use

    # pyarrow has no type annotations.
    Array: TypeAlias = Any
    Batch: TypeAlias = Any
    DataType: TypeAlias = Any
    ArrowTable: TypeAlias = Any
    Schema: TypeAlias = Any

#: The type of sizes and other numbers.
UINT64 = pa.uint64()

#: Addresses, which may have all 64 bits: [vsyscall] is at 0xffffffffff600000.
ADDRESSES = ("start", "end")

_PLACE = pa.int32()  # places in a dictionary: pandas refuses unsigned ones
_TEXT = pa.string()
_TEXTS = pa.list_(_TEXT)
_CATEGORY = pa.dictionary(_PLACE, _TEXT)

#: The columns of Mappings before the fields of its records, and the last one.
MAPPING = {
    "start": UINT64,
    "end": UINT64,
    "size": UINT64,
    "perms": pa.dictionary(pa.int8(), _TEXT),
    "offset": UINT64,
    "dev": _CATEGORY,
    "inode": UINT64,
    "path": _CATEGORY,
    "raw_path": pa.dictionary(_PLACE, pa.binary()),
    "kind": _CATEGORY,
    "deleted": pa.bool_(),
    "vm_flags": _TEXTS,
}
EXTRA = pa.map_(_TEXT, _TEXT)

#: The columns of a Scan before the fields of its totals.
PROCESS = {
    "pid": pa.int64(),
    "ppid": pa.int64(),
    "comm": _TEXT,
    "user": _TEXT,
    "uid": pa.int64(),
    "start_time": pa.float64(),
    "cgroup": _TEXT,
    "cmdline": _TEXTS,
    "exe": _TEXT,
    "mappings": UINT64,
    "outcome": _TEXT,
    "error": _TEXT,
    "age": pa.float64(),
    "estimated": pa.bool_(),
    "shares_memory_with": pa.int64(),
}

_ABSENT = pa.scalar(ABSENT, UINT64)


def column_of(values: Sequence[object], kind: DataType) -> Array:
    """Convert Python's values to an array; null for a value that does not fit.

    A number beyond 64 bits does not: no kernel prints one, but a capture may hold any text.
    """
    try:
        return pa.array(values, kind)
    except (OverflowError, TypeError, ValueError):  # the bases of pyarrow's errors
        return pa.array([_fitting(value, kind) for value in values], kind)


def lists_of(values: Iterable[Iterable[str] | None], kind: DataType) -> Array:
    """Convert lists of texts to an array, a few at a time: command lines may be long."""
    parts = [pa.array([], kind)]
    waiting = iter(values)
    while lists := [None if texts is None else list(texts) for texts in islice(waiting, 16)]:
        try:
            parts.append(pa.array(lists, kind))
        except (TypeError, ValueError):
            # Trying each text by itself would take ten times as long.
            lists = [texts and [utf8(text) for text in texts] for texts in lists]
            parts.append(pa.array(lists, kind))
    return pa.concat_arrays(parts)


def _fitting(value: object, kind: DataType) -> object:
    if isinstance(value, list | tuple):
        return [_fitting(item, kind.value_type) for item in value]
    if isinstance(value, str):
        value = utf8(value)
    try:
        pa.scalar(value, kind)
    except (OverflowError, TypeError, ValueError):
        return None
    return value


def _metadata(facts: dict[str, object]) -> dict[str, str]:
    return {"fastsmaps.version": __version__} | {
        f"fastsmaps.{name}": utf8(str(value)) for name, value in facts.items() if value is not None
    }


# ---- columns of a backend's table


def _view(view: memoryview, kind: DataType) -> Array:
    """Return the buffer as an array without nulls, without a copy."""
    return pa.Array.from_buffers(kind, len(view), [None, pa.py_buffer(view)], 0)


def _masked(array: Array, present: Array) -> Array:
    """Return the array with null where `present` is false, without a copy."""
    validity = present.buffers()[1]
    return pa.Array.from_buffers(array.type, len(array), [validity, array.buffers()[1]])


def _numbers(view: memoryview, absent: int) -> Array:
    """Return the buffer as an array, with null for ABSENT if `absent` is not 0."""
    array = _view(view, UINT64)
    return _masked(array, pc.not_equal(array, _ABSENT)) if absent else array


def _dictionary(places: Array, texts: Array) -> Array:
    # The places are the backend's own, so a check of their range (safe=True) is not needed.
    return pa.DictionaryArray.from_arrays(places, texts, safe=False)


# ---- mappings


def mappings_schema(labels: Iterable[str], facts: dict[str, object]) -> Schema:
    """Return the columns of ``Mapping.as_dict()`` and ``raw_path``; `labels` are the fields."""
    return _schema_for(tuple(labels)).with_metadata(_metadata(facts))


@lru_cache(maxsize=64)  # a kernel always prints the same labels
def _schema_for(labels: tuple[str, ...]) -> Schema:
    names = fields_of(labels).names.values()
    return pa.schema({**MAPPING, **dict.fromkeys(names, UINT64), "extra": EXTRA})


def mappings_batch(
    table: Table,
    rows: Sequence[int],
    views: dict[str, tuple[memoryview, int]],
    sizes: tuple[memoryview, int] | None,
    facts: dict[str, object],
) -> Batch:
    """Return a table of mappings as one record batch.

    `table` is the backend's, `rows` are those of its rows that the batch gets, and `views` are,
    for each column, a view and the number of all rows that lack it; so is `sizes`, which is None
    if all rows have the size end - start.
    """
    names, dev, perms = (
        _view(views[key][0], kind)
        for key, kind in (("name", _PLACE), ("dev", _PLACE), ("perms", pa.int8()))
    )
    flags = _view(views["flags"][0], _PLACE)
    if views["flags"][1]:  # a record without VmFlags has 2**32 - 1
        flags = _masked(flags, pc.greater_equal(flags, pa.scalar(0, _PLACE)))
    start, end, offset, inode = (
        _view(views[key][0], UINT64) for key in ("start", "end", "offset", "inode")
    )
    raw = pa.array(table.names, pa.binary())
    devs = pa.array([dev.decode("ascii") for dev in table.devs], _TEXT)
    kind, deleted = _kinds(table, names, perms, flags, dev)
    return pa.RecordBatch.from_arrays(
        [
            start,
            end,
            _numbers(*sizes) if sizes else pc.subtract(end, start),
            _dictionary(perms, pa.array(PERMS, _TEXT)),
            offset,
            _dictionary(dev, devs),
            inode,
            _paths(raw, names),
            _dictionary(names, raw),
            kind,
            deleted,
            _flag_lists(table.flags, flags),
            *(_numbers(*views[label]) for label in table.labels),
            _extras(table, rows),
        ],
        schema=mappings_schema(table.labels, facts),
    )


def _coded(texts: Sequence[str], places: Array) -> Array:
    """Make a dictionary array of texts that are not all distinct, by their places."""
    distinct: dict[str, int] = {}
    numbers = [distinct.setdefault(text, len(distinct)) for text in texts]
    return _dictionary(pa.array(numbers, _PLACE).take(places), pa.array(list(distinct), _TEXT))


def _paths(raw: Array, names: Array) -> Array:
    try:
        return _dictionary(names, raw.cast(_TEXT))
    except pa.ArrowInvalid:
        # Different names may become equal: b"\xff", and a backslash with three letters.
        texts = [name.decode("utf-8", "backslashreplace") for name in raw.to_pylist()]
        return _coded(texts, names)


def _kinds(
    table: Table, names: Array, perms: Array, flags: Array, devs: Array
) -> tuple[Array, Array]:
    """Return the columns kind and deleted, decided once for each name."""
    kinds = [kind_of(name, False, False, True) for name in table.names]
    shared = [kind_of(name, True, False, False) for name in table.names]
    internal = [kind_of(name, True, False, True) for name in table.names]
    places = names
    if shared != kinds or internal != kinds:  # for a /dev/zero, or an object of the kernel's
        count = len(kinds)
        shared_bit = pa.scalar(SHARED, pa.int8())
        is_shared = pc.equal(pc.bit_wise_and(perms, shared_bit), shared_bit)
        unnamed = pa.array([is_unnamed_device(dev) for dev in table.devs], pa.bool_()).take(devs)
        private, named, made_up = (pa.scalar(count * i, _PLACE) for i in range(3))
        move = pc.if_else(is_shared, pc.if_else(unnamed, made_up, named), private)
        places = pc.add(names, move)
        kinds += shared + internal
    deleted = [is_deleted(*case) for case in zip(cycle(table.names), kinds, strict=False)]
    huge = [b"ht" in line.split() for line in table.flags]
    if any(huge):
        is_huge = pa.array(huge).take(flags).fill_null(False)
        places = pc.if_else(is_huge, pa.scalar(len(kinds), _PLACE), places)
        kinds.append("hugetlb")
        deleted.append(False)
    if any(deleted):
        return _coded(kinds, places), pa.array(deleted).take(places)
    return _coded(kinds, places), pa.repeat(False, len(names))


def _flag_lists(lines: Sequence[bytes], places: Array) -> Array:
    """Return a list of codes for each place of a line."""
    split = [line.split() for line in lines]
    codes = [code for line in split for code in line]
    if not codes or any(len(code) != 2 or not code.isascii() for code in codes):
        texts = [[code.decode("utf-8", "backslashreplace") for code in line] for line in split]
        return pa.array(texts, _TEXTS).take(places)
    # The kernel's codes have two letters, so a list of n codes is a text of 2 n bytes. Lists of
    # texts would take four times as long (1.2 ms for 20,000 rows instead of 0.3).
    packed = pa.array([b"".join(line) for line in split], pa.binary()).take(places)
    validity, offsets, letters = packed.buffers()
    ends = pa.Array.from_buffers(_PLACE, len(places) + 1, [None, offsets])
    ends = pc.shift_right(ends, pa.scalar(1, _PLACE))
    total = ends[-1].as_py()
    pairs = pa.Array.from_buffers(pa.binary(2), total, [None, letters]).cast(pa.binary())
    letters = pa.Array.from_buffers(_TEXT, total, pairs.buffers())
    return pa.Array.from_buffers(
        _TEXTS, len(places), [validity, ends.buffers()[1]], children=[letters]
    )


def _extras(table: Table, rows: Sequence[int]) -> Array:
    extra = table.extra
    if extra:
        texts = {
            row: [(label, utf8(text)) for label, text in fields.items()]
            for row, fields in extra.items()
        }
        return pa.array([texts.get(row, []) for row in rows], EXTRA)
    empty = pa.array([], _TEXT)
    offsets = _view(memoryview(bytes(4 * (len(rows) + 1))).cast("i"), _PLACE)
    return pa.MapArray.from_arrays(offsets, empty, empty)


# ---- processes


def scan_schema(rows: Sequence[ProcessTotals], facts: dict[str, object]) -> Schema:
    """Return the columns of ``ProcessTotals.as_dict()``, and of its other attributes."""
    fields = dict.fromkeys(["size", *SUMS, *_field_names(rows).values()], UINT64)
    return pa.schema({**PROCESS, **fields}, _metadata(facts))


def scan_batch(rows: Sequence[ProcessTotals], facts: dict[str, object]) -> Batch:
    """Return a table of processes as one record batch."""
    heads = [
        lists_of((row.cmdline for row in rows), PROCESS[name])
        if name == "cmdline"
        else column_of([getattr(row, name) for row in rows], PROCESS[name])
        for name in PROCESS
    ]
    schema = scan_schema(rows, facts)
    return pa.RecordBatch.from_arrays([*heads, *_scan_fields(rows)], schema=schema)


def _field_names(rows: Sequence[ProcessTotals]) -> dict[str, str]:
    """Return the name of each label that a process has, and of all known ones."""
    sweeps, single = _sources(rows)
    labels = dict.fromkeys(SIZES)
    for sweep in sweeps:
        labels |= dict.fromkeys(sweep.labels)
    for totals in single:
        labels |= dict.fromkeys(() if totals is None else totals.by_label)
    del labels["Size"]  # the sum is of end - start
    return Fields(labels).names


def _sources(rows: Sequence[ProcessTotals]) -> tuple[list[Rollups], list[Totals | None]]:
    """Return the sweeps that hold totals, and the totals of the other rows (None if unread)."""
    stored = list(map(stored_totals, rows))
    sweeps = dict.fromkeys(totals[0] for totals in stored if isinstance(totals, tuple))
    return list(sweeps), [totals for totals in stored if not isinstance(totals, tuple)]


def _scan_fields(rows: Sequence[ProcessTotals]) -> list[Array]:
    sweeps, single = _sources(rows)
    # The rows' places in the other totals and the sweeps' tables, one after the other.
    starts = dict(zip(sweeps, accumulate(map(len, sweeps), initial=len(single)), strict=False))
    own = iter(range(len(single)))
    stored = map(stored_totals, rows)
    places = pa.array(
        [starts[t[0]] + t[1] if isinstance(t, tuple) else next(own) for t in stored], pa.int64()
    )

    def column(label: str, single: Sequence[int | None]) -> Array:
        parts = [column_of(single, UINT64)]
        for sweep in sweeps:
            if label in sweep.labels:
                parts.append(_numbers(*sweep.table.columns((label,))[0]))
            else:
                parts.append(pa.nulls(len(sweep), UINT64))
        return pa.concat_arrays(parts).take(places)

    columns = {
        label: column(
            label, [None if totals is None else totals.by_label.get(label) for totals in single]
        )
        for label in _field_names(rows)
    }
    size = column("", [None if totals is None else totals.size for totals in single])
    return [size, *(_sum(columns[a], columns[b]) for a, b in SUMS.values()), *columns.values()]


def _sum(a: Array, b: Array) -> Array:
    both = pc.add(a, b)
    # A sum beyond 64 bits, which no kernel prints, wraps around: null.
    return pc.if_else(pc.greater_equal(both, a), both, pa.scalar(None, UINT64))


# ---- samples


def samples_batch(views: dict[str, memoryview], times: Sequence[int]) -> Batch:
    """Return columns of samples as one record batch; `times` are in ns since the epoch."""
    kinds = {"elapsed": pa.float64(), "time": pa.timestamp("us", tz="UTC")}
    columns = {}
    for name, view in views.items():
        if name == "time":
            values: list[Any] = [time // 1000 for time in times]
        else:
            values = [None if v == ABSENT else v for v in view.tolist()]
        columns[name] = column_of(values, kinds.get(name, UINT64))
    return pa.RecordBatch.from_pydict(columns)


# ---- mapped files


def uses_batch(uses: Sequence[Use]) -> Batch:
    """Return the mapped files of Libs as one record batch."""
    sums = [totals for *_, totals in uses]
    columns = {
        "path": column_of([path for path, *_ in uses], _TEXT),
        "raw_path": pa.array([os.fsencode(path) for path, *_ in uses], pa.binary()),
        "processes": pa.array([number for _, number, _, _ in uses], UINT64),
        "files": pa.array([number for _, _, number, _ in uses], UINT64),
    }
    return pa.RecordBatch.from_pydict(columns | _sums_columns(sums, UINT64))


def _sums_columns(sums: Sequence[Totals | Change], kind: DataType) -> dict[str, Array]:
    """Return a column for each field that totals have."""
    labels = dict.fromkeys(label for totals in sums for label in totals.by_label)
    labels.pop("Size", None)  # size is the sum of end - start
    names = dict.fromkeys(("size", *SUMS, *SUM_NAMES, *Fields(labels, SIZES).names.values()))
    return {name: column_of([totals.get(name) for totals in sums], kind) for name in names}


# ---- changes


def changes_batch(changes: Sequence[Change]) -> Batch:
    """Return changes as one record batch; sizes are signed."""
    columns = {
        "name": column_of([change.name for change in changes], _TEXT),
        "seconds": pa.array([change.seconds for change in changes], pa.float64()),
        "shared_with_fewer": pa.array([c.shared_with_fewer for c in changes], pa.bool_()),
    }
    return pa.RecordBatch.from_pydict(columns | _sums_columns(changes, pa.int64()))


# ---- data frames

# Addresses and numbers that nobody subtracts; they may have all 64 bits.
_UNSIGNED = (*ADDRESSES, "offset", "inode")


def table_of(batch: Batch) -> ArrowTable:
    """Return a record batch as a pyarrow.Table."""
    return pa.Table.from_batches([batch])


def plain_table(batch: Batch) -> ArrowTable:
    """Return a pyarrow.Table with signed sizes, and with texts instead of dictionaries of them."""
    found = table_of(batch)
    columns = [
        plain_column(name, column, _UNSIGNED)
        for name, column in zip(found.column_names, found.columns, strict=True)
    ]
    return pa.table(columns, names=found.column_names)


def plain_column(name: str, column: Array, unsigned: Sequence[str] = ADDRESSES) -> Array:
    """Return a column with texts instead of a dictionary, and signed unless in `unsigned`."""
    if pa.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    return column if name in unsigned else signed_column(column)


def signed_column(column: Array) -> Array:
    """Return a column of unsigned numbers as a signed one.

    No kernel prints a size beyond 63 bits, but a text may have one, and file systems choose their
    inodes: null.
    """
    if column.type != UINT64:
        return column
    fits = pc.less_equal(column, pa.scalar(2**63 - 1, UINT64))
    return pc.if_else(fits, column, None).cast(pa.int64())


def records(batch: Batch) -> ndarray:
    """Return an array of a dataclass, with one object for each row; NaN for an unknown number."""
    import dataclasses

    import numpy

    found = plain_table(batch)
    names, columns = found.column_names, []
    for column in found.columns:
        values = column.to_pylist()
        if column.null_count and column.type in (pa.int64(), pa.float64()):
            values = [math.nan if value is None else value for value in values]
        columns.append(values)
    # make_dataclass() refuses keywords, but a new field of the kernel may have any name. asdict()
    # takes the name from the field.
    record = dataclasses.make_dataclass("Record", [f"_{i}" for i in range(len(names))], init=False)
    for field, name in zip(dataclasses.fields(record), names, strict=True):
        field.name = name
    array = numpy.empty(len(found), object)
    for i, row in enumerate(zip(*columns, strict=True)):
        array[i] = record()
        vars(array[i]).update(zip(names, row, strict=True))
    return array
