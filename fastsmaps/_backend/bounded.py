"""Bounded copies of text that processes choose: command lines, cgroups, program paths.

Every process may declare all of its memory its command line. A text that was cut ends in MARK.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: The most bytes of one text to read and keep; ps(1) shows as many.
MAX_TEXT = 1 << 17
#: The most bytes of all texts in one sweep, equal ones counted once. Beyond that the longest are
#: cut further, so that a few long texts never shorten ordinary ones.
MAX_TEXTS = 1 << 23
#: The lowest limit at which texts are cut.
MIN_TEXT = 64
#: Takes the place of the part that was cut off.
MARK = b"..."


def cut(text: bytes, limit: int = MAX_TEXT) -> bytes:
    """Cut a text to its first `limit` bytes and MARK; cutting it again changes nothing."""
    return text if len(text) <= limit + len(MARK) else text[:limit] + MARK


def limit_of(sizes: Iterable[int], limit: int = MAX_TEXT) -> int:
    """Return the limit at which texts of these sizes take half of MAX_TEXTS at most."""
    sizes = list(sizes)
    while limit > MIN_TEXT and sum(min(size, limit) for size in sizes) > MAX_TEXTS // 2:
        limit //= 2
    return limit
