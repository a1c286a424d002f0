"""fastsmaps capture, and what ps makes of a capture, whole or damaged."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path
from types import ModuleType

from support import processes
from support.commands import json_rows, run


def test_capture(backend: ModuleType, tmp_path: Path, idle: processes.Process) -> None:
    target = str(tmp_path / "one.tar")
    text = run("capture", "-o", target, str(idle.pid)).stdout
    assert f"{target}: 1 of 1 processes read" in text
    (row,) = json_rows("ps", "--procfs", target)
    assert row["pid"] == idle.pid
    gone = processes.dead_pid()
    done = run("capture", "-o", str(tmp_path / "two"), str(idle.pid), str(gone), status=1)
    assert done.stderr.count("\n") == 1
    assert [row["pid"] for row in json_rows("ps", "--procfs", str(tmp_path / "two"))] == [idle.pid]
    run("capture", "-o", str(tmp_path / "two"), str(idle.pid), status=1)  # it is there
    assert run("capture", "-o", "/nowhere/x.tar", str(idle.pid), status=1).stderr.count("\n") == 1
    run("capture", status=2)
    some = str(tmp_path / "some.tar")
    run("capture", "-o", some, "--filter", "workloads.py")
    assert idle.pid in {row["pid"] for row in json_rows("ps", "--procfs", some)}


def test_ps_of_a_capture(backend: ModuleType, saved: str, idle: processes.Process) -> None:
    assert {row["pid"] for row in json_rows("ps", "--procfs", saved)} == {idle.pid, os.getpid()}


def test_a_damaged_capture(backend: ModuleType, saved: str, tmp_path: Path) -> None:
    """What is whole is shown, and one line says that there is more."""
    whole = gzip.decompress(Path(saved).read_bytes())
    (tmp_path / "short.tar").write_bytes(whole[: len(whole) * 2 // 3])
    done = run("ps", "--procfs", str(tmp_path / "short.tar"), status=1)
    assert done.stderr.startswith("fastsmaps: ")
    assert done.stderr.count("\n") == 1
    assert "processes read" in done.stdout
    (tmp_path / "garbage.tar").write_bytes(b"garbage" * 1000)
    assert run("ps", "--procfs", str(tmp_path / "garbage.tar"), status=1).stderr.count("\n") == 1
    assert run("ps", "--procfs", str(tmp_path / "nothing"), status=1).stderr.count("\n") == 1


def test_what_damage_hides_is_no_change(backend: ModuleType, saved: str, tmp_path: Path) -> None:
    """It is not known: neither did it come nor go."""
    whole = gzip.decompress(Path(saved).read_bytes())
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        begun = archive.getmember(str(os.getpid())).offset  # after the other
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole[: begun + 100])
    assert len(json_rows("ps", "--procfs", str(cut), status=1)) == 1
    for pair in ((saved, str(cut)), (str(cut), saved)):
        assert json_rows("diff", *pair, status=1) == []
