"""Memory and descriptors after thousands of calls, both successful and failing."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from types import ModuleType

import pytest

import fastsmaps
from fastsmaps import _backend
from support.commands import environment
from support.independent import DATA
from support.smaps_texts import header, record

# Each case runs so often that a leak of a few bytes per line, or of one object per call, exceeds
# what allocators keep.
SCRIPT = """
import os, sys
import fastsmaps
from fastsmaps import _backend

assert fastsmaps.BACKEND == sys.argv[1]
path = sys.argv[2]
text = open(path, "rb").read()
lines = text.split(b"\\n")
header = lines[0] + b"\\n"
fd = os.open(path, os.O_RDONLY)
large = b"".join(header + b"L%d: x\\nM%d: 18446744073709551614\\n" % (i, i) for i in range(200))
bad = [
    large + b"nonsense", text[:9000] + b"\\nRss: 1\\n", b"Rss: 1 kB", header + b"Rss: x kB",
    header + b"".join(b"L%d: 1\\n" % i for i in range(300)),
]

def parse():
    table = fastsmaps.parse(text)
    table.column("pss"), table.column("size"), table[5].as_dict(), table.fields

def groups():
    table = fastsmaps.parse(text)
    table.group_by("path"), table[::2].totals(), table.top(3), table.find(1)

def texts():
    table = fastsmaps.parse(large)
    [mapping.extra for mapping in table[:3]], table.totals()

def errors():
    for bad_text in bad:
        try:
            fastsmaps.parse(bad_text)
        except fastsmaps.ParseError:
            continue
        raise AssertionError(bad_text)

def reads():
    len(_backend.read(fd, 3000, 64)), _backend.total(fd, 3000, 64)
    _backend.rollup(fd)

def long_lines():
    # The read buffer grows for them, and is not kept.
    line = header.rstrip() + os.urandom(8).hex().encode() * 20000
    fd = os.memfd_create("text")
    os.write(fd, line + b"\\nNew: " + line)
    _backend.read(fd, 3000, 64)
    os.close(fd)

def failed_reads():
    for invalid in (-1, 10**6):
        try:
            _backend.read(invalid, 3000, 64)
        except OSError:
            pass
    other = os.memfd_create("text")
    os.write(other, bad[0])
    try:
        _backend.read(other, 3000, 64)
    except fastsmaps.ParseError:
        os.close(other)

def loads():
    fastsmaps.load(path)
    for invalid in ("/", "/missing", __file__ if "__file__" in globals() else "/proc/self/status"):
        try:
            fastsmaps.load(invalid)
        except fastsmaps.Error:
            pass

def this_process():
    fastsmaps.totals(), fastsmaps.mappings()
    try:
        fastsmaps.totals(2**31 - 1)
    except fastsmaps.ProcessGone:
        pass

def scans():
    pids = [os.getpid(), os.getppid(), 2**30]
    scan = fastsmaps.scan(pids, workers=2, cgroup=True, cmdline=True, max_rss=1 << 40)
    list(scan), scan.totals(), scan.column("pss")

def uses():
    fastsmaps.libs([os.getpid(), 2**30])

def samples():
    with fastsmaps.Sampler(budget=1) as sampler:
        list(sampler.sweep()), list(sampler.sweep())

def rss():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

def descriptors():
    return len(os.listdir("/proc/self/fd"))

call = globals()[sys.argv[3]]
calls = int(sys.argv[4])
for _ in range(calls // 2):
    call()
before = descriptors(), rss()
for _ in range(calls):
    call()
after = descriptors(), rss()
print(after[0] - before[0], after[1] - before[1])
"""

# Numbers of calls on the C and the Python backend: about half a second each.
CASES = {
    "parse": (2000, 150),
    "groups": (1500, 100),
    "texts": (1000, 40),
    "errors": (1500, 60),
    "reads": (1500, 80),
    "long_lines": (150, 60),
    "failed_reads": (2000, 100),
    "loads": (1500, 100),
    "this_process": (200, 60),
    "scans": (300, 100),
    "uses": (200, 60),
    "samples": (30, 15),
}


@pytest.mark.slow
@pytest.mark.uninstrumented(reason="freed memory is kept, to detect its use")
@pytest.mark.parametrize("case", CASES)
def test_no_memory_or_descriptor_leaks(backend: ModuleType, case: str) -> None:
    calls = CASES[case][fastsmaps.BACKEND == "python"]
    done = subprocess.run(
        [
            *(sys.executable, "-c", SCRIPT, fastsmaps.BACKEND),
            *(str(DATA / "captures/6.12-amd64/zoo/smaps"), case, str(calls)),
        ],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    descriptors, kilobytes = map(int, done.stdout.split())
    assert descriptors == 0
    # Far above the noise of a few pages, far below one table (25 kB and more) per call.
    assert kilobytes < 1500


def leaked_bytes(call: Callable[[], object], calls: int) -> int:
    """Bytes that Python's allocators handed out during the calls and never got back."""
    for _ in range(calls):
        call()
    tracemalloc.start()
    try:
        call()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(calls):
            call()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def test_no_python_objects_leak(backend: ModuleType) -> None:
    text = record(name=b"/a", flags=b"rd ", Rss=4) + b"New: x y\n" + record(0x20000, 0x30000, Rss=8)

    def good() -> None:
        table = _backend.parse(text)
        assert [table.row(i)[0] for i in range(2)] == [0x10000, 0x20000]
        assert table.sums()
        assert table.extra

    def bad() -> None:
        with pytest.raises(fastsmaps.ParseError):
            _backend.parse(text + b"Rss: 1 kB\n")

    for call in (good, bad):
        assert leaked_bytes(call, 200) < 20_000


def test_line_cache_is_bounded(backend: ModuleType) -> None:
    # New lines each time: the cache for the next text must be bounded, in lines and in bytes.
    count = iter(range(10**6))

    def short() -> None:
        fields = b"".join(b"L%d: %d kB\n" % (i, next(count)) for i in range(200))
        assert len(_backend.parse(header() + fields)) == 1

    def long() -> None:
        fields = b"New: %d %s\nVmFlags: %d %s\n" % (*(next(count), b"x " * 10_000) * 2,)
        assert len(_backend.parse(header(name=fields[:-1].replace(b"\n", b"")) + fields)) == 1

    assert leaked_bytes(short, 60) < 2_500_000
    assert leaked_bytes(long, 60) < 200_000
