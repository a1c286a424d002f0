"""RollupQueue and Families: whose rollup a Sampler reads next."""

from __future__ import annotations

import itertools

from fastsmaps._host.families import Families
from fastsmaps._host.rollup_queue import RollupQueue
from fastsmaps._model.sharing import Member


def queue_of(new: int, changed: int, old: int) -> RollupQueue:
    """Make a queue with pids from 100 (new), 200 (changed) and 300 (the rest)."""
    queue = RollupQueue()
    for pid in range(300, 300 + old):
        queue.put_back(pid, changed=False)
    for pid in range(200, 200 + changed):
        queue.put_back(pid, changed=True)
    for pid in range(100, 100 + new):
        queue.add_new(pid)
    return queue


def read(queue: RollupQueue, count: int, largest: list[int] | None = None) -> list[int]:
    """Take pids as a Sampler does, whose values then no longer change."""
    pids = []
    for pid in itertools.islice(queue.pids(largest or [], lambda _: True), count):
        pids.append(pid)
        queue.put_back(pid, changed=False)
    return pids


def test_every_kind_gets_its_turn() -> None:
    pids = read(queue_of(100, 100, 100), 50, [250, 240])
    kinds = [pid // 100 for pid in pids]
    assert (kinds.count(1), kinds.count(2), kinds.count(3)) == (20, 20, 10)
    assert pids[0] == 240  # the largest change
    assert pids[5] == 250


def test_each_is_read_once_a_sweep() -> None:
    pids = read(queue_of(3, 4, 5), 100)
    assert sorted(pids) == [*range(100, 103), *range(200, 204), *range(300, 305)]


def test_longest_waiting_comes_first() -> None:
    queue = queue_of(0, 0, 10)
    assert read(queue, 4) == [300, 301, 302, 303]
    assert read(queue, 4) == [304, 305, 306, 307]
    assert read(queue, 4) == [308, 309, 300, 301]


def test_changed_processes_do_not_starve_small_changes() -> None:
    """All changed ones get a turn, although the same two always change most."""
    queue = queue_of(0, 40, 0)
    seen = set()
    for _ in range(40):
        for pid in itertools.islice(queue.pids([200, 201], lambda _: True), 4):
            seen.add(pid)
            queue.put_back(pid, changed=True)
    assert seen == set(range(200, 240))


def test_refused_process_waits() -> None:
    queue = queue_of(0, 3, 3)
    pids = []
    for pid in queue.pids([201], lambda pid: pid != 201):
        pids.append(pid)
        queue.put_back(pid, changed=False)
    assert sorted(pids) == [200, 202, 300, 301, 302]
    assert 201 in queue.changed  # it is still due


def test_removed_process_is_not_read() -> None:
    queue = queue_of(2, 2, 2)
    for pid in (100, 200, 300):
        queue.discard(pid)
    assert sorted(read(queue, 10)) == [101, 201, 301]


# ---- families


def member(pid: int, ppid: int, *, forked: bool, stack: int = 0) -> Member:
    return Member(pid, ppid, 1.0, forked, stack or 1000 * pid, True, False)


def test_relatives_share_pages_since_a_fork() -> None:
    families = Families()
    for pid, ppid, forked in (
        (10, 1, False),
        (11, 10, True),
        (12, 10, True),
        (13, 12, True),
        (14, 10, False),  # it has called exec
    ):
        families.put(pid, member(pid, ppid, forked=forked))
    assert families.relatives(11) == {10, 12}
    assert families.relatives(10) == {11, 12}
    assert families.relatives(13) == {12, 10, 11}
    assert families.relatives(14) == set()
    assert [families.has(pid) for pid in (10, 13, 14, 99)] == [True, True, False, False]
    families.put(12, member(12, 10, forked=False))  # exec
    assert families.relatives(10) == {11}
    families.remove(10)
    assert families.relatives(11) == {10}  # the caller looks up who has that number now


def test_large_families_are_left_alone() -> None:
    """One of 1,000 workers changes the Pss of the others by a thousandth."""
    families = Families()
    families.put(10, member(10, 1, forked=False))
    for pid in range(100, 1100):
        families.put(pid, member(pid, 10, forked=True))
    assert families.relatives(500) == {10}
    assert families.relatives(10) == set()


def test_candidates_for_shared_memory() -> None:
    """Those with the same stack, and the parent of a forked process."""
    families = Families()
    families.put(10, member(10, 1, forked=False, stack=5000))
    families.put(11, member(11, 10, forked=True, stack=7000))
    families.put(12, member(12, 1, forked=False, stack=7000))
    families.put(13, member(13, 1, forked=False, stack=1))  # hidden
    families.put(14, member(14, 1, forked=False, stack=1))
    assert sorted(families.may_share([11])) == [10, 11, 12]
    assert families.may_share([13]) == [13]
    families.put(11, None)
    assert families.may_share([11]) == []
    assert families.may_share([12]) == [12]
