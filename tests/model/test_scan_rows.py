"""Rows of a scan and their tables: fields by name, columns, top, sort, pickles, reprs."""

from __future__ import annotations

import os
import pickle
import typing
from types import ModuleType

import pytest

import fastsmaps
from fastsmaps import _backend
from fastsmaps._model.process_totals import ProcessTotals
from fastsmaps._model.processes import Cost, Scan
from fastsmaps._model.rollups import Rollups
from fastsmaps._model.totals import Totals


def row(pid: int, pss: int | None = None, **facts: typing.Any) -> ProcessTotals:
    totals = (
        None if pss is None else Totals({"Pss": pss, "NewThing": 2 * pss}, None, "smaps_rollup")
    )
    outcome: fastsmaps.Outcome = "denied" if pss is None else "read"
    return ProcessTotals(pid, outcome, totals=totals, **facts)


def scan(*rows: ProcessTotals) -> Scan:
    return Scan(rows, cost=Cost(0.0, 0.0), taken_at=1.0, procfs="/proc")


def test_a_row_has_the_fields_of_its_totals() -> None:
    read, unread = row(1, 30, comm="a"), row(2)
    assert (read.pss, read["Pss"], read["pss"], read.new_thing) == (30, 30, 30, 60)  # type: ignore[attr-defined]
    assert (read.rss, read.uss, read.size) == (None, None, None)
    assert (unread.pss, unread["Pss"], unread.uss, unread.size) == (None,) * 4
    assert (read["pid"], read["comm"], read["outcome"]) == (1, "a", "read")
    assert dict(read) == read.as_dict()
    assert "pss" in unread
    assert "nonsense" not in read
    with pytest.raises(AttributeError, match="'nonsense'"):
        read.nonsense  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(KeyError, match=r"no field 'nonsense'; there are: .*pss"):
        read["nonsense"]


def test_columns_have_absent_or_nan_for_unknown_values() -> None:
    table = scan(row(1, 30, ppid=7, start_time=2.5), row(2))
    assert table.column("pss").tolist() == [30, fastsmaps.ABSENT]
    assert table.column("NewThing").tolist() == [60, fastsmaps.ABSENT]
    assert table.column("nonlinear").tolist() == [fastsmaps.ABSENT] * 2
    assert table.column("ppid").tolist() == [7, fastsmaps.ABSENT]
    assert table.column("start_time")[0] == 2.5
    assert table.fields == ("pss", "new_thing")
    assert [table.absent(name) for name in ("pss", "nonlinear", "start_time", "pid")] == [
        1,
        2,
        1,
        0,
    ]
    for name in table.fields:
        assert len(table.column(name)) == len(table.top(9, name)) + table.absent(name)
    for name in ("nonsense", "comm", "cmdline"):
        with pytest.raises(KeyError, match=f"no field '{name}'; there are: pid, .*pss"):
            table.column(name)


def test_a_field_of_the_sweep_is_known_in_a_part(backend: ModuleType) -> None:
    """A field of the sweep's table is known even if these rows lack it."""
    text = b"1000-2000 ---p 00000000 00:00 0 [rollup]\nPss: 4 kB\n"
    table = Rollups(_backend.parse(text + b"NewThing: 8 kB\n" + text, False))
    part = scan(ProcessTotals(1, "read", totals=(table, 1)))
    assert "new_thing" in part.fields
    assert part.column("new_thing").tolist() == [fastsmaps.ABSENT]
    assert part.absent("new_thing") == 1


def test_columns_of_live_processes_match_the_rows(backend: ModuleType) -> None:
    table = fastsmaps.scan()
    assert list(table.column("pss")) == [
        fastsmaps.ABSENT if row.pss is None else row.pss for row in table
    ]
    assert {"rss", "pss"} <= set(table.fields)
    for name in table.fields:
        assert table.absent(name) == list(table.column(name)).count(fastsmaps.ABSENT)
    with pytest.raises(KeyError, match="no field 'psss'"):
        table.top(1, "psss")


def test_top_and_sort_order_missing_values_last() -> None:
    table = scan(row(1, 10), row(2), row(3, 30), row(4, 10))
    assert [row.pid for row in table.top(2)] == [3, 1]
    assert [row.pid for row in table.top(9)] == [3, 1, 4]
    assert [row.pid for row in table.top(0)] == []
    assert [row.pid for row in table.sort()] == [1, 4, 3, 2]
    assert [row.pid for row in table.sort(reverse=True)] == [3, 1, 4, 2]
    assert [row.pid for row in table.sort(lambda row: -row.pid)] == [4, 3, 2, 1]
    assert [row.pid for row in table.top(1, "pid")] == [4]
    assert table.top(1).procfs == "/proc"
    with pytest.raises(TypeError):
        table.top("2")  # type: ignore[arg-type]


def test_scans_pickle_without_private_modules() -> None:
    table = scan(row(1, 30, cmdline=b"a\0b\0", comm="x"), row(2))
    for value in (table, table[0], table.cost):
        data = pickle.dumps(value)
        assert b"fastsmaps._" not in data
        again = pickle.loads(data)
        assert list(again) == list(value) if isinstance(value, Scan) else again == value


def test_reprs_of_rows_show_pss_or_the_outcome() -> None:
    table = scan(row(1, 3 << 20, comm="bash"), row(2))
    assert repr(table[0]) == "<ProcessTotals 1 bash pss=3.0 MiB>"
    assert repr(table[1]) == "<ProcessTotals 2 ? denied>"


def test_outcome_lists_every_outcome() -> None:
    words = typing.get_args(fastsmaps.Outcome)
    assert set(words) == set(scan().coverage)


def test_libs_are_read_only(backend: ModuleType) -> None:
    found = fastsmaps.libs([os.getpid()])
    path = next(iter(found))
    assert found[path] is found.get(path)
    with pytest.raises(TypeError):
        found[path] = found[path]  # type: ignore[index]
    again = pickle.loads(pickle.dumps(found))
    assert dict(again) == dict(found)
    assert b"fastsmaps._" not in pickle.dumps(found)
