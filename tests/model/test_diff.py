"""diff(): growth, shrinkage, new and ended groups."""

from __future__ import annotations

import copy
import ctypes
import mmap
import os
import pickle
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastsmaps
from fastsmaps._errors import Outcome
from fastsmaps._model.diff import diff
from fastsmaps._model.process_totals import ProcessTotals
from fastsmaps._model.processes import Cost, Scan
from fastsmaps._model.totals import Totals
from support.smaps_texts import header, record

pytestmark = pytest.mark.core

KB = 1024


def table(**pss: int) -> fastsmaps.Mappings:
    """Return a table with a mapping for each name, of that Pss in kB."""
    records = [
        record(i << 16, (i << 16) + 4096, name.encode(), Pss=size, Rss=2 * size)
        for i, (name, size) in enumerate(pss.items(), 1)
    ]
    return fastsmaps.parse(b"".join(records))


def row(pid: int, pss: int | None, outcome: Outcome = "read", **facts: Any) -> ProcessTotals:
    totals = None if pss is None else Totals({"Pss": pss, "Rss": 2 * pss}, None, "smaps_rollup")
    return ProcessTotals(pid, outcome, totals=totals, **{"start_time": 1.0, **facts})


def scan(*rows: ProcessTotals) -> Scan:
    return Scan(rows, cost=Cost(0, 0), taken_at=0, procfs="/proc")


def pss_by_key(changes: list[fastsmaps.Change]) -> list[tuple[Any, int | None]]:
    return [(change.key, change.pss) for change in changes]


# ---- two tables


def test_changes_by_path_are_ordered_by_pss(backend: ModuleType) -> None:
    old = table(same=10, grew=10, shrank=50, went=7)
    new = table(came=3, shrank=9, same=10, grew=30)
    changes = diff(old, new)
    assert pss_by_key(changes) == [
        ("shrank", -41 * KB),
        ("grew", 20 * KB),
        ("went", -7 * KB),
        ("came", 3 * KB),
    ]
    went, came = changes[2:]
    # A missing group has 0 for each field of the other side, and no other fields.
    assert (went.old.pss, went.new.pss, went.rss, went.size) == (7 * KB, 0, -14 * KB, -4096)
    assert (came.old.pss, came.new.pss, came.rss, came.size) == (0, 3 * KB, 6 * KB, 4096)
    assert came.old.swap is None
    assert came.swap is None
    assert pss_by_key(diff(new, old)) == [(key, -(pss or 0)) for key, pss in pss_by_key(changes)]
    assert pickle.loads(pickle.dumps(changes)) == changes
    assert diff(old, old) == []
    assert diff(old[:2], old[:2]) == []


def test_changes_by_kind_and_by_function_agree(backend: ModuleType) -> None:
    old, new = table(**{"[heap]": 10, "/a": 1, "/b": 2}), table(**{"[heap]": 15, "/a": 4, "/c": 1})
    assert pss_by_key(diff(old, new, by="kind")) == [("heap", 5 * KB), ("file", 2 * KB)]
    assert pss_by_key(diff(old, new, "kind")) == pss_by_key(
        diff(old, new, lambda mapping: mapping.kind)
    )
    assert pss_by_key(diff(old, new)) == pss_by_key(diff(old, new, "path"))
    with pytest.raises(ValueError, match="got 'comm'"):
        diff(old, new, by="comm")


def test_tables_of_maps_are_compared_by_size(backend: ModuleType) -> None:
    """A table of maps only has addresses, so the change is in size."""
    old = fastsmaps.parse(header(0x1000, 0x2000, b"/a") + header(0x2000, 0x3000, b"/b"))
    new = fastsmaps.parse(header(0x1000, 0x2000, b"/a") + header(0x2000, 0x5000, b"/b"))
    (change,) = diff(old, new)
    assert (change.key, change.size, change.pss) == ("/b", 0x2000, None)
    assert diff(old, old) == []


def test_equal_changes_are_ordered_by_key(backend: ModuleType) -> None:
    old, new = table(), table(b=1, c=1, a=1)
    assert [change.key for change in diff(old, new)] == ["a", "b", "c"]


def ranges(*rows: tuple[int, int, bytes, int]) -> fastsmaps.Mappings:
    return fastsmaps.parse(
        b"".join(record(start, end, name, Pss=pss, Rss=pss) for start, end, name, pss in rows)
    )


def test_ranges_that_overlap_are_one_change(backend: ModuleType) -> None:
    """A mapping that grew downwards, one split by mprotect, two merged, one gone, one new."""
    old = ranges(
        (0x10000, 0x20000, b"", 10), (0x30000, 0x38000, b"", 5), (0x50000, 0x52000, b"", 1),
        (0x52000, 0x54000, b"", 1), (0x60000, 0x61000, b"/a", 3), (0x70000, 0x71000, b"", 7),
    )  # fmt: skip
    new = ranges(
        (0x8000, 0x20000, b"", 30), (0x30000, 0x34000, b"", 5), (0x34000, 0x38000, b"", 1),
        (0x50000, 0x54000, b"", 4), (0x60000, 0x61000, b"/b", 3), (0x80000, 0x81000, b"", 8),
    )  # fmt: skip
    assert pss_by_key(diff(old, new, by="range")) == [
        (("8000-20000", ""), 20 * KB),
        (("80000-81000", ""), 8 * KB),
        (("70000-71000", ""), -7 * KB),
        (("60000-61000", "/a"), -3 * KB),
        (("60000-61000", "/b"), 3 * KB),
        (("50000-54000", ""), 2 * KB),
        (("30000-38000", ""), 1 * KB),
    ]
    assert diff(old, old, by="range") == []
    scans = scan(row(1, 1)), scan(row(1, 2))
    with pytest.raises(ValueError, match="got 'range'"):
        diff(*scans, by="range")


PAGES = st.integers(1, 40).map(lambda n: n << 12)
# Start, length, path, Pss: of a table as the kernel writes it, sorted and without overlaps ...
ROW = st.tuples(PAGES, PAGES, st.sampled_from([b"", b"", b"/a", b"[heap]"]), st.integers(0, 3))


def without_overlaps(rows: list[tuple[int, int, bytes, int]]) -> list[tuple[int, int, bytes, int]]:
    kept: list[tuple[int, int, bytes, int]] = []
    for start, size, path, pss in sorted(rows):
        if not kept or start >= kept[-1][1]:
            kept.append((start, start + size, path, pss))
    return kept


ORDERED = st.lists(ROW, max_size=12).map(without_overlaps)
# ... and of a torn one, or of the texts of several processes.
ANY = st.lists(ROW, max_size=6).map(lambda rows: [(a, a + size, p, n) for a, size, p, n in rows])
TABLES = st.tuples(ORDERED, ORDERED) | st.tuples(ORDERED, ANY) | st.tuples(ANY, ANY)


def clusters(
    old: list[tuple[int, int, bytes, int]], new: list[tuple[int, int, bytes, int]]
) -> list[list[tuple[int, int, int, bytes, int]]]:
    """Return the rows of both sides (0 and 1 first) that overlap, found in the slow way."""
    found: list[list[tuple[int, int, int, bytes, int]]] = []
    for row in [*((0, *row) for row in old), *((1, *row) for row in new)]:
        _, start, end, path, _ = row
        joined = [row]
        for other in found[:]:
            if any(p == path and a < end and start < b for _, a, b, p, _ in other):
                joined += other
                found.remove(other)
        found.append(joined)
    return found


@given(TABLES)
def test_every_mapping_is_in_one_change(
    tables: tuple[list[tuple[int, int, bytes, int]], list[tuple[int, int, bytes, int]]],
) -> None:
    old, new = (ranges(*rows) for rows in tables)
    for by in ("range", "name", "path", "kind"):
        changes = diff(old, new, by)
        assert len({change.key for change in changes}) == len(changes)
        for field in ("pss", "size"):
            assert sum(c[field] or 0 for c in changes) == (changes.total[field] or 0)
            # Unchanged groups are left out.
            assert sum(c.old[field] or 0 for c in changes) <= (changes.total.old[field] or 0)
    expected = {}
    for rows in clusters(*tables):
        shown = [row for row in rows if row[0]] or rows
        key = f"{min(row[1] for row in shown):x}-{max(row[2] for row in shown):x}"
        pss, size = [0, 0], [0, 0]
        for side, start, end, _, kb in rows:
            pss[side] += kb * KB
            size[side] += end - start
        if pss[0] != pss[1] or size[0] != size[1]:
            expected[key, rows[0][3].decode()] = [pss, size]
    assert expected == {
        change.key: [[change.old.pss, change.new.pss], [change.old.size, change.new.size]]
        for change in diff(old, new, "range")
    }


def test_names_are_paths_or_ranges(backend: ModuleType) -> None:
    """Memory without a path is compared by range, all other by path, wherever it is."""
    old = ranges(
        (0x10000, 0x20000, b"", 10), (0x30000, 0x38000, b"/a", 5), (0x50000, 0x52000, b"", 1),
        (0x60000, 0x61000, b"[heap]", 3), (0x80000, 0x81000, b"", 9),
    )  # fmt: skip
    new = ranges(
        (0x8000, 0x20000, b"", 30), (0x38000, 0x40000, b"/a", 7), (0x60000, 0x64000, b"[heap]", 9),
        (0x70000, 0x71000, b"", 5), (0x80000, 0x81000, b"", 9),
    )  # fmt: skip
    changes = diff(old, new, by="name")
    assert [(change.name, change.pss) for change in changes] == [
        ("8000-20000 (no name)", 20 * KB),
        ("[heap]", 6 * KB),
        ("70000-71000 (no name)", 5 * KB),
        ("/a", 2 * KB),
        ("50000-52000 (no name)", -1 * KB),
    ]
    assert [change.key for change in changes[:2]] == [("8000-20000", ""), "[heap]"]
    assert changes.total == new.totals() - old.totals()


def test_growth_in_a_live_process_has_its_address(backend: ModuleType) -> None:
    """The kernel maps downwards, and merges similar neighbours."""
    first = mmap.mmap(-1, 1 << 22, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    first[:] = bytes(len(first))
    before = fastsmaps.mappings()
    second = mmap.mmap(-1, 3 << 22, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    second[:] = bytes(len(second))
    after = fastsmaps.mappings()
    address = ctypes.addressof(ctypes.c_char.from_buffer(second))

    def has_it(change: fastsmaps.Change) -> bool:
        start, end = (int(part, 16) for part in change.key[0].split("-"))
        return start <= address < end

    # Not always the first: the heap's Pss grows more when a fork of this process ends meanwhile.
    (change,) = filter(has_it, diff(before, after, by="range"))
    assert change.pss is not None
    assert change.pss >= len(second)


# ---- order, totals and time


def sized(**rows: tuple[int, int, int]) -> fastsmaps.Mappings:
    """Return a table with a mapping for each name: its Rss, Pss and Uss in kB."""
    return fastsmaps.parse(
        b"".join(
            record(
                i << 16, (i << 16) + 4096, name.encode(),
                Rss=rss, Pss=pss, Private_Clean=0, Private_Dirty=uss,
            )
            for i, (name, (rss, pss, uss)) in enumerate(rows.items(), 1)
        )
    )  # fmt: skip


def test_memory_that_others_stopped_sharing_did_not_grow(backend: ModuleType) -> None:
    old = sized(
        grew=(10, 10, 10), ended=(900, 450, 0), fewer=(900, 300, 0), mixed=(900, 450, 0),
        touched=(100, 20, 0), forked=(900, 900, 900), freed=(50, 50, 50),
    )  # fmt: skip
    new = sized(
        grew=(18, 18, 18), ended=(900, 900, 900), fewer=(900, 450, 0), mixed=(904, 904, 904),
        touched=(600, 80, 0), forked=(900, 450, 0), freed=(30, 30, 30),
    )  # fmt: skip
    changes = diff(old, new)
    assert [(change.key, change.uss, change.shared_with_fewer) for change in changes] == [
        ("freed", -20 * KB, False),
        ("grew", 8 * KB, False),
        ("mixed", 904 * KB, True),  # 4 KiB of it are new
        ("touched", 0, False),
        ("ended", 900 * KB, True),
        ("forked", -900 * KB, False),
        ("fewer", 0, True),
    ]
    assert [change.key for change in changes.grown] == ["grew", "mixed", "touched"]
    (change,) = diff(table(a=1), fastsmaps.parse(record(1 << 16, (1 << 16) + 4096, b"a", Pss=2)))
    assert (change.pss, change.shared_with_fewer) == (KB, None)


def test_changes_of_maps_alone_grow_by_size(backend: ModuleType) -> None:
    old = fastsmaps.parse(header(0x1000, 0x2000, b"/a") + header(0x3000, 0x5000, b"/b"))
    new = fastsmaps.parse(header(0x1000, 0x3000, b"/a") + header(0x3000, 0x4000, b"/b"))
    assert [change.key for change in diff(old, new)] == ["/a", "/b"]
    assert [change.key for change in diff(old, new).grown] == ["/a"]


def test_changes_have_a_total(backend: ModuleType) -> None:
    old, new = table(same=10, grew=10, shrank=50), table(grew=30, shrank=9, same=10, came=3)
    changes = diff(old, new)
    assert changes.total == new.totals() - old.totals()
    assert (changes.total.key, changes.total.name, changes.total.old.pss) == (None, "", 70 * KB)
    assert (changes.total.pss, sum(change.pss or 0 for change in changes)) == (-18 * KB, -18 * KB)
    assert diff(old, table()).total.new.pss == 0
    assert diff(table(), table()).total.pss is None
    part = changes[1:]
    assert isinstance(part, fastsmaps.Changes)
    assert (list(part), part.total) == (list(changes)[1:], changes.total)
    assert changes[0] == next(iter(changes))
    for same in (pickle.loads(pickle.dumps(changes)), copy.copy(changes), copy.deepcopy(changes)):
        assert type(same) is fastsmaps.Changes
        assert (same, same.total) == (changes, changes.total)


def test_total_of_scans_is_that_of_the_processes_compared() -> None:
    old = scan(row(1, 10), row(2, 20), row(3, 30), row(4, None, "denied"))
    new = scan(row(1, 11), row(2, None, "denied"), row(4, 9), row(5, 50))
    for by in ("pid", "comm"):
        total = diff(old, new, by).total
        assert (total.old.pss, total.new.pss, total.pss) == (40, 61, 21)
    assert diff(scan(), scan()).total.pss is None


def test_rates_need_the_time(backend: ModuleType) -> None:
    def at(time: float | None, uss: int) -> fastsmaps.Mappings:
        read = sized(a=(uss, uss, uss))
        read.taken_at = time
        return read

    changes = diff(at(1000.0, 10), at(1004.0, 18))
    assert (changes.total.seconds, changes[0].seconds) == (4.0, 4.0)
    assert changes[0].rate() == changes[0].rate("pss") == changes.total.rate() == 2 * KB
    assert changes[0].rate("swap") is None
    assert pickle.loads(pickle.dumps(changes))[0].seconds == 4.0
    for first, second in ((None, 1004.0), (1000.0, None), (1004.0, 1000.0), (1000.0, 1000.0)):
        (change,) = diff(at(first, 10), at(second, 18))
        assert (change.seconds, change.rate()) == (None, None)
    one, other = at(1000.0, 10), at(1004.0, 18)
    one.pid, other.pid = 7, 8
    assert diff(one, other).total.seconds is None


# ---- two scans


def test_changes_by_process_are_ordered_by_pss() -> None:
    old = scan(row(1, 10), row(2, 20), row(3, 30), row(4, 40))
    new = scan(row(1, 10), row(2, 25), row(3, 10), row(5, 50))
    changes = diff(old, new)
    assert pss_by_key(changes) == [(5, 50), (4, -40), (3, -20), (2, 5)]
    for by in ("pid", None):
        assert diff(old, new, by) == changes
    assert changes[0].old.pss == 0
    assert changes[0].old.size is None


def test_a_reused_pid_makes_two_changes() -> None:
    old, new = scan(row(7, 10)), scan(row(7, 11, start_time=2.0))
    assert pss_by_key(diff(old, new)) == [(7, 11), (7, -10)]


@pytest.mark.parametrize("outcome", ["denied", "failed", "skipped"])
def test_an_unread_process_is_left_out(outcome: Outcome) -> None:
    read, unread = scan(row(7, 10), row(8, 1)), scan(row(7, None, outcome), row(8, 2))
    for by in ("pid", "comm"):
        assert sum(change.pss or 0 for change in diff(read, unread, by)) == 1
        assert sum(change.pss or 0 for change in diff(unread, read, by)) == -1


@pytest.mark.parametrize("outcome", ["gone", "zombie"])
def test_an_ended_process_counts_as_0(outcome: Outcome) -> None:
    ended = row(7, None, outcome, start_time=1.0 if outcome == "zombie" else None)
    assert pss_by_key(diff(scan(row(7, 10)), scan(ended))) == [(7, -10)]
    assert diff(scan(ended), scan(ended)) == []


def test_kernel_threads_do_not_change() -> None:
    thread = scan(row(2, None, "kernel_thread"))
    assert diff(thread, thread) == []
    assert diff(thread, scan()) == []


def test_changes_by_words_and_functions() -> None:
    old = scan(row(1, 10, comm="a", cgroup="/x"), row(2, 20, comm="a"), row(3, 5, comm="b"))
    new = scan(row(1, 11, comm="a", cgroup="/x"), row(4, 40, comm="a"), row(3, 5, comm="b"))
    assert pss_by_key(diff(old, new, by="comm")) == [("a", 21)]
    assert pss_by_key(diff(old, new, by="cgroup")) == [(None, 20), ("/x", 1)]
    assert pss_by_key(diff(old, new, by=lambda row: row.pid % 2)) == [(0, 20), (1, 1)]
    with pytest.raises(ValueError, match="cmdline:REGEX, group:NAME=REGEX, got 'kind'"):
        diff(old, new, by="kind")


def test_a_table_with_a_scan_is_a_type_error(backend: ModuleType) -> None:
    for old, new in ((table(), scan()), (scan(), table()), (1, 2), (table(), None)):
        with pytest.raises(TypeError, match="two Mappings or two Scans"):
            diff(old, new)  # type: ignore[arg-type]


def test_live_growth_is_found(backend: ModuleType) -> None:
    before = fastsmaps.scan()
    table_before = fastsmaps.mappings()
    # Not from malloc(), which may hand out pages that were freed and are still resident.
    block = mmap.mmap(-1, 32 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for i in range(0, len(block), 4096):
        block[i] = 1
    changes = diff(before, fastsmaps.scan())
    (own,) = (change for change in changes if change.key == os.getpid())
    assert own.rss is not None
    assert own.rss > 24 << 20
    first = diff(table_before, fastsmaps.mappings(), by="kind")[0]
    assert first.key in ("anon", "heap", "anon_named")
