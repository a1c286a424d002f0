"""procfs= arguments other than /proc: another pid namespace, captures, other directories."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import fastsmaps
from support import independent, linux, processes
from support.independent import DATA, Record

pytestmark = pytest.mark.usefixtures("no_leak")

KERNELS = sorted(path.name for path in (DATA / "captures").iterdir() if path.is_dir())

READS: dict[str, Callable[..., object]] = {
    "totals": fastsmaps.totals,
    "mappings": fastsmaps.mappings,
    "maps": lambda pid, procfs: fastsmaps.mappings(pid, sizes=False, procfs=procfs),
    "Process": lambda pid, procfs: fastsmaps.Process(pid, procfs=procfs).close(),
}
every_read = pytest.mark.parametrize("read", READS.values(), ids=READS)


# ---- neither a procfs nor a capture


@every_read
def test_neither_procfs_nor_capture(
    backend: ModuleType, tmp_path: Path, read: Callable[..., object]
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    empty = tmp_path / "empty"
    empty.mkdir()
    for procfs, message in (
        (tmp_path / "missing", "is not a directory"),
        (f"{tmp_path}/missing/directory", "is not a directory"),
        (file, "is not a directory"),
        ("", "is not a directory"),
        ("/prco", "is not a directory"),
        (empty, "is neither a procfs nor a capture"),
        (f"{empty}/", "is neither a procfs nor a capture"),
        (f"/proc/{os.getpid()}", "is neither a procfs nor a capture"),
        ("/", "is neither a procfs nor a capture"),
    ):
        for pid in (1, os.getpid(), "self"):
            with pytest.raises(fastsmaps.Error, match=message) as caught:
                read(pid, procfs=procfs)
            assert type(caught.value) is fastsmaps.NotProcfs  # not ProcessGone
            assert caught.value.path == str(procfs)
            assert repr(str(procfs)) in str(caught.value)
            assert caught.value.pid == (None if pid == "self" else pid)
    for invalid in (b"/proc", None, 3, tmp_path.as_posix().encode()):
        with pytest.raises(TypeError):
            read(1, procfs=invalid)


def test_directory_without_processes(backend: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "1a").mkdir()
    with fastsmaps.Sampler(procfs=tmp_path) as sampler:
        for read in (
            lambda: fastsmaps.scan(procfs=tmp_path),
            lambda: fastsmaps.libs(procfs=tmp_path),
            lambda: fastsmaps.capture(tmp_path / "saved", procfs=tmp_path),
            sampler.sweep,
        ):
            with pytest.raises(fastsmaps.NotProcfs, match="neither a procfs nor a capture"):
                read()
    # A capture of no process is still a capture.
    fastsmaps.capture(tmp_path / "saved", [])
    assert len(fastsmaps.scan(procfs=tmp_path / "saved")) == 0


def test_paths_to_procfs(backend: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    for procfs in ("/proc", "/proc/", "//proc", "proc", "./proc/.", Path("/proc")):
        for pid in ("self", os.getpid()):
            assert fastsmaps.totals(pid, procfs=procfs).rss
            table = fastsmaps.mappings(pid, procfs=procfs)
            assert (table.pid, table.procfs) == (os.getpid(), str(procfs))
            with fastsmaps.Process(pid, procfs=procfs) as process:
                assert (process.pid, process.procfs) == (os.getpid(), str(procfs))
                assert process.mappings().pid == os.getpid()
        with pytest.raises(fastsmaps.ProcessGone):
            fastsmaps.totals(processes.dead_pid(), procfs=procfs)


# ---- another pid namespace


def test_outer_procfs_in_pid_namespace(backend: ModuleType) -> None:
    """The pids there differ from os.getpid(), as in a container that sees the host's procfs."""

    def inside() -> tuple[int, int | None, int, int, bool]:
        table = fastsmaps.mappings()
        with fastsmaps.Process() as process:
            here = table.find(id(table)) is not None
            return os.getpid(), table.pid, process.pid, int(os.readlink("/proc/self")), here

    try:
        own, by_mappings, by_process, by_link, here = processes.run_in_namespaces(inside, None)
    except linux.Unavailable as error:
        pytest.skip(f"no pid namespace: {error}")
    assert own == 1
    assert by_mappings == by_process == by_link != 1
    assert here


def test_inner_procfs_from_outer_namespace(backend: ModuleType) -> None:
    """A container's procfs seen from outside has no pid for this process."""
    try:
        with processes.namespace() as outer:
            pid = outer.report["pid"]
            procfs = f"/proc/{pid}/root/proc"
            assert fastsmaps.totals(1, procfs=procfs).rss
            table = fastsmaps.mappings(1, procfs=procfs)
            assert (table.pid, len(table)) == (1, len(fastsmaps.mappings(pid)))
            with fastsmaps.Process(1, procfs=procfs) as process:
                assert process.info(heap=True).pid == 1
            for read in READS.values():
                with pytest.raises(fastsmaps.Error, match="pid namespace") as caught:
                    read("self", procfs=procfs)
                assert type(caught.value) is fastsmaps.NotInNamespace
                # A pid that exists only in our namespace does not exist there.
                with pytest.raises(fastsmaps.ProcessGone):
                    read(2**22 - 1, procfs=procfs)
    except linux.Unavailable as error:
        pytest.skip(f"no procfs of another pid namespace: {error}")


# ---- captures


def capture(tmp_path: Path, kernel: str) -> dict[str, int]:
    """Copy the saved processes of a kernel to directories named by pid; return the pids."""
    pids = {}
    for directory in (DATA / "captures" / kernel).iterdir():
        pid = int((directory / "stat").read_bytes().split()[0])
        shutil.copytree(directory, tmp_path / str(pid))
        pids[directory.name] = pid
    assert pids.keys() == {"zoo", "child", "zombie", "kthread"}
    return pids


def text_of(tmp_path: Path, pid: int, name: str) -> bytes:
    return (tmp_path / str(pid) / name).read_bytes()


def assert_rows(table: fastsmaps.Mappings, records: list[Record]) -> None:
    assert len(table) == len(records)
    for row, record in zip(table, records, strict=True):
        assert (row.start, row.end, row.perms) == (record.start, record.end, record.perms)
        assert (row.raw_path, row.kind) == (record.name, record.kind)
        for label, value in record.fields.items():
            assert (row.size_printed if label == "Size" else row[label]) == value


@pytest.mark.parametrize("kernel", KERNELS)
def test_saved_capture_matches_its_texts(backend: ModuleType, tmp_path: Path, kernel: str) -> None:
    pids = capture(tmp_path, kernel)
    for name in ("zoo", "child"):
        pid = pids[name]
        rollup = independent.read(text_of(tmp_path, pid, "smaps_rollup"))[0]
        smaps = independent.read(text_of(tmp_path, pid, "smaps"))
        maps = independent.read(text_of(tmp_path, pid, "maps"))
        with fastsmaps.Process(pid, procfs=tmp_path) as process:
            for totals in (
                fastsmaps.totals(pid, procfs=tmp_path),
                process.totals(),
                process.totals(),
            ):
                assert totals.source == "smaps_rollup"
                assert totals.by_label == rollup.fields
            for table in (fastsmaps.mappings(pid, procfs=tmp_path), process.mappings()):
                assert_rows(table, smaps)
                assert (table.pid, table.procfs) == (pid, str(tmp_path))
            for table in (
                fastsmaps.mappings(pid, sizes=False, procfs=tmp_path),
                process.mappings(sizes=False),
            ):
                assert_rows(table, maps)
            info = process.info(heap=True)
        assert info.pid == pid
        assert info.comm == {"zoo": "zoo", "child": "zoo (child) x)"}[name]
        assert info.ppid == {"zoo": 1, "child": pids["zoo"]}[name]
        assert (info.uid, info.threads) == (0, 1)
        fields = text_of(tmp_path, pid, "stat").rpartition(b")")[2].split()
        assert info.start_brk == int(fields[44])
        assert info.heap == tuple((r.start, r.end) for r in maps if r.kind == "heap")
        assert info.heap[0][0] == info.start_brk
        peak = re.search(rb"^VmHWM:\s*(\d+) kB$", text_of(tmp_path, pid, "status"), re.MULTILINE)
        assert peak is not None
        assert info.peak_rss == int(peak[1]) * 1024
        # These were not saved.
        assert (info.cmdline, info.cgroup) == (None, None)


@pytest.mark.parametrize("kernel", KERNELS)
def test_capture_of_zombie_and_kernel_thread(
    backend: ModuleType, tmp_path: Path, kernel: str
) -> None:
    pids = capture(tmp_path, kernel)
    for name, what in (("zombie", "zombie"), ("kthread", "kernel thread")):
        pid = pids[name]
        with fastsmaps.Process(pid, procfs=tmp_path) as process:
            for read in (
                lambda pid=pid: fastsmaps.totals(pid, procfs=tmp_path),
                lambda pid=pid: fastsmaps.mappings(pid, procfs=tmp_path),
                process.totals,
                process.mappings,
            ):
                with pytest.raises(fastsmaps.NoMemoryMap, match=what) as caught:
                    read()
                assert (caught.value.pid, caught.value.what) == (pid, what)
            info = process.info(heap=True)
        assert info.comm == {"zombie": "zoo", "kthread": "kthreadd"}[name]
        assert info.start_brk is None


@every_read
def test_pid_missing_from_capture(
    backend: ModuleType, tmp_path: Path, read: Callable[..., object]
) -> None:
    pids = capture(tmp_path, KERNELS[0])
    for pid in (max(pids.values()) + 1, os.getpid(), "self"):
        with pytest.raises(fastsmaps.Error, match=f"does not hold process {pid}") as caught:
            read(pid, procfs=tmp_path)
        assert type(caught.value) is fastsmaps.NotCaptured
        assert caught.value.pid == (None if pid == "self" else pid)
        assert caught.value.path == f"{tmp_path}/{pid}"


def test_capture_with_missing_files(backend: ModuleType, tmp_path: Path) -> None:
    """The smemcap of smem saves smaps, stat and cmdline; others save only smaps."""
    zoo = DATA / "captures" / KERNELS[0] / "zoo"
    records = independent.read((zoo / "smaps").read_bytes())
    rss = sum(record.fields["Rss"] for record in records)
    directory = tmp_path / "7"
    directory.mkdir()
    shutil.copyfile(zoo / "smaps", directory / "smaps")
    for _ in ("smaps alone", "with stat and cmdline"):
        totals = fastsmaps.totals(7, procfs=tmp_path)
        assert (totals.source, totals.rss) == ("smaps", rss)
        assert totals.size == sum(record.end - record.start for record in records)
        assert_rows(fastsmaps.mappings(7, procfs=tmp_path), records)
        with fastsmaps.Process(7, procfs=tmp_path) as process:
            assert process.totals() == process.totals() == totals
        with pytest.raises(fastsmaps.NotCaptured, match="maps is missing from the capture"):
            fastsmaps.mappings(7, sizes=False, procfs=tmp_path)
        if not (directory / "stat").exists():
            with fastsmaps.Process(7, procfs=tmp_path) as process:
                info = process.info(heap=True)
            assert (info.comm, info.ppid, info.start_time, info.threads) == (None,) * 4
            (directory / "stat").write_bytes(
                b"7" + (zoo / "stat").read_bytes().lstrip(b"0123456789")
            )
            (directory / "cmdline").write_bytes(b"/bin/zoo\0-v\0\0")
    with fastsmaps.Process(7, procfs=tmp_path) as process:
        info = process.info(heap=True)
    assert info.cmdline == ("/bin/zoo", "-v", "")
    assert (info.heap, info.uid, info.peak_rss) == (None, None, None)
    (directory / "smaps").unlink()
    for read in (fastsmaps.totals, fastsmaps.mappings):
        with pytest.raises(
            fastsmaps.NotCaptured, match="smaps is missing from the capture"
        ) as caught:
            read(7, procfs=tmp_path)
        assert (caught.value.pid, caught.value.path) == (7, f"{directory}/smaps")
    (tmp_path / "fastsmaps.json").write_text("{}")
    with pytest.raises(fastsmaps.NotCaptured, match="json there lists what was denied"):
        fastsmaps.totals(7, procfs=tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("stat", b"", b""),
        ("stat", b"7 (zoo S 1 2 3\n", b"7 (zoo S 1 2 3"),
        ("stat", b"7 (zoo) S 1\n", b"7 (zoo) S 1"),
        ("stat", b"7 (zoo) S " + b"x " * 50, b"7 (zoo) S " + b"x " * 50),
        ("status", b"Name:\tx\nTgid:\tseven\n", b"Tgid:\tseven"),
        ("status", b"Name:\tx\nTgid:", b"Tgid:"),
        ("status", b"Name:\tx\nUid:\t0\n", b"Uid:\t0"),
        ("status", b"Name:\tx\nVmHWM:\t\xff kB\n", b"VmHWM:\t\xff kB"),
        ("cgroup", b"0::/fine\nnonsense\n", b"nonsense"),
        ("maps", b"nonsense\n", b"nonsense"),
    ],
)
def test_damaged_file_raises_parse_error(
    backend: ModuleType, tmp_path: Path, name: str, text: bytes, line: bytes
) -> None:
    zoo = DATA / "captures" / KERNELS[0] / "zoo"
    (tmp_path / "7").mkdir()
    for file in ("maps", "smaps"):
        (tmp_path / "7" / file).write_bytes((zoo / file).read_bytes())
    (tmp_path / "7" / "stat").write_bytes((zoo / "stat").read_bytes())
    (tmp_path / "7" / name).write_bytes(text)

    def read() -> None:
        with fastsmaps.Process(7, procfs=tmp_path) as process:
            process.info(heap=True)

    with pytest.raises(fastsmaps.ParseError) as caught:
        read()
    error = caught.value
    assert (error.pid, error.path) == (7, f"{tmp_path}/7/{name}")
    assert error.line == line
    assert text[error.offset : error.offset + len(line)] == line
    assert error.line_number == text[: error.offset].count(b"\n") + 1


# ---- other kernels


def test_kernel_without_rollup(backend: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    processes.hide_files(monkeypatch, "smaps_rollup")
    with processes.workload("idle") as child:
        smaps = f"/proc/{child.pid}/smaps"
        with fastsmaps.Process(child.pid) as process:
            reads: list[Callable[[], fastsmaps.Totals]] = [
                lambda: fastsmaps.totals(child.pid),
                process.totals,
                process.totals,
            ]
            for read in reads:
                # Unlike Pss, these do not change when another process starts or ends.
                own = ("Rss", "Anonymous", "Swap")
                for attempt in processes.attempts(read, smaps, labels=own):
                    with attempt as (totals, (text,)):
                        records = independent.read(text)
                        assert totals.source == "smaps"
                        assert totals.pss_anon is None
                        assert totals.size == sum(record.end - record.start for record in records)
                        for label in own:
                            assert totals[label] == sum(record.fields[label] for record in records)
                        assert totals.pss is not None
                        assert totals.anonymous is not None
                        assert totals.rss is not None
                        assert 0 < totals.anonymous <= totals.pss <= totals.rss
            # After an exec the kept descriptor must give the new program's sum.
            child.request("exec", "many", "3000")
            assert len(process.mappings()) > 3000
            totals, records = process.totals(), independent.read(Path(smaps).read_bytes())
            assert totals.size == sum(record.end - record.start for record in records)
            child.kill()
            with pytest.raises(fastsmaps.NoMemoryMap, match="zombie"):
                process.totals()
            child.reap()
            with pytest.raises(fastsmaps.ProcessGone):
                process.totals()


def test_kernel_without_smaps(backend: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    processes.hide_files(monkeypatch, "smaps", "smaps_rollup")
    with processes.workload("idle") as child:
        for read in (fastsmaps.totals, fastsmaps.mappings):
            with pytest.raises(fastsmaps.Error, match="CONFIG_PROC_PAGE_MONITOR") as caught:
                read(child.pid)
            assert type(caught.value) is fastsmaps.NotSupported
            assert caught.value.pid == child.pid
            assert str(caught.value.path).endswith("/smaps")
        assert len(fastsmaps.mappings(child.pid, sizes=False)) > 10
        with fastsmaps.Process(child.pid) as process:
            assert process.info(heap=True).heap


# ---- other failures


def broken_capture(tmp_path: Path, name: str, failure: str) -> str:
    """Write a capture in which one file can be opened but not read."""
    zoo = DATA / "captures" / KERNELS[0] / "zoo"
    directory = tmp_path / "7"
    directory.mkdir()
    for file in ("maps", "smaps", "smaps_rollup", "stat"):
        if file != name:
            shutil.copyfile(zoo / file, directory / file)
    if failure == "EISDIR":
        (directory / name).mkdir()
    elif failure == "EFBIG":
        (directory / name).touch()
        os.truncate(directory / name, 1 << 40)
    elif failure == "ELOOP":
        (directory / name).symlink_to(zoo / name)
    else:
        os.mkfifo(directory / name)
    return str(tmp_path)


@pytest.mark.parametrize("failure", ["EISDIR", "EFBIG", "ELOOP", "EINVAL"])
@pytest.mark.parametrize("name", ["smaps", "smaps_rollup", "maps", "stat", "status"])
def test_read_error_keeps_errno(
    backend: ModuleType, tmp_path: Path, name: str, failure: str
) -> None:
    procfs = broken_capture(tmp_path, name, failure)

    def by_process(method: Callable[[fastsmaps.Process], object]) -> None:
        with fastsmaps.Process(7, procfs=procfs) as process:
            method(process)

    reads: dict[str, list[Callable[[], object]]] = {
        "smaps": [
            lambda: fastsmaps.mappings(7, procfs=procfs),
            lambda: by_process(fastsmaps.Process.mappings),
        ],
        "smaps_rollup": [
            lambda: fastsmaps.totals(7, procfs=procfs),
            lambda: by_process(fastsmaps.Process.totals),
        ],
        "maps": [
            lambda: fastsmaps.mappings(7, sizes=False, procfs=procfs),
            lambda: by_process(lambda process: process.info(heap=True)),
        ],
        "stat": [lambda: by_process(fastsmaps.Process.info)],
        "status": [lambda: by_process(fastsmaps.Process.info)],
    }
    for read in reads[name]:
        with pytest.raises(fastsmaps.ReadError) as caught:
            read()
        error = caught.value
        assert error.errno == getattr(errno, failure)
        assert (error.pid, error.path) == (7, f"{procfs}/7/{name}")
        messages = {"EISDIR": "Is a directory", "EFBIG": "more than", "ELOOP": "is a symbolic link"}
        assert messages.get(failure, "is not a regular file") in str(error)


def test_name_too_long(backend: ModuleType) -> None:
    for read in READS.values():
        with pytest.raises(fastsmaps.Error):
            read(7, procfs="/proc/" + "x" * 5000)
