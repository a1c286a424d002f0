"""Tables as those of pandas, polars and pyarrow: to_pandas() and others, pandas.DataFrame(m)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import numpy
import pandas
import polars
import pyarrow as pa
import pytest

import fastsmaps
from fastsmaps._model.samples import Samples, Series
from fastsmaps._model.totals import Totals
from support import commands, processes
from support.independent import DATA
from support.smaps_texts import TEXT, header, kb, record

ZOO = DATA / "captures/7.2-amd64/zoo/smaps"
# Bytes that are not UTF-8; a name that looks like their escape; UTF-8 of a surrogate.
ODD = (b"/tmp/\xff", b"/tmp/\\xff", b"/tmp/\xed\xa0\x80", "/tmp/\N{SNOWMAN}".encode())
READABLE = ["/tmp/\\xff", "/tmp/\\xff", "/tmp/\\xed\\xa0\\x80", "/tmp/\N{SNOWMAN}"]
UNSIGNED = ("start", "end", "offset", "inode")


def odd() -> fastsmaps.Mappings:
    return fastsmaps.parse(
        b"".join(record(i << 16, (i << 16) + 4096, name, Rss=i) for i, name in enumerate(ODD))
    )


@pytest.fixture
def odd_scan(tmp_path: Path) -> fastsmaps.Scan:
    """Scan a capture of a process with names that are not UTF-8, and of one without memory."""
    rollup = header(name=b"[rollup]") + kb("Rss", 8) + kb("Pss", 4)
    for pid, more in ((7, {"smaps_rollup": rollup, "cmdline": b"a\xff\0b\0"}), (8, {})):
        (tmp_path / str(pid)).mkdir()
        stat = b"%d (ba\xffd) S 1 " % pid + b"0 " * 40
        for name, text in ({"stat": stat} | more).items():
            (tmp_path / str(pid) / name).write_bytes(text)
    return fastsmaps.scan(procfs=tmp_path, cmdline=True)


def samples() -> Samples:
    series = Series(10)
    for i, fields in enumerate(({"Pss": 4096}, {"Pss": 8192, "NewField": 1024})):
        series.add(
            Totals(fields, None, "smaps_rollup"),
            elapsed=i * 10**9,
            time=(1_700_000_000 + i) * 10**9,
            processes=1,
            unread=0,
            peak_rss=None,
        )
    return series.samples()


def tables() -> list[Any]:
    return [
        fastsmaps.load(ZOO),
        fastsmaps.load(DATA / "handmade/mixed-fields/smaps"),
        odd(),
        fastsmaps.mappings(),
        fastsmaps.scan([os.getpid(), 1], cmdline=True),
        fastsmaps.libs([os.getpid()]),
        samples(),
    ]


def plain(value: Any) -> Any:
    """Return a cell of pandas as a value of Python."""
    if isinstance(value, numpy.ndarray | list | tuple):
        return [tuple(v) if isinstance(v, tuple | list) else v for v in value]
    if isinstance(value, dict):
        return list(value.items())
    return None if pandas.isna(value) else value


def cells(frame: Any) -> dict[str, list[Any]]:
    return {name: [*map(plain, frame[name].tolist())] for name in frame.columns}


def test_every_frame_has_the_values_of_to_arrow(backend: ModuleType) -> None:
    for table in tables():
        arrow = table.to_arrow()
        assert arrow.equals(pa.table(table))
        assert len(arrow) == len(table)
        expected = arrow.to_pydict()
        frame = table.to_pandas()
        assert cells(frame) == expected
        assert cells(pandas.DataFrame(table)) == expected
        assert {
            name: [*map(plain_list, column)]
            for name, column in table.to_polars().to_dict(as_series=False).items()
        } == expected


def plain_list(value: Any) -> Any:
    return list(value.items()) if isinstance(value, dict) else value


def test_types_are_signed_sizes_and_texts(backend: ModuleType) -> None:
    for table in tables():
        types = dict(table.to_pandas().dtypes)
        frame = table.to_polars()
        for name, kind in zip(
            table.to_arrow().column_names, table.to_arrow().schema.types, strict=True
        ):
            if kind in (pa.uint64(), pa.int64()):
                unsigned = name in UNSIGNED
                assert types[name] == ("UInt64" if unsigned else "Int64"), name
                assert frame.schema[name] == (polars.UInt64 if unsigned else polars.Int64), name
            elif kind == pa.string() or (
                pa.types.is_dictionary(kind) and kind.value_type == pa.string()
            ):
                assert types[name] == "str", name
                assert frame.schema[name] == polars.String, name
    small, large = fastsmaps.parse(record(Rss=1)), fastsmaps.parse(record(Rss=3))
    assert (small.to_pandas()["rss"] - large.to_pandas()["rss"]).tolist() == [-2048]
    assert (small.to_polars()["rss"] - large.to_polars()["rss"]).to_list() == [-2048]


def test_pandas_constructor_gives_columns_and_numbers(backend: ModuleType) -> None:
    mappings = fastsmaps.parse(TEXT)
    frame = pandas.DataFrame(mappings)
    assert [*frame.columns] == mappings.to_arrow().column_names
    assert frame["start"].tolist() == [m.start for m in mappings]
    assert frame["pss"].dtype == "int64"
    assert frame["rss"].dtype == "float64"  # one row has none
    assert frame["rss"].isna().tolist() == [False, False, False, True, False]
    assert frame["rss"].sum() == mappings.totals().rss
    assert frame["deleted"].dtype == "bool"
    assert frame.groupby("kind")["pss"].sum()["heap"] == 4096
    everything = fastsmaps.scan()
    frame = pandas.DataFrame(everything)
    objects = {name for name in frame.columns if frame[name].dtype == object}
    # A text that no row has, and lists.
    assert objects <= {"cgroup", "cmdline", "exe", "error"}
    assert frame["pss"].isna().sum() == everything.absent("pss")
    assert frame["pss"].sum() == sum(row.pss or 0 for row in everything)
    assert len(pandas.DataFrame(everything, columns=["pid", "pss"]).columns) == 2
    assert len(pandas.DataFrame(everything[:0])) == 0


def test_addresses_of_64_bits_stay_exact(backend: ModuleType) -> None:
    table = fastsmaps.parse(record(2**64 - 8192, 2**64 - 4096, b"[vsyscall]", Rss=0))
    for frame in (table.to_pandas(), pandas.DataFrame(table), table.to_polars()):
        assert frame["start"].to_list() == [2**64 - 8192]
        assert frame["size"].to_list() == [4096]
    beyond = fastsmaps.parse(header() + b"Rss: %d kB\nPss: 1 kB\n" % (2**53))
    assert beyond.to_arrow()["rss"].to_pylist() == [2**63]
    assert beyond.to_pandas()["rss"].isna().tolist() == [True]
    assert beyond.to_polars()["rss"].to_list() == [None]


def test_names_that_are_not_utf8(backend: ModuleType, odd_scan: fastsmaps.Scan) -> None:
    mappings = odd()
    with pytest.raises(UnicodeEncodeError):
        mappings[0].path.encode()
    for frame in (mappings.to_pandas(), pandas.DataFrame(mappings), mappings.to_polars()):
        assert frame["path"].to_list() == READABLE
        assert frame["raw_path"].to_list() == list(ODD)
    assert mappings.to_pandas().groupby("path")["rss"].sum()["/tmp/\\xff"] == 1024
    for frame in (odd_scan.to_pandas(), pandas.DataFrame(odd_scan), odd_scan.to_polars()):
        assert frame["comm"].to_list() == ["ba\\xffd"] * 2
        assert [*map(list, frame["cmdline"].to_list()[:1])] == [["a\\xff", "b"]]
    assert odd_scan.to_pandas()["pss"].isna().tolist() == [False, True]
    assert odd_scan.by_pid[7].raw_cmdline == b"a\xff\0b\0"


def test_a_real_file_whose_name_is_not_utf8(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/odd\xff"
    with open(path, "wb") as file:
        file.truncate(4096)
    with open(path, "rb") as file:
        import mmap

        with mmap.mmap(file.fileno(), 4096, access=mmap.ACCESS_READ) as mapped:
            assert mapped[0] == 0
            mappings, libs = fastsmaps.mappings(), fastsmaps.libs([os.getpid()])
    for table in (mappings, libs):
        for frame in (table.to_pandas(), pandas.DataFrame(table), table.to_polars()):
            place = frame["raw_path"].to_list().index(path)
            assert frame["path"].to_list()[place].endswith("/odd\\xff")


def test_new_fields_may_have_any_name(backend: ModuleType) -> None:
    text = header() + kb("Rss", 1) + kb("Class", 2) + kb("Copy", 3)
    frame = pandas.DataFrame(fastsmaps.parse(text))
    assert frame[["class", "copy"]].values.tolist() == [[2048, 3072]]


def test_numpy_gets_objects(backend: ModuleType) -> None:
    array = numpy.asarray(fastsmaps.parse(TEXT))
    assert array.shape == (5,)
    assert array.dtype == object
    assert array[1].path == "[heap]"
    with pytest.raises((TypeError, ValueError)):
        numpy.asarray(fastsmaps.parse(TEXT), dtype=float)


def test_libs_are_a_table_too() -> None:
    libs = fastsmaps.libs([os.getpid()])
    expected = [(path, use.processes, use.files, use.totals.pss) for path, use in libs.items()]
    table = pa.table(libs)
    assert table.schema == pa.schema(libs)
    assert set(table.column_names) >= {*next(iter(libs.values())).totals}
    assert "size_printed" not in table.column_names
    assert libs.to_polars().select("path", "processes", "files", "pss").rows() == expected
    sql: Any = duckdb.sql
    assert sql("SELECT path, processes, files, pss FROM libs").fetchall() == expected
    assert pa.table(fastsmaps.libs([])).num_rows == 0


def test_changes_are_signed(backend: ModuleType) -> None:
    before, after = odd(), odd()[1:3]
    changes = fastsmaps.diff(before, after)
    more = fastsmaps.diff(odd()[:0], odd())
    for frame in (more.to_pandas(), more.to_polars()):
        assert {*frame["name"]} == {*READABLE}
        assert frame["rss"].to_list() == [change.rss for change in more]
    shrunk = changes.to_pandas()
    assert shrunk["name"].tolist() == ["/tmp/\N{SNOWMAN}", "/tmp/\\xff"]
    assert shrunk["rss"].tolist() == [-3072, 0]
    assert shrunk["size"].tolist() == [-4096, -4096]
    assert changes.to_arrow()["pss"].to_pylist() == [None, None]
    assert "Size" not in more.to_arrow().column_names
    assert fastsmaps.diff(before, before).to_polars().height == 0


def test_unread_processes_are_null_not_0() -> None:
    with processes.zombie() as zombie:
        scan = fastsmaps.scan([os.getpid(), zombie])
    assert scan.to_pandas()["pss"].isna().tolist() == [row.pss is None for row in scan]
    assert scan.to_polars()["pss"].null_count() == 1


WITHOUT = """
import sys
sys.modules[{missing!r}] = None
import fastsmaps
for table in (fastsmaps.mappings(), fastsmaps.scan([1]), fastsmaps.libs([1])):
    try:
        table.to_{name}()
    except ImportError as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("missing", "name", "packages"),
    [
        ("pyarrow", "arrow", '"pyarrow>=14"'),
        ("pyarrow", "pandas", '"pyarrow>=14"'),
        ("pyarrow", "polars", '"pyarrow>=14"'),
        ("pandas", "pandas", "pandas"),
        ("polars", "polars", "polars"),
    ],
)
def test_an_error_names_what_to_install(missing: str, name: str, packages: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(missing=missing, name=name)],
        env=commands.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all(missing in line and line.endswith(f"pip install {packages}") for line in lines)
