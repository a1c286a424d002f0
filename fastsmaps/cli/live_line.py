"""Lines on standard error that show how a long operation goes, and are removed at its end."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time

from fastsmaps._output.display import blocks, escaped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

# Values of a course; of more, each two neighbours become their maximum.
_MAX_COURSE = 40
# Columns kept free for the "^C" that a terminal shows.
_MARGIN = 3
# Seconds without show(): this process was stopped, and the shell wrote below the lines.
_MAX_PAUSE = 5.0


class LiveLine:
    """Show a title and, below it, a line of changing parts, while the block runs.

    Nothing is shown unless standard error is a terminal that this process is in the foreground of,
    or if standard output is a pipe. A terminal without cursor movement (TERM=dumb) gets the title
    only.
    """

    def __init__(self, title: str) -> None:
        self._title = escaped(title)
        self._shown_at: float | None = None
        self._is_titled = False
        self._moves = os.environ.get("TERM", "dumb") not in ("dumb", "")
        self._is_on = sys.stderr is not None and sys.stderr.isatty() and not _is_pipe(sys.stdout)

    def __enter__(self) -> LiveLine:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_on:
            self._write(self._removal())

    @property
    def is_on(self) -> bool:
        """Whether show() shows anything."""
        return self._is_on and _is_in_foreground()

    def show(self, parts: Iterable[str], course: Iterable[int] = ()) -> None:
        """Replace the line by these parts and a course, as far as they fit."""
        if not self.is_on:
            return
        if not self._moves:
            if not self._is_titled:
                self._write(f"{self._title}\n")
            self._is_titled = True
            return
        width = _columns() - _MARGIN
        line = ""
        for part in (*parts, self._drawn(course)):
            added = f"{line}  {part}" if line and part else line or part
            if len(added) > width:
                break
            line = added
        self._write(f"{self._removal()}{self._title[:width]}\n{line[:width]}")
        self._shown_at = time.monotonic()

    @staticmethod
    def _drawn(course: Iterable[int]) -> str:
        """Return a course as bars, or nothing if standard error cannot show them."""
        values = [*course]
        largest = max(values, default=0)
        if not largest or "utf" not in (sys.stderr.encoding or "").lower():
            return ""
        return blocks(values, 0, largest)

    def _removal(self) -> str:
        if self._shown_at is None or time.monotonic() - self._shown_at > _MAX_PAUSE:
            return ""
        # To the start of the line, erase it; one line up, erase it.
        return "\r\x1b[K\x1b[A\x1b[K"

    def _write(self, text: str) -> None:
        if not text:
            return
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:
            self._is_on = False  # the terminal is gone


class Course:
    """The course of a value since the beginning, in a bounded number of values."""

    def __init__(self) -> None:
        self._values: list[int] = []
        self._stride = 1  # added values for each kept one
        self._filled = 1  # added values so far for the last kept one

    def add(self, value: int) -> None:
        """Add a value."""
        if self._filled < self._stride:
            self._filled += 1
            self._values[-1] = max(self._values[-1], value)
            return
        if len(self._values) == _MAX_COURSE:
            pairs = zip(self._values[::2], self._values[1::2], strict=True)
            self._values = list(map(max, pairs))
            self._stride *= 2
        self._values.append(value)
        self._filled = 1

    @property
    def values(self) -> list[int]:
        """At most 40 maxima of equally many values."""
        return self._values


def _is_pipe(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        return False


def _is_in_foreground() -> bool:
    """Whether a shell has not put this process into the background of the terminal."""
    try:
        return os.tcgetpgrp(sys.stderr.fileno()) == os.getpgrp()
    except OSError:
        return True  # it is not our controlling terminal: no job control


def _columns() -> int:
    with contextlib.suppress(OSError):
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    return 80
