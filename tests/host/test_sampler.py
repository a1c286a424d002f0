"""Sampler: sweeps within a budget, with the age of every figure."""

from __future__ import annotations

import contextlib
import copy
import errno
import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fastsmaps
from fastsmaps._host import sampler, sweeper
from fastsmaps._host.estimate import estimate
from support import linux, processes
from support.captures import SMAPS, STAT

pytestmark = [pytest.mark.usefixtures("no_leak"), pytest.mark.core]

MIB = 1 << 20


@contextlib.contextmanager
def idle() -> Iterator[processes.Process]:
    with processes.workload("idle") as child:
        yield child


def sweep_until_read(sampler: fastsmaps.Sampler, pid: int) -> fastsmaps.ProcessTotals:
    """Sweeps until the process has figures; with a budget of a whole core that is soon."""
    deadline = time.monotonic() + processes.TIMEOUT
    while time.monotonic() < deadline:
        row = sampler.sweep().by_pid.get(pid)
        if row is not None and row.totals is not None:
            return row
    raise AssertionError(f"{pid} was never read")


def test_the_first_sweep_reads_all(backend: ModuleType) -> None:
    with idle() as child, fastsmaps.Sampler(budget=0.0001) as sampler:
        scan = sampler.sweep()
        row = scan.by_pid[child.pid]
        assert (row.outcome, row.estimated) == ("read", False)
        assert row.age is not None
        assert 0 <= row.age < 600
        assert row.totals is not None
        assert row.totals.rss == fastsmaps.totals(child.pid).rss
        assert sum(scan.coverage.values()) == len(scan)
        later = sampler.sweep().by_pid[child.pid]
        assert later.age is not None
        assert later.age >= row.age
        assert scan.by_pid[child.pid] is row  # a scan stays as it was


@pytest.mark.thread_unsafe(reason="counts descriptors")
def test_who_comes_and_goes(backend: ModuleType) -> None:
    with fastsmaps.Sampler(budget=1) as sampler:
        sampler.sweep()
        with idle() as child:
            assert sweep_until_read(sampler, child.pid).ppid == os.getpid()
            statm = f"/proc/{child.pid}/statm"
            assert statm in processes.descriptors().values()
        assert child.pid not in sampler.sweep().by_pid
        assert not any(link.startswith(statm) for link in processes.descriptors().values())


def test_an_exec_starts_anew(backend: ModuleType) -> None:
    with idle() as child, fastsmaps.Sampler(budget=1) as sampler:
        before = sweep_until_read(sampler, child.pid)
        child.request("exec", "many", "1000")
        deadline = time.monotonic() + processes.TIMEOUT
        rss = fastsmaps.totals(child.pid).rss
        while time.monotonic() < deadline:
            row = sweep_until_read(sampler, child.pid)
            if not row.estimated and row.totals is not None and row.totals.rss == rss:
                break
        else:
            raise AssertionError("the new program was never read")
        assert before.pid == row.pid


def test_growth_is_seen_at_once(backend: ModuleType) -> None:
    """Also where the budget allows no rollup: the estimate has it."""
    with fastsmaps.Sampler(budget=0.9) as sampler:
        before = sampler.sweep().by_pid[os.getpid()].totals
        assert before is not None
        # Not from malloc(), which may hand out pages that were freed and are still resident.
        block = mmap.mmap(-1, 64 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        block.write(bytes(64 * MIB))
        row = sampler.sweep().by_pid[os.getpid()]
        deadline = time.monotonic() + processes.TIMEOUT
        while time.monotonic() < deadline:
            assert row.totals is not None
            if (row.totals.pss or 0) - (before.pss or 0) > 60 * MIB:
                break
            row = sampler.sweep().by_pid[os.getpid()]
        else:
            raise AssertionError("growth was never seen")
        assert len(block) == 64 * MIB


def test_estimates() -> None:
    totals = fastsmaps.Totals(
        {
            "Rss": 30 * MIB,
            "Pss": 15 * MIB,
            "Pss_Anon": 10 * MIB,
            "Pss_File": 4 * MIB,
            "Pss_Shmem": 1 * MIB,
            "Private_Dirty": 10 * MIB,
            "Swap": 3 * MIB,
        },
        None,
        "smaps_rollup",
    )
    then = (30 * MIB, 20 * MIB)
    grown = estimate(totals, then, (40 * MIB, 20 * MIB))
    assert (grown.rss, grown.pss, grown.pss_anon) == (40 * MIB, 25 * MIB, 20 * MIB)
    assert (grown.private_dirty, grown.swap) == (20 * MIB, 3 * MIB)
    assert (grown.pss_file, grown.locked) == (4 * MIB, None)
    shared = estimate(totals, then, (40 * MIB, 30 * MIB))
    assert (shared.pss_file, shared.pss_shmem, shared.pss) == (6 * MIB, 1.5 * MIB, 17.5 * MIB)
    less = estimate(totals, then, (25 * MIB, 20 * MIB))
    assert (less.rss, less.pss_anon, less.pss) == (25 * MIB, 5 * MIB, 10 * MIB)
    assert estimate(totals, then, then) == totals
    assert estimate(totals, then, (0, 0)).pss == 0
    old = fastsmaps.Totals({"Rss": 30 * MIB, "Pss": 15 * MIB}, None, "smaps")
    assert estimate(old, then, (40 * MIB, 20 * MIB)).pss == 25 * MIB
    assert estimate(old, (0, 0), (4096, 0)).pss == 15 * MIB + 4096


def test_what_is_skipped(backend: ModuleType) -> None:
    with idle() as child:
        with fastsmaps.Sampler(max_rss=1, exclude={os.getpid()}) as sampler:
            scan = sampler.sweep()
        assert scan.by_pid[child.pid].outcome == "skipped"
        assert "max_rss=1" in (scan.by_pid[child.pid].error or "")
        assert scan.by_pid[os.getpid()].error == "excluded"
        assert scan.coverage["read"] == 0


@contextlib.contextmanager
def idles(count: int) -> Iterator[set[int]]:
    with contextlib.ExitStack() as stack:
        yield {stack.enter_context(idle()).pid for _ in range(count)}


def outcomes(scan: fastsmaps.Scan, pids: set[int]) -> set[str]:
    return {scan.by_pid[pid].outcome for pid in pids}


@pytest.mark.host
@pytest.mark.thread_unsafe(reason="forks")
@pytest.mark.parametrize("free", [6, 10, 20, 40])
def test_a_quarter_of_what_is_free(backend: ModuleType, free: int) -> None:
    """The rest is for the program, however much of it that has open already."""

    def sweep() -> list[tuple[set[str], int]]:
        processes.limit_descriptors(4 * processes.next_descriptor())
        held = processes.fill_descriptors()
        for fd in held[:free]:
            os.close(fd)
        before = len(processes.descriptors())
        found = []
        with fastsmaps.Sampler(budget=1) as sampler:
            for _ in range(3):
                scan = sampler.sweep()
                found.append((outcomes(scan, pids), len(processes.descriptors()) - before))
            more = processes.fill_descriptors()
        found.append((set(), free - len(more)))
        return found

    with idles(6) as pids:
        found = processes.run_in_child(sweep)
    for read, _ in found[:3]:
        assert read == {"read"}
    kept = {kept for _, kept in found}
    assert kept == {free // 4}  # there are more processes than that


@pytest.mark.host
@pytest.mark.thread_unsafe(reason="forks")
def test_a_limit_that_changes(backend: ModuleType) -> None:
    def sweep() -> list[tuple[set[str], int]]:
        found = []
        above = processes.next_descriptor()
        processes.limit_descriptors(above)
        processes.fill_descriptors()
        processes.limit_descriptors(above + 8)
        before = len(processes.descriptors())
        with fastsmaps.Sampler(budget=1) as sampler:
            for limit in (above + 8, 4 * above + 60, above + 12, above + 8, 4 * above + 60):
                processes.limit_descriptors(limit)
                scan = sampler.sweep()
                found.append((outcomes(scan, pids), len(processes.descriptors()) - before))
        found.append((set(), len(processes.descriptors()) - before))
        return found

    with idles(6) as pids:
        found = processes.run_in_child(sweep)
    assert [read for read, _ in found[:5]] == [{"read"}] * 5
    kept = [kept for _, kept in found]
    assert [kept[0], kept[2], kept[3], kept[5]] == [2, 3, 2, 0]
    assert min(kept[1], kept[4]) >= 6


@pytest.mark.parametrize("left", [0, 1, 2])
def test_descriptors_are_given_up(
    backend: ModuleType, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    """Where the count said something else: other threads open files, and others fill the system."""

    def sweep() -> list[tuple[set[str], int]]:
        # Other processes that end free a descriptor each, and none is missing then.
        monkeypatch.setattr("fastsmaps._source.source.Source.pids", lambda _: sorted(pids))
        processes.limit_descriptors(4 * processes.next_descriptor())
        found = []
        before = len(processes.descriptors())
        with fastsmaps.Sampler(budget=1) as sampler:
            sampler.sweep()
            assert len(processes.descriptors()) - before >= 6
            held = processes.fill_descriptors()
            for fd in held[:left]:
                os.close(fd)
            monkeypatch.setattr("fastsmaps._host.sampler.free_descriptors", lambda: 1000)
            monkeypatch.setattr(sampler, "_rollup", 0.0)
            for _ in range(2):
                monkeypatch.setattr(sampler, "_credit", 60.0)
                scan = sampler.sweep()
                kept = len(processes.descriptors()) - before - len(held) + left
                found.append((outcomes(scan, pids), kept))
        return found

    with idles(6) as pids:
        found = processes.run_in_child(sweep)
    assert found == [({"read"}, 0)] * 2


def test_a_first_sweep_that_failed_is_made_again(backend: ModuleType) -> None:
    """It reads all, whatever it takes: what came to nothing was not the first one."""

    def sweep() -> set[str]:
        processes.limit_descriptors(processes.next_descriptor())
        with fastsmaps.Sampler(budget=0.001) as sampler:
            held = processes.fill_descriptors()
            with pytest.raises(fastsmaps.Error, match="Too many open files"):
                sampler.sweep()
            for fd in held:
                os.close(fd)
            processes.limit_descriptors(processes.next_descriptor() + 50)
            return outcomes(sampler.sweep(), pids)

    with idles(6) as pids:
        assert processes.run_in_child(sweep) == {"read"}


@pytest.mark.host
def test_the_whole_system_has_none_left(
    backend: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENFILE at the listing of /proc, as long as it keeps some."""
    with idle() as child, fastsmaps.Sampler(budget=1) as sampler:
        before = sampler.sweep().by_pid[child.pid]
        kept = len(processes.descriptors())
        listdir = os.listdir

        def listed(path: Any) -> list[str]:
            if path == "/proc" and sampler._kept:
                raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))
            return listdir(path)

        monkeypatch.setattr(os, "listdir", listed)
        monkeypatch.setattr(sampler, "_credit", 60.0)
        assert sampler.sweep().by_pid[child.pid].start_time == before.start_time
        assert len(processes.descriptors()) < kept
        monkeypatch.setattr(sampler, "_credit", 60.0)
        sampler.sweep()
        assert sampler._kept == 0  # not yet again


def test_figures_stay_where_none_can_be_read(
    backend: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is kept that could be given up: what was read before is still what is known."""

    def sweep() -> list[tuple[str, bool]]:
        processes.limit_descriptors(4 * processes.next_descriptor())
        with fastsmaps.Sampler(budget=1) as sampler:
            monkeypatch.setattr("fastsmaps._host.sampler.free_descriptors", lambda: None)
            before = sampler.sweep().by_pid[child.pid]
            held = processes.fill_descriptors()
            os.close(held[0])  # for /proc alone
            monkeypatch.setattr(sampler, "_credit", 60.0)
            after = sampler.sweep().by_pid[child.pid]
            same = before.totals is not None and after.totals == before.totals
            os.close(held[1])
            os.close(held[2])
            return [(after.outcome, same), (sweep_until_read(sampler, child.pid).outcome, True)]

    with idle() as child:
        assert processes.run_in_child(sweep) == [("read", True)] * 2


def test_a_number_used_again_starts_anew(
    backend: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a kept descriptor, too: another process of the same program."""

    def use_again() -> list[str]:
        with fastsmaps.Sampler(budget=1) as sampler:
            monkeypatch.setattr("fastsmaps._host.sampler.free_descriptors", lambda: 0)
            with idle() as first:
                sampler.sweep()
                before = sampler.sweep().by_pid[first.pid]
                assert before.totals is not None
            linux.set_next_pid(first.pid)
            with idle() as second:
                if second.pid != first.pid:
                    raise linux.Unavailable("the kernel gave another number")
                # No rollup is affordable: what is told is what looks found.
                monkeypatch.setattr(sampler, "_rollup", 3600.0)
                looked = sampler.sweep().by_pid[second.pid]
                monkeypatch.setattr(sampler, "_rollup", 0.0)
                read = sweep_until_read(sampler, second.pid)
            mixed = [row for row in (looked, read) if row.start_time == before.start_time]
            return [repr(row) for row in mixed]

    try:
        assert processes.run_in_namespaces(use_again) == []
    except linux.Unavailable as error:
        pytest.skip(f"no pid namespace in which numbers can be chosen: {error}")


@pytest.mark.parametrize("statm", [None, b"", b"nonsense\n"])
def test_a_capture_without_statm(
    backend: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statm: bytes | None
) -> None:
    """As smem's are: its figures stay, whatever the budget allows."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_bytes(STAT % 7)
    (tmp_path / "7" / "smaps").write_bytes(SMAPS)
    if statm is not None:
        (tmp_path / "7" / "statm").write_bytes(statm)
    with fastsmaps.Sampler(procfs=tmp_path) as sampler:
        if statm is not None:
            monkeypatch.setattr("fastsmaps._host.sampler.free_descriptors", lambda: 0)
        (first,) = sampler.sweep()
        # Enough to look at it, not to read it again.
        monkeypatch.setattr(sampler, "_credit", 60.0)
        monkeypatch.setattr(sampler, "_rollup", 3600.0)
        (second,) = sampler.sweep()
    for row in (first, second):
        assert (row.outcome, row.estimated) == ("read", False)
        assert row.totals is not None
        assert row.totals.rss == 12288


def test_its_life(backend: ModuleType) -> None:
    for wrong in (0, -1, 1.5):
        with pytest.raises(ValueError, match="budget"):
            fastsmaps.Sampler(budget=wrong)
    sampler = fastsmaps.Sampler()
    sampler.sweep()
    with pytest.raises(TypeError, match="neither copied nor pickled"):
        copy.copy(sampler)
    sampler.close()
    sampler.close()
    with pytest.raises(ValueError, match="closed"):
        sampler.sweep()
    with fastsmaps.Sampler(procfs="/nothing") as other, pytest.raises(fastsmaps.Error):
        other.sweep()


@pytest.mark.thread_unsafe(reason="forks")
def test_as_another_user(backend: ModuleType) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root becomes another user")
    with idle() as child:

        def look() -> str | None:
            linux.become(linux.NOBODY)
            with fastsmaps.Sampler() as sampler:
                row = sampler.sweep().by_pid.get(child.pid)
                return None if row is None else row.outcome

        assert processes.run_in_child(look) == (None if linux.hides_processes() else "denied")


def test_a_denied_process_is_not_tried_at_every_sweep(
    backend: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a security module refuses, each try is a line in the host's audit log."""
    if os.geteuid() != 0:
        pytest.skip("only root becomes another user")

    def tries(pause: float, sweeps: int) -> tuple[int, list[str]]:
        linux.become(linux.NOBODY)
        tried: list[int] = []
        one = sweeper.Sweeper.read_one

        def counted(self: sweeper.Sweeper, pid: int) -> fastsmaps.ProcessTotals:
            tried.append(pid)
            return one(self, pid)

        monkeypatch.setattr(sweeper.Sweeper, "read_one", counted)
        monkeypatch.setattr(sampler, "_FIRST_PAUSE", pause)
        with fastsmaps.Sampler(budget=1.0) as watching:
            outcomes: list[str] = [
                watching.sweep().by_pid[child.pid].outcome for _ in range(sweeps)
            ]
            while pause == 0 and tried.count(child.pid) < 2:
                outcomes.append(watching.sweep().by_pid[child.pid].outcome)
        return tried.count(child.pid), outcomes

    with processes.workload("idle") as child:
        child.request("undumpable")
        count, outcomes = processes.run_in_child(lambda: tries(1e6, 10))
        assert (count, set(outcomes)) == (1, {"denied"})
        count, outcomes = processes.run_in_child(lambda: tries(0, 1))
        assert (count, set(outcomes)) == (2, {"denied"})
