"""Rows of the table: every kind of name, equality, repr."""

from __future__ import annotations

import copy
import itertools
import os
import pickle
from types import ModuleType

import pytest

import fastsmaps
from fastsmaps import Mapping, Mappings
from support.independent import DATA, kind_of
from support.smaps_texts import TEXT, header, kb, record

pytestmark = pytest.mark.core


def json_rows(text: bytes) -> list[Mapping]:
    return list(fastsmaps.parse(text))


KINDS = [
    # name, perms, kind without flags, deleted
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


INTERNAL = [
    # name, perms, device, kind, deleted
    (b"/drm mm object (deleted)", b"rw-s", b"00:05", "shmem", False),
    (b"/i915 (deleted)", b"r--s", b"00:01", "shmem", False),
    (b"/secretmem (deleted)", b"rw-s", b"00:0e", "shmem", False),
    (b"/[aio] (deleted)", b"rw-s", b"00:13", "shmem", False),
    (b"/x (deleted) (deleted)", b"rw-S", b"00:1", "shmem", False),
    # A program in the root of a container; a file on a device; one in a directory.
    (b"/app (deleted)", b"r-xp", b"00:2b", "file", True),
    (b"/x (deleted)", b"rw-s", b"fe:00", "file", True),
    (b"/x (deleted)", b"rw-s", b"100:0", "file", True),
    (b"/tmp/x (deleted)", b"rw-s", b"00:2b", "file", True),
    (b"/x", b"rw-s", b"00:2b", "file", False),
    (b"/x (deleted) ", b"rw-s", b"00:2b", "file", False),
    (b"x (deleted)", b"rw-s", b"00:2b", "file", True),
    (b"/dmabuf:x (deleted)", b"rw-s", b"00:2b", "device", False),
]


@pytest.mark.parametrize(("name", "perms", "dev", "kind", "deleted"), INTERNAL)
def test_objects_of_kernel_mounts_are_shmem(
    backend: ModuleType, name: bytes, perms: bytes, dev: bytes, kind: str, deleted: bool
) -> None:
    """They are mapped shared, with a name without directory and a made-up device number."""
    table = fastsmaps.parse(header(name=name, perms=perms, dev=dev))
    assert (table[0].kind, table[0].deleted) == (kind, deleted)
    assert list(table.group_by("kind")) == [kind]
    assert kind_of(name, perms.decode().lower(), [], dev.decode()) == kind


def test_kind_depends_on_each_rows_device(backend: ModuleType) -> None:
    """One name may be the kernel's object in one row and a file in another."""
    rows = [(perms, dev) for perms in (b"rw-p", b"rw-s") for dev in (b"fe:00", b"00:05")]
    text = b"".join(
        header(i << 12, i + 1 << 12, b"/i915 (deleted)", perms=perms, dev=dev)
        for i, (perms, dev) in enumerate(rows, 1)
    )
    table = fastsmaps.parse(text)
    assert [(m.kind, m.deleted) for m in table] == [("file", True)] * 3 + [("shmem", False)]
    assert {kind: group.count for kind, group in table.group_by("kind").items()} == {
        "file": 3, "shmem": 1,
    }  # fmt: skip
    assert list(table[3:].group_by("kind")) == ["shmem"]
    old = fastsmaps.parse(b"".join(text.splitlines(True)[:3]))
    assert [(change.key, change.size) for change in fastsmaps.diff(old, table, "kind")] == [
        ("shmem", 4096)
    ]


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
def test_filename_undoes_the_kernels_escape(
    backend: ModuleType, name: bytes, filename: str
) -> None:
    mapping = fastsmaps.parse(header(name=name))[0]
    assert mapping.filename == filename
    assert mapping.raw_path == name
    assert os.fsencode(mapping.path) == name


@pytest.mark.parametrize("dev", ["00:00", "fd:01", "103:00002", "fff:fffff"])
def test_st_dev_equals_makedev(backend: ModuleType, dev: str) -> None:
    mapping = fastsmaps.parse(header(dev=dev.encode()))[0]
    assert mapping.dev == dev
    major, minor = (int(part, 16) for part in dev.split(":"))
    assert (os.major(mapping.st_dev), os.minor(mapping.st_dev)) == (major, minor)
    if major < 2**31:
        assert mapping.st_dev == os.makedev(major, minor)


@pytest.mark.parametrize("perms", ["".join(p) for p in itertools.product("r-", "w-", "x-", "ps")])
def test_permissions_stay_as_printed(backend: ModuleType, perms: str) -> None:
    assert fastsmaps.parse(header(perms=perms.encode()))[0].perms == perms


def test_capital_s_is_shared(backend: ModuleType) -> None:
    # fs/proc/task_nommu.c prints it for memory mapped MAP_SHARED.
    text = (
        header(0x80400000, 0x8040A000)
        + header(0x80410000, 0x80418000, b"/dev/zero (deleted)", perms=b"rw-S", inode=3)
        + header(0x80420000, 0x8042F000, b"/bin/busybox", perms=b"r-xs", inode=17)
        + header(0x80430000, 0x80431000, b"/dev/zero", perms=b"---S")
    )
    table = fastsmaps.parse(text)
    assert [m.perms for m in table] == ["rw-p", "rw-s", "r-xs", "---s"]
    assert [m.kind for m in table] == ["anon", "shmem", "file", "shmem"]
    assert table.column("inode").tolist() == [0, 3, 17, 0]
    assert {kind: group.count for kind, group in table.group_by("kind").items()} == {
        "shmem": 2, "file": 1, "anon": 1,
    }  # fmt: skip


def test_a_dash_for_sharing_is_not_shared(backend: ModuleType) -> None:
    # Early WSL1 prints "-" where p or s belongs.
    table = fastsmaps.parse(
        header(name=b"/usr/bin/node", perms=b"r-x-") + header(name=b"/dev/zero", perms=b"rw--")
    )
    assert [m.perms for m in table] == ["r-x-", "rw--"]
    assert [m.kind for m in table] == ["file", "anon"]
    assert list(table.group_by("kind")) == ["file", "anon"]


def test_missing_and_empty_flags_differ(backend: ModuleType) -> None:
    text = b"".join(record(flags=flags) for flags in (b"", b"rd", b"rd wr ?? ", b" rd  zz"))
    flags = [mapping.vm_flags for mapping in fastsmaps.parse(text + header())]
    assert flags == [(), ("rd",), ("rd", "wr", "??"), ("rd", "zz"), None]


def test_androids_name_line_names_an_unnamed_mapping(backend: ModuleType) -> None:
    name = b"Name:           [anon:x y]\n"
    unnamed, named, empty = json_rows(header() + name + header(name=b"/a") + name + header())
    assert (unnamed.path, unnamed.kind, unnamed.extra) == ("[anon:x y]", "anon_named", {})
    assert (named.path, named.kind, named.extra) == ("/a", "file", {"Name": "[anon:x y]"})
    assert (empty.path, empty.kind, empty.extra) == ("", "anon", {})


def test_equal_rows_are_equal_and_hash_alike(backend: ModuleType) -> None:
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


def tables_to_pickle(table: Mappings) -> list[Mappings]:
    """Return the whole table, slices, and filtered and sorted tables."""
    return [
        table, table[1:], table[:2], table[::-1], table[:0],
        table.filter(lambda row: row.kind == "file"), table.filter(lambda row: not row.swap),
        table.sort("rss"), table.top(2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT + b"New: a b\n" + header(0x1000, 0x2000) + b"Next: 3 kB\nVmFlags: \n",
        kb("Rss", 1).join([header(0x1000, 0x9000, b"[rollup]", perms=b"---p"), b""]) * 2 + TEXT,
        b"",
    ],
)
def test_tables_pickle_from_either_backend(
    twins: tuple[ModuleType, ModuleType], text: bytes
) -> None:
    for twin in twins:
        for table in tables_to_pickle(Mappings(twin.parse(text), pid=7, procfs="/p", taken_at=1.5)):
            table.skipped = {"prompt": 2}
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
                data = pickle.dumps(table, protocol)
                assert b"fastsmaps._" not in data
                same = pickle.loads(data)
                check_same(table, same)
                check_same(table, pickle.loads(pickle.dumps(same, protocol)))
            check_same(table, copy.deepcopy(table))


def check_same(table: Mappings, same: Mappings) -> None:
    assert list(same) == list(table)
    assert same.to_dicts() == table.to_dicts()
    assert (same.pid, same.procfs, same.taken_at) == (7, "/p", 1.5)
    assert (same.skipped, same.skipped_lines, repr(same)) == ({"prompt": 2}, 2, repr(table))
    assert (same.fields, same.overlaps) == (table.fields, table.overlaps)
    assert same.totals() == table.totals()
    assert same.totals().source == table.totals().source
    for name in ("start", "size", "uss", "rss", "locked", *table.fields):
        assert same.column(name).tolist() == table.column(name).tolist()
        assert same.absent(name) == table.absent(name)
    groups, others = table.group_by("kind"), same.group_by("kind")
    assert [*groups] == [*others]
    assert [group.totals for group in groups.values()] == [g.totals for g in others.values()]
    assert [same.find(row.start) for row in table] == [table.find(row.start) for row in table]
    assert list(same[::-1]) == list(table[::-1])


def test_a_pickled_table_is_compact() -> None:
    path = DATA / "captures/6.12-amd64/zoo/smaps"
    table = fastsmaps.load(path)
    assert len(pickle.dumps(table)) < path.stat().st_size / 4
    assert len(pickle.dumps(table[:1])) < 1200  # without the names of other rows


def test_rows_of_both_backends_are_equal(twins: tuple[ModuleType, ModuleType]) -> None:
    text = (DATA / "captures/6.12-amd64/zoo/smaps").read_bytes()
    c, python = (list(Mappings(twin.parse(text))) for twin in twins)
    assert c == python
    assert list(map(hash, c)) == list(map(hash, python))


def test_equal_rows_of_different_tables_are_equal(backend: ModuleType) -> None:
    # The order of columns, and columns that are None in a row, belong to the table.
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
def test_rows_that_differ_in_one_value_are_unequal(backend: ModuleType, changed: bytes) -> None:
    text = record(0x10000, 0x12000, b"/lib/a", perms=b"r-xp", flags=b"rd ", Rss=8)
    assert fastsmaps.parse(text)[0] != fastsmaps.parse(changed)[0]


def test_rows_are_immutable(backend: ModuleType) -> None:
    row = fastsmaps.parse(TEXT + b"New: a b\n")[4]
    for name in ("start", "rss", "kind", "path", "extra", "new_attribute"):
        with pytest.raises(AttributeError, match="immutable"):
            setattr(row, name, 1)
        with pytest.raises(AttributeError, match="immutable"):
            delattr(row, name)
    row.extra["New"] = "another"
    assert row.extra == {"New": "a b"}


def test_a_colliding_field_keeps_the_kernels_spelling(backend: ModuleType) -> None:
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


def test_as_dict_has_every_value(backend: ModuleType) -> None:
    row = fastsmaps.parse(record(name=b"/a", flags=b"rd ", Size=8, Rss=4) + b"New: 7\n")[0]
    assert row.as_dict() == {
        "start": 0x10000, "end": 0x11000, "size": 4096, "perms": "rw-p", "offset": 0,
        "dev": "00:00", "inode": 0, "path": "/a", "kind": "file", "deleted": False,
        "vm_flags": ("rd",), "size_printed": 8192, "rss": 4096, "New": 7, "extra": {},
    }  # fmt: skip


def test_repr_escapes_the_path(backend: ModuleType) -> None:
    row = fastsmaps.parse(header(name=b"/\x1b[2J\x00\r\xff\xc2\x9b31m"))[0]
    assert repr(row).isprintable()
    assert "00010000-00011000 rw-p file" in repr(row)
    for hidden in ("\x1b", "\x9b", "\r", "\x00"):
        assert hidden in row.path
        assert hidden not in repr(row)
    assert repr(fastsmaps.parse(header())[0]) == (
        "<Mapping 00010000-00011000 rw-p anon size=4 KiB>"
    )


def test_a_row_follows_the_mapping_protocol(backend: ModuleType) -> None:
    for row in fastsmaps.parse(TEXT):
        values = row.as_dict()
        assert dict(row) == {**row} == dict(row.items()) == values
        assert list(row) == list(row.keys()) == list(values)
        assert len(row) == len(values)
        for name in (*values, "Pss", "uss", "rss_swap", "locked", "Size", "size_printed"):
            assert name in row
            assert row.get(name, 7) == row[name]
        for unknown in ("psss", "st_dev", "", None):
            assert unknown not in row
        with pytest.raises(KeyError, match="no field 'psss'"):
            row["psss"]


def test_as_dict_equals_attributes_of_every_saved_text(backend: ModuleType) -> None:
    """The texts of a row are kept from row to row: no row may show another's."""
    texts = sorted(DATA.glob("*/*/**/smaps*")) + sorted(DATA.glob("*/*/**/maps"))
    files = [path for path in texts if path.suffix != ".tsv"]
    assert len(files) > 40
    for path in files:
        table = fastsmaps.load(path)
        names = ("start", "end", "size", "perms", "offset", "dev", "inode", "path", "kind",
                 "deleted", "vm_flags", "extra")  # fmt: skip
        for mapping, values in zip(table, table.to_dicts(), strict=True):
            assert {name: values[name] for name in names} == {
                name: getattr(mapping, name) for name in names
            }
            fields = {name: values[name] for name in values if name not in names}
            assert fields == {name: mapping[name] for name in fields}
            assert list(values)[:11] == list(names)[:11]
            assert list(values)[-1] == "extra"


@pytest.mark.thread_unsafe(reason="iterates over texts that all threads keep")
def test_kept_texts_are_bounded(backend: ModuleType) -> None:
    from fastsmaps._model import mapping

    text = b"".join(record(name=b"/%d" % i) for i in range(3000))
    assert [row["path"] for row in fastsmaps.parse(text).to_dicts()] == [
        f"/{i}" for i in range(3000)
    ]
    assert len(mapping._texts) <= mapping._MAX_TEXTS
    (row,) = fastsmaps.parse(record(name=b"/" + b"x" * 100_000)).to_dicts()
    assert len(row["path"]) == 100_001
    assert max(len(name) for name, *_ in mapping._texts) <= mapping._MAX_TEXT
