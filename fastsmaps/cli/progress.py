"""A sign of life on standard error while something takes long."""

from __future__ import annotations

import contextlib
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rich.progress import Progress

# What takes less needs no sign, and does not pay for importing rich.
_DELAY = 0.7


@contextlib.contextmanager
def working(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """Shows a bar that moves, and the time so far; only on a terminal, and where rich is.

    Gives what is to be told how far it is; None where nobody would see it.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    import threading

    lock = threading.Lock()
    over = False
    shown: list[Progress] = []
    far: tuple[int, int] | None = None

    def told(done: int, total: int) -> None:
        # Looked at ten times a second: whoever works waits neither for rich nor for the terminal.
        nonlocal far
        far = done, total

    def begin() -> None:
        try:
            from rich.console import Console, RenderableType
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
        except ImportError:
            return

        class Bar(Progress):
            def get_renderables(self) -> Iterable[RenderableType]:
                if far is not None:
                    done, total = far
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
            shown.append(bar)

    timer = threading.Timer(_DELAY, begin)
    timer.daemon = True
    timer.start()
    try:
        yield told
    finally:
        timer.cancel()
        with lock:
            over = True
            for bar in shown:
                bar.stop()
