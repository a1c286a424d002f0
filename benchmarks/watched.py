"""A process that does work of its own, and says how long it took: what a Watch may slow down.

``python watched.py`` does a piece of work for every line of its standard input and answers with
nanoseconds; "watch SECONDS" makes it watch itself so often from then on, "leave" ends that (the
answer: how many looks it took).
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import sys
import time

import workloads

import fastsmaps

_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
_BLOCK = 4 << 20


def work() -> int:
    """Nanoseconds of some 100 ms: computing, and taking, touching and giving back memory.

    Half a gigabyte a second of fresh pages, and some 1,500 pairs of mmap and munmap a second.
    """
    start = time.perf_counter_ns()
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
    return time.perf_counter_ns() - start


def main() -> None:
    ordinary = workloads.WORKLOADS["ordinary"](0)
    watch = fastsmaps.Watch()
    for _ in range(3):
        work()
    print(os.getpid(), flush=True)
    with contextlib.ExitStack() as stack:
        for line in sys.stdin:
            answer = 0
            if line == "work\n":
                answer = work()
            elif line.startswith("watch "):
                interval = float(line.split()[1])
                watch = stack.enter_context(fastsmaps.Watch(interval=interval, budget=1))
            elif line == "leave\n":
                stack.close()
                answer = watch.count
            print(answer, flush=True)
    del ordinary


if __name__ == "__main__":
    main()
