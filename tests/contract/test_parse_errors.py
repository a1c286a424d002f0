"""Texts that are not smaps: the problem and its place."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

import fastsmaps
from fastsmaps import _errors as errors
from fastsmaps._errors import PROBLEMS

pytestmark = pytest.mark.core

HEADER = b"00400000-00401000 r-xp 00000000 fd:01 77 /bin/x\n"
RECORD = HEADER + b"Rss:                   4 kB\nVmFlags: rd ex \n"

CASES = {
    "field first": (b"Rss: 4 kB\n", errors.FIELD_FIRST, 0),
    "no line": (RECORD + b"?what\n", errors.NO_LINE, 3),
    "indented": (RECORD + b" Rss: 4 kB\n", errors.NO_LINE, 3),
    "no header": (b"00400000 r-xp 00000000 fd:01 77 /bin/x\n", errors.NO_HEADER, 0),
    "17 digits": (b"0-" + b"1" * 17 + b" r-xp 0 0:0 0\n", errors.NO_HEADER, 0),
    "17 digits of the end": (b"0-" + b"0" * 17 + b" r-xp 0 0:0 0\n", errors.NO_HEADER, 0),
    "17 digits of the offset": (b"0-1 r-xp " + b"0" * 17 + b" 0:0 0\n", errors.NO_HEADER, 0),
    "9 digits of a device": (b"0-1 r-xp 0 0:000000000 0\n", errors.NO_HEADER, 0),
    "no end": (b"00400000- r-xp 0 0:0 0\n", errors.NO_HEADER, 0),
    "blank before the end": (b"00400000- 00401000 r-xp 0 0:0 0\n", errors.NO_HEADER, 0),
    "three permissions": (b"00400000-00401000 r-x 0 0:0 0\n", errors.NO_HEADER, 0),
    "five permissions": (b"00400000-00401000 r-xpp 0 0:0 0\n", errors.NO_HEADER, 0),
    "permissions in disorder": (b"00400000-00401000 wr-p 0 0:0 0\n", errors.NO_HEADER, 0),
    "no blank before them": (b"00400000-00401000r-xp 0 0:0 0\n", errors.NO_HEADER, 0),
    "no minor": (b"00400000-00401000 r-xp 0 fd: 0\n", errors.NO_HEADER, 0),
    "no colon in the device": (b"00400000-00401000 r-xp 0 fd01 0\n", errors.NO_HEADER, 0),
    "inode in hex": (b"00400000-00401000 r-xp 0 0:0 f /x\n", errors.NO_HEADER, 0),
    "inode below 0": (b"00400000-00401000 r-xp 0 0:0 -1 /x\n", errors.NO_HEADER, 0),
    "another blank": (b"00400000-00401000\x0br-xp 0 0:0 0\n", errors.NO_HEADER, 0),
    "after good ones": (RECORD * 3 + b"00400000-00401000 r-xp\n", errors.NO_HEADER, 9),
    "capital digits": (b"0040000A-00500000 r-xp 0 0:0 0\n", errors.NO_HEADER, 0),
    "perms": (b"00400000-00401000 rwzp 0 0:0 0\n", errors.NO_HEADER, 0),
    "no inode": (b"00400000-00401000 rw-p 0 0:0\n", errors.NO_HEADER, 0),
    "name at inode": (b"00400000-00401000 rw-p 0 0:0 0/bin/x\n", errors.NO_HEADER, 0),
    "inode": (b"00400000-00401000 rw-p 0 0:0 18446744073709551616 \n", errors.TOO_LARGE, 0),
    "backwards": (b"00401000-00400000 rw-p 0 0:0 0 \n", errors.BACKWARDS, 0),
    "no colon": (HEADER + b"Rss 4 kB\n", errors.NO_LABEL, 1),
    "blank in label": (HEADER + b"Rss x: 4 kB\n", errors.NO_LABEL, 1),
    "no kB": (HEADER + b"Rss: 4\n", errors.NO_UNIT, 1),
    "no kB of a page size": (HEADER + b"MMUPageSize: 4\n", errors.NO_UNIT, 1),
    "no number": (HEADER + b"Rss: kB\n", errors.NO_NUMBER, 1),
    "joined kB": (HEADER + b"Rss: 4kB\n", errors.OTHER_UNIT, 1),
    "KB": (HEADER + b"Rss:                 512 KB\n", errors.OTHER_UNIT, 1),
    "MiB": (HEADER + b"Swap: 1 MiB\n", errors.OTHER_UNIT, 1),
    "kB and more": (HEADER + b"MMUPageSize: 4 kB x\n", errors.OTHER_UNIT, 1),
    "half a unit": (HEADER + b"Rss: 4 k", errors.OTHER_UNIT, 1),
    "number and no letter": (HEADER + b"Rss: 4 %\n", errors.NO_NUMBER, 1),
    "flag with another unit": (HEADER + b"THPeligible: 1 KB\n", errors.UNIT, 1),
    "negative": (HEADER + b"Rss: -4 kB\n", errors.NO_NUMBER, 1),
    "flag with kB": (HEADER + b"THPeligible: 1 kB\n", errors.UNIT, 1),
    "large": (HEADER + b"Rss: 18014398509481984 kB\n", errors.TOO_LARGE, 1),
    "large bare": (HEADER + b"New: 18446744073709551615\n", errors.TOO_LARGE, 1),
    "very large": (HEADER + b"New: " + b"9" * 5000 + b" kB\n", errors.TOO_LARGE, 1),
    "twice": (RECORD + b"Rss: 4 kB\n", errors.TWICE, 3),
    "twice in the next": (RECORD * 2 + b"Rss: 4 kB\n", errors.TWICE, 6),
    "flags twice": (RECORD + b"VmFlags: rd\n", errors.TWICE, 3),
    "name twice": (HEADER + b"Name: x\nName: x\n", errors.TWICE, 2),
    "text twice": (HEADER + b"New: a b\nNew: a b\n", errors.TWICE, 2),
    "text then number": (HEADER + b"New: a b\nNew: 1\n", errors.TWICE, 2),
    "number then text": (HEADER + b"New: 1\nNew: a b\n", errors.TWICE, 2),
    "cut": (RECORD + b"Pss:        1", errors.NO_UNIT, 3),
    "cut header": (RECORD + b"00401000-00", errors.NO_HEADER, 3),
}


@pytest.mark.parametrize("name", CASES)
def test_errors_have_offset_line_number_and_line(backend: ModuleType, name: str) -> None:
    text, problem, before = CASES[name]
    lines = text.split(b"\n")
    with pytest.raises(fastsmaps.ParseError) as caught:
        fastsmaps.parse(text)
    error = caught.value
    assert error.problem == PROBLEMS[problem]
    assert error.line_number == before + 1
    assert error.line == lines[before]
    assert error.offset == sum(len(line) + 1 for line in lines[:before])
    assert isinstance(error, ValueError)


def test_the_largest_values_are_accepted(backend: ModuleType) -> None:
    text = (
        HEADER
        + b"Rss: 18014398509481983 kB\nNew: 18446744073709551614\nOne: 0000000000000000000000001\n"
    )
    mapping = fastsmaps.parse(text)[0]
    assert mapping.rss == 2**64 - 1024
    assert mapping["New"] == 2**64 - 2
    assert mapping["One"] == 1


def test_more_than_256_labels_are_refused(backend: ModuleType) -> None:
    labels = [b"L%d: 1 kB\n" % i for i in range(257)]
    assert len(fastsmaps.parse(HEADER + b"".join(labels[:256])).fields) == 256
    spread = b"".join(HEADER + label for label in labels)
    with pytest.raises(fastsmaps.ParseError) as caught:
        fastsmaps.parse(spread)
    assert caught.value.line == b"L256: 1 kB"


def test_the_error_names_the_saved_file(backend: ModuleType, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    saved.write_bytes(RECORD + b"nonsense\n")
    with pytest.raises(fastsmaps.ParseError, match=f"{saved}: line 4") as caught:
        fastsmaps.load(saved)
    assert caught.value.path == str(saved)


def test_the_error_escapes_control_characters(backend: ModuleType) -> None:
    with pytest.raises(fastsmaps.ParseError) as caught:
        fastsmaps.parse(b"\x1b[31m" + b"x" * 1000)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300
