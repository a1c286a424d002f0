"""A damaged file of one process costs one row, or one value of it, and no more."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fastsmaps
from fastsmaps import plot
from fastsmaps.cli.main import main
from support import linux, processes
from support.smaps_texts import record

pytestmark = pytest.mark.usefixtures("no_leak")


def whole_files(pid: int) -> dict[str, bytes]:
    """Return the undamaged text of each file of a process."""
    sizes: Any = {"Rss": 8, "Pss": 4, "Private_Dirty": 4, "Swap": 0}
    stat = b"%d (it) S 1 1 1 0 -1 4194304 " % pid + b"0 " * 10 + b"1 0 77 " + b"0 " * 15 + b"17 0\n"
    return {
        "stat": stat,
        "statm": b"9 2 1 3 0 0 0\n",
        "status": b"Name:\tit\nTgid:\t%d\nUid:\t0\t0\t0\t0\nVmHWM:\t8 kB\n" % pid,
        "comm": b"it\n",
        "cmdline": b"it\0-x\0",
        "cgroup": b"0::/system.slice/it.service\n",
        "maps": b"00001000-00009000 r--p 00000000 00:00 0 /it\n",
        "smaps": record(0x1000, 0x9000, name=b"/it", **sizes),
        "smaps_rollup": record(0x1000, 0x9000, name=b"[rollup]", **sizes),
    }


FILES = tuple(whole_files(7))
#: What stands there instead; None for no such file, a number for so many zeros.
DAMAGE: dict[str, bytes | int | None] = {
    "missing": None,
    "empty": b"",
    "text": b"garbage\n",
    "bytes": b"\xff\0\x1b(\n)\n" * 10,
    "a stat line of large numbers": b"7 (x) S " + (b"9" * 5000 + b" ") * 50 + b"\n",
    "a stat line of negative numbers": b"7 (x) S " + b"-7 " * 50 + b"\n",
    "large numbers": b"Uid:\t%b\nTgid:\t7\nVmHWM:\t%b kB\n" % ((b"9" * 5000,) * 2),
    "zeros": 300_000,
    "more than memory": 3 << 30,
}


LIMITS: tuple[dict[str, Any], ...] = (
    {}, {"min_rss": 1}, {"mappings": True}, {"timeout": 1000.0},
    {"exclude": lambda row: row.comm == "nothing"},
)  # fmt: skip


def damage(path: Path, content: bytes | int | None) -> None:
    path.unlink()
    if isinstance(content, int):
        path.touch()
        os.truncate(path, content)
    elif content is not None:
        path.write_bytes(content)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Make a capture of two processes, 7 and 8."""
    for pid in (7, 8):
        (tmp_path / "host" / str(pid)).mkdir(parents=True)
        for name, text in whole_files(pid).items():
            (tmp_path / "host" / str(pid) / name).write_bytes(text)
    return tmp_path / "host"


def json_rows(root: str | Path) -> Iterator[list[fastsmaps.ProcessTotals]]:
    """Return what each function gives for all processes."""
    for more in LIMITS:
        yield list(fastsmaps.scan(procfs=root, cgroup=True, cmdline=True, **more))
    scan = fastsmaps.scan(procfs=root, cgroup=True)
    for by in ("comm", "user", "cgroup"):
        scan.group_by(by)
    with fastsmaps.Sampler(procfs=root, cgroup=True, cmdline=True, budget=1) as sampler:
        yield list(sampler.sweep())
        yield list(sampler.sweep())


def commands(root: str, whole: str, out: Path) -> list[list[str]]:
    procfs = ["--procfs", root]
    return [
        ["ps", *procfs],
        ["ps", "--json", "--filter", ".", *procfs],
        ["ps", "--by", "cgroup", *procfs],
        ["ps", "7", "8", *procfs],
        ["ps", "--parquet", str(out / "ps.parquet"), "--filter", ".", *procfs],
        ["top", "--filter", ".", *procfs],
        ["libs", *procfs],
        ["totals", "7", "8", *procfs],
        ["maps", "7", *procfs],
        ["watch", "7", "--for", "0", *procfs],
        ["diff", root, whole],
        ["diff", whole, root, "--by", "cgroup"],
        ["export", "--once", "--by", "unit,user", *procfs],
        ["capture", "-o", str(out / "out.tar"), *procfs],
    ]


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_of_a_capture_hurts_only_its_process(
    backend: ModuleType, host: Path, tmp_path: Path, file: str, kind: str
) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(host, whole)
    (expected,) = fastsmaps.scan([8], procfs=whole, cgroup=True, cmdline=True)
    assert expected.outcome == "read"
    damage(host / "7" / file, DAMAGE[kind])
    check(host, whole, tmp_path, expected)


def _pid(row: fastsmaps.ProcessTotals) -> int:
    return row.pid


def check(root: Path, whole: Path, out: Path, expected: fastsmaps.ProcessTotals) -> None:
    """Check that the other process is unchanged, and that this one has no wrong value."""
    for rows in json_rows(root):
        # A Sampler starts again with a process it cannot read: the order may change.
        row, other = sorted((row.replace(age=None, mappings=None) for row in rows), key=_pid)
        assert (row.pid, other) == (7, expected)
        assert row.totals is None or row.totals.rss == expected.totals.rss  # type: ignore[union-attr]
        for name in ("ppid", "uid", "start_time", "cgroup"):
            assert getattr(row, name) in (None, getattr(expected, name)), name
    plot.processes(fastsmaps.scan(procfs=root, cgroup=True, cmdline=True), by="cgroup")
    assert fastsmaps.libs(procfs=root)["/it"].processes in (1, 2)
    for words in commands(str(root), str(whole), out):
        said = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = main(words)
        assert status in (0, 1), words


# ---- mounted over a process's files

MS_BIND, MNT_DETACH = 0x1000, 2
LIVE = {kind: content for kind, content in DAMAGE.items() if content is not None}


@contextlib.contextmanager
def mounted(source: Path, target: str) -> Iterator[None]:
    linux.call("mount", os.fsencode(source), target.encode(), None, MS_BIND, None)
    try:
        yield
    finally:
        linux.LIBC.umount2(target.encode(), MNT_DETACH)


def live_ways(pid: int, out: Path) -> dict[str, Callable[[], object]]:
    """Run each function over many processes by itself."""
    ways = ["ps", "ps --by cgroup", f"ps {pid}", "ps --filter idle", "top", f"maps {pid}"]
    ways += [f"totals {pid}", "libs", "export --once --by unit", f"watch {pid} --for 0"]

    def command(words: str) -> None:
        said = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            assert main(words.split()) in (0, 1), words

    return {
        **{words: partial(command, words) for words in ways},
        "capture": lambda: fastsmaps.capture(out / "out.tar"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_of_a_live_process_is_reported(
    backend: ModuleType, tmp_path: Path, file: str
) -> None:
    """Files are mounted over a process's, as lxcfs does, in the test's own mount namespace."""
    sources = {kind: tmp_path / f"{i}" for i, kind in enumerate(LIVE)}
    for kind, path in sources.items():
        path.touch()
        damage(path, LIVE[kind])
    os.mkfifo(tmp_path / "FIFO")
    sources |= {"FIFO": tmp_path / "FIFO", "no end of zeros": Path("/dev/zero")}

    def inside() -> None:
        with processes.workload("idle") as one, processes.workload("idle") as other:
            (before,) = fastsmaps.scan([other.pid], cgroup=True, cmdline=True)
            (right,) = fastsmaps.scan([one.pid], cgroup=True, cmdline=True)
            for kind, source in sources.items():
                with mounted(source, f"/proc/{one.pid}/{file}"):
                    for more in LIMITS:
                        check_scan(fastsmaps.scan(cgroup=True, cmdline=True, **more), right, before)
                    with fastsmaps.Sampler(cgroup=True, cmdline=True, budget=1) as sampler:
                        check_scan(sampler.sweep(), right, before)
                        check_scan(sampler.sweep(), right, before)
                    for name, way in live_ways(one.pid, tmp_path).items():
                        try:
                            way()
                        except BaseException as error:
                            error.add_note(f"{name}, {kind}")
                            raise

    try:
        processes.run_in_namespaces(inside)
    except linux.Unavailable as error:
        pytest.skip(f"no namespaces: {error}")


def check_scan(
    scan: fastsmaps.Scan, right: fastsmaps.ProcessTotals, before: fastsmaps.ProcessTotals
) -> None:
    row, other = scan.by_pid[right.pid], scan.by_pid[before.pid]
    assert (other.outcome, other.cgroup, other.cmdline) == ("read", before.cgroup, before.cmdline)
    for name in ("ppid", "uid", "start_time", "cgroup"):
        assert getattr(row, name) in (None, getattr(right, name)), name
    assert (row.outcome == "read") == (row.totals is not None)
    assert row.outcome == "read" or row.error
