"""parse() and load(): mappings from saved text."""

from __future__ import annotations

import errno
import io
import os

from fastsmaps import _backend
from fastsmaps._arguments import check_int, check_path, wrong
from fastsmaps._errors import NotSupported, ParseError, ReadError, is_foreign
from fastsmaps._model.mappings import Mappings
from fastsmaps._public import public
from fastsmaps._source.compressed import Damage, Decompressed
from fastsmaps._source.source import MAX_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Buffer  # type: ignore[attr-defined,unused-ignore]
    from typing import IO

    BinaryFile = IO[bytes]
else:
    # For typing.get_type_hints(): importing typing takes 3 ms, and 3.11 has no Buffer.
    Buffer = bytes | bytearray | memoryview
    BinaryFile = io.IOBase

_BLOCK = 1 << 20


@public
def parse(data: Buffer, *, lenient: bool = False) -> Mappings:
    """Return the mappings in the text of a maps, smaps or smaps_rollup file.

    `data` is any C-contiguous bytes-like object. Lines may end in CRLF, be blank or have more
    or fewer spaces, the last newline may be missing, and a text with a byte order mark may be UTF-8
    or UTF-16 (offsets then count in UTF-8). One text may hold several processes: docs/fields.md
    ("Rollups in a text"). Raises ParseError for any other text, with the place and the likely
    cause; TypeError if `data` is not bytes-like, BufferError if it is not contiguous.

    `lenient=True` reads the certain part of a text as people paste it: after a prompt, quoted,
    indented, with line numbers, cut off (docs/texts.md). ``Mappings.skipped_lines`` is the number
    of lines left out, ``skipped`` counts them by kind. A value that is not certain is absent.
    Raises ParseError if nothing is left; a text without lines has no mappings.
    """
    try:
        view = memoryview(data)
    except TypeError:
        raise wrong("data", "bytes-like, as the kernel gives it", data) from None
    if not view.c_contiguous:
        raise BufferError("data must be a C-contiguous buffer")
    # cast() takes no view with a zero in its shape.
    view = view.cast("B") if view.nbytes else memoryview(b"")
    if lenient:
        return _certain(bytes(view))
    try:
        return Mappings(_backend.parse(view, _is_crlf(view)))
    except ParseError as error:
        text = _decoded(bytes(view), error)
        if text is None:
            raise
    return parse(text)


def _decoded(data: bytes, error: ParseError) -> bytes | None:
    """Return a text that has a byte order mark without it; otherwise explain the error."""
    from fastsmaps._source.causes import cause_of, is_pasted
    from fastsmaps._source.pasted import decoded

    try:
        text = decoded(data)
        if text is not None:
            return text
        cause = cause_of(data, error)
    except UnicodeDecodeError as damage:
        what = f"{damage.encoding.upper()}, damaged or cut off at byte {damage.start}"
        error.explain(f"{what}; try lenient=True")
        return None
    if cause:
        error.explain(f"{cause}; try lenient=True" if is_pasted(data, cause) else cause)
    return None


def _certain(data: bytes) -> Mappings:
    """Return the mappings that are certain in a text."""
    from fastsmaps._source import pasted
    from fastsmaps._source.causes import another_file

    text = pasted.in_utf8(data)
    try:
        table = _backend.parse(text, _is_crlf(memoryview(text)))
        if pasted.is_surely_whole(text, table):
            return Mappings(table)
    except ParseError:
        pass
    if another_file(text):
        raise _nothing_in(text)
    cleaned = pasted.Cleaned(text)
    if cleaned.skipped and not cleaned.records:
        raise _nothing_in(text)
    return Mappings(_backend.parse(cleaned.text), skipped=cleaned.skipped)


def _nothing_in(text: bytes) -> ParseError:
    """Return the error for a text without a certain mapping; it shows the first line with text."""
    from fastsmaps._source.causes import cause_of

    blank = text[: len(text) - len(text.lstrip(b" \t\r\n"))]
    offset = blank.rfind(b"\n") + 1
    error = ParseError(
        "no mapping in this text",
        offset=offset,
        line_number=blank.count(b"\n") + 1,
        line=text[offset:].partition(b"\n")[0].removesuffix(b"\r"),
    )
    cause = cause_of(text, error)
    if cause:
        error.explain(cause)
    return error


def _is_crlf(text: memoryview) -> bool:
    r"""Whether all lines end in \r\n.

    A name may end in \r too; only the other lines show which case it is.
    """
    start = 0
    while start < len(text):
        block = bytes(text[start : start + 4096])
        end = block.find(b"\n")
        if end >= 0:
            at = start + end
            if bytes(text[max(at - 1, 0) : at]) != b"\r":
                return False
            whole = bytes(text)
            return whole.count(b"\r\n") == whole.count(b"\n")
        start += len(block)
    return False


@public
def load(
    source: str | os.PathLike[str] | BinaryFile,
    *,
    lenient: bool = False,
    max_bytes: int = MAX_BYTES,
) -> Mappings:
    """Return the mappings in a saved maps, smaps or smaps_rollup: a path, or an open binary file.

    `lenient` is as in parse(). A file compressed with gzip, xz, bzip2 or (since Python 3.14) zstd
    is recognized by its first bytes. Raises ReadError if the system cannot read the file, its
    compression is damaged, or it decompresses to more than `max_bytes` (2 GiB: a few MB can hold
    more than that; the limit does not apply to a file that is not compressed), NotSupported if this
    Python cannot read the compression, TypeError for a file opened in text mode, and what parse()
    raises.
    """
    max_bytes = check_int("max_bytes", max_bytes, 0)
    if hasattr(source, "read"):
        name = getattr(source, "name", None)
    else:
        name = check_path("source", source, "a path or an open binary file")
    path = name if isinstance(name, str) else None
    try:
        if hasattr(source, "read"):
            data = source.read()
        else:
            with open(source, "rb") as file:
                data = file.read()
    except OSError as error:
        if is_foreign(error):
            raise
        raise ReadError(
            f"cannot read {path or 'the file'}: {error.strerror}", path=path, errno=error.errno
        ) from error
    if not isinstance(data, bytes):
        raise wrong("source", "a file opened in binary mode", source)
    try:
        return parse(_decompressed(data, path, max_bytes), lenient=lenient)
    except ParseError as error:
        error.path = path
        raise


def _decompressed(data: bytes, path: str | None, max_bytes: int) -> bytes:
    what = path or "the file"
    blocks = []
    left = max_bytes
    try:
        source = Decompressed(io.BytesIO(data).read)
        if not source.is_compressed:
            return data
        while left >= 0 and (block := source.read(_BLOCK)):
            blocks.append(block)
            left -= len(block)
    except ImportError as error:
        raise NotSupported(f"{what} is {error}: decompress it first", path=path) from error
    except Damage as damage:
        raise ReadError(f"{what} is damaged: {damage}", path=path) from damage
    if left < 0:
        raise ReadError(
            f"{what} has more than the {max_bytes} bytes that are allowed",
            path=path,
            errno=errno.EFBIG,
        )
    return b"".join(blocks)
