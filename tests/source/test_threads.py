"""Tables and processes that many threads share; with a free-threaded Python they run at once.

There, what two threads do to one object is ordered by nothing but the object itself. With the
GIL these tests hold too, and see less.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import threading
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from operator import attrgetter
from pathlib import Path
from types import ModuleType

import pytest

import fastsmaps
from fastsmaps import _backend
from fastsmaps._source.chunks import CHUNK_SIZE, CHUNKS
from support import processes
from support.commands import environment
from support.independent import DATA
from support.threads import run_in_threads

pytestmark = [pytest.mark.thread_unsafe(reason="has threads of its own"), pytest.mark.core]

THREADS = 8
ZOO = DATA / "captures/7.2-amd64/zoo/smaps"
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


@pytest.mark.skipif(not FREE_THREADED, reason="this Python has a GIL")
def test_the_extension_keeps_the_gil_off(backend: ModuleType) -> None:
    """An extension that does not support it would enable the GIL again, with a warning."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c",
         "import sys, fastsmaps; print(fastsmaps.BACKEND, sys._is_gil_enabled())"],
        env=environment(PYTHON_GIL="0"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (f"{fastsmaps.BACKEND} False\n", "")


# ---- tables

# Parts of a table that are made on demand: each thread takes all, in its own order.
PARTS: list[Callable[[fastsmaps.Mappings], object]] = [
    lambda m: {name: m.column(name).tolist() for name in (*m.fields, "start", "size", "inode")},
    lambda m: [(row.path, row.dev, row.vm_flags, row.as_dict()) for row in m],
    lambda m: {key: (group.count, group.totals) for key, group in m.group_by("path").items()},
    lambda m: {key: (group.count, group.totals) for key, group in m.group_by("kind").items()},
    lambda m: m.totals(),
    lambda m: [row.start for row in m.top(20)],
    lambda m: (m[::3].totals(), m[5].extra, m.overlaps),
    lambda m: m.find(m[7].start),
]


def parts_of(table: fastsmaps.Mappings, first: int = 0) -> list[object]:
    """Return all of PARTS, starting with one of them."""
    order = [(first + i) % len(PARTS) for i in range(len(PARTS))]
    found = {i: PARTS[i](table) for i in order}
    return [found[i] for i in range(len(PARTS))]


def test_threads_share_the_parts_of_a_table(backend: ModuleType) -> None:
    # With a text field, so that there is an `extra` too.
    text = ZOO.read_bytes().replace(b"\nVmFlags:", b"\nNew: of tomorrow\nVmFlags:")
    expected = parts_of(fastsmaps.parse(text))
    for _ in range(20):
        table = fastsmaps.parse(text)
        got = run_in_threads(*(partial(parts_of, table, i) for i in range(THREADS)))
        assert got == [expected] * THREADS


def test_a_tables_texts_stay_the_same_objects(backend: ModuleType) -> None:
    """An object that one thread has stays, even if another thread made its own meanwhile."""
    text = ZOO.read_bytes()
    for _ in range(50):
        table = _backend.parse(text)
        got = run_in_threads(
            *[partial(attrgetter("names", "devs", "flags", "extra"), table)] * THREADS
        )
        assert len({tuple(map(id, texts)) for texts in got}) == 1


def test_parsing_in_many_threads_is_correct(backend: ModuleType) -> None:
    texts = [ZOO.read_bytes(), (DATA / "captures/7.2-amd64/child/smaps").read_bytes()]
    expected = [parts_of(fastsmaps.parse(text)) for text in texts]

    def parse(i: int) -> bool:
        return all(parts_of(fastsmaps.parse(texts[i]), n) == expected[i] for n in range(5))

    assert all(run_in_threads(*(partial(parse, i % 2) for i in range(THREADS))))


# ---- processes


def test_a_process_read_by_many_threads_leaks_nothing(backend: ModuleType) -> None:
    with processes.workload("idle") as idle, fastsmaps.Process(idle.pid) as process:
        starts = [row.start for row in process.mappings()]
        before = processes.descriptors()

        def read() -> bool:
            return all(
                [row.start for row in process.mappings()] == starts
                and bool(process.totals().rss)
                and process.info(heap=True).pid == idle.pid
                for _ in range(15)
            )

        assert all(run_in_threads(*[read] * THREADS))
        # One descriptor is kept for each file, however many threads opened it.
        assert len(processes.descriptors().keys() - before.keys()) <= 3


def test_threads_follow_an_exec(backend: ModuleType, tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in "ab"]
    with processes.workload("marked", files[0]) as child, fastsmaps.Process(child.pid) as process:
        over = threading.Event()

        def read() -> int:
            count = 0
            while not over.is_set():
                # Either program, or the new one while it starts; never two in one table.
                names = {row.path for row in process.mappings()}
                assert len(names & {*files}) <= 1
                assert process.totals().rss is not None
                count += 1
            return count

        def act() -> int:
            try:
                for file in reversed(files):
                    child.request("exec", "marked", file)
            finally:
                over.set()
            return 1

        # More of them leave the child no time for its exec: it waits for its own memory map, which
        # readers hold (90 s for four, with seven readers at once on two processors).
        assert all(run_in_threads(act, *[read] * 3))
        assert {row.path for row in process.mappings()} & {*files} == {files[0]}


@pytest.mark.slow
def test_closing_in_many_threads_closes_once(backend: ModuleType) -> None:
    """A descriptor closed twice may be another file's by then."""
    before = processes.descriptors()
    for _ in range(100):
        process = fastsmaps.Process()
        process.totals(), process.mappings()
        run_in_threads(*[process.close] * THREADS)
        with pytest.raises(ValueError, match="closed"):
            process.totals()
    assert processes.descriptors() == before


def test_scanning_in_many_threads_is_correct(backend: ModuleType) -> None:
    with processes.workload("idle") as idle:
        pids = [idle.pid, os.getpid()]

        def scan() -> bool:
            for _ in range(5):
                found = fastsmaps.scan(pids, workers=2)
                assert [(row.pid, row.outcome) for row in found] == [(pid, "read") for pid in pids]
                assert found.cost.cpu > 0
            return True

        assert all(run_in_threads(*[scan] * THREADS))


def test_threads_share_the_rows_of_a_scan(backend: ModuleType) -> None:
    with processes.workload("idle") as idle:
        for _ in range(20):
            scan = fastsmaps.scan([idle.pid, os.getpid()])
            got = run_in_threads(
                *[lambda scan=scan: ([*scan], scan.coverage, scan.totals())] * THREADS
            )
            assert got == got[:1] * THREADS


# ---- objects for one thread at a time


@pytest.fixture
def root() -> Iterator[int]:
    """Open /proc."""
    fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.fixture
def text(tmp_path: Path) -> Iterator[int]:
    """Open a text that takes a while to read."""
    path = tmp_path / "smaps"
    path.write_bytes(ZOO.read_bytes() * 30)
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def refused(call: Callable[[], object]) -> bool:
    """Whether the call is refused because another thread is busy; raise any other error."""
    try:
        call()
    except RuntimeError as error:
        if "one thread at a time" not in str(error):
            raise
        return True
    return False


def until_refused(work: Callable[[], object], *reads: Callable[[], object]) -> None:
    """Let one thread work until each of `reads` has been refused once.

    The first one keeps the GIL, so that it cannot be what the other thread is refused for; the
    rest are tried where that was refused.
    """
    seen = threading.Event()

    def read() -> None:
        try:
            for other in reads:
                while not (refused(reads[0]) and refused(other)):
                    pass
        finally:
            seen.set()

    def act() -> None:
        while not seen.is_set():
            refused(work)

    run_in_threads(act, read)


def test_reading_a_busy_sweep_is_refused(backend: ModuleType, root: int) -> None:
    sweep = _backend.Sweep()
    mine = memoryview(array("i", [os.getpid()] * 20))
    assert sweep.take(root, mine[:1], 10) == 1
    until_refused(
        lambda: sweep.take(root, mine, 10),
        lambda: sweep.row(0),
        lambda: sweep.outcomes(),
        lambda: sweep.take(root, mine, 0),
    )
    check_sweep(sweep)


def check_sweep(sweep: _backend.Sweep) -> None:
    """Check that each row is this process, complete."""
    table = sweep.table
    for i in range(len(sweep)):
        pid, fate, record, *_, who, _ = sweep.row(i)
        assert (pid, fate, who is not None) == (os.getpid(), 0, True)
        assert record == i
        assert fastsmaps.Mappings(table)[i].rss
    assert len(table) == len(sweep) == len(sweep.outcomes())


@pytest.mark.slow
def test_a_sweep_is_taken_by_one_thread_at_a_time(backend: ModuleType, root: int) -> None:
    sweep = _backend.Sweep()
    mine = memoryview(array("i", [os.getpid()] * 5))

    def take() -> int:
        return sum(not refused(lambda: sweep.take(root, mine, 10)) for _ in range(30))

    taken = sum(run_in_threads(*[take] * THREADS))
    assert len(sweep) == taken * len(mine) > 0
    check_sweep(sweep)


def test_uses_are_added_by_one_thread_at_a_time(backend: ModuleType, text: int) -> None:
    alone = _backend.Uses()
    assert alone.add(text, CHUNK_SIZE, CHUNKS)
    expected = alone.result()
    uses = _backend.Uses()

    def add() -> int:
        return sum(not refused(lambda: uses.add(text, CHUNK_SIZE, CHUNKS)) for _ in range(10))

    added = sum(run_in_threads(*[add] * THREADS))
    assert added > 0
    assert uses.result() == [
        (
            name,
            added * users,
            [
                (
                    *file,
                    added * number,
                    (added * size, {key: added * sum_ for key, sum_ in sums.items()}),
                )
                for *file, number, (size, sums) in files
            ],
        )
        for name, users, files in expected
    ]


def test_reading_busy_uses_is_refused(backend: ModuleType, text: int) -> None:
    uses = _backend.Uses()
    until_refused(
        lambda: uses.add(text, CHUNK_SIZE, CHUNKS),
        lambda: uses.result(),
        lambda: uses.add(text, CHUNK_SIZE, CHUNKS),
    )
    assert uses.result()
