"""Kernel constants and C library calls that Python's standard library does not offer."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import pkgutil
import platform
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
NOBODY = 65534

PROT_NONE, PROT_READ, PROT_WRITE = 0, 1, 2
MAP_SHARED, MAP_PRIVATE, MAP_NORESERVE, MAP_HUGETLB = 0x1, 0x2, 0x4000, 0x40000
MAP_ANONYMOUS = 0x800 if platform.machine().startswith("mips") else 0x20
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NAME = 1, 4, 8, 15
PR_SET_VMA, PR_SET_VMA_ANON_NAME = 0x53564D41, 0
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x20000, 0x10000000, 0x20000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
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


class Unavailable(Exception):
    """The machine or the user's rights do not allow what a test needs: a reason to skip it."""


def set_next_pid(pid: int) -> None:
    """Give the next process of this pid namespace this pid, if it is free."""
    try:
        with open("/proc/sys/kernel/ns_last_pid", "w") as file:
            file.write(str(pid - 1))
    except OSError as error:
        raise Unavailable(f"ns_last_pid: {error}") from None


def call(name: str, *arguments: object) -> None:
    """Call a C function that returns 0 on success; raise Unavailable on failure."""
    if LIBC[name](*arguments):
        raise Unavailable(f"{name}{arguments}: {os.strerror(ctypes.get_errno())}")


def become(uid: int, *capabilities: int) -> None:
    """Change the user of this process and keep only these capabilities.

    All modules that fastsmaps imports lazily are imported first: the other user may not be allowed
    to read the checkout, as in a 0700 home directory.
    """
    import fastsmaps  # workloads.py runs without it

    for module in pkgutil.walk_packages(fastsmaps.__path__, "fastsmaps."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):  # an extra that is not installed
                importlib.import_module(module.name)
    LIBC.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    if uid != os.getuid():
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    keep_capabilities(*capabilities)


def keep_capabilities(*capabilities: int) -> None:
    """Drop all other capabilities; raise Unavailable if this process lacks one of these."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    bits = sum(1 << capability for capability in capabilities)
    low, high = bits & 0xFFFFFFFF, bits >> 32
    data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    if LIBC.capset(header, data):
        raise Unavailable(f"capset: {os.strerror(ctypes.get_errno())}")


def unshare() -> None:
    """Put our next child into new mount and pid namespaces, in which it is root."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        call("unshare", CLONE_NEWNS | CLONE_NEWPID)
    except Unavailable:
        call("unshare", CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUSER)
        try:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
            Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
        except OSError as error:
            raise Unavailable(f"user namespace: {error}") from None


def mount_proc(mount_point: str | Path, options: str) -> None:
    """Mount another procfs of this pid namespace; raise Unavailable where that is forbidden."""
    call("mount", b"proc", os.fsencode(mount_point), b"proc", 0, options.encode())


def hides_processes() -> bool:
    """Whether /proc hides processes that this one may not read: hidepid=2 or 4."""
    options = ""
    for line in Path("/proc/self/mounts").read_bytes().splitlines():
        _, mount_point, filesystem, mount_options, *_ = line.split(b" ")
        if (mount_point, filesystem) == (b"/proc", b"proc"):
            options = mount_options.decode()  # the last mount covers earlier ones
    return any(f"hidepid={value}" in options for value in ("2", "4", "invisible", "ptraceable"))


def main_thread_ended(pid: int) -> bool:
    """Whether the main thread of a process has ended."""
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z"
