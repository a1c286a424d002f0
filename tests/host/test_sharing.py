"""Memory that several processes have in common as a whole is counted once."""

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
from fastsmaps._output.groups import grouped, keys_of
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
def comparable() -> None:
    pid = os.getpid()
    if not Source("/proc").counts_ours() or _backend.same_memory(pids(pid)) != [0]:
        pytest.skip("kcmp(2) is not permitted here, or this Python has no number for it")


def pids(*numbers: int) -> memoryview:
    return memoryview(array("i", numbers))


def is_counted_once(scan: fastsmaps.Scan, members: list[int]) -> None:
    """The first of them has the figures; the others say where they are."""
    eldest, *others = members
    assert scan.by_pid[eldest].outcome == "read"
    assert scan.by_pid[eldest].shares_memory_with is None
    for pid in others:
        row = scan.by_pid[pid]
        assert (row.outcome, row.totals, row.shares_memory_with) == ("skipped", None, eldest)
        assert row.error == (
            f"shares all its memory with process {eldest}, where it is counted "
            "(vfork, or clone with CLONE_VM)"
        )
        assert row.comm is not None
    totals = scan.totals()
    assert totals.rss is not None
    assert SIZE <= totals.rss < 2 * SIZE
    assert scan.sharing_known


FAMILIES = ["vfork", "clone", "chain", "orphan", "siblings", "main-exited"]


def test_commands_count_it_once(backend: ModuleType, program: str) -> None:
    with sharing_processes(program, "vfork") as (parent, child):
        expected = fastsmaps.totals(parent).rss
        for named in ((parent,), (child, parent)):
            (row,) = json_rows("totals", "--tree", *map(str, named))
            assert (row["rss"], row["processes"], row["unread"]) == (expected, 1, 0)
        # Alone it has what it has.
        (row,) = json_rows("totals", "--tree", str(child))
        assert (row["rss"], row["processes"], row["unread"]) == (expected, 1, 0)
        rows = {row["pid"]: row for row in json_rows("ps", "--tree")}
        assert (rows[parent]["tree_rss"], rows[parent]["tree_processes"]) == (expected, 1)
        assert (rows[child]["rss"], rows[child]["depth"]) == (None, rows[parent]["depth"] + 1)
        groups = {row["comm"]: row for row in json_rows("ps", "--by", "comm")}
        assert [groups[shared_memory.NAME][name] for name in ("processes", "unread", "rss")] == [
            1, 0, expected,
        ]  # fmt: skip


@pytest.mark.parametrize("role", FAMILIES)
def test_counted_once(backend: ModuleType, program: str, role: str) -> None:
    with sharing_processes(program, role) as members:
        for order in (members, members[::-1]):
            is_counted_once(fastsmaps.scan(order), members)
            is_counted_once(fastsmaps.scan(order, workers=2), members)
            is_counted_once(fastsmaps.scan(order, timeout=60), members)
        scan = fastsmaps.scan()
        is_counted_once(scan._part(scan.by_pid[pid] for pid in members), members)
        again = pickle.loads(pickle.dumps(scan))
        assert list(again) == list(scan)
        assert again.sharing_known == scan.sharing_known


@pytest.mark.parametrize("role", FAMILIES)
def test_asked_for_alone(backend: ModuleType, program: str, role: str) -> None:
    """Nothing else counts it there."""
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


def test_limits_hold(backend: ModuleType, program: str) -> None:
    with sharing_processes(program, "vfork") as members:
        scan = fastsmaps.scan(members, max_rss=1)
        assert [row.shares_memory_with for row in scan] == [None, None]
        assert scan.coverage["skipped"] == 2
        scan = fastsmaps.scan(members, min_rss=1)
        is_counted_once(scan, members)


def test_two_that_their_creator_left(backend: ModuleType, program: str) -> None:
    with sharing_processes(program, "creator-exec") as (creator, first, second):
        shared_memory.wait_for_exec("sleep", creator)
        for order in ([first, second, creator], [creator, second, first]):
            scan = fastsmaps.scan(order)
            assert scan.by_pid[creator].outcome == "read"
            is_counted_once(fastsmaps.scan([first, second]), [first, second])
            assert scan.by_pid[second].shares_memory_with == first


def test_groups_trees_and_columns(backend: ModuleType, program: str) -> None:
    with sharing_processes(program, "vfork") as members:
        scan = fastsmaps.scan()
        (group,) = [
            one for name, one in scan.group_by("comm").items() if name == shared_memory.NAME
        ]
        assert (group.count, group.totals) == (1, scan.by_pid[members[0]].totals)
        tree = scan.descendants(members[0])
        assert tree.totals() == group.totals
        assert scan.column("shares_memory_with")[list(scan.by_pid).index(members[1])] == members[0]
        grouping = grouped(scan, keys_of("comm"))[shared_memory.NAME,]
        assert (grouping.processes, grouping.unread, grouping.pss) == (1, 0, group.totals.pss)
        (branch,) = forest(tree)
        assert (branch.processes, branch.read, branch.totals) == (1, 1, group.totals)


def test_forks_are_all_counted(backend: ModuleType, program: str) -> None:
    with sharing_processes(program, "fork") as members:
        scan = fastsmaps.scan(members)
        assert [row.outcome for row in scan] == ["read", "read"]
        assert scan.sharing_known
        assert not sharing.waits_in_vfork(members[1], members[0], Source("/proc"))


def test_many_forks(backend: ModuleType) -> None:
    """Prefork servers, whose children do nothing: to the byte they may be the same."""
    with processes.forked() as first, processes.forked() as second, processes.forked() as third:
        scan = fastsmaps.scan([os.getpid(), first, second, third])
        assert scan.coverage["read"] == 4
        assert scan.sharing_known
        places = _backend.same_memory(pids(first, os.getpid(), second, third, first))
        assert places == [0, 1, 2, 3, 0]


def test_a_fork_between_vfork_and_exec(backend: ModuleType, program: str) -> None:
    with sharing_processes(program, "worker") as (worker, child):
        with fastsmaps.Process(worker) as process:
            master = process.info(heap=True).ppid
        assert master is not None
        scan = fastsmaps.scan([child, worker, master])
        assert [row.outcome for row in scan] == ["skipped", "read", "read"]
        assert scan[0].shares_memory_with == worker


def test_zombies_have_nothing_in_common(backend: ModuleType) -> None:
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


def test_same_memory(twins: Any, program: str) -> None:
    with sharing_processes(program, "chain") as members, processes.forked() as fork:
        gone = processes.dead_pid()
        numbers = pids(fork, members[2], gone, os.getpid(), *members, fork, 2**31 - 1)
        expected = [0, 1, None, 3, 1, 1, 1, 0, None]
        for name in ("c", "python"):
            assert _backend.exports(name)["same_memory"](numbers) == expected
            assert _backend.exports(name)["same_memory"](pids()) == []


# ---- what changes meanwhile


@pytest.fixture
def at_settling(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Functions to be called after all was read, before it is decided."""
    acts: list[Any] = []
    before = sweeper.Sweeper.settle

    def settle(self: sweeper.Sweeper) -> None:
        while acts:
            acts.pop()()
        before(self)

    monkeypatch.setattr(sweeper.Sweeper, "settle", settle)
    return acts


def test_an_exec_before_it_is_decided(
    backend: ModuleType, program: str, at_settling: list[Any]
) -> None:
    """It is another program then, which nothing else counts."""
    with processes.running(program, "vfork") as process:
        parent, child, _ = process.report

        def act() -> None:
            assert process.popen.stdin is not None
            process.popen.stdin.write(b"x")
            assert process.read_line() == [child, 0, 0]

        at_settling.append(act)
        scan = fastsmaps.scan([parent, child])
        assert [row.outcome for row in scan] == ["read", "read"]
        again = fastsmaps.totals(child)
        assert scan[1].totals is not None
        # Not Pss: it changes whenever another process maps the same libraries.
        assert (scan[1].totals.rss, scan[1].totals.private_dirty) == (
            again.rss,
            again.private_dirty,
        )


def test_an_end_before_it_is_decided(
    backend: ModuleType, program: str, at_settling: list[Any]
) -> None:
    with sharing_processes(program, "clone") as (parent, child):
        at_settling.append(lambda: end(child))
        scan = fastsmaps.scan([child, parent])
        assert [row.outcome for row in scan] == ["zombie", "read"]
    with sharing_processes(program, "clone") as (parent, child):
        # Nothing counts it any more but the child: the parent was read before it ended.
        at_settling.append(lambda: end(parent))
        scan = fastsmaps.scan([parent, child])
        assert [row.outcome for row in scan] == ["zombie", "read"]


def end(pid: int) -> None:
    os.kill(pid, 9)
    while not linux.main_thread_ended(pid):
        os.sched_yield()


# ---- who else adds up


def test_watching_a_tree(backend: ModuleType, program: str) -> None:
    with (
        sharing_processes(program, "vfork") as members,
        fastsmaps.Watch(members[0], tree=True) as watch,
    ):
        sample = watch.samples[0]
    assert (sample.processes, sample.unread) == (1, 0)
    assert sample.totals.rss is not None
    assert SIZE <= sample.totals.rss < 2 * SIZE


def test_libs(backend: ModuleType, program: str) -> None:
    for role in FAMILIES:
        with sharing_processes(program, role) as members:
            for numbers in (members, members[::-1]):
                found = fastsmaps.libs(numbers)
                assert found[program].processes == 1
                assert found.coverage["read"] == 1
                assert found.coverage["skipped"] == len(members) - 1
                assert found.errors == {pid: error_of(members[0]) for pid in members[1:]}
            for pid in members:
                assert fastsmaps.libs([pid])[program].processes == 1
    with sharing_processes(program, "fork") as members:
        assert fastsmaps.libs(members)[program].processes == 2


def test_a_sampler(backend: ModuleType, program: str) -> None:
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
        row = wait_for_figures(sampler, child)
        assert row.shares_memory_with is None
        assert row.totals is not None
        assert row.totals.rss == fastsmaps.totals(child).rss


def wait_for_figures(sampler: fastsmaps.Sampler, pid: int) -> fastsmaps.ProcessTotals:
    while True:
        row = sampler.sweep().by_pid[pid]
        if row.totals is not None:
            return row


@pytest.mark.host
def test_a_sampler_meets_them_one_by_one(backend: ModuleType, program: str) -> None:
    with fastsmaps.Sampler(budget=1) as sampler:
        sampler.sweep()
        for role in FAMILIES:
            with sharing_processes(program, role) as members:
                wait_for_figures(sampler, members[0])
                for _ in range(2):
                    scan = sampler.sweep()
                    is_counted_once(scan._part(scan.by_pid[pid] for pid in members), members)


def test_a_sampler_loses_the_one_that_was_counted(backend: ModuleType, program: str) -> None:
    with (
        sharing_processes(program, "clone") as (parent, child),
        fastsmaps.Sampler(budget=1) as sampler,
    ):
        assert sampler.sweep().by_pid[child].totals is None
        end(parent)
        row = wait_for_figures(sampler, child)
        assert row.totals is not None
        assert row.totals.rss == fastsmaps.totals(child).rss


@pytest.mark.parametrize("role", [*FAMILIES, "fork"])
def test_a_capture(backend: ModuleType, program: str, tmp_path: Path, role: str) -> None:
    with sharing_processes(program, role) as members:
        saved = fastsmaps.capture(tmp_path / "a", members[::-1])
    assert saved.sharing_known
    scan = fastsmaps.scan(procfs=tmp_path / "a", cgroup=True, cmdline=True)
    assert list(scan) == sorted(saved, key=lambda row: row.pid)
    assert scan.sharing_known
    if role == "fork":
        assert scan.coverage["read"] == 2
        return
    is_counted_once(scan, members)
    is_counted_once(saved, members)
    assert fastsmaps.libs(procfs=tmp_path / "a")[program].processes == 1
    with fastsmaps.Sampler(procfs=tmp_path / "a") as sampler:
        is_counted_once(sampler.sweep(), members)
        is_counted_once(sampler.sweep(), members)
    # Alone it is read, and the capture of a capture says the same.
    (row,) = fastsmaps.scan([members[1]], procfs=tmp_path / "a")
    assert row.outcome == "read"
    fastsmaps.capture(tmp_path / "b", procfs=tmp_path / "a")
    is_counted_once(fastsmaps.scan(procfs=tmp_path / "b"), members)


def test_notes_that_lie(backend: ModuleType, program: str, tmp_path: Path) -> None:
    """A capture cannot hide what has called exec since its fork, nor by naming who is not there."""
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


# ---- where nothing may be compared


@pytest.fixture
def incomparable(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where /proc is of another pid namespace."""
    monkeypatch.setattr("fastsmaps._source.source.Source.counts_ours", lambda _: False)


@pytest.mark.usefixtures("incomparable")
def test_a_parent_that_waits(backend: ModuleType, program: str) -> None:
    """What /proc shows is enough between vfork and exec."""
    with sharing_processes(program, "vfork") as members:
        for order in (members, members[::-1]):
            is_counted_once(fastsmaps.scan(order), members)
            assert fastsmaps.libs(order)[program].processes == 1
        with fastsmaps.Sampler() as sampler:
            scan = sampler.sweep()
            assert scan.by_pid[members[1]].shares_memory_with == members[0]


@pytest.mark.usefixtures("incomparable")
@pytest.mark.parametrize("role", ["clone", "chain", "siblings", "fork"])
def test_what_is_not_known_is_said(
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
def test_another_user(backend: ModuleType, program: str) -> None:
    """Neither may be read, so nothing counts twice."""
    with sharing_processes(program, "clone") as members:

        def inside() -> fastsmaps.Scan:
            linux.become(65534)
            return fastsmaps.scan(members)

        scan = processes.run_in_child(inside)
        assert [row.outcome for row in scan] == ["denied", "denied"]
        assert scan.sharing_known


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_the_right_to_read_but_not_to_compare(backend: ModuleType, program: str) -> None:
    """CAP_PERFMON alone, on newer kernels."""
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
        is_counted_once(first, waiting)
        assert second.coverage["read"] == 2
        assert not second.sharing_known


def test_a_foreign_namespace(backend: ModuleType, program: str) -> None:
    """The numbers of the outer /proc are nobody's here, or a stranger's."""
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
        is_counted_once(first, waiting)
        assert second.coverage["read"] == 2
        assert not second.sharing_known


@pytest.mark.parametrize("role", FAMILIES)
def test_among_many_forks(
    backend: ModuleType, program: str, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    """What its parent does not explain is compared with any number of others."""
    monkeypatch.setattr(sharing, "MAX_FORKS", 1)
    with sharing_processes(program, role) as members:
        is_counted_once(fastsmaps.scan(members[::-1]), members)
    with processes.forked() as first, processes.forked() as second:
        assert fastsmaps.scan([first, second, os.getpid()]).coverage["read"] == 3


def test_excluded_from_a_capture(backend: ModuleType, program: str, tmp_path: Path) -> None:
    with sharing_processes(program, "vfork") as (parent, child):
        fastsmaps.capture(tmp_path / "a", [parent, child])
        for exclude in ([parent], lambda row: row.pid == parent):
            for procfs in ("/proc", tmp_path / "a"):
                scan = fastsmaps.scan([parent, child], procfs=procfs, exclude=exclude)
                assert [row.outcome for row in scan] == ["skipped", "read"]
                assert [row.error for row in scan] == ["excluded", None]
