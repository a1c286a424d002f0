"""Helpers for tests of captures."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastsmaps
from support import processes
from support.smaps_texts import record

TARGETS = ("directory", "a.tar", "a.tar.gz", "a.tgz", "a.tar.xz")


@contextlib.contextmanager
def no_leftovers(directory: Path) -> Iterator[None]:
    """Unpack captures into `directory`; fail if a file or a descriptor is left over."""
    previous = tempfile.tempdir
    with processes.same_descriptors():
        tempfile.tempdir = str(directory)
        try:
            yield
        finally:
            tempfile.tempdir = previous
    assert os.listdir(directory) == []


def rows(scan: fastsmaps.Scan) -> list[fastsmaps.ProcessTotals]:
    return list(scan)


def scan_capture(directory: str) -> list[fastsmaps.ProcessTotals]:
    return rows(fastsmaps.scan(procfs=directory, cgroup=True, cmdline=True))


def tar(path: Path, members: dict[str, bytes | None], **changes: Any) -> Path:
    """Write an archive of files; a member whose text is None becomes a directory."""
    with tarfile.open(path, "w") as archive:
        for name, text in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(text or b"")
            member.type = tarfile.DIRTYPE if text is None else tarfile.REGTYPE
            for key, value in changes.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(text or b""))
    return path


def tree(directory: str) -> dict[str, bytes]:
    root = Path(directory)
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


# ---- captures by other tools

SMAPS = record(0x1000, 0x3000, b"/a", Size=8, Rss=8, Pss=4) + record(0x3000, 0x4000, Size=4, Rss=4)
STAT = b"%d (it) S 1 " + b"0 " * 45 + b"\n"


def smem(*, directories: bool = True) -> dict[str, bytes | None]:
    """Members of an archive as smemcap writes it."""
    members: dict[str, bytes | None] = {"meminfo": b"MemTotal: 1 kB\n", "version": b"Linux\n"}
    for pid in (7, 4711):
        if directories:
            members[str(pid)] = None
        members[f"{pid}/smaps"] = SMAPS
        members[f"{pid}/cmdline"] = b"it\0-x\0"
        members[f"{pid}/stat"] = STAT % pid
    return members
