"""A sign of life on standard error while something takes long."""

from __future__ import annotations

import contextlib
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress

# What takes less needs no sign, and does not pay for importing rich.
_PATIENCE = 0.7


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Shows a bar that moves, and the time so far; only on a terminal, and where rich is.

    How far a scan is nobody can say: one process may take as long as a thousand others.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    import threading

    lock = threading.Lock()
    over = False
    shown: list[Progress] = []

    def begin() -> None:
        try:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
        except ImportError:
            return
        with lock:
            if over:
                return
            bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            bar.add_task(what, total=None)
            bar.start()
            shown.append(bar)

    timer = threading.Timer(_PATIENCE, begin)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with lock:
            over = True
            for bar in shown:
                bar.stop()
