"""Spread work over threads that take items from one queue."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from threading import Lock
    from typing import Any, TypeVar

    T = TypeVar("T")


def spread(items: Iterable[T], workers: int, work: Callable[[Iterator[T]], None]) -> None:
    """Call `work` in `workers` threads, the caller's included; each takes items as it goes.

    When one fails, or a signal handler raises here, the others get no more items. Then the first
    failure is raised.
    """
    if workers == 1:
        work(iter(items))
        return
    import threading

    queue = _SharedIterator(items, threading.Lock())
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work(queue)
        except BaseException as error:
            failures.append(error)
            queue.stop()

    threads = [threading.Thread(target=guarded) for _ in range(workers - 1)]
    started = []
    try:
        for thread in threads:
            try:
                thread.start()
            except RuntimeError:
                break  # RLIMIT_NPROC, or no memory for its stack: the running threads do all of it
            started.append(thread)
        guarded()
    finally:
        # Also if a signal handler raised: no thread may outlive this call.
        queue.stop()
        for thread in started:
            thread.join()
    if failures:
        raise failures[0]


def counted(items: Sequence[T], progress: Callable[[int, int], object] | None) -> Iterable[T]:
    """Return the items; calls progress(done, all) as each is taken."""
    return items if progress is None else _counted(items, progress)


def _counted(items: Sequence[T], progress: Callable[[int, int], object]) -> Iterator[T]:
    for done, item in enumerate(items):
        progress(done, len(items))
        yield item
    progress(len(items), len(items))


class _SharedIterator:
    """An iterator that several threads may use."""

    def __init__(self, items: Iterable[Any], lock: Lock) -> None:
        self._items: Iterator[Any] = iter(items)
        self._lock = lock

    def stop(self) -> None:
        with self._lock:
            self._items = iter(())

    def __iter__(self) -> _SharedIterator:
        return self

    def __next__(self) -> Any:  # noqa: ANN401 - the type of the items
        with self._lock:
            return next(self._items)
