"""Every saved text, against tables that an independent reader made."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from pathlib import Path
from types import ModuleType

import pytest

import fastsmaps
from fastsmaps._fields import PAGE_SIZES, python_name
from support.independent import DATA, Record, read, read_table, table_path, texts

pytestmark = pytest.mark.core

TEXTS = texts()
IDS = [str(path.relative_to(DATA)) for path in TEXTS]


def expected(path: Path) -> list[Record]:
    table = table_path(path)
    return read_table(table.read_text()) if table.exists() else read(path.read_bytes())


def compare(mappings: fastsmaps.Mappings, records: list[Record]) -> None:
    assert len(mappings) == len(records)
    labels = dict.fromkeys(label for record in records for label in record.fields)
    for mapping, record in zip(mappings, records, strict=True):
        assert (mapping.start, mapping.end) == (record.start, record.end)
        assert (mapping.perms, mapping.offset) == (record.perms, record.offset)
        assert (mapping.dev, mapping.inode) == (record.dev, record.inode)
        assert mapping.raw_path == record.name
        assert (mapping.kind, mapping.deleted) == (record.kind, record.deleted)
        flags = None if record.vm_flags is None else tuple(record.vm_flags)
        assert mapping.vm_flags == flags
        # We keep Android's Name: where the header has a name of its own; the reader does not.
        extra = {label: text for label, text in mapping.extra.items() if label != "Name"}
        assert extra == record.extra
        for label in labels:
            assert mapping[label] == record.fields.get(label)
            if label != "Size":
                assert getattr(mapping, python_name(label)) == record.fields.get(label)
    for label in labels:
        column = [record.fields.get(label, fastsmaps.ABSENT) for record in records]
        assert mappings.column(label).tolist() == column
        assert mappings.absent(label) == column.count(fastsmaps.ABSENT)
    assert mappings.column("start").tolist() == [record.start for record in records]


@pytest.mark.parametrize("path", TEXTS, ids=IDS)
def test_every_value_of_every_text(backend: ModuleType, path: Path) -> None:
    compare(fastsmaps.parse(path.read_bytes()), expected(path))


@pytest.mark.parametrize("path", TEXTS, ids=IDS)
def test_totals_are_sums_of_the_records(backend: ModuleType, path: Path) -> None:
    records = expected(path)
    totals = fastsmaps.parse(path.read_bytes()).totals()
    text = path.read_text("latin-1")
    for label in {label for record in records for label in record.fields}:
        in_kb = any(
            line.startswith(f"{label}:") and line.rstrip().endswith(" kB")
            for line in text.split("\n")
        )
        if not in_kb or label in PAGE_SIZES:
            with pytest.raises(KeyError):
                totals[label]
        else:
            present = [record.fields[label] for record in records if label in record.fields]
            assert totals[label] == sum(present)
    if path.name == "smaps_rollup" and records:
        assert (totals.source, totals.size) == ("smaps_rollup", None)
    else:
        size = sum(record.end - record.start for record in records)
        assert totals.size == (size if records else None)


@pytest.mark.parametrize(
    "path", [path for path in TEXTS if path.parent.name == "zoo" and path.name == "smaps"]
)
def test_rollup_and_maps_agree_with_smaps(backend: ModuleType, path: Path) -> None:
    smaps = fastsmaps.parse(path.read_bytes())
    maps = fastsmaps.load(path.with_name("maps"))
    rollup = fastsmaps.load(path.with_name("smaps_rollup")).totals()
    assert [(m.start, m.end, m.raw_path) for m in smaps] == [
        (m.start, m.end, m.raw_path) for m in maps
    ]
    sums = smaps.totals()
    for name in ("rss", "private_dirty", "shared_clean", "swap"):
        assert getattr(sums, name) == getattr(rollup, name)
    assert sums.pss is not None
    assert rollup.pss is not None
    # The Pss of each mapping is rounded down to kB, the rollup's only once.
    assert 0 <= rollup.pss - sums.pss <= 1024 * len(smaps)


@pytest.mark.parametrize("path", TEXTS, ids=IDS)
def test_other_blanks_and_line_ends_change_nothing(backend: ModuleType, path: Path) -> None:
    text = path.read_bytes()
    records = expected(path)
    compare(fastsmaps.parse(text.rstrip(b"\n")), records)
    compare(fastsmaps.parse(b"\n \n" + text.replace(b"\nRss:", b"\n\n\nRss:\t")), records)
    if b"\r" not in text:
        compare(fastsmaps.parse(text.replace(b"\n", b"\r\n")), records)
        compare(fastsmaps.parse(text.replace(b"\n", b"\r\n").rstrip()), records)


def test_load_opens_compressed_files(backend: ModuleType, tmp_path: Path) -> None:
    path = DATA / "captures/6.12-amd64/zoo/smaps"
    text = path.read_bytes()
    records = expected(path)
    compare(fastsmaps.load(path), records)
    compare(fastsmaps.load(io.BytesIO(text)), records)
    for name, module in (("a.gz", gzip), ("a.bz2", bz2), ("a.xz", lzma)):
        saved = tmp_path / name
        saved.write_bytes(module.compress(text))
        compare(fastsmaps.load(saved), records)
        with saved.open("rb") as file:
            compare(fastsmaps.load(file), records)
        saved.write_bytes(module.compress(text)[:-20])
        with pytest.raises(fastsmaps.ReadError, match="damaged") as caught:
            fastsmaps.load(saved)
        assert caught.value.path == str(saved)
    with pytest.raises(fastsmaps.ReadError, match="No such file"):
        fastsmaps.load(tmp_path / "nothing")
    with pytest.raises(TypeError, match="binary"):
        fastsmaps.load(io.StringIO("text"))  # type: ignore[arg-type]


def test_a_name_may_end_in_cr(backend: ModuleType) -> None:
    text = b"1000-2000 r--p 00000000 fd:01 7 /a\r\n2000-3000 r--p 00000000 fd:01 8 /b\n"
    assert [m.raw_path for m in fastsmaps.parse(text)] == [b"/a\r", b"/b"]


@pytest.mark.parametrize("path", TEXTS, ids=IDS)
def test_labels_keep_the_order_of_the_text(backend: ModuleType, path: Path) -> None:
    labels = dict.fromkeys(label for record in expected(path) for label in record.fields)
    assert backend.parse(path.read_bytes()).labels == tuple(labels)


@pytest.mark.parametrize("path", TEXTS, ids=IDS)
def test_androids_name_is_never_lost(backend: ModuleType, path: Path) -> None:
    # It gives the path, or is in extra if the header has a name.
    headers = fastsmaps.parse(
        b"".join(
            line + b"\n"
            for line in path.read_bytes().split(b"\n")
            if line[:1] in b"0123456789abcdef" and line
        )
    )
    for header, mapping in zip(headers, fastsmaps.load(path), strict=True):
        assert mapping.raw_path == (header.raw_path or mapping.raw_path)
        assert header.raw_path or "Name" not in mapping.extra
    lines = path.read_bytes().split(b"\n")
    kept = [mapping.extra["Name"] for mapping in fastsmaps.load(path) if "Name" in mapping.extra]
    given = [m for h, m in zip(headers, fastsmaps.load(path), strict=True) if m.path != h.path]
    assert len(kept) + len(given) == sum(line.startswith(b"Name:") for line in lines)
