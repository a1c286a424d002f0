"""What both backends answer to the same text, in a form that compares: values or the error."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from fastsmaps._errors import ParseError
from fastsmaps._host.rows import SWEEP_OUTCOMES

Twins = tuple[ModuleType, ModuleType]
HEADER_KEYS = ("start", "end", "offset", "inode", "perms", "dev", "name", "flags")


def content(table: Any) -> tuple[Any, ...]:
    """Return all content of a table."""
    keys = (*HEADER_KEYS, *table.labels)
    groups = array("I", [i % 3 for i in range(len(table))])
    fields: list[dict[str, Any]] = [{} for _ in range(len(table))]
    return (
        len(table),
        [table.has_name(name) for name in (*table.names, b"[rollup]", b"", b"/none")],
        (table.labels, table.sized, table.names, table.devs, table.flags, table.extra),
        [table.column(key).tolist() for key in keys],
        [table.column(key).format for key in keys],
        [(view.tolist(), view.format, lacking) for view, lacking in table.columns(keys)],
        [table.row(i) for i in range(len(table))],
        [table.row_into(i, row, table.labels) for i, row in enumerate(fields)],
        fields,
        table.sums(),
        table.sums(memoryview(groups), 2),
    )


def outcome(function: Any, *args: Any) -> tuple[Any, ...]:
    """Return the table's content, or the error's."""
    try:
        table = function(*args)
    except ParseError as error:
        return type(error), str(error), error.offset, error.line_number, error.line
    return content(table) if table is not None else (None,)


def same(twins: Twins, text: bytes, crlf: bool = False) -> tuple[Any, ...]:
    c, python = twins
    first = outcome(c.parse, text, crlf)
    assert first == outcome(python.parse, text, crlf)
    return first


@contextmanager
def file_of(text: bytes) -> Iterator[int]:
    fd = os.memfd_create("text")
    try:
        while text:
            text = text[os.write(fd, text) :]
        yield fd
    finally:
        os.close(fd)


def check_reads(twins: Twins, text: bytes, *ways: tuple[int, int]) -> Any:
    """Check that reading in these chunks gives what parsing gives: table, sums or error."""
    whole = total = same(twins, text)
    if not text:
        whole = total = (None,)  # nothing at offset 0
    elif isinstance(whole[0], int):
        total = twins[0].parse(text).sums()[0]
    with file_of(text) as fd:
        for twin in twins:
            for chunk_size, chunks in ways:
                assert outcome(twin.read, fd, chunk_size, chunks) == whole
                assert sums_of(twin.total, fd, chunk_size, chunks) == total
            sums = total[1] if isinstance(total[0], int) else total
            assert sums_of(twin.rollup, fd) == sums
    return whole


def sums_of(function: Any, *args: Any) -> Any:
    """Return the sums of total() or rollup(), or the error's content."""
    try:
        sums = function(*args)
    except ParseError as error:
        return type(error), str(error), error.offset, error.line_number, error.line
    return (None,) if sums is None else sums


#: A line of stat, for a pid and a comm.
STAT = b"%d (%s) S 7 1 1 0 -1 4194304 " + b"0 " * 10 + b"1 0 77 " + b"0 " * 15 + b"17 0 0\n"


def rows_of(sweep: Any) -> list[Any]:
    """Return each row, with its rollup instead of the rollup's place."""
    table = sweep.table
    rows = []
    for i in range(len(sweep)):
        pid, outcome, place, *rest = sweep.row(i)
        values = None
        if place is not None:
            row = table.row(place)
            labelled = dict(zip(table.labels, row[9:], strict=True))
            values = {label: value for label, value in labelled.items() if value is not None}
        rows.append((pid, SWEEP_OUTCOMES[outcome], values, *rest))
    return rows
