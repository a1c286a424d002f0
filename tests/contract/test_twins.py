"""Both backends against each other: values and errors, in one piece and in chunks."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsmaps import ParseError
from fastsmaps._fields import SIZES
from support.examples import examples
from support.independent import DATA
from support.smaps_texts import record
from support.twins import Twins, outcome, same

pytestmark = pytest.mark.core


def read_in_chunks(
    module: ModuleType, text: bytes, chunk_size: int, chunks: int
) -> tuple[Any, ...]:
    fd = os.memfd_create("text")
    try:
        os.write(fd, text)
        return outcome(module.read, fd, chunk_size, chunks)
    finally:
        os.close(fd)


# ---- documents

BLANK = st.sampled_from([" ", " ", " ", "  ", "\t", "\t\t "])
NUMBERS = st.one_of(
    st.integers(0, 9),
    st.integers(0, 10**8),
    st.sampled_from([2**32 - 3, 2**32 - 2, 2**32 - 1, 2**32, 2**54 - 1, 2**54, 2**64 - 2, 2**64]),
    st.sampled_from([99_999_999, 100_000_000, 1_234_567_890]),
)
LABELS = st.sampled_from(
    [*SIZES, "KernelPageSize", "MMUPageSize", "THPeligible", "ProtectionKey", "NewSize"]
    + ["NewCount", "X", "AVeryLongLabelOfTheFuture", "Pss_Next", "Huge(2M)"]
)
NAMES = st.one_of(
    st.sampled_from(
        [b"", b"[heap]", b"[stack]", b"/lib/libc.so.6", b"/tmp/a b ", b"/tmp/x (deleted)", b"\r"]
        + [b"/tmp/Rss:   12 kB", b"[anon: a: b]", b"/tmp/\x1b[31m\xff\\012", b"/" + b"n" * 300]
    ),
    st.binary(max_size=40).map(lambda name: b"/" + name.replace(b"\n", b"")),
)


@st.composite
def fields(draw: st.DrawFn) -> bytes:
    """Draw a field line, mostly as a kernel writes it."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        flags = draw(st.lists(st.sampled_from(["rd", "wr", "mr", "ht", "??", "sd"]), max_size=12))
        return ("VmFlags: " + "".join(flag + " " for flag in flags)).encode()
    if kind == 1:
        return b"Name:           " + draw(st.sampled_from([b"[anon:x]", b"", b"<fault>"]))
    label = draw(LABELS)
    number = draw(NUMBERS)
    if kind == 2:
        texts = ["", "hello world", "7 of 12 kB", "-1", "12 kB x", "1kB", "5 KB", "5 MiB x"]
        text = draw(st.sampled_from(texts))
        return f"{label}:{draw(BLANK)}{text}".encode()
    if kind == 3:
        unit = draw(st.sampled_from(["", " ", " kB", "\tkB "]))
        return f"{label}:{draw(BLANK)}{number}{unit}".encode()
    if label in ("THPeligible", "ProtectionKey", "NewCount"):
        return f"{label}:{number:>{24 - len(label) - 1}}".encode()
    return f"{label + ':':<16}{number:>8} kB".encode()


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """Draw similar records, and now and then a different one."""
    layout = draw(st.lists(fields(), max_size=8, unique_by=lambda line: line.split(b":")[0]))
    address = draw(st.sampled_from([0, 0x8048000, 0x55AA00000000, 0xFFFF800000000000]))
    lines = []
    for _ in range(draw(st.integers(1, 6))):
        size = draw(st.sampled_from([0, 0x1000, 0x2000, 0x100000000]))
        perms = draw(st.sampled_from(["r--p", "rw-p", "rwxs", "---p", "rw-S", "r-x-"]))
        dev = draw(st.sampled_from(["00:00", "fd:01", "103:12345"]))
        inode = draw(st.sampled_from([0, 7, 2**40, 2**64 - 1]))
        start = f"{address:08x}-{address + size:08x} {perms} {draw(st.integers(0, 2**33)):08x}"
        name = draw(NAMES)
        pad = b" " * draw(st.integers(0, 3))
        lines.append(f"{start} {dev} {inode} ".encode() + (pad + name if name else b""))
        record = list(layout)
        for _ in range(draw(st.integers(0, 2))):
            at = draw(st.integers(0, len(record)))
            change = draw(st.integers(0, 3))
            if change == 0:
                record.insert(at, draw(fields()))
            elif change == 1 and record:
                record.pop(at % len(record))
            elif record:
                record[at % len(record)] = draw(fields())
        lines += record
        address = (address + size) & (2**64 - 2**34)
    end = draw(st.sampled_from([b"\n", b"\n", b"\r\n"]))
    return end.join(lines) + draw(st.sampled_from([end, b""]))


@examples(600)
@given(text=documents(), crlf=st.booleans())
def test_generated_documents_are_parsed_alike(twins: Twins, text: bytes, crlf: bool) -> None:
    assert same(twins, text, crlf)


@examples(200)
@given(text=documents(), chunk_size=st.integers(1, 200), chunks=st.integers(1, 64))
def test_chunk_borders_change_nothing(
    twins: Twins, text: bytes, chunk_size: int, chunks: int
) -> None:
    whole = same(twins, text)
    for module in twins:
        assert read_in_chunks(module, text, chunk_size, chunks) == whole


# ---- damage

SAVED = [
    (DATA / name).read_bytes()[:6000]
    for name in (
        "captures/7.2-amd64/zoo/smaps",
        "captures/5.10-armhf/zoo/smaps",
        "captures/6.12-arm64-16k/zoo/smaps",
        "captures/6.12-amd64/zoo/maps",
    )
] + [path.read_bytes()[:4000] for path in sorted(DATA.glob("handmade/*/smaps"))]


@examples(500)
@given(data=st.data())
def test_damaged_texts_are_parsed_alike(twins: Twins, data: st.DataObject) -> None:
    text = bytearray(data.draw(st.sampled_from(SAVED)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, max(len(text) - 1, 0)))
        to = at + data.draw(st.integers(0, 60))
        new = data.draw(
            st.one_of(
                st.binary(max_size=8),
                st.sampled_from([b"\n", b" ", b":", b"0", b"kB", b"\r\n", b"Rss: 1 kB\n", b"f"]),
                st.just(bytes(text[at:to]) * 2),
            )
        )
        text[at:to] = new
    same(twins, bytes(text), data.draw(st.booleans()))


def test_every_changed_byte_is_parsed_alike(twins: Twins) -> None:
    text = (
        b"08048000-08049000 r-xp 00001000 fd:01 77 /bin/x\n"
        b"Rss:                   4 kB\nTHPeligible:           0\nVmFlags: rd ex \n"
        b"08049000-0804a000 rw-p 00000000 00:00 0 \n"
        b"Rss:                   8 kB\nTHPeligible:           0\nVmFlags: rd wr \n"
    )
    for at in range(len(text)):
        for byte in b"\n\r\t 0g9:-aZ\x00\xff/":
            same(twins, text[:at] + bytes([byte]) + text[at + 1 :])
        same(twins, text[:at] + text[at + 1 :])
        same(twins, text[:at])


def test_every_cut_of_a_record_is_parsed_alike(twins: Twins) -> None:
    text = (DATA / "captures/7.2-amd64/zoo/smaps").read_bytes()[:2500]
    results = [same(twins, text[:end]) for end in range(len(text))]
    assert any(result[0] is ParseError for result in results)


@pytest.mark.parametrize(
    "path", sorted(DATA.glob("captures/*/zoo/smaps")), ids=lambda p: p.parts[-3]
)
def test_real_files_are_read_alike_in_any_chunks(twins: Twins, path: Path) -> None:
    text = path.read_bytes()
    whole = same(twins, text)
    for chunk_size, chunks in ((1, 64), (7, 1), (727, 3), (3000, 64), (65536, 1)):
        for module in twins:
            assert read_in_chunks(module, text, chunk_size, chunks) == whole


@pytest.mark.parametrize(
    "path", sorted(DATA.glob("*/*/smaps*")) + sorted(DATA.glob("*/*/*/smaps*"))
)
def test_total_is_the_tables_sum(twins: Twins, path: Path) -> None:
    if path.suffix:
        return
    with path.open("rb") as file:
        for module in twins:
            text = path.read_bytes()
            sums = module.parse(text).sums()[0] if text else None
            for chunk_size in (31, 3000):
                assert module.total(file.fileno(), chunk_size, 64) == sums
            assert module.rollup(file.fileno()) == (sums and sums[1])


def test_an_empty_file_gives_none(twins: Twins) -> None:
    for module in twins:
        assert read_in_chunks(module, b"", 3000, 64) == (None,)
        assert len(module.parse(b"")) == 0
        assert module.parse(b"").sums() == [(0, {})]


def test_mappings_after_vsyscall_are_read(twins: Twins) -> None:
    """[vsyscall] is the last record of a process, but a made-up text may go on after it."""
    first = record(0x1000, 0x2000, Rss=4)
    gate = record(0xFFFFFFFFFF600000, 0xFFFFFFFFFF601000, b"[vsyscall]", Rss=0)
    beyond = record(0xFFFFFFFFFF700000, 0xFFFFFFFFFF701000, Rss=8)
    for text in (first + gate, first + gate + beyond, gate + gate + first, (first + gate)[:-1]):
        whole = same(twins, text)
        for chunk_size in (len(gate), len(first + gate), len(first + gate) - 1, 3000):
            for module in twins:
                assert read_in_chunks(module, text, chunk_size, 1) == whole


def test_wrong_chunk_sizes_are_refused(twins: Twins) -> None:
    for module in twins:
        for chunk_size, chunks in ((0, 1), (1, 0), (1, 65)):
            with pytest.raises(ValueError, match="chunks"):
                module.read(0, chunk_size, chunks)
        with pytest.raises(OSError, match="Bad file descriptor"):
            module.read(10**6, 3000, 64)


def test_a_row_out_of_range_is_an_index_error(twins: Twins) -> None:
    for module in twins:
        table = module.parse(b"1000-2000 r--p 0 0:0 0\nRss: 4 kB\n")
        with pytest.raises(IndexError):
            table.row(1)
        with pytest.raises(IndexError):
            table.row_into(1, {}, ("Rss",))
        with pytest.raises(ValueError, match="names"):
            table.row_into(0, {}, ())
        with pytest.raises(KeyError):
            table.column("Pss")
        with pytest.raises(ValueError, match="32-bit"):
            table.sums(memoryview(b"123"), 1)
