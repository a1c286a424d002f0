"""Reads without enough permission: the error and the capabilities that it names."""

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
READS: dict[str, Callable[[int], object]] = {
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


Outcomes = dict[str, "fastsmaps.AccessDenied | str"]


def read_all(pid: int) -> Outcomes:
    """Call all READS; return the error or the type's name for each."""
    outcomes: Outcomes = {}
    with processes.same_descriptors():
        for name, read in READS.items():
            try:
                outcomes[name] = type(read(pid)).__name__
            except fastsmaps.AccessDenied as error:
                outcomes[name] = error
            except fastsmaps.Error as error:
                outcomes[name] = repr(error)
    return outcomes


def run_unprivileged(function: Callable[[], T], *capabilities: int) -> T:
    """Run in a child with only these capabilities, as nobody if we are root."""

    def read() -> T:
        linux.become(linux.NOBODY if ROOT else os.geteuid(), *capabilities)
        return function()

    return processes.run_in_child(read)


@contextlib.contextmanager
def undumpable_process() -> Iterator[int]:
    """Start a process that only a reader with capabilities may read; yield its pid."""
    with processes.workload("idle") as child:
        child.request("undumpable")
        yield child.pid


def assert_denied(outcomes: Outcomes, pid: int) -> None:
    # Root without capabilities still sees it: the mount option gid= defaults to root's group.
    if linux.hides_processes() and outcomes["Process"] != "NoneType":
        assert_hidden(outcomes, pid)
        return
    assert outcomes.pop("Process") == "NoneType"  # its directory may be opened
    assert outcomes.keys() == FILES.keys()
    for name, error in outcomes.items():
        assert isinstance(error, fastsmaps.AccessDenied), (name, error)
        assert isinstance(error, PermissionError)
        assert error.errno == errno.EACCES
        assert error.pid == pid
        assert error.path == error.filename == f"/proc/{pid}/{FILES[name]}"
        assert error.path in str(error)
        assert "CAP_SYS_PTRACE" in str(error)
        assert "CAP_PERFMON" in str(error)
        assert "hidepid" not in str(error)


def assert_hidden(outcomes: Outcomes, pid: int) -> None:
    assert outcomes.keys() == READS.keys()
    for name, error in outcomes.items():
        assert isinstance(error, fastsmaps.AccessDenied), (name, error)
        assert error.pid == pid
        assert "hidepid" in str(error)


def test_process_of_another_user_is_denied(backend: ModuleType) -> None:
    if ROOT:
        with processes.workload("idle") as child:
            assert_denied(run_unprivileged(lambda: read_all(child.pid)), child.pid)
    else:
        # Process 1 normally belongs to root.
        if os.path.exists("/proc/1") and os.stat("/proc/1").st_uid == os.geteuid():
            pytest.skip("the first process is our own")
        assert_denied(read_all(1), 1)


def test_undumpable_process_is_denied(backend: ModuleType) -> None:
    """A process that clears PR_SET_DUMPABLE is unreadable even for its own user."""

    def read() -> Outcomes:
        linux.keep_capabilities()
        return read_all(pid)

    with undumpable_process() as pid:
        assert_denied(processes.run_in_child(read), pid)


def test_kept_descriptors_stay_readable(backend: ModuleType) -> None:
    """The kernel checks permission when a file is opened, so kept descriptors still work."""

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
    """Each capability that the error names is enough; CAP_PERFMON only on newer kernels."""

    def can_read() -> bool:
        try:
            return bool(Path(f"/proc/{pid}/smaps").read_bytes())
        except (PermissionError, FileNotFoundError):  # not found: /proc is mounted with hidepid=2
            return False

    with undumpable_process() as pid:
        try:
            allowed = run_unprivileged(can_read, capability)
            outcomes = run_unprivileged(lambda: read_all(pid), capability)
        except linux.Unavailable as error:
            pytest.skip(f"root lacks this capability here: {error}")
        if not allowed and capability == linux.CAP_PERFMON:
            pytest.skip("CAP_PERFMON opens no smaps on this kernel, or with this /proc")
    assert outcomes == {
        "totals": "Totals",
        "mappings": "Mappings",
        "maps": "Mappings",
        "Process": "NoneType",
        "Process.totals": "Totals",
        "Process.mappings": "Mappings",
    }


# ---- hidepid


def with_hidepid(value: str, read: Callable[[int], T], looked_up: bool = False) -> T:
    """Read an undumpable process without privileges, on a /proc with these mount options."""

    def inside() -> T:
        with undumpable_process() as pid:
            if looked_up:
                os.listdir(f"/proc/{pid}")
            return processes.run_in_child(lambda: unprivileged(pid))

    def unprivileged(pid: int) -> T:
        # A user namespace of our own has only one user.
        linux.become(linux.NOBODY if ROOT else 0)
        return read(pid)

    try:
        return processes.run_in_namespaces(inside, value)
    except linux.Unavailable as error:
        pytest.skip(f"no /proc with {value}: {error}")


# Numbers work on all kernels, names since 5.8. The group (default: root's) is not ours.
OPTIONS = ["hidepid=1,gid=4321", "hidepid=2,gid=4321", "hidepid=4"]


@pytest.mark.parametrize("options", OPTIONS)
def test_hidepid_raises_access_denied(backend: ModuleType, options: str) -> None:
    def read(pid: int) -> tuple[int, Outcomes, bool]:
        return pid, read_all(pid), os.path.exists(f"/proc/{pid}/stat")

    pid, outcomes, visible = with_hidepid(options, read)
    assert not visible
    assert outcomes.keys() == READS.keys()
    for name, error in outcomes.items():
        assert isinstance(error, fastsmaps.AccessDenied), (name, error)
        # Under ASan the starting process looks up its own directory, as in the next test.
        looked_up = options == "hidepid=4" and error.errno == errno.EPERM
        assert looked_up or error.errno == (errno.EPERM if "=1" in options else errno.EACCES)
        assert error.pid == pid
        assert "hidepid" in str(error)
        assert "CAP_SYS_PTRACE would be enough" in str(error)
        assert str(pid) in str(error)


def test_hidepid_4_after_privileged_lookup(backend: ModuleType) -> None:
    """After a lookup by a privileged process the kernel no longer hides it."""
    for name, error in with_hidepid("hidepid=4", read_all, looked_up=True).items():
        assert isinstance(error, fastsmaps.AccessDenied), (name, error)
        assert error.errno == errno.EPERM
        assert "hidepid" in str(error)


@pytest.mark.parametrize("options", OPTIONS)
def test_scan_under_hidepid(backend: ModuleType, options: str) -> None:
    outcome, error = with_hidepid(
        options, lambda pid: next((row.outcome, row.error) for row in fastsmaps.scan([pid]))
    )
    assert outcome == "denied"
    assert error is not None
    assert "hidepid" in error
    assert "CAP_SYS_PTRACE would be enough" in error
    assert "CAP_PERFMON" not in error


@pytest.mark.parametrize("options", OPTIONS[1:])
def test_hidden_own_process_is_not_gone(backend: ModuleType, options: str) -> None:
    """A process that can be signalled but not seen exists."""

    def inside() -> Outcomes:
        def read() -> Outcomes:
            linux.keep_capabilities()
            return read_all(pid)

        with undumpable_process() as pid:
            return processes.run_in_child(read)

    try:
        outcomes = processes.run_in_namespaces(inside, options)
    except linux.Unavailable as error:
        pytest.skip(f"no /proc with {options}: {error}")
    for name, outcome in outcomes.items():
        assert isinstance(outcome, fastsmaps.AccessDenied), (name, outcome)
        assert "hidepid" in str(outcome)


@pytest.mark.parametrize("options", OPTIONS[1:])
def test_process_hidden_after_open_is_not_gone(backend: ModuleType, options: str) -> None:
    """No file is found through its open directory, and still it is not gone."""

    def inside() -> tuple[int, list[object]]:
        def read() -> list[object]:
            with fastsmaps.Process(child.pid) as process:
                child.request("undumpable")
                linux.keep_capabilities()
                results: list[object] = []
                for method in (process.totals, process.mappings, process.info):
                    try:
                        results.append(method())
                    except fastsmaps.Error as error:
                        results.append(error)
                return results

        with processes.workload("idle") as child:
            return child.pid, processes.run_in_child(read)

    try:
        pid, results = processes.run_in_namespaces(inside, options)
    except linux.Unavailable as error:
        pytest.skip(f"no /proc with {options}: {error}")
    for result in results:
        assert isinstance(result, fastsmaps.AccessDenied), result
        assert result.pid == pid
        assert "hidepid" in str(result)


def test_denied_cmdline_is_none(backend: ModuleType) -> None:
    """None, and not (), which is a kernel thread's."""
    rows = with_hidepid("hidepid=1", lambda pid: list(fastsmaps.scan([pid], cmdline=True)))
    assert [(row.outcome, row.cmdline) for row in rows] == [("denied", None)]


@pytest.mark.parametrize("options", OPTIONS)
def test_gone_under_hidepid(backend: ModuleType, options: str) -> None:
    def read(_: int) -> list[str]:
        # A dead child of the unprivileged reader is gone, not hidden.
        return [type(error).__name__ for error in read_errors(processes.dead_pid())]

    def read_errors(pid: int) -> list[Exception]:
        errors: list[Exception] = []
        for read in READS.values():
            try:
                read(pid)
            except fastsmaps.Error as error:
                errors.append(error)
        return errors

    assert with_hidepid(options, read) == ["ProcessGone"] * len(READS)


def test_hidepid_of_second_procfs_mount(backend: ModuleType, tmp_path: Path) -> None:
    """Not mounted at /proc, but of the same pid namespace, so signals show that it exists."""

    def inside() -> Outcomes:
        linux.mount_proc(tmp_path, "hidepid=2,gid=4321")

        def unprivileged() -> Outcomes:
            linux.keep_capabilities()
            outcomes: Outcomes = {}
            for name, read in (("totals", fastsmaps.totals), ("mappings", fastsmaps.mappings)):
                try:
                    outcomes[name] = repr(read(pid, procfs=tmp_path))
                except fastsmaps.AccessDenied as error:
                    outcomes[name] = error
            return outcomes

        with undumpable_process() as pid:
            return processes.run_in_child(unprivileged)

    try:
        outcomes = processes.run_in_namespaces(inside)
    except linux.Unavailable as error:
        pytest.skip(f"no second procfs: {error}")
    for outcome in outcomes.values():
        assert isinstance(outcome, fastsmaps.AccessDenied), outcome
        assert f"hidepid of {tmp_path}" in str(outcome)


# ---- captures


def test_unreadable_capture_names_no_capability(backend: ModuleType, tmp_path: Path) -> None:
    """The files' permissions are the cause, which no capability message would explain."""
    (tmp_path / "7").mkdir()
    for name in ("maps", "smaps", "smaps_rollup"):
        (tmp_path / "7" / name).touch(mode=0)
    (tmp_path / "8").mkdir(mode=0)

    def read_unprivileged() -> list[fastsmaps.Error]:
        linux.keep_capabilities()
        errors: list[fastsmaps.Error] = []
        for pid in (7, 8):
            for read in (fastsmaps.totals, fastsmaps.mappings):
                try:
                    read(pid, procfs=tmp_path)
                except fastsmaps.Error as error:
                    errors.append(error)
        return errors

    errors = processes.run_in_child(read_unprivileged)
    assert len(errors) == 4
    for error in errors:
        assert isinstance(error, fastsmaps.AccessDenied), error
        assert "CAP" not in str(error)
        assert "capture" in str(error)
    (tmp_path / "8").chmod(0o700)
