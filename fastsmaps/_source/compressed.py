"""Compressed data, recognized by its first bytes and not by its name.

gzip.open() and its like raise many kinds of exceptions for damage, which cannot be distinguished
from those of a signal handler that runs in their code. Here each call of a decompressor has its
own `try`, for the one exception that means damage.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_GZIP, _BZIP2, _XZ, _ZSTD = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"
# Not the start of a smaps text, which is a hex digit, nor of a tar, which is a name.
_MODULES = {_GZIP: "zlib", _BZIP2: "bz2", _XZ: "lzma", _ZSTD: "compression.zstd"}
_NAMES = {_GZIP: "gzip", _BZIP2: "bzip2", _XZ: "xz", _ZSTD: "zstd"}
#: The number of bytes that identify the compression.
START = max(map(len, _MODULES))

# The most bytes to read and to return in one step. At damage, a decompressor loses all output
# since it last returned.
_MAX_IN = 1 << 13
_MAX_OUT = 1 << 16
# The memory that one xz stream may use; `xz -9` takes 65 MiB.
_XZ_MEMORY = 256 << 20


def name_of(start: bytes) -> str:
    """Name the compression of a file with this start; return "" if it is not compressed."""
    for magic, name in _NAMES.items():
        if start.startswith(magic):
            return name
    return ""


class Damage(Exception):
    """The data cannot be read any further."""


class Decompressed:
    """A reader that decompresses its source if the first bytes show that it is compressed.

    `read(n)` of the source returns at most n bytes, and none at the end. Raises ImportError if
    this Python cannot read the compression (zstd: before 3.14).
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._source = read
        self._left = b""  # read from the source but not used yet
        while len(self._left) < START and (more := read(_MAX_IN)):
            self._left += more
        self._magic = next((magic for magic in _MODULES if self._left.startswith(magic)), b"")
        self._streams = 0
        if self._magic:
            self._prepare()

    def _prepare(self) -> None:
        import importlib
        from functools import partial

        name = _MODULES[self._magic]
        try:
            module: Any = importlib.import_module(name)
        except ImportError as error:
            raise ImportError(f"compressed, and this Python has no {name}") from error
        self._stream: Any = None
        self._new: Callable[[], Any]
        self._error: type[Exception]
        if self._magic == _GZIP:
            self._new, self._error = partial(module.decompressobj, wbits=31), module.error
        elif self._magic == _BZIP2:
            # Its OSError has no errno, unlike the system's.
            self._new, self._error = module.BZ2Decompressor, OSError
        elif self._magic == _XZ:
            self._new = partial(module.LZMADecompressor, memlimit=_XZ_MEMORY)
            self._error = module.LZMAError
        else:
            self._new, self._error = module.ZstdDecompressor, module.ZstdError

    @property
    def is_compressed(self) -> bool:
        """Whether the source is."""
        return bool(self._magic)

    def read(self, size: int) -> bytes:
        """Return 1 to `size` bytes, 64 KiB at most, and none at the end; raise Damage."""
        if not self._magic:
            data = self._left[:size] or self._source(size)
            self._left = self._left[size:]
            return data
        while self._stream is not None or self._begin():
            data = self._decompress(min(size, _MAX_OUT))
            if self._stream.eof:
                self._left, self._stream = self._stream.unused_data, None
            if data:
                return data
        return b""

    def _begin(self) -> bool:
        """Begin the next stream; return False at the end."""
        if self._streams:  # zeros (as on a tape) or another stream may follow
            while True:
                self._left = self._left.lstrip(b"\0")
                if self._left:
                    break
                self._left = self._source(_MAX_IN)
                if not self._left:
                    return False
            while len(self._left) < len(self._magic) and (more := self._source(_MAX_IN)):
                self._left += more
            if not self._left.startswith(self._magic):
                raise Damage("the compressed data is followed by other data")
        self._streams += 1
        self._stream = self._new()
        return True

    def _decompress(self, max_bytes: int) -> bytes:
        stream = self._stream
        needs_input = self._magic == _GZIP or stream.needs_input
        data = (self._left or self._source(_MAX_IN)) if needs_input else b""
        try:
            out: bytes = stream.decompress(data, max_bytes)
        except self._error as error:
            if type(error) is not self._error or getattr(error, "errno", None) is not None:
                raise
            raise Damage(str(error)) from error
        self._left = stream.unconsumed_tail if self._magic == _GZIP else b""
        if needs_input and not data and not out and not stream.eof:
            raise Damage("the compressed data is cut off")
        return out
