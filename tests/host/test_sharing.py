"""Memory of processes that share one address space is counted once."""

from __future__ import annotations

import json
import os
import pickle
from array import array
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fastsmaps
from fastsmaps import _backend
from fastsmaps._host import sharing, sweeper
from fastsmaps._model.sharing import Member, error_of
from fastsmaps._model.tree import forest
from fastsmaps._output.groups import Labels, grouped
from fastsmaps._source.source import Source
from support import linux, processes, shared_memory
from support.commands import json_rows
from support.shared_memory import SIZE, sharing_processes

pytestmark = pytest.mark.usefixtures("no_leak")

ROOT = os.geteuid() == 0


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    try:
        return shared_memory.compiled(tmp_path_factory.mktemp("program"))
    except linux.Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def needs_kcmp() -> None:
    pid = os.getpid()
    if not Source("/proc").counts_ours() or _backend.same_memory(pids(pid)) != [0]:
        pytest.skip("kcmp(2) is not permitted here, or this Python has no number for it")


def pids(*numbers: int) -> memoryview:
    return memoryview(array("i", numbers))


def assert_counted_once(scan: fastsmaps.Scan, members: list[int]) -> None:
    """Check that the first process has the values and that the others refer to it."""
    oldest, *others = members
    assert scan.by_pid[oldest].outcome == "read"
    assert scan.by_pid[oldest].shares_memory_with is None
    for pid in others:
        row = scan.by_pid[pid]
        assert (row.outcome, row.totals, row.shares_memory_with) == ("skipped", None, oldest)
        assert row.error == (
            f"shares all its memory with process {oldest}, where it is counted "
            "(vfork, or clone with CLONE_VM)"
        )
        assert row.comm is not None
    totals = scan.totals()
    assert totals.rss is not None
    assert SIZE <= totals.rss < 2 * SIZE
    assert scan.sharing_known


SHARING_ROLES = ["vfork", "clone", "chain", "orphan", "siblings", "main-exited"]


def test_commands_count_shared_memory_once(backend: ModuleType, program: str) -> None:
    with sharing_processes(program, "vfork") as (parent, child):
        expected = fastsmaps.totals(parent).rss
        for arguments in ((parent,), (child, parent)):
            (row,) = json_rows("totals", "--tree", *map(str, arguments))
            assert (row["rss"], row["processes"], row["unread"]) == (expected, 1, 0)
        # Requested alone, the child has the values.
        (row,) = json_rows("totals", "--tree", str(child))
        assert (row["rss"], row["processes"], row["unread"]) == (expected, 1, 0)
        rows = {row["pid"]: row for row in json_rows("ps", "--tree")}
        assert (rows[parent]["tree_rss"], rows[parent]["tree_processes"]) == (expected, 1)
        assert (rows[child]["rss"], rows[child]["depth"]) == (None, rows[parent]["depth"] + 1)
        groups = {row["comm"]: row for row in json_rows("ps", "--by", "comm")}
        assert [groups[shared_memory.NAME][name] for name in ("processes", "unread", "rss")] == [
            1, 0, expected,
        ]  # fmt: skip


@pytest.mark.parametrize("role", SHARING_ROLES)
def test_scan_counts_shared_memory_once(backend: ModuleType, program: str, role: str) -> None:
    with sharing_processes(program, role) as members:
        for order in (members, members[::-1]):
            assert_counted_once(fastsmaps.scan(order), members)
            assert_counted_once(fastsmaps.scan(order, workers=2), members)
            assert_counted_once(fastsmaps.scan(order, timeout=60), members)
        scan = fastsmaps.scan()
        assert_counted_once(scan._part(scan.by_pid[pid] for pid in members), members)
        again = pickle.loads(pickle.dumps(scan))
        assert list(again) == list(scan)
        assert again.sharing_known == scan.sharing_known


@pytest.mark.parametrize("role", SHARING_ROLES)
def test_process_scanned_alone_is_read(backend: ModuleType, program: str, role: str) -> None:
    """No other row counts its memory then."""
    with sharing_processes(program, role) as members:
        for pid in members:
            (row,) = fastsmaps.scan([pid])
            assert (row.outcome, row.shares_memory_with) == ("read", None)
            with fastsmaps.Process(pid) as process:
                for totals in (row.totals, fastsmaps.totals(pid), process.totals()):
                    assert totals is not None
                    assert totals.rss is not None
                    assert totals.rss >= SIZE
        scan = fastsmaps.scan(members, exclude=members[:1])
        outcomes = [scan.by_pid[pid].outcome for pid in members[1:]]
        assert sorted(outcomes) == ["read", *["skipped"] * (len(members) - 2)]


def test_limits_with_shared_memory(backend: ModuleType, program: str) -> None:
    with sharing_processes(program, "vfork") as members:
        scan = fastsmaps.scan(members, max_rss=1)
        assert [row.shares_memory_with for row in scan] == [None, None]
        assert scan.coverage["skipped"] == 2
        scan = fastsmaps.scan(members, min_rss=1)
        assert_counted_once(scan, members)


def test_memory_shared_after_creator_exec(backend: ModuleType, program: str) -> None:
    with sharing_processes(program, "creator-exec") as (creator, first, second):
        shared_memory.wait_for_exec("sleep", creator)
        for order in ([first, second, creator], [creator, second, first]):
            scan = fastsmaps.scan(order)
            assert scan.by_pid[creator].outcome == "read"
            assert_counted_once(fastsmaps.scan([first, second]), [first, second])
            assert scan.by_pid[second].shares_memory_with == first


def test_groups_and_trees_count_shared_memory_once(backend: ModuleType, program: str) -> None:
    with sharing_processes(program, "vfork") as members:
        scan = fastsmaps.scan()
        (group,) = [
            group for name, group in scan.group_by("comm").items() if name == shared_memory.NAME
        ]
        assert (group.count, group.totals) == (1, scan.by_pid[members[0]].totals)
        tree = scan.descendants(members[0])
        assert tree.totals() == group.totals
        assert scan.column("shares_memory_with")[list(scan.by_pid).index(members[1])] == members[0]
        grouping = grouped(scan, Labels("comm"))[shared_memory.NAME,]
        assert (grouping.processes, grouping.unread, grouping.pss) == (1, 0, group.totals.pss)
        (branch,) = forest(tree)
        assert (branch.processes, branch.read, branch.totals) == (1, 1, group.totals)


def test_fork_is_not_shared_memory(backend: ModuleType, program: str) -> None:
    with sharing_processes(program, "fork") as members:
        scan = fastsmaps.scan(members)
        assert [row.outcome for row in scan] == ["read", "read"]
        assert scan.sharing_known
        assert not sharing.waits_in_vfork(members[1], members[0], Source("/proc"))


def test_idle_forks_are_counted_separately(backend: ModuleType) -> None:
    """Idle children of a prefork server may have exactly equal values and still are separate."""
    with processes.forked() as first, processes.forked() as second, processes.forked() as third:
        scan = fastsmaps.scan([os.getpid(), first, second, third])
        assert scan.coverage["read"] == 4
        assert scan.sharing_known
        places = _backend.same_memory(pids(first, os.getpid(), second, third, first))
        assert places == [0, 1, 2, 3, 0]


def test_fork_between_vfork_and_exec(backend: ModuleType, program: str) -> None:
    with sharing_processes(program, "worker") as (worker, child):
        with fastsmaps.Process(worker) as process:
            master = process.info(heap=True).ppid
        assert master is not None
        scan = fastsmaps.scan([child, worker, master])
        assert [row.outcome for row in scan] == ["skipped", "read", "read"]
        assert scan[0].shares_memory_with == worker


def test_zombies_do_not_share_memory(backend: ModuleType) -> None:
    with processes.zombie() as first, processes.zombie() as second:
        assert _backend.same_memory(pids(first, second)) == [0, 0]
        scan = fastsmaps.scan([first, second])
        assert [(row.outcome, row.shares_memory_with) for row in scan] == [("zombie", None)] * 2
        known = sharing.Sharing(Source("/proc"))
        members = [
            Member(pid, os.getpid(), 0, True, 4096, read=True, apart=False)
            for pid in (first, second)
        ]
        assert known.groups(members) == []


def test_same_memory_backends_agree(twins: Any, program: str) -> None:
    with sharing_processes(program, "chain") as members, processes.forked() as fork:
        gone = processes.dead_pid()
        compared = pids(fork, members[2], gone, os.getpid(), *members, fork, 2**31 - 1)
        expected = [0, 1, None, 3, 1, 1, 1, 0, None]
        for name in ("c", "python"):
            assert _backend.exports(name)["same_memory"](compared) == expected
            assert _backend.exports(name)["same_memory"](pids()) == []


# ---- changes during a scan


@pytest.fixture
def before_settling(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Functions to call after all processes were read, before sharing is decided."""
    acts: list[Any] = []
    real_settle = sweeper.Sweeper.settle

    def settle(self: sweeper.Sweeper) -> None:
        while acts:
            acts.pop()()
        real_settle(self)

    monkeypatch.setattr(sweeper.Sweeper, "settle", settle)
    return acts


def test_exec_before_sharing_is_decided(
    backend: ModuleType, program: str, before_settling: list[Any]
) -> None:
    """The child has its own memory after the exec, which no other row counts."""
    with processes.running(program, "vfork") as process:
        parent, child, _ = process.report

        def act() -> None:
            assert process.popen.stdin is not None
            process.popen.stdin.write(b"x")
            assert process.read_line() == [child, 0, 0]

        before_settling.append(act)
        scan = fastsmaps.scan([parent, child])
        assert [row.outcome for row in scan] == ["read", "read"]
        again = fastsmaps.totals(child)
        assert scan[1].totals is not None
        # Not Pss: it changes whenever another process maps the same libraries.
        assert (scan[1].totals.rss, scan[1].totals.private_dirty) == (
            again.rss,
            again.private_dirty,
        )


def test_exit_before_sharing_is_decided(
    backend: ModuleType, program: str, before_settling: list[Any]
) -> None:
    with sharing_processes(program, "clone") as (parent, child):
        before_settling.append(lambda: kill(child))
        scan = fastsmaps.scan([child, parent])
        assert [row.outcome for row in scan] == ["zombie", "read"]
    with sharing_processes(program, "clone") as (parent, child):
        # Only the child counts it now: the parent was read and then ended.
        before_settling.append(lambda: kill(parent))
        scan = fastsmaps.scan([parent, child])
        assert [row.outcome for row in scan] == ["zombie", "read"]


def kill(pid: int) -> None:
    os.kill(pid, 9)
    while not linux.main_thread_ended(pid):
        os.sched_yield()


# ---- Watch, libs(), Sampler, capture()


def test_watched_tree_counts_shared_memory_once(backend: ModuleType, program: str) -> None:
    with (
        sharing_processes(program, "vfork") as members,
        fastsmaps.Watch(members[0], tree=True) as watch,
    ):
        sample = watch.samples[0]
    assert (sample.processes, sample.unread) == (1, 0)
    assert sample.totals.rss is not None
    assert SIZE <= sample.totals.rss < 2 * SIZE


def test_libs_count_shared_memory_once(backend: ModuleType, program: str) -> None:
    for role in SHARING_ROLES:
        with sharing_processes(program, role) as members:
            for order in (members, members[::-1]):
                libs = fastsmaps.libs(order)
                assert libs[program].processes == 1
                assert libs.coverage["read"] == 1
                assert libs.coverage["skipped"] == len(members) - 1
                assert libs.errors == {pid: error_of(members[0]) for pid in members[1:]}
            for pid in members:
                assert fastsmaps.libs([pid])[program].processes == 1
    with sharing_processes(program, "fork") as members:
        assert fastsmaps.libs(members)[program].processes == 2


def test_sampler_counts_shared_memory_once(backend: ModuleType, program: str) -> None:
    with processes.running(program, "vfork") as process, fastsmaps.Sampler(budget=1) as sampler:
        parent, child, _ = process.report
        for _ in range(3):
            scan = sampler.sweep()
            assert scan.by_pid[parent].outcome == "read"
            assert scan.by_pid[child].shares_memory_with == parent
            assert scan.by_pid[child].totals is None
            assert scan.sharing_known
        assert process.popen.stdin is not None
        process.popen.stdin.write(b"x")
        assert process.read_line() == [child, 0, 0]
        row = sweep_until_read(sampler, child)
        assert row.shares_memory_with is None
        assert row.totals is not None
        assert row.totals.rss == fastsmaps.totals(child).rss


def sweep_until_read(sampler: fastsmaps.Sampler, pid: int) -> fastsmaps.ProcessTotals:
    while True:
        row = sampler.sweep().by_pid[pid]
        if row.totals is not None:
            return row


@pytest.mark.host
def test_sampler_with_new_sharing_processes(backend: ModuleType, program: str) -> None:
    with fastsmaps.Sampler(budget=1) as sampler:
        sampler.sweep()
        for role in SHARING_ROLES:
            with sharing_processes(program, role) as members:
                sweep_until_read(sampler, members[0])
                for _ in range(2):
                    scan = sampler.sweep()
                    assert_counted_once(scan._part(scan.by_pid[pid] for pid in members), members)


def test_sampler_after_exit_of_counted_process(backend: ModuleType, program: str) -> None:
    with (
        sharing_processes(program, "clone") as (parent, child),
        fastsmaps.Sampler(budget=1) as sampler,
    ):
        assert sampler.sweep().by_pid[child].totals is None
        kill(parent)
        row = sweep_until_read(sampler, child)
        assert row.totals is not None
        assert row.totals.rss == fastsmaps.totals(child).rss


@pytest.mark.parametrize("role", [*SHARING_ROLES, "fork"])
def test_capture_counts_shared_memory_once(
    backend: ModuleType, program: str, tmp_path: Path, role: str
) -> None:
    with sharing_processes(program, role) as members:
        saved = fastsmaps.capture(tmp_path / "a", members[::-1])
    assert saved.sharing_known
    scan = fastsmaps.scan(procfs=tmp_path / "a", cgroup=True, cmdline=True)
    assert list(scan) == sorted(saved, key=lambda row: row.pid)
    assert scan.sharing_known
    if role == "fork":
        assert scan.coverage["read"] == 2
        return
    assert_counted_once(scan, members)
    assert_counted_once(saved, members)
    assert fastsmaps.libs(procfs=tmp_path / "a")[program].processes == 1
    with fastsmaps.Sampler(procfs=tmp_path / "a") as sampler:
        assert_counted_once(sampler.sweep(), members)
        assert_counted_once(sampler.sweep(), members)
    # Requested alone it is read, and a capture of the capture has the same rows.
    (row,) = fastsmaps.scan([members[1]], procfs=tmp_path / "a")
    assert row.outcome == "read"
    fastsmaps.capture(tmp_path / "b", procfs=tmp_path / "a")
    assert_counted_once(fastsmaps.scan(procfs=tmp_path / "b"), members)


def test_false_sharing_notes_hide_nothing(
    backend: ModuleType, program: str, tmp_path: Path
) -> None:
    """A capture's notes cannot hide a process that called exec, nor refer to a missing one."""
    with sharing_processes(program, "fork") as members:
        fastsmaps.capture(tmp_path / "a", members)
    notes = json.loads((tmp_path / "a" / "fastsmaps.json").read_bytes())
    parent, child = map(str, members)
    for pid, other in ((parent, int(child)), (child, 1), (child, int(child)), (child, "1")):
        notes["processes"] = {pid: {"shares_memory_with": other}}
        (tmp_path / "a" / "fastsmaps.json").write_text(json.dumps(notes))
        scan = fastsmaps.scan(procfs=tmp_path / "a")
        assert scan.coverage["read"] == 2
    for damaged in (None, 7, "yes"):
        notes["sharing_known"] = damaged
        (tmp_path / "a" / "fastsmaps.json").write_text(json.dumps(notes))
        assert not fastsmaps.scan(procfs=tmp_path / "a").sharing_known


# ---- where kcmp(2) cannot be used


@pytest.fixture
def no_kcmp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behave as if /proc were of another pid namespace."""
    monkeypatch.setattr("fastsmaps._source.source.Source.counts_ours", lambda _: False)


@pytest.mark.usefixtures("no_kcmp")
def test_vfork_parent_is_recognised_without_kcmp(backend: ModuleType, program: str) -> None:
    """Between vfork and exec /proc shows enough to recognise the sharing."""
    with sharing_processes(program, "vfork") as members:
        for order in (members, members[::-1]):
            assert_counted_once(fastsmaps.scan(order), members)
            assert fastsmaps.libs(order)[program].processes == 1
        with fastsmaps.Sampler() as sampler:
            scan = sampler.sweep()
            assert scan.by_pid[members[1]].shares_memory_with == members[0]


@pytest.mark.usefixtures("no_kcmp")
@pytest.mark.parametrize("role", ["clone", "chain", "siblings", "fork"])
def test_unknown_sharing_is_reported(
    backend: ModuleType, program: str, tmp_path: Path, role: str
) -> None:
    with sharing_processes(program, role) as members:
        scan = fastsmaps.scan(members)
        assert scan.coverage["read"] == len(members)
        assert not scan.sharing_known
        assert not scan[:1].sharing_known
        assert fastsmaps.scan(members[:1]).sharing_known
        with fastsmaps.Sampler() as sampler:
            assert not sampler.sweep().sharing_known
        saved = fastsmaps.capture(tmp_path / "a", members)
        assert not saved.sharing_known
        assert not fastsmaps.scan(procfs=tmp_path / "a").sharing_known


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_sharing_of_denied_processes(backend: ModuleType, program: str) -> None:
    """Neither process may be read, so no memory is counted twice."""
    with sharing_processes(program, "clone") as members:

        def inside() -> fastsmaps.Scan:
            linux.become(65534)
            return fastsmaps.scan(members)

        scan = processes.run_in_child(inside)
        assert [row.outcome for row in scan] == ["denied", "denied"]
        assert scan.sharing_known


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_sharing_unknown_with_cap_perfmon(backend: ModuleType, program: str) -> None:
    """CAP_PERFMON alone, on newer kernels, permits reading but not kcmp()."""
    with (
        sharing_processes(program, "vfork") as waiting,
        sharing_processes(program, "clone") as clones,
    ):

        def inside() -> tuple[fastsmaps.Scan, fastsmaps.Scan]:
            linux.become(65534, 38)
            return fastsmaps.scan(waiting), fastsmaps.scan(clones)

        first, second = processes.run_in_child(inside)
        if first.coverage["denied"]:
            pytest.skip("this kernel wants CAP_SYS_PTRACE")
        assert_counted_once(first, waiting)
        assert second.coverage["read"] == 2
        assert not second.sharing_known


def test_sharing_in_foreign_pid_namespace(backend: ModuleType, program: str) -> None:
    """The outer /proc's pids are unused here or belong to other processes."""
    with (
        sharing_processes(program, "vfork") as waiting,
        sharing_processes(program, "fork") as forks,
    ):

        def inside() -> tuple[fastsmaps.Scan, fastsmaps.Scan]:
            return fastsmaps.scan(waiting), fastsmaps.scan(forks)

        try:
            first, second = processes.run_in_namespaces(inside, None)
        except linux.Unavailable as error:
            pytest.skip(str(error))
        if first.coverage["denied"]:
            pytest.skip("another user namespace may not read these")
        assert_counted_once(first, waiting)
        assert second.coverage["read"] == 2
        assert not second.sharing_known


@pytest.mark.parametrize("role", SHARING_ROLES)
def test_sharing_found_above_fork_limit(
    backend: ModuleType, program: str, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    """A process whose parent does not explain its sharing is compared with all others."""
    monkeypatch.setattr(sharing, "MAX_FORKS", 1)
    with sharing_processes(program, role) as members:
        assert_counted_once(fastsmaps.scan(members[::-1]), members)
    with processes.forked() as first, processes.forked() as second:
        assert fastsmaps.scan([first, second, os.getpid()]).coverage["read"] == 3


def test_excluded_process_does_not_hide_sharing_one(
    backend: ModuleType, program: str, tmp_path: Path
) -> None:
    with sharing_processes(program, "vfork") as (parent, child):
        fastsmaps.capture(tmp_path / "a", [parent, child])
        for exclude in ([parent], lambda row: row.pid == parent):
            for procfs in ("/proc", tmp_path / "a"):
                scan = fastsmaps.scan([parent, child], procfs=procfs, exclude=exclude)
                assert [row.outcome for row in scan] == ["skipped", "read"]
                assert [row.error for row in scan] == ["excluded", None]
