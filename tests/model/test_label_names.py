"""Labels with a Python name that is taken: a name has the same value in every view."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest

import fastsmaps
from fastsmaps._fields import Fields
from fastsmaps._model.samples import Series
from fastsmaps._model.totals import Totals
from fastsmaps.cli import watch_report
from support.commands import json_rows, run
from support.smaps_texts import header, kb

#: Labels, and the names that they have in a table of mappings.
CASES = [
    # Another spelling of a known field.
    (("Rss", "RSS", "Pss_anon", "PSS"), ("rss", "RSS", "Pss_anon", "PSS")),
    (("RSS", "Kernel_Page_Size"), ("RSS", "Kernel_Page_Size")),
    # The name of a header's value, of a derived value, of an attribute.
    (("Start", "Inode", "Path", "Kind", "Top"), ("Start", "Inode", "Path", "Kind", "top")),
    (("Uss", "RssSwap", "SIZE", "Size_Printed"), ("Uss", "RssSwap", "SIZE", "Size_Printed")),
    (("Extra", "As_Dict", "Vm_flags"), ("Extra", "As_Dict", "Vm_flags")),
    # Two new labels with one name: the first gets it.
    (("NewField", "New_Field", "New-Field"), ("new_field", "New_Field", "New-Field")),
    (("New_Field", "NewField"), ("new_field", "NewField")),
]  # fmt: skip


def document(labels: tuple[str, ...], name: bytes = b"/a") -> bytes:
    """Return two mappings with a different value in each field."""
    return b"".join(
        header(start, start + 4096, name)
        + b"".join(kb(label, place + i) for i, label in enumerate(labels, 1))
        for place, start in ((0, 0x1000), (100, 0x2000))
    )


@pytest.mark.parametrize(("labels", "names"), CASES)
def test_mappings_use_one_name_in_every_view(
    backend: ModuleType, tmp_path: Path, labels: tuple[str, ...], names: tuple[str, ...]
) -> None:
    table = fastsmaps.parse(document(labels))
    assert table.fields == names
    arrow = pa.table(table)
    assert len({*arrow.column_names}) == arrow.num_columns
    path = tmp_path / "text"
    path.write_bytes(document(labels))
    rows = json_rows("maps", str(path))
    for i, (label, name) in enumerate(zip(labels, names, strict=True), 1):
        expected = [i * 1024, (100 + i) * 1024]
        for spelling in {label, name}:
            assert table.column(spelling).tolist() == expected
            assert [row[spelling] for row in table] == expected
            assert [row.start for row in table.top(9, spelling)] == [0x2000, 0x1000]
            assert table.absent(spelling) == 0
        assert [row.as_dict()[name] for row in table] == expected
        assert arrow[name].to_pylist() == expected
        assert [row[name] for row in rows] == expected
        assert [row[name] for row in json_rows("maps", str(path), "--fields", name)] == expected
        text = run("maps", str(path), "--fields", label, "--sort", label, "--csv").stdout
        assert text.splitlines()[1].split(",")[3] == str(expected[1])
        assert table[:1].fields == names
    values = [value for value in table[0].as_dict().values() if type(value) is int]
    assert {i * 1024 for i in range(1, len(labels) + 1)} <= {*values}
    # The header is unchanged.
    assert [(row.start, row.as_dict()["start"], row.kind) for row in table] == [
        (0x1000, 0x1000, "file"), (0x2000, 0x2000, "file"),
    ]  # fmt: skip
    assert table.column("start").tolist() == [0x1000, 0x2000]


@pytest.mark.parametrize(("labels", "names"), CASES)
def test_totals_use_one_name_in_every_view(
    backend: ModuleType, labels: tuple[str, ...], names: tuple[str, ...]
) -> None:
    totals = fastsmaps.parse(document(labels)).totals()
    values = totals.as_dict()
    own = Fields(labels).names
    assert len({*own.values()}) == len(labels)
    for i, label in enumerate(labels, 1):
        assert totals[label] == totals[own[label]] == values[own[label]] == (100 + 2 * i) * 1024
        assert getattr(totals, own[label]) == totals[label]
    change = totals - fastsmaps.parse(document(labels)[: len(document(labels)) // 2]).totals()
    assert len(change.as_dict()) == len(values)


HEAD = (
    "Pid",
    "Comm",
    "Outcome",
    "Cmdline",
    "RSS",
    "NewField",
    "New_Field",
    "Processes",
    "Mappings",
)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    for pid in (7, 8):
        (tmp_path / str(pid)).mkdir()
        for name, mapping in (("smaps", b"/a"), ("smaps_rollup", b"[rollup]")):
            text = header(0x1000, 0x2000, mapping) + kb("Pss", pid)
            text += b"".join(kb(label, pid * i) for i, label in enumerate(HEAD, 2))
            (tmp_path / str(pid) / name).write_bytes(text)
        (tmp_path / str(pid) / "comm").write_bytes(b"x\n")
    return tmp_path


def test_scans_use_one_name_in_every_view(backend: ModuleType, host: Path) -> None:
    scan = fastsmaps.scan(procfs=host)
    arrow = pa.table(scan)
    rows = {row["pid"]: row for row in json_rows("ps", "--procfs", str(host))}
    expected = dict(zip(HEAD, range(2, 99), strict=False))
    names = {**dict(zip(HEAD, HEAD, strict=True)), "NewField": "new_field"}
    for label, factor in expected.items():
        for pid in (7, 8):
            wanted = factor * pid * 1024
            assert scan.by_pid[pid].totals[label] == wanted  # type: ignore[index]
            assert scan.by_pid[pid].as_dict()[names[label]] == wanted
            assert rows[pid][names[label]] == wanted
        assert arrow[names[label]].to_pylist() == [factor * pid * 1024 for pid in (7, 8)]
        words = ("ps", "--procfs", str(host), "--fields", label, "--sort=-" + label)
        assert [row[names[label]] for row in json_rows(*words)] == [
            factor * pid * 1024 for pid in (8, 7)
        ]
    assert {row["pid"] for row in rows.values()} == {7, 8}
    assert {row["outcome"] for row in rows.values()} == {"read"}


def test_changes_use_one_name_in_every_view(backend: ModuleType, tmp_path: Path) -> None:
    labels = ("Path", "Old", "New", "Change", "Key", "Old_Files", "RSS", "Rate", "Rss", "Pss")
    paths = [tmp_path / name for name in ("one", "two")]
    for factor, path in enumerate(paths, 1):
        fields = b"".join(kb(label, factor * i) for i, label in enumerate(labels, 1))
        path.write_bytes(header(0x1000, 0x2000, b"/a") + fields)
    (row,) = json_rows("diff", *map(str, paths))
    assert (row["path"], row["old"], row["new"], row["old_files"]) == ("/a", 10240, 20480, 1)
    for i, label in enumerate(labels, 1):
        assert row[{"Rss": "rss", "Pss": "pss"}.get(label, label)] == i * 1024


def test_samples_use_one_name_in_every_view() -> None:
    """Names are those of the whole table, even if the first sample lacks a label."""
    series = Series(8)
    sums = ({"New_Field": 1}, {"New_Field": 2, "NewField": 3, "Elapsed": 4, "PSS": 5, "Pss": 6})
    for i, by_label in enumerate(sums):
        totals = Totals(dict(by_label), None, "smaps_rollup")
        series.add(totals, elapsed=i, time=i, processes=1, unread=0, peak_rss=None)
    samples = series.samples()
    for label, name in (
        ("New_Field", "new_field"), ("NewField", "NewField"), ("Elapsed", "Elapsed"),
        ("PSS", "PSS"), ("Pss", "pss"),
    ):  # fmt: skip
        assert name in samples.names
        assert name in samples.fields
        expected = [by_label.get(label, fastsmaps.ABSENT) for by_label in sums]
        assert samples.column(name).tolist() == samples.column(label).tolist() == expected
        assert samples[1].as_dict()[name] == sums[1][label]
        assert pa.table(samples)[name].to_pylist() == [by_label.get(label) for by_label in sums]
    assert len({*samples.names}) == len(samples.names)


def test_csv_of_samples_has_the_tables_names(tmp_path: Path) -> None:
    """A file's columns are the table's: a sample alone would have another name for its field."""
    series = Series(8)
    sums: tuple[dict[str, int], ...] = ({"NewField": 1}, {"New_Field": 2}, {"New_Field": 3})
    for i, by_label in enumerate(sums):
        totals = Totals(dict(by_label), None, "smaps_rollup")
        series.add(totals, elapsed=i, time=i, processes=1, unread=0, peak_rss=None)
    path = tmp_path / "samples.csv"
    watch_report._write_csv(series.samples(), str(path))
    head, *lines = [line.split(",") for line in path.read_text().splitlines()]
    rows: list[dict[str, Any]] = [dict(zip(head, line, strict=True)) for line in lines]
    assert [(row["new_field"], row["New_Field"]) for row in rows] == [
        ("1", ""), ("", "2"), ("", "3"),
    ]  # fmt: skip
    assert rows[0]["pss"] == ""
    assert json.loads(rows[1]["elapsed"]) == 1e-9
