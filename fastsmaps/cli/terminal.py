"""A terminal that a command uses exclusively, until it ends or is stopped."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import tty

from fastsmaps.cli.handlers import signal_handlers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

#: Ctrl-L; key() also returns it after a signal: the screen must be redrawn.
REDRAW = "\x0c"


class Terminal:
    """Single keys without echo, and the alternate screen."""

    def __init__(self) -> None:
        self._fd = sys.stdin.fileno()
        self._modes = termios.tcgetattr(self._fd)
        self._taken = False
        self._ending = False
        # Every signal writes a byte to this pipe. A handler alone would not suffice: a signal just
        # before select() begins does not end it.
        self._signals, self.wake = os.pipe()
        os.set_blocking(self.wake, False)

    def take(self) -> None:
        """Set the terminal up. In the background the kernel stops the process here."""
        # Ending a stopped command also sends SIGCONT, which must not stop it again here.
        if not self._ending:
            # Fails if the terminal is gone, or if a signal ends the process.
            with contextlib.suppress(termios.error):
                tty.setcbreak(self._fd)
                self._taken = True
                self.write("\x1b[?1049h\x1b[?25l")

    def give_back(self) -> None:
        """Restore the terminal, once."""
        # A second time would stop this process instead of ending it, if another one now has the
        # terminal.
        if self._taken:
            with contextlib.suppress(termios.error):
                self.write("\x1b[?25h\x1b[?1049l")
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._modes)
            self._taken = False

    def close(self) -> None:
        """Restore the terminal and close the pipe."""
        self.give_back()
        os.close(self._signals)
        os.close(self.wake)

    def write(self, text: str) -> None:
        """Write without sys.stdout, which rejects a handler's write during another write."""
        data = memoryview(text.encode(sys.stdout.encoding, "backslashreplace"))
        # EIO: the terminal is gone; key() reports it.
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(sys.stdout.fileno(), data) :]

    def size(self) -> tuple[int, int]:
        """Return the numbers of columns and lines."""
        try:
            size = os.get_terminal_size(sys.stdout.fileno())
        except OSError:
            return 80, 24
        return size.columns or 80, size.lines or 24

    def key(self, timeout: float) -> str | None:
        """Return the next key, None after the timeout, or "q" at the end of input."""
        ready = select.select([self._fd, self._signals], [], [], max(0.0, timeout))[0]
        if self._signals in ready:
            os.read(self._signals, 1 << 12)
            return REDRAW
        if not ready:
            return None
        try:
            data = os.read(self._fd, 1)
        except OSError:  # EIO: the terminal is gone
            data = b""
        return data.decode("ascii", "replace") if data else "q"

    # ---- signals

    def end(self, number: int, frame: FrameType | None) -> None:
        """Handle SIGINT, SIGTERM and SIGHUP by an exception, as Python does for SIGINT."""
        if not self._ending:  # a second signal must not interrupt the cleanup
            self._ending = True
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    def redraw(self, number: int, frame: FrameType | None) -> None:
        """Handle SIGWINCH: the size changed, and key() returns REDRAW."""

    def resume(self, number: int, frame: FrameType | None) -> None:
        """Handle SIGCONT: other programs used the terminal meanwhile."""
        # Python may run this handler at the first instruction of another one.
        if frame is None or frame.f_code is not Terminal.end.__code__:
            self.take()

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Handle SIGTSTP (Ctrl-Z): restore the terminal, then stop."""
        self.give_back()
        handler = signal.signal(number, signal.SIG_DFL)
        # Returns when the process is continued; at once, and without SIGCONT, if no shell could
        # continue it.
        signal.raise_signal(number)
        signal.signal(number, handler)
        self.take()


@contextlib.contextmanager
def own_terminal() -> Iterator[Terminal]:
    """Use the terminal of standard input and output; restore it even if a signal ends the block."""
    terminal = Terminal()
    ends = dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), terminal.end)
    jobs = {
        signal.SIGTSTP: terminal.stop,
        signal.SIGCONT: terminal.resume,
        signal.SIGWINCH: terminal.redraw,
    }
    with (
        signal_handlers(ends, terminal.wake),
        contextlib.closing(terminal),
        # Innermost, so that no handler takes the terminal again while it is being restored.
        signal_handlers(jobs, terminal.wake),
    ):
        for number in (signal.SIGCONT, signal.SIGWINCH):
            # If take() is stopped in the background, the kernel restarts its system call.
            signal.siginterrupt(number, False)
        terminal.take()
        yield terminal
