"""Live processes, and every outcome for one."""

from __future__ import annotations

import contextlib
import os
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
from fastsmaps._model.stat import cgroup_path
from support import linux, processes
from support.independent import DATA, read

pytestmark = [pytest.mark.usefixtures("backend", "no_leak"), pytest.mark.core]

# libc first: each program uses it.
LIBC = """
import ctypes, mmap, os, sys, threading
libc = ctypes.CDLL(None)
libc.sbrk.restype = ctypes.c_void_p
"""
WAIT = "print('ready', flush=True); sys.stdin.readline()\n"


@contextlib.contextmanager
def running(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start a Python process that runs `code`, prints "ready", and waits."""
    command = [sys.executable, "-c", LIBC + code, *arguments]
    pipe = subprocess.PIPE
    # A preloaded ASan would prevent a heap and locked memory.
    plain = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=plain) as child:
        try:
            yield child
        finally:
            child.kill()


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().rstrip("\n")


def say(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


def as_nobody(function: Callable[[], str]) -> str:
    """Return the function's result, or its exception, in a child of ours without rights."""

    def inside() -> str:
        linux.become(linux.NOBODY if os.geteuid() == 0 else os.geteuid())
        try:
            return function()
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    return processes.run_in_child(inside)


ODD = (
    r"""
import tempfile
directory = tempfile.mkdtemp()
keep = []
for name in (b"with space ", b"new\nline", b"esc\x1b[31m", b"\xff\xfe", b"a\\012b", b"x (deleted)",
             b"[heap]", b"Rss:                  12 kB", b"cr\r", b"gone"):
    path = os.path.join(os.fsencode(directory), name)
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 8192)
    area = mmap.mmap(fd, 8192)
    area[0] = 1
    keep.append(area)
    if name == b"gone":
        os.unlink(path)
fd = os.memfd_create("a memfd")
os.ftruncate(fd, 4096)
keep.append(mmap.mmap(fd, 4096))
keep.append(mmap.mmap(-1, 1 << 20))
heap = libc.sbrk(1 << 20)
if heap == ctypes.c_void_p(-1).value:
    heap = 0  # musl's sbrk() does not move the break
block = heap or ctypes.addressof(ctypes.c_char.from_buffer(keep[-1]))
ctypes.memset(block, 1, 1 << 19)
first = (block + 4095) // 4096 * 4096
libc.mprotect(ctypes.c_void_p(first + 4096 * 20), 4096 * 4, 1)
libc.mlock(ctypes.c_void_p(first), 4096 * 4)
print(directory, heap, flush=True)
"""
    + WAIT
)


@pytest.fixture
def odd(backend: ModuleType) -> Iterator[tuple[int, str, int]]:
    with running(ODD) as child:
        directory, heap = line(child).split()
        assert line(child) == "ready"
        try:
            yield child.pid, directory, int(heap)
        finally:
            shutil.rmtree(directory)


def awk(path: str) -> dict[str, int]:
    """Return the sums over a smaps file, in bytes, computed by another program."""
    program = "/^[A-Z].* kB$/ {sum[$1] += $2} END {for (f in sum) print f, sum[f]}"
    output = subprocess.run(["awk", program, path], capture_output=True, text=True, check=True)
    pairs = (text.split() for text in output.stdout.splitlines())
    return {label.rstrip(":"): int(size) * 1024 for label, size in pairs}


def test_values_equal_the_kernels(odd: tuple[int, str, int]) -> None:
    pid, directory, _ = odd
    mappings = fastsmaps.mappings(pid)
    records = read(Path(f"/proc/{pid}/smaps").read_bytes())
    assert [(m.start, m.end, m.raw_path, m.kind) for m in mappings] == [
        (r.start, r.end, r.name, r.kind) for r in records
    ]
    # Pages may be shared with other Python processes: Pss changes, Rss does not.
    assert mappings.column("rss").tolist() == [r.fields["Rss"] for r in records]
    sums = awk(f"/proc/{pid}/smaps")
    rollup = awk(f"/proc/{pid}/smaps_rollup")
    for label in ("Rss", "Swap", "Locked", "Anonymous", "Private_Dirty"):
        assert mappings.totals()[label] == sums[label]
        assert fastsmaps.totals(pid)[label] == rollup[label]
    assert fastsmaps.totals(pid).source == "smaps_rollup"
    assert (fastsmaps.totals(pid).locked or 0) > 0
    plain = fastsmaps.mappings(pid, sizes=False)
    assert [(m.start, m.end, m.path) for m in plain] == [(m.start, m.end, m.path) for m in mappings]
    assert (mappings.pid, mappings.procfs) == (pid, "/proc")
    files = {m.filename: m for m in mappings if m.filename.startswith(directory)}
    names = {os.path.basename(name) for name in files}
    assert {"with space ", "new\nline", "gone", "[heap]", "cr\r"} <= names
    for name in ("with space ", "new\nline", "cr\r"):
        mapping = files[f"{directory}/{name}"]
        assert mapping.inode == os.stat(f"{directory}/{name}").st_ino
    assert files[f"{directory}/gone"].deleted
    assert all(mapping.kind == "file" for mapping in files.values())
    assert any(m.kind == "shmem" and m.path == "/memfd:a memfd (deleted)" for m in mappings)


def test_info_has_the_heap_and_the_other_facts(odd: tuple[int, str, int]) -> None:
    pid, _, grown_from = odd
    with fastsmaps.Process(pid) as process:
        info = process.info(heap=True)
        heap = [(m.start, m.end) for m in process.mappings() if m.kind == "heap"]
    assert info.heap == tuple(heap)
    assert info.start_brk is not None
    if grown_from:
        assert len(heap) >= 3  # split by mprotect
        assert info.start_brk <= grown_from
    assert info.start_brk <= heap[0][0] < heap[-1][1]
    assert (info.pid, info.ppid, info.threads) == (pid, os.getpid(), 1)
    assert info.cmdline is not None
    assert info.cmdline[0] == sys.executable
    assert info.uid == os.geteuid()
    assert info.peak_rss is not None
    assert info.peak_rss >= 4096 * 100
    assert info.start_time is not None
    assert info.start_time > 0


def test_an_ended_process_is_gone_even_if_pinned(backend: ModuleType) -> None:
    with running(WAIT) as child:
        assert line(child) == "ready"
        with fastsmaps.Process(child.pid) as process:
            assert process.totals().rss
            assert len(process.mappings()) > 10
            child.kill()
            child.wait()
            for call in (process.totals, process.mappings, process.info):
                with pytest.raises(fastsmaps.ProcessGone) as caught:
                    call()
                assert caught.value.pid == child.pid
        for function in (fastsmaps.totals, fastsmaps.mappings, fastsmaps.Process):
            with pytest.raises(fastsmaps.ProcessGone):
                function(child.pid)


def test_a_zombie_has_no_memory_map(backend: ModuleType) -> None:
    with running(WAIT) as child:
        assert line(child) == "ready"
        with fastsmaps.Process(child.pid) as process:
            process.totals()
            child.kill()
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            for call in (process.totals, process.mappings):
                with pytest.raises(fastsmaps.NoMemoryMap, match="zombie"):
                    call()
            assert process.info(heap=True).heap == ()
        with pytest.raises(fastsmaps.NoMemoryMap) as caught:
            fastsmaps.mappings(child.pid, sizes=False)
        assert caught.value.what == "zombie"


def read_to_its_end(pid: int, whole: int) -> None:
    while True:
        assert len(fastsmaps.mappings(pid)) == whole


def test_a_process_killed_meanwhile_gives_no_partial_table(backend: ModuleType) -> None:
    many = """
area = mmap.mmap(-1, 4000 * 8192)
start = ctypes.addressof(ctypes.c_char.from_buffer(area))
for i in range(0, 4000, 2):
    libc.mprotect(ctypes.c_void_p(start + i * 8192), 8192, 1)
"""
    for _ in range(5):
        with running(many + WAIT) as child:
            assert line(child) == "ready"
            whole = len(fastsmaps.mappings(child.pid, sizes=False))
            assert whole > 4000
            killer = threading.Thread(target=child.kill)
            killer.start()
            with pytest.raises((fastsmaps.ProcessGone, fastsmaps.NoMemoryMap)) as caught:
                read_to_its_end(child.pid, whole)
            assert caught.value.pid == child.pid
            killer.join()


def test_an_exec_is_followed_by_a_kept_descriptor(backend: ModuleType) -> None:
    program = "import sys; x = b'x' * 50_000_000; print('new', flush=True); sys.stdin.readline()"
    again = f"os.execv(sys.executable, [sys.executable, '-c', {program!r}])"
    with running(WAIT + again) as child:
        assert line(child) == "ready"
        with fastsmaps.Process(child.pid) as process:
            before = process.totals().rss
            count = len(process.mappings())
            say(child)
            assert line(child) == "new"
            after = process.totals().rss
            assert before is not None
            assert after is not None
            assert after > before + 40_000_000
            assert count > 0
            assert process.mappings().totals().rss == after


def test_an_exited_main_thread_is_read_through_another(backend: ModuleType) -> None:
    code = """
def stay():
    main.join(0.0)
    stat = f'/proc/self/task/{os.getpid()}/stat'
    while open(stat).read().rpartition(')')[2].split()[0] != 'Z':
        pass
    print('ready', flush=True)
    sys.stdin.readline()
main = threading.main_thread()
threading.Thread(target=stay).start()
libc.pthread_exit(None)
"""
    with running(code) as child:
        assert line(child) == "ready"
        assert (fastsmaps.totals(child.pid).rss or 0) > 1_000_000
        assert len(fastsmaps.mappings(child.pid)) > 10


def test_a_kernel_thread_has_no_memory_map(backend: ModuleType) -> None:
    try:
        flags = int(Path("/proc/2/stat").read_text().rpartition(")")[2].split()[6])
    except OSError:
        flags = 0
    if not flags & 0x200000:
        pytest.skip("no kernel thread can be seen in this pid namespace")
    for function in (fastsmaps.totals, fastsmaps.mappings):
        with pytest.raises(fastsmaps.NoMemoryMap, match="kernel thread"):
            function(2)


def test_a_refusal_names_the_missing_right(backend: ModuleType) -> None:
    # A process of root's, read as nobody; or init, if the tests run as nobody.
    target = os.getpid() if os.geteuid() == 0 else 1
    for function in (fastsmaps.totals, fastsmaps.mappings):
        text = as_nobody(lambda function=function: repr(function(target)))  # type: ignore[misc]
        assert text.startswith("AccessDenied: ")
        assert "CAP_SYS_PTRACE" in text
        assert ("hidepid" if linux.hides_processes() else "CAP_PERFMON") in text
    if not linux.hides_processes():
        info = as_nobody(lambda: str(fastsmaps.Process(target).info(heap=True).start_brk))
        assert info == "None"


def test_a_wrong_pid_is_a_type_or_value_error(backend: ModuleType) -> None:
    for function in (fastsmaps.totals, fastsmaps.mappings, fastsmaps.Process):
        for wrong in (1.5, None, True, b"1", [1]):
            with pytest.raises(TypeError, match="pid"):
                function(wrong)  # type: ignore[arg-type]
        for number in (0, -1, 2**31, "1", ""):
            with pytest.raises(ValueError, match="pid"):
                function(number)
        with pytest.raises(fastsmaps.ProcessGone):
            function(2**31 - 1)


def test_a_threads_number_names_its_process(backend: ModuleType) -> None:
    started = threading.Event()
    done = threading.Event()
    tids: list[int] = []

    def body() -> None:
        tids.append(threading.get_native_id())
        started.set()
        done.wait()

    thread = threading.Thread(target=body)
    thread.start()
    started.wait()
    try:
        for procfs in ("/proc", "/proc/"):
            for function in (fastsmaps.totals, fastsmaps.mappings, fastsmaps.Process):
                with pytest.raises(fastsmaps.Error, match=f"thread of process {os.getpid()}"):
                    function(tids[0], procfs=procfs)
    finally:
        done.set()
        thread.join()


def test_a_wrong_procfs_is_reported(backend: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for wrong in (tmp_path, tmp_path / "nothing", file):
        for function in (fastsmaps.totals, fastsmaps.mappings, fastsmaps.Process):
            with pytest.raises(fastsmaps.Error, match="procfs=") as caught:
                function(1, procfs=wrong)
            assert not isinstance(caught.value, fastsmaps.ProcessGone)
    with pytest.raises(TypeError):
        fastsmaps.totals(1, procfs=b"/proc")  # type: ignore[arg-type]


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """Make a capture: zoo, its child, a zombie and a kernel thread as 10, 11, 12 and 13."""
    for number, name in enumerate(("zoo", "child", "zombie", "kthread"), 10):
        shutil.copytree(DATA / "captures/6.12-amd64" / name, tmp_path / str(number))
    return tmp_path


def test_a_capture_is_read_as_proc(backend: ModuleType, capture: Path) -> None:
    expected = read((capture / "10/smaps").read_bytes())
    totals = fastsmaps.totals(10, procfs=capture)
    assert totals.source == "smaps_rollup"
    assert totals.rss == sum(record.fields["Rss"] for record in expected)
    assert len(fastsmaps.mappings(10, procfs=capture)) == len(expected)
    assert len(fastsmaps.mappings(10, sizes=False, procfs=capture)) == len(expected)
    with fastsmaps.Process(11, procfs=capture) as process:
        info = process.info(heap=True)
        assert info.comm == "zoo (child) x)"
        assert process.totals() == process.totals()
        assert info.heap == tuple(
            (r.start, r.end) for r in read((capture / "11/smaps").read_bytes()) if r.kind == "heap"
        )
    with pytest.raises(fastsmaps.NoMemoryMap, match="zombie"):
        fastsmaps.mappings(12, procfs=capture)
    with pytest.raises(fastsmaps.NoMemoryMap, match="kernel thread"):
        fastsmaps.mappings(13, procfs=capture)
    with pytest.raises(fastsmaps.NotCaptured, match="does not hold process 14"):
        fastsmaps.totals(14, procfs=capture)


@pytest.mark.thread_unsafe(reason="removes files that all read")
def test_without_a_rollup_smaps_is_summed(backend: ModuleType, capture: Path) -> None:
    rollup = fastsmaps.totals(10, procfs=capture)
    (capture / "10/smaps_rollup").unlink()
    totals = fastsmaps.totals(10, procfs=capture)
    assert (totals.source, totals.rss) == ("smaps", rollup.rss)
    assert totals.size is not None
    (capture / "10/smaps").unlink()
    for function in (fastsmaps.totals, fastsmaps.mappings):
        with pytest.raises(fastsmaps.NotCaptured, match="missing from the capture"):
            function(10, procfs=capture)
    (capture / "self").symlink_to("10")  # now it claims to be a procfs
    with pytest.raises(fastsmaps.NotSupported, match="CONFIG_PROC_PAGE_MONITOR"):
        fastsmaps.mappings(10, procfs=capture)


@pytest.mark.thread_unsafe(reason="cuts off files that all read")
def test_a_damaged_capture_is_named(backend: ModuleType, capture: Path) -> None:
    for name in ("smaps", "smaps_rollup"):
        (capture / "10" / name).write_bytes((capture / "10" / name).read_bytes()[:150])
    for function in (fastsmaps.totals, fastsmaps.mappings):
        with pytest.raises(fastsmaps.ParseError, match="/10/smaps") as caught:
            function(10, procfs=capture)
        assert caught.value.pid == 10


@pytest.mark.thread_unsafe(reason="writes a file that all read")
def test_a_start_time_beyond_a_float_is_damage(backend: ModuleType, capture: Path) -> None:
    text = (capture / "10/stat").read_bytes()
    comm, closed, rest = text.rpartition(b")")
    fields = rest.split(b" ")
    fields[20] = b"9" * 400  # field 22, the start time
    (capture / "10/stat").write_bytes(comm + closed + b" ".join(fields))
    with pytest.raises(fastsmaps.ParseError, match="not a stat line"):
        fastsmaps.Process(10, procfs=capture).info(heap=True)
    assert fastsmaps.scan([10], procfs=capture).coverage["failed"] == 1


@pytest.mark.thread_unsafe(reason="limits the process's descriptors")
def test_other_failures_keep_their_errno(backend: ModuleType, capture: Path) -> None:
    (capture / "10/smaps").unlink()
    (capture / "10/smaps").mkdir()
    with pytest.raises(fastsmaps.ReadError) as caught:
        fastsmaps.mappings(10, procfs=capture)
    assert caught.value.strerror is not None
    assert caught.value.errno == 21
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(fastsmaps.ReadError) as caught:
            fastsmaps.totals("self")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.errno == 24


@pytest.mark.thread_unsafe(reason="counts descriptors")
def test_a_dropped_process_closes_its_descriptors(backend: ModuleType) -> None:
    before = processes.descriptors()
    process = fastsmaps.Process("self")
    process.totals()
    process.mappings()
    assert len(processes.descriptors()) > len(before)
    process.close()
    process.close()
    with pytest.raises(ValueError, match="closed"):
        process.totals()
    assert fastsmaps.Process("self").totals().rss
    assert processes.descriptors() == before


@pytest.mark.thread_unsafe(reason="waits for a signal")
def test_signals_arrive_and_threads_share_a_process(backend: ModuleType) -> None:
    heard = []
    old = signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
    try:
        for _ in range(20):
            os.kill(os.getpid(), signal.SIGUSR1)
            assert len(fastsmaps.mappings()) > 10
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert heard
    counts: list[int] = []
    path = DATA / "captures/7.2-amd64/zoo/smaps"

    def body() -> None:
        counts.extend(len(fastsmaps.load(path)) for _ in range(20))
        assert fastsmaps.totals().rss

    threads = [threading.Thread(target=body) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [110] * 80


def test_a_cgroup_name_may_hold_any_character() -> None:
    assert cgroup_path(b"0::/a\rb\x0bc\n", 1, "cgroup") == "/a\rb\x0bc"
    assert cgroup_path(b"4:memory:/m\n0::/\n", 1, "cgroup") == "/m"
    assert cgroup_path(b"", 1, "cgroup") is None
