"""Processes that exit, exec, fork or start threads: a typed error or a complete result."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import pytest

import fastsmaps
from support import independent, linux, processes

pytestmark = pytest.mark.usefixtures("no_leak")

Read = Callable[[int], object]

#: Enough mappings that a read checks for signals midway: the extension does so every 12 MB.
MANY = 45_000


def by_process(read: Callable[[fastsmaps.Process], object]) -> Read:
    def through(pid: int) -> object:
        with fastsmaps.Process(pid) as process:
            return read(process)

    return through


READS: dict[str, Read] = {
    "totals": fastsmaps.totals,
    "mappings": fastsmaps.mappings,
    "maps": lambda pid: fastsmaps.mappings(pid, sizes=False),
    "Process.totals": by_process(fastsmaps.Process.totals),
    "Process.mappings": by_process(fastsmaps.Process.mappings),
    "Process.maps": by_process(lambda process: process.mappings(sizes=False)),
}
every_read = pytest.mark.parametrize("read", READS.values(), ids=READS)


def starts(table: fastsmaps.Mappings) -> list[int]:
    return table.column("start").tolist()


# ---- gone


@every_read
def test_dead_pid_raises_process_gone(backend: ModuleType, read: Read) -> None:
    pid = processes.dead_pid()
    with pytest.raises(fastsmaps.ProcessGone) as caught:
        read(pid)
    assert caught.value.errno == errno.ESRCH
    assert caught.value.pid == pid
    assert str(pid) in (caught.value.path or "")
    with pytest.raises(ProcessLookupError):
        read(pid)


def test_pinned_process_exits(backend: ModuleType) -> None:
    with processes.workload("idle") as child:
        process = fastsmaps.Process(child.pid)
        assert process.totals().rss
        assert len(process.mappings()) > 10
        assert process.info(heap=True).pid == child.pid
        child.kill()
        for _ in range(2):
            for read in (process.totals, process.mappings):
                with pytest.raises(fastsmaps.NoMemoryMap, match="zombie"):
                    read()
            assert process.info(heap=True).heap == ()
        child.reap()
        for _ in range(2):
            for call in (process.totals, process.mappings, process.info):
                with pytest.raises(fastsmaps.ProcessGone) as caught:
                    call()
                assert caught.value.pid == child.pid
        process.close()
        process.close()
        with pytest.raises(ValueError, match="closed"):
            process.totals()


@pytest.fixture
def many() -> Iterator[processes.Process]:
    with processes.workload("many", str(MANY)) as child:
        if child.report < MANY:
            pytest.skip(f"vm.max_map_count allows {child.report} mappings, not {MANY}")
        yield child


@pytest.mark.parametrize("change", ["reaped", "zombie", "exec"])
@pytest.mark.parametrize("how", ["mappings", "Process", "kept", "sums"])
def test_process_ends_or_execs_during_read(
    many: processes.Process,
    backend: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    change: str,
) -> None:
    """It ends or calls exec after a third of its text was read: that third is discarded."""

    def act() -> None:
        if change == "reaped":
            many.reap()
        elif change == "zombie":
            many.kill()
        else:
            many.request("exec", "idle")

    def read() -> object:
        if how == "mappings":
            return starts(fastsmaps.mappings(many.pid))
        if how == "sums":
            # As on a kernel without rollups: smaps is summed.
            return fastsmaps.totals(many.pid).size
        return starts(process.mappings())

    if how == "sums":
        processes.hide_files(monkeypatch, "smaps_rollup")
    process = fastsmaps.Process(many.pid)
    if how == "kept":
        assert len(process.mappings()) > MANY
    result: object = None
    caught = None
    with processes.interrupting(act) as done:
        try:
            result = read()
        except fastsmaps.Error as error:
            caught = error
        assert done, "the read ended within a millisecond: MANY is too small"
    if change == "reaped":
        assert isinstance(caught, fastsmaps.ProcessGone)
        assert caught.pid == many.pid
    elif change == "zombie":
        assert isinstance(caught, fastsmaps.NoMemoryMap)
        assert caught.what == "zombie"
    else:
        assert caught is None
        assert result == read()
        assert len(fastsmaps.mappings(many.pid)) < 1000
    process.close()


@pytest.mark.parametrize("reap", [True, False])
def test_process_killed_while_thread_reads(backend: ModuleType, reap: bool) -> None:
    for _ in range(3):
        with processes.workload("many", "20000") as child:
            full = len(fastsmaps.mappings(child.pid, sizes=False))
            reader = Reader(child.pid)
            reader.start()
            reader.first.wait()
            if reap:
                child.reap()
            else:
                child.kill()
            reader.join()
            assert set(reader.counts) == {full}
            assert isinstance(reader.error, (fastsmaps.ProcessGone, fastsmaps.NoMemoryMap))


class Reader(threading.Thread):
    """Thread that reads a process's mappings until a read fails."""

    def __init__(self, pid: int) -> None:
        super().__init__()
        self.pid = pid
        self.counts: list[int] = []
        self.error: BaseException | None = None
        self.first = threading.Event()

    def run(self) -> None:
        try:
            while True:
                self.counts.append(len(fastsmaps.mappings(self.pid)) or -1)
                self.first.set()
        except BaseException as error:
            self.error = error
        finally:
            self.first.set()


# ---- without memory


@every_read
def test_zombie(backend: ModuleType, read: Read) -> None:
    with processes.zombie() as pid:
        with pytest.raises(fastsmaps.NoMemoryMap, match=f"process {pid} is a zombie") as caught:
            read(pid)
        assert (caught.value.what, caught.value.pid) == ("zombie", pid)


@every_read
def test_kernel_thread(backend: ModuleType, read: Read) -> None:
    pid = processes.kernel_thread()
    if pid is None:
        pytest.skip("no kernel thread is visible")
    with pytest.raises(fastsmaps.NoMemoryMap, match=f"process {pid} is a kernel thread") as caught:
        read(pid)
    assert (caught.value.what, caught.value.pid) == ("kernel thread", pid)


def test_kernel_thread_read_by_unprivileged_user(backend: ModuleType) -> None:
    pid = processes.kernel_thread()
    if pid is None:
        pytest.skip("no kernel thread is visible")

    def read_all() -> list[str]:
        linux.become(linux.NOBODY if os.geteuid() == 0 else os.geteuid())
        outcomes = []
        for read in READS.values():
            try:
                read(pid)
            except fastsmaps.NoMemoryMap as error:
                outcomes.append(error.what)
            except fastsmaps.AccessDenied as error:
                outcomes.append("hidden" if "hidepid" in str(error) else str(error))
        return outcomes

    outcome = "hidden" if linux.hides_processes() else "kernel thread"
    assert processes.run_in_child(read_all) == [outcome] * len(READS)


# ---- threads


@every_read
def test_thread(backend: ModuleType, read: Read) -> None:
    with processes.workload("idle") as child:
        for tid in child.request("threads", 2):
            with pytest.raises(fastsmaps.Error) as caught:
                read(tid)
            assert type(caught.value) is fastsmaps.NotAProcess
            assert caught.value.process == child.pid
            assert str(caught.value) == f"{tid} is a thread of process {child.pid}"
            assert caught.value.pid == tid
        assert read(child.pid)


@pytest.mark.parametrize("procfs", ["/proc/", Path("/proc"), "//proc/.", "/proc/self/root/proc"])
def test_thread_under_other_procfs_paths(backend: ModuleType, procfs: str | Path) -> None:
    with processes.workload("idle") as child:
        (tid,) = child.request("threads", 1)
        for read in (
            lambda number: fastsmaps.totals(number, procfs=procfs),
            lambda number: fastsmaps.mappings(number, procfs=procfs),
            lambda number: fastsmaps.Process(number, procfs=procfs).close(),
        ):
            with pytest.raises(fastsmaps.NotAProcess, match=f"is a thread of process {child.pid}"):
                read(tid)
            read(child.pid)


def test_read_after_main_thread_exit(backend: ModuleType) -> None:
    with processes.workload("idle") as child, fastsmaps.Process(child.pid) as kept:
        before = kept.mappings(), kept.mappings(sizes=False), kept.totals()
        assert min(map(len, before[:2])) > 10
        tid = child.request("leave")
        assert linux.main_thread_ended(child.pid)
        assert Path(f"/proc/{child.pid}/smaps").read_bytes() == b""
        with fastsmaps.Process(child.pid) as new:
            reads: list[Callable[[], fastsmaps.Mappings]] = [
                lambda: fastsmaps.mappings(child.pid),
                kept.mappings,
                new.mappings,
                new.mappings,
            ]
            for read in reads:
                for attempt in processes.attempts(read, f"/proc/{child.pid}/task/{tid}/smaps"):
                    with attempt as (table, (text,)):
                        records = independent.read(text)
                        assert starts(table) == [record.start for record in records]
                        assert table.column("Pss").tolist() == [
                            record.fields["Pss"] for record in records
                        ]
                        assert table.pid == child.pid
            for process in (kept, new):
                assert starts(process.mappings(sizes=False)) == starts(table)
            assert starts(fastsmaps.mappings(child.pid, sizes=False)) == starts(table)
            rollup = f"/proc/{child.pid}/task/{tid}/smaps_rollup"
            for sums in (lambda: fastsmaps.totals(child.pid), kept.totals, new.totals):
                if os.path.exists(rollup):
                    for sums_attempt in processes.attempts(sums, rollup):
                        with sums_attempt as (totals, (text,)):
                            assert totals.source == "smaps_rollup"
                            assert totals.pss == independent.read(text)[0].fields["Pss"]


def test_exiting_threads_are_not_reported_as_process_gone(backend: ModuleType) -> None:
    """The main thread has ended, and each other thread starts the next one and ends."""
    with processes.workload("idle") as child:
        child.request("churn")
        while not linux.main_thread_ended(child.pid):
            os.sched_yield()
        successful = 0
        for _ in range(150):
            info = by_process(lambda process: process.info(heap=True))
            for read in (fastsmaps.totals, fastsmaps.mappings, info):
                try:
                    assert read(child.pid)
                except fastsmaps.ReadError as error:
                    assert error.errno == errno.EAGAIN  # noqa: PT017
                else:
                    successful += 1
        assert successful


# ---- exec


def test_exec_under_kept_descriptors(backend: ModuleType, tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in ("first", "second", "third")]
    with processes.workload("marked", files[0]) as child:
        opened = len(processes.descriptors())
        with fastsmaps.Process(child.pid) as process:
            for number, file in enumerate(files):
                if number:
                    child.request("exec", "marked", file)
                for _ in range(2):
                    for table in (process.mappings(), process.mappings(sizes=False)):
                        names = {mapping.path for mapping in table}
                        assert names & set(files) == {file}
                        assert starts(table) == starts(fastsmaps.mappings(child.pid))
                    assert (process.info(heap=True).cmdline or "?")[-1] == file
                    rollup = f"/proc/{child.pid}/smaps_rollup"
                    if os.path.exists(rollup):
                        for attempt in processes.attempts(process.totals, rollup):
                            with attempt as (totals, (text,)):
                                assert totals.by_label == independent.read(text)[0].fields
                                # One descriptor for the directory and one for each file.
                                assert len(processes.descriptors()) == opened + 4


def test_repeated_exec_during_reads(backend: ModuleType, tmp_path: Path) -> None:
    script = tmp_path / "again"
    script.write_text('exec /bin/sh "$0"\n')
    with contextlib.ExitStack() as stack:
        child = subprocess.Popen(["/bin/sh", script], stdin=subprocess.DEVNULL)
        stack.callback(child.wait)
        stack.callback(child.kill)
        process = stack.enter_context(fastsmaps.Process(child.pid))
        # On x86 the last record is always this page's, so a truncated table is noticed.
        last = fastsmaps.mappings(sizes=False)[-1].path
        reads: list[Callable[[], object]] = [
            lambda: fastsmaps.mappings(child.pid),
            lambda: fastsmaps.mappings(child.pid, sizes=False),
            process.mappings,
            lambda: process.mappings(sizes=False),
            lambda: fastsmaps.totals(child.pid),
            process.totals,
            process.info,
        ]
        results: list[object] = []
        for _ in range(60):
            for read in reads:
                try:
                    results.append(read())
                except fastsmaps.ReadError as error:
                    assert error.errno == errno.EAGAIN  # noqa: PT017
        assert len(results) > 100
        tables = [table for table in results if isinstance(table, fastsmaps.Mappings)]
        assert tables
        for table in tables:
            assert len(table) > 0
            assert last != "[vsyscall]" or table[-1].path == last


def test_no_descriptor_kept_for_fork_without_exec(backend: ModuleType) -> None:
    """A process that has not called exec since its fork may still share its parent's memory."""
    with processes.forked() as pid:
        opened = len(processes.descriptors())
        with fastsmaps.Process(pid) as process:
            assert process.totals().rss
            assert starts(process.mappings()) == starts(fastsmaps.mappings(pid))
            assert len(processes.descriptors()) == opened + 1


def test_opened_between_vfork_and_exec(program: str, backend: ModuleType) -> None:
    with processes.running(program, "vfork") as parent:
        pid, size = parent.report
        with fastsmaps.Process(pid) as process:
            # Its memory is still its parent's.
            for _ in range(2):
                assert (process.totals().rss or 0) >= size
                assert (process.mappings().totals().rss or 0) >= size
                assert process.info(heap=True).heap is not None
            before, _ = parent.request("go on")
            for _ in range(3):
                assert 0 < (process.totals().rss or 0) < size
                table = process.mappings()
                assert 0 < (table.totals().rss or 0) < size
                assert before & -linux.PAGE in starts(table)
                assert starts(process.mappings(sizes=False)) == starts(table)
                assert process.info(heap=True).start_brk == before
            assert (fastsmaps.totals(parent.pid).rss or 0) >= size
        parent.finish()


# ---- reused pids


def test_reused_pid_raises_process_gone(backend: ModuleType) -> None:
    def reuse_pid() -> tuple[bool, list[str]]:
        with processes.workload("idle") as first:
            pinned = fastsmaps.Process(first.pid)
            assert pinned.totals().rss
            assert len(pinned.mappings()) > 10
            untouched = fastsmaps.Process(first.pid)
            pid = first.pid
        linux.set_next_pid(pid)
        with processes.workload("idle") as second:
            if second.pid != pid:
                raise linux.Unavailable("the kernel assigned another pid")
            assert fastsmaps.totals(pid).rss
            assert len(fastsmaps.mappings(pid)) > 10
            outcomes = []
            for process in (pinned, untouched):
                for read in (process.totals, process.mappings, process.info, process.totals):
                    try:
                        outcomes.append(repr(read()))
                    except fastsmaps.ProcessGone as error:
                        outcomes.append(f"{error.pid} is gone")
            return outcomes == [f"{pid} is gone"] * 8, outcomes

    try:
        passed, outcomes = processes.run_in_namespaces(reuse_pid)
    except linux.Unavailable as error:
        pytest.skip(f"no pid namespace in which pids can be chosen: {error}")
    assert passed, outcomes


# ---- invalid pids

TYPES = [None, True, 1.0, b"1", [1], Fraction(1), object()]
VALUES = [0, -1, 2**31, 2**32 + 1, 2**64, -(2**70), "1", "", "self ", "thread-self", "self/task"]


@every_read
def test_invalid_pid_arguments(backend: ModuleType, read: Callable[[object], object]) -> None:
    for pid in TYPES:
        with pytest.raises(TypeError, match="pid"):
            read(pid)
    for pid in VALUES:
        with pytest.raises(ValueError, match="pid"):
            read(pid)


class Index:
    """A number that is not an int: it has only `__index__`."""

    def __index__(self) -> int:
        return os.getpid()


@every_read
def test_valid_pid_arguments(backend: ModuleType, read: Callable[[object], object]) -> None:
    for pid in ("self", os.getpid(), Index()):
        assert read(pid)


@every_read
def test_largest_pid_raises_process_gone(backend: ModuleType, read: Read) -> None:
    with pytest.raises(fastsmaps.ProcessGone):
        read(2**31 - 1)
