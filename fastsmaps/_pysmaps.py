"""The pure-Python backend: the readable reference, and what runs where nothing can be compiled.

The extension does exactly the same; ``_csmaps.pyi`` documents what both export.

Speed comes from not looking twice: a field line is parsed at its first sight and then found in
a dict by its bytes (`_Place`), so a record that has the fields of the record before is one
``map`` over its lines. Whatever does not fit goes line by line (`Scanner.line`).
"""

from __future__ import annotations

import os
import re
import time
from array import array
from functools import lru_cache
from operator import getitem

from fastsmaps import errors
from fastsmaps.errors import PROBLEMS, ParseError
from fastsmaps.fields import ABSENT, FLAGS, MOST_LABELS, NAME, NUMBERS, PAGE_SIZES, SIZES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# [0-9] and not \d, [ \t] and not \s: for bytes they differ in what nobody expects.
_HEADER = re.compile(
    rb"([0-9a-f]{1,16})-([0-9a-f]{1,16})[ \t]+([r-][w-][x-][sp])[ \t]+([0-9a-f]{1,16})[ \t]+"
    rb"([0-9a-f]{1,8}:[0-9a-f]{1,8})[ \t]+([0-9]+)(?:[ \t]+(.*)|\r)?",
    re.DOTALL,
).fullmatch
_LABEL = re.compile(rb"([A-Z][!-9;-~]*):").match
_NUMBER = re.compile(rb"([0-9]+)(?:[ \t]+(kB))?").fullmatch

_HEADER_START = frozenset(b"0123456789abcdef")
_FIELD_START = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_PERMS = {
    bytes((b"-r"[i & 1], b"-w"[i >> 1 & 1], b"-x"[i >> 2 & 1], b"ps"[i >> 3])): i for i in range(16)
}
_KINDS = {
    **dict.fromkeys(SIZES, "size"),
    **dict.fromkeys(PAGE_SIZES, "size"),
    **dict.fromkeys(NUMBERS, "number"),
    FLAGS: "flags",
    NAME: "name",
}
_NO_FLAGS = 2**32 - 1
_MOST_PIECES = 64
_CHUNK = 1 << 18  # of a text in memory: enough lines to be quick, few enough to stay in cache
_VSYSCALL = 0xFFFFFFFFFF600000  # see src/read.pxi
_MOST_SEEN = 4096  # lines that a _Place remembers


class _Problem(Exception):
    """What is wrong with a line; the place is added by who knows it."""


class _Differs(Exception):
    """A line is not the one expected at its place."""


def _integer(digits: bytes) -> int:
    """The number, 2**64 for one of so many digits that none fits: int() refuses 4,300."""
    if len(digits) > 20:
        digits = digits.lstrip(b"0") or b"0"
    return int(digits) if len(digits) <= 20 else 2**64


def _number(value: bytes) -> tuple[int, bool] | None:
    """The number and whether it was in kB (then it is given in bytes); None for a text."""
    match = _NUMBER(value)
    if match is None:
        return None
    digits, unit = match.groups()
    number = _integer(digits)
    if unit:
        number *= 1024
    if number >= ABSENT:
        raise _Problem(errors.TOO_LARGE)
    return number, unit is not None


def _field(line: bytes) -> tuple[str, str, bytes, tuple[int, bool] | None]:
    """A field line's label, the label's kind, its value, and the value as a number."""
    # A text may be of any length: of those none is kept.
    return _short_field(line) if len(line) <= 128 else _any_field(line)


def _any_field(line: bytes) -> tuple[str, str, bytes, tuple[int, bool] | None]:
    match = _LABEL(line)
    if match is None:
        raise _Problem(errors.NO_LABEL)
    label = match[1].decode("ascii")
    # Not in the expression: it would look at each space of a long run from each of them.
    value = line[match.end() :].lstrip(b" \t").rstrip(b" \t\r")
    kind = _KINDS.get(label, "any")
    if kind in ("flags", "name"):
        return label, kind, value, None
    number = _number(value)
    if kind != "any":
        if number is None:
            raise _Problem(errors.NO_NUMBER)
        if kind == "size" and not number[1]:
            raise _Problem(errors.NO_UNIT)
        if kind == "number" and number[1]:
            raise _Problem(errors.UNIT)
    return label, kind, value, number


# Most lines of one read are lines of another: 0.1 us for 2, and at most 1.5 MB.
_short_field = lru_cache(maxsize=4096)(_any_field)


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
        if not line or line[0] not in _FIELD_START:
            raise _Differs
        try:
            label, kind, value, number = _field(line)
        except _Problem:
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
                if line and line[0] in _HEADER_START:
                    self.header(line)
                    i += 1
                    after = i + len(self.places)
                    # The lines of a whole record, and the next record's header.
                    if after < end and lines[after] and lines[after][0] in _HEADER_START:
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
        except _Problem as problem:
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
        match = _HEADER(line)
        if match is None:
            raise _Problem(errors.NO_HEADER)
        start, stop, perms, offset, dev, inode, name = match.groups()
        inode_number = _integer(inode)
        if inode_number >= 2**64:
            raise _Problem(errors.TOO_LARGE)
        first, last = int(start, 16), int(stop, 16)
        if last < first:
            raise _Problem(errors.BACKWARDS)
        if name is None or name == b"\r":
            name = b""
        self.headers.append(
            (
                first,
                last,
                int(offset, 16),
                inode_number,
                _PERMS[perms],
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
        if not line or line[0] not in _FIELD_START:
            if line.strip(b" \t\r"):
                raise _Problem(errors.NO_LINE)
            return
        if not self.open:
            raise _Problem(errors.FIELD_FIRST)
        if self.crlf and line.endswith(b"\r"):
            line = line[:-1]
        label, kind, value, number = _field(line)
        texts = self.extra.get(self.count - 1, {})
        if label in self.record or label in texts or (kind == "name" and self.name_line):
            raise _Problem(errors.TWICE)
        if kind == "flags":
            self.record[label] = self.flags[value]
        elif kind == "name" and not self.named:
            # Android's: the mapping's name where the header has none.
            self.name_line = True
            self.headers[-1] = (*self.headers[-1][:6], self.names[value])
        elif number is None:
            if len(texts) == MOST_LABELS:
                raise _Problem(errors.TOO_MANY)
            text = value.decode("utf-8", "surrogateescape")
            self.extra.setdefault(self.count - 1, {})[label] = text
        else:
            if label not in self.columns:
                if len(self.columns) == MOST_LABELS:
                    raise _Problem(errors.TOO_MANY)
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
        fields.append(by_label.pop(FLAGS, [_NO_FLAGS] * count))
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
        return Table(self)


class Table:
    """The columns of one text; see _csmaps.pyi."""

    def __init__(self, scanner: Scanner) -> None:
        self.labels = tuple(scanner.columns)
        self.sized = tuple(scanner.sized.values())
        self.names = tuple(scanner.names)
        self.devs = tuple(scanner.devs)
        self.flags = tuple(scanner.flags)
        self.extra = scanner.extra
        keys = ("start", "end", "offset", "inode", "perms", "dev", "name", "flags")
        self._columns = dict(zip(keys, (*scanner.longs, *scanner.ids), strict=True))
        self._columns.update(scanner.columns)

    def __len__(self) -> int:
        return len(self._columns["start"])

    def column(self, key: str) -> memoryview:
        return memoryview(self._columns[key]).toreadonly()

    def columns(self, keys: Iterable[str]) -> list[tuple[memoryview, int]]:
        nothing = {"flags": _NO_FLAGS, **dict.fromkeys(self.labels, ABSENT)}
        return [
            (self.column(key), self._columns[key].count(nothing[key]) if key in nothing else 0)
            for key in keys
        ]

    def row(self, i: int, /) -> tuple[object, ...]:
        if not 0 <= i < len(self):
            raise IndexError(i)
        start, end, offset, inode, perms, dev, name, flags, *fields = (
            column[i] for column in self._columns.values()
        )
        return (
            start,
            end,
            offset,
            inode,
            perms,
            self.devs[dev],
            self.names[name],
            None if flags == _NO_FLAGS else self.flags[flags],
            self.extra.get(i),
            *(None if value == ABSENT else value for value in fields),
        )

    def sums(
        self, groups: memoryview | None = None, count: int = 1
    ) -> list[tuple[int, dict[str, int]]]:
        numbers: Iterable[int]
        if groups is None:
            numbers = array("I", [0]) * len(self)
        elif groups.nbytes != 4 * len(self):
            raise ValueError("groups: one 32-bit number for each row")
        else:
            numbers = groups
        sizes = [0] * count
        columns = self._columns
        for group, start, end in zip(numbers, columns["start"], columns["end"], strict=True):
            if group < count:
                sizes[group] += end - start
        figures: list[dict[str, int]] = [{} for _ in range(count)]
        for label, sized in zip(self.labels, self.sized, strict=True):
            if not sized or label in PAGE_SIZES:
                continue
            column = columns[label]
            if count == 1 and groups is None and ABSENT not in column:
                if column:
                    figures[0][label] = sum(column)
                continue
            for group, value in zip(numbers, column, strict=True):
                if value != ABSENT and group < count:
                    figures[group][label] = figures[group].get(label, 0) + value
        return list(zip(sizes, figures, strict=True))


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


def _read(fd: int, piece: int, pieces: int, confirm: bool, until: float = 0) -> Table | None:
    scanner = Scanner(crlf=False)
    rest: list[bytes] = []
    kept = _slices(piece, pieces)
    _, _, buffer, slices = kept
    offset = 0
    try:
        # Pieces and offsets: see read_pieces() in src/read.pxi.
        while True:
            if until and time.monotonic() >= until:
                raise TimeoutError("the time is over")
            got = os.preadv(fd, slices, offset)
            if not got:
                break
            _feed(scanner, rest, bytes(memoryview(buffer)[:got]))
            offset += got
            if got < piece * pieces:
                if not confirm:
                    break  # a rollup comes in one go
                if scanner.start == _VSYSCALL and rest == [b""]:
                    confirm = False  # the text is whole: see read_pieces()
                    break
    finally:
        _spare[:] = [kept]
    _feed(scanner, rest, None)
    table = scanner.table()
    whole = os.pread(fd, 1, 0) != b"" if confirm else offset > 0
    return table if whole else None


def read(fd: int, piece: int, pieces: int) -> Table | None:
    return _read(fd, piece, pieces, confirm=True)


def total(
    fd: int, piece: int, pieces: int, confirm: bool, until: float = 0
) -> tuple[int, dict[str, int]] | None:
    table = _read(fd, piece, pieces, confirm, until)
    return None if table is None else table.sums()[0]
