"""Mappings and Scan as Arrow tables, by pyarrow: what ``__arrow_c_stream__`` hands over.

Figures are the backend's own columns, without a copy. Of names, devices and lines of flags the
backend keeps each once and numbers the rows: so do Arrow's dictionaries. No row is made.
"""

from __future__ import annotations

import os
from functools import lru_cache
from itertools import accumulate, cycle, islice

from fastsmaps._fields import ABSENT, SIZES, SUMS, Fields
from fastsmaps._model.kinds import is_deleted, is_unnamed_device, kind_of
from fastsmaps._model.mapping import PERMS, SHARED, fields_of
from fastsmaps._model.process_totals import stored_totals
from fastsmaps._version import __version__

try:
    import pyarrow as pa
    from pyarrow import compute as pc
except ImportError as error:
    raise ImportError(f'{error}: pip install "fastsmaps[arrow]"') from error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, TypeAlias

    from fastsmaps._backend import Table
    from fastsmaps._model.mappings import Mappings
    from fastsmaps._model.processes import Scan
    from fastsmaps._model.rollups import Rollups
    from fastsmaps._model.totals import Totals

    # pyarrow has no types of its own.
    Array: TypeAlias = Any
    Batch: TypeAlias = Any
    DataType: TypeAlias = Any
    Schema: TypeAlias = Any

#: Of a figure: bytes, or a plain number.
FIGURE = pa.uint64()

_PLACE = pa.int32()  # in a dictionary: pandas takes no unsigned ones
_TEXT = pa.string()
_TEXTS = pa.list_(_TEXT)
_ONE_OF_FEW = pa.dictionary(_PLACE, _TEXT)

#: The columns of Mappings before the fields of its records, and the last one.
MAPPING = {
    "start": FIGURE,
    "end": FIGURE,
    "size": FIGURE,
    "perms": pa.dictionary(pa.int8(), _TEXT),
    "offset": FIGURE,
    "dev": _ONE_OF_FEW,
    "inode": FIGURE,
    "path": _ONE_OF_FEW,
    "raw_path": pa.dictionary(_PLACE, pa.binary()),
    "kind": _ONE_OF_FEW,
    "deleted": pa.bool_(),
    "vm_flags": _TEXTS,
}
EXTRA = pa.map_(_TEXT, _TEXT)

#: The columns of a Scan before its figures.
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
    "mappings": FIGURE,
    "outcome": _TEXT,
    "error": _TEXT,
    "age": pa.float64(),
    "estimated": pa.bool_(),
    "shares_memory_with": pa.int64(),
}

_ABSENT = pa.scalar(ABSENT, FIGURE)


def utf8(text: str) -> str:
    r"""The text as Arrow can hold it: bytes that are no UTF-8 as ``\xff``."""
    try:
        return os.fsencode(text).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def column_of(values: Sequence[object], kind: DataType) -> Array:
    """Python's values as an array; null for what does not fit, such as a number beyond 64 bits.

    No kernel gives such a one, but captures come from anywhere.
    """
    try:
        return pa.array(values, kind)
    except (OverflowError, TypeError, ValueError):  # pyarrow's own are of these
        return pa.array([_fitting(value, kind) for value in values], kind)


def lists_of(values: Iterable[Iterable[str] | None], kind: DataType) -> Array:
    """Lists of texts as an array; made from a few at a time, since command lines may be long."""
    parts = [pa.array([], kind)]
    waiting = iter(values)
    while some := [None if one is None else list(one) for one in islice(waiting, 16)]:
        try:
            parts.append(pa.array(some, kind))
        except (TypeError, ValueError):
            # Text by text it would take ten times as long to find those that are no UTF-8.
            texts = [one and [utf8(text) for text in one] for one in some]
            parts.append(pa.array(texts, kind))
    return pa.concat_arrays(parts)


def _fitting(value: object, kind: DataType) -> object:
    if isinstance(value, list | tuple):
        return [_fitting(one, kind.value_type) for one in value]
    if isinstance(value, str):
        value = utf8(value)
    try:
        pa.scalar(value, kind)
    except (OverflowError, TypeError, ValueError):
        return None
    return value


def _facts(source: Mappings | Scan, **more: object) -> dict[str, str]:
    facts = {"procfs": source.procfs, "taken_at": source.taken_at, **more}
    known = {
        f"fastsmaps.{name}": utf8(str(value)) for name, value in facts.items() if value is not None
    }
    return {"fastsmaps.version": __version__, **known}


# ---- columns of a backend's table


def _view(view: memoryview, kind: DataType) -> Array:
    """The buffer itself as an array without nulls."""
    return pa.Array.from_buffers(kind, len(view), [None, pa.py_buffer(view)], 0)


def _masked(array: Array, present: Array) -> Array:
    """The same values, null where they are not `present`."""
    validity = present.buffers()[1]
    return pa.Array.from_buffers(array.type, len(array), [validity, array.buffers()[1]])


def _figures(view: memoryview, absent: int) -> Array:
    """Values in their own memory; null for ABSENT, if there may be any."""
    array = _view(view, FIGURE)
    return _masked(array, pc.not_equal(array, _ABSENT)) if absent else array


def _dictionary(places: Array, texts: Array) -> Array:
    # The places are the backend's own: looking at each once more finds none out of range.
    return pa.DictionaryArray.from_arrays(places, texts, safe=False)


# ---- mappings


def mappings_schema(m: Mappings, labels: Iterable[str]) -> Schema:
    """Columns as in ``Mapping.as_dict()``, and ``raw_path``; `labels` are the table's fields."""
    return _schema_for(tuple(labels)).with_metadata(_facts(m, pid=m.pid))


@lru_cache(maxsize=64)  # a kernel always prints the same
def _schema_for(labels: tuple[str, ...]) -> Schema:
    names = fields_of(labels).names.values()
    return pa.schema({**MAPPING, **dict.fromkeys(names, FIGURE), "extra": EXTRA})


def mappings_batch(
    m: Mappings,
    table: Table,
    rows: Sequence[int],
    views: dict[str, tuple[memoryview, int]],
    *,
    has_rollups: bool,
) -> Batch:
    """Return a table of mappings as one record batch.

    It takes what only the Mappings itself knows: the backend's `table`, which of its `rows` are
    in `m`, and of each column a view and how many of the whole table's rows lack it.
    """
    names, dev, perms = (
        _view(views[key][0], kind)
        for key, kind in (("name", _PLACE), ("dev", _PLACE), ("perms", pa.int8()))
    )
    flags = _view(views["flags"][0], _PLACE)
    if views["flags"][1]:  # 2**32 - 1: the record has no VmFlags
        flags = _masked(flags, pc.greater_equal(flags, pa.scalar(0, _PLACE)))
    start, end, offset, inode = (
        _view(views[key][0], FIGURE) for key in ("start", "end", "offset", "inode")
    )
    raw = pa.array(table.names, pa.binary())
    devs = pa.array([dev.decode("ascii") for dev in table.devs], _TEXT)
    kind, deleted = _kinds(table, names, perms, flags, dev)
    sizes = _figures(m.column("size"), m.absent("size")) if has_rollups else pc.subtract(end, start)
    return pa.RecordBatch.from_arrays(
        [
            start,
            end,
            sizes,
            _dictionary(perms, pa.array(PERMS, _TEXT)),
            offset,
            _dictionary(dev, devs),
            inode,
            _paths(raw, names),
            _dictionary(names, raw),
            kind,
            deleted,
            _flag_lists(table.flags, flags),
            *(_figures(*views[label]) for label in table.labels),
            _extras(table, rows),
        ],
        schema=mappings_schema(m, table.labels),
    )


def _coded(texts: Sequence[str], places: Array) -> Array:
    """A dictionary of texts of which some may be equal, by their places."""
    distinct: dict[str, int] = {}
    numbers = [distinct.setdefault(text, len(distinct)) for text in texts]
    return _dictionary(pa.array(numbers, _PLACE).take(places), pa.array(list(distinct), _TEXT))


def _paths(raw: Array, names: Array) -> Array:
    try:
        return _dictionary(names, raw.cast(_TEXT))
    except pa.ArrowInvalid:
        # Two names may look the same then: b"\xff", and a backslash with three letters.
        texts = [name.decode("utf-8", "backslashreplace") for name in raw.to_pylist()]
        return _coded(texts, names)


def _kinds(
    table: Table, names: Array, perms: Array, flags: Array, devs: Array
) -> tuple[Array, Array]:
    """The columns kind and deleted: decided once for each name."""
    kinds = [kind_of(name, False, False, True) for name in table.names]
    shared = [kind_of(name, True, False, False) for name in table.names]
    internal = [kind_of(name, True, False, True) for name in table.names]
    places = names
    if shared != kinds or internal != kinds:  # there is a /dev/zero, or a kernel's object
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
    some = any(deleted)
    gone = pa.array(deleted).take(places) if some else pa.repeat(False, len(names))
    return _coded(kinds, places), gone


def _flag_lists(lines: Sequence[bytes], places: Array) -> Array:
    """Lists of codes by the places of their lines."""
    split = [line.split() for line in lines]
    codes = [code for line in split for code in line]
    if not codes or any(len(code) != 2 or not code.isascii() for code in codes):
        texts = [[code.decode("utf-8", "backslashreplace") for code in line] for line in split]
        return pa.array(texts, _TEXTS).take(places)
    # A kernel's codes have two letters, so a list of n is a text of 2 n bytes: lists of texts
    # would take four times as long (1.2 ms for 20,000 rows instead of 0.3).
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
            row: [(label, utf8(text)) for label, text in some.items()]
            for row, some in extra.items()
        }
        return pa.array([texts.get(row, []) for row in rows], EXTRA)
    nothing = pa.array([], _TEXT)
    offsets = _view(memoryview(bytes(4 * (len(rows) + 1))).cast("i"), _PLACE)
    return pa.MapArray.from_arrays(offsets, nothing, nothing)


# ---- processes


def scan_schema(scan: Scan) -> Schema:
    """Columns as in ``ProcessTotals.as_dict()``, and its attributes that are not in there."""
    figures = dict.fromkeys(["size", *SUMS, *_figure_names(scan).values()], FIGURE)
    return pa.schema({**PROCESS, **figures}, _facts(scan))


def scan_batch(scan: Scan) -> Batch:
    """A table of processes as one record batch."""
    heads = [
        lists_of((row.cmdline for row in scan), PROCESS[name])
        if name == "cmdline"
        else column_of([getattr(row, name) for row in scan], PROCESS[name])
        for name in PROCESS
    ]
    return pa.RecordBatch.from_arrays([*heads, *_scan_figures(scan)], schema=scan_schema(scan))


def _figure_names(scan: Scan) -> dict[str, str]:
    """Python's name of each label that one of the processes has, and of all that are known."""
    sweeps, others = _sources(scan)
    labels = dict.fromkeys(SIZES)
    for sweep in sweeps:
        labels |= dict.fromkeys(sweep.labels)
    for totals in others:
        labels |= dict.fromkeys(() if totals is None else totals.by_label)
    del labels["Size"]  # what is summed is end - start
    return Fields(labels).names


def _sources(scan: Scan) -> tuple[list[Rollups], list[Totals | None]]:
    """Where figures are: in tables of sweeps; otherwise by themselves, or nowhere."""
    figures = list(map(stored_totals, scan))
    sweeps = dict.fromkeys(found[0] for found in figures if isinstance(found, tuple))
    return list(sweeps), [found for found in figures if not isinstance(found, tuple)]


def _scan_figures(scan: Scan) -> list[Array]:
    sweeps, others = _sources(scan)
    # One after the other, the tables hold every row somewhere: these are the rows' places.
    starts = dict(zip(sweeps, accumulate(map(len, sweeps), initial=len(others)), strict=False))
    own = iter(range(len(others)))
    figures = list(map(stored_totals, scan))
    places = pa.array(
        [starts[f[0]] + f[1] if isinstance(f, tuple) else next(own) for f in figures], pa.int64()
    )

    def column(label: str, others: Sequence[int | None]) -> Array:
        parts = [column_of(others, FIGURE)]
        for sweep in sweeps:
            if label in sweep.labels:
                parts.append(_figures(*sweep.table.columns((label,))[0]))
            else:
                parts.append(pa.nulls(len(sweep), FIGURE))
        return pa.concat_arrays(parts).take(places)

    columns = {
        label: column(
            label, [None if totals is None else totals.by_label.get(label) for totals in others]
        )
        for label in _figure_names(scan)
    }
    size = column("", [None if totals is None else totals.size for totals in others])
    return [size, *(_sum(columns[a], columns[b]) for a, b in SUMS.values()), *columns.values()]


def _sum(one: Array, other: Array) -> Array:
    both = pc.add(one, other)
    # Beyond 64 bits, which no kernel prints, the sum would begin at 0 again.
    return pc.if_else(pc.greater_equal(both, one), both, pa.scalar(None, FIGURE))


# ---- handing over


def stream(batch: Batch, requested_schema: object) -> object:
    """A capsule for a stream of this one batch."""
    return batch.__arrow_c_stream__(requested_schema)
