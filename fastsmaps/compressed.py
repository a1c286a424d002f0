"""Compressed files, told by their first bytes and not by their names."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# No text of smaps begins so: its first byte is a hex digit. No tar does: it begins with a name.
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "lzma",
    b"\x28\xb5\x2f\xfd": "compression.zstd",
}
#: So many bytes tell.
START = max(map(len, _MAGIC))


def name_of(start: bytes) -> str:
    """What a file that begins so is compressed with; "" for one that is not compressed."""
    for magic, module in _MAGIC.items():
        if start.startswith(magic):
            return module.rpartition(".")[2].replace("lzma", "xz").replace("bz2", "bzip2")
    return ""


def opener(start: bytes) -> Callable[..., Any] | None:
    """The open() for a file that begins so; None for one that is not compressed.

    ImportError, which says so, where this Python cannot read it (zstd: before 3.14).
    """
    for magic, module in _MAGIC.items():
        if start.startswith(magic):
            import importlib

            try:
                opened: Callable[..., Any] = importlib.import_module(module).open
            except ImportError as error:
                raise ImportError(f"compressed, and this Python has no {module}") from error
            return opened
    return None
