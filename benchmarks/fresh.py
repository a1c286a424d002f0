"""Measurements that need a fresh process: first calls, memory, and the other backend.

The benchmarks run ``python fresh.py FUNCTION ARGUMENT...``, which prints one JSON object.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import time
from collections.abc import Callable, Sized
from pathlib import Path

import peers
from workloads import PR_SET_THP_DISABLE

import fastsmaps


def timed(function: Callable[[], object]) -> int:
    """Nanoseconds of one call, including the time to free its result."""
    start = time.perf_counter_ns()
    function()
    return time.perf_counter_ns() - start


def first_parse(path: str) -> dict[str, int]:
    """Time the first parse() of this process, whose table needs fresh pages from the kernel."""
    text = Path(path).read_bytes()
    return {"first": timed(lambda: fastsmaps.parse(text))}


def against_psutil(pid: str, rounds: str) -> dict[str, object]:
    """Time mappings(), on this process's backend, and psutil's memory_maps() in turns."""
    number = int(pid)
    ours: list[int] = []
    theirs: list[int] = []
    gc.disable()
    for _ in range(int(rounds)):
        theirs.append(timed(lambda: peers.psutil_mappings(number)))
        ours.append(timed(lambda: fastsmaps.mappings(number)))
    rss = fastsmaps.mappings(number).totals().rss
    return {"backend": fastsmaps.BACKEND, "rss": rss, "ours": ours, "psutil": theirs}


def _status(field: str) -> int:
    """Read a size from /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def memory(library: str, pid: str) -> dict[str, float]:
    """Memory that a table of another process's mappings adds to this one, in bytes per mapping.

    ``kept``: while the table lives. ``peak``: the maximum during the call (VmHWM, reset just
    before). ``requested``: after every column has been requested. A warm-up call on this process
    has already allocated what stays: imports and the read buffer. malloc_trim() returns malloc's
    free memory before ``kept`` is taken; gaps between live objects count as kept.
    """
    libc = ctypes.CDLL(None)
    # A huge page counts in full however little of it is used, and whether a block gets one
    # depends on its address. Without huge pages the result is the memory that was touched.
    libc.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
    readers: dict[str, Callable[[int], Sized]] = {
        "fastsmaps": fastsmaps.mappings,
        "psutil": peers.psutil_mappings,
    }
    read = readers[library]
    read(os.getpid())
    _status("VmHWM")
    gc.collect()
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM = VmRSS, proc(5)
    table = read(int(pid))
    peak = _status("VmHWM") - before
    if hasattr(libc, "malloc_trim"):  # glibc
        libc.malloc_trim(0)
    kept = _status("VmRSS") - before
    columns = []
    if isinstance(table, fastsmaps.Mappings):
        columns = [table.column(name) for name in table.fields]
    requested = _status("VmRSS") - before
    del columns
    count = len(table)
    growth = {"kept": kept, "peak": peak, "requested": requested}
    return {**{name: size / count for name, size in growth.items()}, "rows": count}


def sampler(budget: str, interval: str, seconds: str) -> dict[str, float]:
    """CPU and wall seconds of a Sampler that sweeps every ``interval``, without its first sweep."""
    with fastsmaps.Sampler(budget=float(budget)) as active:
        cpu = time.process_time()
        active.sweep()
        first = time.process_time() - cpu
        cpu, wall = time.process_time(), time.monotonic()
        due = wall
        while due < wall + float(seconds):
            due += float(interval)
            time.sleep(max(0.0, due - time.monotonic()))
            rows = len(active.sweep())
        spent = {"cpu": time.process_time() - cpu, "wall": time.monotonic() - wall}
    return {**spent, "first": first, "rows": rows}


if __name__ == "__main__":
    functions: dict[str, Callable[..., object]] = {
        "first_parse": first_parse,
        "against_psutil": against_psutil,
        "memory": memory,
        "sampler": sampler,
    }
    print(json.dumps(functions[sys.argv[1]](*sys.argv[2:])))
