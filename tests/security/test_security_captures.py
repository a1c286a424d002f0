"""A capture's directory that another user made and root reads: the harm it must not do.

No link in it is followed, only regular files are opened, and no file can take more memory
than it has bytes. test_capture_hostile.py tests the same for archives.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fastsmaps
from fastsmaps._backend.bounded import MAX_TEXT
from support import commands, processes
from support.independent import DATA

pytestmark = pytest.mark.usefixtures("no_leak")

ZOO = DATA / "captures/7.2-amd64/zoo"
USS = ("Private_Clean", "Private_Dirty")
SECRET = "root:secret:20000::::::"
#: All files of a capture that are opened; the last three belong to no process.
FILES = (
    *("stat", "status", "statm", "comm", "cmdline", "cgroup", "exe"),
    *("maps", "smaps", "smaps_rollup"),
    *("../meminfo", "../version", "../fastsmaps.json"),
)


def host(tmp_path: Path) -> Path:
    """Make a capture of one process, 7, that is not harmful yet."""
    shutil.copytree(ZOO, tmp_path / "host/7", copy_function=shutil.copyfile)
    return tmp_path / "host"


def put(path: Path, what: str, tmp_path: Path) -> None:
    """Replace a file by something else."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    (tmp_path / "shadow").write_text(f"{SECRET}\n")
    if what == "link":
        path.symlink_to(tmp_path / "shadow")
    elif what == "FIFO":
        os.mkfifo(path)
    elif what == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            before = os.getcwd()
            os.chdir(path.parent)  # a socket's address must be short
            try:
                server.bind(path.name)
            finally:
                os.chdir(before)
    elif what == "device":
        try:
            os.mknod(path, 0o20666, os.makedev(1, 5))  # /dev/zero, which is endless
        except PermissionError:
            pytest.skip("only root makes devices")
    elif what == "link to a device":
        path.symlink_to("/dev/zero")
    else:
        path.touch()
        os.truncate(path, 1 << 42)


HARM = ("link", "FIFO", "socket", "device", "link to a device", "sparse")


def ways(root: Path, target: Path) -> dict[str, Callable[[], object]]:
    """Return every function that reads a capture."""

    def process(read: Callable[[fastsmaps.Process], object]) -> object:
        with fastsmaps.Process(7, procfs=root) as opened:
            return read(opened)

    def sampled() -> object:
        with fastsmaps.Sampler(
            procfs=root, cgroup=True, cmdline=True, exe=True, budget=1
        ) as sampler:
            return list(sampler.sweep()), list(sampler.sweep())

    def watched() -> object:
        with fastsmaps.Watch(7, procfs=root, interval=0.001) as watch:
            pass
        return list(watch.samples)

    def captured() -> object:
        try:
            return list(fastsmaps.capture(target, procfs=root))
        finally:
            assert not target.exists() or SECRET not in repr(tree(target))

    return {
        "totals": lambda: fastsmaps.totals(7, procfs=root),
        "mappings": lambda: list(fastsmaps.mappings(7, procfs=root)),
        "maps": lambda: list(fastsmaps.mappings(7, sizes=False, procfs=root)),
        "Process": lambda: process(lambda process: process.info(heap=True)),
        "scan": lambda: list(
            fastsmaps.scan(
                procfs=root, cgroup=True, cmdline=True, exe=True, max_rss=1 << 40, workers=2
            )
        ),
        "timed": lambda: list(fastsmaps.scan(procfs=root, cmdline=True, timeout=1000)),
        "excluding": lambda: list(fastsmaps.scan(procfs=root, exclude=lambda row: False)),
        "libs": lambda: fastsmaps.libs(procfs=root, workers=2),
        "Sampler": sampled,
        "Watch": watched,
        "capture": captured,
    }


def tree(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        members = [member for member in archive if member.isreg()]
        # What is not a regular file is ignored; these are regular files.
        return {m.name: archive.extractfile(m).read() for m in members}  # type: ignore[union-attr]


def tried(way: Callable[[], object]) -> str:
    """Return the result or the error as text."""
    try:
        return repr(way())
    except fastsmaps.Error as error:
        return f"{error!r} {error}"


@pytest.mark.parametrize(
    ("what", "claims"), [*((what, False) for what in HARM), ("link", True), ("FIFO", True)]
)
@pytest.mark.parametrize("name", FILES)
def test_only_regular_files_are_opened(
    backend: ModuleType, tmp_path: Path, name: str, what: str, claims: bool
) -> None:
    """No reader shows another kind of file, waits for it, or reads it to its end."""
    root = host(tmp_path)
    put(root / "7" / name, what, tmp_path)
    if claims:
        (root / "self").symlink_to("7")  # as in a procfs
    for way in ways(root, tmp_path / "out.tar").values():
        assert SECRET not in tried(way)


def limited(way: Callable[[], object]) -> str:
    """Do the same as tried(), with 300 MB of memory available."""

    def within() -> str:
        size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (size + 300_000_000,) * 2)
        return tried(way)

    return processes.run_in_child(within)


@pytest.mark.parametrize(
    "name", ["cmdline", "stat", "status", "cgroup", "comm", "exe", "../meminfo"]
)
def test_endless_files_are_cut(backend: ModuleType, tmp_path: Path, name: str) -> None:
    """Of files that are small in every procfs, only a bounded part is read."""
    root = host(tmp_path)
    path = root / "7" / name
    path.write_bytes(b"x" * MAX_TEXT + b"beyond")
    os.truncate(path, 2 << 30)
    for way in ways(root, tmp_path / "out.tar").values():
        assert "beyond" not in limited(way)[-100_000:]
    if name == "cmdline":
        (row,) = fastsmaps.scan(procfs=root, cmdline=True)
        assert row.cmdline == ("x" * MAX_TEXT + "...",)


@pytest.mark.parametrize("where", ["7", "7/task", "7/task/8"])
def test_links_in_a_capture_are_not_followed(
    backend: ModuleType, tmp_path: Path, where: str
) -> None:
    root = host(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(ZOO, elsewhere)
    shutil.copytree(ZOO, elsewhere / "8")
    for directory in (elsewhere, elsewhere / "8"):
        (directory / "cmdline").write_text(SECRET)
    if where == "7":
        shutil.rmtree(root / "7")
    else:
        # The main thread has exited, so that another thread's files are read.
        stat = (ZOO / "stat").read_bytes().replace(b" S ", b" Z ", 1)
        (root / "7/stat").write_bytes(stat)
        for name in ("smaps", "smaps_rollup", "maps"):
            (root / "7" / name).write_bytes(b"")
        (root / where).parent.mkdir(exist_ok=True)
    (root / where).symlink_to(elsewhere if where != "7/task/8" else elsewhere / "8")
    for way in ways(root, tmp_path / "out.tar").values():
        assert SECRET not in tried(way)
    if where == "7":
        for claims in (False, True):
            if claims:
                (root / "self").symlink_to("7")
            with pytest.raises(fastsmaps.Error, match="is a symbolic link, which is not followed"):
                fastsmaps.totals(7, procfs=root)


def test_capture_directory_may_be_a_link(backend: ModuleType, tmp_path: Path) -> None:
    """The user who names the link knows where it leads."""
    host(tmp_path)
    (tmp_path / "link").symlink_to("host")
    assert fastsmaps.scan(procfs=tmp_path / "link").coverage["read"] == 1


def test_names_that_are_not_pids_are_skipped(backend: ModuleType, tmp_path: Path) -> None:
    root = host(tmp_path)
    for name in ("0", "007", "99999999999", "4294967303", "٣", "²", "-1", "2147483648", "9" * 250):
        (root / name).mkdir()
        (root / "7/task" / name).mkdir(parents=True)
    (root / "7/task/x").touch()
    stat = (ZOO / "stat").read_bytes().replace(b" S ", b" Z ", 1)
    for _ in ("living", "main thread has left"):
        assert [row.pid for row in fastsmaps.scan(procfs=root)] == [7]
        for way in ways(root, tmp_path / "out.tar").values():
            tried(way)
        (root / "7/stat").write_bytes(stat)
        (root / "7/smaps_rollup").write_bytes(b"")


@pytest.mark.parametrize(
    "text",
    [b"", b"x", b"1 2", b"1 -2 -3 -4", b"1 " + b"9" * 30 + b" 1 1", b"1 1 1e9 1", b"\xff" * 50],
)
def test_invalid_statm(backend: ModuleType, tmp_path: Path, text: bytes) -> None:
    root = host(tmp_path)
    (root / "7/statm").write_bytes(text)
    for way in ways(root, tmp_path / "out.tar").values():
        tried(way)


NOTES: dict[str, Any] = {
    "huge number": b'{"taken_at": ' + b"9" * 5000 + b"}",
    "large float": b'{"taken_at": 1e400, "host": "x"}',
    "NaN": b'{"taken_at": NaN, "host": NaN}',
    "nested": b'{"processes": ' + b"[" * 200_000,
    "escapes": rb'{"host": "\u001b[31m", "processes": '
    rb'{"9": {"outcome": "denied", "error": "\u001b[31m\ud800"}}}',
    "no pids": rb'{"processes": {"99999999999": {"outcome": "denied", "error": ""}, "\u0663": 1}}',
    "all read": b'{"processes": {"9": {"outcome": "read", "error": "x"}, "7": {}}}',
    "list": b"[[]]",
    "bytes": b"\xff\xfe",
}


@pytest.mark.parametrize("notes", NOTES.values(), ids=NOTES)
def test_hostile_notes_do_no_harm(backend: ModuleType, tmp_path: Path, notes: bytes) -> None:
    root = host(tmp_path)
    (root / "9").mkdir()
    (root / "fastsmaps.json").write_bytes(notes)
    first, second = fastsmaps.scan(procfs=root)
    assert (first.outcome, first.error) == ("read", None)
    assert second.outcome in ("failed", "denied")
    for way in ways(root, tmp_path / "out.tar").values():
        tried(way)
    for arguments in (("ps",), ("ps", "--json"), ("totals", "9"), ("capture", "-o", "x.tar", "9")):
        status = 0 if arguments[0] == "ps" else 1
        done = commands.run(*arguments, "--procfs", str(root), status=status, cwd=tmp_path)
        assert all(line.isprintable() for line in (done.stdout + done.stderr).splitlines())


def test_numbers_beyond_64_bits(backend: ModuleType, tmp_path: Path) -> None:
    root = host(tmp_path)
    status = (ZOO / "status").read_bytes()
    (root / "7/status").write_bytes(status + b"VmHWM:\t99999999999999999999 kB\n")
    fields = "".join(f"{label}: {2**54 - 1} kB\n" for label in ("Rss", "Pss", *USS))
    row = f"0-ffffffffffffffff r--p 0 00:00 0 /far\n{fields}"
    (root / "7/smaps").write_text(row + row)
    (root / "7/smaps_rollup").unlink()
    shutil.copytree(root / "7", root / "8")
    for number, ppid in ((7, 2**70), (8, -7)):
        (root / f"{number}/stat").write_text(f"{number} (far) S {ppid} {'0 ' * 48}\n")
    found = fastsmaps.scan(procfs=root)
    assert [row.ppid for row in found] == [2**70, None]
    totals = found[0].totals
    assert totals is not None
    assert totals.rss == 2 * (2**64 - 1024)
    for name in ("ppid", "rss", "uss", "size"):
        assert list(found.column(name)) == [fastsmaps.ABSENT] * 2
    with fastsmaps.Watch(7, procfs=root, interval=0.001, tree=True) as watch:
        pass
    for name in ("rss", "uss", "size"):
        assert set(watch.samples.column(name)) == {fastsmaps.ABSENT}
    assert watch.samples[0].totals.pss is None
    assert watch.outcome == "read"
