"""Run both backends on one input and compare their results.

An input is a text followed by four bytes: the check to run, the size of a chunk, the number of
chunks, and a number whose meaning depends on the check. `run_input()` needs no fuzzer:
tests/contract/test_fuzz_corpus.py runs it on the stored corpus.
"""

from __future__ import annotations

import atexit
import ctypes
import errno
import os
import re
import shutil
import subprocess
import sys
import tempfile
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from fastsmaps import _backend
from fastsmaps._backend import _csmaps, _pysmaps
from fastsmaps._errors import ParseError

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.twins import STAT, check_reads, file_of, outcome, rows_of, same, sums_of

TWINS = (_csmaps, _pysmaps)
EXPORTS = (_backend.exports("c"), _backend.exports("python"))
CONTROL = 4
CHUNK_SIZES = (1, 2, 3, 7, 31, 64, 100, 200, 727, 3000)
#: Longer than the first buffer of a read and than any text that a Sweep keeps.
LONG = 270_000
#: Maximum length of a line.
MAX_LINE = 1 << 24
#: This many long texts exceed the total that a Sweep keeps.
LONG_TEXTS = 70
#: A Sweep leaves larger rollups to Process.
MAX_ROLLUP = 16_000
#: Maps with more lines are not read at once.
MAX_MAPS_LINES = 1 << 16
#: Maximum number of failures tried for one call.
MAX_FAILURES = 60


def run_input(data: bytes) -> None:
    text, control = data[:-CONTROL], data[-CONTROL:].rjust(CONTROL, b"\0")
    check, chunk_size, chunks, number = control
    if check >= 128:
        text = text.replace(b"/", b"/" + b"l" * LONG, 1)
    size = CHUNK_SIZES[chunk_size] if chunk_size < len(CHUNK_SIZES) else chunk_size
    CHECKS[check % len(CHECKS)](text, size, chunks % 64 + 1, number)


def agree(c: Any, python: Any) -> None:
    assert c == python, f"the extension gives\n{c!r}\nand pure Python\n{python!r}"


def in_one_buffer(text: bytes, chunk_size: int, chunks: int, number: int) -> None:
    """Compare parse(), also with a CR before each newline."""
    same(TWINS, text)
    same(TWINS, text if number & 1 else text.replace(b"\n", b"\r\n"), True)


def in_chunks(text: bytes, chunk_size: int, chunks: int, number: int) -> None:
    """Compare read(), total(), rollup() and lines() with any size of chunks."""
    size = max(chunk_size, len(text) // 1000)
    check_reads(TWINS, text, (size, chunks))
    with file_of(text) as fd:
        agree(*(twin.lines(fd, size, chunks) for twin in TWINS))
    if len(text) > LONG and number == 255:
        line = text.replace(b"\n", b"") * (MAX_LINE // len(text) + 2)
        with file_of(line) as fd:
            agree(*(outcome(twin.read, fd, MAX_LINE // 8, 2) for twin in TWINS))
            agree(*(twin.lines(fd, MAX_LINE // 8, 2) for twin in TWINS))


def parts(text: bytes, number: int) -> list[bytes]:
    """Split the text anywhere, into the texts of up to three processes."""
    first, second = sorted((len(text) * (number & 15) // 15, len(text) * (number >> 4) // 15))
    return [text[:first], text[first:second], text[second:]]


def uses(text: bytes, chunk_size: int, chunks: int, number: int) -> None:
    """Compare sums by name over several processes."""
    results = []
    for exports in EXPORTS:
        sums = exports["Uses"]()
        added: list[Any] = []
        for part in parts(text, number):
            with file_of(part) as fd:
                try:
                    added.append(sums.add(fd, max(chunk_size, len(part) // 1000), chunks))
                except ParseError as error:
                    added.append(str(error))
        by_name = {name: rest for name, *rest in sums.result()}
        results.append((added, by_name))
    agree(*results)


def uses_by_number(text: bytes, chunk_size: int, chunks: int, number: int) -> None:
    """Compare the same sums, read through a directory of processes."""
    with procfs(text, 0, number) as (root, pids):
        results = []
        for exports in EXPORTS:
            sums = exports["Uses"]()
            taken = [sums.take(root, pid, 3000, chunks, True) for pid in pids]
            results.append((taken, {name: rest for name, *rest in sums.result()}))
        agree(*results)
        for pid in (*pids, 99):  # only a real procfs can say whether a number is listed
            _csmaps.Uses().take(root, pid, 3000, chunks, False)
            assert not _csmaps.Uses().take(-1, pid, 3000, chunks, False)
    if number == 255:
        root = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        try:
            assert _csmaps.Uses().take(root, os.getpid(), 3000, chunks, False)
        finally:
            os.close(root)


#: A process, a zombie, an exited main thread, a kernel thread, another thread and a truncated line.
STATS = (
    STAT,
    STAT.replace(b") S", b") Z"),
    STAT.replace(b") S", b") X").replace(b"1 0 77", b"3 0 77"),
    STAT.replace(b"4194304", b"2129984"),
    STAT.replace(b" 17 0 0\n", b" -1 0 0\n"),
    STAT[:20],
)
#: A process that has not called exec since it was forked.
FORKED = STAT.replace(b"4194304", b"4194368")
SHARED = tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
atexit.register(shutil.rmtree, SHARED, ignore_errors=True)


@contextmanager
def procfs(text: bytes, kind: int, number: int) -> Iterator[tuple[int, list[int]]]:
    """Make a procfs of files from a text's parts; each starts with the process's name."""
    own = os.getpid()  # a sweep compares the memory of live processes
    pids = [1, 2, own]
    for pid, part in zip(pids, parts(text, number), strict=True):
        directory = Path(SHARED, str(pid))
        directory.mkdir(exist_ok=True)
        comm = part[: kind % 70].replace(b"\n", b"")
        stat = STATS[kind // 8 % len(STATS) if pid == 2 else 0]
        if pid == own:
            stat = FORKED.replace(b"S 7", b"S %d" % (own if kind & 1 else 1))
        files = {
            "stat": stat.replace(b"%d", b"7").replace(b"%s", comm),
            "statm": b"9 %d 1 3 0 0 0\n" % len(part) if kind != 100 else b"9\n",
            "smaps_rollup": part[:MAX_ROLLUP],
            "smaps": part,
            "maps": part if kind // 8 != 11 else b"\n" * (MAX_MAPS_LINES + 1),
        }
        for name, content in files.items():
            path = directory / name
            if pid == 2 and kind == (96 if name == "maps" else 101 + len(name)):
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(content)
    root = os.open(SHARED, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield root, pids
    finally:
        os.close(root)


#: Options of a Sweep: what it also reads, and limits in pages.
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"texts": ("statm", "smaps")},
    {"statm": True, "min_pages": 100, "max_pages": 16_000, "large_pages": 1_000},
    {"rollups": False},
    {"statm": True, "max_pages": 1_000, "maps_chunk": 64},
    {"texts": ("exe", "maps"), "maps_chunk": 3_000, "compare": True},
    {"rollups": False, "compare": True},
)


def sweep(text: bytes, chunk_size: int, chunks: int, number: int) -> None:
    """Compare sweeps over several processes."""
    with procfs(text, chunk_size, number) as (root, pids):
        results = []
        for exports in EXPORTS:
            swept = exports["Sweep"](**OPTIONS[chunks % len(OPTIONS)])
            for pid in (*pids, 99):
                swept.take(root, memoryview(array("i", [pid])), 60.0)
            results.append((swept.outcomes(), swept.forked, swept.members(), rows_of(swept)))
        agree(*results)
        if len(text) > LONG and number % 16 == 3:
            agree(*(kept_texts(exports, root, text) for exports in EXPORTS))


def kept_texts(exports: dict[str, Any], root: int, text: bytes) -> list[Any]:
    """Read a process again and again, with texts that are too long to be kept in full."""
    swept = exports["Sweep"](("smaps",), rollups=False)
    for i in range(LONG_TEXTS):
        Path(SHARED, "1", "smaps").write_bytes(b"%d %b" % (i, text) if i else b"short")
        swept.take(root, memoryview(array("i", [1])), 60.0)
    return rows_of(swept)


_STATM = re.compile(rb"[0-9]{1,18}(?: [0-9]{1,18}){0,9}\n?").fullmatch


def statms(text: bytes, chunk_size: int, chunks: int, number: int) -> None:
    """Compare values that a kernel could write into statm; other input must only be safe."""
    with file_of(text) as fd:
        results = []
        for exports in EXPORTS if _STATM(text) else EXPORTS[:1]:
            table = array("q", [1, fd, 0, -1, -1, -1] * 2)
            slots = memoryview(array("I", [0, 1]))
            results.append((exports["statms"](-1, memoryview(table), slots, 0, 60.0), table))
        agree(results[0], results[-1])


def arguments(text: bytes, chunk_size: int, chunks: int, number: int) -> None:
    """Compare calls whose arguments may be wrong: the same error or the same result."""
    if number % 32 == 7:
        memories(chunk_size % 5)
    groups = array("I", [number, 0, 1, chunks, 2**32 - 1, 1, 0, 1][: chunk_size % 9])
    closed = array("q", [1, 1 << 20, 0, -1, -1, -1] * (chunk_size % 3))
    slots = memoryview(array("I", [number % 3]))
    key = ("start", "flags", "Rss", "Swap", "Nothing")[chunk_size % 5]
    with file_of(text) as fd:

        def results_of(exports: dict[str, Any]) -> list[Any]:
            calls: tuple[Callable[[], Any], ...] = (
                lambda: exports["parse"](text).row(number),
                lambda: exports["parse"](text).row_into(number, {}, ("x",) * chunks),
                lambda: exports["parse"](text).column(key).tolist(),
                lambda: type(exports["parse"](b""))(),
                lambda: exports["parse"](text).sums(memoryview(groups), chunks),
                lambda: exports["total"](fd, chunk_size % 2, chunks * 2, True),
                lambda: exports["total"](fd, 3000, 64, True, 1e-9),
                lambda: exports["lines"](fd, chunk_size % 2, chunks * 2),
                lambda: exports["lines"](fd, 3000, 64, 1e-9),
                lambda: exports["Sweep"](("statm",) * (number % 5)).row(number),
                lambda: exports["Sweep"]().outcomes(number),
                lambda: exports["statms"](-1, memoryview(closed), slots, 0, 60.0),
            )
            return [result_of(call) for call in calls]

        agree(*map(results_of, EXPORTS))


def memories(count: int) -> None:
    """Compare same_memory() for this process, its children, and numbers that are no pid."""
    with ExitStack() as stack:
        cats = [
            stack.enter_context(subprocess.Popen(["cat"], stdin=subprocess.PIPE))
            for _ in range(count)
        ]
        pids = [os.getpid(), *(cat.pid for cat in cats), 0, os.getpid(), -1, *(c.pid for c in cats)]
        numbers = memoryview(array("i", pids))
        agree(*(exports["same_memory"](numbers) for exports in EXPORTS))


def result_of(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (IndexError, KeyError, ParseError, TimeoutError, TypeError, ValueError) as error:
        return type(error)


# ---- failures, only in builds with failing.h

CODES = (errno.EIO, errno.EINTR, errno.EACCES)


def failing(text: bytes, chunk_size: int, chunks: int, number: int) -> None:
    """Make each allocation or read fail in turn: the call raises, or its result is the same."""
    kind = KINDS[number & 1]
    code = CODES[number % len(CODES)]
    with file_of(text) as fd, procfs(text, chunk_size, number) as (root, pids):
        size = max(chunk_size, len(text) // 10)
        calls: tuple[Callable[[], Any], ...] = (
            lambda: columns(text),
            lambda: outcome(_csmaps.read, fd, size, chunks),
            lambda: sums_of(_csmaps.total, fd, size, chunks),
            lambda: sums_of(_csmaps.rollup, fd),
            lambda: uses_twice(fd, size, chunks),
            lambda: sweep_twice(root, pids),
            lambda: _csmaps.lines(fd, size, chunks),
        )
        call = calls[-1 if number >= 240 else number // 2 % (len(calls) - 1)]
        normal = call()
        for count in range(1, MAX_FAILURES):
            FAILURES["failing_errno"].value = code
            FAILURES[kind].value = count
            try:
                result = call()
            except MemoryError:
                assert kind == "failing_allocation"
            except OSError as error:
                assert kind == "failing_read"
                agree(error.errno, code)
            else:
                if FAILURES[kind].value:  # the call made fewer allocations or reads
                    agree(result, normal)
                    break
                if call in calls[:4] and code == errno.EINTR:
                    agree(result, normal)
            finally:
                FAILURES[kind].value = 0


def columns(text: bytes) -> Any:
    try:
        return [view.tolist() for view, _ in _csmaps.parse(text).columns(("start", "perms"))]
    except ParseError as error:
        return str(error)


def uses_twice(fd: int, chunk_size: int, chunks: int) -> Any:
    """Add a file twice: the second time after a failure of the first."""
    sums = _csmaps.Uses()
    for _ in range(2):
        try:
            sums.add(fd, chunk_size, chunks)
        except (MemoryError, OSError, ParseError):
            continue
    return sums.result()


def sweep_twice(root: int, pids: list[int]) -> Any:
    swept = _csmaps.Sweep(("statm", "smaps"), statm=True, maps_chunk=64)
    for _ in range(2):
        try:
            swept.take(root, memoryview(array("i", pids)), 60.0)
        except MemoryError:
            continue
    table = array("q", [pids[0], -1, 0, -1, -1, -1])
    _csmaps.statms(root, memoryview(table), memoryview(array("I", [0])), 0, 60.0)
    _csmaps.pids_between(root, 0, 1 << 30)
    return rows_of(swept)


KINDS = ("failing_allocation", "failing_read")
try:
    FAILURES = {
        name: ctypes.c_int.in_dll(ctypes.CDLL(_csmaps.__file__), name)
        for name in (*KINDS, "failing_errno")
    }
except ValueError:  # an ordinary build has no failures
    FAILURES = {name: ctypes.c_int(0) for name in (*KINDS, "failing_errno")}

#: Selected by the first of an input's last four bytes.
CHECKS = (in_one_buffer, in_chunks, uses, uses_by_number, sweep, statms, failing, arguments)
