"""capture() and open_capture(): exactly what was saved is read again."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fastsmaps
from fastsmaps._capture.capture import capture
from fastsmaps._capture.unpack import open_capture
from fastsmaps._errors import CaptureError
from fastsmaps._source.source import Source
from support import linux, processes
from support.captures import STAT, TARGETS, rows, scan_capture, tree

pytestmark = pytest.mark.usefixtures("no_unpacked_files")

ROOT = os.geteuid() == 0
FILES = {
    "stat", "statm", "status", "cmdline", "comm", "cgroup", "exe", "maps", "smaps", "smaps_rollup",
}  # fmt: skip
# Fields that do not depend on other processes.
STILL = ("rss", "anonymous", "swap", "locked", "private_hugetlb")


# ---- there and back


@pytest.mark.parametrize("name", TARGETS)
def test_capture_reads_back_the_same(
    backend: ModuleType, idle: processes.Process, tmp_path: Path, name: str
) -> None:
    saved = capture(tmp_path / name)
    assert os.listdir(tmp_path) == [name]
    assert saved.by_pid[idle.pid].outcome == "read"
    with open_capture(tmp_path / name) as directory:
        assert isinstance(directory, str)
        again = scan_capture(directory)
        assert again == [row for row in saved if row.outcome != "gone"]
        assert set(os.listdir(f"{directory}/{idle.pid}")) == FILES
        assert os.listdir(directory).count("meminfo") == 1
        facts = json.loads(Path(directory, "fastsmaps.json").read_bytes())
        assert (facts["host"], facts["taken_at"]) == (os.uname().nodename, saved.taken_at)
        # The time of the capture, not of reading it.
        for table in (
            fastsmaps.scan(procfs=directory),
            fastsmaps.mappings(idle.pid, procfs=directory),
        ):
            assert table.taken_at == saved.taken_at
        with fastsmaps.Process(idle.pid, procfs=directory) as process:
            assert process.mappings().taken_at == saved.taken_at
        Path(directory, "fastsmaps.json").unlink()
        assert fastsmaps.mappings(idle.pid, procfs=directory).taken_at is None
        assert fastsmaps.scan(procfs=directory).taken_at is None
        # Every function reads it as if it were /proc.
        live = fastsmaps.totals(idle.pid)
        for totals in (
            fastsmaps.totals(idle.pid, procfs=directory),
            fastsmaps.mappings(idle.pid, procfs=directory).totals(),
            saved.by_pid[idle.pid].totals,
        ):
            assert totals is not None
            assert [totals[key] for key in STILL] == [live[key] for key in STILL]
        maps = fastsmaps.mappings(idle.pid, sizes=False)
        assert list(fastsmaps.mappings(idle.pid, sizes=False, procfs=directory)) == list(maps)
        with (
            fastsmaps.Process(idle.pid, procfs=directory) as process,
            fastsmaps.Process(idle.pid) as original,
        ):
            assert process.info(heap=True) == original.info(heap=True)
        assert fastsmaps.libs(procfs=directory)
    assert os.path.exists(directory) == (name == "directory")


def test_only_its_owner_can_read_a_capture(idle: processes.Process, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        for name in TARGETS:
            capture(tmp_path / name, [idle.pid])
        with open_capture(tmp_path / "a.tar") as directory:
            every = [*tmp_path.rglob("*"), Path(directory), *Path(directory).rglob("*")]
    finally:
        os.umask(before)
    for path in every:
        if path.exists():
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_capture_of_a_capture_is_the_same(
    backend: ModuleType, idle: processes.Process, tmp_path: Path
) -> None:
    first = capture(tmp_path / "one", [idle.pid])
    second = capture(tmp_path / "two.tar", procfs=tmp_path / "one")
    assert rows(first) == rows(second)
    with open_capture(tmp_path / "two.tar") as directory:
        assert tree(directory).keys() == tree(str(tmp_path / "one")).keys()
        assert scan_capture(directory) == rows(first)


def test_existing_archive_is_replaced(idle: processes.Process, tmp_path: Path) -> None:
    target = tmp_path / "a.tar"
    target.write_bytes(b"older")
    capture(target, [idle.pid])
    with open_capture(target) as directory:
        assert os.path.exists(f"{directory}/{idle.pid}/smaps")


# ---- every outcome


def test_every_outcome_is_noted(
    backend: ModuleType, idle: processes.Process, tmp_path: Path
) -> None:
    pids = [idle.pid, processes.dead_pid()]
    thread = processes.kernel_thread()
    with processes.zombie() as zombie, processes.workload("idle") as child:
        child.request("threads", 1)
        pids += [zombie, *([thread] if thread else [])]
        saved = capture(tmp_path / "a.tar", pids)
        live = rows(fastsmaps.scan(pids))
    outcomes = ["read", "gone", "zombie", *(["kernel_thread"] if thread else [])]
    assert [row.outcome for row in saved] == outcomes == [row.outcome for row in live]
    assert [row.error for row in saved] == [row.error for row in live]
    with open_capture(tmp_path / "a.tar") as directory:
        again = fastsmaps.scan(pids, procfs=directory, cgroup=True, cmdline=True)
        assert rows(again) == rows(saved)
        for pid in pids[2:]:
            assert Path(directory, str(pid), "smaps").read_bytes() == b""
            with pytest.raises(fastsmaps.NoMemoryMap):
                fastsmaps.totals(pid, procfs=directory)


def test_thread_is_not_captured_as_a_process(idle: processes.Process, tmp_path: Path) -> None:
    with processes.workload("idle") as child:
        (tid,) = child.request("threads", 1)
        saved = capture(tmp_path / "a", [tid])
        assert saved[0].outcome == "failed"
        assert f"thread of process {child.pid}" in (saved[0].error or "")
        assert not (tmp_path / "a" / str(tid)).exists()


def test_process_without_its_main_thread(backend: ModuleType, tmp_path: Path) -> None:
    with processes.workload("idle") as child:
        child.request("leave")
        saved = capture(tmp_path / "a.tar", [child.pid])
        assert saved[0].outcome == "read"
        assert saved[0].cmdline == fastsmaps.scan([child.pid], cmdline=True)[0].cmdline != ()
        with open_capture(tmp_path / "a.tar") as directory:
            assert scan_capture(directory) == rows(saved)
            assert len(fastsmaps.mappings(child.pid, procfs=directory))
            # Its statm is saved from a living thread: the main thread's says 0.
            (row,) = fastsmaps.scan(procfs=directory, min_rss=linux.PAGE)
            assert row.outcome == "read"


@pytest.mark.parametrize("name", TARGETS)
def test_denied_process_is_noted(backend: ModuleType, tmp_path: Path, name: str) -> None:
    tmp_path.chmod(0o777)
    for parent in list(tmp_path.parents)[:2]:  # pytest's own
        parent.chmod(0o755)
    with processes.workload("idle") as child:
        child.request("undumpable")

        def run() -> list[Any]:
            linux.become(linux.NOBODY if ROOT else os.geteuid())
            tempfile.tempdir = str(tmp_path)
            saved = capture(tmp_path / name, [child.pid])
            (live,) = fastsmaps.scan([child.pid], cgroup=True, cmdline=True)
            with open_capture(tmp_path / name) as directory:
                notes = Source(directory).metadata.unread
                files = set(os.listdir(f"{directory}/{child.pid}"))
                return [*saved, live, *scan_capture(directory), notes, files]

        try:
            saved, live, again, notes, files = processes.run_in_child(run)
        except CaptureError as error:
            pytest.skip(f"another user cannot write here: {error}")
    assert saved.outcome == "denied"
    assert saved == live == again
    assert notes == {child.pid: ("denied", live.error)}
    assert files == FILES - {"exe", "maps", "smaps", "smaps_rollup"}


def test_every_reader_reports_the_notes(backend: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "saved" / "7").mkdir(parents=True)
    (tmp_path / "saved" / "7" / "stat").write_bytes(STAT % 7)
    (tmp_path / "saved" / "fastsmaps.json").write_text(
        '{"processes": {"7": {"outcome": "denied", "error": "a reason"}}}'
    )
    again = capture(tmp_path / "again", procfs=tmp_path / "saved")
    for directory in (tmp_path / "saved", tmp_path / "again"):
        with fastsmaps.Sampler(procfs=directory) as sampler:
            for scan in (again, fastsmaps.scan(procfs=directory), sampler.sweep()):
                assert [(row.outcome, row.error) for row in scan] == [("denied", "a reason")]
        libs = fastsmaps.libs(procfs=directory)
        assert (libs.coverage["denied"], libs.errors) == (1, {7: "a reason"})


def test_invalid_notes_are_ignored(tmp_path: Path) -> None:
    assert Source(str(tmp_path)).metadata.unread == {}
    assert Source("/proc").metadata.unread == {}
    for text in (
        b"", b"[]", b"{}", b"nonsense", b'{"processes": 3}', b'{"processes": []}', b"[" * 100_000,
        b'{"processes": {"1": 3, "x": {"outcome": "denied", "error": "e"}}}',
        b'{"processes": {"1": {"outcome": "read", "error": "e"}, "2": {"outcome": ["gone"]}}}',
        b'{"processes": {"1": {"outcome": "denied", "error": null}}}', b"\xff",
    ):  # fmt: skip
        (tmp_path / "fastsmaps.json").write_bytes(text)
        assert Source(str(tmp_path)).metadata.unread == {}


def test_hostile_names_survive(backend: ModuleType, tmp_path: Path) -> None:
    with processes.workload("idle") as child:
        name = os.fsdecode(b") R 1 2\x1b[3\xff\n")
        assert child.request("name", name) == "named"
        saved = capture(tmp_path / "a.tar.gz", [child.pid])
        (live,) = fastsmaps.scan([child.pid], cgroup=True, cmdline=True)
    with open_capture(tmp_path / "a.tar.gz") as directory:
        (again,) = scan_capture(directory)
    assert saved[0].comm == live.comm == again.comm
    assert "\udcff" in (again.comm or "")
    assert saved[0].cmdline == live.cmdline == again.cmdline


@pytest.mark.parametrize("event", ["reaped", "zombie", "exec"])
def test_process_that_ends_meanwhile_is_left_out(
    backend: ModuleType, tmp_path: Path, event: str
) -> None:
    with processes.workload("many", "20000") as child:

        def act() -> None:
            if event == "exec":
                child.request("exec", "idle")
            elif event == "zombie":
                child.kill()
            else:
                child.reap()

        with processes.interrupting(act) as done:
            saved = capture(tmp_path / "a", [child.pid, os.getpid()])
        assert done
        assert saved[1].outcome == "read"
        assert saved[0].outcome == {"reaped": "gone", "exec": "read"}.get(event, event)
        files = tree(str(tmp_path / "a"))
        of_it = {name: text for name, text in files.items() if name.startswith(f"{child.pid}/")}
        if event == "reaped":
            assert of_it == {}
        elif event == "zombie":
            assert of_it[f"{child.pid}/smaps"] == b""
        else:
            # All files are of one program: the new one, which has few mappings.
            smaps, maps = of_it[f"{child.pid}/smaps"], of_it[f"{child.pid}/maps"]
            assert len(fastsmaps.parse(smaps)) == len(fastsmaps.parse(maps)) < 5000
            assert b"\0idle\0" in of_it[f"{child.pid}/cmdline"]
