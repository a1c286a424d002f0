"""Threads that start at the same moment, for tests of shared state."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


def run_in_threads(*calls: Callable[[], object]) -> list[Any]:
    """Run the calls in parallel threads, return their results, raise the first error."""
    barrier = threading.Barrier(len(calls))
    results: dict[int, object] = {}
    errors: list[BaseException] = []

    def run(i: int) -> None:
        try:
            barrier.wait()
            results[i] = calls[i]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error
    return [results[i] for i in range(len(calls))]
