"""Work spread over threads that take from one supply."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from threading import Lock
    from typing import Any, TypeVar

    T = TypeVar("T")


def spread(items: Iterable[T], workers: int, work: Callable[[Iterator[T]], None]) -> None:
    """Calls `work` in so many threads, this one among them; each takes what it does next.

    When one fails, or a signal's handler raises here, the others get nothing more; then the
    first failure is raised.
    """
    if workers == 1:
        work(iter(items))
        return
    import threading

    supply = _Supply(items, threading.Lock())
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work(supply)
        except BaseException as error:
            failures.append(error)
            supply.stop()

    threads = [threading.Thread(target=guarded) for _ in range(workers - 1)]
    started = []
    try:
        for thread in threads:
            try:
                thread.start()
            except RuntimeError:
                break  # RLIMIT_NPROC, or no memory for its stack: those that run do all of it
            started.append(thread)
        guarded()
    finally:
        # Also where a signal's handler raises here: nobody works on after this has ended.
        supply.stop()
        for thread in started:
            thread.join()
    if failures:
        raise failures[0]


def counted(items: Sequence[T], progress: Callable[[int, int], object] | None) -> Iterable[T]:
    """The items; as each is taken, `progress` is told how many were before, and of how many."""
    return items if progress is None else _counted(items, progress)


def _counted(items: Sequence[T], progress: Callable[[int, int], object]) -> Iterator[T]:
    for done, item in enumerate(items):
        progress(done, len(items))
        yield item
    progress(len(items), len(items))


class _Supply:
    """An iterator that several threads take from."""

    def __init__(self, items: Iterable[Any], lock: Lock) -> None:
        self._items: Iterator[Any] = iter(items)
        self._lock = lock

    def stop(self) -> None:
        with self._lock:
            self._items = iter(())

    def __iter__(self) -> _Supply:
        return self

    def __next__(self) -> Any:  # noqa: ANN401 - whatever the items are
        with self._lock:
            return next(self._items)
