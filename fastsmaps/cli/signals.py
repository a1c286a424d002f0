"""Signals while a command runs: what each does, and that none is missed.

Most end the command. Then nothing that it unpacked or began to write may stay, however often and
whenever they come. Python's own ways do not suffice: a handler's exception is lost where it is
raised in a finalizer or in the last step of an import, a handler is not called at all while a
call goes on that no signal interrupts, and a signal just before such a call does not end it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading

from fastsmaps._output.temporary import remove_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType
    from typing import NoReturn

    Handler = Callable[[int, FrameType | None], None]

# What ends a process that does not handle it, and is no fault of its own.
_ENDING = tuple(
    signal.Signals[name]
    for name in (
        *("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGALRM", "SIGUSR1", "SIGUSR2"),
        *("SIGVTALRM", "SIGPROF", "SIGXCPU", "SIGIO", "SIGPWR"),
    )
)
# Seconds until a signal is sent again that has not ended the command yet.
_RETRY_INTERVAL = 0.05
# Seconds after which it is ended without being asked.
_GRACE_PERIOD = 3.0


class Ended(BaseException):
    """A signal that ends the command, by its number; entry() catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Endings:
    """Has signals end the command by an exception: KeyboardInterrupt for SIGINT, Ended for others.

    Only the first one raises. One whose exception was lost is sent again by a thread, which
    ends the command itself when that does not help.
    """

    def __init__(self) -> None:
        self._raised = False
        self._over = False
        self._wake = -1

    def begin(self) -> None:
        """Begin. Signals that were ignored at the start stay ignored."""
        # With no descriptor or thread to be had, handlers have to do.
        with contextlib.suppress(OSError, RuntimeError):
            heard, self._wake = os.pipe()
            os.set_blocking(self._wake, False)
            # A thread that takes no signal: where the main thread waits, it has to take them.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
            try:
                threading.Thread(target=self._watch, args=(heard,), daemon=True).start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            # Full of such bytes is fine: one is enough.
            signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        sys.unraisablehook = self._lost
        for number in _ENDING:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, self._end)

    def over(self) -> None:
        """From now on signals do nothing: all is done."""
        self._over = True

    def die(self, number: int) -> NoReturn:
        """Ends this process as the signal does if nobody handles it."""
        self.over()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        os._exit(128 + number)  # it was blocked, or this is the first process of a container

    def _end(self, number: int, frame: FrameType | None) -> None:
        if self._raised or self._over:
            return
        self._raised = True
        raise KeyboardInterrupt if number == signal.SIGINT else Ended(number)

    def _lost(self, unraisable: sys.UnraisableHookArgs) -> None:
        """For sys.unraisablehook: what Python would print, and go on as if nothing had come."""
        error = unraisable.exc_value
        if not isinstance(error, KeyboardInterrupt | Ended):
            sys.__unraisablehook__(unraisable)
            return
        self._raised = False
        number = error.number if isinstance(error, Ended) else signal.SIGINT
        with contextlib.suppress(OSError):
            os.write(self._wake, bytes([number]))

    def _watch(self, heard: int) -> None:
        import time

        number = os.read(heard, 1)[0]
        until = time.monotonic() + _GRACE_PERIOD
        while time.monotonic() < until:
            time.sleep(_RETRY_INTERVAL)
            signal.pthread_kill(threading.main_thread().ident or 0, number)
        remove_all()
        os._exit(128 + number)


def _in_main_thread() -> bool:
    """Only there Python lets anybody say what signals do; in others all stays as it is."""
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def handled(handlers: Mapping[signal.Signals, Handler], wake: int = -1) -> Iterator[None]:
    """Signals are handled so; each writes a byte to `wake`, which must not block.

    A handler alone runs too late for whoever waits: it does not end a call that is begun just
    after the signal came.
    """
    if not _in_main_thread():
        yield
        return
    # Full of such bytes is fine: one is enough.
    woken = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    before = {}
    try:
        for number, handler in handlers.items():
            # Signals that were ignored at the start stay ignored: nohup's SIGHUP, or SIGTSTP
            # where nobody would continue it.
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
        signal.set_wakeup_fd(woken)
