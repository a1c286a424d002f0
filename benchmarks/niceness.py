"""How a reader's priority affects the process it reads: ``python niceness.py [MAPPINGS [ROUNDS]]``.

mapper.c maps and unmaps without a pause, in addition to many mappings that it keeps. It is read
once a second by mappings() and by totals(), each at usual priority and at nice 19. The readers take
turns, first on CPUs that are otherwise idle, then on CPUs that are each busy with a program of
usual priority, as on a working machine.

This study has no goal. It prints Markdown: medians of the latency of one call of mmap or munmap.
It needs the right to raise a priority again (root, CAP_SYS_NICE).
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import bare
from test_impact import Latency, Mapper

import fastsmaps

SECONDS = 4


@contextlib.contextmanager
def usual() -> Iterator[None]:
    yield


@contextlib.contextmanager
def nice() -> Iterator[None]:
    os.setpriority(os.PRIO_PROCESS, 0, 19)  # this thread only
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, 0)


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """Run a busy loop for each CPU."""
    loops = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in os.sched_getaffinity(0)
    ]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


PRIORITIES = {"usual": usual, "nice 19": nice}


def readers_of(pid: int) -> dict[str, Callable[[], object]]:
    def by(read: Callable[[int], object], name: str) -> Callable[[], None]:
        def call() -> None:
            with PRIORITIES[name]():
                read(pid)

        return call

    readers: dict[str, Callable[[], object]] = {"nothing": lambda: None}
    for name in PRIORITIES:
        readers[f"mappings(), {name}"] = by(fastsmaps.mappings, name)
        readers[f"totals(), {name}"] = by(fastsmaps.totals, name)
    return readers


def main(count: str = "20000", rounds: str = "5") -> None:
    """Measure and print the table."""
    with tempfile.TemporaryDirectory() as directory:
        program = os.path.join(directory, "mapper")
        bare.build("-o", program, str(Path(__file__).with_name("mapper.c")))
        with subprocess.Popen(
            [program, count], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            mapper = Mapper(process)
            print("| CPUs | read once a second by | p99, us | p99.9, us | max, us | mean, us |")
            print("| --- | --- | --- | --- | --- | --- |")
            for load, context in (("idle", usual), ("busy", busy)):
                latencies: dict[str, list[Latency]] = {}
                with context():
                    for _ in range(int(rounds)):
                        for name, read in readers_of(mapper.pid).items():
                            runs = latencies.setdefault(name, [])
                            runs.append(mapper.work(read, SECONDS, SECONDS))
                for name, runs in latencies.items():
                    times = [
                        statistics.median(getattr(run, statistic) for run in runs) / 1000
                        for statistic in ("p99", "p999", "max", "mean")
                    ]
                    print(
                        f"| {load} | {name} | " + " | ".join(f"{t:,.1f}" for t in times) + " |",
                        flush=True,
                    )
            assert process.stdin is not None
            process.stdin.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
