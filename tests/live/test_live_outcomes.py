"""What may happen to a process: it has its typed error or its right answer, never a part of one."""

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

#: Enough mappings that a read looks for signals within it: every 12 MB in the extension.
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
def test_gone_before(backend: ModuleType, read: Read) -> None:
    pid = processes.dead_pid()
    with pytest.raises(fastsmaps.ProcessGone) as caught:
        read(pid)
    assert caught.value.errno == errno.ESRCH
    assert caught.value.pid == pid
    assert str(pid) in (caught.value.path or "")
    with pytest.raises(ProcessLookupError):
        read(pid)


def test_gone_while_pinned(backend: ModuleType) -> None:
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


@pytest.mark.parametrize("fate", ["reaped", "zombie", "exec"])
@pytest.mark.parametrize("how", ["mappings", "Process", "kept", "sums"])
def test_amid_a_reading(
    many: processes.Process,
    backend: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    fate: str,
) -> None:
    """It ends, or calls exec, when a third of its text has been read: nothing of that is left."""

    def act() -> None:
        if fate == "reaped":
            many.reap()
        elif fate == "zombie":
            many.kill()
        else:
            many.request("exec", "idle")

    def read() -> object:
        if how == "mappings":
            return starts(fastsmaps.mappings(many.pid))
        if how == "sums":
            # Through a kernel's eyes that has no rollup: smaps is summed.
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
        assert done, "the reading ended within a millisecond: MANY is too few"
    if fate == "reaped":
        assert isinstance(caught, fastsmaps.ProcessGone)
        assert caught.pid == many.pid
    elif fate == "zombie":
        assert isinstance(caught, fastsmaps.NoMemoryMap)
        assert caught.what == "zombie"
    else:
        assert caught is None
        assert result == read()
        assert len(fastsmaps.mappings(many.pid)) < 1000
    process.close()


@pytest.mark.parametrize("reap", [True, False])
def test_killed_from_another_thread(backend: ModuleType, reap: bool) -> None:
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
    """Reads a process's mappings until that fails."""

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
        pytest.skip("no kernel thread is to be seen")
    with pytest.raises(fastsmaps.NoMemoryMap, match=f"process {pid} is a kernel thread") as caught:
        read(pid)
    assert (caught.value.what, caught.value.pid) == ("kernel thread", pid)


def test_kernel_thread_to_another_user(backend: ModuleType) -> None:
    pid = processes.kernel_thread()
    if pid is None:
        pytest.skip("no kernel thread is to be seen")

    def read() -> list[str]:
        linux.become(linux.NOBODY if os.geteuid() == 0 else os.geteuid())
        found = []
        for way in READS.values():
            try:
                way(pid)
            except fastsmaps.NoMemoryMap as error:
                found.append(error.what)
            except fastsmaps.AccessDenied as error:
                found.append("hidden" if "hidepid" in str(error) else str(error))
        return found

    outcome = "hidden" if linux.hides_processes() else "kernel thread"
    assert processes.run_in_child(read) == [outcome] * len(READS)


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
def test_thread_through_other_paths(backend: ModuleType, procfs: str | Path) -> None:
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


def test_main_thread_has_left(backend: ModuleType) -> None:
    with processes.workload("idle") as child, fastsmaps.Process(child.pid) as kept:
        before = kept.mappings(), kept.mappings(sizes=False), kept.totals()
        assert min(map(len, before[:2])) > 10
        tid = child.request("leave")
        assert linux.main_thread_ended(child.pid)
        assert Path(f"/proc/{child.pid}/smaps").read_bytes() == b""
        with fastsmaps.Process(child.pid) as anew:
            ways: list[Callable[[], fastsmaps.Mappings]] = [
                lambda: fastsmaps.mappings(child.pid),
                kept.mappings,
                anew.mappings,
                anew.mappings,
            ]
            for way in ways:
                for attempt in processes.attempts(way, f"/proc/{child.pid}/task/{tid}/smaps"):
                    with attempt as (table, (text,)):
                        records = independent.read(text)
                        assert starts(table) == [record.start for record in records]
                        assert table.column("Pss").tolist() == [
                            record.fields["Pss"] for record in records
                        ]
                        assert table.pid == child.pid
            for process in (kept, anew):
                assert starts(process.mappings(sizes=False)) == starts(table)
            assert starts(fastsmaps.mappings(child.pid, sizes=False)) == starts(table)
            rollup = f"/proc/{child.pid}/task/{tid}/smaps_rollup"
            for sums in (lambda: fastsmaps.totals(child.pid), kept.totals, anew.totals):
                if os.path.exists(rollup):
                    for instant in processes.attempts(sums, rollup):
                        with instant as (totals, (text,)):
                            assert totals.source == "smaps_rollup"
                            assert totals.pss == independent.read(text)[0].fields["Pss"]


def test_threads_that_end_are_no_process_that_ends(backend: ModuleType) -> None:
    """The main thread has left, and of the others each starts one more and ends."""
    with processes.workload("idle") as child:
        child.request("churn")
        while not linux.main_thread_ended(child.pid):
            os.sched_yield()
        read = 0
        for _ in range(150):
            info = by_process(lambda process: process.info(heap=True))
            for way in (fastsmaps.totals, fastsmaps.mappings, info):
                try:
                    assert way(child.pid)
                except fastsmaps.ReadError as error:
                    assert error.errno == errno.EAGAIN  # noqa: PT017
                else:
                    read += 1
        assert read


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
                                # The directory's, and one of each file.
                                assert len(processes.descriptors()) == opened + 4


def test_exec_again_and_again(backend: ModuleType, tmp_path: Path) -> None:
    script = tmp_path / "again"
    script.write_text('exec /bin/sh "$0"\n')
    with contextlib.ExitStack() as stack:
        child = subprocess.Popen(["/bin/sh", script], stdin=subprocess.DEVNULL)
        stack.callback(child.wait)
        stack.callback(child.kill)
        process = stack.enter_context(fastsmaps.Process(child.pid))
        # On x86 the last record is always this page's, so a table that lacks its end shows.
        last = fastsmaps.mappings(sizes=False)[-1].path
        ways: list[Callable[[], object]] = [
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
            for way in ways:
                try:
                    results.append(way())
                except fastsmaps.ReadError as error:
                    assert error.errno == errno.EAGAIN  # noqa: PT017
        assert len(results) > 100
        tables = [table for table in results if isinstance(table, fastsmaps.Mappings)]
        assert tables
        for table in tables:
            assert len(table) > 0
            assert last != "[vsyscall]" or table[-1].path == last


def test_fork_keeps_nothing(backend: ModuleType) -> None:
    """While a process has called no exec since its fork, its memory may be its parent's."""
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
            # What it has now is its parent's.
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


# ---- a number used again


def test_number_used_again(backend: ModuleType) -> None:
    def use_again() -> tuple[bool, list[str]]:
        with processes.workload("idle") as first:
            pinned = fastsmaps.Process(first.pid)
            assert pinned.totals().rss
            assert len(pinned.mappings()) > 10
            untouched = fastsmaps.Process(first.pid)
            number = first.pid
        linux.set_next_pid(number)
        with processes.workload("idle") as second:
            if second.pid != number:
                raise linux.Unavailable("the kernel gave another number")
            assert fastsmaps.totals(number).rss
            assert len(fastsmaps.mappings(number)) > 10
            outcomes = []
            for process in (pinned, untouched):
                for read in (process.totals, process.mappings, process.info, process.totals):
                    try:
                        outcomes.append(repr(read()))
                    except fastsmaps.ProcessGone as error:
                        outcomes.append(f"{error.pid} is gone")
            return outcomes == [f"{number} is gone"] * 8, outcomes

    try:
        fine, outcomes = processes.run_in_namespaces(use_again)
    except linux.Unavailable as error:
        pytest.skip(f"no pid namespace in which numbers can be chosen: {error}")
    assert fine, outcomes


# ---- numbers that are none

TYPES = [None, True, 1.0, b"1", [1], Fraction(1), object()]
VALUES = [0, -1, 2**31, 2**32 + 1, 2**64, -(2**70), "1", "", "self ", "thread-self", "self/task"]


@every_read
def test_what_is_no_pid(backend: ModuleType, read: Callable[[object], object]) -> None:
    for pid in TYPES:
        with pytest.raises(TypeError, match="pid"):
            read(pid)
    for pid in VALUES:
        with pytest.raises(ValueError, match="pid"):
            read(pid)


class Index:
    """Not an int, but usable as one."""

    def __index__(self) -> int:
        return os.getpid()


@every_read
def test_what_is_a_pid(backend: ModuleType, read: Callable[[object], object]) -> None:
    for pid in ("self", os.getpid(), Index()):
        assert read(pid)


@every_read
def test_pid_beyond_all(backend: ModuleType, read: Read) -> None:
    with pytest.raises(fastsmaps.ProcessGone):
        read(2**31 - 1)
