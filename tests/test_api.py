"""The public face: tables, rows, sums, names."""

from __future__ import annotations

import collections.abc
import os
import pickle
import subprocess
import sys
from types import ModuleType

import pytest
from independent import DATA

import fastsmaps
from fastsmaps.fields import python_name

TEXT = (
    b"00400000-00402000 r-xp 00001000 fd:01 77                         /bin/x (deleted)\n"
    b"Size:                  8 kB\nRss:                   8 kB\nPss:                   4 kB\n"
    b"Private_Clean:         4 kB\nPrivate_Dirty:         0 kB\nTHPeligible:           1\n"
    b"VmFlags: rd ex \n"
    b"00402000-00403000 rw-p 00000000 00:00 0                          [heap]\n"
    b"Size:                  4 kB\nRss:                   4 kB\nPss:                   4 kB\n"
    b"Private_Clean:         0 kB\nPrivate_Dirty:         4 kB\nNewField:     3 kB\nNewCount: 9\n"
    b"VmFlags: \n"
    b"00410000-00413000 rw-p 00000000 00:00 0 \n"
    b"Size:                  8 kB\nRss:                  12 kB\nPss:                  12 kB\n"
    b"Start:      7 kB\nKind: odd one\n"
)


@pytest.fixture
def table(backend: ModuleType) -> fastsmaps.Mappings:
    return fastsmaps.parse(TEXT)


def test_rows_and_slices(table: fastsmaps.Mappings) -> None:
    rows = list(table)
    assert len(table) == len(rows) == 3
    assert [table[i] for i in range(-3, 3)] == rows * 2
    with pytest.raises(IndexError):
        table[3]
    for part in (slice(1, None), slice(None, None, 2), slice(None, None, -1), slice(5, 1)):
        assert list(table[part]) == rows[part]
        column = table[part].column("rss") if rows[part] else table.column("rss")[:0]
        assert column.tolist() == [row.rss for row in rows[part]]
        assert column.contiguous
    assert list(table[1:][1:]) == rows[2:]
    assert not issubclass(type(table), collections.abc.Sequence)


def test_columns(table: fastsmaps.Mappings) -> None:
    absent = fastsmaps.ABSENT
    column = table.column("private_dirty")
    assert (column.format, column.contiguous, column.readonly) == ("Q", True, True)
    assert column.tolist() == [0, 4096, absent]
    assert table.column("Private_Dirty") is column
    assert table.column("size").tolist() == [8192, 4096, 12288]
    assert table.column("Size").tolist() == [8192, 4096, 8192]
    assert table.column("start").tolist() == [0x400000, 0x402000, 0x410000]
    assert table.column("Start").tolist() == [absent, absent, 7168]
    assert table.column("new_field").tolist() == [absent, 3072, absent]
    assert table.column("NewCount").tolist() == [absent, 9, absent]
    for name in ("swap", "Swap", "nonsense", "vm_flags"):
        with pytest.raises(KeyError):
            table.column(name)
    with pytest.raises(KeyError):
        table[:1].column("new_field")
    assert (table.absent("private_dirty"), table.absent("swap")) == (1, 3)
    with pytest.raises(KeyError):
        table.absent("nonsense")
    assert table.fields == (
        "size", "rss", "pss", "private_clean", "private_dirty", "new_field", "start",
    )  # fmt: skip
    assert "new_field" not in table[:1].fields


def test_a_row(table: fastsmaps.Mappings) -> None:
    row = table[0]
    assert (row.start, row.end, row.size, row.offset) == (0x400000, 0x402000, 8192, 4096)
    assert (row.perms, row.dev, row.inode) == ("r-xp", "fd:01", 77)
    assert row.st_dev == os.makedev(0xFD, 1)
    assert (row.path, row.filename) == ("/bin/x (deleted)", "/bin/x")
    assert (row.kind, row.deleted, row.vm_flags) == ("file", True, ("rd", "ex"))
    assert (row.thp_eligible, row.swap, row.size_printed) == (1, None, 8192)
    assert table[1].vm_flags == ()
    assert table[1]["NewField"] == table[1]["new_field"] == table[1].new_field == 3072
    assert (table[2].vm_flags, table[2].extra) == (None, {"Kind": "odd one"})
    assert (table[2].start, table[2]["Start"], table[2].size_printed) == (0x410000, 7168, 8192)
    assert table[2].as_dict()["Start"] == 7168
    with pytest.raises(KeyError):
        row["nonsense"]
    with pytest.raises(AttributeError):
        _ = row.nonsense
    with pytest.raises(AttributeError, match="immutable"):
        row.rss = 1
    assert pickle.loads(pickle.dumps(row)) == row
    assert hash(row) == hash(fastsmaps.parse(TEXT)[0])
    assert row != table[1]


@pytest.mark.parametrize(
    ("name", "perms", "kind"),
    [
        ("[heap]", "rw-p", "heap"),
        ("/tmp/[heap]", "rw-p", "file"),
        ("[stack]", "rw-p", "stack"),
        ("[stack:12]", "rw-p", "stack"),
        ("[anon:a b]", "rw-p", "anon_named"),
        ("[anon_shmem:a]", "rw-s", "shmem"),
        ("/memfd:x (deleted)", "rw-s", "shmem"),
        ("/SYSV00001234 (deleted)", "rw-s", "shmem"),
        ("/dev/shm/x", "rw-s", "shmem"),
        ("/dev/zero (deleted)", "rw-s", "shmem"),
        ("/dev/zero", "rw-p", "anon"),
        ("[vdso]", "r-xp", "special"),
        ("", "rw-p", "anon"),
        ("/dev/mem", "r--s", "device"),
        ("anon_inode:[io_uring]", "rw-s", "device"),
        ("socket:[1]", "rw-s", "device"),
        ("/dmabuf:x", "rw-s", "device"),
        ("/anon_hugepage (deleted)", "rw-p", "hugetlb"),
        ("/[aio] (deleted)", "rw-s", "file"),
    ],
)
def test_kinds(backend: ModuleType, name: str, perms: str, kind: str) -> None:
    mapping = fastsmaps.parse(f"1000-2000 {perms} 0 00:01 5 {name}\n".encode())[0]
    assert mapping.kind == kind
    assert mapping.deleted == (kind == "file" and name.endswith(" (deleted)"))
    text = f"1000-2000 {perms} 0 00:01 5 {name}\nVmFlags: rd ht \n"
    assert fastsmaps.parse(text.encode())[0].kind == "hugetlb"


def test_groups_and_top(table: fastsmaps.Mappings) -> None:
    groups = table.group_by("path")
    assert list(groups) == ["", "/bin/x (deleted)", "[heap]"]
    assert [group.totals.pss for group in groups.values()] == [12288, 4096, 4096]
    by_perms = table.group_by(lambda mapping: mapping.perms)
    assert {key: group.count for key, group in by_perms.items()} == {"rw-p": 2, "r-xp": 1}
    assert by_perms["rw-p"].totals.rss == 16384
    assert list(table[:2].group_by("kind")) == ["file", "heap"]
    with pytest.raises(ValueError, match="group_by"):
        table.group_by("size")
    assert table.top(2, "rss") == [table[2], table[0]]
    assert table.top(9, "private_dirty") == [table[1], table[0]]


def test_find(backend: ModuleType, table: fastsmaps.Mappings) -> None:
    assert table.find(0x401FFF) == table[0]
    assert table.find(0x402000) == table[1]
    assert table.find(0x403000) is None
    assert table.find(0) is None
    assert table.find(2**64 - 1) is None
    assert not table.overlaps
    turned = table[::-1]
    assert turned.overlaps
    assert turned.find(0x402000) == table[1]
    assert fastsmaps.parse(b"").find(1) is None


def test_totals(table: fastsmaps.Mappings) -> None:
    totals = table.totals()
    assert (totals.rss, totals.pss, totals.uss, totals.size) == (24576, 20480, 8192, 24576)
    assert (totals.swap, totals["Swap"], totals["Size"], totals.source) == (
        None, None, 20480, "smaps",
    )  # fmt: skip
    assert totals["NewField"] == totals.new_field == 3072
    for name in ("NewCount", "THPeligible", "KernelPageSize", "nonsense"):
        with pytest.raises(KeyError):
            totals[name]
    assert sum([totals, totals], totals) == totals + totals + totals
    assert sum([totals]) == totals
    assert (totals + table[2:].totals()).private_dirty is None
    change = table[:1].totals() - totals
    assert (change.rss, change.pss, change.size) == (-16384, -16384, -16384)
    assert change.new_field is None
    assert pickle.loads(pickle.dumps(totals)) == totals
    assert pickle.loads(pickle.dumps(change)) == change
    assert len({totals, table.totals()}) == 1
    with pytest.raises(AttributeError):
        totals.rss = 1
    assert totals.as_dict()["swap"] is None
    maps = fastsmaps.parse(b"1000-3000 r--p 0 0:0 0\n").totals()
    assert (maps.size, maps.rss, maps.source) == (8192, None, "maps")


def test_sums_beyond_64_bits(backend: ModuleType) -> None:
    record = b"0-ffffffffffffffff r--p 0 0:0 0\nRss: 18014398509481983 kB\nPss: 4294967295 kB\n"
    totals = fastsmaps.parse(record * 5).totals()
    assert totals.rss == 5 * (2**64 - 1024)
    assert totals.pss == 5 * (2**32 - 1) * 1024
    assert totals.size == 5 * (2**64 - 1)


def test_large_tables(backend: ModuleType) -> None:
    record = (DATA / "captures/7.2-amd64/zoo/smaps").read_bytes().split(b"\n", 1)[1][:620]
    record = record[: record.rindex(b"\n") + 1]
    text = b"".join(
        b"%x-%x rw-p 00000000 00:00 0 \n" % (i << 12, i + 1 << 12) + record for i in range(1, 65001)
    )
    table = fastsmaps.parse(text)
    assert len(table) == 65000
    first = table[0]
    assert first.rss is not None
    assert table.totals().rss == 65000 * first.rss
    assert table.find(60000 << 12) == table[59999]
    name = b"/" + b"x" * 100_000
    assert fastsmaps.parse(b"1000-2000 r--p 0 0:0 0 " + name)[0].raw_path == name


def test_what_may_be_parsed(backend: ModuleType) -> None:
    rows = list(fastsmaps.parse(TEXT))
    for data in (bytearray(TEXT), memoryview(TEXT), memoryview(b"x" + TEXT)[1:]):
        assert list(fastsmaps.parse(data)) == rows
    assert list(fastsmaps.parse(memoryview(TEXT[: len(TEXT) // 8 * 8]).cast("Q"))[:1]) == rows[:1]
    with pytest.raises(BufferError):
        fastsmaps.parse(memoryview(TEXT)[::2])
    for wrong in ("text", 5, None):
        with pytest.raises(TypeError):
            fastsmaps.parse(wrong)


def test_nothing_shown_acts_on_a_terminal(backend: ModuleType) -> None:
    mapping = fastsmaps.parse(b"1000-2000 r--p 0 0:0 5 /tmp/\x1b[31m\x07\xff\n")[0]
    assert repr(mapping).isprintable()
    assert mapping.raw_path == b"/tmp/\x1b[31m\x07\xff"
    assert os.fsencode(mapping.path) == mapping.raw_path


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Private_Clean", "private_clean"),
        ("SwapPss", "swap_pss"),
        ("KSM", "ksm"),
        ("THPeligible", "thp_eligible"),
        ("MMUPageSize", "mmu_page_size"),
        ("ShmemPmdMapped", "shmem_pmd_mapped"),
        ("AnonHugePages", "anon_huge_pages"),
        ("NewField", "new_field"),
        ("Huge(2M)", "huge_2_m_"),
    ],
)
def test_names(label: str, name: str) -> None:
    assert python_name(label) == name


@pytest.mark.parametrize(
    "error",
    [
        fastsmaps.ProcessGone("gone", pid=1, path="/proc/1"),
        fastsmaps.AccessDenied("denied", pid=1, path="/proc/1", errno=1),
        fastsmaps.ReadError("many", pid=1, path="/proc/1", errno=24),
        fastsmaps.NoMemoryMap("zombie", pid=1, path="/proc/1"),
        fastsmaps.ParseError("bad", offset=3, line_number=2, line=b"x", pid=1, path="/proc/1"),
    ],
)
def test_errors_pickle(error: fastsmaps.Error) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), copy.__dict__) == (str(error), error.__dict__)
    assert (copy.pid, copy.path) == (1, "/proc/1")
    if isinstance(error, fastsmaps.ReadError) and isinstance(copy, fastsmaps.ReadError):
        assert (copy.errno, copy.filename) == (error.errno, "/proc/1")


def in_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_backend_is_chosen_at_import(pytestconfig: pytest.Config) -> None:
    code = "import fastsmaps; print(fastsmaps.BACKEND)"
    assert in_python(code, FASTSMAPS_BACKEND="python").stdout == "python\n"
    assert "must be auto, c or python" in in_python(code, FASTSMAPS_BACKEND="1").stderr
    if not pytestconfig.getoption("--no-extension"):
        assert in_python(code, FASTSMAPS_BACKEND="c").stdout == "c\n"
        assert in_python(code, FASTSMAPS_BACKEND="auto").stdout == "c\n"
        light = (
            "import sys; before = set(sys.modules); import fastsmaps; heavy = {'typing', 're', "
            "'enum', 'dataclasses', 'pathlib', 'threading'}; "
            "print(sorted(heavy & (set(sys.modules) - before)))"
        )
        assert in_python(light, FASTSMAPS_BACKEND="c").stdout == "[]\n"
    missing = "import sys; sys.modules['fastsmaps._csmaps'] = None; import fastsmaps"
    assert in_python(missing, FASTSMAPS_BACKEND="c").returncode != 0
    other = "import sys; sys.platform = 'darwin'; import fastsmaps"
    assert "reads Linux's" in in_python(other).stderr
