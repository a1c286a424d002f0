"""libs(): memory of each mapped file over all processes."""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
from pathlib import Path
from types import ModuleType

import pytest

import fastsmaps
from fastsmaps import _backend
from support import linux, processes
from support.commands import heads, json_rows, run

pytestmark = [pytest.mark.usefixtures("no_leak"), pytest.mark.core]


def test_processes_of_mapped_file_are_counted(backend: ModuleType, tmp_path: Path) -> None:
    marks = [tmp_path / name for name in ("one", "two")]
    with contextlib.ExitStack() as stack:
        children = [
            stack.enter_context(processes.workload("marked", str(mark)))
            for mark in (marks[0], marks[0], marks[1])
        ]
        pids = [child.pid for child in children]
        for workers in (1, 2):
            libs = fastsmaps.libs(pids, workers=workers)
            uses = [libs[str(mark)] for mark in marks]
            assert [use.processes for use in uses] == [2, 1]
            assert [use.totals.size for use in uses] == [2 * linux.PAGE, linux.PAGE]
            assert libs.coverage["read"] == 3
        marks[1].unlink()
        after = fastsmaps.libs(pids)
        assert str(marks[1]) not in after
        assert after[f"{marks[1]} (deleted)"].processes == 1
        everything = fastsmaps.libs(workers=2)
        assert everything[str(marks[0])].processes == 2
        assert everything.coverage["read"] > 3
        again = pickle.loads(pickle.dumps(after))
        assert again == after
        assert again.coverage == after.coverage
    sizes = [use.totals.pss or 0 for use in everything.values()]
    assert sizes == sorted(sizes, reverse=True)
    assert all(path.startswith("/") for path in everything)


def test_libs_match_sums_of_mappings(backend: ModuleType) -> None:
    with processes.workload("idle") as first, processes.workload("idle") as second:
        pids = [first.pid, second.pid]
        libs = fastsmaps.libs(pids)
        expected: dict[str, tuple[int, int]] = {}
        for pid in pids:
            for path, group in fastsmaps.mappings(pid).group_by("path").items():
                if path.startswith("/"):
                    rss, users = expected.get(path, (0, 0))
                    expected[path] = rss + (group.totals.rss or 0), users + 1
        assert {path: (use.totals.rss, use.processes) for path, use in libs.items()} == expected


def test_libs_coverage_and_errors(backend: ModuleType, tmp_path: Path) -> None:
    with processes.workload("idle") as child, processes.zombie() as ended:
        (tid,) = child.request("threads", 1)
        pids = [child.pid, ended, processes.dead_pid(), tid]
        libs = fastsmaps.libs(pids)
        assert {outcome: count for outcome, count in libs.coverage.items() if count} == {
            "read": 1,
            "zombie": 1,
            "gone": 1,
            "failed": 1,
        }
        assert list(libs.errors) == pids[1:]
        assert all(str(pid) in error for pid, error in libs.errors.items())
        assert pickle.loads(pickle.dumps(libs)).errors == libs.errors
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "smaps").write_bytes(b"nonsense\n")
    libs = fastsmaps.libs(procfs=tmp_path)
    assert (dict(libs), libs.coverage["failed"]) == ({}, 1)
    with pytest.raises(ValueError, match="workers"):
        fastsmaps.libs([os.getpid()], workers=0)
    with pytest.raises(TypeError, match="pids must be an iterable of ints, got int 5"):
        fastsmaps.libs(5)  # type: ignore[arg-type]
    with pytest.raises(fastsmaps.Error):
        fastsmaps.libs(procfs=tmp_path / "missing")


def test_label_without_unit_is_not_summed(backend: ModuleType, tmp_path: Path) -> None:
    """One process without the unit is enough, but not if its text has an error."""
    header = b"1000-2000 r--p 00000000 00:01 7 /x\n"
    texts = [
        header + b"Rss: 4 kB\nOne: 4 kB\nNew: 1 kB\n",
        header + b"Rss: 4 kB\nOne: 4\nNew: 1 kB\n",
        header + b"Rss: 4 kB\nNew: 1\nNew: 2\n",
        header + b"Rss: 8 kB\nOne: 8 kB\nNew: 1 kB\n",
    ]
    uses = _backend.Uses()
    for number, text in enumerate(texts):
        path = tmp_path / str(number)
        path.write_bytes(text)
        with open(path, "rb") as file:
            if number == 2:
                with pytest.raises(fastsmaps.ParseError):
                    uses.add(file.fileno(), 3000, 8)
            else:
                assert uses.add(file.fileno(), 3000, 8)
    sums = {"Rss": 16384, "New": 3072}
    assert uses.result() == [(b"/x", 3, [(b"00:01", 7, 3, (3 * 4096, sums))])]


@pytest.mark.parametrize("pids", [(7, 8), (8, 7)])
def test_files_of_equal_pss_are_sorted_by_path(
    backend: ModuleType, tmp_path: Path, pids: tuple[int, int]
) -> None:
    """The order must not depend on which worker reads which process."""
    for number, path, inode in zip((*pids, 9, 10), "baaa", (3, 2, 1, 3), strict=True):
        (tmp_path / str(number)).mkdir()
        header = f"00400000-00401000 r--p 00000000 08:01 {inode:<26} /{path}\n"
        (tmp_path / str(number) / "smaps").write_text(f"{header}Rss: 4 kB\nPss: 4 kB\n")
    libs = fastsmaps.libs([7, 8], procfs=tmp_path)
    assert list(libs) == ["/a", "/b"]
    libs = fastsmaps.libs([10, 8, 9, 7], procfs=tmp_path)
    assert [inode for _, inode in libs["/a"].parts] == [1, 2, 3]


def test_parse_error_leaves_no_state_for_next_process(backend: ModuleType, tmp_path: Path) -> None:
    """The next process's THPeligible must not be taken for a size."""
    record = b"1000-2000 r--p 00000000 00:01 7 /x\nRss: 4 kB\nTHPeligible: 1\n"
    uses = _backend.Uses()
    for name, text in (("invalid", record + b"?\n"), ("valid", record)):
        path = tmp_path / name
        path.write_bytes(text)
        with open(path, "rb") as file:
            if name == "invalid":
                with pytest.raises(fastsmaps.ParseError):
                    uses.add(file.fileno(), 3000, 8)
            else:
                assert uses.add(file.fileno(), 3000, 8)
    assert uses.result() == [(b"/x", 1, [(b"00:01", 7, 1, (4096, {"Rss": 4096}))])]


# ---- one path, several files

MEMFD = b"/memfd:pool (deleted)"


def mapped(start: int, name: bytes, dev: bytes, inode: int, rss: int) -> bytes:
    """Record that maps one page of a file."""
    address = b"%x-%x" % (start, start + 4096)
    return address + b" rw-s 00000000 %s %d %s\nRss: %d kB\nPss: %d kB\n" % (
        dev, inode, name, rss, rss,
    )  # fmt: skip


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Fake /proc: containers with different libc files, and memfds of the same name."""
    texts = {
        7: mapped(0x1000, b"/lib/libc.so", b"fe:00", 5, 8)
        + mapped(0x2000, b"/lib/libc.so", b"fe:00", 5, 4)
        + mapped(0x3000, MEMFD, b"00:01", 1, 1)
        + mapped(0x4000, MEMFD, b"00:01", 2, 2),
        8: mapped(0x1000, b"/lib/libc.so", b"fe:00", 9, 16)
        + mapped(0x2000, b"/lib/other.so", b"fe:00", 5, 3)
        + mapped(0x3000, MEMFD, b"00:01", 2, 2),
        # The same inode number on another device; and a file that 8 maps too.
        9: mapped(0x1000, b"/lib/libc.so", b"fe:01", 5, 1)
        + mapped(0x2000, b"/lib/other.so", b"fe:00", 5, 3),
    }
    for pid, text in texts.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "smaps").write_bytes(text)
    return tmp_path


@pytest.mark.parametrize("workers", [1, 3])
def test_same_path_different_files(backend: ModuleType, host: Path, workers: int) -> None:
    libs = fastsmaps.libs(procfs=host, workers=workers)
    uses = {path: (use.files, use.processes, use.totals.rss) for path, use in libs.items()}
    assert uses == {
        "/lib/libc.so": (3, 3, 29 << 10),
        "/lib/other.so": (1, 2, 6 << 10),
        os.fsdecode(MEMFD): (2, 2, 5 << 10),
    }
    parts = {
        file: (part.files, part.processes, part.totals.rss, part.totals.size)
        for file, part in libs["/lib/libc.so"].parts.items()
    }
    assert parts == {
        ("fe:00", 9): (1, 1, 16 << 10, 4096),
        ("fe:00", 5): (1, 1, 12 << 10, 8192),
        ("fe:01", 5): (1, 1, 1 << 10, 4096),
    }
    assert list(parts) == [("fe:00", 9), ("fe:00", 5), ("fe:01", 5)]
    # A process that maps two of the files counts as one process of the path.
    memfds = libs[os.fsdecode(MEMFD)].parts
    assert [memfds["00:01", inode].processes for inode in (1, 2)] == [1, 2]
    ((file, part),) = libs["/lib/other.so"].parts.items()
    assert (file, part.totals) == (("fe:00", 5), libs["/lib/other.so"].totals)
    again = pickle.loads(pickle.dumps(libs))
    assert again == libs
    assert {use: path for path, use in again.items()} == {use: path for path, use in libs.items()}
    assert "3 files" in repr(libs["/lib/libc.so"])


def test_command_lists_each_file_of_a_path(backend: ModuleType, host: Path, tmp_path: Path) -> None:
    rows = json_rows("libs", "--procfs", str(host))
    libc = [row for row in rows if row["path"] == "/lib/libc.so"]
    assert [(row["dev"], row["inode"], row["processes"], row["rss"]) for row in libc] == [
        ("fe:00", 9, 1, 16 << 10), ("fe:00", 5, 1, 12 << 10), ("fe:01", 5, 1, 1 << 10),
    ]  # fmt: skip
    assert [row["pss"] for row in rows] == sorted((row["pss"] for row in rows), reverse=True)
    head, *lines = run("libs", "--procfs", str(host)).stdout.splitlines()
    assert heads(head) == [
        "PSS KiB",
        "USS KiB",
        "RSS KiB",
        "SWAP KiB",
        "PROCESSES",
        "DEV",
        "INODE",
        "PATH",
    ]
    assert lines[0].split() == ["16", "-", "16", "-", "1", "fe:00", "9", "/lib/libc.so"]
    # The file columns are left out where each path is one file.
    head, *_ = run("libs", "--procfs", str(host), "--filter", "other").stdout.splitlines()
    assert heads(head) == ["PSS KiB", "USS KiB", "RSS KiB", "SWAP KiB", "PROCESSES", "PATH"]


def test_command_by_path_merges_files(backend: ModuleType, host: Path) -> None:
    rows = json_rows("libs", "--by", "path", "--procfs", str(host))
    assert [(row["path"], row["files"], row["processes"]) for row in rows] == [
        ("/lib/libc.so", 3, 3), ("/lib/other.so", 1, 2), (os.fsdecode(MEMFD), 2, 2),
    ]  # fmt: skip
    head, first, *_ = run("libs", "--by", "path", "--procfs", str(host)).stdout.splitlines()
    assert heads(head) == [
        "PSS KiB",
        "USS KiB",
        "RSS KiB",
        "SWAP KiB",
        "FILES",
        "PROCESSES",
        "PATH",
    ]
    assert first.split() == ["29", "-", "29", "-", "3", "3", "/lib/libc.so"]
    text = run("libs", "--by", "path", "--procfs", str(host), "--filter", "other").stdout
    assert "FILES" not in text


def test_fields_of_libs(backend: ModuleType, host: Path) -> None:
    words = ("libs", "--procfs", str(host), "--fields", "rss,Pss")
    assert list(json_rows(*words)[0]) == ["path", "dev", "inode", "processes", "rss", "pss"]
    assert list(json_rows(*words, "--by", "path")[0]) == [
        "path",
        "files",
        "processes",
        "rss",
        "pss",
    ]
    head, *_ = run(*words, "--filter", "other").stdout.splitlines()
    assert heads(head) == ["RSS KiB", "PSS KiB", "PROCESSES", "PATH"]
    other = ("libs", "--procfs", str(host), "--fields")
    head, *_ = run(*other, "inode,processes,rss", "--filter", "other").stdout.splitlines()
    assert heads(head) == ["INODE", "PROCESSES", "RSS KiB", "PATH"]
    assert "no field 'nonsense'" in run(*other, "nonsense", status=2).stderr
    text = run(*other, "pss_dirty", "--csv", "--filter", "no such", status=1).stdout
    assert text == "path,dev,inode,processes,pss_dirty\n"


def test_group_by_path_counts_files(backend: ModuleType, host: Path) -> None:
    table = fastsmaps.mappings(7, procfs=host)
    groups = table.group_by("path")
    assert {path: (group.count, group.files) for path, group in groups.items()} == {
        "/lib/libc.so": (2, 1), os.fsdecode(MEMFD): (2, 2),
    }  # fmt: skip
    assert {kind: group.files for kind, group in table.group_by("kind").items()} == {
        "file": 1, "shmem": 2,
    }  # fmt: skip
    assert table.group_by(lambda m: m.rss)[1024].files == 1
    assert table[3:].group_by("path")[os.fsdecode(MEMFD)].files == 1
    assert fastsmaps.parse(b"1000-2000 rw-p 00000000 00:00 0\n").group_by("path")[""].files == 0
    words = ("maps", "7", "--by", "path", "--procfs", str(host))
    assert {row["path"]: row["files"] for row in json_rows(*words)} == {
        path: group.files for path, group in groups.items()
    }
    head, *_ = run(*words).stdout.splitlines()
    assert head.split()[-3:] == ["MAPPINGS", "FILES", "PATH"]
    assert "FILES" not in run(*words, "--filter", "libc").stdout


def test_diff_of_replaced_file_is_one_change(backend: ModuleType, host: Path) -> None:
    old, new = (fastsmaps.mappings(pid, procfs=host) for pid in (7, 8))
    changes = {change.key: change for change in fastsmaps.diff(old, new)}
    assert {path: (change.rss, change.files) for path, change in changes.items()} == {
        "/lib/libc.so": (4 << 10, (1, 1)),
        "/lib/other.so": (3 << 10, (0, 1)),
        os.fsdecode(MEMFD): (-1 << 10, (2, 1)),
    }
    assert pickle.loads(pickle.dumps(list(changes.values()))) == list(changes.values())
    texts = [f"{host}/{pid}/smaps" for pid in (7, 8)]
    rows = json_rows("diff", *texts)
    assert {row["path"]: (row["old_files"], row["new_files"]) for row in rows} == {
        path: change.files for path, change in changes.items()
    }
    assert "OLD_FILES" in run("diff", *texts).stdout
    assert "OLD_FILES" not in run("diff", *texts, "--by", "kind").stdout


def test_files_of_a_live_process(backend: ModuleType) -> None:
    """Two memfds of the same name, and two shared anonymous mappings."""
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            fd = os.memfd_create("of this test")
            stack.callback(os.close, fd)
            os.ftruncate(fd, linux.PAGE)
            stack.enter_context(mmap.mmap(fd, linux.PAGE))
            stack.enter_context(mmap.mmap(-1, linux.PAGE))
        libs = fastsmaps.libs([os.getpid()])
        groups = fastsmaps.mappings().group_by("path")
    name = "/memfd:of this test (deleted)"
    assert (libs[name].files, libs[name].processes) == (2, 1)
    assert libs["/dev/zero (deleted)"].files >= 2
    assert groups[name].files == 2


def test_libs_is_read_only(backend: ModuleType) -> None:
    found = fastsmaps.libs([os.getpid()])
    with pytest.raises(AttributeError, match="Libs is immutable"):
        found.coverage = {}
    assert pickle.loads(pickle.dumps(found)).coverage == found.coverage
