"""Real processes for the live tests: they are started here, tell what they did, and are ended.

Run as a script this is such a process (``python living.py ROLE ARGUMENT...``): it prints what
there is to know of it as a line of JSON when it is ready, then stands still until it is asked for
something on its standard input, which it answers with another line. So no test ever waits for
time to pass.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pickle
import platform
import select
import shutil
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
Json: TypeAlias = Any

PAGE = os.sysconf("SC_PAGE_SIZE")
NOBODY = 65534
#: Nothing here takes a tenth of this; a test that hangs must end nevertheless.
PATIENCE = 120

PROT_NONE, PROT_READ, PROT_WRITE = 0, 1, 2
MAP_SHARED, MAP_PRIVATE, MAP_NORESERVE, MAP_HUGETLB = 0x1, 0x2, 0x4000, 0x40000
MAP_ANONYMOUS = 0x800 if platform.machine().startswith("mips") else 0x20
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NAME = 1, 4, 8, 15
PR_SET_VMA, PR_SET_VMA_ANON_NAME = 0x53564D41, 0
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x20000, 0x10000000, 0x20000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
CAP_SYS_PTRACE, CAP_PERFMON = 19, 38
PF_KTHREAD = 0x00200000

LIBC = ctypes.CDLL(None, use_errno=True)
_POINTER, _SIZE, _INT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
LIBC.mmap.argtypes = [_POINTER, _SIZE, _INT, _INT, _INT, ctypes.c_long]
LIBC.mmap.restype = _POINTER
LIBC.mprotect.argtypes = [_POINTER, _SIZE, _INT]
LIBC.munmap.argtypes = [_POINTER, _SIZE]
LIBC.mlock.argtypes = [_POINTER, _SIZE]
LIBC.sbrk.argtypes = [ctypes.c_ssize_t]
LIBC.sbrk.restype = _POINTER
LIBC.shmat.argtypes = [_INT, _POINTER, _INT]
LIBC.shmat.restype = _POINTER
LIBC.shmget.argtypes = [_INT, _SIZE, _INT]
LIBC.prctl.argtypes = [_INT, *[ctypes.c_ulong] * 4]
LIBC.mount.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_ulong, ctypes.c_char_p]


class Refused(Exception):
    """The kernel, or who runs the tests, forbids what a test needs: a reason to skip it."""


# ---- processes of another program


class Process:
    """A process that was started here; ``facts`` is what it said when it was ready."""

    def __init__(self, command: list[str]) -> None:
        self.popen = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self.pid = self.popen.pid
        self.facts: Json = None

    def hear(self) -> Json:
        """The next line that it says."""
        assert self.popen.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self.popen.stdout], [], [], PATIENCE)
            block = self.popen.stdout.read(1) if ready else b""
            if not block:
                raise RuntimeError(f"{self.popen.args!r} said nothing more than {line!r}")
            line += block
        return json.loads(line)

    def ask(self, *request: object) -> Json:
        """Asks for something, and gives the answer."""
        self.tell(*request)
        return self.hear()

    def tell(self, *request: object) -> None:
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
        process.facts = process.hear()
        yield process
    finally:
        process.reap()


@contextlib.contextmanager
def playing(role: str, *arguments: str) -> Iterator[Process]:
    """A process that plays one of the roles below, ready and standing still."""
    with running(sys.executable, "-ISB", __file__, role, *arguments) as process:
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


def without_rollup(root: Path, pid: int) -> str:
    """A directory like the procfs of a kernel before 4.14, for one live process."""
    (root / str(pid)).mkdir(parents=True)
    (root / "self").symlink_to(str(pid))
    for name in ("stat", "status", "statm", "cmdline", "cgroup", "maps", "smaps"):
        (root / str(pid) / name).symlink_to(f"/proc/{pid}/{name}")
    return str(root)


def reaped() -> int:
    """A pid that was a process's a moment ago; numbers go round before they are used again."""
    with zombie() as pid:
        pass
    return pid


def has_left(pid: int) -> bool:
    """Whether a process's main thread has ended."""
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z"


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


def compiled(directory: Path) -> str:
    """The program above; its roles are "brk" and "vfork"."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise Refused("no C compiler")
    source, program = directory / "living.c", directory / "living"
    source.write_text(C_PROGRAM)
    subprocess.run([compiler, "-O1", "-o", program, source], check=True)
    return str(program)


# ---- this program, in other processes


def in_child(function: Callable[[], T]) -> T:
    """What the function gives in a fork of this process; what it raises is raised here."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(ours)
            # It must not outlive this process, nor hang.
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            signal.alarm(PATIENCE)
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


def become(uid: int, *capabilities: int) -> None:
    """Makes this process another user's, with these capabilities alone."""
    LIBC.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    if uid != os.getuid():
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    keep_capabilities(*capabilities)


def keep_capabilities(*capabilities: int) -> None:
    """Drops all others; Refused where one of them is not there to be kept."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    bits = sum(1 << capability for capability in capabilities)
    low, high = bits & 0xFFFFFFFF, bits >> 32
    data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    if LIBC.capset(header, data):
        raise Refused(f"capset: {os.strerror(ctypes.get_errno())}")


def in_namespaces(function: Callable[[], T], options: str = "") -> T:
    """in_child(), as the first process of a pid namespace that has a /proc of its own.

    `options` are those of its mount. Where nobody may make namespaces: Refused.
    """

    def inside() -> T:
        _call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
        mount_proc("/proc", options)
        return function()

    def outside() -> T:
        uid, gid = os.geteuid(), os.getegid()
        try:
            _call("unshare", CLONE_NEWNS | CLONE_NEWPID)
        except Refused:
            _call("unshare", CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUSER)
            try:
                Path("/proc/self/setgroups").write_text("deny")
                Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
                Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
            except OSError as error:
                raise Refused(f"user namespace: {error}") from None
        return in_child(inside)

    return in_child(outside)


def mount_proc(where: str | Path, options: str) -> None:
    """Another procfs of this pid namespace; Refused where that is not allowed."""
    _call("mount", b"proc", os.fsencode(where), b"proc", 0, options.encode())


def _call(name: str, *arguments: object) -> None:
    if LIBC[name](*arguments):
        raise Refused(f"{name}{arguments}: {os.strerror(ctypes.get_errno())}")


# ---- what is asked of this process


def descriptors() -> dict[str, str]:
    """The open descriptors of this process and where they lead."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            found[name] = os.readlink(f"/proc/self/fd/{name}")
    return found


@contextlib.contextmanager
def same_descriptors() -> Iterator[None]:
    """Fails if a descriptor is open afterwards that was not before, or the other way round."""
    before = descriptors()
    yield
    assert descriptors() == before


def settled(read: Callable[[], T], *files: str) -> tuple[T, list[bytes]]:
    """What `read` gives while these files stand still, and their texts.

    A process that stands still shares its libraries with others: Pss and Shared_* change when
    one of those starts or ends, so that two readings can differ on a busy machine.
    """
    for _ in range(500):
        texts = [Path(file).read_bytes() for file in files]
        value = read()
        if [Path(file).read_bytes() for file in files] == texts:
            return value, texts
    raise AssertionError(f"{files} never stood still")


@contextlib.contextmanager
def amid(act: Callable[[], None]) -> Iterator[list[str]]:
    """Does something once, after a millisecond of this process's own work.

    The timer counts processor time: however busy the machine is, a read that takes tens of
    milliseconds has begun then, and has not ended. What is yielded is not empty once it is done.
    """
    done: list[str] = []

    def handle(_number: int, _frame: object) -> None:
        done.append("done")
        act()

    before = signal.signal(signal.SIGPROF, handle)
    signal.setitimer(signal.ITIMER_PROF, 0.001)
    try:
        yield done
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


# ---- the roles


def _say(facts: object) -> None:
    os.write(1, json.dumps(facts).encode() + b"\n")


def _serve() -> None:
    """Stands still, but for what it is asked to do, until its standard input ends."""
    rest = b""
    while block := os.read(0, 4096):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            request, *arguments = json.loads(line)
            _REQUESTS[request](*arguments)


def _map(size: int, prot: int, flags: int, fd: int = -1) -> int:
    address = LIBC.mmap(None, size, prot, flags, fd, 0)
    if address in (None, ctypes.c_void_p(-1).value):
        raise Refused(f"mmap: {os.strerror(ctypes.get_errno())}")
    return int(address)


def _touch(address: int, pages: int) -> int:
    for i in range(pages):
        ctypes.memset(address + i * PAGE, i + 1, 1)
    return address


def _idle(*_: str) -> None:
    _say([LIBC.sbrk(0), os.getpid()])
    _serve()


def _marked(path: str) -> None:
    """Has a file mapped, by which it is known."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(fd, PAGE)
    _map(PAGE, PROT_READ, MAP_PRIVATE, fd)
    _idle()


def _many(count: str) -> None:
    """Has many mappings: of neighbouring pages, each second one may not be written."""
    number = int(count)
    address = _map(number * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS)
    made = 0
    for i in range(0, number, 2):
        if LIBC.mprotect(address + i * PAGE, PAGE, PROT_READ):
            break  # vm.max_map_count
        made = i + 2
    _say(made)
    _serve()


def _zoo(directory: str) -> None:
    """Has a mapping of every kind that can be made without rights, and tells where each is."""
    facts: dict[str, Json] = {"brk before": LIBC.sbrk(0)}
    things: dict[str, Json] = {}
    facts["things"] = things
    rw, private = PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS
    home = os.fsencode(directory)

    def thing(name: str, make: Callable[[], int], pages: int, **more: Json) -> None:
        try:
            things[name] = {"start": make(), "size": pages * PAGE, **more}
        except Refused as refused:
            things[name] = {"refused": str(refused)}

    def file(name: bytes, *, shared: bool = True) -> tuple[int, dict[str, Json]]:
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.ftruncate(fd, 4 * PAGE)
        address = _touch(_map(4 * PAGE, rw, MAP_SHARED if shared else MAP_PRIVATE, fd), 2)
        stat = os.fstat(fd)
        os.close(fd)
        return address, {"file": name.hex(), "dev": stat.st_dev, "inode": stat.st_ino}

    # The heap, with a part in its middle that may not be written.
    heap = LIBC.sbrk(64 * PAGE) + PAGE - 1 & -PAGE
    _touch(heap, 40)
    LIBC.mprotect(heap + 20 * PAGE, 4 * PAGE, PROT_READ)
    for name, at in (("heap", 0), ("heap, write-protected", 20), ("heap, its end", 24)):
        things[name] = {"start": heap + at * PAGE, "size": 4 * PAGE}

    # The path of more than a page is built as one walks down: no system call takes it whole.
    deep = os.open(home, os.O_RDONLY)
    path = home
    for i in range(26):
        part = bytes([97 + i]) * 135
        os.mkdir(part, dir_fd=deep)
        below = os.open(part, os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep, path = below, path + b"/" + part
    os.fchdir(deep)
    for name, path, shared in (
        ("plain", home + b"/plain", False),
        ("newline", home + b"/new\nline", True),
        ("tab", home + b"/tab\there  twice", True),
        ("escape", home + b"/\x1b[31mred\x1b[0m", True),
        ("no UTF-8", home + b"/\xed\x95\x9c-\xff\xfe", True),
        ("literal 012", home + b"/literal\\012", True),
        ("called deleted", home + b"/x (deleted)", True),
        ("called heap", home + b"/[heap]", True),
        ("header", home + b"/y\n00400000-0040b000 r-xp 00000000 00:00 0 z", True),
        ("field", home + b"/Rss:                  12 kB", True),
        ("spaces", home + b"/ends in spaces  ", True),
        ("return", home + b"/ends in return\r", True),
        ("long", b"long", True),
    ):
        address, more = file(path, shared=shared)
        if name == "long":
            more["file"] = (os.getcwdb() + b"/long").hex()
        things[name] = {"start": address, "size": 4 * PAGE, **more}
    os.close(deep)
    os.chdir("/")
    address, more = file(home + b"/gone")
    os.unlink(home + b"/gone")
    things["deleted"] = {"start": address, "size": 4 * PAGE, **more}

    def memfd() -> int:
        fd = os.memfd_create("zoo memfd")
        os.ftruncate(fd, 4 * PAGE)
        facts["memfd"] = [os.fstat(fd).st_dev, os.fstat(fd).st_ino]
        return _touch(_map(4 * PAGE, rw, MAP_SHARED, fd), 3)

    def sysv() -> int:
        number = LIBC.shmget(0, 4 * PAGE, 0o1600)
        if number < 0:
            raise Refused(f"shmget: {os.strerror(ctypes.get_errno())}")
        at = LIBC.shmat(number, None, 0)
        LIBC.shmctl(number, 0, None)  # IPC_RMID: gone with its last user
        if at in (None, ctypes.c_void_p(-1).value):
            raise Refused(f"shmat: {os.strerror(ctypes.get_errno())}")
        facts["shmid"] = number
        return _touch(int(at), 3)

    def locked() -> int:
        at = _touch(_map(4 * PAGE, rw, private), 4)
        if LIBC.mlock(at, 4 * PAGE):
            raise Refused(f"mlock: {os.strerror(ctypes.get_errno())}")
        return at

    def zero() -> int:
        fd = os.open("/dev/zero", os.O_RDWR)
        return _touch(_map(4 * PAGE, rw, MAP_PRIVATE, fd), 2)

    def named() -> int:
        at = _touch(_map(4 * PAGE, rw, private), 2)
        label = ctypes.create_string_buffer(b"zoo: an arena")
        where = ctypes.cast(label, ctypes.c_void_p).value
        assert where is not None
        if LIBC.prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, at, 4 * PAGE, where):
            error = os.strerror(ctypes.get_errno())
            raise Refused(f"the kernel takes no names for anonymous memory: {error}")
        return at

    def huge() -> int:
        # Not touched: there need not be a page for it.
        return _map(1 << 25, PROT_NONE, private | MAP_HUGETLB | MAP_NORESERVE)

    thing("memfd", memfd, 4)
    thing("sysv", sysv, 4)
    thing("locked", locked, 4)
    thing("private zero", zero, 4)
    thing("named", named, 4)
    thing("hugetlb", huge, (1 << 25) // PAGE)
    thing("shared", lambda: _touch(_map(4 * PAGE, rw, MAP_SHARED | MAP_ANONYMOUS), 3), 4)
    thing("anonymous", lambda: _touch(_map(4 * PAGE, rw, private), 2), 4)
    reserved = 16 << 40
    if sys.maxsize > 2**32:
        thing(
            "reserved",
            lambda: _map(reserved, PROT_NONE, private | MAP_NORESERVE),
            reserved // PAGE,
        )
    else:
        things["reserved"] = {"refused": "16 TiB do not fit 32-bit addresses"}
    facts["brk"] = LIBC.sbrk(0)
    _say(facts)
    _serve()


_ROLES: dict[str, Callable[..., None]] = {
    "idle": _idle,
    "marked": _marked,
    "many": _many,
    "zoo": _zoo,
}


def _exec(role: str, *arguments: str) -> None:
    # What the new program says when it is ready is the answer.
    os.execv(sys.executable, [sys.executable, "-ISB", __file__, role, *arguments])


def _name(name: str) -> None:
    buffer = ctypes.create_string_buffer(os.fsencode(name))
    LIBC.prctl(PR_SET_NAME, ctypes.cast(buffer, ctypes.c_void_p).value, 0, 0, 0)
    _say("named")


def _undumpable() -> None:
    _say(LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))


def _seteuid(uid: int) -> None:
    os.setegid(uid)
    os.seteuid(uid)
    _say("done")


def _threads(count: int) -> None:
    """Starts threads that do nothing, and tells their numbers."""
    started = [threading.Thread(target=threading.Event().wait, daemon=True) for _ in range(count)]
    for thread in started:
        thread.start()
    _say([thread.native_id for thread in started])


def _leave() -> None:
    """The main thread ends; another one goes on serving."""

    def wait_and_serve() -> None:
        while not has_left(os.getpid()):
            os.sched_yield()
        _say(threading.get_native_id())
        _serve()
        os._exit(0)

    threading.Thread(target=wait_and_serve, daemon=True).start()
    LIBC.pthread_exit(None)


def _churn() -> None:
    """The main thread ends; another one starts the next and ends, and so on for ever."""

    def relay() -> None:
        threading.Thread(target=relay, daemon=True).start()

    relay()
    _say("started")
    LIBC.pthread_exit(None)


_REQUESTS: dict[str, Callable[..., None]] = {
    "exec": _exec,
    "name": _name,
    "undumpable": _undumpable,
    "seteuid": _seteuid,
    "threads": _threads,
    "churn": _churn,
    "leave": _leave,
}


if __name__ == "__main__":
    _ROLES[sys.argv[1]](*sys.argv[2:])
