"""Names and sizes as text for people: on terminals, in metrics, on pages."""

from __future__ import annotations

from fastsmaps._model.escaping import escaped as escaped


def kib(size: int | None) -> str:
    """Return a size in KiB; "-" for an unknown one, which is not 0."""
    return "-" if size is None else str(size // 1024 if size >= 0 else -(-size // 1024))


def signed_kib(size: int | None) -> str:
    """Return a difference of sizes in KiB, with its sign unless it is 0."""
    text = kib(size)
    return f"+{text}" if size is not None and size > 0 and text != "0" else text
