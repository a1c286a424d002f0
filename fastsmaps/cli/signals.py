"""Signals while a command runs: what each does, and that none is missed."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    Handler = Callable[[int, FrameType | None], None]


def _in_main_thread() -> bool:
    """Only there Python lets anybody say what signals do; in others all stays as it is."""
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def waking(fd: int) -> Iterator[None]:
    """Each signal that is handled writes a byte there.

    A handler alone runs too late for whoever waits: it does not end a call that is begun just
    after the signal came. `fd` must not block.
    """
    if not _in_main_thread():
        yield
        return
    # Full of such bytes is fine: one is enough.
    before = signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)


@contextlib.contextmanager
def handled(handlers: Mapping[signal.Signals, Handler]) -> Iterator[None]:
    """Signals are handled so."""
    before = {}
    try:
        if _in_main_thread():
            for number, handler in handlers.items():
                # What whoever started this wants ignored stays so: nohup's SIGHUP, or SIGTSTP
                # where nobody would continue it.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def heard_later(unraisable: sys.UnraisableHookArgs) -> None:
    """For sys.unraisablehook: a Ctrl-C that comes where no exception can be told comes again.

    Each import ends in such a place, the call that drops the module's lock. Python tells of the
    exception there and goes on as if nothing had been pressed.
    """
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
        return
    # A real signal, so that it ends a read that waits by then; not at once, since this is still
    # called from that place.
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
