"""fastsmaps capture, and ps and diff on complete and damaged captures."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
from pathlib import Path
from types import ModuleType

from support import processes
from support.commands import json_rows, run
from support.independent import DATA


def test_capture_saves_processes(
    backend: ModuleType, tmp_path: Path, idle: processes.Process
) -> None:
    target = str(tmp_path / "one.tar")
    done = run("capture", "-o", target, str(idle.pid))
    assert done.stdout.endswith("\n1 of 1 processes read\n")
    assert done.stderr == f"Wrote {target}\n"
    (row,) = json_rows("ps", "--procfs", target)
    assert row["pid"] == idle.pid
    gone = processes.dead_pid()
    done = run("capture", "-o", str(tmp_path / "two"), str(idle.pid), str(gone), status=1)
    assert done.stderr.count("\n") == 2
    assert [row["pid"] for row in json_rows("ps", "--procfs", str(tmp_path / "two"))] == [idle.pid]
    run("capture", "-o", str(tmp_path / "two"), str(idle.pid), status=1)  # it is there
    assert run("capture", "-o", "/nowhere/x.tar", str(idle.pid), status=1).stderr.count("\n") == 1
    run("capture", status=2)
    some = str(tmp_path / "some.tar")
    run("capture", "-o", some, "--filter", "workloads.py")
    assert idle.pid in {row["pid"] for row in json_rows("ps", "--procfs", some)}


def test_ps_of_a_capture(backend: ModuleType, saved: str, idle: processes.Process) -> None:
    assert {row["pid"] for row in json_rows("ps", "--procfs", saved)} == {idle.pid, os.getpid()}


def test_damaged_capture_shows_complete_members(
    backend: ModuleType, saved: str, tmp_path: Path
) -> None:
    """Complete members are shown, and one line reports the damage."""
    whole = gzip.decompress(Path(saved).read_bytes())
    (tmp_path / "short.tar").write_bytes(whole[: len(whole) * 2 // 3])
    done = run("ps", "--procfs", str(tmp_path / "short.tar"), status=1)
    assert done.stderr.startswith("fastsmaps: ")
    assert done.stderr.count("\n") == 1
    assert "processes read" in done.stdout
    (tmp_path / "garbage.tar").write_bytes(b"garbage" * 1000)
    assert run("ps", "--procfs", str(tmp_path / "garbage.tar"), status=1).stderr.count("\n") == 1
    assert run("ps", "--procfs", str(tmp_path / "nothing"), status=1).stderr.count("\n") == 1


def test_diff_ignores_processes_lost_to_damage(
    backend: ModuleType, saved: str, tmp_path: Path
) -> None:
    """A process lost to damage is unknown: it neither started nor ended."""
    whole = gzip.decompress(Path(saved).read_bytes())
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        begun = archive.getmember(str(os.getpid())).offset  # after the other
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole[: begun + 100])
    assert len(json_rows("ps", "--procfs", str(cut), status=1)) == 1
    for pair in ((saved, str(cut)), (str(cut), saved)):
        assert json_rows("diff", *pair, status=1) == []


def test_diff_names_each_process(backend: ModuleType, tmp_path: Path) -> None:
    """A reused pid is two changes: one process ended, another started."""
    for name, processes_of in {
        "old": {"7": "zoo", "8": "zoo"}, "new": {"7": "child", "9": "zoo"},
    }.items():  # fmt: skip
        for pid, saved_process in processes_of.items():
            shutil.copytree(DATA / "captures/6.12-amd64" / saved_process, tmp_path / name / pid)
            stat = tmp_path / name / pid / "stat"
            stat.write_bytes(pid.encode() + stat.read_bytes().lstrip(b"0123456789"))
    pair = (str(tmp_path / "old"), str(tmp_path / "new"))
    rows = json_rows("diff", *pair)
    found = {(row["pid"], row["comm"], row["change"] > 0) for row in rows}
    child = "zoo (child) x)"
    assert found == {(7, "zoo", False), (7, child, True), (8, "zoo", False), (9, "zoo", True)}
    assert len(rows) == 4
    assert json_rows("diff", *pair, "--by", "pid") == rows
    assert [row["comm"] for row in json_rows("diff", *pair, "--filter", "child")] == [child]
    assert "COMM" in run("diff", *pair).stdout
