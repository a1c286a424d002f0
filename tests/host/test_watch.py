"""Watch: samples of one process or tree over time."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastsmaps
from fastsmaps._model.samples import Series
from support import linux, processes
from support.commands import environment
from support.independent import DATA

MIB = 1 << 20
#: Sample often, with a whole core as the budget, so that tests need not wait long.
OFTEN: dict[str, Any] = {"interval": 0.005, "budget": 1}

# Handles the requests on its standard input and reports each one's end.
ACTOR = """
import json, mmap, os, signal, sys

held, children = [], []
lifetime, parent = os.pipe()

def grow(mib):
    held.append(mmap.mmap(-1, mib << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    for _ in range(mib << 4):
        held[-1].write(b"x" * 65536)  # in small blocks, so that only the mapping grows

def shrink():
    held.pop().close()

def fork(mib):
    reader, writer = os.pipe()
    children.append(os.fork())
    if children[-1] == 0:
        os.close(parent)
        grow(mib)
        os.write(writer, b"x")
        os.read(lifetime, 1)  # until the parent has ended
        os._exit(0)
    os.read(reader, 1)

def reap():
    os.kill(children[-1], signal.SIGKILL)
    os.waitpid(children.pop(), 0)

def execute(*command):
    os.execv(command[0], command)

print(json.dumps(os.getpid()), flush=True)
for line in sys.stdin:
    what, *arguments = json.loads(line)
    globals()[what](*arguments)
    print(json.dumps(what), flush=True)
"""


@pytest.fixture(autouse=True)
def no_leak() -> Iterator[None]:
    threads = threading.active_count()
    with processes.same_descriptors():
        yield
    assert threading.active_count() == threads


def actor() -> contextlib.AbstractContextManager[processes.Process]:
    return processes.running(sys.executable, "-EsSB", "-c", ACTOR)


def until(watch: fastsmaps.Watch, condition: Callable[[fastsmaps.Sample], bool]) -> None:
    """Wait until the last sample meets the condition."""
    import time

    deadline = time.monotonic() + processes.TIMEOUT
    while not condition(watch.samples[-1]):
        assert time.monotonic() < deadline, watch.samples[-1]
        assert not watch.wait(0.001), watch


def pss(sample: fastsmaps.Sample) -> int:
    assert sample.totals.pss is not None
    return sample.totals.pss


# ---- samples of processes


def test_watch_before_start() -> None:
    watch = fastsmaps.Watch()
    assert (watch.peaks, watch.growth, watch.count, watch.duration) == ({}, None, 0, 0.0)
    with pytest.raises(ValueError, match="has not begun"):
        _ = watch.peak


def test_growth_and_peak(backend: ModuleType) -> None:
    with actor() as child, fastsmaps.Watch(child.pid, **OFTEN) as watch:
        first = watch.samples[0]
        child.request("grow", 32)
        until(watch, lambda sample: pss(sample) > pss(first) + 31 * MIB)
        child.request("grow", 16)
        until(watch, lambda sample: pss(sample) > pss(first) + 47 * MIB)
        child.request("shrink")
        until(watch, lambda sample: pss(sample) < pss(first) + 40 * MIB)
        count = watch.count
        until(watch, lambda _: watch.count > count)
    last = watch.samples[-1]
    assert 47 * MIB < pss(watch.peak) - pss(first) < 56 * MIB
    assert 0 == first.elapsed // 60 <= first.elapsed < watch.peak.elapsed < last.elapsed
    assert last.elapsed <= watch.duration
    assert watch.peak_rss is not None
    assert watch.peak.totals.rss is not None
    # The kernel keeps per-CPU counters and merges them now and then, so pages may be missing.
    assert watch.peak_rss > watch.peak.totals.rss - MIB
    assert set(watch.peaks) == {"pss", "uss", "rss", "swap"}
    assert watch.outcome == "read"
    assert watch.growth is not None
    change = watch.growth[0]
    assert change.pss is not None
    # Named by its address range.
    start, end = (int(part, 16) for part in change.key[0].split("-"))
    assert (change.key[1], end - start >= 32 * MIB, change.pss // MIB) == ("", True, 32)
    assert watch.growth.total.seconds is not None
    assert 0 < watch.growth.total.seconds <= watch.duration + 1
    assert watch.before is not None
    assert watch.after is not None
    assert watch.after.totals().rss == last.totals.rss


def test_watch_this_process(backend: ModuleType) -> None:
    with fastsmaps.Watch(interval=3600) as watch:
        assert watch.pid == os.getpid()
        assert (watch.count, len(watch.samples)) == (1, 1)
    assert (watch.count, len(watch.samples), watch.skipped) == (2, 2, 0)
    duration = watch.duration
    assert duration == watch.duration > 0
    assert "2 samples, read" in repr(watch)


def test_watch_without_growth(backend: ModuleType) -> None:
    with actor() as child, fastsmaps.Watch(child.pid, growth=False, **OFTEN) as watch:
        child.request("grow", 8)
        until(watch, lambda sample: pss(sample) > 8 * MIB)
    assert (watch.before, watch.after, watch.growth) == (None, None, None)


@pytest.mark.parametrize("outcome", ["gone", "zombie"])
def test_watched_process_ends(backend: ModuleType, outcome: str) -> None:
    with actor() as child, fastsmaps.Watch(child.pid, **OFTEN) as watch:
        first = watch.samples[0]
        child.request("grow", 8)
        until(watch, lambda sample: pss(sample) > pss(first) + 7 * MIB)
        until(watch, lambda _: watch.after is not None)
        (child.kill if outcome == "zombie" else child.reap)()
        assert watch.wait(processes.TIMEOUT)
        # It had ended or was ending when it was sampled; an ending process has no memory.
        assert watch.outcome in ("gone", "zombie")
        if outcome == "zombie":
            assert watch.outcome == "zombie"
        duration = watch.duration
        assert watch.duration == duration
    assert pss(watch.peak) > pss(first) + 7 * MIB
    assert watch.growth is not None
    assert watch.growth[0].name.endswith("(no name)")
    assert watch.duration == duration


def test_watch_follows_exec(backend: ModuleType) -> None:
    with actor() as child, fastsmaps.Watch(child.pid, **OFTEN) as watch:
        child.request("grow", 32)
        until(watch, lambda sample: pss(sample) > 32 * MIB)
        again = [sys.executable, "-EsSB", "-c", ACTOR]
        assert child.request("execute", *again) == child.pid
        until(watch, lambda sample: pss(sample) < 32 * MIB)
        child.request("grow", 4)
    assert watch.outcome == "read"
    assert watch.samples[-1].peak_rss is not None
    assert watch.samples[-1].peak_rss < 32 * MIB  # the new program's
    assert watch.peak_rss is not None
    assert watch.peak_rss > 32 * MIB
    assert pss(watch.peak) > 32 * MIB


def test_watch_after_main_thread_exit(backend: ModuleType) -> None:
    with processes.workload("idle") as child, fastsmaps.Watch(child.pid, **OFTEN) as watch:
        child.request("leave")
        until(watch, lambda sample: sample.peak_rss is None)
        count = watch.count
        until(watch, lambda _: watch.count > count)
    assert watch.outcome == "read"
    assert watch.samples[-1].totals.rss
    assert watch.peak_rss


def test_watch_tree(backend: ModuleType) -> None:
    with actor() as child, fastsmaps.Watch(child.pid, tree=True, **OFTEN) as watch:
        first = watch.samples[0]
        assert (first.processes, first.unread) == (1, 0)
        child.request("fork", 24)
        until(watch, lambda sample: sample.processes == 2 and pss(sample) > 24 * MIB)
        child.request("fork", 8)
        until(watch, lambda sample: sample.processes == 3 and pss(sample) > 32 * MIB)
        child.request("reap")
        child.request("reap")
        until(watch, lambda sample: sample.processes == 1)
    assert pss(watch.samples[-1]) < 24 * MIB < pss(watch.peak)
    # VmHWM is a value of one process, so a tree has none.
    assert watch.peak_rss is None
    assert "peak_rss" not in watch.samples.fields


def test_watch_tree_with_unread_root(backend: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other processes still count: here no descriptor is left for the root."""

    def scan(pids: Any = None, **options: Any) -> fastsmaps.Scan:
        result = fastsmaps.scan(pids, **options)
        if pids is None:
            return result
        return result._part(
            row.replace(outcome="failed", totals=None) if row.pid == child.pid else row
            for row in result
        )

    with actor() as child:
        child.request("fork", 24)
        monkeypatch.setattr("fastsmaps._host.watch.scan", scan)
        with fastsmaps.Watch(child.pid, tree=True, **OFTEN) as watch:
            until(watch, lambda sample: watch.count > 2)
    for sample in watch.samples:
        assert (sample.processes, sample.unread) == (2, 0)
        assert pss(sample) > 24 * MIB


def test_watch_without_smaps_rollup(backend: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with actor() as child:
        with monkeypatch.context() as patch:
            processes.hide_files(patch, "smaps_rollup")
            with fastsmaps.Watch(child.pid, **OFTEN) as watch:
                until(watch, lambda _: watch.count > 2)
        totals = watch.samples[-1].totals
        assert (totals.source, totals.size) == ("smaps", watch.samples.column("size")[-1])
        assert totals.rss == fastsmaps.totals(child.pid).rss


def test_watch_capture(backend: ModuleType, tmp_path: Path) -> None:
    """A capture does not change, but is sampled like a process."""
    shutil.copytree(DATA / "captures/7.2-amd64/zoo", tmp_path / "7")
    (tmp_path / "7/status").unlink(missing_ok=True)
    with fastsmaps.Watch(7, procfs=tmp_path, **OFTEN) as watch:
        until(watch, lambda _: watch.count > 3)
    assert watch.growth == []
    assert watch.peak_rss is None
    assert {sample.totals for sample in watch.samples} == {fastsmaps.totals(7, procfs=tmp_path)}


def test_watch_capture_without_pss_and_rss(backend: ModuleType, tmp_path: Path) -> None:
    shutil.copytree(DATA / "captures/7.2-amd64/zoo", tmp_path / "7")
    (tmp_path / "7/smaps_rollup").unlink(missing_ok=True)
    (tmp_path / "7/smaps").write_text("1000-2000 rw-p 00000000 00:00 0\nSwap: 4 kB\n")
    with fastsmaps.Watch(7, procfs=tmp_path, **OFTEN) as watch:
        until(watch, lambda _: watch.count > 3)
    assert {name: sample.totals.swap for name, sample in watch.peaks.items()} == {"swap": 4096}
    with pytest.raises(ValueError, match="no sample of this Watch has Pss or Rss"):
        _ = watch.peak


# ---- schedule, budget and limits


def test_samples_are_scheduled_at_multiples_of_interval(backend: ModuleType) -> None:
    with fastsmaps.Watch(interval=0.004, budget=1, growth=False) as watch:
        until(watch, lambda _: watch.count > 100)
    elapsed = watch.samples.column("elapsed").tolist()
    ticks = [math.floor(seconds / 0.004) for seconds in elapsed[1:-1]]  # the last one is extra
    assert ticks == sorted(set(ticks))
    assert watch._tick == watch.count + watch.skipped  # late samples count as skipped


def test_budget_skips_samples(backend: ModuleType) -> None:
    """This budget allows one sample in two hours."""
    with fastsmaps.Watch(interval=0.001, budget=1e-9) as watch:
        assert not watch.wait(0.05)
        assert watch.count == 1
        assert watch.skipped > 1000
    assert watch.count == 2


def test_max_samples_bounds_memory(backend: ModuleType) -> None:
    with actor() as child:
        often: dict[str, Any] = {"interval": 0.001, "budget": 1, "growth": False}
        with fastsmaps.Watch(child.pid, max_samples=10, **often) as watch:
            first = watch.samples[0]
            child.request("grow", 8)
            until(watch, lambda sample: pss(sample) > 8 * MIB)
            child.request("shrink")
            until(watch, lambda _: watch.count > 200)
    assert watch.count > 200
    assert len(watch.samples) <= 12
    assert watch.samples[0] == first
    assert max(map(pss, watch.samples)) == pss(watch.peak) > 8 * MIB
    elapsed = watch.samples.column("elapsed").tolist()
    assert elapsed == sorted(set(elapsed))


def totals_of(rss: int, **fields: int) -> fastsmaps.Totals:
    return fastsmaps.Totals({"Rss": rss, "Pss": rss // 2, **fields}, None, "smaps_rollup")


@given(
    st.lists(st.integers(0, 2**40), min_size=1, max_size=200),
    st.integers(2, 9),
)
def test_kept_samples_cover_whole_series(values: list[int], maximum: int) -> None:
    series = Series(maximum)
    for i, value in enumerate(values):
        series.add(totals_of(value), elapsed=i, time=i, processes=1, unread=0, peak_rss=None)
        samples = series.samples()
        seen = values[: i + 1]
        assert len(samples) <= maximum + 1 + 2
        assert max(samples.column("pss")) == max(seen) // 2
        places = [round(seconds * 1e9) for seconds in samples.column("elapsed")]
        assert places == sorted(set(places))
        assert [seen[place] for place in places] == list(samples.column("rss"))
        assert (places[0], places[-1]) == (0, i)
        # No gap is large: two neighbours are at most four times the mean distance apart.
        assert all(b - a <= max(4, 8 * len(seen) // maximum) for a, b in itertools.pairwise(places))
        assert series.peaks()["rss"].totals.rss == max(seen)


def test_samples_read_by_threads(backend: ModuleType) -> None:
    problems: list[str] = []

    def read(watch: fastsmaps.Watch) -> None:
        while not watch.wait(0.0001) and watch.count < 300:
            samples = watch.samples
            columns = [samples.column(name).tolist() for name in ("elapsed", "rss", "uss")]
            if {len(samples)} != set(map(len, columns)) or columns[0] != sorted(set(columns[0])):
                problems.append(f"{columns}")
            if not watch.peak.totals.pss or fastsmaps.ABSENT in columns[1]:
                problems.append(f"{watch.peak}")

    with fastsmaps.Watch(interval=0.001, budget=1, max_samples=20, growth=False) as watch:
        threads = [threading.Thread(target=read, args=(watch,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert problems == []
    assert watch.count >= 300


# ---- start, stop and failure


def test_stop(backend: ModuleType) -> None:
    for stop_before_start in (True, False):
        watch = fastsmaps.Watch(interval=3600)
        if stop_before_start:
            watch.stop()
        with watch:
            watch.stop()
            assert watch.wait(processes.TIMEOUT)
            assert watch.count == 1
        assert (watch.count, watch.outcome) == (2, "read")


@pytest.mark.parametrize("interval", [0.001, 3600])
def test_watch_does_not_delay_interpreter_exit(backend: ModuleType, interval: float) -> None:
    code = (
        "import fastsmaps\n"
        f"watch = fastsmaps.Watch(interval={interval}, budget=1).__enter__()\n"
        "print(watch.samples[0].totals.rss > 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True, text=True, check=False, timeout=processes.TIMEOUT,
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)


def test_watch_stops_in_fork(backend: ModuleType) -> None:
    with fastsmaps.Watch(**OFTEN) as watch:

        def inside() -> tuple[int, int]:
            watch.__exit__(None, None, None)
            return threading.active_count(), watch.samples[-1].totals.rss or 0

        assert processes.run_in_child(inside)[0] == 1
        count = watch.count
        until(watch, lambda _: watch.count > count)


def test_watch_arguments(backend: ModuleType) -> None:
    arguments: dict[str, Any]
    for arguments, name in (
        ({"interval": 0}, "interval"),
        ({"interval": -1}, "interval"),
        ({"interval": math.nan}, "interval"),
        ({"budget": 0}, "budget"),
        ({"budget": 2}, "budget"),
        ({"max_samples": 1}, "max_samples"),
        ({"pid": 0}, "pid"),
    ):
        with pytest.raises(ValueError, match=name):
            fastsmaps.Watch(**arguments)
    watch = fastsmaps.Watch()
    assert (watch.duration, watch.count, watch.peaks, len(watch.samples)) == (0, 0, {}, 0)
    with pytest.raises(ValueError, match="not begun"):
        watch.wait()
    with watch, pytest.raises(ValueError, match="used already"):
        watch.__enter__()
    with fastsmaps.Watch() as watch:
        watch.stop()
        for timeout in (None, 1e12, math.inf):
            assert watch.wait(timeout)


def test_watch_unreadable_process(backend: ModuleType) -> None:
    with pytest.raises(fastsmaps.ProcessGone), fastsmaps.Watch(processes.dead_pid()):
        raise AssertionError
    with (
        processes.zombie() as pid,
        pytest.raises(fastsmaps.NoMemoryMap, match="zombie"),
        fastsmaps.Watch(pid),
    ):
        raise AssertionError


def test_access_denied_during_watch(backend: ModuleType) -> None:
    """After an exec of a program without read permission its own user may not read it."""
    program = shutil.which("cat")
    assert program is not None

    def inside(in_body: bool) -> tuple[str, str]:
        if os.getuid() == 0:
            linux.become(linux.NOBODY)
            linux.LIBC.prctl(linux.PR_SET_DUMPABLE, 1, 0, 0, 0)
        with tempfile.TemporaryDirectory() as directory:
            secret = f"{directory}/cat"
            shutil.copy(program, secret)
            os.chmod(secret, 0o111)
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(writer)
                os.read(reader, 1)
                os.dup2(reader, 0)
                os.execv(secret, [secret])
            watch = fastsmaps.Watch(child, **OFTEN)
            try:
                with watch:
                    os.write(writer, b"x")
                    assert watch.wait(processes.TIMEOUT)
                    if in_body:
                        raise LookupError
            except (fastsmaps.AccessDenied, LookupError) as error:
                return type(error).__name__, watch.outcome
            finally:
                os.close(writer)
                os.waitpid(child, 0)
        return "", watch.outcome

    def in_body() -> tuple[str, str]:
        return inside(True)

    assert processes.run_in_child(in_body) == ("LookupError", "denied")
    assert processes.run_in_child(lambda: inside(False)) == ("AccessDenied", "denied")


# ---- the table


def test_samples_table(backend: ModuleType) -> None:
    with fastsmaps.Watch(interval=3600) as watch:
        pass
    samples = watch.samples
    first, last = samples
    assert samples[0] == first == pickle.loads(pickle.dumps(first)) != last
    assert hash(first) != hash(last)
    assert samples[-1] == last
    assert list(samples[1:]) == [last]
    assert list(pickle.loads(pickle.dumps(samples))) == [first, last]
    for name in samples.fields:
        column = samples.column(name)
        assert column.readonly
        assert column.contiguous
        expected = [sample.as_dict()[name] for sample in samples]
        assert [None if value == fastsmaps.ABSENT else value for value in column] == expected
    assert {"elapsed", "time", "processes", "peak_rss", "pss", "uss"} < set(samples.fields)
    assert "size" not in samples.fields  # a rollup has none
    assert set(samples.column("size")) == {fastsmaps.ABSENT}
    assert samples.column("Private_Dirty") == samples.column("private_dirty")
    assert samples.column("time").format == "d"
    for unknown in ("nonsense", "kind"):
        with pytest.raises(KeyError):
            samples.column(unknown)
    with pytest.raises(AttributeError, match="immutable"):
        first.elapsed = 1.0
    assert "Sample at" in repr(first)


def test_field_that_appears_later() -> None:
    series = Series(10)
    for i, fields in enumerate(({}, {"Next": 5}, {})):
        series.add(totals_of(1, **fields), elapsed=i, time=i, processes=1, unread=0, peak_rss=None)
    samples = series.samples()
    assert samples.column("Next").tolist() == [fastsmaps.ABSENT, 5, fastsmaps.ABSENT]
    assert samples.column("next").tolist() == samples.column("Next").tolist()
    assert [sample.totals for sample in samples] == [
        totals_of(1),
        totals_of(1, Next=5),
        totals_of(1),
    ]
    assert set(samples.column("uss")) == set(samples.column("swap")) == {fastsmaps.ABSENT}
