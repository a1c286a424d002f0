"""Who may not read, and what the error says would be enough."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import pytest

import fastsmaps
from support import linux, processes

pytestmark = pytest.mark.usefixtures("no_leak")

T = TypeVar("T")

ROOT = os.geteuid() == 0
WAYS: dict[str, Callable[[int], object]] = {
    "totals": fastsmaps.totals,
    "mappings": fastsmaps.mappings,
    "maps": lambda pid: fastsmaps.mappings(pid, sizes=False),
    "Process": lambda pid: fastsmaps.Process(pid).close(),
    "Process.totals": lambda pid: read_through(pid, fastsmaps.Process.totals),
    "Process.mappings": lambda pid: read_through(pid, fastsmaps.Process.mappings),
}
FILES = {
    "totals": "smaps_rollup",
    "mappings": "smaps",
    "maps": "maps",
    "Process.totals": "smaps_rollup",
    "Process.mappings": "smaps",
}


def read_through(pid: int, read: Callable[[fastsmaps.Process], object]) -> object:
    with fastsmaps.Process(pid) as process:
        return read(process)


Answers = dict[str, "fastsmaps.AccessDenied | str"]


def answers(pid: int) -> Answers:
    """What each way to read gives: the refusal, or the name of what came."""
    found: Answers = {}
    with processes.same_descriptors():
        for name, way in WAYS.items():
            try:
                found[name] = type(way(pid)).__name__
            except fastsmaps.AccessDenied as error:
                found[name] = error
            except fastsmaps.Error as error:
                found[name] = repr(error)
    return found


def as_stranger(function: Callable[[], T], *capabilities: int) -> T:
    """In a child that has no rights but these: as nobody if it may, else as who we are."""

    def read() -> T:
        linux.become(linux.NOBODY if ROOT else os.geteuid(), *capabilities)
        return function()

    return processes.run_in_child(read)


@contextlib.contextmanager
def guarded() -> Iterator[int]:
    """The pid of a process that only who has capabilities may read."""
    with processes.workload("idle") as child:
        child.request("undumpable")
        yield child.pid


def assert_denied(found: Answers, pid: int) -> None:
    # Not from the mount option's group, which is root's if none is told: root without capabilities.
    if linux.hides_processes() and found["Process"] != "NoneType":
        assert_hidden(found, pid)
        return
    assert found.pop("Process") == "NoneType"  # its directory may be opened
    assert found.keys() == FILES.keys()
    for name, error in found.items():
        assert isinstance(error, fastsmaps.AccessDenied), (name, error)
        assert isinstance(error, PermissionError)
        assert error.errno == errno.EACCES
        assert error.pid == pid
        assert error.path == error.filename == f"/proc/{pid}/{FILES[name]}"
        assert error.path in str(error)
        assert "CAP_SYS_PTRACE" in str(error)
        assert "CAP_PERFMON" in str(error)
        assert "hidepid" not in str(error)


def assert_hidden(found: Answers, pid: int) -> None:
    assert found.keys() == WAYS.keys()
    for name, error in found.items():
        assert isinstance(error, fastsmaps.AccessDenied), (name, error)
        assert error.pid == pid
        assert "hidepid" in str(error)


def test_another_users(backend: ModuleType) -> None:
    if ROOT:
        with processes.workload("idle") as child:
            assert_denied(as_stranger(lambda: answers(child.pid)), child.pid)
    else:
        # Somebody else's always: it has most rights of all.
        if os.path.exists("/proc/1") and os.stat("/proc/1").st_uid == os.geteuid():
            pytest.skip("the first process is our own")
        assert_denied(answers(1), 1)


def test_not_dumpable(backend: ModuleType) -> None:
    """One's own, but without the right to its memory: it is root's, or its program set that."""

    def read() -> Answers:
        linux.keep_capabilities()
        return answers(pid)

    with guarded() as pid:
        assert_denied(processes.run_in_child(read), pid)


def test_what_is_read_before_it_is_forbidden(backend: ModuleType) -> None:
    """Rights are asked when a file is opened: descriptors that are kept go on."""

    def read() -> bool:
        with fastsmaps.Process(child.pid) as process:
            process.totals(), process.mappings()
            child.request("undumpable")
            linux.keep_capabilities()
            with pytest.raises(fastsmaps.AccessDenied):
                process.mappings(sizes=False)
            return bool(process.totals().rss and len(process.mappings()) > 10)

    with processes.workload("idle") as child:
        assert processes.run_in_child(read)


@pytest.mark.skipif(not ROOT, reason="only root can give a child single capabilities")
@pytest.mark.parametrize("capability", [linux.CAP_SYS_PTRACE, linux.CAP_PERFMON])
def test_one_capability_is_enough(backend: ModuleType, capability: int) -> None:
    """What the message names. CAP_PERFMON: on newer kernels, so the kernel is asked first."""

    def bare() -> bool:
        try:
            return bool(Path(f"/proc/{pid}/smaps").read_bytes())
        except (PermissionError, FileNotFoundError):  # not found: /proc is mounted with hidepid=2
            return False

    with guarded() as pid:
        try:
            allowed = as_stranger(bare, capability)
            found = as_stranger(lambda: answers(pid), capability)
        except linux.Unavailable as refused:
            pytest.skip(f"this root has not that capability: {refused}")
        if not allowed and capability == linux.CAP_PERFMON:
            pytest.skip("CAP_PERFMON opens no smaps on this kernel, or with this /proc")
    assert found == {
        "totals": "Totals",
        "mappings": "Mappings",
        "maps": "Mappings",
        "Process": "NoneType",
        "Process.totals": "Totals",
        "Process.mappings": "Mappings",
    }


# ---- hidepid


def with_hidepid(value: str, read: Callable[[int], T], looked_up: bool = False) -> T:
    """What a reader without rights gets of a process that is guarded, on such a /proc."""

    def inside() -> T:
        with guarded() as pid:
            if looked_up:
                os.listdir(f"/proc/{pid}")
            return as_stranger_there(lambda: read(pid))

    def as_stranger_there(function: Callable[[], T]) -> T:
        def stranger() -> T:
            # In a user namespace of our own there is one user alone.
            linux.become(linux.NOBODY if ROOT else 0)
            return function()

        return processes.run_in_child(stranger)

    try:
        return processes.run_in_namespaces(inside, value)
    except linux.Unavailable as refused:
        pytest.skip(f"no /proc with {value}: {refused}")


# By number on all kernels; names came with 5.8. The group (root's if it is not told) is not ours.
OPTIONS = ["hidepid=1,gid=4321", "hidepid=2,gid=4321", "hidepid=4"]


@pytest.mark.parametrize("options", OPTIONS)
def test_hidepid(backend: ModuleType, options: str) -> None:
    def read(pid: int) -> tuple[int, Answers, bool]:
        return pid, answers(pid), os.path.exists(f"/proc/{pid}/stat")

    pid, found, visible = with_hidepid(options, read)
    assert not visible
    assert found.keys() == WAYS.keys()
    for name, error in found.items():
        assert isinstance(error, fastsmaps.AccessDenied), (name, error)
        # Under ASan, what starts the process looks itself up, as in the next test.
        refused = options == "hidepid=4" and error.errno == errno.EPERM
        assert refused or error.errno == (errno.EPERM if "=1" in options else errno.EACCES)
        assert error.pid == pid
        assert "hidepid" in str(error)
        assert "CAP_SYS_PTRACE would be enough" in str(error)
        assert str(pid) in str(error)


def test_hidepid_4_refuses_what_was_looked_up(backend: ModuleType) -> None:
    """By who may: the kernel has found it, and hides it no longer."""
    for name, error in with_hidepid("hidepid=4", answers, looked_up=True).items():
        assert isinstance(error, fastsmaps.AccessDenied), (name, error)
        assert error.errno == errno.EPERM
        assert "hidepid" in str(error)


@pytest.mark.parametrize("options", OPTIONS)
def test_a_scan_under_hidepid(backend: ModuleType, options: str) -> None:
    outcome, error = with_hidepid(
        options, lambda pid: next((row.outcome, row.error) for row in fastsmaps.scan([pid]))
    )
    assert outcome == "denied"
    assert error is not None
    assert "hidepid" in error
    assert "CAP_SYS_PTRACE would be enough" in error
    assert "CAP_PERFMON" not in error


@pytest.mark.parametrize("options", OPTIONS[1:])
def test_hidden_from_its_own_user(backend: ModuleType, options: str) -> None:
    """A signal can be sent to it, but it cannot be seen: that is not gone."""

    def inside() -> Answers:
        def read() -> Answers:
            linux.keep_capabilities()
            return answers(pid)

        with guarded() as pid:
            return processes.run_in_child(read)

    try:
        found = processes.run_in_namespaces(inside, options)
    except linux.Unavailable as refused:
        pytest.skip(f"no /proc with {options}: {refused}")
    for name, error in found.items():
        assert isinstance(error, fastsmaps.AccessDenied), (name, error)
        assert "hidepid" in str(error)


@pytest.mark.parametrize("options", OPTIONS[1:])
def test_hidden_after_it_was_opened(backend: ModuleType, options: str) -> None:
    """Its directory is held, and nothing is found in it any more: that is not gone."""

    def inside() -> tuple[int, list[object]]:
        def read() -> list[object]:
            with fastsmaps.Process(child.pid) as process:
                child.request("undumpable")
                linux.keep_capabilities()
                found: list[object] = []
                for way in (process.totals, process.mappings, process.info):
                    try:
                        found.append(way())
                    except fastsmaps.Error as error:
                        found.append(error)
                return found

        with processes.workload("idle") as child:
            return child.pid, processes.run_in_child(read)

    try:
        pid, found = processes.run_in_namespaces(inside, options)
    except linux.Unavailable as refused:
        pytest.skip(f"no /proc with {options}: {refused}")
    for error in found:
        assert isinstance(error, fastsmaps.AccessDenied), error
        assert error.pid == pid
        assert "hidepid" in str(error)


def test_a_command_line_that_is_forbidden_is_none(backend: ModuleType) -> None:
    """And no (), which a kernel thread has."""
    rows = with_hidepid("hidepid=1", lambda pid: list(fastsmaps.scan([pid], cmdline=True)))
    assert [(row.outcome, row.cmdline) for row in rows] == [("denied", None)]


@pytest.mark.parametrize("options", OPTIONS)
def test_gone_under_hidepid(backend: ModuleType, options: str) -> None:
    def read(_: int) -> list[str]:
        # A fork of the stranger's, which is gone; hidden processes are no excuse for it.
        return [type(error).__name__ for error in errors(processes.dead_pid())]

    def errors(pid: int) -> list[Exception]:
        found: list[Exception] = []
        for way in WAYS.values():
            try:
                way(pid)
            except fastsmaps.Error as error:
                found.append(error)
        return found

    assert with_hidepid(options, read) == ["ProcessGone"] * len(WAYS)


def test_hidden_in_another_mount(backend: ModuleType, tmp_path: Path) -> None:
    """Not /proc, but of the same pid namespace: signals tell there too."""

    def inside() -> Answers:
        linux.mount_proc(tmp_path, "hidepid=2,gid=4321")

        def stranger() -> Answers:
            linux.keep_capabilities()
            found: Answers = {}
            for name, read in (("totals", fastsmaps.totals), ("mappings", fastsmaps.mappings)):
                try:
                    found[name] = repr(read(pid, procfs=tmp_path))
                except fastsmaps.AccessDenied as error:
                    found[name] = error
            return found

        with guarded() as pid:
            return processes.run_in_child(stranger)

    try:
        found = processes.run_in_namespaces(inside)
    except linux.Unavailable as refused:
        pytest.skip(f"no second procfs: {refused}")
    for error in found.values():
        assert isinstance(error, fastsmaps.AccessDenied), error
        assert f"hidepid of {tmp_path}" in str(error)


# ---- captures


def test_capture_that_may_not_be_read(backend: ModuleType, tmp_path: Path) -> None:
    """No capability of the kernel's is missing there, but the files' permissions."""
    (tmp_path / "7").mkdir()
    for name in ("maps", "smaps", "smaps_rollup"):
        (tmp_path / "7" / name).touch(mode=0)
    (tmp_path / "8").mkdir(mode=0)

    def read() -> list[fastsmaps.Error]:
        found: list[fastsmaps.Error] = []
        for pid in (7, 8):
            for way in (fastsmaps.totals, fastsmaps.mappings):
                try:
                    way(pid, procfs=tmp_path)
                except fastsmaps.Error as error:
                    found.append(error)
        return found

    def without_rights() -> list[fastsmaps.Error]:
        linux.keep_capabilities()
        return read()

    found = processes.run_in_child(without_rights)
    assert len(found) == 4
    for error in found:
        assert isinstance(error, fastsmaps.AccessDenied), error
        assert "CAP" not in str(error)
        assert "capture" in str(error)
    (tmp_path / "8").chmod(0o700)
