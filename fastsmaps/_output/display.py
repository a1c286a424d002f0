"""Names and sizes as text for people: on terminals, in metrics, on pages."""

from __future__ import annotations

from fastsmaps._model.escaping import escaped as escaped


def kib(size: int | None) -> str:
    """Return a size in KiB; "-" for an unknown one, which is not 0."""
    return "-" if size is None else str(size // 1024 if size >= 0 else -(-size // 1024))
