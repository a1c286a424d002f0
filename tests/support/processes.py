"""Real processes for the live tests: they are started here, tell what they did, and are ended.

Most run one of the roles in workloads.py: such a process says when it is ready, then stands still
until it is asked for something, and answers. So no test ever waits for time to pass.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import pickle
import select
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import pytest

from support.linux import (
    LIBC,
    MS_PRIVATE,
    MS_REC,
    PF_KTHREAD,
    PR_SET_PDEATHSIG,
    Unavailable,
    call,
    mount_proc,
    unshare,
)

T = TypeVar("T")
Json: TypeAlias = Any

#: Nothing here takes a tenth of this; a test that hangs must end nevertheless.
TIMEOUT = 120
WORKLOADS = str(Path(__file__).with_name("workloads.py"))


# ---- processes of another program


class Process:
    """A process that was started here; ``facts`` is what it said when it was ready."""

    def __init__(self, command: list[str]) -> None:
        self.popen = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self.pid = self.popen.pid
        self.report: Json = None

    def read_line(self) -> Json:
        """The next line that it says."""
        assert self.popen.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self.popen.stdout], [], [], TIMEOUT)
            block = self.popen.stdout.read(1) if ready else b""
            if not block:
                raise RuntimeError(f"{self.popen.args!r} said nothing more than {line!r}")
            line += block
        return json.loads(line)

    def request(self, *request: object) -> Json:
        """Asks for something, and gives the answer."""
        self.send(*request)
        return self.read_line()

    def send(self, *request: object) -> None:
        """Asks for something that has no answer."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps(request).encode() + b"\n")

    def finish(self) -> None:
        """Lets it end by itself, which it does when its standard input ends."""
        assert self.popen.stdin is not None
        self.popen.stdin.close()
        self.popen.wait()

    def kill(self) -> None:
        """Ends it; it stays a zombie until reap()."""
        self.popen.kill()
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def reap(self) -> None:
        """Ends it, and its number is free."""
        self.popen.kill()
        self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            assert pipe is not None
            pipe.close()


@contextlib.contextmanager
def running(*command: str) -> Iterator[Process]:
    """A process of this program, ready."""
    process = Process(list(command))
    try:
        process.report = process.read_line()
        yield process
    finally:
        process.reap()


@contextlib.contextmanager
def workload(role: str, *arguments: str) -> Iterator[Process]:
    """Start one of the roles in workloads.py; it is ready and stands still."""
    with running(sys.executable, "-EsSB", WORKLOADS, role, *arguments) as process:
        yield process


@contextlib.contextmanager
def forked() -> Iterator[int]:
    """The pid of a fork of this process, which stands still."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(theirs)
            os.read(ours, 1)
        finally:
            os._exit(0)
    os.close(ours)
    try:
        yield pid
    finally:
        os.close(theirs)
        os.waitpid(pid, 0)


@contextlib.contextmanager
def zombie() -> Iterator[int]:
    """The pid of a process that has ended and is not reaped."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        yield pid
    finally:
        os.waitpid(pid, 0)


def hide_files(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """As on a kernel whose procfs has no such files, for all that Python opens."""
    before = os.open

    def opened(path: Any, *arguments: Any, **options: Any) -> int:
        if os.fsdecode(path).rpartition("/")[2] in names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return before(path, *arguments, **options)

    monkeypatch.setattr(os, "open", opened)


def dead_pid() -> int:
    """A pid that was a process's a moment ago; numbers go round before they are used again."""
    with zombie() as pid:
        pass
    return pid


def kernel_thread() -> int | None:
    """The pid of one that can be seen; there is none in a pid namespace of one's own."""
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_bytes()
            if int(stat.rpartition(b")")[2].split()[6]) & PF_KTHREAD:
                return pid
    return None


C_PROGRAM = r"""
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* No malloc and no stdio: nothing but what is written here moves the break. */
static void say(const char *format, unsigned long a, unsigned long b)
{
    char line[200];
    int length = snprintf(line, sizeof line, format, a, b);
    if (write(1, line, length) != length)
        _exit(1);
}

static void stand_still(void)
{
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
}

int main(int count, char **arguments)
{
    long page = sysconf(_SC_PAGESIZE);
    if (count == 2 && !strcmp(arguments[1], "brk")) {
        char *before = sbrk(0);
        char *block = sbrk(32 * page);
        memset(block, 1, 32 * page);
        block = (char *)(((unsigned long)block + page - 1) & ~(page - 1));
        mprotect(block + 8 * page, 4 * page, PROT_READ);
        say("[%lu, %lu]\n", (unsigned long)before, (unsigned long)sbrk(0));
        stand_still();
        return 0;
    }
    if (count == 2 && !strcmp(arguments[1], "vfork")) {
        size_t size = 32 << 20;
        int flags = MAP_PRIVATE | MAP_ANONYMOUS;
        char byte, *block = mmap(0, size, PROT_READ | PROT_WRITE, flags, -1, 0);
        memset(block, 1, size);
        pid_t child = vfork();
        if (child == 0) {
            say("[%lu, %lu]\n", getpid(), size);
            if (read(0, &byte, 1) < 0)
                _exit(1);
            execl(arguments[0], arguments[0], "brk", (char *)0);
            _exit(1);
        }
        waitpid(child, 0, 0);
        return 0;
    }
    return 2;
}
"""


@contextlib.contextmanager
def namespace() -> Iterator[Process]:
    """A process that has the first one of a pid namespace with its own /proc as its child.

    Its facts are that one's pid as we count; /proc/<pid>/root/proc is what it sees.
    """
    with workload("namespace") as process:
        if "refused" in process.report:
            raise Unavailable(process.report["refused"])
        yield process


def compiled(directory: Path) -> str:
    """The program above; its roles are "brk" and "vfork"."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise Unavailable("no C compiler")
    source, program = directory / "processes.c", directory / "living"
    source.write_text(C_PROGRAM)
    subprocess.run([compiler, "-O1", "-o", program, source], check=True)
    return str(program)


# ---- this program, in other processes


def run_in_child(function: Callable[[], T]) -> T:
    """What the function gives in a fork of this process; what it raises is raised here."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(ours)
            # It must not outlive this process, nor hang.
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            signal.alarm(TIMEOUT)
            outcome: tuple[bool, Any]
            try:
                outcome = True, function()
            except BaseException as error:
                error.add_note(f"in a child process:\n{traceback.format_exc()}")
                outcome = False, error
            try:
                data = pickle.dumps(outcome)
            except Exception as error:
                data = pickle.dumps((False, RuntimeError(f"{error!r} for {outcome!r}")))
            with open(theirs, "wb") as pipe:
                pipe.write(data)
        finally:
            os._exit(0)
    os.close(theirs)
    with open(ours, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(child, 0)
    if not data:
        raise RuntimeError(f"a child process ended with status {status}")
    fine, value = pickle.loads(data)
    if not fine:
        raise value
    result: T = value
    return result


def run_in_namespaces(function: Callable[[], T], options: str | None = "") -> T:
    """run_in_child(), as the first process of a pid namespace that has a /proc of its own.

    `options` are those of its mount; with None /proc stays the outer one. Where nobody may
    make namespaces: Unavailable.
    """

    def inside() -> T:
        if options is not None:
            call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
            mount_proc("/proc", options)
        return function()

    def outside() -> T:
        unshare()
        return run_in_child(inside)

    return run_in_child(outside)


# ---- what is asked of this process


def descriptors() -> dict[str, str]:
    """The open descriptors of this process and where they lead."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            found[name] = os.readlink(f"/proc/self/fd/{name}")
    return found


def limit_descriptors(most: int) -> None:
    """Sets RLIMIT_NOFILE of this process, which should be a test's child."""
    import resource

    resource.setrlimit(
        resource.RLIMIT_NOFILE, (most, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    )


def next_descriptor() -> int:
    """The number above all that are open: Python and pytest have more or fewer of them."""
    return max(map(int, descriptors())) + 1


def fill_descriptors(free: int = 0) -> list[int]:
    """Opens all that may be opened, but for so many."""
    held = []
    with contextlib.suppress(OSError):
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    for _ in range(free):
        os.close(held.pop())
    return held


@contextlib.contextmanager
def same_descriptors() -> Iterator[None]:
    """Fails if a descriptor is open afterwards that was not before, or the other way round."""
    before = descriptors()
    yield
    after = descriptors()
    assert after == before, sorted(after.items() ^ before.items())


class Attempt(Generic[T]):
    """What was read of a process, and the files' texts beside it; see attempts()."""

    def __init__(self, value: T, texts: list[bytes], last: bool) -> None:
        self._told = value, texts
        self._last = last
        self.held = False

    def __enter__(self) -> tuple[T, list[bytes]]:
        return self._told

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        self.held = kind is None
        return kind is not None and issubclass(kind, AssertionError) and not self._last


def attempts(
    read: Callable[[], T], *files: str, labels: tuple[str, ...] = ("",)
) -> Iterator[Attempt[T]]:
    """What `read` gives while these files stand still, and their texts, until they agree once.

        for attempt in processes.attempts(lambda: fastsmaps.totals(pid), rollup):
            with attempt as (totals, (text,)):
                assert ...

    A process that stands still shares its libraries with others: Pss and Shared_* change with
    every page that one of those touches, and back. No number of equal readings in turns shows
    that the texts were read in the same state as the value: others come and go between all of
    them. What is asserted must therefore hold at one moment, not at the first; what the library
    gets wrong is wrong at each, and the last one's error is the test's. Where processes start
    without a pause, hundreds of tries fail one after the other (500 have), so only time says
    when to give up; and what takes long to read may never settle. Then name the `labels` that
    are compared, of lines that depend on no other process: Rss, Anonymous.
    """
    wanted = tuple(map(str.encode, labels))

    def still(texts: list[bytes]) -> list[bytes]:
        return [line for text in texts for line in text.splitlines() if line.startswith(wanted)]

    deadline = time.monotonic() + TIMEOUT
    texts: list[bytes] = []
    last = False
    while not last:
        before = texts
        value, texts = read(), [Path(file).read_bytes() for file in files]
        last = time.monotonic() > deadline
        if not last and still(before) != still(texts):
            continue
        moment = Attempt(value, texts, last)
        yield moment
        if moment.held:
            return


@contextlib.contextmanager
def interrupting(act: Callable[[], None]) -> Iterator[list[str]]:
    """Does something once, after a millisecond of this process's own work.

    The timer counts processor time: however busy the machine is, a read that takes tens of
    milliseconds has begun then, and has not ended. What is yielded is not empty once it is done.
    """
    done: list[str] = []

    def handle(_number: int, _frame: object) -> None:
        done.append("done")
        act()

    before = signal.signal(signal.SIGPROF, handle)
    # What is raised in a callback of the collector, such as hypothesis has one, is ignored.
    collects = gc.isenabled()
    gc.disable()
    signal.setitimer(signal.ITIMER_PROF, 0.001)
    try:
        yield done
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        if collects:
            gc.enable()
