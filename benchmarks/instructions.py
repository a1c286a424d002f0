"""Compare the instructions of parse() and totals() with a stored baseline: ``make bench-check``.

Times on a busy machine cannot show a change of 10 %. A count of instructions (valgrind's callgrind)
is the same to a thousandth whatever else runs. It does not include the kernel's work.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import bare
from measuring import environment

import fastsmaps

HERE = Path(__file__).parent
BASELINE = HERE / "instructions.json"
CAPTURES = HERE.parent / "tests/data/captures"
LIMIT = 1.10
WARMUP, CALLS = 2, 2

# Two of the kernel's lines end with a space, which a linter would remove.
RECORD = """\
{start:x}-{end:x} rw-p 00000000 00:00 0 
Size:                  8 kB
KernelPageSize:        4 kB
MMUPageSize:           4 kB
Rss:                   8 kB
Pss:                   {pss} kB
Pss_Dirty:             {pss} kB
Shared_Clean:          0 kB
Shared_Dirty:          0 kB
Private_Clean:         0 kB
Private_Dirty:         {pss} kB
Referenced:            8 kB
Anonymous:             8 kB
KSM:                   0 kB
LazyFree:              0 kB
AnonHugePages:         0 kB
ShmemPmdMapped:        0 kB
FilePmdMapped:         0 kB
Shared_Hugetlb:        0 kB
Private_Hugetlb:       0 kB
Swap:                  0 kB
SwapPss:               0 kB
Locked:                0 kB
THPeligible:           0
VmFlags: rd wr mr mw me ac sd 
"""  # noqa: W291


def workloads(pid: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the name of each workload and the call whose instructions are counted."""
    saved = [path.read_bytes() for path in sorted(CAPTURES.glob("*/*/smaps"))]
    assert len(saved) > 10, CAPTURES
    synthetic = "".join(
        RECORD.format(start=start, end=start + 8192, pss=start >> 12 & 7)
        for start in range(1 << 40, (1 << 40) + 2000 * 8192, 8192)
    ).encode()
    yield "parse(), smaps of all kernels", lambda: [fastsmaps.parse(text) for text in saved]
    yield "parse(), 2,000 mappings", lambda: fastsmaps.parse(synthetic)
    yield "totals(pid)", lambda: fastsmaps.totals(pid)
    with fastsmaps.Process(pid) as process:
        yield "Process.totals()", process.totals


def count(library: str) -> None:
    """Run each workload under callgrind and write one dump for it."""
    marks = ctypes.CDLL(library)
    gc.disable()
    with subprocess.Popen(["sleep", "600"]) as child:
        try:
            for name, call in workloads(child.pid):
                for _ in range(WARMUP):
                    call()
                marks.begin()
                for _ in range(CALLS):
                    call()
                marks.end(name.encode())
        finally:
            child.kill()


def count_instructions(backend: str) -> dict[str, int]:
    """Count instructions per call, by the workload's name."""
    with tempfile.TemporaryDirectory() as directory:
        library = os.path.join(directory, "marks.so")
        bare.build("-shared", "-fPIC", "-o", library, str(HERE / "marks.c"))
        out = Path(directory) / "out"
        completed = subprocess.run(
            [
                "valgrind", "--tool=callgrind", f"--callgrind-out-file={out}",
                sys.executable, __file__, "--count", library,
            ],
            env={**environment(backend), "PYTHONHASHSEED": "0"},
            stderr=subprocess.PIPE,  # it warns about each system call that it does not know
            text=True,
            check=False,
        )  # fmt: skip
        if completed.returncode:
            sys.exit(completed.stderr)
        counts = {}
        for dump in Path(directory).glob("out.*"):
            text = dump.read_text()
            name = re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.MULTILINE)
            total = re.search(r"^(?:summary|totals): (\d+)$", text, re.MULTILINE)
            if name and total:
                counts[f"{name[1]}, {backend}"] = int(total[1]) // CALLS
        return counts


def machine() -> str:
    """Describe the versions and the processor on which the counts depend."""
    compiler = subprocess.run(
        [*bare.compiler(), "-dumpfullversion"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.split(".")[0]
    version = ".".join(platform.python_version_tuple()[:2])
    return f"{platform.python_implementation()} {version}, cc {compiler}, {platform.machine()}"


def main() -> int:
    """Return the exit status: 1 above the limit, 3 without a stored baseline for this machine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", action="store_true", help="store the new counts as the baseline")
    parser.add_argument("--count", metavar="LIBRARY", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.count:
        count(args.count)
        return 0
    stored: dict[str, dict[str, int]] = json.loads(BASELINE.read_text())
    here = machine()
    if here not in stored and not args.store:
        print(f"no baseline for {here}; create one with: python {__file__} --store")
        return 3
    now = count_instructions("c") | count_instructions("python")
    if args.store:
        stored[here] = now
        BASELINE.write_text(json.dumps(stored, indent=2, sort_keys=True) + "\n")
        return 0
    before = stored[here]
    if now.keys() != before.keys():
        print(f"only in one of both: {', '.join(now.keys() ^ before.keys())}; run with --store")
        return 1
    print(f"{'instructions per call':40} {'now':>12} {'baseline':>12}  ratio")
    ratios = {name: now[name] / before[name] for name in now}
    for name, ratio in sorted(ratios.items()):
        print(f"{name:40} {now[name]:>12,} {before[name]:>12,} {ratio:6.3f}")
    slower = [name for name, ratio in ratios.items() if ratio > LIMIT]
    if slower:
        print(f"more than {LIMIT - 1:.0%} above the baseline: {'; '.join(slower)}")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
