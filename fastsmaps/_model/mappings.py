"""Mappings: all mappings of one text as a table in columns, and its views."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence, Set

from fastsmaps._arguments import Any, check_function, check_int, check_str, wrong
from fastsmaps._fields import ABSENT, SUMS
from fastsmaps._model.columns import absent_column, sum_column
from fastsmaps._model.frames import Frames
from fastsmaps._model.kinds import is_unnamed_device, kind_of
from fastsmaps._model.mapping import (
    NO_GROUP,
    ROLLUP,
    SHARED,
    Mapping,
    fields_of,
    layout_of,
    places_of,
    put_head,
)
from fastsmaps._model.totals import Totals
from fastsmaps._public import public

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import overload

    from fastsmaps._backend import Table
    from fastsmaps._model.view import View

#: The words that group_by() accepts.
GROUPS = ("path", "kind", "label", "use")

_HEADER = ("start", "end", "offset", "inode")
_DERIVED = (*_HEADER, "size", *SUMS)  # columns that are not fields of the kernel
_ORIGIN = ("host", "pid", "procfs", "skipped", "taken_at")
_NO_ROLLUPS: frozenset[int] = frozenset()
_NUMBERS = ("perms", "dev", "name", "flags")  # numbers of texts that the backend keeps once each


@public
class Group:
    """Mappings or processes with the same key: their ``totals`` and their number (``count``).

    For mappings ``files`` is the number of different files (path, device and inode), since one
    path may lead to several. It is None for processes.
    """

    __slots__ = ("count", "files", "totals")

    def __init__(self, totals: Totals, count: int, files: int | None = None) -> None:
        self.totals = totals
        self.count = count
        self.files = files

    def __repr__(self) -> str:
        return f"<Group of {self.count}: {self.totals!r}>"


@public
class Mappings(Frames):
    """A table of mappings: ``len(m)``, ``m[i]``, iteration; ``m[i:j]`` is a smaller table.

    Rows are made on demand. ``pid``, ``procfs``, ``host`` and ``taken_at`` are the table's origin;
    None for a text. ``taken_at`` is when the read ended, or when a capture was taken (seconds since
    the epoch; None if the capture does not say). filter(), sort() and top() return other tables, as
    slices do; all pickle.

    In a text, a process's rollup is a row like a mapping, named ``[rollup]``; it has no size. A
    rollup in the same text as the smaps of its process is left out, so that no memory counts
    twice: docs/fields.md ("Rollups in a text") has the rules. ``skipped`` counts the lines that
    parse(lenient=True) left out, by kind (docs/texts.md).
    """

    __slots__ = (
        "_columns", "_host", "_is_part", "_overlaps", "_places", "_rollups", "_rows", "_table",
        "pid", "procfs", "skipped", "taken_at",
    )  # fmt: skip

    def __init__(
        self,
        table: Table,
        *,
        pid: int | None = None,
        procfs: str | None = None,
        taken_at: float | None = None,
        host: str | None = None,
        skipped: dict[str, int] | None = None,
    ) -> None:
        self._table = table
        self._rows: Sequence[int] = range(len(table))
        self._rollups: Set[int] = _NO_ROLLUPS
        # Whether the backend's table has other rows too, with fields that these may lack.
        self._is_part = False
        if table.has_name(ROLLUP):  # only in a text: a process's smaps has none
            from fastsmaps._model.rollup_rows import kept_rows

            self._rows, self._rollups = kept_rows(table)
            self._is_part = self._rows != range(len(table))
        self._places = places_of(table.labels)
        self._columns: dict[str, memoryview] = {}
        self._overlaps: bool | None = None  # not known yet
        self.pid = pid
        self.procfs = procfs
        self.taken_at = taken_at
        self._host = host
        self.skipped = skipped or {}

    def __getstate__(self) -> dict[str, Any]:
        # Columns, not text: a text that is parsed again might give other rows.
        from fastsmaps._backend.packed import pack

        rows = sorted(self._rows)
        places = {row: i for i, row in enumerate(rows)}
        return {
            "table": pack(self._table, rows),
            "rows": None if self._is_in_order else [places[row] for row in self._rows],
            "rollups": [places[row] for row in rows if row in self._rollups],
            "is_part": self._is_part,
            "origin": {name: getattr(self, name) for name in _ORIGIN},
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        from fastsmaps._backend.packed import unpack

        table = unpack(state["table"])
        Mappings.__init__(self, table, **state["origin"])
        self._rows = range(len(table)) if state["rows"] is None else state["rows"]
        self._rollups = frozenset(state["rollups"])
        self._is_part = state["is_part"]

    def _subset(self, rows: Sequence[int]) -> Mappings:
        """Return a table of these rows of the backend's table."""
        part = object.__new__(Mappings)
        part._table = self._table
        part._rows = rows
        part._rollups = self._rollups
        part._is_part = self._is_part or rows != range(len(self._table))
        part._places = self._places
        part._columns = {}
        part._overlaps = None
        part.pid = self.pid
        part.procfs = self.procfs
        part.taken_at = self.taken_at
        part._host = self._host
        part.skipped = self.skipped
        return part

    @property
    def _is_in_order(self) -> bool:
        """Whether the rows are in the text's order."""
        rows = self._rows
        return rows.step > 0 if isinstance(rows, range) else rows == sorted(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Mapping]:
        for i in self._rows:
            yield Mapping(self._table.row(i), self._places)

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, index: int) -> Mapping: ...
        @overload
        def __getitem__(self, index: slice) -> Mappings: ...

    def __getitem__(self, index: int | slice) -> Mapping | Mappings:
        if isinstance(index, slice):
            return self._subset(self._rows[index])
        return Mapping(self._table.row(self._rows[index]), self._places)

    def _view(self) -> View:
        from fastsmaps._model import views

        return views.of_mappings(self, sorted_=not self._is_in_order)

    @property
    def host(self) -> str | None:
        """The name of the host that was read, as ``uname -n`` shows it; None if it is not known."""
        # Not asked when the table is read, which takes microseconds.
        if self._host is None and self.procfs == "/proc":
            self._host = os.uname().nodename
        return self._host

    @property
    def skipped_lines(self) -> int:
        """The number of lines that ``parse(lenient=True)`` left out; otherwise 0."""
        return sum(self.skipped.values())

    # ---- columns

    def _key(self, name: str) -> str:
        """Return the key of a column: a label, or the name of a derived column."""
        check_str("name", name)
        return name if name in _DERIVED else fields_of(self._places).label(name, _DERIVED)

    def column(self, name: str) -> memoryview:
        """Return a field of all records: a contiguous, read-only memoryview of format "Q".

        `name` is Python's (``pss``) or the kernel's (``Pss``) for any number field, or one of
        start, end, size (end - start; ``Size`` is the printed one), uss, rss_swap, offset and
        inode. Sizes are in bytes, ABSENT (2**64 - 1) if a record lacks the field: in all rows if
        no record has it. Built at the first request and kept. Raises KeyError for an unknown name.
        """
        key = self._key(name)
        if key not in self._columns:
            if key == "size":
                view = self._sizes()
            elif key in SUMS:
                view = sum_column(key, self.column)
            elif key in self._places or key in _HEADER:
                view = self._contiguous(self._table.column(key))
            else:
                view = absent_column(len(self))
            self._columns[key] = view
        return self._columns[key]

    def _views(self) -> dict[str, tuple[memoryview, int]]:
        """Return every column of the backend's table, and how many of all its rows lack it.

        All at once take half of the time; column() returns the same memory afterwards.
        """
        keys = (*_HEADER, *_NUMBERS, *self._places)
        views = dict(zip(keys, self._table.columns(keys), strict=True))
        if self._is_part:
            views = {key: (self._contiguous(view), n) for key, (view, n) in views.items()}
        for key in (*_HEADER, *self._places):
            self._columns[key] = views[key][0]
        return views

    def _part(self, whole: memoryview) -> memoryview:
        """Select this table's rows from a column of the backend's table."""
        rows = self._rows
        if not rows:
            return whole[:0]
        if not isinstance(rows, range):
            values = array(whole.format, map(whole.__getitem__, rows))
            return memoryview(values).toreadonly()
        # In a range a stop of -1 is before the first row, but in a slice it is the last.
        return whole[rows.start : None if rows.stop < 0 else rows.stop : rows.step]

    def _contiguous(self, whole: memoryview) -> memoryview:
        view = self._part(whole)
        if view.contiguous:
            return view
        # Type checkers expect a literal as format; that of a view is a str.
        return memoryview(view.tobytes()).cast(view.format)  # type: ignore[call-overload,no-any-return]

    @staticmethod
    def _absent(column: memoryview) -> int:
        # Counting takes ten times as long as this search, and most columns have none.
        none = b"\xff" * 8 not in column.tobytes()
        return 0 if none else column.tolist().count(ABSENT)

    def _sizes(self) -> memoryview:
        starts, ends = self.column("start"), self.column("end")
        sizes = array("Q", [end - start for start, end in zip(starts, ends, strict=True)])
        for i in self._rollup_places():
            sizes[i] = ABSENT
        return memoryview(sizes).toreadonly()

    def _rollup_places(self) -> list[int]:
        """Return the places of the rollups among the rows."""
        if not self._rollups:
            return []
        return [i for i, row in enumerate(self._rows) if row in self._rollups]

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the size fields that are present (in kB in the file).

        A name is Python's, or the kernel's if Python's has another meaning: docs/fields.md.
        ``Size:`` is "size" here, which is end - start.
        """
        sized = dict(zip(self._table.labels, self._table.sized, strict=True))
        own = fields_of(self._places).names | {"Size": "size"}
        names = [own[label] for label in self._places if sized[label]]
        if self._is_part:
            names = [name for name in names if self.absent(name) < len(self)]
        return tuple(names)

    def absent(self, name: str) -> int:
        """Return how many records lack the field; KeyError for an unknown name."""
        key = self._key(name)
        if key in _HEADER:
            return 0
        if key == "size":
            return len(self._rollup_places())
        if key in SUMS:
            return self._absent(self.column(key))
        if key not in self._places:
            return len(self)
        return self._absent(self._part(self._table.column(key)))

    # ---- Arrow

    @property
    def _facts(self) -> dict[str, object]:
        return {"procfs": self.procfs, "taken_at": self.taken_at, "pid": self.pid}

    def __arrow_c_schema__(self) -> object:
        """Return the columns as an Arrow schema (PyCapsule); DuckDB needs it before each query."""
        from fastsmaps._model import arrow

        return arrow.mappings_schema(self._places, self._facts).__arrow_c_schema__()

    def _batch(self) -> Any:
        from fastsmaps._model import arrow

        views = self._views()
        sizes = (self.column("size"), self.absent("size")) if self._rollups else None
        return arrow.mappings_batch(self._table, self._rows, views, sizes, self._facts)

    # ---- sums

    def totals(self) -> Totals:
        """Return the fields summed over the mappings; all are None for an empty table.

        ``source`` is "smaps" or "maps" ("maps" only has ``size``), "smaps_rollup" for a text of
        rollups, which have no size, and "mixed" for rollups together with the mappings of other
        processes. A sum over rollups lacks the fields that one of them lacks.
        """
        if not self._is_part and not self._rollups:
            size, sums = self._table.sums()[0]
            return Totals(sums, size if len(self) else None, self._source)
        return self._sums([0] * len(self), 1)[0]

    @property
    def _source(self) -> str:
        return "smaps" if self._places else "maps"

    def _sums(self, groups: list[int], count: int) -> list[Totals]:
        """Return the totals of each group of rows."""
        numbers = array("I", [NO_GROUP]) * len(self._table)
        for row, group in zip(self._rows, groups, strict=True):
            numbers[row] = group
        rollups = [(self._rows[i], groups[i]) for i in self._rollup_places()]
        mapped = set(groups)
        if rollups:
            for row, _ in rollups:
                numbers[row] = NO_GROUP
            mapped = {numbers[row] for row in self._rows} - {NO_GROUP}
        sums = [
            Totals(by_label, size if group in mapped else None, self._source)
            for group, (size, by_label) in enumerate(self._table.sums(memoryview(numbers), count))
        ]
        if rollups:
            from fastsmaps._model.rollup_rows import with_rollups

            return with_rollups(sums, mapped, self._table, rollups)
        return sums

    def _keys(self, by: str | Callable[[Mapping], Hashable]) -> Iterator[Any]:
        if callable(by):
            yield from map(by, self)
        elif by == "path":
            yield from paths_of(self)
        elif by == "kind":
            yield from self._kinds()
        elif by == "label":
            yield from self._labels_of_rows()
        elif by == "use":
            yield from self.uses()
        else:
            raise wrong("by", f"{', '.join(map(repr, GROUPS))} or a function", by, str)

    def _kinds(self) -> Iterator[str]:
        """Yield the kind of each row, decided once for similar rows."""
        names, flags, devs = self._table.names, self._table.flags, self._table.devs
        huge = {i for i, codes in enumerate(flags) if b"ht" in codes.split()}
        unnamed = [is_unnamed_device(dev) for dev in devs]
        kinds: dict[tuple[int, bool, bool, bool], str] = {}
        columns = (self._part(self._table.column(key)) for key in _NUMBERS)
        for perms, dev, name, codes in zip(*columns, strict=True):
            key = (name, bool(perms & SHARED), codes in huge, unnamed[dev])
            if key not in kinds:
                kinds[key] = kind_of(names[name], *key[1:])
            yield kinds[key]

    def _labels_of_rows(self) -> Iterator[str]:
        from fastsmaps._model.labels import label_of

        names = self._table.names
        labels: dict[tuple[int, str], str] = {}
        for key in zip(self._part(self._table.column("name")), self._kinds(), strict=True):
            if key not in labels:
                labels[key] = label_of(names[key[0]], key[1])
            yield labels[key]

    def uses(self) -> list[str]:
        """Return for each row what the mapping is for: "thread stacks", "malloc arenas", "text"...

        It is read from names, permissions, flags and the neighbours in the text, which count even
        if they are not in this part of the table. A use that ends with "?" is doubtful. The rules
        and their sources are in docs/fields.md ("What a mapping is for").
        """
        from fastsmaps._model.uses import uses_of

        uses = uses_of(self._table)
        return [uses[row] for row in self._rows]

    def _files(self, groups: list[int], count: int) -> list[int]:
        """Count the different files in each group."""
        is_path = [name.startswith(b"/") for name in self._table.names]
        columns = (self._part(self._table.column(key)) for key in ("name", "dev", "inode"))
        files = [0] * count
        for group, name, _, _ in set(zip(groups, *columns, strict=True)):
            files[group] += is_path[name]
        return files

    def group_by(self, by: str | Callable[[Mapping], Hashable]) -> dict[Any, Group]:
        """Return groups by "path", "kind", "label", "use" or a function's result for a Mapping.

        A label is the purpose of named memory ("malloc", "Java heap", "thread stacks"), between
        kind and full name: docs/fields.md. A use is what memory without a name is for, too, as
        uses() says. The largest Pss comes first, or the largest size if no record has a Pss (maps).

        Raises ValueError for another `by`, TypeError if the function returns an unhashable value.
        """
        result = groups_of(self, self._keys(by))
        order = sorted(
            result,
            key=lambda key: (result[key].totals.pss or 0, result[key].totals.size or 0),
            reverse=True,
        )
        return {key: result[key] for key in order}

    # ---- rows

    def filter(self, wanted: Callable[[Mapping], object]) -> Mappings:
        """Return a table of the rows for which the function returns a true value."""
        check_function("wanted", wanted, optional=False)
        pairs = zip(self._rows, self, strict=True)
        return self._subset([row for row, mapping in pairs if wanted(mapping)])

    def sort(
        self, by: str | Callable[[Mapping], Any] = "pss", *, reverse: bool = False
    ) -> Mappings:
        """Return a table of the same rows, the smallest first; with `reverse`, the largest first.

        `by` is a name that column() takes, or a function of a Mapping. Rows without a value (None
        from a function) come last in both directions; equal rows keep their order.
        """
        present, missing = self._ranked(by, bool(reverse))
        return self._subset([self._rows[i] for i in (*present, *missing)])

    def top(self, n: int, by: str | Callable[[Mapping], Any] = "pss") -> Mappings:
        """Return a table of the `n` rows with the largest values, the largest first.

        `by` is as in sort(). Rows without a value are left out; an `n` below 1 gives no rows.
        Raises KeyError for an unknown name, TypeError if `n` is not an int.
        """
        n = check_int("n", n)
        present, _ = self._ranked(by, True)
        return self._subset([self._rows[i] for i in present[: max(n, 0)]])

    def _ranked(
        self, by: str | Callable[[Mapping], Any], reverse: bool
    ) -> tuple[list[int], list[int]]:
        """Return the places of the rows with a value, ordered by it, and of those without."""
        keys: list[Any]
        missing: object
        if callable(by):
            keys, missing = list(map(by, self)), None
        else:
            check_str("by", by, "a field's name or a function")
            keys, missing = self.column(by).tolist(), ABSENT
        present = [i for i, key in enumerate(keys) if key != missing]
        present.sort(key=keys.__getitem__, reverse=reverse)
        return present, [i for i, key in enumerate(keys) if key == missing]

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return ``as_dict()`` of each row: for pandas.DataFrame(), json.dump()..."""
        keys, names = layout_of(self._places)
        row_into = self._table.row_into
        results = []
        for row in self._rows:
            result = keys.copy()
            put_head(result, row_into(row, result, names))
            results.append(result)
        return results

    def find(self, address: int) -> Mapping | None:
        """Return the mapping that contains the address, or None; the first if several overlap.

        Rollups are ignored: each covers many mappings.
        """
        address = check_int("address", address)
        starts, ends = self.column("start"), self.column("end")
        if self._rollups or self.overlaps or not self._is_in_order:
            for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
                if start <= address < end and self._rows[i] not in self._rollups:
                    return self[i]
            return None
        from bisect import bisect_right

        i = bisect_right(ends, address)
        return self[i] if i < len(self) and starts[i] <= address else None

    @property
    def overlaps(self) -> bool:
        """Whether address ranges overlap or go back in the text; rollups are ignored.

        The order of the table's rows, as by sort(), makes no difference. In a text, addresses go
        back where the next process begins. In a table of a live process, True means that the map
        changed between two reads of the text: a mapping that had been read grew and was read
        again, so the sums count it twice (seen on 6.18: [heap] while brk moved). Re-read if you
        need a consistent table.
        """
        # Kept: find() needs it each time.
        if self._overlaps is None and not self._is_in_order:
            self._overlaps = self._subset(sorted(self._rows)).overlaps
        if self._overlaps is None:
            starts, ends = self.column("start").tolist(), self.column("end").tolist()
            for i in reversed(self._rollup_places()):
                del starts[i], ends[i]
            self._overlaps = any(map(int.__lt__, starts[1:], ends))
        return self._overlaps


# ---- for diff(): keys that depend on another table


def paths_of(table: Mappings) -> list[str]:
    """Return the path of each row."""
    paths = list(map(os.fsdecode, table._table.names))
    return list(map(paths.__getitem__, table._part(table._table.column("name"))))


def part_of(table: Mappings, rows: Sequence[int]) -> Mappings:
    """Return a table of these of its rows."""
    return table._subset([table._rows[i] for i in rows])


def groups_of(table: Mappings, keys: Iterable[Hashable]) -> dict[Any, Group]:
    """Return a group for each different key, in the order of the rows, which have one key each."""
    numbers: dict[Any, int] = {}
    groups = [numbers.setdefault(key, len(numbers)) for key in keys]
    counts = [0] * len(numbers)
    for number in groups:
        counts[number] += 1
    sums = table._sums(groups, len(numbers))
    files = table._files(groups, len(numbers))
    return {
        key: Group(sums[number], counts[number], files[number]) for key, number in numbers.items()
    }
