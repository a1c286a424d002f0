"""Headers of tars: every format is read; bad headers are refused before they cost anything."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastsmaps
from fastsmaps._capture.tar import BLOCK, Headers, Member
from fastsmaps._errors import CaptureError
from fastsmaps._source.compressed import Damage
from support.captures import SMAPS, tree

pytestmark = [
    pytest.mark.usefixtures("no_unpacked_files"),
    pytest.mark.thread_unsafe(reason="sets where to unpack"),
]

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
END = bytes(2 * BLOCK)


def header(
    name: bytes = b"7/smaps",
    size: int | bytes = 0,
    kind: bytes = b"0",
    magic: bytes = b"ustar\x0000",
    rest: bytes = b"",
) -> bytes:
    field = size if isinstance(size, bytes) else b"%011o" % size
    text = name.ljust(100, b"\0") + b"0000600\0" + b"0000000\0" * 2 + field.ljust(12, b"\0")
    text += b"00000000000\0" + b" " * 8 + kind + bytes(100) + magic
    text = (text.ljust(345, b"\0") + rest).ljust(BLOCK, b"\0")
    return text[:148] + b"%06o\0 " % sum(text) + text[156:]


def filled(text: bytes) -> bytes:
    return text + bytes(-len(text) % BLOCK)


def pax(text: bytes, kind: bytes = b"x") -> bytes:
    return header(b"pax", len(text), kind) + filled(text)


def members(data: bytes) -> list[Member]:
    file = io.BytesIO(data)
    headers = Headers(file.read)
    found = []
    while (member := headers.next()) is not None:
        found.append(member)
        file.seek(min(member.size + -member.size % BLOCK, len(data)), os.SEEK_CUR)
    return found


NAMES = st.lists(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1),
    min_size=1, max_size=30,
).map("/".join).filter(lambda name: len(name.encode()) < 4000)  # fmt: skip


@given(st.sampled_from(FORMATS), st.lists(st.tuples(NAMES, st.binary(max_size=1500)), max_size=4))
def test_tarfiles_formats_are_read(form: int, files: list[tuple[str, bytes]]) -> None:
    file = io.BytesIO()
    written = []
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name, text in files:
            member = tarfile.TarInfo(name)
            member.size = len(text)
            member.mtime = 1.5 if form == tarfile.PAX_FORMAT else 1
            try:
                archive.addfile(member, io.BytesIO(text))
            except ValueError:
                continue  # too long for this format
            written.append((name, len(text)))
    assert [(member.name, member.size) for member in members(file.getvalue())] == written


def test_old_tar_formats_are_read() -> None:
    """V7's directories, signed checksums, a prefix, sizes in base 256, contiguous files."""
    signed = bytearray(header(b"\xff/x"))
    signed[148:156] = b"%06o\0 " % (sum(signed[:148]) + 256 + sum(signed[156:]) - 256)
    cases = {
        header(b"7/", kind=b"\0", magic=b""): ("7", True),
        header(b"7", kind=b"5", size=512): ("7", True),
        header(b"x", rest=b"7/task"): ("7/task/x", False),
        header(b"x", rest=b"7/task", magic=b"ustar  \0"): ("x", False),  # GNU has times there
        header(b"7/x", kind=b"7"): ("7/x", False),
        bytes(signed): (os.fsdecode(b"\xff/x"), False),
    }
    for data, (name, directory) in cases.items():
        (member,) = members(data + END)
        assert (member.name, member.is_directory, member.is_file) == (
            name,
            directory,
            not directory,
        )
        assert member.size == 0
    (member,) = members(header(size=b"\x80" + (9**20).to_bytes(11, "big")))
    assert member.size == 9**20
    for kind in (b"S", b"1", b"2", b"3", b"4", b"6", b"D", b"M", b"V", b"Z"):
        (member,) = members(header(kind=kind) + END)
        assert not member.is_file
        assert not member.is_directory
    for key in (b"GNU.sparse.map=0,1", b"GNU.sparse.major=1"):
        line = b"%d %b\n" % (len(key) + 4, key)
        (member,) = members(pax(line) + header() + END)
        assert not member.is_file


LONG = b"1" * 100_000
DAMAGED = {
    "a length of 100,000 digits": pax(LONG),
    "of 16,000 digits": pax(LONG[:16000]),
    "of 21 digits": pax(LONG[:21] + b" path=x\n"),
    "a length of 0": pax(b"0 path=x\n"),
    "a length that ends amid its number": pax(b"1 path=x\n"),
    "a length beyond the header": pax(b"99 path=x\n"),
    "without =": pax(b"8 path7\n"),
    "without an end": pax(b"9 path=xy"),
    "negative": pax(b"-9 path=x\n"),
    "a size of 100,000 digits": pax(b"16009 size=" + LONG[:15996] + b"\n") + header(),
    "a negative size, pax": pax(b"11 size=-1\n") + header(),
    "a negative size": header(size=b"\xff" * 12),
    "a size that is none": header(size=b"0x10"),
    "a size with a sign": header(size=b"-0000000001"),
    "a name for all": pax(b"10 path=x\n", b"g") + header(),
    "a size for all": pax(b"10 size=7\n", b"g") + header(),
    "sparse for all": pax(b"22 GNU.sparse.major=1\n", b"g") + header(),
    "headers of every kind without end": pax(b"") * 5000,
    "headers for all without end": pax(b"10 mine=x\n", b"g") * 5000,
    "long names without end": (header(size=3, kind=b"L") + filled(b"abc")) * 5000,
    "long links without end": (header(size=3, kind=b"K") + filled(b"abc")) * 5000,
    "a long name of a gigabyte": header(size=1 << 30, kind=b"L") + bytes(1 << 20),
    "a long link of 8 GiB": header(size=(1 << 33) - 1, kind=b"K") + bytes(1 << 20),
    "a header of a negative size": header(size=b"\xff" * 12, kind=b"x"),
    "a header of 2**80 bytes": header(size=b"\x80\0" + b"\xff" * 10, kind=b"x"),
    "headers, then the end": pax(b"10 path=x\n") + END,
    "headers, then nothing": pax(b"10 path=x\n"),
    "another check sum": header()[:-1] + b"x",
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("compress", [bytes, gzip.compress, lzma.compress])
def test_wrong_headers_are_refused(
    tmp_path: Path, data: bytes, compress: Callable[[bytes], bytes]
) -> None:
    """They are refused at once: the first of these keeps tarfile busy for 18 s."""
    with pytest.raises(Damage):
        members(data)
    path = tmp_path / "a"
    path.write_bytes(compress(data))
    with pytest.raises(CaptureError, match="is not a capture"), fastsmaps.open_capture(path):
        pass
    # After a member it is damage, and the members before are kept.
    path.write_bytes(compress(header(size=len(SMAPS)) + filled(SMAPS) + data))
    caught: list[fastsmaps.Error] = []
    with fastsmaps.open_capture(path, on_error=caught.append) as directory:
        assert tree(directory) == {"7/smaps": SMAPS}
    assert [type(error) for error in caught] == [CaptureError]


def test_huge_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(header(size=b"\x80\0" + b"\xff" * 10) + bytes(BLOCK))
    with pytest.raises(CaptureError, match="beyond the"), fastsmaps.open_capture(path):
        pass


def test_empty_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for name in (b"", b".", b"./", b"//"[:0]):
        path.write_bytes(header(name, size=3) + filled(b"abc") + END)
        with pytest.raises(CaptureError, match="is not a valid name for a file"):
            fastsmaps.open_capture(path).__enter__()


def test_streams_of_single_bytes(tmp_path: Path) -> None:
    """20,000 gzip streams in one file take linear time, as one does."""
    text = SMAPS * 40
    data = b"".join(gzip.compress(text[i : i + 1], 1) for i in range(len(text)))
    path = tmp_path / "a.gz"
    path.write_bytes(data + bytes(100))
    assert len(fastsmaps.load(path)) == len(fastsmaps.parse(text))
    path.write_bytes(data + b"x")
    with pytest.raises(fastsmaps.ReadError, match="is damaged"):
        fastsmaps.load(path)


def test_xz_that_needs_much_memory_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}]
    try:
        data = lzma.compress(SMAPS, filters=filters)
    except MemoryError:
        pytest.skip("there is no memory to write such a file")
    path = tmp_path / "a.xz"
    path.write_bytes(data)
    with pytest.raises(fastsmaps.ReadError, match=r"is damaged.*[Mm]emory"):
        fastsmaps.load(path)
