"""Exceptions raised at every line in turn, as a signal handler may raise them anywhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


def _is_finalizing(frame: FrameType | None) -> bool:
    """Whether `__del__` is running: Python prints exceptions from there and ignores them."""
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
    """Repeat the call with `error` raised at line 1, 2, ... of `modules`; yield what it raises.

    With a `step` greater than 1 only every step-th line is tried; "opcode" events also fall within
    lines. Yields None where the call returned a value all the same. The exception and the objects
    it referenced are freed by then.
    """
    line = 1 - step
    while True:
        line += step
        remaining = line

        def trace(
            frame: FrameType, event: str, _: object
        ) -> Callable[[FrameType, str, Any], Any] | None:
            nonlocal remaining
            if frame.f_globals.get("__name__") not in modules or _is_finalizing(frame):
                return None
            frame.f_trace_opcodes = event_of == "opcode"
            if event == event_of:
                remaining -= 1
                if not remaining:
                    raise error()
            return trace

        previous = sys.gettrace()
        # CPython 3.12 sends opcode events only to frames that asked for them before settrace().
        sys._getframe().f_trace_opcodes = event_of == "opcode"
        sys.settrace(trace)
        kind = None
        try:
            call()
        except BaseException as raised:
            kind = type(raised)
        finally:
            sys.settrace(previous)
        if remaining > 0:
            return
        yield kind
