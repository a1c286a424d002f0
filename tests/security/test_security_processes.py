"""Processes that harm their readers: by what they change, claim, or use up.

And limits of the reader, reached while it reads: a clear error, nothing leaked.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import fastsmaps
from fastsmaps._backend.bounded import MARK, MAX_TEXT
from fastsmaps._model.stat import MAX_ARGUMENTS
from support import linux, processes
from support.commands import environment

pytestmark = pytest.mark.usefixtures("no_leak")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the programs below."""
    directory = tmp_path_factory.mktemp("programs")
    for name, source in (("restless", RESTLESS), ("boaster", BOASTER)):
        path = directory / f"{name}.c"
        path.write_text(source)
        with contextlib.suppress(FileNotFoundError):
            subprocess.run(["cc", "-O1", "-pthread", "-o", directory / name, path], check=True)
            continue
        pytest.skip("no C compiler")
    return directory


# ---- what a process claims

# Its command line is a gigabyte of untouched memory: PR_SET_MM_MAP needs no privilege.
BOASTER = r"""
#define _GNU_SOURCE
#include <linux/prctl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(void)
{
    size_t size = (size_t)1 << 30;
    char *block = mmap(0, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    char text[4096], *at;
    uint64_t field[64] = {0};
    struct prctl_mm_map map = {0};
    FILE *stat = fopen("/proc/self/stat", "r");
    int i = 3;
    if (block == MAP_FAILED || !stat || !fgets(text, sizeof text, stat))
        return 1;
    for (at = strtok(strrchr(text, ')') + 2, " "); at && i < 64; at = strtok(0, " "))
        field[i++] = strtoull(at, 0, 10);
    map.start_code = field[26], map.end_code = field[27], map.start_stack = field[28];
    map.start_data = field[45], map.end_data = field[46], map.start_brk = field[47];
    map.brk = (uint64_t)sbrk(0), map.env_start = field[50], map.env_end = field[51];
    map.arg_start = (uint64_t)block, map.arg_end = (uint64_t)block + size, map.exe_fd = -1;
    puts(prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0) ? "refused" : "done");
    fflush(stdout);
    pause();
}
"""


@contextlib.contextmanager
def started(*command: str | Path) -> Iterator[tuple[int, str]]:
    """Start a program; give its pid and its first line of output."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as child:
        try:
            assert child.stdout is not None
            yield child.pid, child.stdout.readline().decode().strip()
        finally:
            child.kill()


def test_endless_command_line_is_cut(backend: ModuleType, programs: Path, tmp_path: Path) -> None:
    """A gigabyte could be read; only the documented amount is."""

    def within(pid: int) -> list[int]:
        size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (size + 300_000_000,) * 2)
        (row,) = fastsmaps.scan([pid], cmdline=True)
        assert row.cmdline is not None
        with fastsmaps.Process(pid) as process:
            info = process.info(heap=True)
        with fastsmaps.Sampler(cmdline=True) as sampler:
            sampled = sampler.sweep().by_pid[pid].cmdline
        fastsmaps.capture(tmp_path / f"{fastsmaps.BACKEND}.tar", [pid])
        (saved,) = fastsmaps.capture(tmp_path / fastsmaps.BACKEND, [pid])
        assert row.cmdline == info.cmdline == sampled == saved.cmdline
        return [len(row.cmdline), (tmp_path / fastsmaps.BACKEND / f"{pid}/cmdline").stat().st_size]

    with started(programs / "boaster") as (pid, said):
        if said != "done":
            pytest.skip("the kernel has no PR_SET_MM_MAP")
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            assert len(file.read(MAX_TEXT + 10)) == MAX_TEXT + 10
        # Its bytes are zeros; each ends an argument.
        assert processes.run_in_child(lambda: within(pid)) == [
            MAX_ARGUMENTS + 1,
            MAX_TEXT + len(MARK),
        ]


# ---- what a process changes

# One of its threads changes its name, one its mappings, one the protection of a part of them, and
# each exec makes it the other of the two programs. All names of a process are "a...", or all are
# "b...": the files it maps have the letter of its name.
RESTLESS = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static const char *file;
static char letter;

static void *rename_it(void *unused)
{
    char name[16];
    for (unsigned i = 0;; i++) {
        memset(name, letter, 15);
        name[i % 15] = "\n\x1b\"\\ )("[i % 7];
        name[0] = letter;
        name[15] = 0;
        FILE *comm = fopen("/proc/self/comm", "w");
        if (comm) {
            fputs(name, comm);
            fclose(comm);
        }
    }
    return unused;
}

static void *map_it(void *unused)
{
    size_t page = sysconf(_SC_PAGESIZE);
    int fd = open(file, O_RDONLY);
    for (unsigned i = 0;; i++) {
        char *block = mmap(0, 64 * page, PROT_READ, MAP_PRIVATE, fd, 0);
        if (block == MAP_FAILED)
            continue;
        for (int k = 1; k < 64; k += 2)
            mprotect(block + k * page, page, PROT_READ | PROT_WRITE);
        munmap(block, 64 * page);
    }
    return unused;
}

int main(int count, char **arguments)
{
    pthread_t thread;
    struct timespec moment = {0, 3000000};
    if (count != 3)
        return 2;
    file = arguments[1];
    letter = *strrchr(file, '/') ? strrchr(file, '/')[1] : 'x';
    pthread_create(&thread, 0, rename_it, 0);
    pthread_create(&thread, 0, map_it, 0);
    if (write(1, "done\n", 5) < 0)
        return 1;
    nanosleep(&moment, 0);
    execl(arguments[0], arguments[0], arguments[2], arguments[1], (char *)0);
    return 1;
}
"""


def test_restless_process_is_never_mixed_up(
    backend: ModuleType, programs: Path, tmp_path: Path
) -> None:
    """Name, mappings and program change constantly; each result is of one program, or an error."""
    files = [str(tmp_path / (letter * 3)) for letter in "ab"]
    for file in files:
        Path(file).write_bytes(bytes(64 * os.sysconf("SC_PAGE_SIZE")))
    with started(programs / "restless", *files) as (pid, said):
        assert said == "done"
        seen = dict.fromkeys(("table", "row", "totals", "unsteady"), 0)
        deadline = time.monotonic() + processes.TIMEOUT / 2
        while time.monotonic() < deadline and min(seen["table"], seen["row"], seen["totals"]) < 20:
            for sizes in (True, False):
                with unsteady(seen):
                    table = fastsmaps.mappings(pid, sizes=sizes)
                    # Of one program only, whatever it did meanwhile.
                    assert len({mapping.path for mapping in table} & {*files}) <= 1
                    seen["table"] += 1
            with unsteady(seen):
                assert fastsmaps.totals(pid).rss is not None
                seen["totals"] += 1
            (row,) = fastsmaps.scan([pid], cmdline=True)
            if row.outcome == "read":
                assert row.totals is not None
                assert row.totals.rss
                seen["row"] += 1
            else:
                assert row.error is not None
                assert "called exec" in row.error
            fastsmaps.libs([pid])
        assert min(seen["table"], seen["row"], seen["totals"]) > 0, seen


@contextlib.contextmanager
def unsteady(seen: dict[str, int]) -> Iterator[None]:
    """Accept the error for a process that calls exec during every attempt to read it."""
    try:
        yield
    except fastsmaps.ReadError as error:
        if error.errno != errno.EAGAIN:
            raise
        seen["unsteady"] += 1


# ---- limits of the reader


def captured(pid: int) -> int:
    try:
        return len(fastsmaps.capture("a.tar.gz", [pid]))
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink("a.tar.gz")


def sampled() -> int:
    with fastsmaps.Sampler(budget=1) as sampler:
        return len(list(sampler.sweep())) + len(list(sampler.sweep()))


READS: dict[str, Callable[[int], object]] = {
    "totals": lambda pid: fastsmaps.totals(pid),
    "mappings": lambda pid: list(fastsmaps.mappings(pid)),
    "column": lambda pid: fastsmaps.mappings(pid).column("pss"),
    "groups": lambda pid: fastsmaps.mappings(pid).group_by("path"),
    "scan": lambda pid: list(fastsmaps.scan([pid, os.getpid()], cmdline=True, cgroup=True)),
    "all": lambda pid: fastsmaps.scan().totals(),
    "libs": lambda pid: fastsmaps.libs([pid, os.getpid()]),
    "capture": captured,
    "Sampler": lambda pid: sampled(),
}
READ = "read"


def outcome_of(read: Callable[[int], object], pid: int) -> str:
    """Describe the result, or the error, in one word."""
    try:
        read(pid)
    except MemoryError:
        return "MemoryError"
    except fastsmaps.Error as error:
        return str(error)
    return READ


@pytest.fixture(scope="module")
def many() -> Iterator[processes.Process]:
    with processes.workload("many", "3000") as child:
        yield child


def outcomes_under(
    limit: int, heights: Callable[[], Iterator[int]], way: str, pid: int
) -> list[str]:
    """Read under each limit, in a fork; return the outcomes, and check that nothing leaked."""
    read = READS[way]

    def within() -> list[str]:
        assert outcome_of(read, pid) == READ  # for what is allocated and imported once
        before = processes.descriptors()
        soft, hard = resource.getrlimit(limit)
        outcomes = []
        for height in heights():
            resource.setrlimit(limit, (height, hard))
            try:
                outcomes.append(outcome_of(read, pid))
            finally:
                resource.setrlimit(limit, (soft, hard))
            assert processes.descriptors() == before
            assert outcome_of(read, pid) == READ
        return outcomes

    return processes.run_in_child(within)


@pytest.mark.host
@pytest.mark.uninstrumented(reason="ASan ends who has none")
@pytest.mark.parametrize("way", READS)
def test_out_of_memory_at_any_point(
    backend: ModuleType,
    many: processes.Process,
    way: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RLIMIT_AS at several heights: MemoryError or an answer."""
    monkeypatch.chdir(tmp_path)

    def heights() -> Iterator[int]:
        for room in (0, 100_000, 300_000, 1_000_000, 100_000_000):
            yield int(Path("/proc/self/statm").read_text().split()[0]) * linux.PAGE + room

    outcomes = outcomes_under(resource.RLIMIT_AS, heights, way, many.pid)
    assert os.listdir(tmp_path) == []
    assert outcomes[-1] == READ
    for outcome in outcomes:
        # The kernel may lack memory: for a temporary file, or for a procfs file.
        assert outcome in (READ, "MemoryError") or os.strerror(errno.ENOMEM) in outcome


@pytest.fixture(scope="module", params=["with its main thread", "without"])
def threaded(request: pytest.FixtureRequest) -> Iterator[processes.Process]:
    """Start a process whose main thread lives, and one whose main thread has exited."""
    with processes.workload("many", "3000") as child:
        if request.param == "without":
            child.request("leave")
        yield child


@pytest.mark.slow
@pytest.mark.parametrize("way", READS)
def test_out_of_descriptors_at_any_point(
    backend: ModuleType,
    threaded: processes.Process,
    way: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RLIMIT_NOFILE, one more each time: EMFILE by name, or an answer that says what is missing."""
    monkeypatch.chdir(tmp_path)

    def heights() -> Iterator[int]:
        used = processes.descriptors()
        # How many can be opened: none, one, ...
        yield from [number for number in range(1000) if str(number) not in used][:8]

    outcomes = outcomes_under(resource.RLIMIT_NOFILE, heights, way, threaded.pid)
    assert os.listdir(tmp_path) == []
    assert outcomes[-1] == READ
    assert outcomes[0] != READ
    for outcome in outcomes:
        assert outcome == READ or os.strerror(errno.EMFILE) in outcome


def test_scan_without_new_threads(
    backend: ModuleType, many: processes.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RLIMIT_NPROC: the threads that run do all the work."""
    started: list[threading.Thread] = []
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    pids = [many.pid, os.getpid(), os.getppid()]
    assert len(fastsmaps.scan(pids, workers=3)) == 3
    assert fastsmaps.libs(pids[:2], workers=2).coverage["read"] == 2
    assert len(started) == 1


def test_rows_name_the_missing_descriptor(backend: ModuleType, many: processes.Process) -> None:
    """Without descriptors, each row of a scan says so; no value is 0."""

    def within() -> list[tuple[str, str | None, bool]]:
        free = [number for number in range(1000) if str(number) not in processes.descriptors()]
        # One for the directory of procfs, one for a process's directory, none for its files.
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (free[2], hard))
        rows = fastsmaps.scan([many.pid, os.getppid()])
        return [(row.outcome, row.error, row.totals is None) for row in rows]

    for outcome, error, nothing in processes.run_in_child(within):
        assert outcome == "failed"
        assert error is not None
        assert os.strerror(errno.EMFILE) in error
        assert nothing


# ---- the command, with too little memory


@pytest.mark.uninstrumented(reason="so has ASan itself none")
@pytest.mark.parametrize("arguments", [("ps",), ("libs",), ("maps", "self")])
def test_command_without_memory_prints_one_line(
    backend: ModuleType, arguments: tuple[str, ...]
) -> None:
    """One line, whatever the limit; never a traceback. Wide letters need a module in C."""
    code = (
        "import resource, sys, os\n"
        "import fastsmaps, json\n"
        "from fastsmaps.cli.commands import libs, maps, ps\n"
        "from fastsmaps.cli.main import entry\n"
        "room = int(sys.argv.pop(1))\n"
        "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size + room, size + room))\n"
        "entry()\n"
    )
    wide = [sys.executable, "-c", "import sys; sys.stdin.read()", "\u6f22\u5b57"]
    with subprocess.Popen(wide, stdin=subprocess.PIPE):  # ends at the end of its input
        for room in (0, 200_000, 1_000_000):
            try:
                done = subprocess.run(
                    [sys.executable, "-c", code, str(room), *arguments],
                    env=environment(),
                    capture_output=True, text=True, check=False, timeout=processes.TIMEOUT,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                if sys.version_info >= (3, 14) or fastsmaps.BACKEND == "c":
                    raise
                pytest.skip("CPython unwinds for ever (python/cpython#132508)")
            assert done.returncode in (0, 1), (done.returncode, done.stderr)
            if done.returncode:
                assert "Traceback" not in done.stderr, done.stderr
                assert done.stderr.count("\n") == 1
