"""The backends' statms and pids_between: both backends must give the same."""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastsmaps import _backend
from support import linux, processes

pytestmark = [pytest.mark.usefixtures("no_leak"), pytest.mark.core]

MOVED, OTHER_INODE = 1, 2
NEW = (-1, 0, -1, -1, -1)


@pytest.fixture
def twins(pytestconfig: pytest.Config) -> list[dict[str, Any]]:
    names = ["python"] if pytestconfig.getoption("--no-extension") else ["c", "python"]
    return [_backend.exports(name) for name in names]


@pytest.fixture
def root() -> Iterator[int]:
    fd = os.open("/proc", os.O_RDONLY)
    yield fd
    os.close(fd)


def table_of(*pids: int) -> array[int]:
    return array("q", [value for pid in pids for value in (pid, *NEW)])


def sample(
    twin: dict[str, Any],
    root: int,
    table: array[int],
    slots: Any = None,
    max_kept: int = 0,
    seconds: float = 60.0,
) -> tuple[int, int, list[tuple[int, int]]]:
    slots = range(len(table) // 6) if slots is None else slots
    numbers = memoryview(array("I", slots))
    result: tuple[int, int, list[tuple[int, int]]]
    result = twin["statms"](root, memoryview(table), numbers, max_kept, seconds)
    return result


def close_kept(table: array[int]) -> None:
    for slot in range(len(table) // 6):
        if table[6 * slot + 1] >= 0:
            os.close(table[6 * slot + 1])


def statm(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/statm").read_bytes().split()[1:4]))


def test_values_equal_the_files(twins: list[dict[str, Any]], root: int) -> None:
    """By path and by a kept descriptor; a second read without a change is no event."""
    with processes.workload("idle") as child:
        for twin in twins:
            table = table_of(child.pid, 0, child.pid)
            assert sample(twin, root, table, max_kept=1) == (3, 1, [(0, MOVED), (2, MOVED)])
            inode = os.stat(f"/proc/{child.pid}/statm").st_ino
            fd = table[1]
            assert fd >= 0
            assert list(table[:6]) == [child.pid, fd, inode, *statm(child.pid)]
            assert list(table[6:12]) == [0, *NEW]
            assert list(table[12:]) == [child.pid, -1, inode, *statm(child.pid)]
            assert sample(twin, root, table, max_kept=0) == (3, 0, [])
            table[3] = table[15] = 1  # as if both had changed since
            assert sample(twin, root, table) == (3, 0, [(0, MOVED), (2, MOVED)])
            assert table[3:6].tolist() == table[15:].tolist() == statm(child.pid)
            close_kept(table)


def test_ended_process_is_an_event(twins: list[dict[str, Any]], root: int) -> None:
    tables = []
    with processes.workload("idle") as child:
        for twin in twins:
            table = table_of(child.pid, child.pid)
            sample(twin, root, table, slots=[0], max_kept=1)
            tables.append(table)
    for twin, table in zip(twins, tables, strict=True):
        before = list(table)
        found = sample(twin, root, table)
        assert found == (2, 0, [(0, -errno.ESRCH), (1, -errno.ENOENT)])
        assert list(table) == before  # failures change nothing
        close_kept(table)


def test_another_inode_is_an_event(twins: list[dict[str, Any]], root: int) -> None:
    """Another process may have the number: its values must not be stored."""
    for twin in twins:
        table = table_of(os.getpid())
        table[2] = 1
        assert sample(twin, root, table, max_kept=1) == (1, 0, [(0, OTHER_INODE)])
        assert list(table) == [os.getpid(), -1, 1, -1, -1, -1]


def test_no_descriptor_left_is_an_event(twins: list[dict[str, Any]], root: int) -> None:
    def events() -> list[Any]:
        processes.limit_descriptors(processes.next_descriptor())
        processes.fill_descriptors()
        return [sample(twin, root, table_of(1)) for twin in twins]

    assert processes.run_in_child(events) == [(1, 0, [(0, -errno.EMFILE)])] * 2


def test_time_limit_ends_a_batch(twins: list[dict[str, Any]], root: int) -> None:
    """A call makes some progress whatever the limit, so that the caller's loop ends."""
    for twin in twins:
        table = table_of(*[os.getpid()] * 40)
        done, _, events = sample(twin, root, table, seconds=-1.0)
        assert 0 < done < 40
        assert [slot for slot, _ in events] == list(range(done))


def test_damaged_values_are_events(twins: list[dict[str, Any]], root: int) -> None:
    texts: dict[bytes, list[int] | None] = {
        b"9 8 7 6\n": [8, 7, 6],
        b"9 8 7 6": [8, 7, 6],
        b"9 %d 0 00 x" % 10**17: [10**17, 0, 0],
    }
    for wrong in (
        b"9\n",
        b"9 8 7",
        b"",
        b"9 8 -7 6",
        b"9 8 7 6x",
        b"9 8 7 1e5",
        b"9 %d 1 1" % 10**18,
    ):
        texts[wrong] = None
    for text, expected in texts.items():
        fd = os.memfd_create("statm")
        os.write(fd, text)
        for twin in twins:
            table = array("q", (1, fd, 0, -1, -1, -1))
            what = -errno.EINVAL if expected is None else MOVED
            assert sample(twin, root, table) == (1, 0, [(0, what)])
            assert table[3:].tolist() == (expected or [-1, -1, -1])
        os.close(fd)


def test_wrong_slots_are_refused(twins: list[dict[str, Any]], root: int) -> None:
    for twin in twins:
        for slots in ([1], [0, 2**32 - 1]):
            with pytest.raises(IndexError):
                sample(twin, root, table_of(1), slots)


def test_pids_between_lists_a_part(twins: list[dict[str, Any]], root: int) -> None:
    with processes.workload("idle") as first, processes.workload("idle") as second:
        listed = sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())
        low, high = sorted((first.pid, second.pid))
        for twin in twins:
            found = twin["pids_between"](root, low, high)
            assert found[-1] == high
            assert low not in found
            assert set(found) <= set(range(low + 1, high + 1))
            assert twin["pids_between"](root, low - 1, low) == [low]
            assert twin["pids_between"](root, high, high) == []
            everything = twin["pids_between"](root, 0, 2**31 - 1)
            assert {1, low, high, os.getpid()} <= set(everything)
            assert everything == sorted(everything)
            # Other processes begin and end meanwhile.
            assert len(set(everything) ^ set(listed)) < len(listed)


def test_pids_between_fails_like_a_listing(twins: list[dict[str, Any]]) -> None:
    fd = os.open("/proc/self/stat", os.O_RDONLY)
    for twin in twins:
        with pytest.raises(OSError, match="Not a directory") as failure:
            twin["pids_between"](fd, 0, 10)
        assert failure.value.errno == errno.ENOTDIR
    os.close(fd)


def test_threads_are_not_listed(twins: list[dict[str, Any]], root: int) -> None:
    with processes.workload("idle") as child:
        tids = {child.pid, *child.request("threads", 3)}
        assert len(tids) == 4
        for twin in twins:
            assert tids & set(twin["pids_between"](root, 0, 2**31 - 1)) == {child.pid}


def test_hidden_process_is_not_found(twins: list[dict[str, Any]]) -> None:
    """hidepid=invisible: the number is neither listed nor opened."""

    def events() -> list[Any]:
        own = os.getpid()

        def as_nobody() -> list[Any]:
            linux.become(linux.NOBODY)
            root = os.open("/proc", os.O_RDONLY)
            return [
                (sample(twin, root, table_of(own))[2], own in twin["pids_between"](root, 0, 10))
                for twin in twins
            ]

        return processes.run_in_child(as_nobody)

    try:
        found = processes.run_in_namespaces(events, "hidepid=invisible")
    except linux.Unavailable as error:
        pytest.skip(str(error))
    assert found == [([(0, -errno.ENOENT)], False)] * 2
