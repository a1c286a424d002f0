"""A terminal that a command has for itself, for as long as it runs and is not stopped."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import tty

from fastsmaps.cli.signals import handled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

#: Ctrl-L; key() gives it too after a signal: the screen has to be drawn again.
REDRAW = "\x0c"


class Terminal:
    """Keys one by one and unseen, and a screen of its own."""

    def __init__(self) -> None:
        self._fd = sys.stdin.fileno()
        self._modes = termios.tcgetattr(self._fd)
        self._taken = False
        self._ending = False
        # Every signal writes a byte. A handler alone would run too late: a signal just before
        # select() is begun does not end it.
        self._signals, self.wake = os.pipe()
        os.set_blocking(self.wake, False)

    def take(self) -> None:
        """Sets it up. In the background the kernel stops this here until it is in front again."""
        # What ends a stopped command comes with a SIGCONT: that must not stop it here.
        if not self._ending:
            # Fails where the terminal is gone, or where a signal came that ends this.
            with contextlib.suppress(termios.error):
                tty.setcbreak(self._fd)
                self._taken = True
                self.write("\x1b[?1049h\x1b[?25l")

    def give_back(self) -> None:
        """As it was before; nothing where it was given back already."""
        # Once more would stop this instead of ending it, where another has the terminal by now.
        if self._taken:
            with contextlib.suppress(termios.error):
                self.write("\x1b[?25h\x1b[?1049l")
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._modes)
            self._taken = False

    def close(self) -> None:
        """Gives back all of it."""
        self.give_back()
        os.close(self._signals)
        os.close(self.wake)

    def write(self, text: str) -> None:
        """Past sys.stdout: it refuses a handler that writes while a draw is being written."""
        data = memoryview(text.encode(sys.stdout.encoding, "backslashreplace"))
        # EIO: the terminal is gone, which key() tells.
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(sys.stdout.fileno(), data) :]

    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        try:
            size = os.get_terminal_size(sys.stdout.fileno())
        except OSError:
            return 80, 24
        return size.columns or 80, size.lines or 24

    def key(self, timeout: float) -> str | None:
        """The key that is pressed within the time; None for none. The end of input is q."""
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
        """SIGINT, SIGTERM, SIGHUP: leaves by an exception, as Python does for the first."""
        if not self._ending:  # a second one must not disturb what the first has begun
            self._ending = True
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    def redraw(self, number: int, frame: FrameType | None) -> None:
        """SIGWINCH: what is drawn has not the terminal's size any more; key() tells."""

    def resume(self, number: int, frame: FrameType | None) -> None:
        """SIGCONT: the shell, and what ran meanwhile, had the terminal."""
        self.take()

    def stop(self, number: int, frame: FrameType | None) -> None:
        """SIGTSTP, of Ctrl-Z: stops as everything does, but leaves the terminal tidy."""
        self.give_back()
        handler = signal.signal(number, signal.SIG_DFL)
        # Comes back when this is continued; at once where no shell could continue it, and
        # then there is no SIGCONT.
        signal.raise_signal(number)
        signal.signal(number, handler)
        self.take()


@contextlib.contextmanager
def own_terminal() -> Iterator[Terminal]:
    """The one of standard input and output; as it was afterwards, also when a signal ends it."""
    terminal = Terminal()
    ends = dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), terminal.end)
    jobs = {
        signal.SIGTSTP: terminal.stop,
        signal.SIGCONT: terminal.resume,
        signal.SIGWINCH: terminal.redraw,
    }
    with (
        handled(ends, terminal.wake),
        contextlib.closing(terminal),
        # Innermost, so that nothing takes the terminal once more while it is given back.
        handled(jobs, terminal.wake),
    ):
        for number in (signal.SIGCONT, signal.SIGWINCH):
            # Where take() is stopped in the background, the kernel begins its call anew.
            signal.siginterrupt(number, False)
        terminal.take()
        yield terminal
