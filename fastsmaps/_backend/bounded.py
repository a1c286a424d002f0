"""Bounded copies of text that processes choose: command lines, cgroups, program paths.

A process may name all of its memory as its command line, and every process may do so. What is cut
off ends in MARK.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: Bytes of one text that are kept; ps(1) shows as many. What is beyond is not even read.
MAX_TEXT = 1 << 17
#: Bytes that one sweep keeps of all texts, equal ones once. Beyond that the longest are cut
#: further, so that a few long texts never shorten ordinary ones.
MAX_TEXTS = 1 << 23
#: The shortest limit that texts are ever cut at.
MIN_TEXT = 64
#: Stands for the part that was cut off.
MARK = b"..."


def cut(text: bytes, limit: int = MAX_TEXT) -> bytes:
    """The text, or its first `limit` bytes and MARK; a text that was cut before stays the same."""
    return text if len(text) <= limit + len(MARK) else text[:limit] + MARK


def limit_of(sizes: Iterable[int], limit: int = MAX_TEXT) -> int:
    """The limit at which texts of these sizes need at most half of MAX_TEXTS."""
    known = list(sizes)
    while limit > MIN_TEXT and sum(min(size, limit) for size in known) > MAX_TEXTS // 2:
        limit //= 2
    return limit
