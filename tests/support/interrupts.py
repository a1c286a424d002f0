"""Exceptions at every moment: as a signal's handler may raise them, but at each line in turn."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


def _is_finalizing(frame: FrameType | None) -> bool:
    """Whether an object dies: what is raised there, Python prints and drops."""
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None


def at_every_line(
    call: Callable[[], object],
    error: Callable[[], BaseException],
    *modules: str,
    step: int = 1,
    event_of: str = "line",
) -> Iterator[type[BaseException] | None]:
    """What the call raises with an exception at the first line of these modules, the second, ...

    With a `step` it is only every so many lines; "opcode" events come within a line too. None
    where the call gave something nevertheless. By then the exception and what it held are gone.
    """
    line = 1 - step
    while True:
        line += step
        left = line

        def trace(
            frame: FrameType, event: str, _: object
        ) -> Callable[[FrameType, str, Any], Any] | None:
            nonlocal left
            if frame.f_globals.get("__name__") not in modules or _is_finalizing(frame):
                return None
            frame.f_trace_opcodes = event_of == "opcode"
            if event == event_of:
                left -= 1
                if not left:
                    raise error()
            return trace

        before = sys.gettrace()
        # CPython 3.12 sends opcode events only where a frame wanted them before settrace().
        sys._getframe().f_trace_opcodes = event_of == "opcode"
        sys.settrace(trace)
        kind = None
        try:
            call()
        except BaseException as raised:
            kind = type(raised)
        finally:
            sys.settrace(before)
        if left > 0:
            return
        yield kind
