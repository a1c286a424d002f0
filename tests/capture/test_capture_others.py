"""open_capture(): directories, and archives made by other programs."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import fastsmaps
from fastsmaps._capture.capture import capture
from fastsmaps._capture.unpack import open_capture
from support import processes
from support.captures import SMAPS, rows, scan_capture, smem, tar, tree

pytestmark = pytest.mark.usefixtures("no_unpacked_files")


@pytest.mark.parametrize("directories", [True, False])
@pytest.mark.parametrize("end", [True, False])
def test_smemcap_archives_are_read(
    backend: ModuleType, tmp_path: Path, directories: bool, end: bool
) -> None:
    path = tar(tmp_path / "a", smem(directories=directories), uid=1000, mode=0o444)
    if not end:  # smemcap does not write an end
        used = len(path.read_bytes().rstrip(b"\0"))
        os.truncate(path, -(-used // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
        assert not path.read_bytes().endswith(bytes(1024))
    with open_capture(path) as directory:
        scan = fastsmaps.scan(procfs=directory, cmdline=True)
        assert [row.pid for row in scan] == [7, 4711]
        for row in scan:
            assert (row.outcome, row.uid, row.comm) == ("read", None, "it")
            assert row.cmdline == ("it", "-x")
            assert row.totals is not None
            assert row.totals.source == "smaps"
            assert (row.totals.rss, row.totals.pss, row.totals.size) == (12288, 4096, 12288)
        assert not os.path.exists(f"{directory}/7/status")


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_compression_is_detected_by_content(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    path = tar(tmp_path / "a", smem())
    path.write_bytes(compress(path.read_bytes()))
    with open_capture(path) as directory:
        assert Path(directory, "7", "smaps").read_bytes() == SMAPS


def test_names_with_dots_and_slashes_are_normalized(tmp_path: Path) -> None:
    members = {"./": None, "./7/": None, "./7/smaps": SMAPS, ".//8//smaps": SMAPS}
    with open_capture(tar(tmp_path / "a", members)) as directory:
        assert tree(directory) == {"7/smaps": SMAPS, "8/smaps": SMAPS}


def test_directory_packed_under_its_name_is_found(idle: processes.Process, tmp_path: Path) -> None:
    saved = capture(tmp_path / "bug42", [idle.pid])
    for name in ("bug42", "proc/bug42"):
        with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
            archive.add(tmp_path / "bug42", name)
        with open_capture(tmp_path / "a.tar.gz") as directory:
            assert scan_capture(directory) == rows(saved)


def test_directory_is_given_as_it_is(tmp_path: Path) -> None:
    for path in (tmp_path, str(tmp_path)):
        with open_capture(path) as directory:
            assert directory == str(tmp_path)
    assert tmp_path.is_dir()


def test_numeric_names_that_are_not_processes(backend: ModuleType, tmp_path: Path) -> None:
    names = ("0", "07", "\u0667", "2147483648", "9" * 40, "9" * 255, "fdinfo")
    members = smem()
    members.update((f"{name}/smaps", SMAPS) for name in names)
    with open_capture(tar(tmp_path / "a", members)) as directory:
        assert [(row.pid, row.outcome) for row in scan_capture(directory)] == [
            (7, "read"), (4711, "read"),
        ]  # fmt: skip
        assert fastsmaps.libs(procfs=directory)["/a"].processes == 2
        with fastsmaps.Sampler(procfs=directory) as sampler:
            assert [row.pid for row in sampler.sweep()] == [7, 4711]
        assert [row.pid for row in capture(tmp_path / "b", procfs=directory)] == [7, 4711]


def test_modes_and_owners_are_ignored(tmp_path: Path) -> None:
    path = tar(tmp_path / "a", {"7/smaps": SMAPS}, mode=0o6777, uid=1234, gid=1234)
    with open_capture(path) as directory:
        of_it = os.stat(f"{directory}/7/smaps")
        assert (stat.S_IMODE(of_it.st_mode), of_it.st_uid) == (0o600, os.geteuid())
