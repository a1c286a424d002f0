"""parse() and load(): their arguments, and line ends."""

from __future__ import annotations

import array
import bz2
import ctypes
import errno
import gzip
import io
import lzma
import mmap
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fastsmaps
from support.commands import environment
from support.independent import DATA
from support.smaps_texts import header, record

pytestmark = pytest.mark.core

TEXT = record(0x10000, 0x11000, b"/a", flags=b"rd ", Rss=4) + record(0x11000, 0x12000, Rss=8)
CAPTURE = (DATA / "captures/6.12-amd64/zoo/smaps").read_bytes()


# ---- buffers


def mapped(text: bytes) -> mmap.mmap:
    data = mmap.mmap(-1, len(text))
    data[:] = text
    return data


BUFFERS: dict[str, Callable[[bytes], Any]] = {
    "bytearray": bytearray,
    "memoryview": memoryview,
    "a part of a view": lambda text: memoryview(b"no text" + text + b"none")[7:-4],
    "read-only": lambda text: memoryview(bytearray(text)).toreadonly(),
    "signed": lambda text: memoryview(text).cast("b"),
    "two dimensions": lambda text: memoryview(text).cast("B", (2, len(text) // 2)),
    "mmap": mapped,
    "array of bytes": lambda text: array.array("B", text),
    "array of 64 bits": lambda text: array.array("Q", text),
    "ctypes": lambda text: (ctypes.c_char * len(text)).from_buffer_copy(text),
}


@pytest.mark.parametrize("name", BUFFERS)
def test_every_contiguous_buffer_is_parsed(backend: ModuleType, name: str) -> None:
    text = TEXT + b"\n" * (-len(TEXT) % 8)
    data = BUFFERS[name](text)
    assert list(fastsmaps.parse(data)) == list(fastsmaps.parse(TEXT))


@pytest.mark.parametrize(
    "data",
    [b"", bytearray(), memoryview(b""), array.array("Q"), memoryview(b"").cast("B"), b"\n \r\n\t"],
    ids=["bytes", "bytearray", "memoryview", "array", "cast", "blank"],
)
def test_an_empty_text_has_no_totals(backend: ModuleType, data: Any) -> None:
    table = fastsmaps.parse(data)
    # Nothing was read, which is not the same as no memory.
    assert (len(table), table.totals().size, table.totals().rss) == (0, None, None)
    assert (table.group_by("path"), table.group_by("kind"), [*table.top(3, "size")]) == ({}, {}, [])
    assert fastsmaps.parse(TEXT)[7:].totals().size is None


def test_a_buffer_that_is_not_contiguous_is_refused(backend: ModuleType) -> None:
    for view in (memoryview(TEXT)[::2], memoryview(TEXT)[::-1]):
        with pytest.raises(BufferError, match="contiguous"):
            fastsmaps.parse(view)


@pytest.mark.parametrize("data", ["text", "", None, 7, [1], io.BytesIO(TEXT), object()], ids=type)
def test_an_object_without_bytes_is_a_type_error(backend: ModuleType, data: Any) -> None:
    with pytest.raises(TypeError):
        fastsmaps.parse(data)


def test_a_buffer_is_released_after_parsing(backend: ModuleType) -> None:
    data = bytearray(TEXT)
    table = fastsmaps.parse(data)
    data += b"nonsense\n"  # a BufferError while it is exported
    with pytest.raises(fastsmaps.ParseError):
        fastsmaps.parse(data)
    data.clear()
    assert table[0].path == "/a"


# ---- line ends


def paths(text: bytes) -> list[bytes]:
    return [mapping.raw_path for mapping in fastsmaps.parse(text)]


def test_a_name_may_end_in_cr(backend: ModuleType) -> None:
    a, b = header(name=b"/a\r"), header(name=b"/b")
    assert paths(a + b) == [b"/a\r", b"/b"]
    assert paths(b + a) == [b"/b", b"/a\r"]
    # They belong to the line end only if every line has them.
    assert paths(a + a) == [b"/a", b"/a"]
    assert paths((a + b).replace(b"\n", b"\r\n")) == [b"/a\r", b"/b"]


@pytest.mark.parametrize("cut", [1, 2])
def test_crlf_with_a_cut_last_line_is_parsed(backend: ModuleType, cut: int) -> None:
    text = (TEXT + header(name=b"/last")).replace(b"\n", b"\r\n")
    assert list(fastsmaps.parse(text[:-cut])) == list(fastsmaps.parse(TEXT + header(name=b"/last")))


def test_crlf_after_a_header_without_a_name_is_parsed(backend: ModuleType) -> None:
    for line in (header(), header().rstrip() + b"\n"):
        assert paths(line.replace(b"\n", b"\r\n") * 2) == [b"", b""]
        assert paths(line.replace(b"\n", b"\r\n") + line) == [b"", b""]


@pytest.mark.parametrize("length", [*range(4015, 4031), 9000])
def test_crlf_is_detected_after_a_first_line_of_any_length(
    backend: ModuleType, length: int
) -> None:
    # The first line decides whether a text is CRLF; its end is searched in blocks.
    name = b"/" + b"x" * length
    text = header(name=name) + TEXT
    assert paths(text) == [name, b"/a", b""]
    assert paths(text.replace(b"\n", b"\r\n")) == [name, b"/a", b""]
    assert paths(text.replace(b"\n", b"\r\n", 1)) == [name + b"\r", b"/a", b""]


@pytest.mark.parametrize("blanks", [b" ", b"\t", b" \t  \t"])
@pytest.mark.parametrize("every", [1, 2, 7])
def test_other_runs_of_blanks_change_nothing(
    backend: ModuleType, blanks: bytes, every: int
) -> None:
    lines = CAPTURE.removesuffix(b"\n").split(b"\n")
    for i in range(0, len(lines), every):
        if lines[i][:1].isupper():
            lines[i] = blanks.join(lines[i].split()) + blanks
        else:
            *parts, name = lines[i].split(b" ", 5)
            lines[i] = blanks.join([*parts, name.lstrip(b" ")])
    changed = b"\n".join(lines)
    assert changed != CAPTURE
    assert list(fastsmaps.parse(changed)) == list(fastsmaps.parse(CAPTURE))


# ---- large


def test_70_000_different_names_are_kept(backend: ModuleType) -> None:
    text = b"".join(header(i << 12, (i + 1) << 12, b"/%d" % i, inode=i) for i in range(70_000))
    table = fastsmaps.parse(text)
    assert len(table) == 70_000
    assert [mapping.path for mapping in table[::997]] == [f"/{i}" for i in range(0, 70_000, 997)]
    assert table.column("inode")[-1] == 69_999
    assert len(table.group_by("path")) == 70_000
    assert table.totals().size == 70_000 << 12


def test_a_name_longer_than_a_block_is_complete(backend: ModuleType) -> None:
    name = b"/" + bytes(byte for byte in range(256) if byte != 10) * 400
    assert paths(header(name=name) + header(name=name + b"x") * 2) == [name] + [name + b"x"] * 2


# In a process of its own: a crash would end the whole run.
CHANGING = """
import sys, threading, time
import fastsmaps
from fastsmaps import _backend

assert fastsmaps.BACKEND == sys.argv[1]
text = open(sys.argv[2], "rb").read()
data = bytearray(text)
view = memoryview(data)
shifted = text[7:] + text[:7]
texts = [text, text.replace(b"kB\\n", b"\\nkB"), text.replace(b"\\n", b"A"), shifted,
         text.replace(b":", b"\\n"), text.replace(b"Rss:", b"Ra\\xff:")]
texts = [(one + text)[:len(text)] for one in texts]
stop = False

def change():
    i = 0
    while not stop:
        at = i * 611 % len(data)
        view[at : at + 4096] = texts[i % len(texts)][at : at + 4096]
        i += 1

thread = threading.Thread(target=change)
thread.start()
parsed = failed = 0
try:
    end = time.monotonic() + 1.5
    while time.monotonic() < end or not (parsed or failed):
        try:
            table = _backend.parse(view, parsed % 2 == 0)
        except fastsmaps.ParseError as error:
            assert 0 <= error.offset <= len(data)
            failed += 1
            continue
        parsed += 1
        rows = [table.row(i) for i in range(len(table))]
        assert all(len(row) == 9 + len(table.labels) for row in rows)
        table.sums()
        table.extra
        for label in set(table.labels):
            table.column(label)
finally:
    stop = True
    thread.join()
print(parsed + failed)
"""


def test_a_buffer_that_changes_meanwhile_crashes_nothing(backend: ModuleType) -> None:
    choice = fastsmaps.BACKEND
    done = subprocess.run(
        [
            *(sys.executable, "-X", "faulthandler", "-c", CHANGING),
            *(choice, str(DATA / "captures/6.12-amd64/zoo/smaps")),
        ],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10


# ---- files


def test_load_takes_paths_and_open_files(backend: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "sm\udcffaps"
    path.write_bytes(TEXT)
    rows = list(fastsmaps.parse(TEXT))
    assert list(fastsmaps.load(path)) == rows
    assert list(fastsmaps.load(str(path))) == rows
    with path.open("rb") as file:
        assert list(fastsmaps.load(file)) == rows
        assert len(fastsmaps.load(file)) == 0  # from its current place
    with os.fdopen(os.open(path, os.O_RDONLY), "rb") as numbered:
        assert list(fastsmaps.load(numbered)) == rows
    assert list(fastsmaps.load(io.BytesIO(TEXT))) == rows
    table = fastsmaps.load(path)
    assert (table.pid, table.procfs, table.taken_at) == (None, None, None)


@pytest.mark.parametrize("source", [None, 7, 1.5, [], object()], ids=type)
def test_load_of_another_type_is_a_type_error(backend: ModuleType, source: Any) -> None:
    with pytest.raises(TypeError):
        fastsmaps.load(source)


def test_load_of_an_unreadable_file_is_a_read_error(backend: ModuleType, tmp_path: Path) -> None:
    for path, number in ((tmp_path, errno.EISDIR), (tmp_path / "none", errno.ENOENT)):
        with pytest.raises(fastsmaps.ReadError) as caught:
            fastsmaps.load(path)
        error = caught.value
        assert (error.errno, error.filename, error.path) == (number, str(path), str(path))
        assert error.pid is None
        assert str(path) in str(error)
    with pytest.raises(TypeError, match="binary mode"):
        fastsmaps.load(io.StringIO(""))  # type: ignore[arg-type]


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}


@pytest.mark.parametrize("ending", COMPRESSORS)
def test_compressed_files_are_recognized_by_content(
    backend: ModuleType, tmp_path: Path, ending: str
) -> None:
    compress = COMPRESSORS[ending]
    path = tmp_path / "by its first bytes, not its name"
    path.write_bytes(compress(CAPTURE))
    assert list(fastsmaps.load(path)) == list(fastsmaps.parse(CAPTURE))
    half = CAPTURE.index(b"\n", len(CAPTURE) // 2) + 1
    path.write_bytes(compress(CAPTURE[:half]) + compress(CAPTURE[half:]))
    assert list(fastsmaps.load(path)) == list(fastsmaps.parse(CAPTURE))
    path.write_bytes(compress(b""))
    assert len(fastsmaps.load(path)) == 0
    path.write_bytes(compress(TEXT.replace(b"\n", b"\r\n")))
    assert list(fastsmaps.load(path)) == list(fastsmaps.parse(TEXT))
    path.write_bytes(compress(TEXT + b"nonsense\n"))
    with pytest.raises(fastsmaps.ParseError) as caught:
        fastsmaps.load(path)
    assert (caught.value.path, caught.value.offset) == (str(path), len(TEXT))


@pytest.mark.parametrize("ending", COMPRESSORS)
def test_a_damaged_compressed_file_is_a_read_error(
    backend: ModuleType, tmp_path: Path, ending: str
) -> None:
    data = COMPRESSORS[ending](CAPTURE)
    for damaged in (data[:6], data[:-1], data[:40] + bytes(40) + data[80:]):
        with pytest.raises(fastsmaps.ReadError, match="the file is damaged") as caught:
            fastsmaps.load(io.BytesIO(damaged))
        assert caught.value.path is None
        path = tmp_path / "damaged"
        path.write_bytes(damaged)
        with pytest.raises(fastsmaps.ReadError, match="damaged") as caught:
            fastsmaps.load(path)
        assert (caught.value.path, caught.value.filename) == (str(path), str(path))


@pytest.mark.parametrize("ending", COMPRESSORS)
def test_decompression_stops_at_max_bytes(backend: ModuleType, tmp_path: Path, ending: str) -> None:
    data = COMPRESSORS[ending](CAPTURE)
    path = tmp_path / "bomb"
    path.write_bytes(data)
    for source in (path, io.BytesIO(data)):
        with pytest.raises(fastsmaps.ReadError, match="more than the 100 bytes") as caught:
            fastsmaps.load(source, max_bytes=100)
        assert caught.value.errno == errno.EFBIG
    assert list(fastsmaps.load(path, max_bytes=len(CAPTURE))) == list(fastsmaps.parse(CAPTURE))


def test_zstd_needs_python_3_14(backend: ModuleType) -> None:
    frame = b"\x28\xb5\x2f\xfd\x20\x00\x01\x00\x00"  # of no bytes
    if sys.version_info >= (3, 14):
        assert len(fastsmaps.load(io.BytesIO(frame))) == 0
    else:
        with pytest.raises(fastsmaps.NotSupported, match=r"no compression\.zstd"):
            fastsmaps.load(io.BytesIO(frame))


def test_a_damaged_text_names_its_file(backend: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "smaps"
    path.write_bytes(TEXT + b"\xffnonsense\n")
    with path.open("rb") as file, pytest.raises(fastsmaps.ParseError) as caught:
        fastsmaps.load(file)
    assert caught.value.path == str(path)
    assert str(caught.value).startswith(f"{path}: line {TEXT.count(10) + 1} (byte {len(TEXT)}): ")
    with pytest.raises(fastsmaps.ParseError) as caught:
        fastsmaps.load(io.BytesIO(b"nonsense"))
    assert caught.value.path is None


def test_an_unreadable_open_file_is_a_read_error(backend: ModuleType) -> None:
    with (
        open("/proc/self/mem", "rb", buffering=0) as file,
        pytest.raises(fastsmaps.ReadError, match="cannot read /proc/self/mem") as caught,
    ):
        fastsmaps.load(file)
    assert (caught.value.path, caught.value.errno) == ("/proc/self/mem", errno.EIO)
