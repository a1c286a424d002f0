"""Sizes as people read them."""

from __future__ import annotations


def human(size: int | None) -> str:
    """Return a size with its unit and one decimal; "-" for None, which is not 0."""
    if size is None:
        return "-"
    value = size / 1024
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        # A value that rounds to 1024.0 is shown as 1.0 of the next unit.
        if abs(value) < 1023.95 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.1f} {unit}"


def change(size: int | None) -> str:
    """Return a difference of sizes, with its sign."""
    return human(size) if size is None or size < 0 else f"+{human(size)}"
