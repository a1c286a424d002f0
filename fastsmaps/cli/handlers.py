"""Signal handlers for a part of a command."""

from __future__ import annotations

import contextlib
import signal
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    Handler = Callable[[int, FrameType | None], None]


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
