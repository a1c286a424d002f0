"""The pure-Python backend: the readable reference, used where the extension cannot be built.

The extension does exactly the same. ``_csmaps.pyi`` documents what both export.

A field line is parsed once and then found in a dict by its bytes (`_Slot`). So a record with the
fields of the record before is one ``map`` over its lines (fast path). Every other record is parsed
line by line (slow path, `Parser.line`).
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
from fastsmaps._backend.descriptors import OPEN
from fastsmaps._errors import NO_LINE, PROBLEMS, ParseError
from fastsmaps._fields import ABSENT, FLAGS, MAX_LABELS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    T = TypeVar("T")

_HEADER_KEYS = ("start", "end", "offset", "inode", "perms", "dev", "name", "flags")
_MAX_CHUNKS = 64
_MAX_LINE = 1 << 24  # bytes of a line that is read from a file
_MAX_LINE_SHOWN = 4096  # bytes of such a line in the error
_BLOCK = 1 << 18  # bytes of a text in memory that are split at once: they stay in cache
_VSYSCALL = 0xFFFFFFFFFF600000  # see src/read_chunks.pxi
_SMALL_FILE = 1 << 14  # bytes: a rollup has about 700
_MAX_SLOT_LINES = 4096  # lines that a _Slot remembers


class _Differs(Exception):
    """A line does not fit the slot at its place."""


class _Ids(dict[bytes, int]):
    """Numbers texts in the order first seen."""

    def __missing__(self, text: bytes) -> int:
        self[text] = number = len(self)
        return number


class _Slot(dict[bytes, int]):
    """The values of the lines seen at one place of a record, all of one label."""

    def __init__(self, label: str, parser: Parser) -> None:
        self.label = label
        # Not the parser, which holds this slot: a reference cycle would keep a whole table in
        # memory until the next garbage collection.
        self.flags = parser.flags
        self.sized = parser.sized

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
        if len(self) >= _MAX_SLOT_LINES:
            self.clear()
        self[line] = result
        return result


class Parser:
    """A parser that collects rows and moves them to the columns from time to time."""

    def __init__(self, crlf: bool) -> None:
        self.crlf = crlf
        self.offset = 0  # where the current lines begin in the text
        self.lines = 0  # number of lines before them
        self.count = 0
        self.start = 0  # the start address of the last header
        self.longs = [array("Q") for _ in range(4)]
        self.ids = [array("B"), array("I"), array("I"), array("I")]
        self.columns: dict[str, array[int]] = {}
        self.sized: dict[str, bool] = {}
        self.names = _Ids()
        self.devs = _Ids()
        self.flags = _Ids()
        self.extra: dict[int, dict[str, str]] = {}
        # Rows that are not in the columns yet: headers, and fields in the order of `slots`.
        self.headers: list[tuple[int, int, int, int, int, int, int]] = []
        self.rows: list[tuple[int, ...]] = []
        self.slots: list[_Slot] = []
        # The record that takes the slow path.
        self.open = False
        self.header_has_name = False
        self.has_name_line = False
        self.record: dict[str, int] = {}

    def feed(self, lines: list[bytes]) -> None:
        """Parse the text's next lines, given without their newlines."""
        i, end = 0, len(lines)
        try:
            while i < end:
                line = lines[i]
                if line and line[0] in HEADER_START:
                    self.header(line)
                    i += 1
                    after = i + len(self.slots)
                    # The lines of a whole record, and the next record's header.
                    if after < end and lines[after] and lines[after][0] in HEADER_START:
                        try:
                            row = tuple(map(getitem, self.slots, lines[i:after]))
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
        self.header_has_name = bool(name)
        self.has_name_line = False
        self.record = {}

    def line(self, line: bytes) -> None:
        """Parse a field line of the open record, or skip a blank line."""
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
        if label in self.record or label in texts or (kind == "name" and self.has_name_line):
            raise Problem(errors.TWICE)
        if kind == "flags":
            self.record[label] = self.flags[value]
        elif kind == "name" and not self.header_has_name:
            # Android's `Name:` names the mapping if the header does not.
            self.has_name_line = True
            self.headers[-1] = (*self.headers[-1][:6], self.names[value])
        elif number is None:
            if len(texts) == MAX_LABELS:
                raise Problem(errors.TOO_MANY)
            text = value.decode("utf-8", "surrogateescape")
            self.extra.setdefault(self.count - 1, {})[label] = text
        else:
            if label not in self.columns:
                if len(self.columns) == MAX_LABELS:
                    raise Problem(errors.TOO_MANY)
                self.columns[label] = array("Q", [ABSENT]) * len(self.longs[0])
                self.sized[label] = True
            self.sized[label] &= number[1]
            self.record[label] = number[0]

    def close(self) -> None:
        """End the record that took the slow path; the next ones are expected to be like it."""
        if [slot.label for slot in self.slots] != list(self.record):
            header = self.headers.pop()
            self.flush()
            self.headers.append(header)
            self.slots = [_Slot(label, self) for label in self.record]
        self.rows.append(tuple(self.record.values()))
        self.open = False

    def flush(self) -> None:
        """Move the rows into the columns."""
        count = len(self.headers)
        if count == 0:
            return
        fields: list[Iterable[int]] = list(zip(*self.headers, strict=True))
        by_label = dict(
            zip([slot.label for slot in self.slots], zip(*self.rows, strict=True), strict=True)
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
    parser = Parser(crlf)
    rest: list[bytes] = []
    for at in range(0, len(data), _BLOCK):
        _feed(parser, rest, bytes(data[at : at + _BLOCK]))
    _feed(parser, rest, None)
    return parser.table()


def _feed(parser: Parser, rest: list[bytes], block: bytes | None) -> None:
    """Parse the text's next bytes, None at its end; `rest` holds an incomplete line."""
    if block is None:
        last = b"".join(rest)
        if last:
            parser.feed([last])
        return
    # Joined only when a line ends: joining a long line at each block would be quadratic.
    rest.append(block)
    if b"\n" in block:
        lines = b"".join(rest).split(b"\n")
        rest[:] = [lines.pop()]
        parser.feed(lines)


# Making 64 slices of a buffer takes longer (11 us) than reading into them (2 us), so they are kept
# here. A reader removes them while it uses them.
_spare: list[tuple[int, int, bytearray, list[memoryview]]] = []


def _slices(chunk_size: int, chunks: int) -> tuple[int, int, bytearray, list[memoryview]]:
    if not 1 <= chunks <= _MAX_CHUNKS or chunk_size < 1:
        raise ValueError(f"chunks: 1 to {_MAX_CHUNKS} of 1 byte or more")
    try:
        kept = _spare.pop()
        if kept[:2] == (chunk_size, chunks):
            return kept
    except IndexError:
        pass
    size = chunk_size * chunks
    buffer = bytearray(size)
    view = memoryview(buffer)
    slices = [view[at : at + chunk_size] for at in range(0, size, chunk_size)]
    return chunk_size, chunks, buffer, slices


def _check_line(parser: Parser, rest: list[bytes]) -> None:
    """Raise ParseError for a line that is too long, as src/read_chunks.pxi does."""
    if sum(map(len, rest)) > _MAX_LINE:
        raise ParseError(
            PROBLEMS[NO_LINE],
            offset=parser.offset,
            line_number=parser.lines + 1,
            line=b"".join(rest)[:_MAX_LINE_SHOWN],
        )


def _read(fd: int, chunk_size: int, chunks: int, deadline: float = 0) -> Table | None:
    parser = Parser(crlf=False)
    rest: list[bytes] = []
    kept = _slices(chunk_size, chunks)
    _, _, buffer, slices = kept
    offset = 0
    complete = False
    try:
        # Chunks and offsets: see read_chunks() in src/read_chunks.pxi.
        while True:
            if deadline and time.monotonic() >= deadline:
                raise TimeoutError(errno.ETIMEDOUT, "deadline reached")
            got = os.preadv(fd, slices, offset)
            if not got:
                break
            _feed(parser, rest, bytes(memoryview(buffer)[:got]))
            offset += got
            if len(rest) * chunk_size * chunks > _MAX_LINE:
                _check_line(parser, rest)
            if got < chunk_size * chunks and parser.start == _VSYSCALL and rest == [b""]:
                complete = True  # see read_chunks()
                break
    finally:
        _spare[:] = [kept]
    _feed(parser, rest, None)
    table = parser.table()
    return table if complete or os.pread(fd, 1, 0) else None


def lines(fd: int, chunk_size: int, chunks: int, deadline: float = 0) -> int | None:
    count = offset = line = 0
    kept = _slices(chunk_size, chunks)
    _, _, buffer, slices = kept
    try:
        while True:
            if deadline and time.monotonic() >= deadline:
                raise TimeoutError("deadline reached")
            got = os.preadv(fd, slices, offset)
            if not got:
                return count if os.pread(fd, 1, 0) else None
            found = buffer.count(b"\n", 0, got)
            count += found
            offset += got
            line = 0 if found else line + got
            if line > _MAX_LINE:
                return None
    finally:
        _spare[:] = [kept]


def read(fd: int, chunk_size: int, chunks: int) -> Table | None:
    return _read(fd, chunk_size, chunks)


def rollup(fd: int) -> dict[str, int] | None:
    text = os.pread(fd, _SMALL_FILE, 0)
    if len(text) == _SMALL_FILE:  # no kernel's
        sums = total(fd, _SMALL_FILE, 1)
        return None if sums is None else sums[1]
    return parse(text).sums()[0][1] if text else None


def _take_at(pid: int, name: str, take: Callable[[int], T | None]) -> T | None:
    if type(pid) is not int or not 0 < pid < 2**31:
        return None
    fd = -1
    try:
        os.close(os.pidfd_open(pid))  # refuses a thread's number
        fd = os.open(f"/proc/{pid}/{name}", OPEN)
        return take(fd)
    except (OSError, ParseError, AttributeError) as error:  # no pidfd_open before Linux 5.3
        if errors.is_foreign(error):
            raise
        return None
    finally:
        if fd >= 0:
            os.close(fd)


def rollup_at(pid: int) -> dict[str, int] | None:
    return _take_at(pid, "smaps_rollup", rollup)


def read_at(pid: int, sizes: bool, chunk_size: int, chunks: int) -> Table | None:
    name = "smaps" if sizes else "maps"
    return _take_at(pid, name, lambda fd: read(fd, chunk_size, chunks))


def total(
    fd: int, chunk_size: int, chunks: int, deadline: float = 0
) -> tuple[int, dict[str, int]] | None:
    table = _read(fd, chunk_size, chunks, deadline)
    return None if table is None else table.sums()[0]
