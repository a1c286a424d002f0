"""fastsmaps collect: a data set of one host, through crashes, full disks and restarts."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import errno
import fcntl
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pytest
from pyarrow import fs, parquet

import fastsmaps
from fastsmaps._output.dataset import DataSet, table_of
from fastsmaps._output.stored import rows_table, schema_of
from fastsmaps._output.stores import LocalStore, ObjectStore, store_of
from fastsmaps.cli.commands import collect
from support import commands, processes

_NOW = datetime.datetime(2026, 11, 28, tzinfo=datetime.UTC)


def rows(hour: int, pids: range) -> Any:
    taken_at = _NOW + datetime.timedelta(hours=hour)
    records = [{"host": "h", "pid": pid, "taken_at": taken_at, "rss": 4096} for pid in pids]
    return rows_table("processes", records).replace_schema_metadata(None)


def keys(root: Path) -> Counter[tuple[Any, ...]]:
    """Return how often each row is in the files, as an engine would read them."""
    found: Counter[tuple[Any, ...]] = Counter()
    for path in root.rglob("*.parquet"):
        file = parquet.ParquetFile(path)
        assert file.schema_arrow.equals(schema_of("processes"))
        found.update((row["taken_at"], row["pid"]) for row in file.read().to_pylist())
    return found


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def fill(data: DataSet) -> Counter[tuple[Any, ...]]:
    """Add two hours in two parts each; return their rows."""
    expected: Counter[tuple[Any, ...]] = Counter()
    for hour, part in itertools.product((3, 4), (0, 10)):
        data.add(f"2026-11-28T{hour:02}Z", [rows(hour, range(part, part + 10))])
        taken_at = _NOW + datetime.timedelta(hours=hour)
        expected.update((taken_at, pid) for pid in range(part, part + 10))
    return expected


@pytest.fixture(params=["local", "files", "subtree"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    root = str(tmp_path / "data")
    if request.param == "local":
        return store_of(f"file://{root}")
    local = fs.LocalFileSystem()
    os.mkdir(root)
    if request.param == "files":
        return ObjectStore(local, root)
    return ObjectStore(fs.SubTreeFileSystem(root, local), "")


def test_hours_grow_and_days_are_compacted(store: Any, tmp_path: Path) -> None:
    root, data = tmp_path / "data", DataSet(store, "h/1")
    expected = fill(data)
    directory = "date=2026-11-28/host=h%2F1"
    hours = [f"{directory}/2026-11-28T03Z.parquet", f"{directory}/2026-11-28T04Z.parquet"]
    assert (files(root), keys(root)) == (hours, expected)
    list(data.compact("2026-11-28"))
    assert files(root) == hours  # the day has not ended
    list(data.compact("2026-11-29"))
    assert (files(root), keys(root)) == ([f"{directory}/2026-11-28.parquet"], expected)
    # A clock that was set back adds an hour to a day that was compacted.
    more = rows(3, range(50, 60))
    data.add("2026-11-28T03Z", [more])
    list(data.compact("2026-11-29"))
    assert files(root) == [f"{directory}/2026-11-28.parquet"]
    assert keys(root) == expected + Counter(
        (_NOW + datetime.timedelta(hours=3), i) for i in range(50, 60)
    )
    data.delete_before("2026-11-28")
    assert len(files(root)) == 1
    data.delete_before("2026-11-29")
    assert files(root) == []


def test_damaged_and_foreign_files_are_left_alone(store: Any, tmp_path: Path) -> None:
    root, data = tmp_path / "data", DataSet(store, "h")
    expected = fill(data)
    place = root / "date=2026-11-28/host=h"
    (place / "2026-11-28T05Z.parquet").write_bytes(b"PAR1 damaged")
    parquet.write_table(pa.table({"a": [1]}), place / "2026-11-28T06Z.parquet")
    before = {
        name: (place / name).read_bytes()
        for name in os.listdir(place)
        if "5Z" in name or "6Z" in name
    }
    for hour in (5, 6):
        data.add(f"2026-11-28T{hour:02}Z", [rows(hour, range(3))])
        expected.update((_NOW + datetime.timedelta(hours=hour), pid) for pid in range(3))
    list(data.compact("2026-11-29"))
    assert {name: (place / name).read_bytes() for name in before} == before
    for name in before:
        (place / name).unlink()
    assert keys(root) == expected


def test_rows_of_a_damaged_hour_go_to_another_file(tmp_path: Path) -> None:
    """The footer is whole, the pages are not."""
    root = tmp_path / "data"
    data = DataSet(LocalStore(str(root)), "h")
    data.add("2026-11-28T03Z", [rows(3, range(1000))])
    damaged = root / "date=2026-11-28/host=h/2026-11-28T03Z.parquet"
    content = bytearray(damaged.read_bytes())
    content[4:400] = b"\xff" * 396
    damaged.write_bytes(content)
    data.add("2026-11-28T03Z", [rows(3, range(5))])
    assert damaged.read_bytes() == content
    with pytest.raises(OSError, match="damaged"):
        list(data.compact("2026-11-29"))
    damaged.unlink()
    assert len(keys(root)) == 5


@pytest.mark.parametrize("place", ["metadata", "schema", "length"])
def test_rows_pass_by_a_damaged_footer(place: str, tmp_path: Path) -> None:
    """Pyarrow raises OSError for some damages, as for a failing disk, and others for the rest."""
    data = DataSet(LocalStore(str(tmp_path)), "h")
    data.add("2026-11-28T03Z", [rows(3, range(10))])
    damaged = tmp_path / "date=2026-11-28/host=h/2026-11-28T03Z.parquet"
    whole = damaged.read_bytes()
    content = bytearray(whole)
    length = int.from_bytes(whole[-8:-4], "little")
    if place == "metadata":
        content[-8 - length : -8] = b"\xff" * length
    elif place == "schema":
        at = whole.index(b"outcome", len(whole) - 8 - length)
        content[at : at + 7] = b"\xff" * 7
    else:
        content[-8:-4] = b"\xff\xff\xff\x7f"
    damaged.write_bytes(content)
    data.add("2026-11-28T03Z", [rows(3, range(5))])
    list(data.compact("2026-11-29"))
    assert damaged.read_bytes() == content
    damaged.unlink()
    assert len(keys(tmp_path)) == 5


def test_days_after_a_damaged_one_are_compacted(tmp_path: Path) -> None:
    data = DataSet(LocalStore(str(tmp_path)), "h")
    for hour in (3, 4, 27, 28):
        time_of = _NOW + datetime.timedelta(hours=hour)
        data.add(f"{time_of:%Y-%m-%dT%HZ}", [rows(hour, range(1000))])
    damaged = tmp_path / "date=2026-11-28/host=h/2026-11-28T03Z.parquet"
    content = bytearray(damaged.read_bytes())
    content[4:400] = b"\xff" * 396
    damaged.write_bytes(content)
    with pytest.raises(OSError, match=r"^2026-11-28T03Z.parquet is damaged: "):
        list(data.compact("2026-11-30"))
    assert files(tmp_path) == [
        "date=2026-11-28/host=h/2026-11-28T03Z.parquet",
        "date=2026-11-28/host=h/2026-11-28T04Z.parquet",
        "date=2026-11-29/host=h/2026-11-29.parquet",
    ]


class _Unsure(LocalStore):
    """A store that reports an error after it has written a file, as after a lost answer."""

    fails = True

    @contextlib.contextmanager
    def replace(self, path: str) -> Iterator[BinaryIO]:
        with super().replace(path) as file:
            yield file
        if self.fails:
            raise OSError("timeout")


def test_lost_answer_doubles_no_row(tmp_path: Path) -> None:
    store = _Unsure(str(tmp_path))
    data = DataSet(store, "h")
    parts = [rows(3, range(i, i + 5)) for i in (0, 5, 10)]
    for known in (1, 2):
        with pytest.raises(OSError, match="timeout"):
            data.add("2026-11-28T03Z", parts[:known])
    store.fails = False
    data.add("2026-11-28T03Z", parts)
    assert (len(keys(tmp_path)), {*keys(tmp_path).values()}) == (15, {1})


def _compact_until(data: DataSet, step: int) -> None:
    """Compact in a process that kills itself at a call, or ends."""
    count = 0

    def counted(frame: Any, event: str, argument: object) -> None:
        nonlocal count
        if "_output/" in frame.f_code.co_filename and event == "call":
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(counted)
    for _ in data.compact("2026-11-29"):
        pass
    os._exit(0)


@pytest.mark.slow
def test_kill_in_any_step_loses_and_doubles_no_row(tmp_path: Path) -> None:
    """Kill the compaction at each call of its code, then restart it."""
    root = tmp_path / "data"
    step, killed = 1, 0
    while True:
        data = DataSet(LocalStore(str(root)), "h")
        expected = fill(data)

        pid = os.fork()
        if pid == 0:
            _compact_until(data, step)
        status = os.waitpid(pid, 0)[1]
        if os.WIFEXITED(status):
            assert status == 0
            break
        killed += 1
        list(DataSet(LocalStore(str(root)), "h").compact("2026-11-29"))
        assert keys(root) == expected, step
        assert files(root) == ["date=2026-11-28/host=h/2026-11-28.parquet"], step
        (root / "date=2026-11-28/host=h/2026-11-28.parquet").unlink()
        step += 1
    assert killed > 30


class _Full(LocalStore):
    """A disk that is full for 20 writes; at the next one the collector ends."""

    writes = 0

    def __init__(self, root: str, recovers: bool, end: int) -> None:
        super().__init__(root)
        self.recovers = recovers
        self.end = end

    @contextlib.contextmanager
    def replace(self, path: str) -> Iterator[BinaryIO]:
        self.writes += 1
        if self.writes > 20:
            os.write(self.end, b"x")
        if self.writes <= 20 or not self.recovers:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with super().replace(path) as file:
            yield file


class _Counted(fastsmaps.Sampler):
    """A sampler that gives each sweep a time of its own: a capture has only one."""

    times: list[datetime.datetime]

    def sweep(self) -> fastsmaps.Scan:
        scan = super().sweep()
        self.times.append(_NOW + datetime.timedelta(seconds=len(self.times)))
        object.__setattr__(scan, "taken_at", self.times[-1].timestamp())
        return scan


@pytest.mark.parametrize("recovers", [True, False])
def test_oldest_rows_are_dropped_while_the_disk_is_full(
    recovers: bool,
    host: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each row is written once, or counted as dropped or lost."""
    args = argparse.Namespace(every=0.01, write_every=0.01, budget=1, keep=None, to="there")
    sampler = _Counted(procfs=host, budget=1)
    with sampler:
        sampler.times = []
        monkeypatch.setattr(collect, "_MAX_BYTES", 5 * table_of(sampler.sweep(), "web7").nbytes)
        sampler.times.clear()
        read_end, write_end = os.pipe()
        with open(read_end, "rb"), open(write_end, "wb"):  # closes them
            store = _Full(str(tmp_path / "data"), recovers, write_end)
            collector = collect._Collector(args, sampler, DataSet(store, "web7"), "web7")
            assert collector.run(read_end) is recovers
        swept = len(sampler.times)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("fastsmaps: cannot write there: No space left on device; ")
    assert swept >= 21
    if recovers:
        assert lines[1:] == [f"fastsmaps: can write there again; {swept - 5} rows were dropped"]
        assert keys(tmp_path / "data") == Counter((time, 7) for time in sampler.times[-5:])
    else:
        reason = "cannot write there: No space left on device"
        assert lines[1:] == [f"fastsmaps: {swept} rows are lost: {reason}"]


# ---- the command


@contextlib.contextmanager
def collecting(*words: str, prefix: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    """Run the command until the block ends; then SIGTERM ends it."""
    command = [*prefix, *commands.COMMAND, "collect", "--every", "0.05", *words]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, env=commands.environment(), text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + processes.TIMEOUT
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def wait_for_rows(root: Path, count: int) -> None:
    wait_for(lambda: len(keys(root)) >= count)


def stop(process: subprocess.Popen[str]) -> str:
    process.terminate()
    errors = process.communicate(timeout=processes.TIMEOUT)[1]
    assert process.returncode == 0, errors
    return errors


def locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.fixture
def host(tmp_path: Path) -> str:
    """Make a capture of one process, which is quick to sweep."""
    place = tmp_path / "proc" / "7"
    place.mkdir(parents=True)
    for name in ("smaps_rollup", "statm"):
        (place / name).write_bytes(Path(f"/proc/self/{name}").read_bytes())
    (place / "stat").write_bytes(b"7 (zoo) S 1 " + b"0 " * 40)
    (tmp_path / "proc" / "fastsmaps.json").write_text('{"format": 1, "host": "web7"}')
    return str(tmp_path / "proc")


def test_sigterm_writes_the_buffer(host: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    with collecting("--to", str(root), "--procfs", host) as process:
        wait_for(root.is_dir)
        time.sleep(0.3)
        assert stop(process) == ""
    found = keys(root)
    assert {*found.values()} == {1}
    assert {pid for _, pid in found} == {7}
    (name,) = [name for name in files(root) if name.endswith(".parquet")]
    assert "/host=web7/" in name
    row = parquet.read_table(root / name).to_pylist()[0]
    assert (row["host"], row["comm"], row["outcome"]) == ("web7", "zoo", "read")
    assert row["pss"] > 0
    assert (root / name).stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_kill_and_restart_leave_each_row_once(host: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    words = ("--to", str(root), "--write-every", "0.05", "--procfs", host)
    rows_before: Counter[tuple[Any, ...]] = Counter()
    for _ in range(3):
        with collecting(*words) as process:
            wait_for_rows(root, len(rows_before) + 3)
            process.kill()
            process.wait()
        found = keys(root)
        assert {*found.values()} == {1}
        assert not rows_before - found
        rows_before = found


def test_second_collector_of_a_host_is_refused(host: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    words = ("collect", "--to", str(root), "--procfs", host)
    with collecting(*words[1:]) as process:
        wait_for(lambda: (root / ".fastsmaps-web7.lock").exists())
        wait_for(lambda: locked(root / ".fastsmaps-web7.lock"))
        assert "another process collects web7 in" in commands.run(*words, status=1).stderr
        stop(process)


@pytest.mark.slow
def test_full_disk_is_reported_and_survived(host: str, tmp_path: Path) -> None:
    """A file system of 64 KiB that is full for a while, in a mount namespace."""
    disk = tmp_path / "disk"
    disk.mkdir()
    script = (
        f"mount -t tmpfs -o size=64k none {disk} && "
        f'head -c 60000 /dev/zero > {disk}/filler; exec "$@"'
    )
    prefix = ("unshare", "-m", "sh", "-c", script, "sh")
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a tmpfs in a mount namespace")
    words = ("--to", f"{disk}/data", "--write-every", "0.05", "--procfs", host)
    with collecting(*words, prefix=prefix) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith(f"fastsmaps: cannot write {disk}/data: No space left on device; ")
        inside = Path(f"/proc/{process.pid}/root{disk}")
        assert not keys(inside)
        (inside / "filler").unlink()
        line = process.stderr.readline()
        assert line == f"fastsmaps: can write {disk}/data again\n"
        wait_for(lambda: keys(inside))
        assert {*keys(inside).values()} == {1}
        stop(process)


def test_wrong_use(tmp_path: Path) -> None:
    for words in (
        [], ["--to", "x", "--every", "0"], ["--to", "x", "--keep", "0d"],
        ["--to", "x", "--keep", "1h"], ["--to", "x", "--budget", "2"],
    ):  # fmt: skip
        commands.run("collect", *words, status=2)
    kept = tmp_path / "file"
    kept.write_bytes(b"")
    for target in (str(kept), "nosuch://bucket/x", f"file:/{tmp_path}"):
        assert "cannot write" in commands.run("collect", "--to", target, status=1).stderr


def test_rows_that_were_never_written_are_lost(host: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    with collecting("--to", str(root), "--procfs", host, "--write-every", "0.05") as process:
        wait_for(lambda: files(root) if root.exists() else False)
        assert process.stderr is not None
        wait_for(lambda: any(name.endswith(".parquet") for name in files(root)))
        shutil.rmtree(root)
        root.write_bytes(b"")
        assert "cannot write" in process.stderr.readline()
        process.terminate()
        assert " rows are lost: cannot write" in process.communicate(timeout=processes.TIMEOUT)[1]
        assert process.returncode == 1


def test_any_host_name_can_be_collected(tmp_path: Path) -> None:
    """Uname -n is any text up to 64 bytes."""
    store = LocalStore(str(tmp_path))
    for name in ("a/b", "..", "."):
        lock = store.lock(name)
        with pytest.raises(BlockingIOError):
            store.lock(name)
        os.close(lock)
        DataSet(store, name).add("2026-11-28T03Z", [rows(3, range(5))])
    assert {path.parent for path in tmp_path.iterdir()} == {tmp_path}
    assert len([name for name in files(tmp_path) if name.endswith(".parquet")]) == 3


@pytest.mark.parametrize("name", ["\udcff", "a/\n", "007"])
def test_rows_have_the_name_of_an_odd_host(name: str, host: str, tmp_path: Path) -> None:
    """A name that is not UTF-8 is written as in every other table."""
    Path(host, "fastsmaps.json").write_text(json.dumps({"format": 1, "host": name}))
    root = tmp_path / "data"
    with collecting("--to", str(root), "--procfs", host, "--write-every", "0.05") as process:
        wait_for_rows(root, 1)
        assert stop(process) == ""
    (written, *_) = root.rglob("*.parquet")
    shown = name.replace("\udcff", "\\xff")
    assert parquet.ParquetFile(written).read()["host"].to_pylist()[0] == shown
    assert written.parent.name == f"host={urllib.parse.quote(shown, safe='')}"
