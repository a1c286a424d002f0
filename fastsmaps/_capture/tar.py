"""The headers of a tar: names and sizes of its members, in bounded time and memory.

Python's tarfile accepts headers of any size and number: one of 100 kB kept it busy for 18 s. It
also takes damage for the end of the archive. This module reads V7, ustar, pax and GNU tars as far
as captures need it.
"""

from __future__ import annotations

import os

from fastsmaps._source.compressed import Damage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 512

# Bytes of an extended header. A name has at most 4 kB; the rest are extended attributes, which are
# not needed here.
_MAX_EXTENDED = 1 << 14
# Extended headers (pax, a long name, a long link) before one member.
_MAX_EXTENSIONS = 8
_MAX_DIGITS = 20  # of a decimal number

_FILES = (b"\0", b"0", b"7")  # V7's, ustar's and "contiguous"
_DIRECTORY = b"5"
_LONG_NAME, _LONG_LINK = b"L", b"K"
_PAX, _SOLARIS_PAX, _GLOBAL_PAX = b"x", b"X", b"g"
_SPARSE = b"GNU.sparse."
# A global header must not have keys that begin like this.
_PER_MEMBER = (b"path", b"size", _SPARSE)


class Member:
    """A member of an archive: its name, the size of its content, and whether it is a file."""

    __slots__ = ("is_directory", "is_file", "name", "size")

    def __init__(self, name: str, size: int, *, is_file: bool, is_directory: bool) -> None:
        self.name = name
        self.size = size
        self.is_file = is_file
        self.is_directory = is_directory


class Headers:
    """A reader of the members' headers, one after the other.

    `read` gives exactly as many bytes as it is asked for, fewer only at the end.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        #: Whether the archive ended without the block of zeros that marks its end.
        self.without_end = False

    def next(self) -> Member | None:
        """Read the next member, None at the end; raise Damage.

        The content of the previous member must have been read, up to the end of its last block.
        """
        long_name: bytes | None = None
        pax: dict[bytes, bytes] = {}
        for extensions in range(_MAX_EXTENSIONS + 1):
            header = self._read(BLOCK)
            if not header and not extensions:
                self.without_end = True
                return None
            if len(header) == BLOCK and not header.strip(b"\0"):
                if extensions:
                    raise Damage("headers without a member")
                return None
            check(header)
            kind, size = header[156:157], number(header[124:136])
            if kind == _LONG_NAME:
                long_name = self._extended(size).partition(b"\0")[0]
            elif kind == _LONG_LINK:
                self._extended(size)
            elif kind in (_PAX, _SOLARIS_PAX):
                pax.update(records(self._extended(size)))
            elif kind == _GLOBAL_PAX:
                if any(key.startswith(_PER_MEMBER) for key in records(self._extended(size))):
                    raise Damage("a name or a size for all members")
            else:
                return _member(header, size, long_name, pax)
        raise Damage("headers without a member")

    def _extended(self, size: int) -> bytes:
        if size > _MAX_EXTENDED:
            raise Damage(f"a header of {size} bytes")
        padded = size + -size % BLOCK
        data = self._read(padded)
        if len(data) < padded:
            raise Damage("it is cut off")
        return data[:size]


def _member(header: bytes, size: int, long_name: bytes | None, pax: dict[bytes, bytes]) -> Member:
    name = header[:100].partition(b"\0")[0]
    if header[257:263] == b"ustar\0":  # GNU's own format has other fields there
        prefix = header[345:500].partition(b"\0")[0]
        if prefix:
            name = prefix + b"/" + name
    name = pax.get(b"path", name if long_name is None else long_name)
    if b"size" in pax:
        size = decimal(pax[b"size"])
    kind = header[156:157]
    # V7 marks a directory by its name only.
    directory = kind == _DIRECTORY or (kind == b"\0" and name.endswith(b"/"))
    sparse = any(key.startswith(_SPARSE) for key in pax)
    return Member(
        os.fsdecode(name.rstrip(b"/") if directory else name),
        0 if directory else size,
        is_file=not directory and not sparse and kind in _FILES,
        is_directory=directory,
    )


def check(header: bytes) -> None:
    """Raise Damage if the header's checksum is wrong: then it is not a header."""
    if len(header) < BLOCK:
        raise Damage("it is cut off")
    try:
        stored = number(header[148:156])
    except Damage:
        stored = -1
    rest = header[:148] + header[156:]
    unsigned = 8 * 32 + sum(rest)
    # Some old programs summed signed bytes.
    if stored not in (unsigned, unsigned - 256 * sum(byte > 127 for byte in rest)):
        raise Damage("a header has a wrong checksum")


def number(field: bytes) -> int:
    """Read a number of a header, in octal digits or GNU's base 256; raise Damage."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    if field[0] == 0xFF:
        raise Damage("a size in a header is below 0")
    digits = field.partition(b"\0")[0].strip()
    if digits.strip(b"01234567"):
        raise Damage("a size in a header is not an octal number")
    return int(digits or b"0", 8)


def decimal(text: bytes) -> int:
    """Read a number of a pax header; raise Damage."""
    if not text.isdigit() or len(text) > _MAX_DIGITS:
        raise Damage("a pax header has a damaged number")
    return int(text)


def records(text: bytes) -> dict[bytes, bytes]:
    """Read the lines of a pax header, "LENGTH KEY=VALUE"; raise Damage."""
    found = {}
    at = 0
    while at < len(text) and text[at]:
        end = text.find(b" ", at, at + _MAX_DIGITS + 1)
        length = decimal(text[at : max(end, at)])
        line = text[at : at + length]
        key, equals, value = line[end + 1 - at : -1].partition(b"=")
        if at + length > len(text) or line[-1:] != b"\n" or not key or not equals:
            raise Damage("a pax header has a damaged line")
        found[key] = value
        at += length
    return found
