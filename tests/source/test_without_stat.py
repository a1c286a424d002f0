"""Captures of other tools: smaps and status without stat, or only smaps and cmdline."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fastsmaps
from fastsmaps._capture.capture import capture
from support.commands import json_rows, run
from support.smaps_texts import record

SMAPS = record(
    0x400000, 0x500000, b"/usr/bin/daemon", perms=b"r-xp",
    Size=1024, Rss=512, Pss=500, Private_Clean=480, Private_Dirty=0, Swap=0,
)  # fmt: skip
STATUS = b"Name:\t%s\nState:\t%s\nTgid:\t%d\nPid:\t%d\nPPid:\t%d\n%sUid:\t0\t%d\t0\t0\n"


def status(pid: int, name: bytes = b"daemon", *, state: bytes = b"S (sleeping)", ppid: int = 1,
           uid: int = 0, kthread: bytes = b"", rest: bytes = b"") -> bytes:  # fmt: skip
    return STATUS % (name, state, pid, pid, ppid, kthread, uid) + rest


#: pid: its files, its outcome, comm, ppid, uid.
PROCESSES: dict[int, tuple[dict[str, bytes], str, str | None, int | None, int | None]] = {
    10: ({"smaps": SMAPS, "status": status(10)}, "read", "daemon", 1, 0),
    11: (
        {
            "smaps": SMAPS,
            "status": status(11, rb"a\nb\\n\xff".replace(rb"\xff", b"\xff"), ppid=10, uid=7),
        },
        "read", "a\nb\\n\udcff", 10, 7,
    ),
    12: ({"smaps": SMAPS, "cmdline": b"/usr/bin/daemon\0-x\0"}, "read", None, None, None),
    13: ({"smaps": SMAPS, "comm": b"it\n"}, "read", "it", None, None),
    14: ({"smaps": SMAPS}, "read", None, None, None),
    20: ({"smaps": b"", "status": status(20, b"kthreadd", ppid=0, kthread=b"Kthread:\t1\n")},
         "kernel_thread", "kthreadd", 0, 0),
    21: ({"smaps": b"", "status": status(21, b"kworker/0:1", ppid=2, rest=b"Threads:\t1\n")},
         "kernel_thread", "kworker/0:1", 2, 0),
    22: ({"smaps": b"", "status": status(22, state=b"Z (zombie)", rest=b"Threads:\t1\n")},
         "zombie", "daemon", 1, 0),
    23: ({"smaps": b"", "status": status(23, kthread=b"Kthread:\t0\n", rest=b"VmSize:\t9 kB\n")},
         "failed", "daemon", 1, 0),
    24: ({"smaps": b"", "cmdline": b""}, "failed", None, None, None),
    25: ({"smaps": b"\n", "cmdline": b"x\0"}, "failed", None, None, None),
    26: ({"status": status(26)}, "failed", "daemon", 1, 0),
}  # fmt: skip
READ = [pid for pid, case in PROCESSES.items() if case[1] == "read"]


@pytest.fixture(scope="module")
def procfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sos") / "proc"
    for pid, (files, *_) in PROCESSES.items():
        (root / str(pid)).mkdir(parents=True)
        for name, text in files.items():
            (root / str(pid) / name).write_bytes(text)
    return root


def check(rows: Any, *, names: bool = True) -> None:
    found = {row.pid: row for row in rows}
    assert list(found) == list(PROCESSES)
    for pid, (files, outcome, *facts) in PROCESSES.items():
        row = found[pid]
        assert row.outcome == outcome, (pid, row.error)
        assert (row.totals is not None) == (outcome == "read")
        assert (row.error is None) == (outcome == "read")
        assert row.start_time is None
        if names:
            assert [row.comm, row.ppid, row.uid] == facts, pid
        if outcome == "read":
            assert (row.totals.rss, row.totals.pss) == (512 * 1024, 500 * 1024)
        if "cmdline" in files and row.cmdline is not None:
            assert row.cmdline == tuple(files["cmdline"].decode().split("\0")[:-1])


def test_a_scan_without_stat_reads_status(backend: ModuleType, procfs: Path) -> None:
    scan = fastsmaps.scan(procfs=procfs, cmdline=True, cgroup=True)
    check(scan)
    assert scan.coverage["zombie"] == 1
    assert [row.pid for row in scan.descendants(10)] == [10, 11]
    errors = {row.pid: row.error for row in scan}
    assert errors[24] == "process 24 is a kernel thread or zombie: it has no memory map"
    assert errors[23] == f"{procfs}/23 was captured without text: capture the process again"
    assert errors[25] == f"{procfs}/25 was captured without text: capture the process again"
    assert "smaps is missing" in (errors[26] or "")
    check(fastsmaps.scan(procfs=procfs, min_rss=1))
    excluded = fastsmaps.scan(procfs=procfs, exclude=lambda row: row.comm == "daemon")
    assert {row.pid for row in excluded if row.error == "excluded"} >= {10, 22}
    assert scan.group_by("comm")["daemon"].count == 1
    assert scan.group_by("user")[None].count == 3


def test_a_sampler_without_stat_reads_status(backend: ModuleType, procfs: Path) -> None:
    with fastsmaps.Sampler(procfs=procfs) as sampler:
        check(sampler.sweep())
        check(sampler.sweep())


def test_a_process_without_stat_reads_status(backend: ModuleType, procfs: Path) -> None:
    for pid in READ:
        assert fastsmaps.totals(pid, procfs=procfs).rss == 512 * 1024
        assert len(fastsmaps.mappings(pid, procfs=procfs)) == 1
        with fastsmaps.Process(pid, procfs=procfs) as process:
            info = process.info(heap=True)
        _, _, comm, ppid, uid = PROCESSES[pid]
        assert (info.comm, info.ppid, info.uid, info.start_time) == (comm, ppid, uid, None)
    for pid, what in ((20, "kernel thread"), (21, "kernel thread"), (22, "zombie")):
        for read in (fastsmaps.totals, fastsmaps.mappings):
            with pytest.raises(fastsmaps.NoMemoryMap) as caught:
                read(pid, procfs=procfs)
            assert (caught.value.what, caught.value.pid) == (what, pid)


def test_libs_without_stat_count_every_process(backend: ModuleType, procfs: Path) -> None:
    found = fastsmaps.libs(procfs=procfs)
    assert found["/usr/bin/daemon"].processes == len(READ)
    outcomes = [case[1] for case in PROCESSES.values()]
    wanted = {outcome: outcomes.count(outcome) for outcome in outcomes}
    assert {name: count for name, count in found.coverage.items() if count} == wanted


def test_a_capture_of_the_capture_is_equal(
    backend: ModuleType, procfs: Path, tmp_path: Path
) -> None:
    check(capture(tmp_path / "again", procfs=procfs))
    check(fastsmaps.scan(procfs=tmp_path / "again", cmdline=True))
    assert fastsmaps.diff(
        fastsmaps.scan(procfs=procfs), fastsmaps.scan(procfs=tmp_path / "again")
    ) == []  # fmt: skip


def test_a_damaged_status_is_a_parse_error(backend: ModuleType, tmp_path: Path) -> None:
    for line in (b"PPid:\tx\n", b"Uid:\n", b"Threads:\t?\n"):
        (tmp_path / "7").mkdir(exist_ok=True)
        (tmp_path / "7/smaps").write_bytes(SMAPS)
        (tmp_path / "7/status").write_bytes(b"Name:\tx\n" + line)
        (row,) = fastsmaps.scan(procfs=tmp_path)
        assert row.outcome == "failed"
        assert "status: line 2 (byte 8): not a line of status" in (row.error or "")


def test_commands_without_stat_show_every_process(procfs: Path, tmp_path: Path) -> None:
    where = ("--procfs", str(procfs))
    rows = {row["pid"]: row for row in json_rows("ps", *where)}
    assert {pid: row["outcome"] for pid, row in rows.items()} == {
        pid: case[1] for pid, case in PROCESSES.items()
    }
    shown = run("ps", *where).stdout
    assert re.search(r" daemon -x$", shown, re.MULTILINE)
    assert "[daemon]" in shown
    assert re.search(r"^5 of \d+ processes read", shown, re.MULTILINE)
    for by in ("comm", "user", "cgroup"):
        assert sum(row["processes"] for row in json_rows("ps", "--by", by, *where)) == len(READ)
    assert [row["rss"] for row in json_rows("totals", *map(str, READ), *where)] == [512 << 10] * 5
    assert [row["path"] for row in json_rows("maps", "12", *where)] == ["/usr/bin/daemon"]
    assert json_rows("libs", *where)[0]["processes"] == len(READ)
    assert json_rows("diff", "10", "12", *where) == []
    assert json_rows("diff", str(procfs), str(procfs)) == []
    saved = str(tmp_path / "saved.tar")
    assert len(json_rows("capture", "-o", saved, *where)) == len(PROCESSES)
    again = {row["pid"]: row for row in json_rows("ps", "--procfs", saved)}
    for row in (*rows.values(), *again.values()):
        del row["error"]  # contains the directory
    assert again == rows
    samples = run("top", "--iterations", "1", "--json", *where).stdout
    assert {row["pid"]: row["outcome"] for row in json.loads(samples)} == {
        pid: case[1] for pid, case in PROCESSES.items()
    }


def test_metrics_without_stat(procfs: Path) -> None:
    pytest.importorskip("prometheus_client")
    metrics = run("export", "--once", "--by", "comm", "--procfs", str(procfs)).stdout
    assert 'fastsmaps_pss_bytes{comm="daemon"} 512000.0' in metrics
    assert 'fastsmaps_pss_bytes{comm=""} 1.024e+06' in metrics
