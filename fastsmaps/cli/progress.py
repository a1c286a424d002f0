"""A progress bar on standard error for long operations."""

from __future__ import annotations

import contextlib
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rich.progress import Progress

# Shorter operations need no bar, and do not pay for importing rich.
_DELAY = 0.7


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """Show a progress bar with the elapsed time, if stderr is a terminal and rich is installed.

    Yields the function to report progress to; None if stderr is not a terminal.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    import threading

    lock = threading.Lock()
    over = False
    bars: list[Progress] = []
    progress: tuple[int, int] | None = None

    def report(done: int, total: int) -> None:
        # rich reads it ten times a second: the caller never waits for rich or the terminal.
        nonlocal progress
        progress = done, total

    def begin() -> None:
        try:
            from rich.console import Console, RenderableType
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
        except ImportError:
            return

        class Bar(Progress):
            def get_renderables(self) -> Iterable[RenderableType]:
                if progress is not None:
                    done, total = progress
                    text = f"{what} {done}/{total}"
                    for task in self.task_ids:
                        self.update(task, completed=done, total=total, description=text)
                return super().get_renderables()

        with lock:
            if over:
                return
            bar = Bar(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            bar.add_task(what, total=None)
            bar.start()
            bars.append(bar)

    timer = threading.Timer(_DELAY, begin)
    timer.daemon = True
    timer.start()
    try:
        yield report
    finally:
        timer.cancel()
        with lock:
            over = True
            for bar in bars:
                bar.stop()
