"""How far a Sampler's figures are from the truth, for processes that change all the time.

``python sampler_error.py --help``. Processes take and free memory, map a file, share memory, fork
and write, while a Sampler with a small budget sweeps. After each sweep everything is read once
more: that is the truth. From the figures that the sampler really read, two simpler estimates are
made beside: the last ratio of Pss to Rss times the live Rss, and the last Pss as it was.

No benchmark: it has no goal. Prints Markdown: the error in Pss of every figure that was not read
in the very sweep, by what the processes do, and that of the sum over all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import mmap
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

MIB = 1 << 20
PAGE = mmap.PAGESIZE
SHARED = 64 * MIB  # of the file, and of the memory, that all map parts of
LARGEST = 8 * MIB
REGIONS = 6  # at most, of a process

BEHAVIOURS: dict[str, tuple[str, ...]] = {
    "stands still": (),
    "anonymous memory": ("anonymous", "anonymous", "free"),
    "a common file": ("file", "file", "free"),
    "shared memory": ("shared", "shared", "free"),
    "forks and writes": ("fork", "write", "write"),
    "all of these": ("anonymous", "file", "shared", "free", "fork", "write"),
}
METHODS = ("Sampler", "last Pss/Rss x live Rss", "last Pss")


# ---- the processes


class Mover:
    """A process that changes when it is told to."""

    def __init__(self, file: int, memory: int, seed: int) -> None:
        self.file, self.memory = file, memory
        self.own: list[mmap.mmap] = []
        self.common: list[mmap.mmap] = []
        self.child = 0
        self.end_of_child = -1
        self.random = random.Random(seed)  # noqa: S311

    def act(self, what: str, size: int) -> None:
        if what == "anonymous":
            self.own.append(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
            fill(self.own[-1], size)
        elif what in ("file", "shared"):
            offset = self.random.randrange(0, SHARED - size, PAGE)
            fd = self.file if what == "file" else self.memory
            self.common.append(mmap.mmap(fd, size, flags=mmap.MAP_SHARED, offset=offset))
            if what == "file":
                sum(self.common[-1][::PAGE])
            else:
                fill(self.common[-1], size)
        elif what == "fork":
            self.fork()
        elif what == "write":
            # Over what is shared with a child since the fork: Rss stays, Pss grows.
            for region in self.own:
                fill(region, min(size, len(region)))
        for held in (self.own, self.common):
            if len(held) > REGIONS or (held and what == "free"):
                held.pop(self.random.randrange(len(held))).close()

    def fork(self) -> None:
        """Replace the child by a new idle one, which shares all its memory."""
        if not self.own:
            self.act("anonymous", LARGEST)
        if self.child:
            os.close(self.end_of_child)
            os.waitpid(self.child, 0)
        ours, self.end_of_child = os.pipe()
        self.child = os.fork()
        if self.child == 0:
            os.close(self.end_of_child)
            os.read(ours, 1)  # its end comes with that of the parent
            os._exit(0)
        os.close(ours)

    def serve(self) -> None:
        for line in sys.stdin:
            for what, size in json.loads(line):
                self.act(what, size)
            print("done", flush=True)


def fill(region: mmap.mmap, size: int) -> None:
    for at in range(0, size, PAGE):
        region[at] = 1


class Played:
    """A Mover as seen from here."""

    def __init__(self, behaviour: str, seed: int, *files: int) -> None:
        self.behaviour = behaviour
        self.process = subprocess.Popen(
            [sys.executable, "-ISB", __file__, "--play", *map(str, (*files, seed))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=files,
        )
        self.pid = self.process.pid

    def tell(self, *acts: tuple[str, int]) -> None:
        assert self.process.stdin is not None
        print(json.dumps(acts), file=self.process.stdin, flush=True)

    def wait(self) -> None:
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "done\n":
            raise RuntimeError("a process ended; is there enough memory?")


@contextlib.contextmanager
def company(count: int) -> Iterator[list[Played]]:
    """So many processes, each behaviour in turn, with some memory to begin with."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(tempfile.TemporaryFile())
        for _ in range(SHARED // MIB):
            file.write(b"x" * MIB)
        file.flush()
        memory = os.memfd_create("sampler_error")
        stack.callback(os.close, memory)
        os.ftruncate(memory, SHARED)
        names = list(BEHAVIOURS)
        played = []
        for i in range(count):
            played.append(Played(names[i % len(names)], i, file.fileno(), memory))
            stack.enter_context(played[-1].process)  # closes its input, at which it ends
        for one in played:
            one.tell(*((what, LARGEST // 2) for what in ("anonymous", "file", "shared")))
        for one in played:
            one.wait()
        yield played


# ---- what is measured


class Errors:
    """Differences from the truth, in bytes and as shares of it."""

    def __init__(self) -> None:
        self.bytes: list[float] = []
        self.shares: list[float] = []

    def add(self, estimate: float, truth: float) -> None:
        self.bytes.append(abs(estimate - truth))
        self.shares.append(abs(estimate - truth) / truth)

    def cells(self) -> list[str]:
        """Mean and 95th percentile of either."""
        if not self.bytes:
            return ["-"] * 4
        found = []
        for values, unit, scale in ((self.shares, " %", 100), (self.bytes, " MiB", 1 / MIB)):
            mean = sum(values) / len(values)
            worst = sorted(values)[math.ceil(len(values) * 0.95) - 1]
            found += [f"{mean * scale:.2f}{unit}", f"{worst * scale:.2f}{unit}"]
        return found


def live_rss(pid: int) -> int:
    with open(f"/proc/{pid}/statm", "rb") as file:
        return int(file.read().split()[1]) * PAGE


def measure(arguments: argparse.Namespace) -> tuple[dict[tuple[str, str], Errors], str]:
    """Errors by behaviour and method, and a line that says how it was done."""
    import fastsmaps

    chance = random.Random(arguments.seed)  # noqa: S311
    errors: dict[tuple[str, str], Errors] = {}
    fresh = rows = 0
    with company(arguments.processes) as played, fastsmaps.Sampler(budget=arguments.budget) as its:
        pids = [one.pid for one in played]
        by_pid = its.sweep().by_pid
        last: dict[int, tuple[int, int]] = {}  # Pss and Rss when the sampler last read them
        for pid in pids:
            totals = by_pid[pid].totals
            assert totals is not None
            last[pid] = (totals.pss or 0, totals.rss or 0)
        before = time.monotonic()
        for _ in range(arguments.sweeps):
            moved = [
                one
                for one in played
                if BEHAVIOURS[one.behaviour] and chance.random() < arguments.moving
            ]
            for one in moved:
                what = chance.choice(BEHAVIOURS[one.behaviour])
                one.tell((what, chance.randrange(PAGE, LARGEST, PAGE)))
            for one in moved:
                one.wait()
            time.sleep(arguments.interval)
            by_pid = its.sweep().by_pid
            since, before = time.monotonic() - before, time.monotonic()
            truth = fastsmaps.scan(pids).by_pid
            sums = dict.fromkeys((*METHODS, "truth"), 0.0)
            for one in played:
                row, real = by_pid[one.pid], truth[one.pid].totals
                assert row.totals is not None
                assert real is not None
                assert real.pss
                live = live_rss(one.pid)
                was_read = not row.estimated and row.age is not None and row.age < since
                if was_read:
                    last[one.pid] = (row.totals.pss or 0, row.totals.rss or 0)
                pss, rss = last[one.pid]
                estimates = dict(
                    zip(METHODS, (row.totals.pss or 0, pss / rss * live, pss), strict=True)
                )
                for method, estimate in estimates.items():
                    sums[method] += estimate
                    if not was_read:
                        key = one.behaviour, method
                        errors.setdefault(key, Errors()).add(estimate, real.pss)
                sums["truth"] += real.pss
                rows += 1
                fresh += was_read
            for method in METHODS:
                key = "the sum of all", method
                errors.setdefault(key, Errors()).add(sums[method], sums["truth"])
    return errors, (
        f"{arguments.processes} processes, {arguments.sweeps} sweeps, one every "
        f"{arguments.interval:g} s, budget {arguments.budget:g}; {arguments.moving:.0%} of the "
        f"processes changed before each; {fresh / rows:.0%} of the figures were read in the "
        "very sweep."
    )


def table(errors: dict[tuple[str, str], Errors]) -> str:
    head = [
        "what the processes do",
        "estimate",
        "mean",
        "95th percentile",
        "mean",
        "95th percentile",
    ]
    rows = [head, ["---"] * len(head)]
    for behaviour in (*BEHAVIOURS, "the sum of all"):
        for method in METHODS:
            cells = errors.get((behaviour, method), Errors()).cells()
            rows.append([behaviour if method == METHODS[0] else "", method, *cells])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--processes", type=int, default=60)
    parser.add_argument("--sweeps", type=int, default=100)
    parser.add_argument("--interval", type=float, default=0.2, help="seconds between sweeps")
    parser.add_argument("--budget", type=float, default=0.01, help="of one core")
    parser.add_argument("--moving", type=float, default=0.2, help="that change before a sweep")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--play", type=int, nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.play:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it ends it
        Mover(*arguments.play).serve()
        return
    errors, how = measure(arguments)
    print(table(errors), "", how, sep="\n")


if __name__ == "__main__":
    main()
