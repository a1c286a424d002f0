"""A file system that answers slowly or never: what a timeout bounds, and what ends the wait."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import fastsmaps
from support import commands, linux, processes
from support.independent import DATA

# <linux/fuse.h>: requests, and the layout of replies.
LOOKUP, FORGET, GETATTR, OPEN, READ, RELEASE = 1, 2, 3, 14, 15, 18
FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, INTERRUPT, BATCH_FORGET = 25, 26, 27, 28, 29, 36, 42
DIRECT_IO = 1
MNT_FORCE = 1
NAMES = ("stat", "smaps_rollup")
ZOO = DATA / "captures/7.2-amd64/zoo"


class FileSystem:
    """A capture of some processes as a file system; `before` is called before each read."""

    def __init__(self, pids: list[int], before: Callable[[int, str], bool]) -> None:
        self.fd = os.open("/dev/fuse", os.O_RDWR)
        self.before = before
        self.asked: list[int] = []
        # A directory's inode is 10 times the pid, its files' inodes follow; 1 is the root.
        self.nodes = {10 * pid: "" for pid in pids}
        for pid in pids:
            self.nodes |= {10 * pid + i: name for i, name in enumerate(NAMES, 1)}

    def mount(self, where: Path) -> None:
        options = f"fd={self.fd},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
        linux.call("mount", b"fuse", os.fsencode(where), b"fuse", 0, options.encode())
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        with contextlib.suppress(OSError):  # the last entry
            while request := os.read(self.fd, 1 << 17):
                _, what, unique, node = struct.unpack_from("<IIQQ", request)
                self.asked.append(what)
                if what in (FORGET, BATCH_FORGET, INTERRUPT):
                    continue
                if what == READ and not self.before(node // 10, self.nodes[node]):
                    continue
                try:
                    error, answer = 0, self.answer(what, node, request[40:])
                except OSError as failed:
                    error, answer = -(failed.errno or errno.EIO), b""
                os.write(self.fd, struct.pack("<IiQ", 16 + len(answer), error, unique) + answer)

    def answer(self, what: int, node: int, data: bytes) -> bytes:
        if what == INIT:
            return struct.pack("<IIIIHHIIHHI28x", 7, 31, 1 << 16, 0, 16, 12, 4096, 1, 0, 0, 0)
        if what == LOOKUP:
            found = self.found(node, data.rstrip(b"\0").decode())
            return struct.pack("<QQQQII", found, 0, 0, 0, 0, 0) + self.attributes(found)
        if what == GETATTR:
            return struct.pack("<QII", 0, 0, 0) + self.attributes(node)
        if what in (OPEN, OPENDIR):
            return struct.pack("<QII", 0, DIRECT_IO, 0)
        if what == READ:
            _, offset, size = struct.unpack_from("<QQI", data)
            return (ZOO / self.nodes[node]).read_bytes()[offset : offset + size]
        if what == READDIR:
            _, offset, _ = struct.unpack_from("<QQI", data)
            pids = [number // 10 for number, name in self.nodes.items() if not name]
            entries = b"".join(
                struct.pack("<QQII8s", 10 * pid, i, len(str(pid)), 4, str(pid).encode())
                for i, pid in enumerate(pids, 1)
            )
            return b"" if offset else entries
        if what in (FLUSH, RELEASE, RELEASEDIR):
            return b""
        raise OSError(errno.ENOSYS, "")

    def found(self, node: int, name: str) -> int:
        if node == 1 and name.isdecimal() and 10 * int(name) in self.nodes:
            return 10 * int(name)
        if node != 1 and name in NAMES:
            return node + 1 + NAMES.index(name)
        raise OSError(errno.ENOENT, "")

    def attributes(self, node: int) -> bytes:
        kind = stat.S_IFREG | 0o444 if self.nodes.get(node) else stat.S_IFDIR | 0o555
        return struct.pack("<6Q10I", node, *(0,) * 8, kind, 1, os.getuid(), os.getgid(), 0, 4096, 0)


def with_mounted(
    where: Path, system: Callable[[], FileSystem], read: Callable[[FileSystem], object]
) -> object:
    """Mount the file system in a private namespace; return what `read` returns there."""

    def mounted() -> object:
        linux.call("unshare", linux.CLONE_NEWNS)
        linux.call("mount", b"none", b"/", None, linux.MS_REC | linux.MS_PRIVATE, None)
        try:
            file_system = system()
        except OSError as error:
            raise linux.Unavailable(f"/dev/fuse: {error.strerror}") from None
        file_system.mount(where)
        return read(file_system)

    try:
        return processes.run_in_child(mounted)
    except linux.Unavailable as error:
        pytest.skip(f"no file system of one's own: {error}")


def test_timeout_holds_between_slow_files(backend: ModuleType, tmp_path: Path) -> None:
    """The timeout is checked between files: a file that was begun is read to its end."""

    def before(pid: int, name: str) -> bool:
        if (pid, name) == (8, "smaps_rollup"):
            time.sleep(0.3)  # longer than the timeout, however busy the machine is
        return True

    def read(_: FileSystem) -> list[tuple[int, str, str | None]]:
        slow = fastsmaps.scan([8, 9, 10], procfs=tmp_path, timeout=0.25)
        whole = fastsmaps.scan(procfs=tmp_path)
        return [(row.pid, row.outcome, row.error) for scan in (slow, whole) for row in scan]

    found = with_mounted(tmp_path, lambda: FileSystem([8, 9, 10], before), read)
    assert isinstance(found, list)
    assert [row[0] for row in found] == [8, 9, 10] * 2
    assert found[0][1] in ("read", "skipped")
    for _, outcome, error in found[1:3]:
        assert (outcome, error) == ("skipped", "skipped: timeout reached")
    assert [row[1:] for row in found[3:]] == [("read", None)] * 3


def test_hanging_read_cannot_be_interrupted(backend: ModuleType, tmp_path: Path) -> None:
    """No signal ends the read: to be sure of an answer in time, read in a separate process."""
    begun = threading.Event()

    def before(pid: int, name: str) -> bool:
        if name == "smaps_rollup":
            begun.set()
        return not begun.is_set()

    def read(system: FileSystem) -> tuple[int, bool]:
        command = [*commands.COMMAND, "ps", "--procfs", str(tmp_path)]
        with subprocess.Popen(command, env=commands.environment()) as child:
            assert begun.wait(processes.TIMEOUT)
            deadline = time.monotonic() + processes.TIMEOUT
            # The kernel passes it on, and keeps waiting for the file system.
            while INTERRUPT not in system.asked:
                assert time.monotonic() < deadline
                child.send_signal(signal.SIGINT)
                time.sleep(0.01)
            waits = child.poll() is None
            child.kill()
            # Even this does not end it while the file system holds the request (6.18): the
            # file system must end.
            linux.LIBC.umount2(os.fsencode(tmp_path), MNT_FORCE)
            return child.wait(processes.TIMEOUT), waits

    found = with_mounted(tmp_path, lambda: FileSystem([8], before), read)
    assert found == (-signal.SIGKILL, True)
