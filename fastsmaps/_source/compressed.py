"""Compressed data, recognised by its first bytes and not by its name.

The modules' own files (gzip.open() and so on) would do, if there were no signals: what they raise
for damage is of many kinds, and looks the same as a handler that raises in their code. Here
each call of a decompressor stands alone, with the one exception that it has for damage.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_GZIP, _BZIP2, _XZ, _ZSTD = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"
# No text of smaps begins so: its first byte is a hex digit. No tar does: it begins with a name.
_MODULES = {_GZIP: "zlib", _BZIP2: "bz2", _XZ: "lzma", _ZSTD: "compression.zstd"}
_NAMES = {_GZIP: "gzip", _BZIP2: "bzip2", _XZ: "xz", _ZSTD: "zstd"}
#: So many bytes tell.
START = max(map(len, _MODULES))

# Bytes that are taken and given at a time. When a decompressor meets damage, what it has made
# since its last answer is lost.
_TAKEN = 1 << 13
_GIVEN = 1 << 16
# What one xz stream may ask for; `xz -9` takes 65 MiB.
_XZ_MEMORY = 256 << 20


def name_of(start: bytes) -> str:
    """What a file that begins so is compressed with; "" for one that is not compressed."""
    for magic, name in _NAMES.items():
        if start.startswith(magic):
            return name
    return ""


class Damage(Exception):
    """The data cannot be read any further."""


class Decompressed:
    """What another function reads, decompressed if it begins as compressed data does.

    `read` takes a number and gives at most so many bytes, none at the end. ImportError, which
    says so, where this Python cannot read the compression (zstd: before 3.14).
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._source = read
        self._left = b""  # read, and not yet used
        while len(self._left) < START and (more := read(_TAKEN)):
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
            # It has a message of its own, and no number as the system's errors have.
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
        """At least a byte and at most `size` (and 64 KiB), or none at the end; Damage."""
        if not self._magic:
            data = self._left[:size] or self._source(size)
            self._left = self._left[size:]
            return data
        while self._stream is not None or self._begin():
            data = self._decompress(min(size, _GIVEN))
            if self._stream.eof:
                self._left, self._stream = self._stream.unused_data, None
            if data:
                return data
        return b""

    def _begin(self) -> bool:
        """Begins the next stream; False at the end."""
        if self._streams:  # zeros may follow, as on a tape, or another stream
            while True:
                self._left = self._left.lstrip(b"\0")
                if self._left:
                    break
                self._left = self._source(_TAKEN)
                if not self._left:
                    return False
            while len(self._left) < len(self._magic) and (more := self._source(_TAKEN)):
                self._left += more
            if not self._left.startswith(self._magic):
                raise Damage("what follows the compressed data is something else")
        self._streams += 1
        self._stream = self._new()
        return True

    def _decompress(self, most: int) -> bytes:
        stream = self._stream
        if self._magic == _GZIP:
            data = self._left or self._source(_TAKEN)
            needs = True
        else:
            needs = stream.needs_input
            data = (self._left or self._source(_TAKEN)) if needs else b""
        try:
            out: bytes = stream.decompress(data, most)
        except self._error as error:
            if type(error) is not self._error or getattr(error, "errno", None) is not None:
                raise
            raise Damage(str(error)) from error
        self._left = stream.unconsumed_tail if self._magic == _GZIP else b""
        if needs and not data and not out and not stream.eof:
            raise Damage("the compressed data is cut off")
        return out
