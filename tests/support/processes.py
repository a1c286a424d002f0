"""Real processes for the live tests, and helpers for tests of this process's own descriptors.

Most processes run a role of workloads.py: they report when they are ready, then wait for requests
and answer them. So no test needs to sleep.
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

from fastsmaps import _backend
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

#: Seconds until a hanging test fails; nothing here takes a tenth of this.
TIMEOUT = 120
WORKLOADS = str(Path(__file__).with_name("workloads.py"))


def readable(*sources: int, timeout: float = TIMEOUT) -> list[int]:
    """Wait until descriptors can be read, at most `timeout` seconds; return those that can.

    select() refuses descriptors from 1024 on, which these are while a Sampler keeps those of a host
    with thousands of processes.
    """
    waiting = select.poll()
    for source in sources:
        waiting.register(source, select.POLLIN)
    return [source for source, _ in waiting.poll(1000 * timeout)]


# ---- processes that run another program


class Process:
    """A started process; ``report`` is the first line that it printed, as parsed JSON."""

    def __init__(self, command: list[str]) -> None:
        self.popen = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self.pid = self.popen.pid
        self.report: Json = None

    def read_line(self) -> Json:
        """Read the next line of its output."""
        assert self.popen.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            ready = readable(self.popen.stdout.fileno())
            block = self.popen.stdout.read(1) if ready else b""
            if not block:
                raise RuntimeError(f"{self.popen.args!r} printed only {line!r}")
            line += block
        return json.loads(line)

    def request(self, *request: object) -> Json:
        """Send a request, wait until the process is idle again, and return the answer."""
        self.send(*request)
        answer = self.read_line()
        self.wait_until_idle()
        return answer

    def wait_until_idle(self) -> None:
        """Wait until its main thread sleeps or has ended: until then its memory still changes."""
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            try:
                state = Path(f"/proc/{self.pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
            except OSError:
                return
            if state in b"SZX":
                return
            os.sched_yield()

    def send(self, *request: object) -> None:
        """Send a request that has no answer."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps(request).encode() + b"\n")

    def finish(self) -> None:
        """Close its standard input, so that it exits by itself, and wait for it."""
        assert self.popen.stdin is not None
        self.popen.stdin.close()
        self.popen.wait()

    def kill(self) -> None:
        """Kill it; it stays a zombie until reap()."""
        self.popen.kill()
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def reap(self) -> None:
        """Kill it and free its pid."""
        self.popen.kill()
        self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            assert pipe is not None
            pipe.close()


@contextlib.contextmanager
def running(*command: str) -> Iterator[Process]:
    """Start a command, wait for its first line, kill it at the end."""
    process = Process(list(command))
    try:
        process.report = process.read_line()
        yield process
    finally:
        process.reap()


@contextlib.contextmanager
def workload(role: str, *arguments: str) -> Iterator[Process]:
    """Start a role of workloads.py and wait until it is ready."""
    with running(sys.executable, "-EsSB", WORKLOADS, role, *arguments) as process:
        process.wait_until_idle()
        yield process


@contextlib.contextmanager
def forked() -> Iterator[int]:
    """Fork this process; yield the pid of the child, which only waits to be ended."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(writer)
            os.read(reader, 1)
        finally:
            os._exit(0)
    os.close(reader)
    try:
        yield pid
    finally:
        os.close(writer)
        os.waitpid(pid, 0)


@contextlib.contextmanager
def zombie() -> Iterator[int]:
    """Yield the pid of a process that has exited and is not reaped."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        yield pid
    finally:
        os.waitpid(pid, 0)


def hide_files(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let os.open() fail for files with these names, as on a kernel whose procfs lacks them."""
    real_open = os.open

    def fake_open(path: Any, *arguments: Any, **options: Any) -> int:
        if os.fsdecode(path).rpartition("/")[2] in names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return real_open(path, *arguments, **options)

    monkeypatch.setattr(os, "open", fake_open)
    # The extension opens files by itself. What these cannot read is read with os.open().
    for name in ("read_at", "rollup_at"):
        monkeypatch.setattr(_backend, name, lambda *_: None)


def dead_pid() -> int:
    """Return a pid that has just become free; the kernel reuses it only after all others."""
    with zombie() as pid:
        pass
    return pid


def kernel_thread() -> int | None:
    """Find the pid of a kernel thread; None in a pid namespace, where none is visible."""
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
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* No malloc and no buffered stdio: only the calls in this program move the break. */
static void report(const char *format, unsigned long a, unsigned long b)
{
    char line[200];
    int length = snprintf(line, sizeof line, format, a, b);
    if (write(1, line, length) != length)
        _exit(1);
}

static void wait_for_end_of_input(void)
{
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
}

int main(int count, char **arguments)
{
    long page = sysconf(_SC_PAGESIZE);
    if (count == 2 && !strcmp(arguments[1], "brk")) {
        /* By the system call: musl's sbrk() does not move the break. */
        char *before = (char *)syscall(SYS_brk, 0), *block = before;
        syscall(SYS_brk, before + 32 * page);
        memset(block, 1, 32 * page);
        block = (char *)(((unsigned long)block + page - 1) & ~(page - 1));
        mprotect(block + 8 * page, 4 * page, PROT_READ);
        report("[%lu, %lu]\n", (unsigned long)before, (unsigned long)syscall(SYS_brk, 0));
        wait_for_end_of_input();
        return 0;
    }
    if (count == 2 && !strcmp(arguments[1], "vfork")) {
        size_t size = 32 << 20;
        int flags = MAP_PRIVATE | MAP_ANONYMOUS;
        char byte, *block = mmap(0, size, PROT_READ | PROT_WRITE, flags, -1, 0);
        memset(block, 1, size);
        pid_t child = vfork();
        if (child == 0) {
            report("[%lu, %lu]\n", getpid(), size);
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
    """Start a pid namespace with its own /proc; yield the parent of its first process.

    Its report has that process's pid in our namespace; /proc/<pid>/root/proc is its /proc.
    """
    with workload("namespace") as process:
        if "unavailable" in process.report:
            raise Unavailable(process.report["unavailable"])
        yield process


def compiled(directory: Path) -> str:
    """Compile the program above and return its path; its roles are "brk" and "vfork"."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise Unavailable("no C compiler")
    source, program = directory / "processes.c", directory / "processes"
    source.write_text(C_PROGRAM)
    subprocess.run([compiler, "-O1", "-o", program, source], check=True)
    return str(program)


# ---- functions run in child processes


def run_in_child(function: Callable[[], T]) -> T:
    """Run the function in a fork of this process; return its result or raise its exception."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            # The child must neither outlive this process nor hang.
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
            with open(writer, "wb") as pipe:
                pipe.write(data)
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(child, 0)
    if not data:
        raise RuntimeError(f"a child process ended with status {status}")
    succeeded, value = pickle.loads(data)
    if not succeeded:
        raise value
    result: T = value
    return result


def run_in_namespaces(function: Callable[[], T], options: str | None = "") -> T:
    """Run the function as the first process of a new pid namespace with its own /proc.

    `options` are the mount options of that /proc; with None the outer /proc stays. Raises
    Unavailable where creating namespaces is forbidden.
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


# ---- descriptors of this process


def descriptors() -> dict[str, str]:
    """Map the open descriptors of this process to their files."""
    links = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own descriptor
            links[name] = os.readlink(f"/proc/self/fd/{name}")
    return links


def limit_descriptors(limit: int) -> None:
    """Set the soft RLIMIT_NOFILE of this process; call it in a child."""
    import resource

    resource.setrlimit(
        resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    )


def next_descriptor() -> int:
    """Return the number above all open descriptors, which depends on Python and pytest."""
    return max(map(int, descriptors())) + 1


def fill_descriptors(free: int = 0) -> list[int]:
    """Open descriptors up to the limit, then close `free` of them."""
    opened = []
    with contextlib.suppress(OSError):
        while True:
            opened.append(os.open("/dev/null", os.O_RDONLY))
    for _ in range(free):
        os.close(opened.pop())
    return opened


@contextlib.contextmanager
def same_descriptors() -> Iterator[None]:
    """Fail if the open descriptors differ before and after."""
    before = descriptors()
    yield
    after = descriptors()
    assert after == before, sorted(after.items() ^ before.items())


# ---- repeated and interrupted reads


class Attempt(Generic[T]):
    """A value read from a process, with the texts of the files at that moment; see attempts()."""

    def __init__(self, value: T, texts: list[bytes], last: bool) -> None:
        self._result = value, texts
        self._last = last
        self.passed = False

    def __enter__(self) -> tuple[T, list[bytes]]:
        return self._result

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        self.passed = kind is None
        return kind is not None and issubclass(kind, AssertionError) and not self._last


def attempts(
    read: Callable[[], T], *files: str, labels: tuple[str, ...] = ("",)
) -> Iterator[Attempt[T]]:
    """Yield attempts to compare what `read` returns with the files' texts, until one passes.

        for attempt in processes.attempts(lambda: fastsmaps.totals(pid), rollup):
            with attempt as (totals, (text,)):
                assert ...

    Even an idle process shares libraries with others: its Pss and Shared_* change with every page
    that one of those touches, and back. No number of equal readings in a row proves that the texts
    and the value were read in the same state, since other processes come and go in between. So the
    assertions need to pass in one attempt, not in the first: a mistake of the library fails in
    every attempt, and the last attempt's error is the test's. While other processes keep starting,
    hundreds of attempts can fail in a row (500 have), so only time decides when to give up. A file
    that takes long to read may never be stable; then name the `labels` of the lines to compare,
    which must not depend on other processes: Rss, Anonymous.
    """
    prefixes = tuple(map(str.encode, labels))

    def compared(texts: list[bytes]) -> list[bytes]:
        return [line for text in texts for line in text.splitlines() if line.startswith(prefixes)]

    deadline = time.monotonic() + TIMEOUT
    texts: list[bytes] = []
    last = False
    while not last:
        previous = texts
        value, texts = read(), [Path(file).read_bytes() for file in files]
        last = time.monotonic() > deadline
        if not last and compared(previous) != compared(texts):
            continue
        attempt = Attempt(value, texts, last)
        yield attempt
        if attempt.passed:
            return


@contextlib.contextmanager
def interrupting(act: Callable[[], None]) -> Iterator[list[str]]:
    """Call `act` once, after this process has used a millisecond of CPU time.

    Because the timer counts CPU time, a read that takes tens of milliseconds has then started and
    not ended, however busy the machine is. The yielded list is empty until `act` is called.
    """
    done: list[str] = []

    def handle(_number: int, _frame: object) -> None:
        done.append("done")
        act()

    previous = signal.signal(signal.SIGPROF, handle)
    # Python ignores exceptions raised in a callback of the collector; hypothesis installs one.
    gc_enabled = gc.isenabled()
    gc.disable()
    signal.setitimer(signal.ITIMER_PROF, 0.001)
    try:
        yield done
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
        if gc_enabled:
            gc.enable()
