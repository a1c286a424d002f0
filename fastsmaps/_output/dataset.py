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
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from fastsmaps._output.stored import compression, schema_of, stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastsmaps._model.processes import Scan
    from fastsmaps._output.stores import Store

#: Rows of a row group: memory for one is needed when files are merged (30 MB).
GROUP_ROWS = 1 << 16

_ID = b"fastsmaps.id"
_MERGED = b"fastsmaps.merged"
_HOUR = re.compile(r"(\d{4}-\d\d-\d\d)T\d\dZ(-\d+)?\.parquet")
_DATE = re.compile(r"date=(\d{4}-\d\d-\d\d)")
# Rows of a process lie together: equal values cost nothing, and a filter by pid skips pages.
_ORDER = [("pid", "ascending"), ("start_time", "ascending"), ("taken_at", "ascending")]


def table_of(scan: Scan, host: str) -> Any:  # noqa: ANN401
    """Return a sweep as a table with the schema of stored processes."""
    table = scan.to_arrow()
    seconds = scan.taken_at or 0.0
    count = len(table)
    host_column = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), [host])
    time = pa.scalar(round(seconds * 1e6), pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    table = table.append_column("host", host_column)
    table = table.append_column("taken_at", pa.repeat(time, count))
    return stored(table).replace_schema_metadata(None)


def hour_of(seconds: float) -> str:
    """Return the hour of a time since the epoch: 2026-11-29T14Z."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%HZ")


class DataSet:
    """The files of one host in a store."""

    def __init__(self, store: Store, host: str) -> None:
        self._store = store
        # As Hive and Spark escape values in names of directories.
        self._host = f"host={urllib.parse.quote(host, safe='')}"

    def _directory(self, date: str) -> str:
        return f"date={date}/{self._host}"

    def add(self, hour: str, tables: list[Any]) -> None:
        """Add rows to the file of an hour; raises OSError, and then nothing is added."""
        directory = self._directory(hour[:10])
        name, old, number = f"{hour}.parquet", None, 0
        present = self._store.names(directory)
        while name in present:
            old = self._readable(f"{directory}/{name}")
            if old is not None:
                break
            number += 1  # damaged, or of another version: it is left alone
            name = f"{hour}-{number}.parquet"
        for _ in self._write(f"{directory}/{name}", [] if old is None else [old], tables, ()):
            pass

    def compact(self, today: str) -> Iterator[None]:
        """Merge the hours of each day before `today` into one file, in small steps."""
        for date in self._dates():
            if date < today:
                yield from self._compact_day(date)

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
        sources = [*([day] if day else []), *(file for _, file in hours)]
        yield from self._write(f"{directory}/{day_name}", sources, [], ids)
        for name, _ in hours:
            self._store.delete(f"{directory}/{name}")

    def _readable(self, path: str) -> Any:  # noqa: ANN401
        """Return a file of this schema; None for any other and for a damaged one."""
        schema = schema_of("processes")
        try:
            file = parquet.ParquetFile(self._store.open(path))
        except pa.ArrowInvalid:
            return None
        return file if file.schema_arrow.equals(schema) else None

    def _write(
        self, path: str, sources: Iterable[Any], tables: list[Any], merged: Iterable[bytes]
    ) -> Iterator[None]:
        """Write rows of files and of tables to a new file; yields between row groups."""
        schema = schema_of("processes")
        facts = {_ID: os.urandom(16).hex().encode(), _MERGED: b",".join(merged)}
        schema = schema.with_metadata({**schema.metadata, **facts})

        def parts() -> Iterator[Any]:
            for file in sources:
                for i in range(file.num_row_groups):
                    yield file.read_row_group(i, use_threads=False)
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


def _metadata(file: Any) -> dict[bytes, bytes]:  # noqa: ANN401
    return file.metadata.metadata or {}


def _sorted(table: Any, schema: Any) -> Any:  # noqa: ANN401
    whole = table.unify_dictionaries().combine_chunks().sort_by(_ORDER)
    return whole.replace_schema_metadata(schema.metadata)
