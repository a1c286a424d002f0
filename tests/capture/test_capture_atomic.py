"""capture(): written atomically, and only to a safe target."""

from __future__ import annotations

import errno
import importlib
import os
import resource
import signal
import tempfile
from pathlib import Path
from types import ModuleType

import pytest

import fastsmaps
from fastsmaps._capture.capture import capture
from fastsmaps._capture.unpack import open_capture
from fastsmaps._errors import CaptureError
from support import linux, processes
from support.captures import TARGETS

pytestmark = pytest.mark.usefixtures("no_unpacked_files")

# fastsmaps.capture is the function, not the module.
MODULE = importlib.import_module("fastsmaps._capture.capture")


@pytest.mark.parametrize("name", TARGETS)
def test_interrupted_capture_leaves_nothing(
    idle: processes.Process, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / name
    if name != "directory":
        target.write_bytes(b"older")
    calls = []

    def interrupted(fd: int) -> bytes:
        calls.append(fd)
        if len(calls) > 5:
            raise KeyboardInterrupt
        return os.pread(fd, 10_000_000, 0)

    monkeypatch.setattr(MODULE, "_read_text", interrupted)
    with pytest.raises(KeyboardInterrupt):
        capture(target, [idle.pid, os.getpid()])
    assert os.listdir(tmp_path) == ([] if name == "directory" else [name])
    if name != "directory":
        assert target.read_bytes() == b"older"


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("most", [0, 1000])
def test_failed_write_leaves_nothing(
    idle: processes.Process, tmp_path: Path, name: str, most: int
) -> None:
    def attempt() -> list[str]:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        with (
            processes.same_descriptors(),
            pytest.raises(CaptureError, match="cannot write") as caught,
        ):
            capture(tmp_path / name, [idle.pid])
        assert caught.value.errno == errno.EFBIG
        assert caught.value.path == str(tmp_path / name)
        return os.listdir(tmp_path)

    assert processes.run_in_child(attempt) == []


@pytest.mark.parametrize("name", TARGETS)
def test_full_disk_leaves_nothing(idle: processes.Process, tmp_path: Path, name: str) -> None:
    def mounted() -> tuple[list[str], list[str]]:
        linux.call("unshare", linux.CLONE_NEWNS)
        linux.call("mount", b"none", b"/", None, linux.MS_REC | linux.MS_PRIVATE, None)
        for directory in ("small", "unpacked"):
            (tmp_path / directory).mkdir()
            where = os.fsencode(tmp_path / directory)
            linux.call("mount", b"tmpfs", where, b"tmpfs", 0, b"size=4k")
        with pytest.raises(CaptureError, match="No space left on device") as caught:
            capture(tmp_path / "small" / name, [idle.pid, os.getpid()])
        assert caught.value.errno == errno.ENOSPC
        capture(tmp_path / name, [idle.pid])
        if name != "directory":
            tempfile.tempdir = str(tmp_path / "unpacked")
            with (
                pytest.raises(CaptureError, match=r"cannot unpack.*No space"),
                open_capture(tmp_path / name),
            ):
                pass
        return os.listdir(tmp_path / "small"), os.listdir(tmp_path / "unpacked")

    try:
        assert processes.run_in_child(mounted) == ([], [])
    except linux.Unavailable as error:
        pytest.skip(f"no file system of one's own: {error}")


def test_wrong_targets_are_refused(idle: processes.Process, tmp_path: Path) -> None:
    full = tmp_path / "full"
    (full / "something").mkdir(parents=True)
    file = tmp_path / "file"
    file.write_bytes(b"kept")
    (tmp_path / "link").symlink_to(full)
    (tmp_path / "link.tar").symlink_to(file)
    (tmp_path / "directory.tar").mkdir()
    before = sorted(os.listdir(tmp_path))
    cases = (
        (full, "not empty"),
        (file, "not a directory"),
        (tmp_path / "link", "not a directory"),
        (tmp_path / "link.tar", "not a regular file"),
        (tmp_path / "directory.tar", "not a regular file"),
        (tmp_path / "nothing" / "a.tar", "No such file"),
        (tmp_path / "nothing" / "a", "No such file"),
        (file / "a", "Not a directory"),
    )
    for target, says in cases:
        with pytest.raises(CaptureError, match=says) as caught:
            capture(target, [idle.pid])
        assert caught.value.path == str(target)
    for target_ in ("", ".", "..", "/", f"{tmp_path}/..", f"{tmp_path}/a.tar.zip"):
        with pytest.raises(ValueError, match="target"):
            capture(target_, [idle.pid])
    with pytest.raises(TypeError):
        capture(tmp_path / "a", 3)  # type: ignore[arg-type]
    with pytest.raises(fastsmaps.NotProcfs, match="is not a directory"):
        capture(tmp_path / "a", procfs=tmp_path / "nothing")
    assert sorted(os.listdir(tmp_path)) == before
    assert file.read_bytes() == b"kept"
    (tmp_path / "empty").mkdir()
    capture(f"{tmp_path}/empty/", [idle.pid])
    assert (tmp_path / "empty" / str(idle.pid) / "smaps").exists()


def test_exec_before_the_files_are_opened_is_noticed(
    backend: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exec comes after stat was read: every saved file is of the new program."""
    classify = MODULE._Files._classify
    execs: list[object] = []
    with processes.workload("idle") as child:
        assert child.request("name", "before") == "named"

        def and_then(files: object) -> None:
            classify(files)
            if not execs:
                execs.append(child.request("exec", "marked", str(tmp_path / "mark")))

        monkeypatch.setattr(MODULE._Files, "_classify", and_then)
        (row,) = capture(tmp_path / "saved", [child.pid])
        assert execs
        saved = tmp_path / "saved" / str(child.pid)
        comm = (saved / "comm").read_text().removesuffix("\n")
        assert comm != "before"
        assert row.comm == comm
        assert f"({comm})" in (saved / "stat").read_text()
