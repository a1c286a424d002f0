"""Signal handling while a command runs, so that no signal is lost.

Most signals end the command. Unpacked and half-written files must then be removed, however often
and whenever signals arrive. Python alone does not guarantee that: a handler's exception is lost if
it is raised in a finalizer or in the last step of an import; no handler runs during a call that
signals do not interrupt; and a signal just before a blocking call does not end that call.
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

# Signals that end a process by default, except those for its own faults.
_ENDING = tuple(
    signal.Signals[name]
    for name in (
        *("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGALRM", "SIGUSR1", "SIGUSR2"),
        *("SIGVTALRM", "SIGPROF", "SIGXCPU", "SIGIO", "SIGPWR"),
    )
)
# Seconds between two attempts to end the command by the same signal.
_RETRY_INTERVAL = 0.05
# Seconds of such attempts, after which the process ends at once.
_GRACE_PERIOD = 3.0


class SignalReceived(BaseException):
    """Raised for the signal ``number``, which ends the command; entry() catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class TerminationSignals:
    """Let signals end the command: SIGINT by KeyboardInterrupt, others by SignalReceived.

    Only the first signal raises. If its exception is lost, a thread sends the signal again, and
    ends the process itself if that does not help.
    """

    def __init__(self) -> None:
        self._raised = False
        self._over = False
        self._wake = -1

    def install(self) -> None:
        """Install the handlers. Signals that were ignored at the start stay ignored."""
        # Without a free descriptor or thread, handlers alone must suffice.
        with contextlib.suppress(OSError, RuntimeError):
            read_end, self._wake = os.pipe()
            os.set_blocking(self._wake, False)
            # The thread blocks all signals, so that they interrupt the main thread if it waits.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
            try:
                threading.Thread(target=self._watch, args=(read_end,), daemon=True).start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            # The pipe may fill up: one byte is enough.
            signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        sys.unraisablehook = self._lost
        for number in _ENDING:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, self._end)

    def ignore(self) -> None:
        """Ignore signals from now on: the command is done."""
        self._over = True

    def die(self, number: int) -> NoReturn:
        """End this process as the unhandled signal would."""
        self.ignore()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        os._exit(128 + number)  # the signal is blocked, or this is a container's init process

    def _end(self, number: int, frame: FrameType | None) -> None:
        if self._raised or self._over:
            return
        self._raised = True
        raise KeyboardInterrupt if number == signal.SIGINT else SignalReceived(number)

    def _lost(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Retry a lost signal; a sys.unraisablehook. Python would print the exception and go on."""
        error = unraisable.exc_value
        if not isinstance(error, KeyboardInterrupt | SignalReceived):
            sys.__unraisablehook__(unraisable)
            return
        self._raised = False
        number = error.number if isinstance(error, SignalReceived) else signal.SIGINT
        with contextlib.suppress(OSError):
            os.write(self._wake, bytes([number]))

    def _watch(self, read_end: int) -> None:
        import time

        number = os.read(read_end, 1)[0]
        until = time.monotonic() + _GRACE_PERIOD
        while time.monotonic() < until:
            time.sleep(_RETRY_INTERVAL)
            signal.pthread_kill(threading.main_thread().ident or 0, number)
        remove_all()
        os._exit(128 + number)


def _in_main_thread() -> bool:
    """Whether this is the main thread: in others Python cannot install signal handlers."""
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def signal_handlers(handlers: Mapping[signal.Signals, Handler], wake: int = -1) -> Iterator[None]:
    """Install signal handlers; each signal also writes a byte to `wake`, which must not block.

    A caller that waits needs the byte: a handler does not end a blocking call that begins just
    after the signal. In threads other than the main one nothing is installed.
    """
    if not _in_main_thread():
        yield
        return
    # The pipe may fill up: one byte is enough.
    old_wake = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    before = {}
    try:
        for number, handler in handlers.items():
            # Signals that were ignored at the start stay ignored: SIGHUP after nohup, or SIGTSTP
            # without a shell that could continue this process.
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
        signal.set_wakeup_fd(old_wake)
