"""Atomic Parquet files of rows and tables, written by pyarrow.

Importing this module without pyarrow raises an ImportError that names the extra.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import fastsmaps._model.arrow  # noqa: F401 - its ImportError names the extra
from fastsmaps._arguments import check_strs, check_type
from fastsmaps._model.frames import Frames
from fastsmaps._output.files import atomic_file
from fastsmaps._output.stored import TYPES, array_of, stored, write_stored


def table_of(
    records: Sequence[dict[str, Any]], names: Iterable[str], texts: Iterable[str] = ()
) -> Any:
    r"""Convert rows, as ``as_dict()`` gives them, to a pyarrow.Table with the columns `names`.

    A column's type depends only on its name, not on the rows, so that the files of many machines
    have one schema: int64 unless the name is known to be something else or is in `texts`; ``start``
    and ``end`` are uint64. Texts are UTF-8, with other bytes escaped as ``\xff``. A value that a
    row lacks, or that does not fit the type, is null.

    `records` are read once for each column, so they must be a sequence. Raises TypeError for
    wrong arguments, and for a row or an ``extra`` that is not a dict.
    """
    import pyarrow as pa

    check_type("records", records, "a sequence of dicts", Sequence)
    for record in records:
        check_type("each of records", record, "a dict", dict)
        check_type("extra", record.get("extra") or {}, "a dict", dict)
    names, texts = check_strs("names", names), check_strs("texts", texts)
    types = {**TYPES, **dict.fromkeys(texts, pa.string())}
    return pa.table(
        {
            name: array_of([row.get(name) for row in records], types.get(name, pa.int64()))
            for name in names
        }
    )


def write_parquet(table: Any, path: str | os.PathLike[str]) -> None:
    """Write a table as a Parquet file, atomically (mode 0600).

    `table` is a pyarrow.Table, or a Mappings, Scan, Libs, Samples or Changes. Such a table has one
    schema in the file, whatever the kernel and version: docs/arrow.md has it. In any table unsigned
    numbers become signed, except ``start`` and ``end``, and null from 2**63 on. Raises OSError if
    the file cannot be written (FileExistsError if `path` exists and is not a regular file),
    TypeError for wrong arguments.
    """
    import pyarrow as pa

    if isinstance(table, Frames):
        table = table.to_arrow()
    check_type("table", table, "a pyarrow.Table or a table of fastsmaps", pa.Table)
    with atomic_file(path) as file:
        write_stored(stored(table), file)
