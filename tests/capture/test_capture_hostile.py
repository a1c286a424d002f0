"""open_capture(): harmful and damaged archives."""

from __future__ import annotations

import bz2
import contextlib
import errno
import gzip
import io
import lzma
import os
import resource
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fastsmaps
from fastsmaps._capture.unpack import open_capture
from fastsmaps._errors import CaptureError
from support.captures import SMAPS, smem, tar, tree

pytestmark = pytest.mark.usefixtures("no_unpacked_files")


# ---- harmful archives


HARM: dict[str, dict[str, Any]] = {
    "absolute": {"name": "{here}/x"},
    "up": {"name": "7/../../x"},
    "only up": {"name": ".."},
    "symlink": {"name": "x", "type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
    "hard link": {"name": "x", "type": tarfile.LNKTYPE, "linkname": "7/smaps"},
    "fifo": {"name": "x", "type": tarfile.FIFOTYPE},
    "device": {"name": "x", "type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3},
    "block device": {"name": "x", "type": tarfile.BLKTYPE},
    "self": {"name": "self"},
    "self, with a file": {"name": "./self/smaps"},
    "self within": {"name": "bug42/self"},
    "over a file": {"name": "7/smaps/x"},
    "deep": {"name": "x/" * 50 + "x"},
    "long": {"name": "x" * 3000},
    "a directory up": {"name": "../x", "type": tarfile.DIRTYPE},
}


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM)
@pytest.mark.parametrize("tolerant", [False, True])
def test_harmful_members_are_refused(tmp_path: Path, harm: dict[str, Any], tolerant: bool) -> None:
    path = tmp_path / "a"
    harm = {**harm, "name": harm["name"].replace("{here}", str(tmp_path))}
    with tarfile.open(path, "w") as archive:
        for name in ("7/smaps", "8/smaps"):
            member = tarfile.TarInfo(name)
            member.size = len(SMAPS)
            archive.addfile(member, io.BytesIO(SMAPS))
        member = tarfile.TarInfo()
        for key, value in harm.items():
            setattr(member, key, value)
        archive.addfile(member)
    caught: list[fastsmaps.Error] = []
    with (
        pytest.raises(CaptureError, match="not unpacked") as error,
        open_capture(path, on_error=caught.append if tolerant else None),
    ):
        pass
    assert not caught
    assert harm["name"][:200] in str(error.value)
    assert error.value.path == str(path)
    assert sorted(os.listdir(tmp_path)) == ["a"]


@pytest.mark.parametrize("most", [0, 1, len(SMAPS), 2 * len(SMAPS) - 1])
def test_max_bytes_is_enforced(tmp_path: Path, most: int) -> None:
    path = tar(tmp_path / "a", {"7/smaps": SMAPS, "8/smaps": SMAPS})
    with (
        pytest.raises(CaptureError, match=f"beyond the {most} bytes") as error,
        open_capture(path, max_bytes=most),
    ):
        pass
    assert ("8/smaps" if most >= len(SMAPS) else "7/smaps") in str(error.value)
    with open_capture(path, max_bytes=2 * len(SMAPS)) as directory:
        assert len(tree(directory)) == 2


def test_decompression_bomb_is_refused(tmp_path: Path) -> None:
    """A gigabyte of zeros in a megabyte: as a file, and in headers that tarfile would read."""
    for kind in (tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        member = tarfile.TarInfo("7/smaps")
        member.size, member.type = 1 << 30, kind
        path = tmp_path / "bomb"
        with gzip.open(path, "wb", compresslevel=1) as file:
            file.write(member.tobuf(tarfile.GNU_FORMAT))
            for _ in range(16):
                file.write(bytes(1 << 20))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(CaptureError), open_capture(path, max_bytes=1 << 20):
            pass
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize("text", [b"", None])
@pytest.mark.parametrize("name", ["{}", "{}/smaps", "{}/1/2/3/4/5/6/7/8/smaps", "7/task/{}/smaps"])
def test_max_members_is_enforced(tmp_path: Path, name: str, text: bytes | None) -> None:
    """Directories count too, also those that are made only for a longer name."""
    path = tar(tmp_path / "a", {name.format(i): text for i in range(1, 40)})
    with (
        pytest.raises(CaptureError, match=r"' is more than the 32 that are allowed: not unpacked"),
        open_capture(path, max_members=32),
    ):
        pass
    with open_capture(path, max_members=400) as directory:
        assert len(tree(directory)) == (0 if text is None else 39)


def test_repeated_member_counts_against_limits(tmp_path: Path) -> None:
    """It takes no space, but is counted."""
    path = tmp_path / "a"
    path.write_bytes(tarfile.TarInfo("7").tobuf(tarfile.USTAR_FORMAT) * 1001)
    with (
        pytest.raises(CaptureError, match="'7' is more than the 1000 "),
        open_capture(path, max_members=1000),
    ):
        pass


def test_last_member_of_a_name_counts(tmp_path: Path) -> None:
    """As with tar, even if it is shorter than the previous one."""
    path = tmp_path / "a"
    with tarfile.open(path, "w") as archive:
        for text in (SMAPS * 2, SMAPS):
            member = tarfile.TarInfo("7/smaps")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    with open_capture(path) as directory:
        assert tree(directory) == {"7/smaps": SMAPS}


# ---- damaged archives


def opened(path: Path) -> tuple[dict[str, bytes], list[fastsmaps.Error]]:
    caught: list[fastsmaps.Error] = []
    with open_capture(path, on_error=caught.append) as directory:
        return tree(directory), caught


def plain(data: bytes) -> bytes:
    return data


@pytest.mark.slow
@pytest.mark.parametrize("compress", [plain, gzip.compress, lzma.compress, bz2.compress])
def test_archive_cut_off_anywhere_is_damaged(
    backend: ModuleType, tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    members = {f"{pid}/{name}": os.urandom(300) for pid in (7, 8, 9) for name in ("smaps", "stat")}
    whole = tar(tmp_path / "a", {**members}).read_bytes().rstrip(b"\0")
    whole = compress(whole + bytes(2048 - len(whole) % 512))
    path = tmp_path / "cut"
    path.write_bytes(whole)
    assert opened(path) == (members, [])
    step = 97 if compress is plain else 41
    damaged = 0
    cuts = {*range(0, len(whole), step), *range(0, len(whole), 512), len(whole) - 1}
    for length in sorted(cuts):
        path.write_bytes(whole[:length])
        try:
            found, caught = opened(path)
        except CaptureError as error:
            none_whole = "is not a capture" in str(error)
            assert none_whole
            continue
        # Existing files are complete.
        assert found.items() <= members.items()
        if compress is plain and length > len(whole) - 1600:
            continue  # cut in the end marker: no data is lost
        assert len(caught) == 1
        assert "is damaged" in str(caught[0])
        assert caught[0].path == str(path)
        damaged += len(found) > 0
        with pytest.raises(CaptureError, match="is damaged"), open_capture(path):
            pass
    assert damaged or compress in (lzma.compress, bz2.compress)  # one block


def test_archive_damaged_anywhere_never_crashes(tmp_path: Path) -> None:
    """Whichever byte is changed, the only error is a CaptureError."""
    whole = bytearray(tar(tmp_path / "a", smem()).read_bytes().rstrip(b"\0") + bytes(1024))
    squeezed = bytearray(gzip.compress(whole))
    files = {name: text for name, text in smem().items() if text is not None}
    path = tmp_path / "damaged"
    for data in (whole, squeezed):
        for at in range(0, len(data), 37 if data is whole else 3):
            data[at] ^= 0xA5
            path.write_bytes(data)
            data[at] ^= 0xA5
            with contextlib.suppress(CaptureError), open_capture(path) as directory:
                # Some bytes of gzip's header do not affect the data.
                assert data is whole or tree(directory) == files


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", bytes(10240), b"x" * 5000, SMAPS,
     gzip.compress(SMAPS), gzip.compress(b""), os.urandom(2000)],
    ids=["empty", "x", "gzip head", "bzip2 head", "xz head", "zeros", "text", "smaps",
         "smaps.gz", "empty.gz", "random"],
)  # fmt: skip
def test_other_files_are_not_captures(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(data)
    caught: list[fastsmaps.Error] = []
    for on_error in (None, caught.append):
        with (
            pytest.raises(CaptureError, match="is not a capture") as error,
            open_capture(path, on_error=on_error),
        ):
            pass
        assert error.value.path == str(path)
    assert caught == []


def test_unopenable_file_is_a_capture_error(tmp_path: Path) -> None:
    for path, number in ((tmp_path / "no", errno.ENOENT), (Path("/proc/1/mem/x"), errno.ENOTDIR)):
        with pytest.raises(CaptureError, match="cannot open") as error, open_capture(path):
            pass
        assert (error.value.path, error.value.errno) == (str(path), number)


def test_exception_of_on_error_is_passed_on(tmp_path: Path) -> None:
    path = tar(tmp_path / "a", smem())
    os.truncate(path, 3000)

    def refuse(error: fastsmaps.Error) -> None:
        raise error

    with pytest.raises(CaptureError, match="is damaged"), open_capture(path, on_error=refuse):
        pass
