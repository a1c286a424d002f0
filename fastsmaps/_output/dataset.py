"""A data set of one host's processes over time: date=YYYY-MM-DD/host=NAME/ with Parquet files.

A directory has a file for each hour, which is replaced when rows are added, and one for the day
after that has ended. So there are never many small files, and each step is atomic: a file is
replaced as a whole. Only the day's file and the hours that it contains exist together for a
moment. The day's file names the hours' ids, so that a restart deletes the rest of them.
"""

from __future__ import annotations

import datetime
import os
import re
import urllib.parse
import weakref
from itertools import count
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from fastsmaps._output.stored import cgroup_parts, compression, schema_of, stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastsmaps._model.processes import Scan
    from fastsmaps._output.stores import Store

#: Rows of a row group: merging files takes the memory of a few (15 MB each).
GROUP_ROWS = 1 << 15

# Failed attempts that are remembered, in case a store had written the file.
_MAX_TRIED = 64
_ID = b"fastsmaps.id"
_MERGED = b"fastsmaps.merged"
_HOUR = re.compile(r"(\d{4}-\d\d-\d\d)T\d\dZ(-\d+)?\.parquet")
_DATE = re.compile(r"date=(\d{4}-\d\d-\d\d)")
# Rows of a process lie together: equal values cost nothing, and a filter by pid skips pages.
_ORDER = [("pid", "ascending"), ("start_time", "ascending"), ("taken_at", "ascending")]


class DamagedError(OSError):
    """A file has a footer, but its rows cannot be read."""


def table_of(scan: Scan, host: str) -> Any:
    """Return a sweep as a table with the schema of stored processes."""
    table = scan.to_arrow()
    seconds = scan.taken_at or 0.0
    length = len(table)
    host_column = pa.DictionaryArray.from_arrays(pa.array([0] * length, pa.int32()), [host])
    time = pa.scalar(round(seconds * 1e6), pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    table = table.append_column("host", host_column)
    table = table.append_column("taken_at", pa.repeat(time, length))
    for name, values in cgroup_parts(scan).items():
        table = table.append_column(name, pa.array(values, pa.string()))
    return stored(table).replace_schema_metadata(None)


def hour_of(seconds: float) -> str:
    """Return the hour of a time since the epoch: 2026-11-29T14Z."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%HZ")


class DataSet:
    """The files of one host in a store."""

    def __init__(self, store: Store, host: str) -> None:
        self._store = store
        # The rows of each file that failed since the last one was written, by the file's id.
        self._tried: dict[bytes, list[weakref.ref[Any]]] = {}
        # As Hive and Spark escape values in names of directories.
        self._host = f"host={urllib.parse.quote(host, safe='')}"

    def _directory(self, date: str) -> str:
        return f"date={date}/{self._host}"

    def add(self, hour: str, tables: list[Any]) -> None:
        """Add rows to the file of an hour; after an OSError, call it again with these and more."""
        directory = self._directory(hour[:10])
        present = self._store.names(directory)
        for number in count():
            name = f"{hour}-{number}.parquet" if number else f"{hour}.parquet"
            old = self._readable(f"{directory}/{name}") if name in present else None
            if old is None and name in present:
                continue  # damaged, or of another version: it is left alone
            # The store may have reported an error although it had written the file.
            written = self._tried.get(_metadata(old).get(_ID, b""), []) if old else []
            more = [each for each in tables if all(each is not known() for known in written)]
            new_id = _new_id()
            self._tried[new_id] = list(map(weakref.ref, tables))
            for oldest in list(self._tried)[:-_MAX_TRIED]:
                del self._tried[oldest]
            try:
                sources = [] if old is None else [(name, old)]
                for _ in self._write(f"{directory}/{name}", sources, more, new_id):
                    pass
            except DamagedError:
                continue
            self._tried.clear()
            return

    def compact(self, today: str) -> Iterator[None]:
        """Merge the hours of each day before `today` into one file, in small steps.

        Raises OSError, and DamagedError when all other days are done.
        """
        damaged = None
        for date in self._dates():
            if date < today:
                try:
                    yield from self._compact_day(date)
                except DamagedError as error:
                    damaged = error
        if damaged:
            raise damaged

    def delete_before(self, date: str) -> None:
        """Delete this host's files of the days before a date."""
        for day in self._dates():
            if day < date:
                directory = self._directory(day)
                for name in self._store.names(directory):
                    if name == f"{day}.parquet" or _HOUR.fullmatch(name):
                        self._store.delete(f"{directory}/{name}")

    def _dates(self) -> list[str]:
        found = map(_DATE.fullmatch, self._store.names(""))
        return [match[1] for match in found if match]

    def _compact_day(self, date: str) -> Iterator[None]:
        directory = self._directory(date)
        names = self._store.names(directory)
        day_name = f"{date}.parquet"
        day = self._readable(f"{directory}/{day_name}") if day_name in names else None
        if day is None and day_name in names:
            return  # damaged, or of another version
        merged = _metadata(day).get(_MERGED, b"").split(b",") if day else []
        hours = []
        for name in names:
            file = self._readable(f"{directory}/{name}") if _HOUR.fullmatch(name) else None
            if file is None:
                continue
            if _metadata(file).get(_ID) in merged:
                self._store.delete(f"{directory}/{name}")  # a crash left it
            else:
                hours.append((name, file))
            yield
        if not hours:
            return
        ids = [_metadata(file).get(_ID, b"") for _, file in hours]
        sources = [*([(day_name, day)] if day else []), *hours]
        yield from self._write(f"{directory}/{day_name}", sources, [], _new_id(), ids)
        for name, _ in hours:
            self._store.delete(f"{directory}/{name}")

    def _readable(self, path: str) -> Any:
        """Return a file of this schema; None for any other and for a damaged one."""
        source = self._store.open(path)
        footer = pa.BufferReader(_footer(source))  # so that a failing store raises OSError here
        try:
            file = parquet.ParquetFile(source, metadata=parquet.read_metadata(footer))
            return file if file.schema_arrow.equals(schema_of("processes")) else None
        except (OSError, ValueError, pa.ArrowException):  # all of them for damaged bytes
            return None

    def _write(
        self,
        path: str,
        sources: Iterable[tuple[str, Any]],
        tables: list[Any],
        new_id: bytes,
        merged: Iterable[bytes] = (),
    ) -> Iterator[None]:
        """Write rows of files and of tables to a new file; yields between row groups."""
        schema = schema_of("processes")
        facts = {_ID: new_id, _MERGED: b",".join(merged)}
        schema = schema.with_metadata({**schema.metadata, **facts})

        def parts() -> Iterator[Any]:
            for name, file in sources:
                for i in range(file.num_row_groups):
                    try:
                        rows = file.read_row_group(i, use_threads=False)
                    except (OSError, ValueError, pa.ArrowException) as error:
                        raise DamagedError(f"{name} is damaged: {error}") from error
                    yield rows
            yield from tables

        with (
            self._store.replace(path) as file,
            parquet.ParquetWriter(file, schema, compression=compression()) as writer,
        ):
            waiting: list[Any] = []
            for part in parts():
                waiting.append(part)
                while sum(map(len, waiting)) >= GROUP_ROWS:
                    rows = pa.concat_tables(waiting)
                    writer.write_table(_sorted(rows[:GROUP_ROWS], schema))
                    waiting = [rows[GROUP_ROWS:]]
                yield
            if sum(map(len, waiting)):
                writer.write_table(_sorted(pa.concat_tables(waiting), schema))
        waiting.clear()
        pa.default_memory_pool().release_unused()


def _new_id() -> bytes:
    return os.urandom(16).hex().encode()


def _footer(source: Any) -> bytes:
    """Return the end of a Parquet file: its metadata, their length in 4 bytes and PAR1."""
    size = source.size()
    source.seek(max(0, size - 8))
    length = int.from_bytes(source.read(4), "little") + 8
    source.seek(max(0, size - length))
    footer: bytes = source.read(length)
    return footer


def _metadata(file: Any) -> dict[bytes, bytes]:
    return file.metadata.metadata or {}


def _sorted(table: Any, schema: Any) -> Any:
    whole = table.unify_dictionaries().combine_chunks().sort_by(_ORDER)
    return whole.replace_schema_metadata(schema.metadata)
