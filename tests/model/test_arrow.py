"""Mappings, Scan and Samples as Arrow tables for pyarrow, polars, pandas and DuckDB."""

from __future__ import annotations

import gc
import itertools
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import pandas
import polars
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import compute as pc

import fastsmaps
from fastsmaps._model.samples import Series
from fastsmaps._model.totals import Totals
from support import commands, processes
from support.independent import DATA, texts
from support.smaps_texts import header, kb, record

# Untyped: mypy would take the result for None, as of a statement without one.
sql: Any = duckdb.sql

TEXTS = texts()
IDS = [str(path.relative_to(DATA)) for path in TEXTS]
ZOO = DATA / "captures/7.2-amd64/zoo/smaps"

# Bytes that are not UTF-8, and a name that looks like their escape; text that a terminal, SQL,
# HTML or a reader of lines would act on.
HOSTILE = (
    b"/tmp/\xff", b"/tmp/\\xff", b"/tmp/\xed\xa0\x80", b"/tmp/\xe2\x80\xaeevil", b"/tmp/a\\012b",
    b"/tmp/\x1b[31mred", b"/tmp/'; DROP TABLE m; --", b"/tmp/<script>alert(1)</script>",
    b"/tmp/\r", b"/tmp/%s{0}", "/tmp/\N{SNOWMAN}".encode(), b"/tmp/gone (deleted)",
)  # fmt: skip


def hostile() -> fastsmaps.Mappings:
    return fastsmaps.parse(
        b"".join(
            record(i << 20, (i << 20) + 4096, name, Rss=i, Pss=i)
            for i, name in enumerate(HOSTILE, 1)
        )
    )


def readable(text: str) -> str:
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def expected(mapping: fastsmaps.Mapping) -> dict[str, Any]:
    """Return the row as Arrow shows it."""
    flags = mapping.vm_flags
    return {
        **mapping.as_dict(),
        "path": mapping.raw_path.decode("utf-8", "backslashreplace"),
        "raw_path": mapping.raw_path,
        "vm_flags": None if flags is None else [readable(code) for code in flags],
        "extra": [(label, readable(text)) for label, text in mapping.extra.items()],
    }


def compare(mappings: fastsmaps.Mappings) -> None:
    table = pa.table(mappings)
    table.validate(full=True)
    assert table.schema.equals(pa.schema(mappings), check_metadata=True)
    assert table.to_pylist() == [expected(mapping) for mapping in mappings]
    for mapping in mappings[:1]:
        names = [name for name in table.column_names if name != "raw_path"]
        assert names == list(mapping.as_dict())


def address(view: memoryview) -> int:
    """Return the column's address, from a buffer that pyarrow makes of it."""
    found: int = pa.py_buffer(view).address
    return found


# ---- mappings


@pytest.mark.parametrize("path", TEXTS, ids=IDS)
def test_arrow_rows_equal_as_dict(backend: ModuleType, path: Path) -> None:
    mappings = fastsmaps.parse(path.read_bytes())
    compare(mappings)
    for part in (mappings[3:17], mappings[::-3], mappings[1::2], mappings[:0], mappings[-1:]):
        compare(part)


def test_columns_have_the_documented_types(backend: ModuleType) -> None:
    mappings = fastsmaps.load(ZOO)
    schema = pa.schema(mappings)
    one_of_few = pa.dictionary(pa.int32(), pa.string())
    known = {
        "perms": pa.dictionary(pa.int8(), pa.string()),
        "dev": one_of_few,
        "path": one_of_few,
        "raw_path": pa.dictionary(pa.int32(), pa.binary()),
        "kind": one_of_few,
        "deleted": pa.bool_(),
        "vm_flags": pa.list_(pa.string()),
        "extra": pa.map_(pa.string(), pa.string()),
    }
    for name, kind in zip(schema.names, schema.types, strict=True):
        assert kind == known.pop(name, pa.uint64())
    assert not known
    assert {"pss", "size_printed", "thp_eligible", "protection_key"} <= {*schema.names}


def test_metadata_names_the_origin(backend: ModuleType) -> None:
    mappings = fastsmaps.mappings("self")
    for table in (pa.table(mappings), pa.table(mappings[:2])):
        assert table.schema.metadata == {
            b"fastsmaps.version": fastsmaps.__version__.encode(),
            b"fastsmaps.pid": b"%d" % os.getpid(),
            b"fastsmaps.procfs": b"/proc",
            b"fastsmaps.taken_at": repr(mappings.taken_at).encode(),
        }
    assert pa.schema(fastsmaps.parse(b"")).metadata.keys() == {b"fastsmaps.version"}


def test_number_columns_share_the_backends_memory(backend: ModuleType) -> None:
    mappings = fastsmaps.load(ZOO)
    for part in (mappings, mappings[5:20]):
        table = pa.table(part)
        names = ["start", "end", "offset", "inode", "size_printed", *part.fields[1:]]
        assert len(names) > 20
        for name in names:
            column = part.column("Size" if name == "size_printed" else name)
            (chunk,) = table[name].chunks
            validity, values = chunk.buffers()
            assert (values.address, chunk.offset) == (address(column), 0)
            # There is a bitmap only if a value is null.
            assert (validity is None) == (name[0] in "seoi" or part.absent(name) == 0)
    # The buffers outlive the mappings.
    before = table.to_pylist()
    del mappings, part, column
    gc.collect()
    assert table.to_pylist() == before


def test_absent_is_null(backend: ModuleType) -> None:
    mappings = fastsmaps.load(DATA / "handmade/mixed-fields/smaps")
    table = pa.table(mappings)
    names = [name for name in table.column_names if name in mappings.fields and name != "size"]
    for name in names:
        assert table[name].null_count == mappings.absent(name)
        assert (pc.sum(table[name]).as_py() or 0) < fastsmaps.ABSENT
    # A field that only a part of the rows has is a column for all.
    lacking = [(i, name) for name in names for i, m in enumerate(mappings) if m[name] is None]
    assert lacking
    for i, name in lacking:
        part = pa.table(mappings[i : i + 1])
        assert part[name].to_pylist() == [None]
        assert part.column_names == table.column_names


def test_missing_flags_are_null_and_empty_ones_a_list(backend: ModuleType) -> None:
    text = record(0x1000, 0x2000, Rss=1) + record(0x2000, 0x3000, Rss=1, flags=b"")
    assert pa.table(fastsmaps.parse(text))["vm_flags"].to_pylist() == [None, []]
    text += record(0x3000, 0x4000, Rss=1, flags=b"rd wr  ht ") + record(0x4000, 0x5000, Rss=1)
    table = pa.table(fastsmaps.parse(text))
    assert table["vm_flags"].to_pylist() == [None, [], ["rd", "wr", "ht"], None]
    assert table["kind"].to_pylist() == ["anon", "anon", "hugetlb", "anon"]
    # Codes of other lengths than the kernel's, and bytes that are not text.
    text += record(0x5000, 0x6000, Rss=1, flags=b"a wide \xff\xfe zz")
    table = pa.table(fastsmaps.parse(text))
    assert table["vm_flags"].to_pylist()[2:] == [
        ["rd", "wr", "ht"],
        None,
        ["a", "wide", "\\xff\\xfe", "zz"],
    ]
    compare(fastsmaps.parse(text))


def test_kind_and_deleted_match_the_rows(backend: ModuleType) -> None:
    names = (b"/dev/zero (deleted)", b"/dev/zero", b"", b"[heap]", b"/a (deleted)", b"/memfd:x")
    text = b"".join(
        record(at := i << 16, at + 4096, name, perms=perms, flags=flags, Rss=1)
        for i, (name, perms, flags) in enumerate(
            (name, perms, flags)
            for name in names
            for perms in (b"rw-p", b"rw-s", b"---p", b"rwxs", b"rw-S", b"rw--")
            for flags in (None, b"rd", b"rd ht")
        )
    )
    kernels = b"".join(
        header(1 << 30 | i << 12, 1 << 30 | i + 1 << 12, b"/i915 (deleted)", perms=perms, dev=dev)
        for i, (perms, dev) in enumerate(itertools.product((b"rw-p", b"rw-s"), (b"fe:00", b"00:1")))
    )
    assert pa.table(fastsmaps.parse(kernels))["deleted"].to_pylist() == [True] * 3 + [False]
    compare(fastsmaps.parse(kernels))
    mappings = fastsmaps.parse(text + kernels)
    compare(mappings)
    kinds = {"anon", "shmem", "hugetlb", "heap", "file"}
    assert {*pa.table(mappings)["kind"].to_pylist()} == kinds


def test_names_that_are_not_utf8_are_escaped(backend: ModuleType) -> None:
    mappings = hostile()
    compare(mappings)
    compare(mappings[::-1])
    table = pa.table(mappings)
    assert table["raw_path"].to_pylist() == list(HOSTILE)
    assert table["path"].to_pylist()[:2] == ["/tmp/\\xff", "/tmp/\\xff"]
    # Some engines rely on distinct texts in a dictionary.
    (chunk,) = table["path"].chunks
    assert len({*chunk.dictionary.to_pylist()}) == len(chunk.dictionary)
    assert sql("SELECT count(DISTINCT path), sum(pss) FROM mappings").fetchall() == [
        (len(HOSTILE) - 1, sum(range(len(HOSTILE) + 1)) * 1024)
    ]


def test_unknown_fields_become_columns(backend: ModuleType) -> None:
    # Two labels with one name in Python, labels named like attributes, and one with a text.
    text = (
        header()
        + b"".join(map(kb, ("New_Field", "NewField", "Path", "Raw_Path", "Extra"), range(5)))
        + b"Mood: quite \xff good\n"
    )
    table = pa.table(fastsmaps.parse(text))
    names = ["new_field", "NewField", "Path", "Raw_Path", "Extra"]
    assert table.column_names[-6:] == [*names, "extra"]
    assert [table[name].to_pylist() for name in names] == [[i * 1024] for i in range(5)]
    assert table["path"].to_pylist() == [""]
    assert table["extra"].to_pylist() == [[("Mood", "quite \\xff good")]]


@given(
    st.lists(
        st.tuples(
            st.binary(max_size=12).map(lambda name: name.translate(None, b"\n ")),
            st.sampled_from([None, b"", b"rd", b"rd ex ht", b"rd zzz"]),
            st.dictionaries(st.sampled_from(["Rss", "Pss", "Swap", "Later"]), st.integers(0, 9)),
            st.sampled_from([b"rw-p", b"r--s"]),
        ),
        max_size=12,
    ),
    st.slices(12),
)
def test_generated_texts_match_their_rows(
    backend: ModuleType, rows: list[Any], part: slice
) -> None:
    mappings = fastsmaps.parse(
        b"".join(
            record(i << 16, (i << 16) + 4096, name, perms=perms, flags=flags, **fields)
            for i, (name, flags, fields, perms) in enumerate(rows, 1)
        )
    )
    compare(mappings)
    compare(mappings[part])


def test_a_requested_schema_is_honoured(backend: ModuleType) -> None:
    mappings = hostile()
    wanted = pa.schema(
        [
            pa.field(name, pa.string() if name == "path" else kind)
            for name, kind in zip(pa.schema(mappings).names, pa.schema(mappings).types, strict=True)
        ]
    )
    table = pa.table(mappings, schema=wanted)
    assert table["path"].type == pa.string()
    assert table["path"].to_pylist() == pa.table(mappings)["path"].to_pylist()


# ---- processes


def json_rows(scan: fastsmaps.Scan) -> list[dict[str, Any]]:
    return [
        {
            **row.as_dict(),
            "comm": None if row.comm is None else readable(row.comm),
            "cmdline": None if row.cmdline is None else [*map(readable, row.cmdline)],
            "exe": None if row.exe is None else readable(row.exe),
            "age": row.age,
            "estimated": row.estimated,
            "shares_memory_with": row.shares_memory_with,
        }
        for row in scan
    ]


def compare_scan(scan: fastsmaps.Scan) -> Any:
    table = pa.table(scan)
    table.validate(full=True)
    assert table.schema.equals(pa.schema(scan), check_metadata=True)
    assert table.to_pylist() == json_rows(scan)
    assert pa.table(scan[1:]).to_pylist() == json_rows(scan)[1:]
    return table


def test_scan_rows_match(backend: ModuleType) -> None:
    with processes.workload("idle") as child, processes.zombie() as zombie:
        pids = [os.getpid(), child.pid, zombie, processes.dead_pid()]
        for workers in (1, 2):
            scan = fastsmaps.scan(pids, cgroup=True, cmdline=True, exe=True, workers=workers)
            table = compare_scan(scan)
    outcomes = {pid: scan.by_pid[pid].outcome for pid in pids}
    assert list(outcomes.values()) == ["read", "read", "zombie", "gone"]
    assert (
        dict(zip(*table.select(["pid", "outcome"]).to_pydict().values(), strict=True)) == outcomes
    )
    assert table["pss"].null_count == 2
    assert pc.sum(table["pss"]).as_py() == scan.totals().pss
    kinds = {
        **dict.fromkeys(("pid", "ppid", "uid", "shares_memory_with"), pa.int64()),
        **dict.fromkeys(("comm", "user", "cgroup", "exe", "outcome", "error"), pa.string()),
        "cmdline": pa.list_(pa.string()),
        **dict.fromkeys(("start_time", "age"), pa.float64()),
        "estimated": pa.bool_(),
    }
    for name, kind in zip(table.column_names, table.schema.types, strict=True):
        assert kind == kinds.pop(name, pa.uint64())
    assert not kinds
    assert table.schema.metadata == {
        b"fastsmaps.version": fastsmaps.__version__.encode(),
        b"fastsmaps.procfs": b"/proc",
        b"fastsmaps.taken_at": repr(scan.taken_at).encode(),
    }


def test_a_scan_of_all_processes_matches(backend: ModuleType) -> None:
    scan = fastsmaps.scan(workers=2)
    table = compare_scan(scan)
    assert len(table) == len(scan)
    # Rows from tables of sweeps, rows that were pickled, and rows that were never read.
    mixed = fastsmaps.Scan(
        [*scan, *pickle.loads(pickle.dumps(scan)), fastsmaps.ProcessTotals(1, "failed", error="x")],
        cost=scan.cost,
        taken_at=scan.taken_at,
        procfs=scan.procfs,
    )
    compare_scan(mixed)
    compare_scan(scan[:0])


def test_a_samplers_scan_matches(backend: ModuleType) -> None:
    with fastsmaps.Sampler() as sampler:
        for _ in range(2):
            scan = sampler.sweep()
            table = compare_scan(scan)
    ages = dict(zip(table["pid"].to_pylist(), table["age"].to_pylist(), strict=True))
    assert ages[os.getpid()] >= 0


def test_a_captures_scan_matches(backend: ModuleType, tmp_path: Path) -> None:
    rollup = (ZOO.parent / "smaps_rollup").read_bytes()
    files = {
        7: {"stat": b"7 (ba\xffd) S 1 " + b"0 " * 40, "smaps_rollup": rollup + kb("NewField", 3)},
        8: {"stat": b"8 (sh) S 1 " + b"0 " * 40, "smaps_rollup": rollup + kb("Comm", 5)},
        # Numbers that no kernel prints are null, and so are the sums that they
        # would be part of.
        9: {
            "stat": b"9 (sh) S %d " % 2**70 + b"0 " * 40,
            "smaps_rollup": header(name=b"[rollup]")
            + kb("Rss", 1)
            + b"".join(kb(label, 2**54 - 2) for label in ("Private_Clean", "Private_Dirty")),
            "cmdline": b"a\xff\0b\0",
        },
    }
    for pid, content in files.items():
        (tmp_path / str(pid)).mkdir()
        for name, text in content.items():
            (tmp_path / str(pid) / name).write_bytes(text)
    scan = fastsmaps.scan(procfs=str(tmp_path), cmdline=True)
    assert scan.coverage["read"] == 3
    table = pa.table(scan)
    table.validate(full=True)
    assert table.column_names[-2:] == ["new_field", "Comm"]
    assert scan.by_pid[8].as_dict()["comm"] == "sh"
    assert scan.by_pid[8].as_dict()["Comm"] == 5120
    assert table["comm"].to_pylist() == ["ba\\xffd", "sh", "sh"]
    assert table["new_field"].to_pylist() == [3072, None, None]
    assert table["Comm"].to_pylist() == [None, 5120, None]
    assert table["ppid"].to_pylist() == [1, 1, None]
    assert table["cmdline"].to_pylist()[2] == ["a\\xff", "b"]
    assert table["uss"].to_pylist() == [scan[0].totals.uss, scan[1].totals.uss, None]  # type: ignore[union-attr]
    assert table["rss_swap"].to_pylist() == [
        None if row.totals is None else row.totals.rss_swap for row in scan
    ]
    assert table["private_dirty"].to_pylist()[2] == (2**54 - 2) * 1024
    assert table["uid"].null_count == 3


# ---- other packages


def test_polars_reads_every_table(backend: ModuleType) -> None:
    mappings = fastsmaps.load(ZOO)
    frame = polars.DataFrame(mappings)
    assert frame.columns == pa.table(mappings).column_names
    assert frame.schema["pss"] == polars.UInt64
    assert frame["pss"].sum() == mappings.totals().pss
    assert frame["raw_path"].to_list() == [mapping.raw_path for mapping in mappings]
    assert frame["vm_flags"].to_list() == [list(mapping.vm_flags or ()) for mapping in mappings]
    sums = frame.group_by("kind").agg(polars.col("pss").sum())
    groups = mappings.group_by("kind")
    assert dict(sums.iter_rows()) == {kind: group.totals.pss for kind, group in groups.items()}
    frame = polars.DataFrame(hostile())
    assert frame["raw_path"].to_list() == list(HOSTILE)
    scan = fastsmaps.scan([os.getpid()])
    frame = polars.DataFrame(scan)
    assert frame["pss"].to_list() == [scan[0].as_dict()["pss"]]


def test_pandas_reads_every_table(backend: ModuleType) -> None:
    mappings = fastsmaps.load(ZOO)
    frame = pandas.DataFrame.from_arrow(mappings)
    assert list(frame.columns) == pa.table(mappings).column_names
    assert frame["pss"].sum() == mappings.totals().pss
    assert frame["path"].dtype == "category"
    assert list(frame["raw_path"]) == [mapping.raw_path for mapping in mappings]
    kinds = frame.groupby("kind", observed=True)["pss"].sum()
    groups = mappings.group_by("kind")
    assert kinds.to_dict() == {kind: group.totals.pss for kind, group in groups.items()}
    # An unknown value is not 0 there either.
    frame = pandas.DataFrame.from_arrow(fastsmaps.load(DATA / "handmade/mixed-fields/smaps"))
    assert frame.isna().any(axis=None)
    with processes.zombie() as zombie:
        frame = pandas.DataFrame.from_arrow(fastsmaps.scan([os.getpid(), zombie]))
    assert frame["pss"].isna().tolist() == [outcome != "read" for outcome in frame["outcome"]]


def test_duckdb_queries_every_table(backend: ModuleType) -> None:
    mappings = fastsmaps.load(ZOO)
    totals = mappings.totals()
    assert sql("SELECT sum(pss), sum(size) FROM mappings").fetchall() == [(totals.pss, totals.size)]
    assert duckdb.from_arrow(mappings).aggregate("sum(rss)").fetchall() == [(totals.rss,)]
    found = sql(
        "SELECT kind, sum(pss)::UBIGINT FROM mappings"
        " WHERE list_contains(vm_flags, 'rd') GROUP BY kind"
    ).fetchall()
    readable = mappings.group_by(lambda m: m.kind if "rd" in (m.vm_flags or ()) else None)
    assert dict(found) == {kind: group.totals.pss for kind, group in readable.items() if kind}
    names = hostile()  # noqa: F841 - DuckDB finds it, as it finds the others
    assert sql("SELECT raw_path FROM names ORDER BY start").fetchall() == [
        (name,) for name in HOSTILE
    ]
    scan = fastsmaps.scan([os.getpid()])
    assert sql("SELECT pid, pss FROM scan").fetchall() == [(os.getpid(), scan[0].as_dict()["pss"])]


# ---- pyarrow is an extra


WITHOUT = """
import sys
sys.modules["pyarrow"] = None
import fastsmaps
from fastsmaps._model.samples import Series
from fastsmaps._model.totals import Totals
for table in (fastsmaps.mappings("self"), fastsmaps.scan([1])):
    for name in ("__arrow_c_stream__", "__arrow_c_schema__"):
        try:
            getattr(table, name)()
        except ImportError as error:
            print(error)
"""


def test_without_pyarrow_the_error_names_the_extra() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        env=commands.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert all(line.endswith('pip install "pyarrow>=14"') for line in lines)


def test_samples_have_columns_and_a_schema() -> None:
    series = Series(10)
    totals = Totals({"Pss": 4096, "NewField": 8192}, None, "smaps_rollup")
    series.add(totals, elapsed=1, time=10**18, processes=1, unread=0, peak_rss=None)
    samples = series.samples()
    assert pa.schema(samples) == pa.table(samples).schema
    assert pa.table(samples)["pss"].to_pylist() == [4096]
