"""The signals that end a command, so that none is lost.

Most signals end the command. Unpacked and half-written files must then be removed, however often
and whenever signals arrive. Python alone does not guarantee that: a handler's exception is lost if
it is raised in a finalizer or in the last step of an import; no handler runs during a call that
signals do not interrupt; and a signal just before a blocking call does not end that call.

A command that leaves nothing behind needs no handlers: importing signal and threading takes 5 ms.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

# Signals that end a process by default, except those for its own faults.
_ENDING = (
    *("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGALRM", "SIGUSR1", "SIGUSR2"),
    *("SIGVTALRM", "SIGPROF", "SIGXCPU", "SIGIO", "SIGPWR"),
)
# signal.SIGINT, which is 2 in every system (POSIX, kill(1)).
_SIGINT = 2
# Seconds between two attempts to end the command by the same signal.
_RETRY_INTERVAL = 0.05
# Seconds of such attempts, after which the process ends at once.
_GRACE_PERIOD = 3.0

#: The exit status after Ctrl-C.
SIGINT_STATUS = 128 + _SIGINT


class SignalReceived(BaseException):
    """Raised for the signal ``number``, which ends the command; entry() catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class TerminationSignals:
    """Let signals end the command: SIGINT by KeyboardInterrupt, others by SignalReceived.

    Only the first signal raises. If its exception is lost, a thread sends the signal again, and
    ends the process itself if that does not help.

    Before install() there are no handlers but Python's own for SIGINT: signals end the process at
    once.
    """

    def __init__(self) -> None:
        #: False for a command that leaves nothing behind: then the process may end at any time.
        self.installed = False
        self._raised = False
        self._over = False
        self._wake = -1

    def install(self) -> None:
        """Install the handlers, once. Signals that were ignored at the start stay ignored."""
        if self.installed:
            return
        import contextlib
        import signal
        import threading
        import time

        from fastsmaps._output.temporary import remove_all

        self.installed = True

        # It imports nothing: a signal that ends an import in the main thread may leave the
        # import's lock held, and both threads would wait for ever.
        def watch(read_end: int) -> None:
            number = os.read(read_end, 1)[0]
            until = time.monotonic() + _GRACE_PERIOD
            while time.monotonic() < until:
                time.sleep(_RETRY_INTERVAL)
                signal.pthread_kill(threading.main_thread().ident or 0, number)
            remove_all()
            os._exit(128 + number)

        ending = [signal.Signals[name] for name in _ENDING]
        # Without a free descriptor or thread, handlers alone must suffice.
        with contextlib.suppress(OSError, RuntimeError):
            read_end, self._wake = os.pipe()
            os.set_blocking(self._wake, False)
            # The thread blocks all signals, so that they interrupt the main thread if it waits.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, ending)
            try:
                threading.Thread(target=watch, args=(read_end,), daemon=True).start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            # The pipe may fill up: one byte is enough.
            signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for number in ending:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, self._end)

    def ignore(self) -> None:
        """Ignore signals from now on: the command is done."""
        self._over = True

    def interrupted(self) -> None:
        """Ignore further signals and remove temporary files, after a KeyboardInterrupt."""
        self.ignore()
        if not self.installed:
            # There are no files, and nothing that is still to be printed. Python's own handler
            # would raise again at the next Ctrl-C.
            os._exit(SIGINT_STATUS)
        from fastsmaps._output.temporary import remove_all

        remove_all()

    def die(self, number: int) -> NoReturn:
        """Remove temporary files and end this process as the unhandled signal would."""
        import signal

        from fastsmaps._output.temporary import remove_all

        remove_all()
        self.ignore()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        os._exit(128 + number)  # the signal is blocked, or this is a container's init process

    def _end(self, number: int, frame: FrameType | None) -> None:
        if self._raised or self._over:
            return
        self._raised = True
        raise KeyboardInterrupt if number == _SIGINT else SignalReceived(number)

    def lost(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Retry a lost signal; a sys.unraisablehook. Python would print the exception and go on."""
        error = unraisable.exc_value
        if not isinstance(error, KeyboardInterrupt | SignalReceived):
            sys.__unraisablehook__(unraisable)
            return
        if not self.installed:
            os._exit(SIGINT_STATUS)
        self._raised = False
        number = error.number if isinstance(error, SignalReceived) else _SIGINT
        import contextlib

        with contextlib.suppress(OSError):
            os.write(self._wake, bytes([number]))


#: The handlers of the command.
termination = TerminationSignals()
