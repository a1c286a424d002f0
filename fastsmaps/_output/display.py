"""Names and sizes as text for people: on terminals, in metrics, on pages."""

from __future__ import annotations

import os


def escaped(text: str) -> str:
    r"""Return the text with everything that a terminal would act on escaped: ``\x1b``, ``\xff``.

    Any user can choose the name of a process or of a mapped file. Control characters, changes of
    the writing direction and bytes that are not UTF-8 must not reach a terminal.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in _decoded(text)
    )


def _decoded(text: str) -> str:
    try:
        return os.fsencode(text).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        # A surrogate that does not stand for a byte is escaped like any other character.
        return text


def kib(size: int | None) -> str:
    """Return a size in KiB; "-" for an unknown one, which is not 0."""
    return "-" if size is None else str(size // 1024 if size >= 0 else -(-size // 1024))
