"""Atomic Parquet files of rows and tables, written by pyarrow.

Importing this module without pyarrow raises an ImportError that names the extra.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from fastsmaps._arguments import check_strs, check_type
from fastsmaps._model.arrow import EXTRA, MAPPING, PROCESS, UINT64, column_of, lists_of
from fastsmaps._model.escaping import utf8
from fastsmaps._output.files import atomic_file


def table_of(
    records: Sequence[dict[str, Any]], names: Iterable[str], texts: Iterable[str] = ()
) -> Any:  # noqa: ANN401
    r"""Convert rows, as ``as_dict()`` gives them, to a pyarrow.Table with the columns `names`.

    A column's type depends only on its name, not on the rows, so that the files of many machines
    have one schema: UINT64 unless the name is known to be something else or is in `texts`. Texts
    are UTF-8, with other bytes escaped as ``\xff``. A value that a row lacks, or that does not fit
    the type, is null.

    `records` are read once for each column, so they must be a sequence. Raises TypeError for
    wrong arguments, and for a row or an ``extra`` that is not a dict.
    """
    import pyarrow as pa

    check_type("records", records, "a sequence of dicts", Sequence)
    for record in records:
        check_type("each of records", record, "a dict", dict)
        check_type("extra", record.get("extra") or {}, "a dict", dict)
    names, texts = check_strs("names", names), check_strs("texts", texts)
    kinds = {
        **MAPPING,
        **PROCESS,
        "extra": EXTRA,
        "host": pa.string(),
        "pss_percent": pa.float64(),
        "taken_at": pa.timestamp("us", tz="UTC"),
        **dict.fromkeys(texts, pa.string()),
    }
    columns = {}
    for name in names:
        kind = kinds.get(name, UINT64)
        if pa.types.is_dictionary(kind):  # Parquet has its own dictionaries
            kind = kind.value_type
        values = [record.get(name) for record in records]
        if name == "extra":
            values = [
                [(label, utf8(text)) for label, text in (extra or {}).items()] for extra in values
            ]
        columns[name] = (lists_of if pa.types.is_list(kind) else column_of)(values, kind)
    return pa.table(columns)


def write_parquet(table: Any, path: str | os.PathLike[str]) -> None:  # noqa: ANN401
    """Write a pyarrow.Table as a Parquet file, atomically (mode 0600).

    ``pyarrow.table()`` makes one of Mappings, a Scan or Samples. Raises OSError if the file cannot
    be written (FileExistsError if `path` exists and is not a regular file), TypeError for wrong
    arguments.
    """
    import pyarrow as pa
    from pyarrow import parquet

    check_type("table", table, "a pyarrow.Table", pa.Table)
    # All engines read both. For 20,000 mappings zstd's file is half as large as snappy's (120 kB).
    compression = "zstd" if pa.Codec.is_available("zstd") else "snappy"
    with atomic_file(path) as file:
        parquet.write_table(table, file, compression=compression)
