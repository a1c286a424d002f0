"""The table of the pure-Python backend, equal to the extension's (src/table.pxi)."""

from __future__ import annotations

from array import array

from fastsmaps._fields import ABSENT, PAGE_SIZES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from fastsmaps._backend._csmaps import Row, RowHead

NO_FLAGS = 2**32 - 1  # the flags of a record without VmFlags


class Table:
    """The columns of one text; see _csmaps.pyi."""

    def __init__(
        self,
        header: Mapping[str, array[int]],
        fields: Mapping[str, array[int]],
        sized: Iterable[bool],
        names: Iterable[bytes],
        devs: Iterable[bytes],
        flags: Iterable[bytes],
        extra: dict[int, dict[str, str]],
    ) -> None:
        self.labels = tuple(fields)
        self.sized = tuple(sized)
        self.names = tuple(names)
        self.devs = tuple(devs)
        self.flags = tuple(flags)
        self.extra = extra
        self._columns = {**header, **fields}

    def __len__(self) -> int:
        return len(self._columns["start"])

    def has_name(self, name: bytes, /) -> bool:
        return name in self.names

    def column(self, key: str) -> memoryview:
        return memoryview(self._columns[key]).toreadonly()

    def columns(self, keys: Iterable[str]) -> list[tuple[memoryview, int]]:
        missing = {"flags": NO_FLAGS, **dict.fromkeys(self.labels, ABSENT)}
        return [
            (self.column(key), self._columns[key].count(missing[key]) if key in missing else 0)
            for key in keys
        ]

    def row(self, i: int, /) -> Row:
        if not 0 <= i < len(self):
            raise IndexError(i)
        start, end, offset, inode, perms, dev, name, flags, *fields = (
            column[i] for column in self._columns.values()
        )
        return (
            start,
            end,
            offset,
            inode,
            perms,
            self.devs[dev],
            self.names[name],
            None if flags == NO_FLAGS else self.flags[flags],
            self.extra.get(i),
            *(None if value == ABSENT else value for value in fields),
        )

    def row_into(self, i: int, into: dict[str, Any], names: tuple[str, ...], /) -> RowHead:
        row = self.row(i)
        if len(names) != len(self.labels):
            raise ValueError("names: one for each label")
        into.update(zip(names, row[9:], strict=True))
        return row[:9]

    def sums(
        self, groups: memoryview | None = None, count: int = 1
    ) -> list[tuple[int, dict[str, int]]]:
        numbers: Iterable[int]
        if groups is None:
            numbers = array("I", [0]) * len(self)
        elif groups.nbytes != 4 * len(self):
            raise ValueError("groups: one 32-bit number for each row")
        else:
            numbers = groups
        sizes = [0] * count
        columns = self._columns
        for group, start, end in zip(numbers, columns["start"], columns["end"], strict=True):
            if group < count:
                sizes[group] += end - start
        totals: list[dict[str, int]] = [{} for _ in range(count)]
        for label, sized in zip(self.labels, self.sized, strict=True):
            if not sized or label in PAGE_SIZES:
                continue
            column = columns[label]
            if count == 1 and groups is None and ABSENT not in column:
                if column:
                    totals[0][label] = sum(column)
                continue
            for group, value in zip(numbers, column, strict=True):
                if value != ABSENT and group < count:
                    totals[group][label] = totals[group].get(label, 0) + value
        return list(zip(sizes, totals, strict=True))
