"""Kept descriptors leave the program most of the free ones."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

import fastsmaps
from fastsmaps._backend import descriptors
from support import processes

pytestmark = [
    pytest.mark.usefixtures("no_leak"),
    pytest.mark.thread_unsafe(reason="forks, and limits descriptors there"),
]


def kept_of(pid: int) -> list[str]:
    """Return the files of a process that are open here."""
    start = f"/proc/{pid}/"
    return sorted(link[len(start) :] for link in processes.descriptors().values() if start in link)


def test_free_descriptors_counts_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def count() -> list[int | None]:
        limit = processes.next_descriptor() + 50
        processes.limit_descriptors(limit)
        before = len(os.listdir("/proc/self/fd")) - 1  # without the listing's own
        found = [descriptors.free_descriptors(), limit - before]
        held = os.open("/dev/null", os.O_RDONLY)
        found += [descriptors.free_descriptors(), limit - before - 1]
        os.close(held)
        stat = os.stat
        # Before Linux 6.2.
        monkeypatch.setattr(os, "stat", lambda path: stat("/dev/null"))
        older = descriptors.free_descriptors()
        assert older in (limit - before, limit - before - 1)  # the listing's own may be included
        processes.limit_descriptors(2)
        assert descriptors.free_descriptors() is None  # it cannot be listed
        monkeypatch.setattr(os, "stat", stat)
        if stat("/proc/thread-self/fd").st_size:
            assert (descriptors.free_descriptors() or 0) < 0
        monkeypatch.setattr(os, "stat", lambda path: stat("/nothing"))
        assert descriptors.free_descriptors() is None
        return found

    first, same, second, less = processes.run_in_child(count)
    assert (first, second) == (same, less)


def test_an_unlimited_number_is_never_low(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: -1)
    assert (descriptors.free_descriptors() or 0) > 1 << 29
    assert descriptors.is_low(1 << 20)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_exhaustion_is_found_in_causes_too(number: int) -> None:
    error = OSError(number, "no")
    assert descriptors.is_exhausted(error)
    assert descriptors.is_exhausted(fastsmaps.ReadError("no", errno=number))
    caused = fastsmaps.Error("no")
    assert not descriptors.is_exhausted(caused)
    caused.__cause__ = error
    assert descriptors.is_exhausted(caused)
    assert not descriptors.is_exhausted(fastsmaps.ReadError("no", errno=errno.EIO))
    assert not descriptors.is_exhausted(None)


def test_no_descriptor_is_kept_once_half_are_used(
    backend: ModuleType, idle: processes.Process
) -> None:
    def read() -> list[list[str]]:
        processes.limit_descriptors(4 * processes.next_descriptor())
        found = []
        with fastsmaps.Process(idle.pid) as process:
            process.totals(), process.mappings()
            found.append(kept_of(idle.pid))
        processes.fill_descriptors(20)
        with fastsmaps.Process(idle.pid) as process:
            process.totals(), process.mappings()
            found.append(kept_of(idle.pid))
        return found

    assert processes.run_in_child(read) == [["smaps", "smaps_rollup"], []]


def test_kept_descriptors_are_given_up_when_none_is_free(
    backend: ModuleType, idle: processes.Process
) -> None:
    def read() -> list[Any]:
        processes.limit_descriptors(4 * processes.next_descriptor())
        with fastsmaps.Process(idle.pid) as process:
            process.totals()
            held = processes.fill_descriptors()
            found: list[Any] = [process.totals().rss is not None, sorted(process.directory.kept)]
            found += [len(process.mappings()) > 1, sorted(process.directory.kept)]
            found += [process.info(heap=True).pid, process.totals().rss is not None]
            os.close(held.pop())
        return found

    assert processes.run_in_child(read) == [True, ["smaps_rollup"], True, [], idle.pid, True]


def test_kept_descriptors_above_the_limit_stay(
    backend: ModuleType, idle: processes.Process
) -> None:
    def read() -> bool:
        with fastsmaps.Process(idle.pid) as process:
            process.totals()
            processes.limit_descriptors(0)
            with pytest.raises(fastsmaps.ReadError):
                process.mappings()
            return process.totals().rss is not None

    assert processes.run_in_child(read)


def test_threads_without_descriptors_leave_the_rest_to_one(backend: ModuleType) -> None:
    """Each thread needs descriptors; processes that it could not read are read by one thread."""

    def read(free: int) -> set[str]:
        processes.limit_descriptors(processes.next_descriptor() + 30)
        processes.fill_descriptors(free)
        scan = fastsmaps.scan([child.pid for child in children], workers=4)
        return {row.outcome for row in scan}

    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(processes.workload("many", "2000")) for _ in range(8)]
        for free in (3, 4, 5, 6):
            assert processes.run_in_child(lambda free=free: read(free)) == {"read"}  # type: ignore[misc]


@pytest.mark.parametrize("tree", [False, True])
def test_watch_survives_descriptor_exhaustion(backend: ModuleType, tree: bool) -> None:
    """A sample for which there is no free descriptor is skipped; the next ones are taken."""

    def watch() -> tuple[str, int, int]:
        processes.limit_descriptors(4 * processes.next_descriptor())
        held = processes.fill_descriptors(24)  # so few that none is kept
        with fastsmaps.Watch(idle.pid, interval=0.01, budget=1, tree=tree) as watch:
            more: list[int] = []

            def fill() -> bool:
                # Again each time: a running sample closes its descriptors later.
                more.extend(processes.fill_descriptors())
                return watch.skipped > 3

            until(fill)
            count = watch.count
            for fd in more:
                os.close(fd)
            until(lambda: watch.count > count + 3)
        assert held
        return watch.outcome, watch.count, watch.skipped

    with processes.workload("idle") as idle:
        outcome, count, skipped = processes.run_in_child(watch)
    assert outcome == "read"
    assert count > 4
    assert skipped > 3


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + processes.TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
