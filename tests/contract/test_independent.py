"""The corpus of tests/data and the slow reader that made its tables, checked by hand.

Whatever is typed out below was read off the texts by eye, never taken from the reader.
"""

from pathlib import Path

import pytest

from support.independent import (
    DATA,
    Record,
    kind_of,
    read,
    read_table,
    table_path,
    texts,
    write_table,
)

pytestmark = pytest.mark.core

KIB, MIB, GIB, TIB = 2**10, 2**20, 2**30, 2**40
ROLLUP_ONLY = {"Pss_Anon", "Pss_File", "Pss_Shmem"}


def name_of(path: Path) -> str:
    return str(path.relative_to(DATA))


def records(text: str) -> list[Record]:
    return read((DATA / text).read_bytes())


def record_at(text: str, start: int) -> Record:
    (record,) = (r for r in records(text) if r.start == start)
    return record


def names(text: str) -> list[bytes]:
    return [r.name for r in records(text)]


@pytest.mark.parametrize("text", texts(), ids=name_of)
def test_stored_tables_equal_the_readers(text: Path) -> None:
    read_now = read(text.read_bytes())
    if text.parent.name == "child":
        assert not table_path(text).exists()
    else:
        stored = table_path(text).read_text(encoding="ascii")
        assert stored == write_table(read_now)
        assert read_table(stored) == read_now


def test_every_stored_table_has_its_text() -> None:
    tables = set(DATA.rglob("*.tsv"))
    assert tables == {table_path(p) for p in texts() if p.parent.name != "child"}


def test_every_kernel_has_every_file() -> None:
    kernels = [p for p in (DATA / "captures").iterdir() if p.is_dir()]
    assert len(kernels) == 11
    for kernel in kernels:
        for process in ("zoo", "child"):
            held = {p.name for p in (kernel / process).iterdir() if p.suffix != ".tsv"}
            assert held == {"maps", "smaps", "smaps_rollup", "stat", "statm", "status"}
        for process in ("kthread", "zombie"):
            assert (kernel / process / "smaps").read_bytes() == b""
            assert (kernel / process / "stat").read_bytes()


@pytest.mark.parametrize("rollup", sorted(DATA.glob("captures/*/*/smaps_rollup")), ids=name_of)
def test_rollup_smaps_and_maps_agree(rollup: Path) -> None:
    # The processes were stopped, so the three files, from three walks, must agree.
    smaps = read(rollup.with_name("smaps").read_bytes())
    maps = read(rollup.with_name("maps").read_bytes())
    assert [(r.start, r.end, r.perms, r.offset, r.dev, r.inode, r.name) for r in smaps] == [
        (r.start, r.end, r.perms, r.offset, r.dev, r.inode, r.name) for r in maps
    ]
    (whole,) = read(rollup.read_bytes())
    # The page that arm kernels map into every process is listed, but not the process's own.
    last = [r for r in smaps if r.name != b"[vectors]"][-1]
    assert (whole.start, whole.end) == (smaps[0].start, last.end)
    for label in whole.fields.keys() - ROLLUP_ONLY:
        assert whole.fields[label] == sum(r.fields[label] for r in smaps), label


def test_amd64_escapes_a_newline_in_a_name() -> None:
    (record,) = (r for r in records("captures/7.2-amd64/zoo/smaps") if b"new" in r.name)
    assert record == Record(
        start=0x7F96A8752000,
        end=0x7F96A8756000,
        perms="rw-p",
        offset=0,
        dev="00:19",
        inode=6,
        name=b"/tmp/new\\012line\\012 file\\012",
        kind="file",
        deleted=False,
        vm_flags=["rd", "wr", "mr", "mw", "me", "ac", "sd"],
        extra={},
        fields={
            "Size": 16 * KIB,
            "KernelPageSize": 4 * KIB,
            "MMUPageSize": 4 * KIB,
            "Rss": 8 * KIB,
            "Pss": 4 * KIB,
            "Pss_Dirty": 4 * KIB,
            "Shared_Clean": 0,
            "Shared_Dirty": 8 * KIB,
            "Private_Clean": 0,
            "Private_Dirty": 0,
            "Referenced": 8 * KIB,
            "Anonymous": 8 * KIB,
            "KSM": 0,
            "LazyFree": 0,
            "AnonHugePages": 0,
            "ShmemPmdMapped": 0,
            "FilePmdMapped": 0,
            "Shared_Hugetlb": 0,
            "Private_Hugetlb": 0,
            "Swap": 0,
            "SwapPss": 0,
            "Locked": 0,
            "THPeligible": 0,
            "ProtectionKey": 0,
        },
    )


def test_captured_names_are_exact() -> None:
    found = names("captures/5.10-amd64/zoo/smaps")
    assert b"/tmp/with space  and\ttab" in found
    assert b"/tmp/\xed\x95\x9c\xea\xb8\x80-\xff\xfe-bytes" in found
    assert b"/tmp/Rss:                  12 kB" in found
    assert b"/tmp/x\\01200400000-0040b000 r-xp 00000000 00:00 0 fake" in found
    assert b"/tmp/" + b"L" * 250 in found
    assert found.count(b"[heap]") == 3
    deep = b"/tmp/" + b"/".join(bytes([c]) * 240 for c in b"abcdefghijklmno") + b"/deep"
    assert deep in found
    by_name = {r.name: r for r in records("captures/5.10-amd64/zoo/smaps")}
    assert by_name[b"/tmp/[heap]"].kind == "file"
    assert by_name[b"/tmp/gone (deleted)"].deleted
    # A file of that name: the text cannot show the difference.
    assert by_name[b"/tmp/really (deleted)"].deleted
    assert not by_name[b"/memfd:zoo memfd (deleted)"].deleted


def test_arm64_has_16_kib_pages() -> None:
    record = record_at("captures/6.12-arm64-16k/zoo/smaps", 0x7FFFAB9F8000)
    assert record.name == b"/SYSV00001234 (deleted)"
    assert (record.dev, record.inode, record.kind, record.deleted) == ("00:01", 0, "shmem", False)
    assert record.fields["MMUPageSize"] == 16 * KIB
    assert record.fields["Rss"] == record.fields["Private_Dirty"] == 48 * KIB
    assert "ProtectionKey" not in record.fields


def test_s390x_has_a_reservation_of_16_tib() -> None:
    record = record_at("captures/6.1-s390x/zoo/smaps", 0x3FFCD6BE000)
    assert record.end == 0x13FFCD6BE000
    assert record.fields["Size"] == 16 * TIB
    assert (record.perms, record.name, record.kind) == ("---p", b"", "anon")
    assert record.vm_flags is not None
    assert "nr" in record.vm_flags


def test_hugetlb_is_in_no_rss() -> None:
    record = record_at("captures/7.2-amd64/zoo/smaps", 0x7F96A7800000)
    assert (record.kind, record.deleted, record.inode) == ("hugetlb", False, 402)
    assert (record.fields["Rss"], record.fields["Shared_Hugetlb"]) == (0, 2 * MIB)
    assert record.fields["KernelPageSize"] == 2 * MIB


def test_ppc64el_rollup_is_exact() -> None:
    (record,) = records("captures/6.12-ppc64el-64k/zoo/smaps_rollup")
    assert (record.start, record.end, record.perms) == (0x10000000, 0x7FFFFC030000, "---p")
    assert (record.name, record.kind, record.vm_flags) == (b"[rollup]", "special", None)
    assert record.fields["Rss"] == 29568 * KIB
    assert record.fields["Pss_File"] == 21 * KIB
    assert record.fields["KSM"] == 4096 * KIB
    assert len(record.fields) == 22
    assert "Size" not in record.fields


def test_linux_2_6_14_has_six_fields() -> None:
    *_, libc, stack, vdso = records("handmade/2.6.14/smaps")
    assert (libc.fields["Size"], libc.fields["Shared_Clean"]) == (1152 * KIB, 344 * KIB)
    assert (stack.offset, stack.start) == (0xBFC8F000, 0xBFC8F000)
    assert (vdso.end, vdso.vm_flags, len(vdso.fields)) == (0xFFFFF000, None, 6)


def test_guard_page_is_only_in_size() -> None:
    (stack,) = (r for r in records("handmade/2.6.36-guard-page/smaps") if r.kind == "stack")
    assert (stack.end - stack.start, stack.fields["Size"]) == (84 * KIB, 88 * KIB)


def test_fields_of_some_records_are_absent_in_others() -> None:
    nonlinear = [r.fields.get("Nonlinear") for r in records("handmade/3.6-nonlinear/smaps")]
    assert nonlinear == [None, 64 * KIB, None, 0, None]
    keys = [r.fields["ProtectionKey"] for r in records("handmade/4.6-protection-key/smaps")]
    assert keys == [0, 1, 15, 0]
    mixed = records("handmade/mixed-fields/smaps")
    assert [len(r.fields) for r in mixed] == [23, 6, 0, 0, 4, 17, 21, 23]
    assert mixed[4].fields["Swap"] == 8 * KIB


@pytest.mark.parametrize("text", ["5.0-thp-eligible", "5.3-tab", "5.4-file-pmd-mapped"])
def test_thp_eligible_in_every_spelling(text: str) -> None:
    found = [r.fields["THPeligible"] for r in records(f"handmade/{text}/smaps")]
    assert sum(found) == 1
    assert set(found) == {0, 1}


def test_vendors_fields_are_kept() -> None:
    samsung = records("handmade/samsung/smaps")[0].fields
    added = [samsung[k] for k in ("Writeback", "WritebackHuge", "Same", "Huge", "SwapShared")]
    assert added == [512 * KIB, 128 * KIB, 64 * KIB, 32 * KIB, 2048 * KIB]
    assert names("handmade/android-4-name-last/smaps") == [
        b"[anon:dalvik-heap]",
        b"/system/lib/libm.so",
        b"[anon:libc_malloc]",
        b"",
        b"[anon:thread signal stack]",
        b"[stack]",
    ]
    first, *_ = records("handmade/android-10-name-first/smaps")
    assert first.name == b"[anon:dalvik-main space (region space)]"
    assert (first.extra, first.kind) == ({}, "anon_named")


def test_emulated_procfs_are_read() -> None:
    qemu = records("handmade/qemu-user/smaps")
    assert [(r.name, r.vm_flags) for r in qemu[3:5]] == [(b"", ["rd", "wr"]), (b"", [])]
    assert qemu[5].fields["Size"] == 8 * MIB
    assert records("handmade/qemu-user-16-digits/smaps")[0].start == 0x400000
    gvisor = records("handmade/gvisor/smaps")
    assert gvisor[2].vm_flags == ["rd", "wr", "mr", "mw", "me", "lo", "??", "ac"]
    assert (gvisor[-1].start, gvisor[-1].end) == (2**64 - 0xA00000, 2**64 - 0x9FF000)


def test_wide_numbers_are_exact() -> None:
    arm = records("handmade/arm64-16-tib/smaps")
    assert [r.fields["Size"] for r in arm[1:4]] == [16 * TIB, 256 * GIB, 128 * GIB]
    assert arm[3].fields["Private_Hugetlb"] == 128 * GIB
    devices = [(r.offset, r.dev, r.inode, r.name) for r in records("handmade/devices/smaps")]
    assert devices == [
        (0x2000, "103:02", 1572890, b"/usr/bin/true"),
        (0, "00:1a2b4", 257, b"/srv/btrfs/subvolume/file"),
        (0, "fff:fffff", 2**32 + 1, b"/mnt/largest device"),
        (0xFFFFFF0000, "00:31", 2**63 + 1, b"/mnt/overlay/xino"),
        (2**63 - 4096, "103:0c", 2**64 - 2, b"/mnt/far/end"),
        (2**64 - 4096, "fff:fffff", 2**64 - 2, b""),
    ]
    assert names("handmade/devices-32-bit/maps")[1:3] == [b"/data/largest", b"/data/x y"]


def test_names_keep_every_byte() -> None:
    assert names("handmade/names-odd-ends/smaps") == [
        b"/srv/carriage return\r",
        b"/srv/one space ",
        b"/srv/three spaces   ",
        b"/srv/tab\t",
        b"/srv/both \r\r",
        b"",
        b"/srv/\x1b[31m\x7f\xff\xed\xa0\x80 (deleted)",
    ]
    assert [len(n) for n in names("handmade/names-long/smaps")] == [11, 6444, 10]


def test_kinds_of_named_mappings() -> None:
    def kinds(text: str) -> list[str]:
        return [r.kind for r in records(f"handmade/{text}/smaps")]

    assert kinds("names-anonymous") == ["anon_named"] * 4 + ["anon"] * 3 + ["anon_named"]
    assert kinds("names-shared") == ["shmem"] * 7 + ["hugetlb"]
    assert kinds("names-devices") == ["device"] * 6 + ["shmem", "device"]
    assert kinds("names-lookalikes") == ["file"] * 3 + ["device"] * 2 + ["file"] * 3
    assert kinds("names-special") == ["special"] * 7
    assert kinds("3.10-stack-tid") == ["file", "anon", "stack", "anon", "stack", "stack"]


def test_deleted_is_for_files_only() -> None:
    everything = [r for t in texts() if t.name == "smaps" for r in read(t.read_bytes())]
    assert {r.name for r in everything if r.deleted} == {
        b"/tmp/gone (deleted)",
        b"/tmp/really (deleted)",
        b"/devel/shm/x (deleted)",
        b"/tmp/a\\012b\\x41\\ (deleted) (deleted)",
        b"/srv/\x1b[31m\x7f\xff\xed\xa0\x80 (deleted)",
    }


def test_flags_keep_unknown_codes() -> None:
    found = [r.vm_flags for r in records("handmade/flags/smaps")]
    assert found[0] == []
    assert found[1] == ["rd", "wr", "mr", "mw", "me", "??", "ac", "??"]
    assert found[-1] == ["ex"]
    assert all(r.vm_flags is None for r in records("handmade/flags/maps"))
    # Only its flags identify a file of hugetlbfs, and maps has none.
    in_smaps, in_maps = (records(f"handmade/flags/{text}")[4] for text in ("smaps", "maps"))
    assert (in_smaps.kind, in_smaps.deleted) == ("hugetlb", False)
    assert (in_maps.kind, in_maps.deleted) == ("file", True)


def test_unknown_fields_are_kept() -> None:
    found = records("handmade/future/smaps")
    assert [r.fields["NewSize"] for r in found] == [12 * KIB, 0, 4 * KIB, 0]
    assert [r.fields["NewCount"] for r in found] == [7, 0, 2**32, 1]
    texts_found = [r.extra.get("NewText") for r in found]
    assert texts_found == ["hello world", "7 of 12 kB", None, "-"]


def test_empty_ranges_are_kept() -> None:
    heap = records("handmade/zero-length/smaps")[1]
    assert (heap.start, heap.end, heap.fields["Size"]) == (0x1B2C000, 0x1B2C000, 0)
    (empty,) = records("handmade/empty-address-space/smaps_rollup")
    assert (empty.start, empty.end, set(empty.fields.values())) == (0, 0, {0})
    _, second, third, _ = records("handmade/torn-read/smaps")
    assert second.start == third.start
    assert second.end < third.end


@pytest.mark.parametrize(
    ("name", "perms", "flags", "kind"),
    [
        (b"/any/file", "rw-p", ["ht"], "hugetlb"),
        (b"", "rw-p", ["rd", "ht"], "hugetlb"),
        (b"/anon_hugepage (deleted)", "rw-p", [], "hugetlb"),
        (b"/anon_hugepages", "rw-p", [], "file"),
        (b"[heap]", "rw-p", [], "heap"),
        (b"[heap] (deleted)", "rw-p", [], "file"),
        (b"[stack:1]", "rw-p", [], "stack"),
        (b"[stack:1", "rw-p", [], "file"),
        (b"[stacked]", "rw-p", [], "special"),
        (b"[anon]", "rw-p", [], "special"),
        (b"[anon_shmem]", "rw-s", [], "special"),
        (b"/dev/zero", "rw-s", [], "shmem"),
        (b"/dev/zero", "rw-p", [], "anon"),
        (b"/dev/zero (deleted) ", "rw-s", [], "device"),
        (b"/dev/shm", "rw-s", [], "device"),
        (b"/dev", "rw-s", [], "file"),
        (b"/dmabuf", "rw-s", [], "file"),
        (b"socket:[1]", "rw-s", [], "device"),
    ],
)
def test_kind_follows_the_rules(name: bytes, perms: str, flags: list[str], kind: str) -> None:
    assert kind_of(name, perms, flags) == kind


@pytest.mark.parametrize(
    "name", [b"", b"-", b"--", b"\\", b"\\x2d", b" x ", b"\t\r\n\0\x7f\x80\xff", b"\\N{DASH}"]
)
def test_a_table_keeps_any_name(name: bytes) -> None:
    record = Record(0, 1, "r--p", 0, "00:00", 0, name, extra={"A": "t\tb\udcff", "B": ""})
    assert read_table(write_table([record])) == [record]


@pytest.mark.parametrize(
    "text",
    [
        b"not a header\n",
        b"00400000-00401000 r-xp 00000000 00:00\n",
        b"00400000-00401000 r-xp 00000000 00:00 0 \nRss: 4 kB\nRss: 4 kB\n",
        b"00400000-00401000 r-xp 00000000 00:00 0 \n\n",
    ],
)
def test_nonsense_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"neither header nor field|twice in one record"):
        read(text)
