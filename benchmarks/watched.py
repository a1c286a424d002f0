"""A process that works and reports how long it took, to measure the cost of a Watch.

``python watched.py ordinary|mapping`` reads lines from its standard input and prints a number for
each. "work" does some work and prints its nanoseconds. "watch SECONDS" starts to sample this
process at that interval and prints 0. "leave" stops that and prints the number of samples.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import sys
import time
from collections.abc import Callable

import workloads

import fastsmaps

_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
_BLOCK = 4 << 20


def ordinary() -> None:
    """Do typical Python work for about 100 ms, with some MB of objects created and freed."""
    for _ in range(6):
        records = [
            {"id": i, "name": f"name {i * 7919 % 3001}", "values": list(range(i % 40))}
            for i in range(1500)
        ]
        text = json.dumps(records)
        groups: dict[str, list[int]] = {}
        for record in sorted(json.loads(text), key=lambda record: record["name"]):
            groups.setdefault(record["name"][:6], []).append(sum(record["values"]))
        hashlib.sha256(text.encode()).hexdigest()


def mapping() -> None:
    """Map, touch and unmap memory without a pause for about 100 ms: the worst case.

    Per second, this touches half a gigabyte of fresh pages and calls mmap and munmap some 1,500
    times each.
    """
    page = mmap.PAGESIZE
    record = {"numbers": list(range(500)), "text": "x" * 500}
    for _ in range(15):
        for _ in range(30):
            record = json.loads(json.dumps(record))
        block = mmap.mmap(-1, _BLOCK, flags=_PRIVATE)
        for at in range(0, _BLOCK, page):
            block[at] = 1
        block.close()
        held = [bytearray(1 << 12) for _ in range(500)]
        del held
        for _ in range(10):
            mmap.mmap(-1, 4 * page, flags=_PRIVATE).close()


WORK = {"ordinary": ordinary, "mapping": mapping}


def main(work: Callable[[], None]) -> None:
    held = workloads.WORKLOADS["ordinary"](0)
    watch = fastsmaps.Watch()
    for _ in range(3):
        work()
    print(os.getpid(), flush=True)
    with contextlib.ExitStack() as stack:
        for line in sys.stdin:
            reply = 0
            if line == "work\n":
                start = time.perf_counter_ns()
                work()
                reply = time.perf_counter_ns() - start
            elif line.startswith("watch "):
                interval = float(line.split()[1])
                watch = stack.enter_context(fastsmaps.Watch(interval=interval, budget=1))
            elif line == "leave\n":
                stack.close()
                reply = watch.count
            print(reply, flush=True)
    del held


if __name__ == "__main__":
    main(WORK[sys.argv[1]])
