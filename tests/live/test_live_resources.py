"""Descriptors, memory, signals, threads and forks of the reading process."""

from __future__ import annotations

import copy
import errno
import gc
import itertools
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import fastsmaps
from fastsmaps import _backend
from fastsmaps._source.chunks import CHUNK_SIZE, CHUNKS
from support import linux, processes
from support.threads import run_in_threads

pytestmark = pytest.mark.usefixtures("no_leak")

MANY = 45_000  # as in test_live_outcomes.py: a read of these checks for signals midway


@pytest.fixture(scope="module")
def many() -> Iterator[processes.Process]:
    with processes.workload("many", str(MANY)) as child:
        if child.report < MANY:
            pytest.skip(f"vm.max_map_count allows {child.report} mappings, not {MANY}")
        yield child


def starts(table: fastsmaps.Mappings) -> list[int]:
    return table.column("start").tolist()


# ---- descriptors


def test_no_descriptor_left_after_errors(
    backend: ModuleType, idle: processes.Process, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "smaps").write_bytes(b"nonsense\n")
    (tmp_path / "7" / "smaps_rollup").write_bytes(b"nonsense\n")
    (tmp_path / "7" / "maps").mkdir()
    (tid,) = idle.request("threads", 1)
    gone = processes.dead_pid()
    cases: list[tuple[int, str | Path]] = [
        (gone, "/proc"),
        (tid, "/proc"),
        (7, tmp_path),
        (8, tmp_path),
        (7, tmp_path / "file"),
        (7, tmp_path / "missing"),
    ]
    with processes.zombie() as pid:
        cases.append((pid, "/proc"))
        before = processes.descriptors()
        for case, procfs in cases:
            for sizes in (True, False):
                with pytest.raises(fastsmaps.Error):
                    fastsmaps.mappings(case, sizes=sizes, procfs=procfs)
            with pytest.raises(fastsmaps.Error):
                fastsmaps.totals(case, procfs=procfs)
            with (
                pytest.raises(fastsmaps.Error),
                fastsmaps.Process(case, procfs=procfs) as process,
            ):
                process.totals()
            assert processes.descriptors() == before, (case, procfs)


def test_dropped_process_closes_descriptors(backend: ModuleType, idle: processes.Process) -> None:
    before = processes.descriptors()
    process = fastsmaps.Process(idle.pid)
    process.totals()
    process.mappings()
    assert len(processes.descriptors()) == len(before) + 3
    del process
    gc.collect()
    assert processes.descriptors() == before


def test_process_cannot_be_copied_or_pickled(backend: ModuleType, idle: processes.Process) -> None:
    """A copy would close the original's descriptors, or later ones with the same numbers."""
    with fastsmaps.Process(idle.pid) as process:
        for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="neither copied nor pickled"):
                duplicate(process)
        assert process.totals().rss


def test_no_descriptor_is_inherited(backend: ModuleType, idle: processes.Process) -> None:
    with fastsmaps.Process(idle.pid) as process:
        before = processes.descriptors()
        process.totals()
        process.mappings()
        new = processes.descriptors().keys() - before.keys()
        assert len(new) == 2
        assert not any(os.get_inheritable(int(fd)) for fd in new)


def test_no_free_descriptor_raises_emfile(backend: ModuleType, idle: processes.Process) -> None:
    def read_all() -> list[tuple[int | None, bool]]:
        errors = []
        process = fastsmaps.Process(idle.pid)
        process.totals()
        reads: list[Callable[[], object]] = [
            lambda: fastsmaps.totals(idle.pid),
            lambda: fastsmaps.totals(),
            lambda: fastsmaps.mappings(idle.pid),
            lambda: fastsmaps.mappings(idle.pid, sizes=False),
            lambda: fastsmaps.Process(idle.pid),
            process.mappings,
            process.info,
        ]
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # A descriptor's number must be below the limit, so a limit of 0 leaves none.
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        for read in reads:
            try:
                read()
            except fastsmaps.ReadError as error:
                errors.append((error.errno, os.strerror(errno.EMFILE) in str(error)))
        assert process.totals().rss  # its descriptor is kept
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert all(read() for read in reads)
        return errors

    assert processes.run_in_child(read_all) == [(errno.EMFILE, True)] * 7


# ---- memory


def rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * linux.PAGE


def peak_of(call: Callable[[], object]) -> int:
    """Bytes by which the call raises the peak of this process's memory."""
    # 5 resets the peak to the current Rss: proc_pid_clear_refs(5).
    Path("/proc/self/clear_refs").write_text("5")
    before = rss()
    call()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 - before
    raise AssertionError("no VmHWM")


@pytest.mark.uninstrumented(reason="freed memory is kept")
def test_repeated_large_reads_do_not_grow_memory(backend: ModuleType) -> None:
    def read() -> int:
        def rss_after(count: int) -> int:
            for _ in range(count):
                fastsmaps.mappings(child.pid).column("rss")
            return rss()

        return -rss_after(4) + rss_after(12)

    with processes.workload("many", "20000") as child:
        # A table has 4 MB and more, so one leaked in four would be noticed. In pure Python a heap
        # that was still growing once added 3 MB.
        assert processes.run_in_child(read) < 10_000_000


@pytest.mark.uninstrumented(reason="freed memory is kept")
def test_repeated_small_reads_do_not_grow_memory(
    backend: ModuleType, idle: processes.Process
) -> None:
    gone = processes.dead_pid()

    def round_of_reads(process: fastsmaps.Process) -> None:
        fastsmaps.totals(idle.pid)
        fastsmaps.mappings(idle.pid)
        process.totals()
        process.mappings()
        process.info(heap=True)
        for _ in range(3):
            with pytest.raises(fastsmaps.ProcessGone):
                fastsmaps.totals(gone)
        with fastsmaps.Process(idle.pid) as other:
            other.totals()

    def read() -> int:
        with fastsmaps.Process(idle.pid) as process:
            for _ in range(30):
                round_of_reads(process)
            before = rss()
            for _ in range(100):
                round_of_reads(process)
            return rss() - before

    # Far below 10 kB per round, which makes two tables of 30 kB.
    assert processes.run_in_child(read) < 1_000_000


def test_peak_memory_excludes_text(backend: ModuleType, many: processes.Process) -> None:
    """33 MB of text pass through a buffer of constant size."""

    def read() -> tuple[int, int]:
        fastsmaps.mappings(os.getpid())  # one-time allocations
        fd = os.open(f"/proc/{many.pid}/smaps", os.O_RDONLY)
        table = peak_of(lambda: _backend.read(fd, CHUNK_SIZE, CHUNKS))
        sums = peak_of(lambda: _backend.total(fd, CHUNK_SIZE, CHUNKS))
        return table, sums

    text = len(Path(f"/proc/{many.pid}/smaps").read_bytes())
    table, sums = processes.run_in_child(read)
    if fastsmaps.BACKEND == "c":
        assert table < 640 * MANY < text
        assert sums < 1_000_000
    else:
        # A row has 890 bytes, the text 720 more. glibc fills much of a table from freed memory that
        # is still resident; musl returns that at once, so there the whole table counts.
        assert max(table, sums) < 1000 * MANY < 890 * MANY + text


# ---- signals


def test_signal_handler_runs_during_read(backend: ModuleType, many: processes.Process) -> None:
    counts: list[int] = []

    def act() -> None:
        counts.append(len(processes.descriptors()))

    before = len(processes.descriptors())
    with processes.interrupting(act) as done:
        table = fastsmaps.mappings(many.pid)
        assert done
    assert len(table) > MANY
    assert counts == [before + 1]  # smaps was open: the handler ran during the read
    assert starts(table) == starts(fastsmaps.mappings(many.pid))


@pytest.mark.parametrize("how", ["mappings", "Process", "kept", "sums"])
def test_sigint_interrupts_read(
    backend: ModuleType, many: processes.Process, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    def act() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    if how == "sums":
        processes.hide_files(monkeypatch, "smaps_rollup")
    process = fastsmaps.Process(many.pid)
    if how == "kept":
        process.mappings()
    reads: dict[str, Callable[[], object]] = {
        "mappings": lambda: fastsmaps.mappings(many.pid),
        "Process": process.mappings,
        "kept": process.mappings,
        "sums": lambda: fastsmaps.totals(many.pid),
    }
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with processes.interrupting(act), pytest.raises(KeyboardInterrupt):
            reads[how]()
    finally:
        signal.signal(signal.SIGINT, previous)
    assert reads[how]()  # the next read works
    assert starts(process.mappings(sizes=False)) == starts(
        fastsmaps.mappings(many.pid, sizes=False)
    )
    process.close()


# ---- threads


def test_concurrent_reads_in_threads(backend: ModuleType, idle: processes.Process) -> None:
    with processes.workload("many", "1000") as other:
        expected = {pid: starts(fastsmaps.mappings(pid)) for pid in (idle.pid, other.pid)}
        assert expected[idle.pid] != expected[other.pid]

        def read(pid: int) -> None:
            for _ in range(15):
                assert starts(fastsmaps.mappings(pid)) == expected[pid]
                assert starts(fastsmaps.mappings(pid, sizes=False)) == expected[pid]
                assert fastsmaps.totals(pid).rss

        run_in_threads(*(lambda pid=pid: read(pid) for pid in [*expected] * 2))


def test_threads_share_process_object_during_exec(backend: ModuleType, tmp_path: Path) -> None:
    """At each exec, threads close descriptors that other threads are reading."""
    files = {str(tmp_path / name) for name in "ab"}
    with processes.workload("marked", min(files)) as child, fastsmaps.Process(child.pid) as process:
        finished = threading.Event()
        before = processes.descriptors()

        def read() -> None:
            while not finished.is_set():
                for table in (process.mappings(), process.mappings(sizes=False)):
                    names = {mapping.path for mapping in table}
                    # One of the programs, or the new one before it maps its file; never both.
                    assert len(names & files) <= 1
                    # Only a mapping that grew between two reads may occur twice: the heap and the
                    # stack, and under musl the unnamed memory of malloc().
                    repeated = [b.path for a, b in itertools.pairwise(table) if b.start < a.end]
                    assert set(repeated) <= {"[heap]", "[stack]", ""}
                assert process.totals().rss is not None

        def act() -> None:
            try:
                for _ in range(5):
                    for file in sorted(files):
                        child.request("exec", "marked", file)
            finally:
                finished.set()

        run_in_threads(act, read, read, read)
        new = processes.descriptors().keys() - before.keys()
        assert len(new) <= 3
        assert {mapping.path for mapping in process.mappings()} & files == {max(files)}


# ---- forks


def test_reads_in_forked_child(backend: ModuleType, idle: processes.Process) -> None:
    with fastsmaps.Process(idle.pid) as process, fastsmaps.Process() as own:
        expected = starts(process.mappings())
        parents = starts(own.mappings())

        def read() -> tuple[bool, ...]:
            own_table = fastsmaps.mappings()
            return (
                starts(fastsmaps.mappings(idle.pid)) == expected,
                starts(process.mappings()) == expected,
                bool(process.totals().rss),
                own_table.pid == os.getpid() == fastsmaps.Process().pid != own.pid,
                # Still the process that opened it, not this child.
                own.info(heap=True).pid == os.getppid(),
                len(set(starts(own.mappings())) & set(parents)) > 10,
            )

        for _ in range(2):
            assert processes.run_in_child(read) == (True,) * 6
        # The child's reads use explicit offsets, so they did not move the file position.
        assert starts(process.mappings()) == expected


@pytest.mark.parametrize(("size", "count"), [(3000, 64), (15288, 12), (64440, 2), (3000, 1)])
def test_lock_wait_is_checked_with_any_chunk_size(
    many: processes.Process, twins: tuple[ModuleType, ModuleType], size: int, count: int
) -> None:
    """Chunks for larger pages and for a timeout: 33 MB, one check at least every half MB."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    code = (
        "import sys; from fastsmaps._backend import _csmaps\n"
        "with open(sys.argv[1], 'rb') as file: _csmaps.read(file.fileno(), *map(int, sys.argv[2:]))"
    )
    smaps = f"/proc/{many.pid}/smaps"
    done = subprocess.run(
        [
            *(strace, "-f", "-qq", "-e", "trace=getrusage", "-e", "signal=none"),
            *(sys.executable, "-c", code, smaps, str(size), str(count)),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode and "ptrace" in done.stderr:
        pytest.skip(f"strace is not permitted: {done.stderr}")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("getrusage(RUSAGE_THREAD") > len(Path(smaps).read_bytes()) // 500_000
