"""capture() and open_capture(): what is saved is what is read again, and nothing else is."""

from __future__ import annotations

import bz2
import contextlib
import errno
import gzip
import importlib
import io
import json
import lzma
import os
import resource
import signal
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import linux
import living
import pytest
from documents import record

import fastsmaps
from fastsmaps.capture import capture
from fastsmaps.errors import CaptureError
from fastsmaps.replay import noted, open_capture

# What fastsmaps exports of that name is the function.
MODULE = importlib.import_module("fastsmaps.capture")
REPLAY = importlib.import_module("fastsmaps.replay")
ROOT = os.geteuid() == 0
TARGETS = ("directory", "a.tar", "a.tar.gz", "a.tgz", "a.tar.xz")
FILES = {"stat", "statm", "status", "cmdline", "comm", "cgroup", "maps", "smaps", "smaps_rollup"}
# What depends on no other process.
STILL = ("rss", "anonymous", "swap", "locked", "private_hugetlb")


@pytest.fixture(autouse=True)
def no_leak() -> Iterator[None]:
    with living.same_descriptors():
        yield


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Where captures are unpacked; nothing stays there."""
    directory = tmp_path_factory.mktemp("unpacked")
    monkeypatch.setattr("tempfile.tempdir", str(directory))
    yield directory
    assert os.listdir(directory) == []


@pytest.fixture(scope="module")
def idle() -> Iterator[living.Process]:
    with living.playing("idle") as child:
        yield child


def rows(scan: fastsmaps.Scan) -> list[fastsmaps.ProcessTotals]:
    return list(scan)


def replayed(directory: str) -> list[fastsmaps.ProcessTotals]:
    return rows(fastsmaps.scan(procfs=directory, cgroup=True, cmdline=True))


def tar(path: Path, members: dict[str, bytes | None], **changes: Any) -> Path:
    """An archive of files, and of directories where there is no text."""
    with tarfile.open(path, "w") as archive:
        for name, text in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(text or b"")
            member.type = tarfile.DIRTYPE if text is None else tarfile.REGTYPE
            for key, value in changes.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(text or b""))
    return path


def tree(directory: str) -> dict[str, bytes]:
    root = Path(directory)
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


# ---- there and back


@pytest.mark.parametrize("name", TARGETS)
def test_there_and_back(
    backend: ModuleType, idle: living.Process, tmp_path: Path, name: str
) -> None:
    saved = capture(tmp_path / name)
    assert os.listdir(tmp_path) == [name]
    assert saved.by_pid[idle.pid].outcome == "read"
    with open_capture(tmp_path / name) as directory:
        assert isinstance(directory, str)
        again = replayed(directory)
        assert again == [row for row in saved if row.outcome != "gone"]
        assert set(os.listdir(f"{directory}/{idle.pid}")) == FILES
        assert os.listdir(directory).count("meminfo") == 1
        facts = json.loads(Path(directory, "fastsmaps.json").read_bytes())
        assert (facts["host"], facts["taken_at"]) == (os.uname().nodename, saved.taken_at)
        # Each of ours reads it as if it were /proc.
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
            assert process.info() == original.info()
        assert fastsmaps.libs(procfs=directory)
    assert os.path.exists(directory) == (name == "directory")


def test_it_is_for_its_owner_alone(idle: living.Process, tmp_path: Path) -> None:
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


def test_a_capture_of_a_capture(backend: ModuleType, idle: living.Process, tmp_path: Path) -> None:
    first = capture(tmp_path / "one", [idle.pid])
    second = capture(tmp_path / "two.tar", procfs=tmp_path / "one")
    assert rows(first) == rows(second)
    with open_capture(tmp_path / "two.tar") as directory:
        assert tree(directory).keys() == tree(str(tmp_path / "one")).keys()
        assert replayed(directory) == rows(first)


def test_an_archive_is_replaced(idle: living.Process, tmp_path: Path) -> None:
    target = tmp_path / "a.tar"
    target.write_bytes(b"older")
    capture(target, [idle.pid])
    with open_capture(target) as directory:
        assert os.path.exists(f"{directory}/{idle.pid}/smaps")


# ---- every fate


def test_every_outcome(backend: ModuleType, idle: living.Process, tmp_path: Path) -> None:
    pids = [idle.pid, living.reaped()]
    thread = living.kernel_thread()
    with living.zombie() as zombie, living.playing("idle") as child:
        child.ask("threads", 1)
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


def test_a_thread_is_no_process(idle: living.Process, tmp_path: Path) -> None:
    with living.playing("idle") as child:
        (tid,) = child.ask("threads", 1)
        saved = capture(tmp_path / "a", [tid])
        assert saved[0].outcome == "failed"
        assert f"thread of process {child.pid}" in (saved[0].error or "")
        assert not (tmp_path / "a" / str(tid)).exists()


def test_one_that_left_its_main_thread(backend: ModuleType, tmp_path: Path) -> None:
    with living.playing("idle") as child:
        child.ask("leave")
        saved = capture(tmp_path / "a.tar", [child.pid])
        assert saved[0].outcome == "read"
        assert saved[0].cmdline == fastsmaps.scan([child.pid], cmdline=True)[0].cmdline != ()
        with open_capture(tmp_path / "a.tar") as directory:
            assert replayed(directory) == rows(saved)
            assert len(fastsmaps.mappings(child.pid, procfs=directory))


@pytest.mark.parametrize("name", TARGETS)
def test_denied(backend: ModuleType, tmp_path: Path, name: str) -> None:
    tmp_path.chmod(0o777)
    for parent in list(tmp_path.parents)[:2]:  # pytest's own
        parent.chmod(0o755)
    with living.playing("idle") as child:
        child.ask("undumpable")

        def look() -> list[Any]:
            linux.become(linux.NOBODY if ROOT else os.geteuid())
            tempfile.tempdir = str(tmp_path)
            saved = capture(tmp_path / name, [child.pid])
            (live,) = fastsmaps.scan([child.pid], cgroup=True, cmdline=True)
            with open_capture(tmp_path / name) as directory:
                notes = noted(directory)
                files = set(os.listdir(f"{directory}/{child.pid}"))
                return [*saved, live, *replayed(directory), notes, files]

        try:
            saved, live, again, notes, files = living.in_child(look)
        except CaptureError as error:
            pytest.skip(f"another user cannot write here: {error}")
    assert saved.outcome == "denied"
    assert saved == live == again
    assert notes == {child.pid: ("denied", live.error)}
    assert files == FILES - {"maps", "smaps", "smaps_rollup"}


def test_notes_that_are_none(tmp_path: Path) -> None:
    assert noted(str(tmp_path)) == {}
    assert noted("/proc") == {}
    for text in (
        b"", b"[]", b"{}", b"nonsense", b'{"processes": 3}', b'{"processes": []}', b"[" * 100_000,
        b'{"processes": {"1": 3, "x": {"outcome": "denied", "error": "e"}}}',
        b'{"processes": {"1": {"outcome": "read", "error": "e"}, "2": {"outcome": ["gone"]}}}',
        b'{"processes": {"1": {"outcome": "denied", "error": null}}}', b"\xff",
    ):  # fmt: skip
        (tmp_path / "fastsmaps.json").write_bytes(text)
        assert noted(str(tmp_path)) == {}


def test_hostile_names(backend: ModuleType, tmp_path: Path) -> None:
    with living.playing("idle") as child:
        name = os.fsdecode(b") R 1 2\x1b[3\xff\n")
        assert child.ask("name", name) == "named"
        saved = capture(tmp_path / "a.tar.gz", [child.pid])
        (live,) = fastsmaps.scan([child.pid], cgroup=True, cmdline=True)
    with open_capture(tmp_path / "a.tar.gz") as directory:
        (again,) = replayed(directory)
    assert saved[0].comm == live.comm == again.comm
    assert "\udcff" in (again.comm or "")
    assert saved[0].cmdline == live.cmdline == again.cmdline


@pytest.mark.parametrize("fate", ["reaped", "zombie", "exec"])
def test_one_that_ends_meanwhile(backend: ModuleType, tmp_path: Path, fate: str) -> None:
    with living.playing("many", "20000") as child:

        def act() -> None:
            if fate == "exec":
                child.ask("exec", "idle")
            elif fate == "zombie":
                child.kill()
            else:
                child.reap()

        with living.amid(act) as done:
            saved = capture(tmp_path / "a", [child.pid, os.getpid()])
        assert done
        assert saved[1].outcome == "read"
        assert saved[0].outcome == {"reaped": "gone", "exec": "read"}.get(fate, fate)
        files = tree(str(tmp_path / "a"))
        of_it = {name: text for name, text in files.items() if name.startswith(f"{child.pid}/")}
        if fate == "reaped":
            assert of_it == {}
        elif fate == "zombie":
            assert of_it[f"{child.pid}/smaps"] == b""
        else:
            # All of one program: the new one, which has few mappings.
            smaps, maps = of_it[f"{child.pid}/smaps"], of_it[f"{child.pid}/maps"]
            assert len(fastsmaps.parse(smaps)) == len(fastsmaps.parse(maps)) < 5000
            assert b"\0idle\0" in of_it[f"{child.pid}/cmdline"]


# ---- whole or not at all


@pytest.mark.parametrize("name", TARGETS)
def test_interrupted(
    idle: living.Process, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
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

    monkeypatch.setattr(MODULE, "_whole", interrupted)
    with pytest.raises(KeyboardInterrupt):
        capture(target, [idle.pid, os.getpid()])
    assert os.listdir(tmp_path) == ([] if name == "directory" else [name])
    if name != "directory":
        assert target.read_bytes() == b"older"


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("most", [0, 1000])
def test_a_file_that_cannot_be_written(
    idle: living.Process, tmp_path: Path, name: str, most: int
) -> None:
    def look() -> list[str]:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        with (
            living.same_descriptors(),
            pytest.raises(CaptureError, match="cannot write") as caught,
        ):
            capture(tmp_path / name, [idle.pid])
        assert caught.value.errno == errno.EFBIG
        assert caught.value.path == str(tmp_path / name)
        return os.listdir(tmp_path)

    assert living.in_child(look) == []


@pytest.mark.parametrize("name", TARGETS)
def test_a_full_disk(idle: living.Process, tmp_path: Path, name: str) -> None:
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
        assert living.in_child(mounted) == ([], [])
    except linux.Refused as refused:
        pytest.skip(f"no file system of one's own: {refused}")


def test_targets_that_are_refused(idle: living.Process, tmp_path: Path) -> None:
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
        (file, "no directory"),
        (tmp_path / "link", "no directory"),
        (tmp_path / "link.tar", "no regular file"),
        (tmp_path / "directory.tar", "no regular file"),
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
    with pytest.raises(fastsmaps.Error, match="cannot be listed"):
        capture(tmp_path / "a", procfs=tmp_path / "nothing")
    assert sorted(os.listdir(tmp_path)) == before
    assert file.read_bytes() == b"kept"
    (tmp_path / "empty").mkdir()
    capture(f"{tmp_path}/empty/", [idle.pid])
    assert (tmp_path / "empty" / str(idle.pid) / "smaps").exists()


# ---- others' captures


SMAPS = record(0x1000, 0x3000, b"/a", Size=8, Rss=8, Pss=4) + record(0x3000, 0x4000, Size=4, Rss=4)
STAT = b"%d (it) S 1 " + b"0 " * 45 + b"\n"


def smem(*, directories: bool = True) -> dict[str, bytes | None]:
    """The members of what smemcap saves."""
    members: dict[str, bytes | None] = {"meminfo": b"MemTotal: 1 kB\n", "version": b"Linux\n"}
    for pid in (7, 4711):
        if directories:
            members[str(pid)] = None
        members[f"{pid}/smaps"] = SMAPS
        members[f"{pid}/cmdline"] = b"it\0-x\0"
        members[f"{pid}/stat"] = STAT % pid
    return members


@pytest.mark.parametrize("directories", [True, False])
@pytest.mark.parametrize("end", [True, False])
def test_smems(backend: ModuleType, tmp_path: Path, directories: bool, end: bool) -> None:
    path = tar(tmp_path / "a", smem(directories=directories), uid=1000, mode=0o444)
    if not end:  # smemcap writes none
        used = len(path.read_bytes().rstrip(b"\0"))
        os.truncate(path, -(-used // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
        assert not path.read_bytes().endswith(bytes(1024))
    with open_capture(path) as directory:
        scan = fastsmaps.scan(procfs=directory, cmdline=True)
        assert [row.pid for row in scan] == [7, 4711]
        for row in scan:
            assert (row.outcome, row.uid, row.comm) == ("read", None, "it")
            assert row.cmdline == ("it", "-x")
            assert row.totals is not None
            assert row.totals.source == "smaps"
            assert (row.totals.rss, row.totals.pss, row.totals.size) == (12288, 4096, 12288)
        assert not os.path.exists(f"{directory}/7/status")


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_compression_is_told_by_content(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    path = tar(tmp_path / "a", smem())
    path.write_bytes(compress(path.read_bytes()))
    with open_capture(path) as directory:
        assert Path(directory, "7", "smaps").read_bytes() == SMAPS


def test_names_are_taken_as_tar_writes_them(tmp_path: Path) -> None:
    members = {"./": None, "./7/": None, "./7/smaps": SMAPS, ".//8//smaps": SMAPS}
    with open_capture(tar(tmp_path / "a", members)) as directory:
        assert tree(directory) == {"7/smaps": SMAPS, "8/smaps": SMAPS}


def test_a_directory_packed_as_a_whole(idle: living.Process, tmp_path: Path) -> None:
    saved = capture(tmp_path / "bug42", [idle.pid])
    for name in ("bug42", "proc/bug42"):
        with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
            archive.add(tmp_path / "bug42", name)
        with open_capture(tmp_path / "a.tar.gz") as directory:
            assert replayed(directory) == rows(saved)


def test_a_directory_is_given_as_it_is(tmp_path: Path) -> None:
    for path in (tmp_path, str(tmp_path)):
        with open_capture(path) as directory:
            assert directory == str(tmp_path)
    assert tmp_path.is_dir()


# ---- what does harm


HARM: dict[str, dict[str, Any]] = {
    "absolute": {"name": "/tmp/x"},
    "up": {"name": "7/../../x"},
    "only up": {"name": ".."},
    "symlink": {"name": "x", "type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
    "hard link": {"name": "x", "type": tarfile.LNKTYPE, "linkname": "7/smaps"},
    "fifo": {"name": "x", "type": tarfile.FIFOTYPE},
    "device": {"name": "x", "type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3},
    "block device": {"name": "x", "type": tarfile.BLKTYPE},
    "self": {"name": "self"},
    "self, with a file": {"name": "./self/smaps"},
    "self within": {"name": "bug42/self"},
    "over a file": {"name": "7/smaps/x"},
    "deep": {"name": "x/" * 50 + "x"},
    "long": {"name": "x" * 3000},
    "a directory up": {"name": "../x", "type": tarfile.DIRTYPE},
}


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM)
@pytest.mark.parametrize("tolerant", [False, True])
def test_harmful_members(tmp_path: Path, harm: dict[str, Any], tolerant: bool) -> None:
    path = tmp_path / "a"
    with tarfile.open(path, "w") as archive:
        for name in ("7/smaps", "8/smaps"):
            member = tarfile.TarInfo(name)
            member.size = len(SMAPS)
            archive.addfile(member, io.BytesIO(SMAPS))
        member = tarfile.TarInfo()
        for key, value in harm.items():
            setattr(member, key, value)
        archive.addfile(member)
    caught: list[fastsmaps.Error] = []
    with (
        pytest.raises(CaptureError, match="not unpacked") as error,
        open_capture(path, on_error=caught.append if tolerant else None),
    ):
        pass
    assert not caught
    assert harm["name"][:200] in str(error.value)
    assert error.value.path == str(path)
    assert sorted(os.listdir(tmp_path)) == ["a"]
    assert not os.path.exists("/tmp/x")


def test_modes_and_owners_are_not_taken(tmp_path: Path) -> None:
    path = tar(tmp_path / "a", {"7/smaps": SMAPS}, mode=0o6777, uid=1234, gid=1234)
    with open_capture(path) as directory:
        of_it = os.stat(f"{directory}/7/smaps")
        assert (stat.S_IMODE(of_it.st_mode), of_it.st_uid) == (0o600, os.geteuid())


@pytest.mark.parametrize("most", [0, 1, len(SMAPS), 2 * len(SMAPS) - 1])
def test_more_bytes_than_allowed(tmp_path: Path, most: int) -> None:
    path = tar(tmp_path / "a", {"7/smaps": SMAPS, "8/smaps": SMAPS})
    with (
        pytest.raises(CaptureError, match=f"beyond the {most} bytes") as error,
        open_capture(path, max_bytes=most),
    ):
        pass
    assert ("8/smaps" if most >= len(SMAPS) else "7/smaps") in str(error.value)
    with open_capture(path, max_bytes=2 * len(SMAPS)) as directory:
        assert len(tree(directory)) == 2


def test_a_bomb(tmp_path: Path) -> None:
    """A gigabyte of zeros in a megabyte: as a file, and where only tarfile would read it."""
    for kind in (tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        member = tarfile.TarInfo("7/smaps")
        member.size, member.type = 1 << 30, kind
        path = tmp_path / "bomb"
        with gzip.open(path, "wb", compresslevel=1) as file:
            file.write(member.tobuf(tarfile.GNU_FORMAT))
            for _ in range(16):
                file.write(bytes(1 << 20))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(CaptureError), open_capture(path, max_bytes=1 << 20):
            pass
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_more_members_than_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REPLAY, "_MEMBERS", 8)
    path = tar(tmp_path / "a", {f"{i}/smaps": b"" for i in range(1, 10)})
    with pytest.raises(CaptureError, match="'9/smaps' is more than the 8"), open_capture(path):
        pass


# ---- what is damaged


def opened(path: Path) -> tuple[dict[str, bytes], list[fastsmaps.Error]]:
    caught: list[fastsmaps.Error] = []
    with open_capture(path, on_error=caught.append) as directory:
        return tree(directory), caught


def plain(data: bytes) -> bytes:
    return data


@pytest.mark.parametrize("compress", [plain, gzip.compress, lzma.compress, bz2.compress])
def test_cut_off_anywhere(
    backend: ModuleType, tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    members = {f"{pid}/{name}": os.urandom(300) for pid in (7, 8, 9) for name in ("smaps", "stat")}
    whole = tar(tmp_path / "a", {**members}).read_bytes().rstrip(b"\0")
    whole = compress(whole + bytes(2048 - len(whole) % 512))
    path = tmp_path / "cut"
    path.write_bytes(whole)
    assert opened(path) == (members, [])
    step = 97 if compress is plain else 41
    damaged = 0
    cuts = {*range(0, len(whole), step), *range(0, len(whole), 512), len(whole) - 1}
    for length in sorted(cuts):
        path.write_bytes(whole[:length])
        try:
            found, caught = opened(path)
        except CaptureError as error:
            none_whole = "is no capture" in str(error)
            assert none_whole
            continue
        # What is there is whole.
        assert found.items() <= members.items()
        if compress is plain and length > len(whole) - 1600:
            continue  # within its end, of which nothing is missed
        assert len(caught) == 1
        assert "is damaged" in str(caught[0])
        assert caught[0].path == str(path)
        damaged += len(found) > 0
        with pytest.raises(CaptureError, match="is damaged"), open_capture(path):
            pass
    assert damaged or compress in (lzma.compress, bz2.compress)  # one block


def test_damaged_anywhere(tmp_path: Path) -> None:
    """Whatever byte is another, nothing but an error of ours comes of it."""
    whole = bytearray(tar(tmp_path / "a", smem()).read_bytes().rstrip(b"\0") + bytes(1024))
    squeezed = bytearray(gzip.compress(whole))
    files = {name: text for name, text in smem().items() if text is not None}
    path = tmp_path / "damaged"
    for data in (whole, squeezed):
        for at in range(0, len(data), 37 if data is whole else 3):
            data[at] ^= 0xA5
            path.write_bytes(data)
            data[at] ^= 0xA5
            with contextlib.suppress(CaptureError), open_capture(path) as directory:
                # In gzip's header are bytes that mean nothing for what follows.
                assert data is whole or tree(directory) == files


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", bytes(10240), b"x" * 5000, SMAPS,
     gzip.compress(SMAPS), gzip.compress(b""), os.urandom(2000)],
)  # fmt: skip
def test_what_is_no_capture(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(data)
    caught: list[fastsmaps.Error] = []
    for on_error in (None, caught.append):
        with (
            pytest.raises(CaptureError, match="is no capture") as error,
            open_capture(path, on_error=on_error),
        ):
            pass
        assert error.value.path == str(path)
    assert caught == []


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    for path, number in ((tmp_path / "no", errno.ENOENT), (Path("/proc/1/mem/x"), errno.ENOTDIR)):
        with pytest.raises(CaptureError, match="cannot open") as error, open_capture(path):
            pass
        assert (error.value.path, error.value.errno) == (str(path), number)


def test_on_error_that_raises(tmp_path: Path) -> None:
    path = tar(tmp_path / "a", smem())
    os.truncate(path, 3000)

    def refuse(error: fastsmaps.Error) -> None:
        raise error

    with pytest.raises(CaptureError, match="is damaged"), open_capture(path, on_error=refuse):
        pass
