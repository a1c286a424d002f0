"""Processes by pidfd, and pids of another namespace than that of /proc."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fastsmaps
from fastsmaps._source import forks, pidfd
from fastsmaps._source.source import Source
from support import linux, processes

pytestmark = [
    pytest.mark.usefixtures("no_leak"),
    pytest.mark.thread_unsafe(reason="forks, and counts descriptors"),
]

PIDFD_THREAD = os.O_EXCL  # include/uapi/linux/pidfd.h


@contextlib.contextmanager
def opened(pid: int, flags: int = 0) -> Iterator[int]:
    """Open a pidfd; skip the test if the kernel has none of this kind."""
    try:
        fd = os.pidfd_open(pid, flags)
    except OSError as error:
        pytest.skip(f"pidfd_open: {error}")
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.fixture
def child() -> Iterator[processes.Process]:
    with processes.workload("idle") as process:
        yield process


def by_pidfd(fd: Any, **options: Any) -> int:
    with fastsmaps.Process.from_pidfd(fd, **options) as process:
        return process.pid


def test_a_pidfd_opens_its_child(backend: ModuleType, child: processes.Process) -> None:
    with opened(child.pid) as fd:
        with fastsmaps.Process.from_pidfd(fd) as process:
            assert (process.pid, process.procfs) == (child.pid, "/proc")
            assert process.totals().rss == fastsmaps.totals(child.pid).rss
            assert process.mappings().pid == child.pid
        os.fstat(fd)  # still open
        assert by_pidfd(fd) == child.pid


def test_the_pidfd_of_an_ended_child_is_gone(backend: ModuleType, child: processes.Process) -> None:
    with opened(child.pid) as fd:
        child.kill()
        with fastsmaps.Process.from_pidfd(fd) as process:
            with pytest.raises(fastsmaps.NoMemoryMap, match="zombie"):
                process.totals()
            child.reap()
            with pytest.raises(fastsmaps.ProcessGone):
                process.totals()
        with pytest.raises(fastsmaps.ProcessGone, match=f"the process of pidfd {fd} has ended"):
            by_pidfd(fd)


def test_a_thread_opens_its_own_process(backend: ModuleType) -> None:
    """The descriptors are read through the thread: the main one may have exited."""
    found = []
    with opened(os.getpid()) as fd:
        thread = threading.Thread(target=lambda: found.append(by_pidfd(fd)))
        thread.start()
        thread.join()
    assert found == [os.getpid()]


def test_a_threads_pidfd_is_refused(backend: ModuleType, child: processes.Process) -> None:
    (tid,) = child.request("threads", 1)
    with opened(child.pid, PIDFD_THREAD) as leader, opened(tid, PIDFD_THREAD) as other:
        assert by_pidfd(leader) == child.pid
        with pytest.raises(fastsmaps.NotAProcess) as caught:
            by_pidfd(other)
        assert str(caught.value) == f"{tid} is a thread of process {child.pid}"
        assert caught.value.process == child.pid
        child.reap()
        with pytest.raises(fastsmaps.ProcessGone):
            by_pidfd(other)


def test_other_descriptors_are_refused(backend: ModuleType) -> None:
    with contextlib.ExitStack() as stack:
        fds = [os.open(path, os.O_RDONLY) for path in ("/dev/null", "/proc/self", "/proc/self/fd")]
        fds += [os.open("/", os.O_PATH), *os.pipe(), os.eventfd(0)]
        for fd in fds:
            stack.callback(os.close, fd)
        one, two = socket.socketpair()
        with one, two:
            for fd in (*fds, one.fileno()):
                with pytest.raises(ValueError, match=f"fd must be a pidfd, got {fd}"):
                    by_pidfd(fd)
    closed = os.open("/dev/null", os.O_RDONLY)
    os.close(closed)
    for fd in (closed, -1, 2**40, 2**70):
        with pytest.raises(ValueError, match=f"fd must be an open descriptor, got {fd}"):
            by_pidfd(fd)
    for wrong in (None, "3", b"3", True, 3.0):
        with pytest.raises(TypeError, match="fd must be an int, got "):
            by_pidfd(wrong)


@pytest.mark.parametrize("name", ["thread-self", "self"])
def test_fdinfo_without_a_pid_is_an_error(backend: ModuleType, tmp_path: Path, name: str) -> None:
    """Linux before 5.2 has no such line."""
    task = tmp_path / ("7/task/7" if name == "thread-self" else "7")
    (task / "fdinfo").mkdir(parents=True)
    (task / "fd").mkdir()
    (tmp_path / name).symlink_to("7/task/7" if name == "thread-self" else "7")
    with opened(os.getpid()) as fd:
        info = task / "fdinfo" / str(fd)
        info.write_text("pos:\t0\nflags:\t02000002\n")
        (task / "fd" / str(fd)).symlink_to("anon_inode:[pidfd]")
        with pytest.raises(fastsmaps.NotSupported, match="has no line Pid:") as caught:
            by_pidfd(fd, procfs=tmp_path)
        assert caught.value.path == str(info)
        info.write_text("pos:\t0\nPid:\t-1\n")
        with pytest.raises(fastsmaps.ProcessGone):
            by_pidfd(fd, procfs=tmp_path)
        info.unlink()
        with pytest.raises(fastsmaps.ReadError):
            by_pidfd(fd, procfs=tmp_path)
        info.symlink_to("/dev/zero")  # a link outside a procfs is not followed
        with pytest.raises(fastsmaps.ReadError, match="link"):
            by_pidfd(fd, procfs=tmp_path)


@pytest.mark.parametrize("link", ["../../etc/task/7", "7/../8", "/7/task/8", "7", "0/task/0", ""])
def test_a_foreign_thread_self_link_is_not_followed(tmp_path: Path, link: str) -> None:
    if link:
        (tmp_path / "thread-self").symlink_to(link)
    with opened(os.getpid()) as fd:
        with pytest.raises(fastsmaps.Error, match=r"is not a procfs|without this process"):
            by_pidfd(fd, procfs=tmp_path)
        with pytest.raises(fastsmaps.NotProcfs, match="is not a directory"):
            by_pidfd(fd, procfs=tmp_path / "nothing")


def test_a_watch_takes_the_pinned_process(backend: ModuleType, child: processes.Process) -> None:
    with opened(child.pid) as fd, fastsmaps.Process.from_pidfd(fd) as process:
        with fastsmaps.Watch(process, procfs="/nothing") as watch:
            pass
        assert (watch.pid, watch.procfs) == (child.pid, "/proc")
        assert watch.count >= 2
        assert process.totals().rss == watch.peaks["rss"].totals.rss  # it is still open


# ---- other pid namespaces


def test_a_child_below_an_outer_procfs_gets_its_outer_pid(backend: ModuleType) -> None:
    def inside() -> tuple[int, int, int | None, int | None]:
        with (
            processes.workload("idle") as process,
            opened(process.pid) as fd,
            fastsmaps.Process.from_pidfd(fd) as found,
        ):
            text = Path(f"/proc/{found.pid}/status").read_text()
            numbers = text.partition("\nNSpid:")[2].partition("\n")[0].split()
            rss = found.totals().rss
            assert rss == fastsmaps.totals(found.pid).rss
            with fastsmaps.Watch(found) as watch:
                pass
            assert watch.pid == found.pid
            return process.pid, found.pid, int(numbers[-1]), watch.peaks["rss"].totals.rss

    try:
        inner, outer, innermost, rss = processes.run_in_namespaces(inside, None)
    except linux.Unavailable as error:
        pytest.skip(f"no pid namespace: {error}")
    assert inner == innermost != outer
    assert rss


def test_a_namespace_without_the_process_is_an_error(
    backend: ModuleType, child: processes.Process
) -> None:
    """A container's procfs does not show this process, and /proc there not another one's child."""
    try:
        with processes.namespace() as outer, opened(child.pid) as fd:
            inner = f"/proc/{outer.report['pid']}/root/proc"
            with pytest.raises(
                fastsmaps.NotInNamespace, match="this process is not in the pid namespace"
            ):
                by_pidfd(fd, procfs=inner)
    except linux.Unavailable as error:
        pytest.skip(f"no procfs of another pid namespace: {error}")

    def inside() -> str:
        with pytest.raises(fastsmaps.NotInNamespace) as caught:
            by_pidfd(fd)
        return str(caught.value)

    with opened(child.pid) as fd:
        try:
            message = processes.run_in_namespaces(inside)
        except linux.Unavailable as error:
            pytest.skip(f"no procfs of another pid namespace: {error}")
        assert (
            message == f"the process of pidfd {fd} is not in the pid namespace of procfs='/proc': "
            "pass a procfs that shows it"
        )


def test_a_pid_reused_meanwhile_is_gone(
    backend: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pid is reused between fdinfo and the process's directory."""

    def use_again() -> None:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(processes.workload("idle"))
            fd = stack.enter_context(opened(first.pid))

            def number(fd: int, source: Source) -> int:
                found = pidfd.pidfd_number(fd, source)
                first.reap()
                linux.set_next_pid(first.pid)
                second = stack.enter_context(processes.workload("idle"))
                if second.pid != first.pid:
                    raise linux.Unavailable("the kernel gave another number")
                monkeypatch.setattr("fastsmaps._source.process.pidfd_number", pidfd.pidfd_number)
                return found

            monkeypatch.setattr("fastsmaps._source.process.pidfd_number", number)
            with pytest.raises(fastsmaps.ProcessGone, match="the process of pidfd"):
                by_pidfd(fd)

    try:
        processes.run_in_namespaces(use_again)
    except linux.Unavailable as error:
        pytest.skip(f"no pid namespace in which numbers can be chosen: {error}")


def test_counts_ours_only_in_our_pid_namespace(tmp_path: Path) -> None:
    assert Source("/proc").counts_ours()
    assert not Source(tmp_path).counts_ours()
    try:
        assert processes.run_in_namespaces(lambda: Source("/proc").counts_ours())
        assert not processes.run_in_namespaces(lambda: Source("/proc").counts_ours(), None)
        with processes.namespace() as outer:
            assert not Source(f"/proc/{outer.report['pid']}/root/proc").counts_ours()
    except linux.Unavailable as error:
        pytest.skip(f"no procfs of another pid namespace: {error}")


def test_an_equal_number_in_both_namespaces_is_not_ours(tmp_path: Path) -> None:
    own = os.getpid()
    (tmp_path / "self").symlink_to(str(own))
    (tmp_path / str(own)).mkdir()
    assert Source(tmp_path).counts_ours()
    status = tmp_path / str(own) / "status"
    status.write_text(f"Name:\tit\nNSpid:\t{own}\nNSpgid:\t{own}\n")
    assert Source(tmp_path).counts_ours()
    status.write_text(f"Name:\tit\nNSpid:\t{own}\t{own}\nNSpgid:\t{own}\n")
    assert not Source(tmp_path).counts_ours()


def test_threads_are_found_by_the_procfs_not_our_namespace(
    backend: ModuleType, child: processes.Process
) -> None:
    """Only /proc decides whether it is a thread, not our own pid namespace."""
    (tid,) = child.request("threads", 1)

    def inside() -> list[str]:
        linux.set_next_pid(tid)
        with processes.forked() as number:
            if number != tid:
                raise linux.Unavailable("the kernel gave another number")
            messages = []
            for read in (fastsmaps.totals, fastsmaps.mappings, fastsmaps.Process):
                with pytest.raises(fastsmaps.Error) as caught:
                    read(tid)
                messages.append(str(caught.value))
            return messages

    try:
        messages = processes.run_in_namespaces(inside, None)
    except linux.Unavailable as error:
        pytest.skip(f"no pid namespace in which numbers can be chosen: {error}")
    assert messages == [f"{tid} is a thread of process {child.pid}"] * 3


def test_own_process_differs_after_a_fork_with_the_same_pid(backend: ModuleType) -> None:
    """The first process of a namespace forks the first of another: both have pid 1."""

    def inside() -> tuple[tuple[int, int], tuple[int, int], bool]:
        own = forks.own_process()
        with fastsmaps.Watch() as watch:

            def in_fork() -> tuple[tuple[int, int], bool]:
                count = watch.count
                watch.__exit__(None, None, None)
                return forks.own_process(), watch.count == count

            linux.unshare()
            return own, *processes.run_in_child(in_fork)

    try:
        before, after, stood_still = processes.run_in_namespaces(inside)
    except linux.Unavailable as error:
        pytest.skip(f"no pid namespace: {error}")
    assert before[0] == after[0] == 1
    assert before != after
    assert stood_still
