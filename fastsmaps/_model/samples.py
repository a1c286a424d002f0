"""Samples: one process over time as a table in columns, recorded by a Watch."""

from __future__ import annotations

from array import array

from fastsmaps._arguments import Any, check_str
from fastsmaps._fields import ABSENT, SIZES, SUMS, Fields
from fastsmaps._model.columns import absent_column, cell, sum_column
from fastsmaps._model.frames import Frames
from fastsmaps._model.totals import SUM_NAMES, Totals
from fastsmaps._model.values import Value
from fastsmaps._public import public

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import overload

    from fastsmaps._model.view import View

    #: A sample: the numbers in _HEAD, then a value for each label known by then, or ABSENT.
    Row = array[int]

_HEAD = ("elapsed", "time", "processes", "unread", "peak_rss", "size")
_SECONDS = ("elapsed", "time")  # in nanoseconds here
#: The fields with a peak that is kept.
PEAKS = ("pss", "uss", "rss", "swap")


@public
class Sample(Value):
    """A process at one moment; immutable, equal by value.

    ``elapsed`` is in seconds since the watch began (by the monotonic clock), ``time`` in seconds
    since the epoch, ``totals`` as fastsmaps.totals() returns them, ``peak_rss`` VmHWM: the largest
    Rss since the program's start as the kernel records it, in bytes. In a tree the totals are the
    sum over ``processes`` processes, ``unread`` counts those that the sums lack, and ``peak_rss``
    is None, since it belongs to one process.
    """

    __slots__ = ("elapsed", "peak_rss", "processes", "time", "totals", "unread")

    elapsed: float
    time: float
    processes: int
    unread: int
    peak_rss: int | None
    totals: Totals

    def as_dict(self) -> dict[str, Any]:
        """Return all values by name, totals included; None if the kernel did not print one."""
        head = {name: getattr(self, name) for name in _HEAD if name != "size"}
        return {**head, **self.totals}

    def __repr__(self) -> str:
        return f"<Sample at {self.elapsed:.3f} s: {self.totals!r}>"


# typing.get_type_hints() looks up names in the public package, which gets them when they are used.
Sample.__annotations__.update(totals=Totals)


@public
class Samples(Frames):
    """A table of samples: ``len(s)``, ``s[i]``, iteration; ``s[i:j]`` is a smaller table.

    Rows (Sample) are made on demand. The table does not change while the watch goes on.
    """

    __slots__ = ("_labels", "_rows", "_source")

    def __init__(self, rows: list[Row], labels: tuple[str, ...], source: str) -> None:
        self._rows = rows
        self._labels = labels
        self._source = source

    def __reduce__(self) -> tuple[Callable[..., Samples], tuple[Any, ...]]:
        return Samples, (self._rows, self._labels, self._source)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Sample]:
        return map(self._sample, self._rows)

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, index: int) -> Sample: ...
        @overload
        def __getitem__(self, index: slice) -> Samples: ...

    def __getitem__(self, index: int | slice) -> Sample | Samples:
        if isinstance(index, slice):
            return Samples(self._rows[index], self._labels, self._source)
        return self._sample(self._rows[index])

    def _view(self) -> View:
        from fastsmaps._model import views

        return views.of_samples(self)

    def _sample(self, row: Row) -> Sample:
        elapsed, time, processes, unread, peak_rss, size = row[: len(_HEAD)]
        fields = zip(self._labels, row[len(_HEAD) :], strict=False)
        return Sample(
            elapsed=elapsed / 1e9,
            time=time / 1e9,
            processes=processes,
            unread=unread,
            peak_rss=None if peak_rss == ABSENT else peak_rss,
            totals=Totals(
                {label: value for label, value in fields if value != ABSENT},
                None if size == ABSENT else size,
                self._source,
            ),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all columns, in the order of ``Sample.as_dict()``."""
        known = dict.fromkeys((*_HEAD, *SUMS, *SUM_NAMES))
        return tuple(known | dict.fromkeys(self._fields().names.values()))

    def _fields(self) -> Fields:
        # The size of totals is another value, and they lack the printed one.
        return Fields([label for label in self._labels if label != "Size"], known=SIZES)

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the columns that have a value in at least one row."""
        return tuple(name for name in self.names if any(v != ABSENT for v in self.column(name)))

    def _batch(self) -> Any:
        from fastsmaps._model import arrow

        return arrow.samples_batch(
            {name: self.column(name) for name in self.names}, [row[1] for row in self._rows]
        )

    def column(self, name: str) -> memoryview:
        """Return a field of all samples: a contiguous, read-only memoryview of format "Q".

        `name` is a field's in Python's or the kernel's spelling, "uss", "rss_swap", "size",
        "peak_rss", "processes" or "unread"; sizes are in bytes, ABSENT (2**64 - 1) if the kernel
        did not print one. "elapsed" and "time" are in seconds (format "d"). Raises KeyError for an
        unknown name.
        """
        check_str("name", name)
        if name in _SECONDS:
            place = _HEAD.index(name)
            return memoryview(array("d", [row[place] / 1e9 for row in self._rows])).toreadonly()
        if name in SUMS:
            return sum_column(name, self.column)
        if name in _HEAD:
            at = _HEAD.index(name)
        else:
            label = self._fields().label(name, (*_HEAD, *SUMS))
            if label not in self._labels:
                return absent_column(len(self))
            at = len(_HEAD) + self._labels.index(label)
        values = [row[at] if at < len(row) else ABSENT for row in self._rows]
        return memoryview(array("Q", values)).toreadonly()


class Series:
    """The samples of a running watch: bounded, and safe to read from other threads.

    There is no lock: only one thread adds, by operations that are atomic for every other thread.
    So a fork can never leave a lock held in the child.
    """

    def __init__(self, limit: int) -> None:
        self.count = 0
        self._limit = limit + limit % 2
        self._labels: dict[str, int] = {}
        self._source = "smaps_rollup"
        self._kept: list[Row] = []
        self._stride = 1  # samples for each kept one
        self._filled = 1  # samples so far for the last kept one
        self._ends: tuple[Row, Row] | None = None
        self._peaks: dict[str, tuple[int, Row]] = {}

    def add(
        self,
        totals: Totals,
        *,
        elapsed: int,
        time: int,
        processes: int,
        unread: int,
        peak_rss: int | None,
    ) -> None:
        """Add a sample; the times are in nanoseconds."""
        by_label = totals.by_label
        labels = self._labels
        for label in by_label:
            if label not in labels:
                labels[label] = len(_HEAD) + len(labels)
        sizes = map(cell, (peak_rss, totals.size))
        row = array("Q", [elapsed, time, processes, unread, *sizes])
        row.extend([cell(by_label.get(label)) for label in labels])
        self._source = totals.source
        for name in PEAKS:
            value = totals[name]
            if value is not None and value > self._peaks.get(name, (-1,))[0]:
                self._peaks[name] = value, row
        self._ends = self._ends[0] if self._ends else row, row
        self.count += 1
        self._keep(row)

    def _keep(self, row: Row) -> None:
        if self._filled < self._stride:
            self._filled += 1
            self._kept[-1] = max(self._kept[-1], row, key=self._weight)
            return
        if len(self._kept) == self._limit:
            pairs = zip(self._kept[::2], self._kept[1::2], strict=True)
            self._kept = [max(pair, key=self._weight) for pair in pairs]
            self._stride *= 2
        self._kept.append(row)
        self._filled = 1

    def _weight(self, row: Row) -> int:
        """Return the value by which one of several rows is kept: Pss, or Rss (before 2.6.25)."""
        for label in ("Pss", "Rss"):
            place = self._labels.get(label, len(row))
            if place < len(row) and row[place] != ABSENT:
                return row[place]
        return 0

    # ---- for other threads

    def samples(self) -> Samples:
        """Return the samples kept now, always with the first and the last one."""
        rows = self._kept[:]
        if self._ends is not None:
            first, last = self._ends
            if not rows or rows[0][0] > first[0]:
                rows.insert(0, first)
            if rows[-1][0] < last[0]:
                rows.append(last)
        return Samples(rows, tuple(self._labels), self._source)

    def peaks(self) -> dict[str, Sample]:
        """Return the sample with the largest value of each of PEAKS, if it is known."""
        found = list(self._peaks.items())
        table = Samples([row for _, (_, row) in found], tuple(self._labels), self._source)
        return {name: table[i] for i, (name, _) in enumerate(found)}
