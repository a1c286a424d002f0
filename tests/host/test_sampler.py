"""Sampler: sweeps within a CPU budget, with the age of every value."""

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
from fastsmaps import _backend
from fastsmaps._host import sampled, sweeper
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
    """Sweep until the process has values, which is soon with a budget of a whole core."""
    deadline = time.monotonic() + processes.TIMEOUT
    while time.monotonic() < deadline:
        row = sampler.sweep().by_pid.get(pid)
        if row is not None and row.totals is not None:
            return row
    raise AssertionError(f"{pid} was never read")


def test_first_sweep_reads_everything(backend: ModuleType) -> None:
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
        assert scan.by_pid[child.pid] is row  # earlier scans do not change


@pytest.mark.thread_unsafe(reason="counts descriptors")
def test_started_and_ended_processes(backend: ModuleType) -> None:
    with fastsmaps.Sampler(budget=1) as sampler:
        sampler.sweep()
        with idle() as child:
            assert sweep_until_read(sampler, child.pid).ppid == os.getpid()
            statm = f"/proc/{child.pid}/statm"
            # It is sampled in its turn, which comes after many others on a large host.
            deadline = time.monotonic() + processes.TIMEOUT
            while statm not in processes.descriptors().values():
                assert time.monotonic() < deadline
                sampler.sweep()
        deadline = time.monotonic() + processes.TIMEOUT
        while child.pid in sampler.sweep().by_pid:
            assert time.monotonic() < deadline
        assert not any(link.startswith(statm) for link in processes.descriptors().values())


def test_exec_resets_estimate(backend: ModuleType) -> None:
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


def test_growth_appears_in_next_sweep(backend: ModuleType) -> None:
    """Growth appears as an estimate even where the budget allows no rollup."""
    with fastsmaps.Sampler(budget=0.9) as sampler:
        before = sampler.sweep().by_pid[os.getpid()].totals
        assert before is not None
        # Not from malloc(), which may return freed pages that are still resident.
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


def test_estimate_scales_by_rss() -> None:
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
    earlier = (30 * MIB, 20 * MIB)
    grown = estimate(totals, earlier, (40 * MIB, 20 * MIB))
    assert (grown.rss, grown.pss, grown.pss_anon) == (40 * MIB, 25 * MIB, 20 * MIB)
    assert (grown.private_dirty, grown.swap) == (20 * MIB, 3 * MIB)
    assert (grown.pss_file, grown.locked) == (4 * MIB, None)
    shared = estimate(totals, earlier, (40 * MIB, 30 * MIB))
    assert (shared.pss_file, shared.pss_shmem, shared.pss) == (6 * MIB, 1.5 * MIB, 17.5 * MIB)
    less = estimate(totals, earlier, (25 * MIB, 20 * MIB))
    assert (less.rss, less.pss_anon, less.pss) == (25 * MIB, 5 * MIB, 10 * MIB)
    assert estimate(totals, earlier, earlier) == totals
    assert estimate(totals, earlier, (0, 0)).pss == 0
    old = fastsmaps.Totals({"Rss": 30 * MIB, "Pss": 15 * MIB}, None, "smaps")
    assert estimate(old, earlier, (40 * MIB, 20 * MIB)).pss == 25 * MIB
    assert estimate(old, (0, 0), (4096, 0)).pss == 15 * MIB + 4096


def test_max_rss_and_exclude_are_skipped(backend: ModuleType) -> None:
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
def test_sampler_keeps_a_quarter_of_free_descriptors(backend: ModuleType, free: int) -> None:
    """The program keeps three quarters, however many descriptors it has open already."""

    def sweep() -> list[tuple[set[str], int]]:
        processes.limit_descriptors(4 * processes.next_descriptor())
        held = processes.fill_descriptors()
        for fd in held[:free]:
            os.close(fd)
        before = len(processes.descriptors())
        results = []
        with fastsmaps.Sampler(budget=1) as sampler:
            for _ in range(3):
                scan = sampler.sweep()
                results.append((outcomes(scan, pids), len(processes.descriptors()) - before))
            still_free = processes.fill_descriptors()
        results.append((set(), free - len(still_free)))
        return results

    with idles(6) as pids:
        results = processes.run_in_child(sweep)
    for read, _ in results[:3]:
        assert read == {"read"}
    kept = {kept for _, kept in results}
    assert kept == {free // 4}  # there are more processes than that


@pytest.mark.host
@pytest.mark.thread_unsafe(reason="forks")
def test_changed_descriptor_limit_is_followed(backend: ModuleType) -> None:
    def sweep() -> list[tuple[set[str], int]]:
        results = []
        above = processes.next_descriptor()
        processes.limit_descriptors(above)
        processes.fill_descriptors()
        processes.limit_descriptors(above + 8)
        before = len(processes.descriptors())
        with fastsmaps.Sampler(budget=1) as sampler:
            for limit in (above + 8, 4 * above + 60, above + 12, above + 8, 4 * above + 60):
                processes.limit_descriptors(limit)
                scan = sampler.sweep()
                results.append((outcomes(scan, pids), len(processes.descriptors()) - before))
        results.append((set(), len(processes.descriptors()) - before))
        return results

    with idles(6) as pids:
        results = processes.run_in_child(sweep)
    assert [read for read, _ in results[:5]] == [{"read"}] * 5
    kept = [kept for _, kept in results]
    assert [kept[0], kept[2], kept[3], kept[5]] == [2, 3, 2, 0]
    assert min(kept[1], kept[4]) >= 6


@pytest.mark.parametrize("left", [0, 1, 2])
def test_kept_descriptors_are_released_when_none_are_free(
    backend: ModuleType, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    """The count of free descriptors can be outdated: other threads and processes open files."""

    def sweep() -> list[tuple[set[str], int]]:
        # Only these: each other process that ends would free a descriptor.
        monkeypatch.setattr("fastsmaps._source.source.Source.pids", lambda _: sorted(pids))
        processes.limit_descriptors(4 * processes.next_descriptor())
        results = []
        before = len(processes.descriptors())
        with fastsmaps.Sampler(budget=1) as sampler:
            sampler.sweep()
            assert len(processes.descriptors()) - before >= 6
            held = processes.fill_descriptors()
            for fd in held[:left]:
                os.close(fd)
            monkeypatch.setattr("fastsmaps._host.statm_table.free_descriptors", lambda: 1000)
            for _ in range(2):
                monkeypatch.setattr(sampler, "_credit", 60.0)
                scan = sampler.sweep()
                kept = len(processes.descriptors()) - before - len(held) + left
                results.append((outcomes(scan, pids), kept))
        return results

    with idles(6) as pids:
        assert processes.run_in_child(sweep) == [({"read"}, 0)] * 2


def test_failed_first_sweep_is_repeated(backend: ModuleType) -> None:
    """The first successful sweep reads all processes, whatever the budget."""

    def sweep() -> set[str]:
        processes.limit_descriptors(processes.next_descriptor())
        with fastsmaps.Sampler(budget=0.001) as sampler:
            held = processes.fill_descriptors()
            with pytest.raises(fastsmaps.Error, match=os.strerror(errno.EMFILE)):
                sampler.sweep()
            for fd in held:
                os.close(fd)
            processes.limit_descriptors(processes.next_descriptor() + 50)
            return outcomes(sampler.sweep(), pids)

    with idles(6) as pids:
        assert processes.run_in_child(sweep) == {"read"}


@pytest.mark.host
def test_enfile_releases_kept_descriptors(
    backend: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listing /proc fails with ENFILE as long as the sampler keeps descriptors."""
    with idle() as child, fastsmaps.Sampler(budget=1) as sampler:
        before = sampler.sweep().by_pid[child.pid]
        kept = len(processes.descriptors())
        real_listdir = os.listdir

        def fake_listdir(path: Any) -> list[str]:
            if path == "/proc" and sampler._sampled.statms.kept:
                raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))
            return real_listdir(path)

        monkeypatch.setattr(os, "listdir", fake_listdir)
        monkeypatch.setattr(sampler._sampled.listing, "_listed_at", None)  # list all again
        monkeypatch.setattr(sampler, "_credit", 60.0)
        assert sampler.sweep().by_pid[child.pid].start_time == before.start_time
        assert len(processes.descriptors()) < kept
        monkeypatch.setattr(sampler, "_credit", 60.0)
        sampler.sweep()
        assert sampler._sampled.statms.kept == 0  # none kept again yet


def test_last_values_stay_without_descriptors(
    backend: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No kept descriptor can be released, so the last values stay."""

    def sweep() -> list[tuple[str, bool]]:
        processes.limit_descriptors(4 * processes.next_descriptor())
        with fastsmaps.Sampler(budget=1) as sampler:
            monkeypatch.setattr("fastsmaps._host.statm_table.free_descriptors", lambda: None)
            before = sampler.sweep().by_pid[child.pid]
            held = processes.fill_descriptors()
            os.close(held[0])  # only enough for /proc
            monkeypatch.setattr(sampler, "_credit", 60.0)
            after = sampler.sweep().by_pid[child.pid]
            same = before.totals is not None and after.totals == before.totals
            os.close(held[1])
            os.close(held[2])
            return [(after.outcome, same), (sweep_until_read(sampler, child.pid).outcome, True)]

    with idle() as child:
        assert processes.run_in_child(sweep) == [("read", True)] * 2


def test_reused_pid_gets_new_values(backend: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also without a kept descriptor and with the same program."""

    def reuse_pid() -> list[str]:
        with fastsmaps.Sampler(budget=1) as sampler:
            monkeypatch.setattr("fastsmaps._host.statm_table.free_descriptors", lambda: 0)
            with idle() as first:
                sampler.sweep()
                before = sampler.sweep().by_pid[first.pid]
                assert before.totals is not None
            linux.set_next_pid(first.pid)
            with idle() as second:
                if second.pid != first.pid:
                    raise linux.Unavailable("the kernel assigned another pid")
                # No rollup is affordable: the sampler reads only stat and statm.
                with monkeypatch.context() as patched:
                    patched.setattr(sampler._sampled.queue, "pids", lambda *_: iter(()))
                    estimated = sampler.sweep().by_pid[second.pid]
                read = sweep_until_read(sampler, second.pid)
            mixed = [row for row in (estimated, read) if row.start_time == before.start_time]
            return [repr(row) for row in mixed]

    try:
        assert processes.run_in_namespaces(reuse_pid) == []
    except linux.Unavailable as error:
        pytest.skip(f"no pid namespace in which pids can be chosen: {error}")


@pytest.mark.parametrize("statm", [None, b"", b"nonsense\n"])
def test_sampler_on_capture_without_statm(
    backend: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statm: bytes | None
) -> None:
    """As smemcap writes it: its values stay, whatever the budget allows."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_bytes(STAT % 7)
    (tmp_path / "7" / "smaps").write_bytes(SMAPS)
    if statm is not None:
        (tmp_path / "7" / "statm").write_bytes(statm)
    with fastsmaps.Sampler(procfs=tmp_path) as sampler:
        if statm is not None:
            monkeypatch.setattr("fastsmaps._host.statm_table.free_descriptors", lambda: 0)
        (first,) = sampler.sweep()
        # Enough credit to check the process, not to read it again.
        monkeypatch.setattr(sampler, "_credit", 60.0)
        monkeypatch.setattr(sampler._sampled.queue, "pids", lambda *_: iter(()))
        (second,) = sampler.sweep()
    for row in (first, second):
        assert (row.outcome, row.estimated) == ("read", False)
        assert row.totals is not None
        assert row.totals.rss == 12288


def test_sampler_arguments_and_close(backend: ModuleType) -> None:
    for invalid in (0, -1, 1.5):
        with pytest.raises(ValueError, match="budget"):
            fastsmaps.Sampler(budget=invalid)
    sampler = fastsmaps.Sampler()
    sampler.sweep()
    with pytest.raises(TypeError, match="neither copied nor pickled"):
        copy.copy(sampler)
    sampler.close()
    sampler.close()
    with pytest.raises(ValueError, match="closed"):
        sampler.sweep()
    with fastsmaps.Sampler(procfs="/missing") as other, pytest.raises(fastsmaps.Error):
        other.sweep()


@pytest.mark.thread_unsafe(reason="forks")
def test_sampler_as_another_user(backend: ModuleType) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root becomes another user")
    with idle() as child:

        def scan_unprivileged() -> str | None:
            linux.become(linux.NOBODY)
            with fastsmaps.Sampler() as sampler:
                row = sampler.sweep().by_pid.get(child.pid)
                return None if row is None else row.outcome

        outcome = processes.run_in_child(scan_unprivileged)
        assert outcome == (None if linux.hides_processes() else "denied")


def test_denied_process_is_retried_rarely(
    backend: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a security module each attempt adds a line to the host's audit log."""
    if os.geteuid() != 0:
        pytest.skip("only root becomes another user")

    def count_reads(pause: float, sweeps: int) -> tuple[int, list[str]]:
        linux.become(linux.NOBODY)
        pids: list[int] = []
        real_read_one = sweeper.Sweeper.read_one

        def counting_read_one(self: sweeper.Sweeper, pid: int) -> fastsmaps.ProcessTotals:
            pids.append(pid)
            return real_read_one(self, pid)

        monkeypatch.setattr(sweeper.Sweeper, "read_one", counting_read_one)
        monkeypatch.setattr(sampled, "_MIN_PAUSE", pause)
        with fastsmaps.Sampler(budget=1.0) as unprivileged:
            outcomes: list[str] = [
                unprivileged.sweep().by_pid[child.pid].outcome for _ in range(sweeps)
            ]
            while pause == 0 and pids.count(child.pid) < 2:
                outcomes.append(unprivileged.sweep().by_pid[child.pid].outcome)
        return pids.count(child.pid), outcomes

    with processes.workload("idle") as child:
        child.request("undumpable")
        count, outcomes = processes.run_in_child(lambda: count_reads(1e6, 10))
        assert (count, set(outcomes)) == (1, {"denied"})
        count, outcomes = processes.run_in_child(lambda: count_reads(0, 1))
        assert (count, set(outcomes)) == (2, {"denied"})


# ---- the budget


class FakeClock:
    """Replaces `time` in the Sampler: its CPU clock counts calls, its wall clock stands still."""

    def __init__(self, step: float = 0.001) -> None:
        self.step = step
        self.cpu = 0.0
        self.now = 1000.0

    def thread_time(self) -> float:
        self.cpu += self.step
        return self.cpu

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock()
    for module in ("sampler", "sampled", "statm_table", "statm_turns", "listing"):
        monkeypatch.setattr(f"fastsmaps._host.{module}.time", fake)
    return fake


def spend(sampler: fastsmaps.Sampler, clock: FakeClock, sweeps: int, charged: float = 0) -> float:
    """Sweep once a second and return the CPU seconds that can be charged."""
    before = clock.cpu
    for _ in range(sweeps):
        clock.now += 1.0
        sampler.charge(charged)
        sampler.sweep()
    return clock.cpu - before - sweeps * clock.step  # the first reading of the clock is not charged


def test_budget_holds_over_many_sweeps(backend: ModuleType, clock: FakeClock) -> None:
    """Overspending in one sweep is taken off the next ones."""
    with idles(12), fastsmaps.Sampler(budget=0.05) as sampler:
        sampler.sweep()  # reads all, and is not charged
        for step in (0.001, 0.0001, 0.01):
            clock.step = step
            spent = spend(sampler, clock, 40)
            assert spent <= 40 * 0.05 + 20 * step
            if step == 0.001:  # a smaller step reads all processes with less
                assert spent >= 0.9 * 40 * 0.05


def test_charge_takes_at_most_half(
    backend: ModuleType, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_read_one = sweeper.Sweeper.read_one

    def read_one(self: sweeper.Sweeper, pid: int) -> fastsmaps.ProcessTotals:
        clock.cpu += 0.05
        return real_read_one(self, pid)

    with idles(12) as pids, fastsmaps.Sampler(budget=0.5) as sampler:
        only(monkeypatch, pids)
        sampler.sweep()
        clock.step = 1e-6
        monkeypatch.setattr(sweeper.Sweeper, "read_one", read_one)
        assert 45 <= spend(sampler, clock, 100) <= 50.1
        assert 27 <= spend(sampler, clock, 100, charged=0.2) <= 31
        # More than the budget: the Sampler keeps half, so that the values do not stop. A read that
        # exceeds the half is not taken back.
        assert 24 <= spend(sampler, clock, 100, charged=2) <= 30.1
        # No more is carried over than a minute earns, which takes two to pay off.
        assert 24 <= spend(sampler, clock, 100) <= 30.1
        spend(sampler, clock, 40)
        assert 45 <= spend(sampler, clock, 100) <= 50.1
        with pytest.raises(ValueError, match="seconds must be at least 0"):
            sampler.charge(-1)


def only(monkeypatch: pytest.MonkeyPatch, pids: set[int]) -> None:
    """List only these processes: to sample all takes most of a test's time."""
    monkeypatch.setattr("fastsmaps._source.source.Source.pids", lambda _: sorted(pids))
    monkeypatch.setattr(_backend, "pids_between", lambda *_: [])


def test_expensive_process_leaves_time_for_others(
    backend: ModuleType, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rollup that takes as long as the budget earns in 200 s."""
    with idle() as giant, idle() as small, fastsmaps.Sampler(budget=0.05) as sampler:
        only(monkeypatch, {giant.pid, small.pid})
        sampler.sweep()
        clock.step = 1e-6
        reads: list[int] = []
        real_read_one = sweeper.Sweeper.read_one

        def read_one(self: sweeper.Sweeper, pid: int) -> fastsmaps.ProcessTotals:
            reads.append(pid)
            clock.cpu += 10.0 if pid == giant.pid else 0.001
            return real_read_one(self, pid)

        monkeypatch.setattr(sweeper.Sweeper, "read_one", read_one)
        spent = spend(sampler, clock, 500)
        assert spent <= 500 * 0.05 + 10.0
        assert 1 <= reads.count(giant.pid) <= 3
        assert reads.count(small.pid) >= 10


def test_sweep_without_credit_returns_the_last_values(
    backend: ModuleType, clock: FakeClock
) -> None:
    with idle() as child, fastsmaps.Sampler(budget=0.05) as sampler:
        before = sampler.sweep()
        clock.now += 0.001
        after = sampler.sweep()
        assert len(after) == len(before)
        assert after.by_pid[child.pid].totals == before.by_pid[child.pid].totals
        age, later = before.by_pid[child.pid].age, after.by_pid[child.pid].age
        assert age is not None
        assert later is not None
        assert later - age == pytest.approx(0.001)


# ---- what is read next


@pytest.mark.thread_unsafe(reason="forks")
def test_fork_marks_its_family(backend: ModuleType) -> None:
    """The parent's Rss stays, and its Pss halves: it is read again soon after the child."""
    parent = os.getpid()
    with fastsmaps.Sampler(budget=1) as sampler:
        sweep_until_read(sampler, parent)
        marked: list[int] = []
        real = sampler._sampled._read_soon

        def read_soon(entry: Any, times: int) -> None:
            marked.append(entry.pid)
            real(entry, times)

        sampler._sampled._read_soon = read_soon  # type: ignore[method-assign]
        with processes.forked() as child:
            assert sweep_until_read(sampler, child).ppid == parent
            assert parent in marked
            marked.clear()
        deadline = time.monotonic() + processes.TIMEOUT
        while child in sampler.sweep().by_pid:
            assert time.monotonic() < deadline
        assert parent in marked


def test_excluded_numbers_may_change(backend: ModuleType) -> None:
    excluded: set[int] = set()
    with (
        idle() as child,
        idle() as other,
        fastsmaps.Sampler(budget=1, exclude=excluded) as sampler,
    ):
        assert sweep_until_read(sampler, child.pid).outcome == "read"
        excluded |= {child.pid, processes.dead_pid()}
        row = sampler.sweep().by_pid[child.pid]
        while row.error != "excluded":
            row = sampler.sweep().by_pid[child.pid]
        assert (row.outcome, row.totals) == ("skipped", None)
        assert sweep_until_read(sampler, other.pid).outcome == "read"
        excluded.clear()
        assert sweep_until_read(sampler, child.pid).outcome == "read"


def test_large_processes_are_sampled_more_often(backend: ModuleType, clock: FakeClock) -> None:
    """Of many processes, those above the average get half of the time for statm."""
    with idle() as child, fastsmaps.Sampler(budget=0.05) as sampler:
        sampler.sweep()
        block = mmap.mmap(-1, 64 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        block.write(bytes(64 * MIB))
        clock.step = 1e-6
        spend(sampler, clock, 20)
        large = {sampler._sampled.statms.pid(slot) for slot in sampler._sampled.turns.large.slots}
        rest = {sampler._sampled.statms.pid(slot) for slot in sampler._sampled.turns.rest.slots}
        assert os.getpid() in large
        assert child.pid in large | rest
        assert len(large) < len(rest)
        assert not (large & rest) - {0}  # slots of processes that have ended
        assert len(block) == 64 * MIB


# ---- the kernel's own sum


def test_host_pss_is_the_kernels_sum(backend: ModuleType) -> None:
    def meminfo() -> int:
        words = Path("/proc/meminfo").read_text().split()
        return sum(int(words[words.index(name) + 1]) for name in ("AnonPages:", "Mapped:")) << 10

    with fastsmaps.Sampler(budget=1) as sampler:
        before = meminfo()
        scan = sampler.sweep()
        after = meminfo()
    assert scan.host_pss is not None
    # Other processes run meanwhile.
    assert min(before, after) - 256 * MIB <= scan.host_pss <= max(before, after) + 256 * MIB
    assert fastsmaps.scan().host_pss is not None
    assert fastsmaps.scan([os.getpid()]).host_pss is None
    assert scan.filter(lambda row: False).host_pss == scan.host_pss


@pytest.mark.parametrize("text", [None, b"", b"AnonPages:\n", b"AnonPages: x kB\nMapped: 1 kB\n"])
def test_host_pss_is_none_without_meminfo(
    backend: ModuleType, tmp_path: Path, text: bytes | None
) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_bytes(STAT % 7)
    (tmp_path / "7" / "smaps").write_bytes(SMAPS)
    if text is not None:
        (tmp_path / "meminfo").write_bytes(text)
    assert fastsmaps.scan(procfs=tmp_path).host_pss is None
    (tmp_path / "meminfo").write_bytes(b"AnonPages: 3 kB\nMapped: 4 kB\n")
    assert fastsmaps.scan(procfs=tmp_path).host_pss == 7 << 10


def test_values_are_kept_when_descriptors_run_out(
    backend: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread takes the last descriptors while statm is sampled."""

    def sweep() -> tuple[int | None, bool]:
        with fastsmaps.Sampler(budget=1) as sampler:
            processes.limit_descriptors(4 * processes.next_descriptor())
            sampler.sweep()
            block = mmap.mmap(-1, 64 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            block.write(bytes(64 * MIB))
            real_sample = sampler._sampled.statms.sample
            held: list[int] = []

            def sample(*arguments: Any) -> Any:
                if not held:
                    sampler._sampled.statms.let_go(sampler._sampled._watched[child.pid].slot)
                    held.extend(processes.fill_descriptors())
                return real_sample(*arguments)

            monkeypatch.setattr(sampler._sampled.statms, "sample", sample)
            monkeypatch.setattr(sampler._sampled.queue, "pids", lambda *_: iter(()))
            monkeypatch.setattr(sampler, "_credit", 60.0)
            sampler._sampled.turns.lively.clear()
            for entry in sampler._sampled._watched.values():
                sampler._sampled.turns.lively[entry.slot] = time.monotonic()
            row = sampler.sweep().by_pid[os.getpid()]
            assert len(block) == 64 * MIB
            assert row.totals is not None
            return row.totals.rss, row.estimated

    before = fastsmaps.totals().rss
    assert before is not None
    with idle() as child:
        rss, estimated = processes.run_in_child(sweep)
    assert rss is not None
    assert rss >= 64 * MIB
    assert estimated


def test_denied_process_may_be_excluded(
    backend: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not tried again when its time has come: each attempt may be logged."""
    if os.geteuid() != 0:
        pytest.skip("only root becomes another user")

    def errors() -> list[str | None]:
        linux.become(linux.NOBODY)
        excluded: set[int] = set()
        with fastsmaps.Sampler(budget=1.0, exclude=excluded) as unprivileged:
            monkeypatch.setattr(sampled, "_MIN_PAUSE", 0.0)
            first = unprivileged.sweep().by_pid[child.pid].outcome
            excluded.add(child.pid)
            monkeypatch.setattr(unprivileged, "_credit", 60.0)
            rows = []
            for _ in range(3):
                monkeypatch.setattr(unprivileged, "_credit", 60.0)
                rows.append(unprivileged.sweep().by_pid[child.pid].error)
            return [first, *rows]

    with processes.workload("idle") as child:
        child.request("undumpable")
        assert processes.run_in_child(errors) == ["denied", *["excluded"] * 3]
