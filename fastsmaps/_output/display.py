"""Names and sizes as people see them, on terminals, in metrics and on pages."""

from __future__ import annotations

import contextlib
import os


def harmless(text: str) -> str:
    r"""The text with all that a terminal would act on made visible: ``\x1b``, ``\xff``.

    Names come from whoever runs a process or maps a file: control characters, changes of the
    writing direction and bytes that are no UTF-8 must not reach a terminal.
    """
    if text.isprintable():
        return text
    # A surrogate that stands for no byte is escaped below, as what it is.
    with contextlib.suppress(UnicodeEncodeError):
        text = os.fsencode(text).decode("utf-8", "backslashreplace")
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def kib(size: int | None) -> str:
    """A size in KiB; "-" for what is not known, which is not 0."""
    return "-" if size is None else str(size // 1024 if size >= 0 else -(-size // 1024))
