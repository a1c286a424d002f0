"""Names as text: valid UTF-8 for other programs, and escaped for people."""

from __future__ import annotations

import os


def utf8(text: str) -> str:
    r"""Convert a text to valid UTF-8; other bytes become ``\xff``."""
    try:
        return os.fsencode(text).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a surrogate that does not stand for a byte
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def escaped(text: str) -> str:
    r"""Return the text with everything that a terminal would act on escaped: ``\x1b``, ``\xff``.

    Any user can choose the name of a process or of a mapped file. Control characters, changes of
    the writing direction and bytes that are not UTF-8 must not reach a terminal.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in utf8(text)
    )
