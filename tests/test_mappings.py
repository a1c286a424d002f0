"""The table and its rows in depth: every slice, every kind of name, every order of ranges."""

from __future__ import annotations

import copy
import itertools
import os
import pickle
from types import ModuleType
from typing import Any

import pytest
from documents import header, kb, record
from hypothesis import given
from hypothesis import strategies as st
from independent import DATA, texts

import fastsmaps
from fastsmaps import ABSENT, Mapping, Mappings

TIB = 2**40

TEXT = (
    record(0x10000, 0x12000, b"/lib/a", perms=b"r-xp", flags=b"rd ex ", Rss=8, Pss=2, Swap=0)
    + record(0x12000, 0x13000, b"[heap]", flags=b"rd wr ", Rss=4, Pss=4)
    + record(0x13000, 0x17000, b"/lib/a", flags=b"rd wr ", Rss=0, Pss=0, Swap=16)
    + record(0x20000, 0x20000, flags=b"", Pss=4)
    + record(0x30000, 0x31000, b"/anon_hugepage (deleted)", flags=b"rd ht ", Rss=0, Pss=0)
)


def rows_of(text: bytes) -> list[Mapping]:
    return list(fastsmaps.parse(text))


# ---- slices and columns


def test_every_slice_is_a_table_of_those_rows(backend: ModuleType) -> None:
    table = fastsmaps.parse(TEXT)
    rows = list(table)
    bounds = [None, *range(-7, 8)]
    for start, stop, step in itertools.product(bounds, bounds, [None, 1, 2, 3, -1, -2, -9]):
        part, expected = table[start:stop:step], rows[start:stop:step]
        assert list(part) == expected
        assert part.column("start").tolist() == [row.start for row in expected]
        assert part.totals().size == sum(row.size for row in expected)
        assert part.absent("rss") == sum(row.rss is None for row in expected)
        assert sum(group.count for group in part.group_by("kind").values()) == len(expected)


def test_a_slice_of_a_slice(backend: ModuleType) -> None:
    table = fastsmaps.parse(TEXT)
    rows = list(table)
    part = table[::-1][1:4][::2]
    assert list(part) == rows[::-1][1:4][::2]
    assert [part[i] for i in range(-len(part), len(part))] == list(part) * 2
    for i in (len(part), -len(part) - 1):
        with pytest.raises(IndexError):
            part[i]
    assert part.column("pss").tolist() == [row.pss for row in part]
    with pytest.raises(TypeError):
        table["pss"]  # type: ignore[call-overload]


def test_a_slice_tells_of_its_own_rows_alone(backend: ModuleType) -> None:
    table = fastsmaps.parse(TEXT)
    assert table.fields == ("rss", "pss", "swap")
    assert table[1:2].fields == ("rss", "pss")
    assert table[3:4].fields == ("pss",)
    assert table[:0].fields == ()
    assert table[1:2].totals().swap is None
    with pytest.raises(KeyError):
        table[1:2].column("swap")
    assert table[1:2].absent("swap") == 1
    assert [len(table[:0].column(name)) for name in ("start", "size", "inode")] == [0, 0, 0]


@pytest.mark.parametrize("name", ["start", "end", "offset", "inode", "size", "rss", "Rss"])
def test_a_column_is_a_view_of_64_bit_numbers(backend: ModuleType, name: str) -> None:
    table = fastsmaps.parse(TEXT)
    for part in (table, table[1:4], table[::2], table[::-1]):
        view = part.column(name)
        assert (view.format, view.itemsize, view.ndim, view.shape) == ("Q", 8, 1, (len(part),))
        assert view.c_contiguous
        assert view.readonly
        assert view is part.column(name)
        with pytest.raises(TypeError):
            view[0] = 1


def test_a_view_outlives_its_table(backend: ModuleType) -> None:
    view = fastsmaps.parse(TEXT).column("pss")
    rows = rows_of(TEXT)
    assert view.tolist() == [2048, 4096, 0, 4096, 0]
    assert rows[0].pss == 2048


def test_columns_of_numbers_without_unit(backend: ModuleType) -> None:
    text = header() + b"THPeligible:    1\nProtectionKey:  0\n" + header(0x20000, 0x30000)
    table = fastsmaps.parse(text)
    assert table.column("thp_eligible").tolist() == [1, ABSENT]
    assert table.column("ProtectionKey").tolist() == [0, ABSENT]
    assert table.fields == ()  # these are no sizes
    assert table[0].protection_key == 0
    assert table[1].protection_key is None


def test_a_field_in_kb_here_and_bare_there(backend: ModuleType) -> None:
    table = fastsmaps.parse(header() + b"New: 3 kB\n" + header(0x20000, 0x30000) + b"New: 3\n")
    assert table.column("new").tolist() == [3072, 3]
    assert table.fields == ()
    with pytest.raises(KeyError):
        table.totals()["New"]


def test_names_that_are_none(backend: ModuleType) -> None:
    table = fastsmaps.parse(TEXT)
    for name in ("", "RSS", "rss ", "path", "vm_flags", "VmFlags", "Name", "uss", "kind"):
        with pytest.raises(KeyError, match=name or "''"):
            table.column(name)
        with pytest.raises(KeyError):
            table.absent(name)
    with pytest.raises(KeyError):
        table.column("locked")  # a field, but none of theirs
    assert table.absent("locked") == table.absent("Locked") == 5


def test_an_empty_table(backend: ModuleType) -> None:
    table = fastsmaps.parse(b"")
    assert (len(table), list(table), table.fields, table.overlaps) == (0, [], (), False)
    assert (table.group_by("path"), table.group_by("kind"), table.find(0)) == ({}, {}, None)
    totals = table.totals()
    assert (totals.size, totals.rss, totals.uss) == (0, None, None)
    assert table.column("start").tolist() == []
    assert table.absent("rss") == 0
    with pytest.raises(KeyError):
        table.column("rss")
    with pytest.raises(IndexError):
        table[0]


def test_where_a_text_comes_from_nobody_knows(backend: ModuleType) -> None:
    for table in (fastsmaps.parse(TEXT), fastsmaps.parse(TEXT)[1:]):
        assert (table.pid, table.procfs, table.taken_at) == (None, None, None)
    assert repr(fastsmaps.parse(TEXT)) == "<5 mappings>"


def test_a_part_comes_from_where_its_whole_does() -> None:
    table = fastsmaps.mappings()
    part = table[::2]
    assert (part.pid, part.procfs) == (table.pid, table.procfs) == (os.getpid(), "/proc")
    assert part.taken_at == table.taken_at
    assert repr(part) == f"<{len(part)} mappings of process {os.getpid()}>"


# ---- groups


@pytest.mark.parametrize("path", [p for p in texts() if p.parent.name == "zoo"], ids=str)
def test_groups_of_a_capture_are_sums_of_its_rows(backend: ModuleType, path: Any) -> None:
    table = fastsmaps.load(path)
    rows = list(table)
    for by, key_of in (
        ("path", lambda m: m.path),
        ("kind", lambda m: m.kind),
        (lambda m: (m.perms, m.dev), lambda m: (m.perms, m.dev)),
    ):
        groups = table.group_by(by)
        assert set(groups) == {key_of(row) for row in rows}
        for key, group in groups.items():
            members = [row for row in rows if key_of(row) == key]
            assert group.count == len(members)
            if path.name != "smaps_rollup":
                assert group.totals.size == sum(row.size for row in members)
            for name in table.fields:
                figures = [size for row in members if (size := row[name]) is not None]
                if name not in ("size", "kernel_page_size", "mmu_page_size"):
                    assert group.totals[name] == (sum(figures) if figures else None)
        order = [group.totals.pss or 0 for group in groups.values()]
        assert order == sorted(order, reverse=True)


def test_groups_without_a_pss_are_ordered_by_size(backend: ModuleType) -> None:
    text = header(0, 0x1000, b"/a") + header(0x1000, 0x9000, b"/b") + header(0x9000, 0xA000, b"/a")
    groups = fastsmaps.parse(text).group_by("path")
    assert [(key, group.count) for key, group in groups.items()] == [("/b", 1), ("/a", 2)]
    assert groups["/a"].totals.source == "maps"


def test_a_field_that_a_group_lacks_is_none_there(backend: ModuleType) -> None:
    groups = fastsmaps.parse(TEXT).group_by("kind")
    assert list(groups) == ["heap", "anon", "file", "hugetlb"]
    assert (groups["heap"].totals.swap, groups["file"].totals.swap) == (None, 16384)
    assert groups["anon"].totals.rss is None
    assert repr(groups["file"]).startswith("<Group of 2: <Totals pss=2048")


def test_a_function_may_group_by_whatever_is_hashable(backend: ModuleType) -> None:
    table = fastsmaps.parse(TEXT)
    assert list(table.group_by(lambda mapping: None)) == [None]
    assert sum(g.count for g in table.group_by(lambda mapping: mapping).values()) == 5
    with pytest.raises(TypeError, match="unhashable"):
        table.group_by(lambda mapping: [])  # type: ignore[arg-type, return-value]
    with pytest.raises(ZeroDivisionError):
        table.group_by(lambda mapping: 1 // 0)


def test_top(backend: ModuleType) -> None:
    table = fastsmaps.parse(TEXT)
    rows = list(table)
    assert table.top(2) == [rows[1], rows[3]]  # of equals the first comes first
    assert table.top(9, "swap") == [rows[2], rows[0]]  # only those that have it
    assert table.top(1, "size") == [rows[2]]
    assert table.top(1, "Rss") == table.top(1, "rss") == [rows[0]]
    assert table.top(0) == table.top(-1) == []
    assert table[2:].top(1) == [rows[3]]
    with pytest.raises(KeyError):
        table.top(1, "locked")


# ---- addresses


def parse_ranges(ranges: list[tuple[int, int]]) -> Mappings:
    return fastsmaps.parse(b"".join(header(start, end) for start, end in ranges))


RANGES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12)), max_size=8).map(
    lambda pairs: [(start, start + size) for start, size in pairs]
)


@given(ranges=st.one_of(RANGES, RANGES.map(sorted)))
def test_find_in_any_order_of_ranges(backend: ModuleType, ranges: list[tuple[int, int]]) -> None:
    table = parse_ranges(ranges)
    assert table.overlaps == any(b[0] < a[1] for a, b in itertools.pairwise(ranges))
    for address in range(56):
        holding = [i for i, (start, end) in enumerate(ranges) if start <= address < end]
        assert table.find(address) == (table[holding[0]] if holding else None)


def test_find_at_the_ends_of_memory(backend: ModuleType) -> None:
    table = parse_ranges([(0, 1), (2**64 - 4096, 2**64 - 1)])
    assert table.find(0) == table[0]
    assert table.find(2**64 - 2) == table[1]
    for address in (-1, 1, 2**64 - 1, 2**64, 2**80):
        assert table.find(address) is None


def test_overlaps_are_looked_for_once(backend: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows are looked at for them: find() must not do so for each address."""
    table = parse_ranges([(0, 1), (2, 3)])
    asked: list[str] = []
    column = fastsmaps.Mappings.column

    def counted(m: fastsmaps.Mappings, name: str) -> memoryview:
        asked.append(name)
        return column(m, name)

    monkeypatch.setattr(fastsmaps.Mappings, "column", counted)
    assert table.find(2) == table[1]
    del asked[:]
    assert table.find(0) == table[0]
    assert sorted(asked) == ["end", "start"]
    assert not table.overlaps
    assert len(asked) == 2


def test_a_torn_read_is_told(backend: ModuleType) -> None:
    assert fastsmaps.load(DATA / "handmade/torn-read/smaps").overlaps
    assert not fastsmaps.load(DATA / "handmade/zero-length/smaps").overlaps


def test_a_mapping_of_16_tib(backend: ModuleType) -> None:
    text = record(0x10000000000, 0x10000000000 + 16 * TIB, Size=2**34, Rss=2**34, Pss=2**34)
    table = fastsmaps.parse(text * 3)
    assert table[0].size == table[0].rss == table[0].size_printed == 16 * TIB
    assert table.column("rss").tolist() == [16 * TIB] * 3
    assert table.totals().rss == table.totals().size == 48 * TIB


# ---- rows

KINDS = [
    # name, perms, kind with no flags, deleted
    (b"", b"rw-p", "anon", False),
    (b"[heap]", b"rw-p", "heap", False),
    (b"[heap] ", b"rw-p", "file", False),
    (b"[heap] (deleted)", b"rw-p", "file", True),
    (b"/[heap]", b"rw-p", "file", False),
    (b"[stack]", b"rw-p", "stack", False),
    (b"[stack:1]", b"rw-p", "stack", False),
    (b"[stack:1", b"rw-p", "file", False),
    (b"[anon:]", b"rw-p", "anon_named", False),
    (b"[anon:a/b: c]", b"rw-p", "anon_named", False),
    (b"[anon:a", b"rw-p", "file", False),
    (b"[anon_shmem:a]", b"rw-s", "shmem", False),
    (b"[anon_shmem:a", b"rw-s", "file", False),
    (b"/memfd:", b"rw-s", "shmem", False),
    (b"/memfd:a b (deleted)", b"rw-p", "shmem", False),
    (b"/memfd", b"rw-p", "file", False),
    (b"/SYSV00000000 (deleted)", b"rw-s", "shmem", False),
    (b"/dev/shm/a (deleted)", b"rw-s", "shmem", False),
    (b"/dev/shmem", b"rw-s", "device", False),
    (b"/dev/ashmem/a (deleted)", b"rw-s", "shmem", False),
    (b"/dev/zero", b"rw-s", "shmem", False),
    (b"/dev/zero (deleted)", b"rw-s", "shmem", False),
    (b"/dev/zero", b"rw-p", "anon", False),
    (b"/dev/zero (deleted)", b"rw-p", "anon", False),
    (b"/dev/zero2", b"rw-p", "device", False),
    (b"/dev/dri/card0 (deleted)", b"rw-s", "device", False),
    (b"/dmabuf:x", b"rw-s", "device", False),
    (b"anon_inode:[perf_event]", b"rw-s", "device", False),
    (b"anon_inode:x (deleted)", b"rw-s", "device", False),
    (b"socket:[7]", b"rw-s", "device", False),
    (b"/socket:[7]", b"rw-s", "file", False),
    (b"[vdso]", b"r-xp", "special", False),
    (b"[page size compat]", b"---p", "special", False),
    (b"[]", b"---p", "special", False),
    (b"[", b"---p", "file", False),
    (b"/anon_hugepage", b"rw-p", "hugetlb", False),
    (b"/anon_hugepage (deleted)", b"rw-s", "hugetlb", False),
    (b"/anon_hugepages", b"rw-p", "file", False),
    (b"/lib/a (deleted)", b"r-xp", "file", True),
    (b"/lib/a (deleted) ", b"r-xp", "file", False),
    (b" (deleted)", b"r-xp", "file", False),  # blanks before a name are padding
    (b"(deleted)", b"r-xp", "file", False),
    (b"\xff\xfe", b"r-xp", "file", False),
]


@pytest.mark.parametrize(("name", "perms", "kind", "deleted"), KINDS)
def test_kind_and_deleted(
    backend: ModuleType, name: bytes, perms: bytes, kind: str, deleted: bool
) -> None:
    table = fastsmaps.parse(header(name=name, perms=perms))
    assert (table[0].kind, table[0].deleted) == (kind, deleted)
    assert list(table.group_by("kind")) == [kind]
    huge = fastsmaps.parse(record(name=name, perms=perms, flags=b"rd ht wr "))
    assert (huge[0].kind, huge[0].deleted) == ("hugetlb", False)
    assert list(huge.group_by("kind")) == ["hugetlb"]
    near = fastsmaps.parse(record(name=name, perms=perms, flags=b"rd hta ")[:-4] + b"hg nh \n")
    assert near[0].kind == kind


@pytest.mark.parametrize(
    ("name", "filename"),
    [
        (b"/a b", "/a b"),
        (b"/a (deleted)", "/a"),
        (b"/a (deleted) (deleted)", "/a (deleted)"),
        (b"/a\\012b\\012", "/a\nb\n"),
        (b"/a\\012 (deleted)", "/a\n"),
        (b"/a\\040\\0122", "/a\\040\n2"),
        (b"/a\xff\t", "/a\udcff\t"),
        (b"", ""),
        (b"[heap]", "[heap]"),
    ],
)
def test_filename(backend: ModuleType, name: bytes, filename: str) -> None:
    mapping = fastsmaps.parse(header(name=name))[0]
    assert mapping.filename == filename
    assert mapping.raw_path == name
    assert os.fsencode(mapping.path) == name


@pytest.mark.parametrize("dev", ["00:00", "fd:01", "103:00002", "fff:fffff"])
def test_device_numbers(backend: ModuleType, dev: str) -> None:
    mapping = fastsmaps.parse(header(dev=dev.encode()))[0]
    assert mapping.dev == dev
    major, minor = (int(part, 16) for part in dev.split(":"))
    assert (os.major(mapping.st_dev), os.minor(mapping.st_dev)) == (major, minor)
    if major < 2**31:
        assert mapping.st_dev == os.makedev(major, minor)


@pytest.mark.parametrize("perms", ["".join(p) for p in itertools.product("r-", "w-", "x-", "ps")])
def test_permissions(backend: ModuleType, perms: str) -> None:
    assert fastsmaps.parse(header(perms=perms.encode()))[0].perms == perms


def test_flags(backend: ModuleType) -> None:
    text = b"".join(record(flags=flags) for flags in (b"", b"rd", b"rd wr ?? ", b" rd  zz"))
    flags = [mapping.vm_flags for mapping in fastsmaps.parse(text + header())]
    assert flags == [(), ("rd",), ("rd", "wr", "??"), ("rd", "zz"), None]


def test_androids_name_line(backend: ModuleType) -> None:
    name = b"Name:           [anon:x y]\n"
    unnamed, named, empty = rows_of(header() + name + header(name=b"/a") + name + header())
    assert (unnamed.path, unnamed.kind, unnamed.extra) == ("[anon:x y]", "anon_named", {})
    assert (named.path, named.kind, named.extra) == ("/a", "file", {"Name": "[anon:x y]"})
    assert (empty.path, empty.kind, empty.extra) == ("", "anon", {})


def test_rows_are_values(backend: ModuleType) -> None:
    row, same = fastsmaps.parse(TEXT)[0], fastsmaps.parse(TEXT)[0]
    assert row == same
    assert row is not same
    assert hash(row) == hash(same)
    assert len({*fastsmaps.parse(TEXT), *fastsmaps.parse(TEXT)}) == 5
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(row, protocol)) == row
    assert copy.copy(row) == copy.deepcopy(row) == row
    assert row != "row"
    assert (row == 1) is False


def test_a_table_is_not_pickled(backend: ModuleType) -> None:
    table = fastsmaps.parse(TEXT)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="hand over rows, an Arrow table, or the text"):
            pickle.dumps(table, protocol)
    table.column("rss")
    with pytest.raises(TypeError, match="hand over rows"):
        pickle.dumps(table)
    assert len(pickle.loads(pickle.dumps(list(table)))) == len(table)


def test_rows_of_both_backends_are_equal(twins: tuple[ModuleType, ModuleType]) -> None:
    text = (DATA / "captures/6.12-amd64/zoo/smaps").read_bytes()
    c, python = (list(Mappings(twin.parse(text))) for twin in twins)
    assert c == python
    assert list(map(hash, c)) == list(map(hash, python))


def test_rows_are_equal_whatever_their_tables_hold_beside(backend: ModuleType) -> None:
    # The order of the columns, and columns that are None for a row, are the table's.
    one = header() + kb("Rss", 4) + kb("Pss", 3)
    other = header() + kb("Pss", 3) + kb("Rss", 4) + header(0x20000, 0x30000) + kb("Swap", 1)
    assert fastsmaps.parse(one)[0] == fastsmaps.parse(other)[0]
    assert hash(fastsmaps.parse(one)[0]) == hash(fastsmaps.parse(other)[0])


@pytest.mark.parametrize(
    "changed",
    [
        record(0x11000, 0x12000, b"/lib/a", perms=b"r-xp", flags=b"rd ", Rss=8),
        record(0x10000, 0x13000, b"/lib/a", perms=b"r-xp", flags=b"rd ", Rss=8),
        record(0x10000, 0x12000, b"/lib/b", perms=b"r-xp", flags=b"rd ", Rss=8),
        record(0x10000, 0x12000, b"/lib/a", perms=b"r-xs", flags=b"rd ", Rss=8),
        record(0x10000, 0x12000, b"/lib/a", perms=b"r-xp", flags=b"wr ", Rss=8),
        record(0x10000, 0x12000, b"/lib/a", perms=b"r-xp", Rss=8),
        record(0x10000, 0x12000, b"/lib/a", perms=b"r-xp", flags=b"rd ", Rss=4),
        record(0x10000, 0x12000, b"/lib/a", perms=b"r-xp", flags=b"rd "),
        record(0x10000, 0x12000, b"/lib/a", perms=b"r-xp", flags=b"rd ", Rss=8, Pss=0),
        record(0x10000, 0x12000, b"/lib/a", perms=b"r-xp", flags=b"rd ", Rss=8) + b"New: a b\n",
    ],
)
def test_rows_that_differ_in_one_thing(backend: ModuleType, changed: bytes) -> None:
    text = record(0x10000, 0x12000, b"/lib/a", perms=b"r-xp", flags=b"rd ", Rss=8)
    assert fastsmaps.parse(text)[0] != fastsmaps.parse(changed)[0]


def test_rows_do_not_change(backend: ModuleType) -> None:
    row = fastsmaps.parse(TEXT + b"New: a b\n")[4]
    for name in ("start", "rss", "kind", "path", "extra", "new_attribute"):
        with pytest.raises(AttributeError, match="immutable"):
            setattr(row, name, 1)
        with pytest.raises(AttributeError, match="immutable"):
            delattr(row, name)
    row.extra["New"] = "another"
    assert row.extra == {"New": "a b"}


def test_names_that_collide(backend: ModuleType) -> None:
    fields = b"Start: 1 kB\nKind: 2\nPath: 3 kB\nPSS: 4 kB\nPss: 5 kB\nAs_Dict: 6 kB\nExtra: 7\n"
    table = fastsmaps.parse(header(name=b"/a") + fields)
    row = table[0]
    assert (row.start, row.kind, row.path, row.pss) == (0x10000, "file", "/a", 5120)
    assert (row["Start"], row["Kind"], row["Path"], row["PSS"]) == (1024, 2, 3072, 4096)
    assert (row["As_Dict"], row["Extra"], row["Pss"], row["pss"]) == (6144, 7, 5120, 5120)
    assert row.as_dict()["As_Dict"] == 6144
    values = row.as_dict()
    assert (values["start"], values["kind"], values["path"]) == (0x10000, "file", "/a")
    assert (values["Start"], values["Kind"], values["Path"]) == (1024, 2, 3072)
    assert (values["pss"], values["PSS"], values["extra"], values["Extra"]) == (5120, 4096, {}, 7)
    assert table.column("Start").tolist() == [1024]
    assert table.column("start").tolist() == [0x10000]
    assert table.column("PSS").tolist() == [4096]
    assert table.column("pss").tolist() == [5120]
    totals = table.totals()
    assert (totals["Start"], totals["Path"], totals["PSS"]) == (1024, 3072, 4096)
    assert totals.pss == 5120


def test_as_dict(backend: ModuleType) -> None:
    row = fastsmaps.parse(record(name=b"/a", flags=b"rd ", Size=8, Rss=4) + b"New: 7\n")[0]
    assert row.as_dict() == {
        "start": 0x10000, "end": 0x11000, "size": 4096, "perms": "rw-p", "offset": 0,
        "dev": "00:00", "inode": 0, "path": "/a", "kind": "file", "deleted": False,
        "vm_flags": ("rd",), "size_printed": 8192, "rss": 4096, "new": 7, "extra": {},
    }  # fmt: skip


def test_what_a_row_shows_of_itself(backend: ModuleType) -> None:
    row = fastsmaps.parse(header(name=b"/\x1b[2J\x00\r\xff\xc2\x9b31m"))[0]
    assert repr(row).isprintable()
    assert "00010000-00011000 rw-p file" in repr(row)
    for hidden in ("\x1b", "\x9b", "\r", "\x00"):
        assert hidden in row.path
        assert hidden not in repr(row)
    assert repr(fastsmaps.parse(header())[0]) == "<Mapping 00010000-00011000 rw-p anon>"
