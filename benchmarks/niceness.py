"""What the priority of who reads does to who is read: ``python niceness.py [MAPPINGS [ROUNDS]]``.

mapper.c maps and unmaps without a pause beside many mappings. It is read once a second by
mappings() and by totals(), in a thread of usual priority and of nice 19; the ways take turns,
first where the processors are idle otherwise, then where each is taken by a program of usual
priority, as on a machine that works.

No benchmark: it has no goal. Prints Markdown: medians of what one call of mmap or munmap took.
Wants the right to raise a priority again (root, CAP_SYS_NICE).
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
    os.setpriority(os.PRIO_PROCESS, 0, 19)  # of this thread alone
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, 0)


@contextlib.contextmanager
def burning() -> Iterator[None]:
    """Start a busy loop for each processor."""
    burners = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in os.sched_getaffinity(0)
    ]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


PRIORITIES = {"usual": usual, "nice 19": nice}


def ways(pid: int) -> dict[str, Callable[[], object]]:
    def by(read: Callable[[int], object], name: str) -> Callable[[], None]:
        def call() -> None:
            with PRIORITIES[name]():
                read(pid)

        return call

    found: dict[str, Callable[[], object]] = {"nothing": lambda: None}
    for name in PRIORITIES:
        found[f"mappings(), {name}"] = by(fastsmaps.mappings, name)
        found[f"totals(), {name}"] = by(fastsmaps.totals, name)
    return found


def main(count: str = "20000", rounds: str = "5") -> None:
    """Measures, and prints."""
    with tempfile.TemporaryDirectory() as directory:
        program = os.path.join(directory, "mapper")
        bare.build("-o", program, str(Path(__file__).with_name("mapper.c")))
        with subprocess.Popen(
            [program, count], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            mapper = Mapper(process)
            print(
                "| processors | read once a second by | p99, us | p99.9, us | max, us | mean, us |"
            )
            print("| --- | --- | --- | --- | --- | --- |")
            for load, around in (("idle", usual), ("taken", burning)):
                seen: dict[str, list[Latency]] = {}
                with around():
                    for _ in range(int(rounds)):
                        for name, read in ways(mapper.pid).items():
                            seen.setdefault(name, []).append(mapper.work(read, SECONDS, SECONDS))
                for name, runs in seen.items():
                    times = [
                        statistics.median(getattr(run, what) for run in runs) / 1000
                        for what in ("p99", "p999", "max", "mean")
                    ]
                    print(
                        f"| {load} | {name} | " + " | ".join(f"{t:,.1f}" for t in times) + " |",
                        flush=True,
                    )
            assert process.stdin is not None
            process.stdin.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
