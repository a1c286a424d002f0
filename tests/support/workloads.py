"""The roles of the live tests' processes: ``python workloads.py ROLE ARGUMENT...``.

Each prints a report, a line of JSON, when it is ready. Then it waits for requests on its standard
input, answers each with another line, and exits at the end of its standard input.
processes.workload() starts them.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeAlias

# Run as a script, without site and without an environment.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from support.linux import (
    LIBC,
    MAP_ANONYMOUS,
    MAP_HUGETLB,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    MS_PRIVATE,
    MS_REC,
    PAGE,
    PR_SET_DUMPABLE,
    PR_SET_NAME,
    PR_SET_PDEATHSIG,
    PR_SET_VMA,
    PR_SET_VMA_ANON_NAME,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    Unavailable,
    call,
    main_thread_ended,
    mount_proc,
    unshare,
)

Json: TypeAlias = Any
MUSL_SBRK = "musl's sbrk() does not move the break"


# Tests compare a process's mappings after a report. musl maps and unmaps memory for a block of
# 4 KiB, so between a report and the next request none is allocated or freed.
_requests = bytearray(4096)
_reported = b""


def _report(value: object) -> None:
    global _reported
    _reported = json.dumps(value).encode() + b"\n"
    os.write(1, _reported)


def _serve() -> None:
    """Handle requests until standard input ends."""
    rest = b""
    while count := os.readv(0, [_requests]):
        *lines, rest = (rest + _requests[:count]).split(b"\n")
        for line in lines:
            request, *arguments = json.loads(line)
            _REQUESTS[request](*arguments)


def _map(size: int, prot: int, flags: int, fd: int = -1) -> int:
    address = LIBC.mmap(None, size, prot, flags, fd, 0)
    if address in (None, ctypes.c_void_p(-1).value):
        raise Unavailable(f"mmap: {os.strerror(ctypes.get_errno())}")
    return int(address)


def _touch(address: int, pages: int) -> int:
    for i in range(pages):
        ctypes.memset(address + i * PAGE, i + 1, 1)
    return address


def _idle(*_: str) -> None:
    _report([LIBC.sbrk(0), os.getpid()])
    _serve()


def _marked(path: str) -> None:
    """Map a file by which tests recognise the process."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(fd, PAGE)
    _map(PAGE, PROT_READ, MAP_PRIVATE, fd)
    _idle()


def _many(count: str) -> None:
    """Make many mappings: of consecutive pages, every other one is read-only."""
    number = int(count)
    address = _map(number * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS)
    made = 0
    for i in range(0, number, 2):
        if LIBC.mprotect(address + i * PAGE, PAGE, PROT_READ):
            break  # vm.max_map_count
        made = i + 2
    _report(made)
    _serve()


def _zoo(directory: str) -> None:
    """Make a mapping of every kind that needs no privileges, and report their addresses."""
    report: dict[str, Json] = {"brk before": LIBC.sbrk(0)}
    mappings: dict[str, Json] = {}
    report["mappings"] = mappings
    rw, private = PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS
    home = os.fsencode(directory)

    def mapping(name: str, make: Callable[[], int], pages: int, **more: Json) -> None:
        try:
            mappings[name] = {"start": make(), "size": pages * PAGE, **more}
        except Unavailable as error:
            mappings[name] = {"unavailable": str(error)}

    def file(name: bytes, *, shared: bool = True) -> tuple[int, dict[str, Json]]:
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.ftruncate(fd, 4 * PAGE)
        address = _touch(_map(4 * PAGE, rw, MAP_SHARED if shared else MAP_PRIVATE, fd), 2)
        stat = os.fstat(fd)
        os.close(fd)
        return address, {"file": name.hex(), "dev": stat.st_dev, "inode": stat.st_ino}

    # The heap, with a read-only part in its middle.
    heap = LIBC.sbrk(64 * PAGE)
    refused = heap == ctypes.c_void_p(-1).value
    if not refused:
        heap = heap + PAGE - 1 & -PAGE
        _touch(heap, 40)
        LIBC.mprotect(heap + 20 * PAGE, 4 * PAGE, PROT_READ)
    for name, at in (("heap", 0), ("heap, write-protected", 20), ("heap, its end", 24)):
        mappings[name] = {"start": heap + at * PAGE, "size": 4 * PAGE}
        if refused:
            mappings[name] = {"unavailable": MUSL_SBRK}

    # No system call takes a path longer than a page, so it is built by walking down.
    deep = os.open(home, os.O_RDONLY)
    path = home
    for i in range(26):
        component = bytes([97 + i]) * 135
        os.mkdir(component, dir_fd=deep)
        child = os.open(component, os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep, path = child, path + b"/" + component
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
        mappings[name] = {"start": address, "size": 4 * PAGE, **more}
    os.close(deep)
    os.chdir("/")
    address, more = file(home + b"/gone")
    os.unlink(home + b"/gone")
    mappings["deleted"] = {"start": address, "size": 4 * PAGE, **more}

    def memfd() -> int:
        fd = os.memfd_create("zoo memfd")
        os.ftruncate(fd, 4 * PAGE)
        report["memfd"] = [os.fstat(fd).st_dev, os.fstat(fd).st_ino]
        return _touch(_map(4 * PAGE, rw, MAP_SHARED, fd), 3)

    def sysv() -> int:
        number = LIBC.shmget(0, 4 * PAGE, 0o1600)
        if number < 0:
            raise Unavailable(f"shmget: {os.strerror(ctypes.get_errno())}")
        at = LIBC.shmat(number, None, 0)
        LIBC.shmctl(number, 0, None)  # IPC_RMID: gone with its last user
        if at in (None, ctypes.c_void_p(-1).value):
            raise Unavailable(f"shmat: {os.strerror(ctypes.get_errno())}")
        report["shmid"] = number
        return _touch(int(at), 3)

    def locked() -> int:
        at = _touch(_map(4 * PAGE, rw, private), 4)
        if LIBC.mlock(at, 4 * PAGE):
            raise Unavailable(f"mlock: {os.strerror(ctypes.get_errno())}")
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
            raise Unavailable(f"the kernel takes no names for anonymous memory: {error}")
        return at

    def huge() -> int:
        # Not touched: there may be no huge page for it.
        return _map(1 << 25, PROT_NONE, private | MAP_HUGETLB | MAP_NORESERVE)

    mapping("memfd", memfd, 4)
    mapping("sysv", sysv, 4)
    mapping("locked", locked, 4)
    mapping("private zero", zero, 4)
    mapping("named", named, 4)
    mapping("hugetlb", huge, (1 << 25) // PAGE)
    mapping("shared", lambda: _touch(_map(4 * PAGE, rw, MAP_SHARED | MAP_ANONYMOUS), 3), 4)
    mapping("anonymous", lambda: _touch(_map(4 * PAGE, rw, private), 2), 4)
    reserved = 16 << 40
    if sys.maxsize > 2**32:
        mapping(
            "reserved",
            lambda: _map(reserved, PROT_NONE, private | MAP_NORESERVE),
            reserved // PAGE,
        )
    else:
        mappings["reserved"] = {"unavailable": "16 TiB do not fit 32-bit addresses"}
    report["brk"] = LIBC.sbrk(0)
    _report(report)
    _serve()


def _namespace() -> None:
    """Create a pid namespace, whose first process lives as long as this one."""
    try:
        unshare()
    except Unavailable as error:
        _report({"unavailable": str(error)})
        return
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        try:
            call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
            mount_proc("/proc", "")
        except Unavailable as error:
            os.write(writer, str(error).encode())
        os.close(writer)
        while os.read(0, 4096):
            pass
        os._exit(0)
    os.close(writer)
    error_text = os.read(reader, 4096).decode()
    _report({"unavailable": error_text} if error_text else {"pid": child})
    os.waitpid(child, 0)


_ROLES: dict[str, Callable[..., None]] = {
    "idle": _idle,
    "marked": _marked,
    "many": _many,
    "namespace": _namespace,
    "zoo": _zoo,
}


def _exec(role: str, *arguments: str) -> None:
    # The new program's report is the answer.
    os.execv(sys.executable, [sys.executable, "-EsSB", __file__, role, *arguments])


def _name(name: str) -> None:
    buffer = ctypes.create_string_buffer(os.fsencode(name))
    LIBC.prctl(PR_SET_NAME, ctypes.cast(buffer, ctypes.c_void_p).value, 0, 0, 0)
    _report("named")


def _undumpable() -> None:
    _report(LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))


def _seteuid(uid: int) -> None:
    os.setegid(uid)
    os.seteuid(uid)
    _report("done")


def _threads(count: int) -> None:
    """Start idle threads and report their tids."""
    started = [threading.Thread(target=threading.Event().wait, daemon=True) for _ in range(count)]
    for thread in started:
        thread.start()
    _report([thread.native_id for thread in started])


def _leave() -> None:
    """End the main thread; another one handles requests from then on."""

    def wait_and_serve() -> None:
        while not main_thread_ended(os.getpid()):
            os.sched_yield()
        _report(threading.get_native_id())
        _serve()
        os._exit(0)

    threading.Thread(target=wait_and_serve, daemon=True).start()
    LIBC.pthread_exit(None)


def _churn() -> None:
    """End the main thread; another one starts the next one and ends, and so on for ever."""

    def relay() -> None:
        threading.Thread(target=relay, daemon=True).start()

    relay()
    _report("started")
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
