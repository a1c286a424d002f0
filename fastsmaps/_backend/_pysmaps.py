"""The pure-Python backend: the readable reference, and what runs where nothing can be compiled.

The extension does exactly the same; ``_csmaps.pyi`` documents what both export.

Speed comes from not looking twice: a field line is parsed at its first sight and then found in
a dict by its bytes (`_Place`), so a record that has the fields of the record before is one
``map`` over its lines. Whatever does not fit goes line by line (`Scanner.line`).
"""

from __future__ import annotations

import errno
import os
import time
from array import array
from operator import getitem

from fastsmaps import _errors as errors
from fastsmaps._backend._pylines import (
    FIELD_START,
    HEADER,
    HEADER_START,
    PERMS,
    Problem,
    field,
    integer,
)
from fastsmaps._backend._pytable import NO_FLAGS, Table
from fastsmaps._errors import NO_LINE, PROBLEMS, ParseError
from fastsmaps._fields import ABSENT, FLAGS, MOST_LABELS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_HEADER_KEYS = ("start", "end", "offset", "inode", "perms", "dev", "name", "flags")
_MOST_PIECES = 64
_MOST_LINE = 1 << 24  # bytes of a line that is read from a file
_MOST_SHOWN = 4096  # of these, in the error
_CHUNK = 1 << 18  # of a text in memory: enough lines to be quick, few enough to stay in cache
_VSYSCALL = 0xFFFFFFFFFF600000  # see src/read_chunks.pxi
_MOST_SEEN = 4096  # lines that a _Place remembers


class _Differs(Exception):
    """A line is not the one expected at its place."""


class _Ids(dict[bytes, int]):
    """Numbers texts in the order first seen."""

    def __missing__(self, text: bytes) -> int:
        self[text] = number = len(self)
        return number


class _Place(dict[bytes, int]):
    """The lines seen at one place of a record, all of one label, with their values."""

    def __init__(self, label: str, scanner: Scanner) -> None:
        self.label = label
        # Not the scanner: it has this place, and a circle would keep a whole table in memory
        # until the next garbage collection.
        self.flags = scanner.flags
        self.sized = scanner.sized

    def __missing__(self, line: bytes) -> int:
        if not line or line[0] not in FIELD_START:
            raise _Differs
        try:
            label, kind, value, number = field(line)
        except Problem:
            raise _Differs from None
        if label != self.label:
            raise _Differs
        if kind == "flags":
            result = self.flags[value]
        elif number is not None:
            result = number[0]
            self.sized[label] &= number[1]
        else:
            raise _Differs
        if len(self) >= _MOST_SEEN:
            self.clear()
        self[line] = result
        return result


class Scanner:
    """Takes lines and keeps rows; whole columns are filled from time to time."""

    def __init__(self, crlf: bool) -> None:
        self.crlf = crlf
        self.offset = 0  # in the text, of the lines at hand
        self.lines = 0  # before them
        self.count = 0
        self.start = 0  # of the last header
        self.longs = [array("Q") for _ in range(4)]
        self.ids = [array("B"), array("I"), array("I"), array("I")]
        self.columns: dict[str, array[int]] = {}
        self.sized: dict[str, bool] = {}
        self.names = _Ids()
        self.devs = _Ids()
        self.flags = _Ids()
        self.extra: dict[int, dict[str, str]] = {}
        # Rows not yet in columns: headers, and fields in the order of `places`.
        self.headers: list[tuple[int, int, int, int, int, int, int]] = []
        self.rows: list[tuple[int, ...]] = []
        self.places: list[_Place] = []
        # The record that is taken line by line.
        self.open = False
        self.named = False
        self.name_line = False
        self.record: dict[str, int] = {}

    def feed(self, lines: list[bytes]) -> None:
        """Takes the text's next lines, without their newlines."""
        i, end = 0, len(lines)
        try:
            while i < end:
                line = lines[i]
                if line and line[0] in HEADER_START:
                    self.header(line)
                    i += 1
                    after = i + len(self.places)
                    # The lines of a whole record, and the next record's header.
                    if after < end and lines[after] and lines[after][0] in HEADER_START:
                        try:
                            row = tuple(map(getitem, self.places, lines[i:after]))
                        except _Differs:
                            pass
                        else:
                            self.rows.append(row)
                            self.open = False
                            i = after
                else:
                    self.line(line)
                    i += 1
        except Problem as problem:
            line = lines[i]
            raise ParseError(
                PROBLEMS[problem.args[0]],
                offset=self.offset + sum(map(len, lines[:i])) + i,
                line_number=self.lines + i + 1,
                line=line[:-1] if self.crlf and line.endswith(b"\r") else line,
            ) from None
        self.offset += sum(map(len, lines)) + end
        self.lines += end
        if not self.open:
            self.flush()

    def header(self, line: bytes) -> None:
        if self.open:
            self.close()
        if self.crlf and line.endswith(b"\r"):
            line = line[:-1]
        match = HEADER(line)
        if match is None:
            raise Problem(errors.NO_HEADER)
        start, stop, perms, offset, dev, inode, name = match.groups()
        inode_number = integer(inode)
        if inode_number >= 2**64:
            raise Problem(errors.TOO_LARGE)
        first, last = int(start, 16), int(stop, 16)
        if last < first:
            raise Problem(errors.BACKWARDS)
        if name is None or name == b"\r":
            name = b""
        self.headers.append(
            (
                first,
                last,
                int(offset, 16),
                inode_number,
                PERMS[perms],
                self.devs[dev],
                self.names[name],
            )
        )
        self.count += 1
        self.start = first
        self.open = True
        self.named = bool(name)
        self.name_line = False
        self.record = {}

    def line(self, line: bytes) -> None:
        """Any line but a header, for the record that is open."""
        if not line or line[0] not in FIELD_START:
            if line.strip(b" \t\r"):
                raise Problem(errors.NO_LINE)
            return
        if not self.open:
            raise Problem(errors.FIELD_FIRST)
        if self.crlf and line.endswith(b"\r"):
            line = line[:-1]
        label, kind, value, number = field(line)
        texts = self.extra.get(self.count - 1, {})
        if label in self.record or label in texts or (kind == "name" and self.name_line):
            raise Problem(errors.TWICE)
        if kind == "flags":
            self.record[label] = self.flags[value]
        elif kind == "name" and not self.named:
            # Android's: the mapping's name where the header has none.
            self.name_line = True
            self.headers[-1] = (*self.headers[-1][:6], self.names[value])
        elif number is None:
            if len(texts) == MOST_LABELS:
                raise Problem(errors.TOO_MANY)
            text = value.decode("utf-8", "surrogateescape")
            self.extra.setdefault(self.count - 1, {})[label] = text
        else:
            if label not in self.columns:
                if len(self.columns) == MOST_LABELS:
                    raise Problem(errors.TOO_MANY)
                self.columns[label] = array("Q", [ABSENT]) * len(self.longs[0])
                self.sized[label] = True
            self.sized[label] &= number[1]
            self.record[label] = number[0]

    def close(self) -> None:
        """Ends the record that was taken line by line; the next ones are expected to be like it."""
        if [place.label for place in self.places] != list(self.record):
            header = self.headers.pop()
            self.flush()
            self.headers.append(header)
            self.places = [_Place(label, self) for label in self.record]
        self.rows.append(tuple(self.record.values()))
        self.open = False

    def flush(self) -> None:
        """Moves the rows into the columns."""
        count = len(self.headers)
        if count == 0:
            return
        fields: list[Iterable[int]] = list(zip(*self.headers, strict=True))
        by_label = dict(
            zip([place.label for place in self.places], zip(*self.rows, strict=True), strict=True)
        )
        fields.append(by_label.pop(FLAGS, [NO_FLAGS] * count))
        for target, values in zip([*self.longs, *self.ids], fields, strict=True):
            target.extend(values)
        for label, column in self.columns.items():
            column.extend(by_label.get(label) or array("Q", [ABSENT]) * count)
        self.headers = []
        self.rows = []

    def table(self) -> Table:
        if self.open:
            self.close()
        self.flush()
        return Table(
            dict(zip(_HEADER_KEYS, (*self.longs, *self.ids), strict=True)),
            self.columns,
            self.sized.values(),
            self.names,
            self.devs,
            self.flags,
            self.extra,
        )


def parse(data: bytes | memoryview, crlf: bool = False) -> Table:
    scanner = Scanner(crlf)
    rest: list[bytes] = []
    for at in range(0, len(data), _CHUNK):
        _feed(scanner, rest, bytes(data[at : at + _CHUNK]))
    _feed(scanner, rest, None)
    return scanner.table()


def _feed(scanner: Scanner, rest: list[bytes], chunk: bytes | None) -> None:
    """The text's next bytes, None at its end; `rest` holds those of an incomplete line."""
    if chunk is None:
        last = b"".join(rest)
        if last:
            scanner.feed([last])
        return
    # Joined only when a line ends: adding to a long line at each chunk would be quadratic.
    rest.append(chunk)
    if b"\n" in chunk:
        lines = b"".join(rest).split(b"\n")
        rest[:] = [lines.pop()]
        scanner.feed(lines)


# Slices of a buffer cost more to make (11 us for 64) than to read into (2 us): kept here, and
# taken out by whoever reads.
_spare: list[tuple[int, int, bytearray, list[memoryview]]] = []


def _slices(piece: int, pieces: int) -> tuple[int, int, bytearray, list[memoryview]]:
    if not 1 <= pieces <= _MOST_PIECES or piece < 1:
        raise ValueError(f"pieces: 1 to {_MOST_PIECES} of 1 byte or more")
    try:
        kept = _spare.pop()
        if kept[:2] == (piece, pieces):
            return kept
    except IndexError:
        pass
    buffer = bytearray(piece * pieces)
    view = memoryview(buffer)
    return piece, pieces, buffer, [view[at : at + piece] for at in range(0, piece * pieces, piece)]


def _check_line(scanner: Scanner, rest: list[bytes]) -> None:
    """ParseError for a line that is too long, as read_chunks() in src/read_chunks.pxi."""
    if sum(map(len, rest)) > _MOST_LINE:
        raise ParseError(
            PROBLEMS[NO_LINE],
            offset=scanner.offset,
            line_number=scanner.lines + 1,
            line=b"".join(rest)[:_MOST_SHOWN],
        )


def _read(fd: int, piece: int, pieces: int, confirm: bool, until: float = 0) -> Table | None:
    scanner = Scanner(crlf=False)
    rest: list[bytes] = []
    kept = _slices(piece, pieces)
    _, _, buffer, slices = kept
    offset = 0
    try:
        # Pieces and offsets: see read_chunks() in src/read_chunks.pxi.
        while True:
            if until and time.monotonic() >= until:
                raise TimeoutError(errno.ETIMEDOUT, "the time is over")
            got = os.preadv(fd, slices, offset)
            if not got:
                break
            _feed(scanner, rest, bytes(memoryview(buffer)[:got]))
            offset += got
            if len(rest) * piece * pieces > _MOST_LINE:
                _check_line(scanner, rest)
            if got < piece * pieces:
                if not confirm:
                    break  # a rollup comes in one go
                if scanner.start == _VSYSCALL and rest == [b""]:
                    confirm = False  # the text is whole: see read_chunks()
                    break
    finally:
        _spare[:] = [kept]
    _feed(scanner, rest, None)
    table = scanner.table()
    whole = os.pread(fd, 1, 0) != b"" if confirm else offset > 0
    return table if whole else None


def lines(fd: int, piece: int, pieces: int, until: float = 0) -> int | None:
    count = offset = line = 0
    kept = _slices(piece, pieces)
    _, _, buffer, slices = kept
    try:
        while True:
            if until and time.monotonic() >= until:
                raise TimeoutError("the time is over")
            got = os.preadv(fd, slices, offset)
            if not got:
                return count if os.pread(fd, 1, 0) else None
            found = buffer.count(b"\n", 0, got)
            count += found
            offset += got
            line = 0 if found else line + got
            if line > _MOST_LINE:
                return None
    finally:
        _spare[:] = [kept]


def read(fd: int, piece: int, pieces: int) -> Table | None:
    return _read(fd, piece, pieces, confirm=True)


def total(
    fd: int, piece: int, pieces: int, confirm: bool, until: float = 0
) -> tuple[int, dict[str, int]] | None:
    table = _read(fd, piece, pieces, confirm, until)
    return None if table is None else table.sums()[0]
