"""The app: it shows the sweeps on the list of processes, and ends by keys and signals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import sys
import termios
from typing import ClassVar, cast

from textual.app import App
from textual.binding import Binding, BindingType
from textual.drivers.linux_driver import LinuxDriver

import fastsmaps
from fastsmaps.cli.screen.list_screen import ListScreen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import TextIOWrapper
    from typing import IO

    from fastsmaps._model.processes import Scan
    from fastsmaps.cli.screen.processes import Choices
    from fastsmaps.cli.screen.sweeps import Sweeps

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_HANDLED = (
    *_ENDING, signal.SIGTSTP, signal.SIGCONT, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH,
)  # fmt: skip


@contextlib.contextmanager
def kept_terminal() -> Iterator[None]:
    """Restore signal handlers and the terminal's modes, as Textual alone does not.

    After SIGSTOP and SIGCONT it takes the modes of its own screen for the terminal's. A size in the
    environment, which some programs export, is removed: it would hold after a resize.
    """
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)
    handlers = {number: signal.getsignal(number) for number in _HANDLED}
    fd = sys.stdin.fileno()
    modes = termios.tcgetattr(fd)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(fd, termios.TCSADRAIN, modes)
        for number, handler in handlers.items():
            signal.signal(number, handler)


class _Output:
    """The terminal's file, which may be closed.

    Otherwise an error ends the thread that writes to it, and the app waits until the thread's
    queue has room, for ever.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self.fileno = file.fileno

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._file.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._file.flush()


class _Driver(LinuxDriver):
    """Textual's driver, which ends when its terminal is closed."""

    def start_application_mode(self) -> None:
        """Take the terminal."""
        self._file = cast("TextIOWrapper", _Output(sys.__stderr__ or sys.stderr))
        super().start_application_mode()  # type: ignore[no-untyped-call]  # Textual's has no types


class TopApp(App[int]):
    """The live screen; run() returns the exit status."""

    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", show=False, priority=True),
        Binding("ctrl+c", "interrupt", show=False, priority=True),
        Binding("ctrl+z", "suspend_process", show=False, priority=True),
    ]

    def __init__(self, sweeps: Sweeps, choices: Choices) -> None:
        # The terminal's own colours: they suit it, light or dark. With NO_COLOR and without this
        # Textual writes black on black.
        super().__init__(_Driver, ansi_color=True)
        self.theme = "ansi-dark"
        self.sweeps = sweeps
        #: The error that ended the sweeps.
        self.failure: fastsmaps.Error | None = None
        self.list = ListScreen(sweeps, choices)
        self._hangup = select.poll()
        # Of Textual's driver, for SIGTSTP and SIGCONT.
        self._handlers: list[object] = []
        self._is_suspended = False
        self._ignores_stop = signal.getsignal(signal.SIGTSTP) == signal.SIG_IGN

    def get_default_screen(self) -> ListScreen:
        """Begin with the list of processes."""
        return self.list

    def on_mount(self) -> None:
        """Begin to sweep; signals end the app, which restores the terminal."""
        if not self.is_headless:
            loop = asyncio.get_running_loop()
            for number in _ENDING:
                if signal.getsignal(number) != signal.SIG_IGN:
                    loop.add_signal_handler(number, self._end, number)
            self._handlers = [signal.getsignal(n) for n in (signal.SIGTSTP, signal.SIGCONT)]
            loop.add_signal_handler(signal.SIGCONT, self._continue)
            if self._ignores_stop:
                # The driver handles it, whatever it was.
                signal.signal(signal.SIGTSTP, signal.SIG_IGN)
            else:
                loop.add_signal_handler(signal.SIGTSTP, self._stop)
            # Textual stops reading keys from a closed terminal, and goes on.
            self._hangup.register(sys.stdin, 0)
            self.set_interval(1, self._check_terminal)

    def on_ready(self) -> None:
        """Begin to show sweeps: the first may be over before the list is there."""
        self.run_worker(self._run())

    async def _run(self) -> None:
        try:
            async for scan in self.sweeps.scans():
                self.list.show_scan(scan)
        except fastsmaps.Error as error:
            self.failure = error
        self.exit(0)

    def _end(self, number: int) -> None:
        """Handle a signal that ends the app; the first one gives the status."""
        if self.return_value is None:
            self.exit(128 + number)

    def _stop(self) -> None:
        """Handle SIGTSTP as Textual's driver does."""
        self._is_suspended = True
        self._handle(0)

    def _continue(self) -> None:
        """Handle SIGCONT: take the terminal and draw all.

        The driver would take the terminal a second time after SIGSTOP, with another thread for its
        keys, and the command would not end.
        """
        if self._is_suspended:
            self._handle(1)
            self._is_suspended = False
        else:
            with self.suspend():
                pass
        self.call_later(self._redraw)

    def _handle(self, place: int) -> None:
        handler = self._handlers[place]
        if callable(handler):
            handler()

    def _redraw(self) -> None:
        self.screen.query("*").refresh()

    def _check_terminal(self) -> None:
        if self._hangup.poll(0):
            self.exit(0)

    @property
    def last_scan(self) -> Scan | None:
        """The last scan that was shown."""
        return self.list.scan

    def action_suspend_process(self) -> None:
        """Stop as by Ctrl-Z, unless SIGTSTP was ignored at the start."""
        if not self._ignores_stop:
            super().action_suspend_process()

    async def action_quit(self) -> None:
        """End with status 0."""
        self.exit(0)

    def action_interrupt(self) -> None:
        """End as SIGINT would: the terminal sends only a key while the screen is shown."""
        self.exit(128 + signal.SIGINT)
