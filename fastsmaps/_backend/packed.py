"""Rows of a table as plain objects, to pickle them with one backend and load with another."""

from __future__ import annotations

from array import array

from fastsmaps._backend._pytable import NO_FLAGS, Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from fastsmaps._backend import Table as AnyTable

# The columns before the fields, in the order of a row, and the type of their values.
_HEADER = {
    "start": "Q", "end": "Q", "offset": "Q", "inode": "Q", "perms": "B",
    "dev": "I", "name": "I", "flags": "I",
}  # fmt: skip
# Types of 1, 2, 4 and 8 bytes.
_TYPES = "BHIQ"


def pack(table: AnyTable, rows: Sequence[int]) -> dict[str, Any]:
    """Return these rows of the table, without texts that none of them has."""
    keys = (*_HEADER, *table.labels)
    whole = len(rows) == len(table)  # tolist() takes a third of the time
    columns = {
        key: view.tolist() if whole else list(map(view.__getitem__, rows))
        for key, (view, _) in zip(keys, table.columns(keys), strict=True)
    }
    texts: dict[str, tuple[bytes, ...]] = {}
    for key, all_texts in (("dev", table.devs), ("name", table.names), ("flags", table.flags)):
        used = dict.fromkeys(columns[key])
        used.pop(NO_FLAGS, None)
        texts[key] = tuple(all_texts[number] for number in used)
        numbers = {number: i for i, number in enumerate(used)}
        columns[key] = [numbers.get(number, NO_FLAGS) for number in columns[key]]
    extra = table.extra
    return {
        "count": len(rows),
        "columns": {key: _packed(values) for key, values in columns.items()},
        "sized": table.sized,
        "texts": texts,
        "extra": {i: extra[row] for i, row in enumerate(rows) if row in extra} if extra else {},
    }


def unpack(packed: dict[str, Any]) -> AnyTable:
    """Return a table of these rows: a pure-Python one, which works in every interpreter."""
    columns = {}
    for key, values in packed["columns"].items():
        kind = _HEADER.get(key, "Q")
        one_value = isinstance(values, int)
        columns[key] = array(kind, [values]) * packed["count"] if one_value else array(kind, values)
    header = {key: columns.pop(key) for key in _HEADER}
    texts = packed["texts"]
    return Table(  # type: ignore[return-value]  # twins
        header, columns, packed["sized"], texts["name"], texts["dev"], texts["flags"],
        packed["extra"],
    )  # fmt: skip


def _packed(values: list[int]) -> int | array[int]:
    """Return one number if all are equal, as in most columns; else the narrowest array."""
    largest = max(values, default=0)
    if largest == min(values, default=0):
        return largest
    return array(_TYPES[(largest > 0xFF) + (largest > 0xFFFF) + (largest > 0xFFFFFFFF)], values)
