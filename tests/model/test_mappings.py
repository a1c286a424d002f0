"""The table: every slice, every column, every order of ranges."""

from __future__ import annotations

import itertools
import os
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastsmaps
from fastsmaps import ABSENT, Mapping, Mappings
from support.independent import DATA, texts
from support.smaps_texts import TEXT, header, record

pytestmark = pytest.mark.core

TIB = 2**40


def json_rows(text: bytes) -> list[Mapping]:
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
        size = sum(row.end - row.start for row in expected)
        assert part.totals().size == (size if expected else None)
        assert part.absent("rss") == sum(row.rss is None for row in expected)
        assert sum(group.count for group in part.group_by("kind").values()) == len(expected)


def test_uss_needs_both_private_fields(backend: ModuleType) -> None:
    text = (
        record(0x1000, 0x2000, Rss=9, Private_Clean=4, Private_Dirty=8)
        + record(0x2000, 0x3000, Rss=9, Private_Clean=4)
        + record(0x3000, 0x4000, Private_Clean=1, Private_Dirty=0)
        + record(0x4000, 0x5000, Private_Clean=2**64 // 1024 - 1, Private_Dirty=1)
    )
    table = fastsmaps.parse(text)[:3]
    assert [row.uss for row in table] == [row["uss"] for row in table] == [12288, None, 1024]
    assert table.column("uss").tolist() == [12288, fastsmaps.ABSENT, 1024]
    assert table.absent("uss") == 1
    assert [row.start for row in table.top(9, "uss")] == [0x1000, 0x3000]
    assert fastsmaps.parse(text).column("uss")[3] == fastsmaps.ABSENT  # beyond 64 bits
    without = fastsmaps.parse(TEXT)
    assert without.absent("uss") == len(without)
    assert without[0].uss is None
    # Each row has one of the two fields.
    halves = record(0x1000, 0x2000, Private_Clean=4) + record(0x2000, 0x3000, Private_Dirty=8)
    for none in (without, table[1:2], table[:0], fastsmaps.parse(halves)):
        assert none.absent("uss") == len(none)
        assert none.column("uss").tolist() == [ABSENT] * len(none)


def test_rss_swap_needs_both_fields(backend: ModuleType) -> None:
    text = record(0x1000, 0x2000, Rss=9, Swap=4) + record(0x2000, 0x3000, Rss=9)
    table = fastsmaps.parse(text)
    assert [row.rss_swap for row in table] == [row["rss_swap"] for row in table] == [13312, None]
    assert table.column("rss_swap").tolist() == [13312, fastsmaps.ABSENT]
    assert table.absent("rss_swap") == 1
    assert [row.start for row in table.top(9, "rss_swap")] == [0x1000]
    totals = fastsmaps.parse(record(Rss=9, Swap=4) + record(0x2000, 0x3000, Rss=1, Swap=2)).totals()
    assert totals.rss_swap == totals["rss_swap"] == totals.as_dict()["rss_swap"] == 16384
    assert (totals - totals).rss_swap == 0
    swapless = fastsmaps.parse(record(Rss=9))
    assert swapless.absent("rss_swap") == 1
    assert swapless.totals().rss_swap is None
    assert swapless.column("rss_swap").tolist() == [ABSENT]
    # A field of a newer kernel with that name keeps the kernel's spelling.
    assert fastsmaps.parse(record(Rss=1, Swap=1, RssSwap=5)).totals()["RssSwap"] == 5120


def test_slices_of_slices_have_the_right_rows(backend: ModuleType) -> None:
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


def test_a_slice_describes_only_its_own_rows(backend: ModuleType) -> None:
    table = fastsmaps.parse(TEXT)
    assert table.fields == ("rss", "pss", "swap")
    assert table[1:2].fields == ("rss", "pss")
    assert table[3:4].fields == ("pss",)
    assert table[:0].fields == ()
    assert table[1:2].totals().swap is None
    assert table[1:2].column("swap").tolist() == [ABSENT]
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
    rows = json_rows(TEXT)
    assert view.tolist() == [2048, 4096, 0, 4096, 0]
    assert rows[0].pss == 2048


def test_numbers_without_unit_are_columns_but_not_sizes(backend: ModuleType) -> None:
    text = header() + b"THPeligible:    1\nProtectionKey:  0\n" + header(0x20000, 0x30000)
    table = fastsmaps.parse(text)
    assert table.column("thp_eligible").tolist() == [1, ABSENT]
    assert table.column("ProtectionKey").tolist() == [0, ABSENT]
    assert table.fields == ()  # not sizes
    assert table[0].protection_key == 0
    assert table[1].protection_key is None


def test_a_field_with_mixed_units_is_not_summed(backend: ModuleType) -> None:
    table = fastsmaps.parse(header() + b"Next: 3 kB\n" + header(0x20000, 0x30000) + b"Next: 3\n")
    assert table.column("next").tolist() == [3072, 3]
    assert table.fields == ()
    with pytest.raises(KeyError):
        table.totals()["Next"]


def test_an_unknown_column_is_a_key_error(backend: ModuleType) -> None:
    table = fastsmaps.parse(TEXT)
    for name in ("", "RSS", "rss ", "path", "vm_flags", "VmFlags", "Name", "USS", "kind"):
        with pytest.raises(KeyError, match=name or "''"):
            table.column(name)
        with pytest.raises(KeyError):
            table.absent(name)
    # A known field that no row has.
    assert table.column("locked").tolist() == table.column("Locked").tolist() == [ABSENT] * 5
    assert (table.column("locked").format, table.column("locked").readonly) == ("Q", True)
    with pytest.raises(KeyError, match=r"there are: start, end, .* rss, pss, .* protection_key"):
        table.column("foo")
    assert table.absent("locked") == table.absent("Locked") == 5


def test_an_empty_table_has_no_totals(backend: ModuleType) -> None:
    table = fastsmaps.parse(b"")
    assert (len(table), list(table), table.fields, table.overlaps) == (0, [], (), False)
    assert (table.group_by("path"), table.group_by("kind"), table.find(0)) == ({}, {}, None)
    totals = table.totals()
    assert (totals.size, totals.rss, totals.uss) == (None, None, None)
    assert table.column("start").tolist() == []
    assert table.absent("rss") == 0
    assert table.column("rss").tolist() == []
    with pytest.raises(IndexError):
        table[0]


def test_a_texts_origin_is_none(backend: ModuleType) -> None:
    for table in (fastsmaps.parse(TEXT), fastsmaps.parse(TEXT)[1:]):
        assert (table.pid, table.procfs, table.taken_at) == (None, None, None)


def test_a_slice_keeps_its_tables_origin() -> None:
    table = fastsmaps.mappings()
    part = table[::2]
    assert (part.pid, part.procfs) == (table.pid, table.procfs) == (os.getpid(), "/proc")
    assert part.taken_at == table.taken_at


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
                assert group.totals.size == sum(row.end - row.start for row in members)
            for name in table.fields:
                values = [size for row in members if (size := row[name]) is not None]
                if name not in ("size", "kernel_page_size", "mmu_page_size"):
                    assert group.totals[name] == (sum(values) if values else None)
        order = [group.totals.pss or 0 for group in groups.values()]
        assert order == sorted(order, reverse=True)


def test_groups_without_a_pss_are_ordered_by_size(backend: ModuleType) -> None:
    text = header(0, 0x1000, b"/a") + header(0x1000, 0x9000, b"/b") + header(0x9000, 0xA000, b"/a")
    groups = fastsmaps.parse(text).group_by("path")
    assert [(key, group.count) for key, group in groups.items()] == [("/b", 1), ("/a", 2)]
    assert groups["/a"].totals.source == "maps"


def test_a_field_that_a_group_lacks_is_none(backend: ModuleType) -> None:
    groups = fastsmaps.parse(TEXT).group_by("kind")
    assert list(groups) == ["heap", "anon", "file", "hugetlb"]
    assert (groups["heap"].totals.swap, groups["file"].totals.swap) == (None, 16384)
    assert groups["anon"].totals.rss is None
    assert repr(groups["file"]).startswith("<Group of 2: <Totals pss=2 KiB")


def test_a_function_may_group_by_any_hashable(backend: ModuleType) -> None:
    table = fastsmaps.parse(TEXT)
    assert list(table.group_by(lambda mapping: None)) == [None]
    assert sum(g.count for g in table.group_by(lambda mapping: mapping).values()) == 5
    with pytest.raises(TypeError, match="unhashable"):
        table.group_by(lambda mapping: [])  # type: ignore[arg-type, return-value]
    with pytest.raises(ZeroDivisionError):
        table.group_by(lambda mapping: 1 // 0)


def test_top_leaves_out_rows_without_a_value(backend: ModuleType) -> None:
    table = fastsmaps.parse(TEXT)
    rows = list(table)
    assert list(table.top(2)) == [rows[1], rows[3]]  # equal rows keep their order
    assert list(table.top(9, "swap")) == [rows[2], rows[0]]  # only rows that have it
    assert list(table.top(1, "size")) == [rows[2]]
    assert list(table.top(1, "Rss")) == list(table.top(1, "rss")) == [rows[0]]
    assert list(table.top(0)) == list(table.top(-1)) == []
    assert list(table[2:].top(1)) == [rows[3]]
    assert list(table.top(1, "locked")) == []
    with pytest.raises(KeyError, match="no field 'foo'"):
        table.top(1, "foo")


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


def test_overlaps_are_computed_once(backend: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take all rows: find() must not compute them for each address."""
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


def test_a_torn_read_overlaps(backend: ModuleType) -> None:
    assert fastsmaps.load(DATA / "handmade/torn-read/smaps").overlaps
    assert not fastsmaps.load(DATA / "handmade/zero-length/smaps").overlaps


def test_sums_beyond_16_tib_are_exact(backend: ModuleType) -> None:
    text = record(0x10000000000, 0x10000000000 + 16 * TIB, Size=2**34, Rss=2**34, Pss=2**34)
    table = fastsmaps.parse(text * 3)
    assert table[0].size == table[0].rss == table[0].size_printed == 16 * TIB
    assert table.column("rss").tolist() == [16 * TIB] * 3
    assert table.totals().rss == table.totals().size == 48 * TIB


# ---- smaller tables


def test_filter_keeps_the_matching_rows(backend: ModuleType) -> None:
    table = fastsmaps.parse(TEXT)
    rows = list(table)
    part = table.filter(lambda row: row.pss == 4096)
    assert list(part) == [row for row in rows if row.pss == 4096] != []
    assert part.totals().pss == 4096 * len(part)
    assert part.column("start").tolist() == [row.start for row in part]
    assert list(part[1:]) == list(part)[1:]
    assert part.overlaps == table.overlaps
    assert list(table.filter(lambda row: 0)) == []
    assert list(table.filter(lambda row: 1)) == rows
    with pytest.raises(ZeroDivisionError):
        table.filter(lambda row: 1 // 0)


def test_sort_puts_missing_values_last(backend: ModuleType) -> None:
    table = fastsmaps.parse(TEXT)
    rows = list(table)
    for by in ("start", "size", "rss", "Pss", "swap", "locked", "uss"):
        for reverse in (False, True):
            part = table.sort(by, reverse=reverse)
            known = [row for row in rows if row[by] is not None]
            expected = sorted(known, key=lambda row: row[by], reverse=reverse)
            assert list(part) == expected + [row for row in rows if row[by] is None]
    assert list(table.sort(lambda row: row.path)) == sorted(rows, key=lambda row: row.path)
    assert list(table.sort(reverse=True))[:2] == list(table.top(2))
    # Neither the sums nor find() depend on the order.
    part = table.sort("pss")
    assert (part.totals(), part.overlaps) == (table.totals(), table.overlaps)
    assert [part.find(row.start) for row in rows] == [table.find(row.start) for row in rows]
    with pytest.raises(KeyError, match="no field 'foo'"):
        table.sort("foo")


def test_to_dicts_equals_as_dict_of_each_row(backend: ModuleType) -> None:
    table = fastsmaps.parse(TEXT)
    assert table.to_dicts() == [row.as_dict() for row in table] == [dict(row) for row in table]
    assert table[:0].to_dicts() == []
