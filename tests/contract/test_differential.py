"""Both backends on mostly complete texts, in chunks, and on texts where they once differed.

test_twins.py covers every kind of line, mostly wrong ones. Here records are like those
before them, but for what makes the fast paths (match_slots, _Slot) end and begin again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsmaps import _errors as errors
from fastsmaps._errors import PROBLEMS
from fastsmaps._fields import SIZES
from support.examples import examples
from support.independent import DATA
from support.smaps_texts import header, kb, record
from support.twins import Twins, check_reads, same

pytestmark = pytest.mark.core


# ---- texts that are complete, or damaged in one place

# Eight digits, a 32-bit cell and its two reserved values, and the largest value.
NUMBERS = st.one_of(
    st.integers(0, 9),
    st.sampled_from([9_999_999, 99_999_999, 100_000_000, 2**54 - 1]),
    st.integers(2**32 - 3, 2**32 + 1),
)
HEADERS = st.sampled_from(
    [
        header(0x7F0000000000, 0x7F0000001000, b"/lib/a", inode=7),
        header(0x7F0000001000, 0x7F0000002000, b"/lib/a", inode=7, offset=0x1000),
        header(0x7F0000002000, 0x7F0000003000, perms=b"---p"),
        header(0x08048000, 0x08049000, b"[anon:a: b]", perms=b"rwxs"),
        header(0xFFFFFFFFFF600000, 0xFFFFFFFFFF601000, b"[vsyscall]"),
        header(0, 2**64 - 1, b"/" + b"n" * 300, inode=2**64 - 1, dev=b"103:12345"),
        b"1-2 r--p 0 0:0 0\n",
        b"1000-2000\trw-p\t0  fd:01\t 9 \t/tmp/x \n",
    ]
)
FLAGS = st.sampled_from([b"VmFlags: rd wr mr \n", b"VmFlags: rd \n", b"VmFlags: \n"])


@st.composite
def records(draw: st.DrawFn, layout: list[str]) -> bytes:
    """Draw a record of these fields, without some of them and with new ones."""
    labels = [label for label in layout if draw(st.integers(0, 9))]
    if not draw(st.integers(0, 5)):
        labels = draw(st.permutations(labels))
    lines = [kb(label, draw(NUMBERS)) for label in labels]
    if draw(st.booleans()):
        lines.append(b"THPeligible:    %8d\n" % draw(st.integers(0, 1)))
    if draw(st.booleans()):
        lines.append(draw(FLAGS))
    odd = draw(st.integers(0, 20))
    if odd < 6:
        # A label of a newer kernel: a number, kB or text, which may change between records.
        value = draw(st.sampled_from([b"7", b"7 kB", b"18446744073709551614", b"x y", b""]))
        lines.insert(draw(st.integers(0, len(lines))), b"New%d: %s\n" % (odd, value))
    if odd in (5, 6):
        lines.insert(draw(st.integers(0, len(lines))), b"Name:           [anon:x]\n")
    if odd == 7:
        lines.insert(draw(st.integers(0, len(lines))), b" \t\n")
    return draw(HEADERS) + b"".join(lines)


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    layouts = draw(
        st.lists(
            st.lists(st.sampled_from(SIZES), unique=True, min_size=1, max_size=6),
            min_size=1,
            max_size=2,
        )
    )
    count = draw(st.integers(1, 8))
    text = b"".join(draw(records(draw(st.sampled_from(layouts)))) for _ in range(count))
    return text.replace(b"\n", b"\r\n") if not draw(st.integers(0, 5)) else text


SPANS = st.sampled_from(
    [b"", b"\n", b" ", b"\t", b"\r\n", b"0", b"9" * 20, b"f", b"-", b":", b"kB", b"\x00", b"\xff"]
    + [b"A", b"Rss: 1 kB\n", b"Name: x\n", header(name=b"/x")]
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw a document with a span or a line removed, repeated or replaced."""
    text = draw(documents())
    at = draw(st.integers(0, len(text)))
    end = at + draw(st.integers(0, 20))
    if draw(st.booleans()):
        at = text.rfind(b"\n", 0, at) + 1
        end = text.find(b"\n", at) + 1
    change = draw(st.integers(0, 2))
    new = (b"", text[at:end] * 2, draw(SPANS))[change]
    return text[:at] + new + text[end:]


@examples(800)
@given(text=documents(), chunk_size=st.integers(1, 400), chunks=st.integers(1, 64))
def test_complete_texts_are_read_alike_in_any_chunks(
    twins: Twins, text: bytes, chunk_size: int, chunks: int
) -> None:
    whole = check_reads(twins, text, (chunk_size, chunks))
    assert isinstance(whole[0], int), whole


@examples(800)
@given(text=damaged(), chunk_size=st.integers(1, 400), chunks=st.integers(1, 64))
def test_damaged_texts_are_read_alike_in_any_chunks(
    twins: Twins, text: bytes, chunk_size: int, chunks: int
) -> None:
    assert check_reads(twins, text, (chunk_size, chunks))


@examples(300)
@given(text=st.binary(max_size=200))
def test_any_bytes_are_parsed_alike(twins: Twins, text: bytes) -> None:
    assert same(twins, text)
    assert same(twins, record(Rss=4, flags=b"rd ") + text)


@pytest.mark.parametrize("chunks", [1, 3, 64])
def test_every_chunk_size_gives_the_same_table(twins: Twins, chunks: int) -> None:
    text = (DATA / "captures/6.12-amd64/zoo/smaps").read_bytes()[:1500]
    assert check_reads(
        twins, text, *((chunk_size, chunks) for chunk_size in range(1, len(text), 7))
    )
    short = record(name=b"/a", flags=b"rd ", Rss=4) + record(0x20000, 0x30000, Rss=8)
    assert check_reads(
        twins, short, *((chunk_size, chunks) for chunk_size in range(1, len(short) + 2))
    )


def test_every_byte_in_a_name_or_value_is_parsed_alike(twins: Twins) -> None:
    for byte in range(256):
        for line in (header(name=b"/a%cb" % byte), header() + b"New: a%cb" % byte):
            assert same(twins, line)
            assert same(twins, line, True)


# ---- sizes that no kernel prints


def test_lines_longer_than_the_buffers_are_complete(twins: Twins) -> None:
    text = header(name=b"/" + b"x" * 450_000) + kb("Rss", 4) + b"New: " + b"y" * 300_000 + b"\n"
    assert check_reads(twins, text, (3000, 64), (4096, 1), (150_001, 2))[0] == 1


def test_a_long_run_of_blanks_takes_linear_time(twins: Twins) -> None:
    # A search from each place would take minutes.
    for blanks in (b" " * 200_000, b"\t\r" * 100_000):
        assert same(twins, header() + b"New: a" + blanks + b"b\n")[0] == 1
        assert same(twins, header() + b"Rss:" + blanks)[2] == len(header())
        assert same(twins, blanks + b"\n" + header() + blanks) == same(twins, header())
    blank = b" \t" * 100_000
    line = blank.join([b"1-2", b"r--p", b"0", b"0:0", b"7", b"/x\n"])
    assert same(twins, line) == same(twins, b"1-2 r--p 0 0:0 7 /x\n")
    assert same(twins, line.replace(b"0:0", b"0;0"))[3] == 1


@pytest.mark.parametrize("zeros", [1, 10, 25, 5000])
def test_leading_zeros_are_parsed_alike(twins: Twins, zeros: int) -> None:
    # int() refuses 4,300 digits, even zeros.
    line = b"1000-2000 rw-p 0 0:0 " + b"0" * zeros + b"7 /x\n"
    fields = b"Rss: " + b"0" * zeros + b"8 kB\nNew: " + b"0" * zeros + b"9\n"
    same(twins, line + fields)
    for twin in twins:
        table = twin.parse(line + fields)
        assert table.row(0)[3] == 7
        assert table.row(0)[-2:] == (8192, 9)


# ---- limits


def problem(result: tuple[Any, ...]) -> str:
    assert not isinstance(result[0], int)
    return next(problem for problem in PROBLEMS if f": {problem}: " in result[1])


def test_a_repeated_field_is_reported_before_too_many(twins: Twins) -> None:
    text = header() + b"Text: x\n" + b"".join(b"L%d: 1 kB\n" % i for i in range(256))
    assert problem(same(twins, text + b"Text: 1 kB\n")) == PROBLEMS[errors.TWICE]
    assert problem(same(twins, text + b"More: 1 kB\n")) == PROBLEMS[errors.TOO_MANY]
    assert same(twins, text + b"More: y\n")[0] == 1


def test_too_many_text_fields_are_refused(twins: Twins) -> None:
    # Each is compared with all others of its record.
    lines = [b"T%d: x\n" % i for i in range(257)]
    assert same(twins, header() + b"".join(lines[:256]))[0] == 1
    assert problem(same(twins, header() + b"".join(lines))) == PROBLEMS[errors.TOO_MANY]
    assert (
        problem(same(twins, header() + b"".join(lines[:256]) + lines[0]))
        == (PROBLEMS[errors.TWICE])
    )
    assert same(twins, b"".join(header() + line for line in lines))[0] == 257


# ---- descriptors


def test_unreadable_descriptors_fail_alike(twins: Twins, tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    first, second = os.pipe()
    try:
        for fd in (directory, first, 10**6):  # EISDIR, ESPIPE, EBADF
            found = set()
            for twin in twins:
                calls = (twin.read, twin.total, lambda fd, *_, twin=twin: twin.rollup(fd))
                for call in calls:
                    with pytest.raises(OSError, match=r"\[Errno") as caught:
                        call(fd, 3000, 64)
                    found.add((type(caught.value), caught.value.errno, str(caught.value)))
            assert len(found) == 1
    finally:
        for fd in (directory, first, second):
            os.close(fd)
