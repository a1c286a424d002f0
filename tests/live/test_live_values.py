"""Values of an idle process, compared with other readers: awk, psutil, pmap, stat()."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

import fastsmaps
from support import independent, linux, processes

pytestmark = pytest.mark.usefixtures("no_leak")

# Prints the number of records, then the sum of each field with a size over all records.
AWK = r"""
/^[0-9a-f]+-[0-9a-f]+ [r-][w-][x-][sp] / { records++; next }
$3 == "kB" { sum[$1] += $2 }
END { printf "%d\n", records; for (label in sum) printf "%s %.0f\n", label, sum[label] }
"""
# The kernel truncates these to kB per record, so a rollup can exceed the sum of its smaps.
TRUNCATED = {"Pss", "Pss_Dirty", "SwapPss", "Locked"}
NOT_SUMMED = {"KernelPageSize", "MMUPageSize"}


def awk_sums(text: bytes) -> tuple[int, dict[str, int]]:
    awk = shutil.which("awk")
    if awk is None:
        pytest.skip("no awk")
    done = subprocess.run([awk, AWK], input=text, capture_output=True, check=True)
    count, *lines = done.stdout.decode().splitlines()
    sums = {label[:-1]: int(value) * 1024 for label, value in map(str.split, lines)}
    return int(count), sums


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[processes.Process]:
    directory = tmp_path_factory.mktemp("zoo")
    with processes.workload("zoo", str(directory)) as process:
        yield process


def smaps_of(process: processes.Process) -> str:
    return f"/proc/{process.pid}/smaps"


def rollup_of(process: processes.Process) -> str:
    if not os.path.exists(f"/proc/{process.pid}/smaps_rollup"):
        pytest.skip("a kernel before 4.14 has no smaps_rollup")
    return f"/proc/{process.pid}/smaps_rollup"


def expected_mapping(process: processes.Process, name: str) -> dict[str, Any]:
    expected: dict[str, Any] = process.report["mappings"][name]
    if "unavailable" in expected:
        pytest.skip(expected["unavailable"])
    return expected


def mapping_of(process: processes.Process, name: str) -> fastsmaps.Mapping:
    expected = expected_mapping(process, name)
    mapping = fastsmaps.mappings(process.pid).find(expected["start"])
    assert mapping is not None
    assert mapping.end >= expected["start"] + expected["size"]
    return mapping


# ---- the whole table


def test_rows_match_independent_parser(zoo: processes.Process, backend: ModuleType) -> None:
    for attempt in processes.attempts(lambda: fastsmaps.mappings(zoo.pid), smaps_of(zoo)):
        with attempt as (table, (text,)):
            records = independent.read(text)
            assert len(table) == len(records) > 60
            for row, record in zip(table, records, strict=True):
                assert (row.start, row.end, row.perms) == (record.start, record.end, record.perms)
                assert (row.offset, row.dev, row.inode) == (record.offset, record.dev, record.inode)
                assert (row.raw_path, row.kind) == (record.name, record.kind)
                assert row.deleted == record.deleted
                assert row.vm_flags == (None if record.vm_flags is None else tuple(record.vm_flags))
                assert row.extra == record.extra
                for label, value in record.fields.items():
                    assert (row.size_printed if label == "Size" else row[label]) == value


def test_columns_match_independent_parser(zoo: processes.Process, backend: ModuleType) -> None:
    for attempt in processes.attempts(lambda: fastsmaps.mappings(zoo.pid), smaps_of(zoo)):
        with attempt as (table, (text,)):
            records = independent.read(text)
            assert table.column("start").tolist() == [record.start for record in records]
            assert table.column("end").tolist() == [record.end for record in records]
            labels = {label for record in records for label in record.fields}
            assert len(labels) >= 20
            for label in labels:
                expected = [record.fields.get(label, fastsmaps.ABSENT) for record in records]
                assert table.column(label).tolist() == expected
            assert not table.overlaps


def test_sums_match_awk(zoo: processes.Process, backend: ModuleType) -> None:
    for attempt in processes.attempts(lambda: fastsmaps.mappings(zoo.pid), smaps_of(zoo)):
        with attempt as (table, (text,)):
            count, sums = awk_sums(text)
            assert count == len(table)
            totals = table.totals()
            assert totals.source == "smaps"
            assert sums["Size"] == totals.size == sum(row.end - row.start for row in table)
            for label in sums.keys() - NOT_SUMMED - {"Size"}:
                assert sums[label] == totals[label] == sum(row[label] or 0 for row in table)


def test_totals_match_rollup_by_awk(zoo: processes.Process, backend: ModuleType) -> None:
    for attempt in processes.attempts(lambda: fastsmaps.totals(zoo.pid), rollup_of(zoo)):
        with attempt as (totals, (text,)):
            count, sums = awk_sums(text)
            assert count == 1
            assert (totals.source, totals.size) == ("smaps_rollup", None)
            assert sums["Rss"] > 0
            assert {label: totals[label] for label in sums} == sums
            printed = {name for name, value in totals.as_dict().items() if value is not None}
            assert len(printed) == len(sums) + 2  # uss and rss_swap
            assert totals.uss == sums["Private_Clean"] + sums["Private_Dirty"]
    with fastsmaps.Process(zoo.pid) as process:
        for _ in range(3):  # the kept descriptor too
            assert process.totals().rss == totals.rss


def test_smaps_and_rollup_agree(zoo: processes.Process, backend: ModuleType) -> None:
    for attempt in processes.attempts(
        lambda: (fastsmaps.mappings(zoo.pid), fastsmaps.totals(zoo.pid)),
        smaps_of(zoo),
        rollup_of(zoo),
    ):
        with attempt as ((table, rollup), _):
            summed = table.totals()
            assert summed.rss
            assert summed.private_dirty
            for label in summed.by_label:
                by_smaps, by_rollup = summed[label], rollup[label]
                if label == "Size":
                    continue
                assert by_smaps is not None
                assert by_rollup is not None
                if label in TRUNCATED:
                    assert 0 <= by_rollup - by_smaps < 1024 * len(table), label
                else:
                    assert by_smaps == by_rollup, label


def test_maps_match_smaps_headers(zoo: processes.Process, backend: ModuleType) -> None:
    with fastsmaps.Process(zoo.pid) as process:
        for read in (lambda **options: fastsmaps.mappings(zoo.pid, **options), process.mappings):
            smaps, maps = read(), read(sizes=False)
            assert maps.fields == ()
            assert len(maps) == len(smaps)
            for row, expected in zip(maps, smaps, strict=True):
                assert row.rss is None
                assert row.vm_flags is None
                for name in (
                    "start", "end", "perms", "offset", "dev", "inode", "raw_path", "kind",
                ):  # fmt: skip
                    assert getattr(row, name) == getattr(expected, name)
    assert maps.totals().source == "maps"
    assert maps.totals().size == smaps.totals().size


def test_totals_match_psutil(zoo: processes.Process, backend: ModuleType) -> None:
    peer = psutil.Process(zoo.pid)
    for attempt in processes.attempts(
        lambda: (fastsmaps.totals(zoo.pid), peer.memory_full_info()), rollup_of(zoo)
    ):
        with attempt as ((totals, info), _):
            assert totals.private_hugetlb in (0, None)  # psutil counts it in uss
            assert (totals.pss, totals.uss, totals.swap) == (info.pss, info.uss, info.swap)


def test_mappings_match_psutil(zoo: processes.Process, backend: ModuleType) -> None:
    peer = psutil.Process(zoo.pid)
    for attempt in processes.attempts(
        lambda: (fastsmaps.mappings(zoo.pid), peer.memory_maps(grouped=False)), smaps_of(zoo)
    ):
        with attempt as ((table, rows), _):
            assert len(rows) == len(table)
            for mapping, row in zip(table, rows, strict=True):
                assert row.addr == f"{mapping.start:08x}-{mapping.end:08x}"
                assert row.perms == mapping.perms
                for name in (
                    "rss", "pss", "shared_clean", "shared_dirty", "private_clean", "private_dirty",
                    "referenced", "anonymous", "swap",
                ):  # fmt: skip
                    assert getattr(row, name) == mapping[name]


def test_mappings_match_pmap(zoo: processes.Process, backend: ModuleType) -> None:
    pmap = shutil.which("pmap")
    if pmap is None:
        pytest.skip("no pmap")
    for attempt in processes.attempts(
        lambda: (
            fastsmaps.mappings(zoo.pid),
            subprocess.run(
                [pmap, "-X", str(zoo.pid)], capture_output=True, env={"LC_ALL": "C"}, check=True
            ).stdout,
        ),
        smaps_of(zoo),
        labels=("Rss", "Anonymous", "Swap"),
    ):
        with attempt as ((table, text), _):
            _, heads, *lines, _, last, end = text.split(b"\n")
            names = heads.decode().split()
            if names[:5] != ["Address", "Perm", "Offset", "Device", "Inode"] or end:
                pytest.skip("not the pmap of procps")
            # In KB; the path comes last and has no fixed column. While pmap runs, it shares
            # libraries with the process, so Pss is compared only for memory that no other program
            # maps.
            names = names[5:-1]
            rows = {int(line.split()[0], 16): line.split()[5 : 5 + len(names)] for line in lines}
            assert len(rows) == len(table)
            for mapping in table:
                row = dict(zip(names, map(int, rows[mapping.start]), strict=True))
                for name in sorted({"Size", "Rss", "Anonymous", "Swap"} & set(names)):
                    assert mapping[name] == row[name] * 1024, name
                if mapping.kind in ("heap", "anon", "stack"):
                    assert mapping.pss == row["Pss"] * 1024
            sums = dict(zip(names, map(int, last.split()[:-1]), strict=True))
            assert table.totals().rss == sums["Rss"] * 1024
            assert table.totals().size == sums["Size"] * 1024


# ---- single mappings

FILES = [
    "plain", "newline", "tab", "escape", "no UTF-8", "literal 012", "called deleted",
    "called heap", "header", "field", "spaces", "return", "long", "deleted",
]  # fmt: skip
KINDS = {
    "heap": "heap",
    "heap, write-protected": "heap",
    "heap, its end": "heap",
    "memfd": "shmem",
    "sysv": "shmem",
    "shared": "shmem",
    "locked": "anon",
    "private zero": "anon",
    "anonymous": "anon",
    "reserved": "anon",
    "named": "anon_named",
    "hugetlb": "hugetlb",
    **dict.fromkeys(FILES, "file"),
}


@pytest.mark.parametrize("name", KINDS)
def test_kind_of_mapping(zoo: processes.Process, backend: ModuleType, name: str) -> None:
    mapping = mapping_of(zoo, name)
    assert mapping.kind == KINDS[name]
    assert mapping.deleted is (name in ("deleted", "called deleted"))


def file_system(path: str) -> str:
    """Type of the file system that contains the path, from /proc/self/mountinfo."""
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[2] == number:
            return fields[fields.index("-") + 1]
    return "a file system with other device numbers"


@pytest.mark.parametrize("name", FILES)
def test_path_of_mapped_file(zoo: processes.Process, backend: ModuleType, name: str) -> None:
    expected, mapping = expected_mapping(zoo, name), mapping_of(zoo, name)
    real = bytes.fromhex(expected["file"])
    assert mapping.start == expected["start"]
    assert mapping.size == expected["size"]
    assert mapping.inode == expected["inode"]
    raw = real.replace(b"\n", b"\\012") + (b" (deleted)" if name == "deleted" else b"")
    assert mapping.raw_path == raw
    assert mapping.path == os.fsdecode(raw)
    # The text is ambiguous for these two: they look like an escaped and a deleted path.
    ambiguous = {
        "literal 012": real.replace(b"\\012", b"\n"),
        "called deleted": real.removesuffix(b" (deleted)"),
    }
    assert os.fsencode(mapping.filename) == ambiguous.get(name, real)
    assert mapping.shared_clean is not None
    assert mapping.rss == 2 * linux.PAGE
    assert mapping.perms == ("rw-p" if name == "plain" else "rw-s")
    if name == "long":
        assert len(raw) > 3000


def test_device_and_inode_match_stat(zoo: processes.Process, backend: ModuleType) -> None:
    expected, mapping = expected_mapping(zoo, "plain"), mapping_of(zoo, "plain")
    real = os.fsdecode(bytes.fromhex(expected["file"]))
    assert mapping.inode == os.stat(real).st_ino
    kind = file_system(real)
    if kind in ("btrfs", "overlay", "a file system with other device numbers"):
        pytest.skip(f"on {kind}, stat and maps name different devices")
    assert mapping.st_dev == os.stat(real).st_dev


def test_memfd(zoo: processes.Process, backend: ModuleType) -> None:
    mapping = mapping_of(zoo, "memfd")
    assert mapping.raw_path == b"/memfd:zoo memfd (deleted)"
    assert [mapping.st_dev, mapping.inode] == zoo.report["memfd"]
    assert mapping.rss == 3 * linux.PAGE


def test_sysv(zoo: processes.Process, backend: ModuleType) -> None:
    mapping = mapping_of(zoo, "sysv")
    assert mapping.raw_path == b"/SYSV00000000 (deleted)"
    assert mapping.inode == zoo.report["shmid"]
    assert mapping.rss == 3 * linux.PAGE


def test_locked(zoo: processes.Process, backend: ModuleType) -> None:
    mapping = mapping_of(zoo, "locked")
    assert mapping.locked == mapping.pss == mapping.rss == 4 * linux.PAGE
    assert mapping.vm_flags is None or "lo" in mapping.vm_flags


def test_zero(zoo: processes.Process, backend: ModuleType) -> None:
    private, shared = mapping_of(zoo, "private zero"), mapping_of(zoo, "shared")
    assert (private.path, private.perms) == ("/dev/zero", "rw-p")
    assert (shared.path, shared.perms) == ("/dev/zero (deleted)", "rw-s")
    assert private.anonymous == 2 * linux.PAGE
    assert shared.rss == 3 * linux.PAGE


def test_reservation_of_16_tib(zoo: processes.Process, backend: ModuleType) -> None:
    mapping = mapping_of(zoo, "reserved")
    assert mapping.perms == "---p"
    assert mapping.end - mapping.start >= 16 << 40
    assert mapping.size_printed == mapping.size == mapping.end - mapping.start
    assert mapping.rss == 0


def test_name_by_prctl(zoo: processes.Process, backend: ModuleType) -> None:
    assert mapping_of(zoo, "named").path == "[anon:zoo: an arena]"


def test_hugetlb(zoo: processes.Process, backend: ModuleType) -> None:
    mapping = mapping_of(zoo, "hugetlb")
    assert mapping.kernel_page_size is not None
    assert mapping.kernel_page_size > linux.PAGE
    assert (mapping.rss, mapping.private_hugetlb) == (0, 0)


def test_special_mappings(zoo: processes.Process, backend: ModuleType) -> None:
    kinds = fastsmaps.mappings(zoo.pid).group_by("kind")
    assert kinds["stack"].count == 1
    assert kinds["special"].count >= 1  # [vdso] and [vvar]
    assert sum(group.count for group in kinds.values()) == len(fastsmaps.mappings(zoo.pid))


def test_self_reads_this_process(backend: ModuleType) -> None:
    own = fastsmaps.mappings()
    assert own.pid == fastsmaps.Process().pid == os.getpid()
    assert own.find(id(own)) is not None
    totals = fastsmaps.totals()
    assert totals.rss
    assert totals.uss
    assert totals.rss > totals.uss
