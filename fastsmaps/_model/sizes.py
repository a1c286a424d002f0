"""Sizes as people read them."""

from __future__ import annotations


def human(size: int | None) -> str:
    """Return a size with its unit, "1.5 MiB"; "0" for 0, and "-" for None, which is not 0."""
    if size is None:
        return "-"
    if abs(size) < 1024:
        return f"{size} B" if size else "0"
    value = size / 1024
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        # A value that rounds to 1024.0 is shown as 1.0 of the next unit.
        if abs(value) < 1023.95 or unit == "TiB":
            break
        value /= 1024
    text = f"{value:.1f}"
    # The kernel counts in whole KiB.
    return f"{text.removesuffix('.0') if unit == 'KiB' else text} {unit}"


def change(size: int | None) -> str:
    """Return a difference of sizes, with its sign unless it is 0."""
    return f"+{human(size)}" if size is not None and size > 0 else human(size)
