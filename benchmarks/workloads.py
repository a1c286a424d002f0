"""The processes to measure: real child processes that do not change while they are read.

``python workloads.py many_small 20000`` starts one by hand. It prints its pid when it is ready and
runs until the end of its standard input.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

KIB = 1024
PR_SET_THP_DISABLE = 41


def _alternating(count: int, size: int, written: int) -> mmap.mmap:
    """Create ``count`` adjacent anonymous mappings of ``size`` bytes; write ``written`` of each.

    Every other mapping is read-only, as neighbours with equal permissions would merge. They are
    one region split by mprotect, which is faster than ``count`` calls of mmap.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    # With huge pages, a few writes would fill the whole region, and the kernel would walk one
    # entry instead of 512. Unlike madvise ("nh"), prctl does not show in VmFlags.
    if libc.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_THP_DISABLE)")
    region = mmap.mmap(-1, count * size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    first = ctypes.addressof(ctypes.c_char.from_buffer(region))
    libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for start in range(first, first + count * size, size):
        ctypes.memset(start, 1, written)
    for start in range(first, first + count * size, 2 * size):
        if libc.mprotect(start, size, mmap.PROT_READ) != 0:
            raise OSError(ctypes.get_errno(), "mprotect (see /proc/sys/vm/max_map_count)")
    return region


def _many_small(count: int) -> object:
    return _alternating(count, 8 * KIB, 8 * KIB)


def _few_large(count: int) -> object:
    return _alternating(count, 1024 * KIB, 512 * KIB)


def _ordinary(_count: int) -> object:
    import asyncio
    import decimal
    import http.client
    import json
    import logging
    import multiprocessing
    import sqlite3
    import ssl

    return asyncio, decimal, http, json, logging, multiprocessing, sqlite3, ssl


WORKLOADS: dict[str, Callable[[int], object]] = {
    "many_small": _many_small,
    "few_large": _few_large,
    "ordinary": _ordinary,
}


@contextlib.contextmanager
def _started(name: str, count: int = 0) -> Iterator[int]:
    """Start a workload, yield its pid when it is ready, and end it.

    The child blocks on our pipe, so it also ends if this process is killed.
    """
    command = [sys.executable, str(Path(__file__)), name, str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            if not child.stdout.readline().startswith(b"ready"):
                raise RuntimeError(f"the workload {name} did not start; see its error above")
            yield child.pid
        finally:
            child.kill()


def many_small(count: int = 20_000) -> contextlib.AbstractContextManager[int]:
    """Start a process with ``count`` mappings of 8 KiB, all written; yield its pid."""
    return _started("many_small", count)


def hundred() -> contextlib.AbstractContextManager[int]:
    """Start a process with some 106 mappings: Python's own and 40 of 8 KiB; yield its pid."""
    return _started("many_small", 40)


@contextlib.contextmanager
def sleep() -> Iterator[int]:
    """Start `sleep`, which has about 23 mappings; yield its pid."""
    with subprocess.Popen(["sleep", "infinity"], env={"PATH": os.environ["PATH"]}) as child:
        try:
            # Python's mappings until the exec, then more and more of its own.
            count = 0
            while count == 0 or count != smaps(child.pid).count(b"\nVmFlags:"):
                count = smaps(child.pid).count(b"\nVmFlags:")
                time.sleep(0.1)
            yield child.pid
        finally:
            child.kill()


def few_large(count: int = 400) -> contextlib.AbstractContextManager[int]:
    """Start a process with ``count`` mappings of 1 MiB, half of each written, in 4 KiB pages."""
    return _started("few_large", count)


def ordinary() -> contextlib.AbstractContextManager[int]:
    """Start a typical Python process: 100 to 200 mappings, 15 to 30 MB."""
    return _started("ordinary")


def smaps(pid: int) -> bytes:
    """Read a process's smaps."""
    return Path(f"/proc/{pid}/smaps").read_bytes()


def main(name: str, count: str = "0") -> None:
    held = WORKLOADS[name](int(count))
    print("ready", os.getpid(), flush=True)
    sys.stdin.read()
    del held


if __name__ == "__main__":
    main(*sys.argv[1:])
