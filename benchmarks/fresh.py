"""What needs a process of its own: first calls, memory, and the other backend.

Run by the benchmarks as ``python fresh.py WHAT ARGUMENT...``; prints one JSON object.
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
    """Nanoseconds of one call, with the time to free what it returned."""
    start = time.perf_counter_ns()
    function()
    return time.perf_counter_ns() - start


def first_parse(path: str) -> dict[str, int]:
    """Time the first parse() of this process: its table's pages are fresh from the kernel."""
    text = Path(path).read_bytes()
    return {"first": timed(lambda: fastsmaps.parse(text))}


def against_psutil(pid: str, rounds: str) -> dict[str, object]:
    """Time mappings() and psutil's memory_maps() in turns, on this process's backend."""
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
    """Growth of this process by a table of another one's mappings, in bytes a mapping.

    ``kept`` while the table lives, ``peak`` at the worst moment of the call (VmHWM, reset just
    before), ``asked`` after every column has been asked for. A first call, on this process, has
    already paid for what stays: imports, the reading buffer. What malloc holds free is given back
    (malloc_trim) before ``kept`` is taken; free places between living objects count as kept.
    """
    libc = ctypes.CDLL(None)
    # A huge page counts in full however little of it is used, and whether a block gets one
    # depends on where it lies: without them the figure is what was touched.
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
    asked = _status("VmRSS") - before
    del columns
    count = len(table)
    return {"kept": kept / count, "peak": peak / count, "asked": asked / count, "rows": count}


def sampler(budget: str, interval: str, seconds: str) -> dict[str, float]:
    """CPU and wall seconds of a sampler that sweeps every ``interval``, the first sweep apart."""
    with fastsmaps.Sampler(budget=float(budget)) as taking:
        cpu = time.process_time()
        taking.sweep()
        first = time.process_time() - cpu
        cpu, wall = time.process_time(), time.monotonic()
        due = wall
        while due < wall + float(seconds):
            due += float(interval)
            time.sleep(max(0.0, due - time.monotonic()))
            rows = len(taking.sweep())
        spent = {"cpu": time.process_time() - cpu, "wall": time.monotonic() - wall}
    return {**spent, "first": first, "rows": rows}


if __name__ == "__main__":
    what: dict[str, Callable[..., object]] = {
        "first_parse": first_parse,
        "against_psutil": against_psutil,
        "memory": memory,
        "sampler": sampler,
    }
    print(json.dumps(what[sys.argv[1]](*sys.argv[2:])))
