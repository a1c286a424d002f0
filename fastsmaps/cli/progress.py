"""A progress bar on standard error for long operations."""

from __future__ import annotations

import sys

from fastsmaps.cli.output import color_system
from fastsmaps.cli.signals import termination

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from threading import Timer

    from rich.progress import Progress

# Shorter operations need no bar, and do not pay for importing rich.
_DELAY = 0.7


class progress_bar:  # noqa: N801 - called like a function
    """Show a progress bar with the elapsed time, if stderr is a terminal and rich is installed.

    In a with statement its value is the function to report progress to; None if stderr is not a
    terminal.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._progress: tuple[int, int] | None = None
        self._bar: Progress | None = None
        self._timer: Timer | None = None

    def __enter__(self) -> Callable[[int, int], None] | None:
        if sys.stderr is None or not sys.stderr.isatty():
            return None
        import threading

        # rich hides the cursor: a signal must not end the command before it is shown again.
        termination.install()
        self._over = False
        self._lock = threading.Lock()
        self._timer = threading.Timer(_DELAY, self._begin)
        self._timer.daemon = True
        self._timer.start()
        return self._report

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
            with self._lock:
                self._over = True
                if self._bar is not None:
                    self._bar.stop()

    def _report(self, done: int, total: int) -> None:
        # rich reads it ten times a second: the caller never waits for rich or the terminal.
        self._progress = done, total

    def _begin(self) -> None:
        try:
            from rich.console import Console, RenderableType
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
        except ImportError:
            return

        this = self

        class Bar(Progress):
            def get_renderables(self) -> Iterable[RenderableType]:
                if this._progress is not None:
                    done, total = this._progress
                    text = f"{this._what} {done}/{total}"
                    for task in self.task_ids:
                        self.update(task, completed=done, total=total, description=text)
                return super().get_renderables()

        with self._lock:
            if self._over:
                return
            bar = Bar(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TimeElapsedColumn(),
                console=Console(stderr=True, color_system=color_system(sys.stderr)),
                transient=True,
            )
            bar.add_task(self._what, total=None)
            bar.start()
            self._bar = bar
