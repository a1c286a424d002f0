"""Error of a Sampler's estimates while processes change all the time.

See ``python sampler_error.py --help``. Processes allocate and free memory, map a file, share
memory, fork and write, while a Sampler with a small budget sweeps. After each sweep, a full scan
gives the true values. Two simpler estimates from the Sampler's own readings are shown for
comparison: the last ratio of Pss to Rss times the live Rss, and the last Pss unchanged.

It prints Markdown: the error in Pss of every value that was not read in the same sweep, by what the
processes do; the error and age of every value of a process that changes, read or not; and the error
of the sum over all processes. With ``--idle``, many more processes run that do nothing, and the
sum includes every process of the host:

    python sampler_error.py --processes 100 --moving 1 --interval 1 --sweeps 60 --idle 9900

This has goals: see docs/performance.md.
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
from collections.abc import Iterable, Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    import fastsmaps

MIB = 1 << 20
PAGE = mmap.PAGESIZE
SHARED = 64 * MIB  # size of the file and of the memory that all processes map parts of
MAX_SIZE = 8 * MIB
MAX_REGIONS = 6  # per process

BEHAVIOURS: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "use anonymous memory": ("anonymous", "anonymous", "free"),
    "map a common file": ("file", "file", "free"),
    "use shared memory": ("shared", "shared", "free"),
    "fork and write": ("fork", "write", "write"),
    "all of these": ("anonymous", "file", "shared", "free", "fork", "write"),
}
METHODS = ("Sampler", "last Pss/Rss x live Rss", "last Pss")


# ---- the processes that are measured


class Mover:
    """The part that runs in a process: changes its memory on request."""

    def __init__(self, file: int, memory: int, seed: int) -> None:
        self.file, self.memory = file, memory
        self.private: list[mmap.mmap] = []
        self.shared: list[mmap.mmap] = []
        self.child = 0
        self.child_pipe = -1
        self.random = random.Random(seed)  # noqa: S311

    def act(self, action: str, size: int) -> None:
        if action == "anonymous":
            self.private.append(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
            fill(self.private[-1], size)
        elif action in ("file", "shared"):
            offset = self.random.randrange(0, SHARED - size, PAGE)
            fd = self.file if action == "file" else self.memory
            self.shared.append(mmap.mmap(fd, size, flags=mmap.MAP_SHARED, offset=offset))
            if action == "file":
                sum(self.shared[-1][::PAGE])
            else:
                fill(self.shared[-1], size)
        elif action == "fork":
            self.fork()
        elif action == "write":
            # Overwrite memory shared with the child since the fork: Rss stays, Pss grows.
            for region in self.private:
                fill(region, min(size, len(region)))
        for regions in (self.private, self.shared):
            if len(regions) > MAX_REGIONS or (regions and action == "free"):
                regions.pop(self.random.randrange(len(regions))).close()

    def fork(self) -> None:
        """Replace the child by a new idle one that shares all memory of this process."""
        if not self.private:
            self.act("anonymous", MAX_SIZE)
        if self.child:
            os.close(self.child_pipe)
            os.waitpid(self.child, 0)
        read_end, self.child_pipe = os.pipe()
        self.child = os.fork()
        if self.child == 0:
            os.close(self.child_pipe)
            os.read(read_end, 1)  # ends when the parent ends
            os._exit(0)
        os.close(read_end)

    def serve(self) -> None:
        for line in sys.stdin:
            for action, size in json.loads(line):
                self.act(action, size)
            print("done", flush=True)


def fill(region: mmap.mmap, size: int) -> None:
    for offset in range(0, size, PAGE):
        region[offset] = 1


class MoverProcess:
    """A child process that runs a Mover."""

    def __init__(self, behaviour: str, seed: int, *files: int) -> None:
        self.behaviour = behaviour
        self.process = subprocess.Popen(
            [sys.executable, "-ISB", __file__, "--mover", *map(str, (*files, seed))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=files,
        )
        self.pid = self.process.pid

    def request(self, *actions: tuple[str, int]) -> None:
        assert self.process.stdin is not None
        print(json.dumps(actions), file=self.process.stdin, flush=True)

    def wait(self) -> None:
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "done\n":
            raise RuntimeError("a process ended early; is there enough memory?")


@contextlib.contextmanager
def start_movers(count: int) -> Iterator[list[MoverProcess]]:
    """Start ``count`` processes with some memory, giving them each behaviour in turn."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(tempfile.TemporaryFile())
        for _ in range(SHARED // MIB):
            file.write(b"x" * MIB)
        file.flush()
        memory = os.memfd_create("sampler_error")
        stack.callback(os.close, memory)
        os.ftruncate(memory, SHARED)
        names = list(BEHAVIOURS)
        movers = []
        for i in range(count):
            movers.append(MoverProcess(names[i % len(names)], i, file.fileno(), memory))
            stack.enter_context(movers[-1].process)  # closes its input, which ends it
        for mover in movers:
            mover.request(*((kind, MAX_SIZE // 2) for kind in ("anonymous", "file", "shared")))
        for mover in movers:
            mover.wait()
        yield movers


# ---- the measurement


class Errors:
    """Differences from the true values, in bytes and relative to them."""

    def __init__(self) -> None:
        self.bytes: list[float] = []
        self.shares: list[float] = []

    def add(self, estimate: float, truth: float) -> None:
        self.bytes.append(abs(estimate - truth))
        self.shares.append(abs(estimate - truth) / truth)

    def cells(self) -> list[str]:
        """Format the mean and the 95th percentile of both."""
        if not self.bytes:
            return ["-"] * 4
        cells = []
        for values, unit, scale in ((self.shares, " %", 100), (self.bytes, " MiB", 1 / MIB)):
            mean = sum(values) / len(values)
            percentile = sorted(values)[math.ceil(len(values) * 0.95) - 1]
            cells += [f"{mean * scale:.2f}{unit}", f"{percentile * scale:.2f}{unit}"]
        return cells


def live_rss(pid: int) -> int:
    with open(f"/proc/{pid}/statm", "rb") as file:
        return int(file.read().split()[1]) * PAGE


def sum_of_others(scan: Iterable[fastsmaps.ProcessTotals], pids: set[int]) -> int:
    """Return the sum of Pss over the processes that were read, without these."""
    return sum(
        row.totals.pss or 0 for row in scan if row.totals is not None and row.pid not in pids
    )


def measure(args: argparse.Namespace) -> tuple[dict[tuple[str, str], Errors], str]:
    """Return the errors by behaviour and method, and a description of the run."""
    from herd import herd

    import fastsmaps

    rng = random.Random(args.seed)  # noqa: S311
    errors: dict[tuple[str, str], Errors] = {}
    changed = Errors()
    ages: list[float] = []
    cpu = wall = 0.0
    fresh = rows = 0
    with (
        herd(args.idle),
        start_movers(args.processes) as movers,
        fastsmaps.Sampler(budget=args.budget) as sampler,
    ):
        pids = [mover.pid for mover in movers]
        by_pid = sampler.sweep().by_pid
        last: dict[int, tuple[int, int]] = {}  # Pss and Rss when the sampler last read them
        for pid in pids:
            totals = by_pid[pid].totals
            assert totals is not None
            last[pid] = (totals.pss or 0, totals.rss or 0)
        before = time.monotonic()
        for _ in range(args.sweeps):
            changing = [
                mover
                for mover in movers
                if BEHAVIOURS[mover.behaviour] and rng.random() < args.moving
            ]
            for mover in changing:
                action = rng.choice(BEHAVIOURS[mover.behaviour])
                mover.request((action, rng.randrange(PAGE, MAX_SIZE, PAGE)))
            for mover in changing:
                mover.wait()
            time.sleep(args.interval)
            scan = sampler.sweep()
            by_pid = scan.by_pid
            cpu += scan.cost.cpu
            since, before = time.monotonic() - before, time.monotonic()
            wall += since
            truth_scan = fastsmaps.scan(None if args.idle else pids)
            truth = truth_scan.by_pid
            sums = dict.fromkeys((*METHODS, "truth"), 0.0)
            if args.idle:
                # Ours is the largest process, and grows by reading; it is not what is measured.
                others = {os.getpid(), *pids}
                rest = [sum_of_others(table, others) for table in (scan, truth_scan)]
                sums = {**dict.fromkeys(METHODS, rest[0]), "truth": rest[1]}
            for mover in movers:
                row, real = by_pid[mover.pid], truth[mover.pid].totals
                assert row.totals is not None
                assert real is not None
                assert real.pss
                live = live_rss(mover.pid)
                was_read = not row.estimated and row.age is not None and row.age < since
                if was_read:
                    last[mover.pid] = (row.totals.pss or 0, row.totals.rss or 0)
                pss, rss = last[mover.pid]
                estimates = dict(
                    zip(METHODS, (row.totals.pss or 0, pss / rss * live, pss), strict=True)
                )
                for method, estimate in estimates.items():
                    sums[method] += estimate
                    if not was_read:
                        key = mover.behaviour, method
                        errors.setdefault(key, Errors()).add(estimate, real.pss)
                sums["truth"] += real.pss
                if BEHAVIOURS[mover.behaviour]:
                    changed.add(estimates["Sampler"], real.pss)
                    assert row.age is not None
                    ages.append(row.age)
                rows += 1
                fresh += was_read
            for method in METHODS:
                key = "the sum of all", method
                errors.setdefault(key, Errors()).add(sums[method], sums["truth"])
    ages.sort()
    mean, percentile, *_ = changed.cells()
    return errors, (
        f"Processes that change: mean error {mean}, 95th percentile {percentile}; age of their "
        f"values {ages[len(ages) // 2]:.1f} s in the median, {ages[-1]:.1f} s at most.\n\n"
        f"{args.processes} processes and {args.idle} idle ones, {args.sweeps} sweeps, one every "
        f"{args.interval:g} s, budget {args.budget:g} ({cpu / wall / args.budget:.0%} of it "
        f"used); {args.moving:.0%} of the "
        f"processes changed before each; {fresh / rows:.0%} of the values were read in the "
        "same sweep."
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
    parser.add_argument("--idle", type=int, default=0, help="number of processes that do nothing")
    parser.add_argument("--sweeps", type=int, default=100)
    parser.add_argument("--interval", type=float, default=0.2, help="seconds between sweeps")
    parser.add_argument("--budget", type=float, default=0.01, help="share of one core")
    parser.add_argument(
        "--moving",
        type=float,
        default=0.2,
        help="share that changes before a sweep",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mover", type=int, nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.mover:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # its parent ends it
        Mover(*args.mover).serve()
        return
    errors, how = measure(args)
    print(table(errors), "", how, sep="\n")


if __name__ == "__main__":
    main()
