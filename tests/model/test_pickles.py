"""Pickles name only public classes, so that private modules may move."""

from __future__ import annotations

import pickle

import pytest

import fastsmaps
from fastsmaps._model.samples import Series
from support.smaps_texts import TEXT


def objects() -> list[object]:
    """Return an object of each class that pickles."""
    table = fastsmaps.parse(TEXT)
    totals = table.totals()
    series = Series(8)
    series.add(totals, elapsed=1, time=2, processes=3, unread=0, peak_rss=4096)
    errors: list[fastsmaps.Error] = []
    for arguments in ({"pid": 2**30}, {"pid": 1, "procfs": "/nowhere"}, {"pid": 1, "procfs": "/"}):
        try:
            fastsmaps.totals(**arguments)
        except fastsmaps.Error as error:
            errors.append(error)
    try:
        fastsmaps.parse(b"x")
    except fastsmaps.Error as error:
        errors.append(error)
    assert len(errors) == 4
    for kind in (fastsmaps.NotCaptured, fastsmaps.NotInNamespace, fastsmaps.NotSupported):
        errors.append(kind("missing", pid=1, path="/capture/1"))
    scan = fastsmaps.scan(pids=[1])
    with fastsmaps.Process("self") as process:
        info = process.info(heap=True)
    return [
        table, table[0], totals, totals - totals, table.group_by("path"), scan, scan[0], scan.cost,
        series.samples(), series.samples()[0], info, fastsmaps.libs(pids=[1]),
        fastsmaps.host(scan=scan), *errors,
    ]  # fmt: skip


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_no_pickle_names_a_private_module(protocol: int) -> None:
    for value in objects():
        data = pickle.dumps(value, protocol)
        assert b"fastsmaps._" not in data, value
        same = pickle.loads(data)
        assert type(same) is type(value)
        if isinstance(value, fastsmaps.Error):
            assert isinstance(same, fastsmaps.Error)
            assert (str(same), same.args, vars(same)) == (str(value), value.args, vars(value))
        elif type(value).__eq__ is not object.__eq__ and not isinstance(value, dict):
            assert same == value
