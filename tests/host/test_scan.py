"""scan(): many processes in one sweep, each with its outcome."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fastsmaps
from fastsmaps import _backend
from fastsmaps._errors import OUTCOMES
from fastsmaps._host import sweeper
from support import linux, processes
from support.commands import environment
from support.independent import DATA
from support.smaps_texts import record

pytestmark = [pytest.mark.usefixtures("no_leak"), pytest.mark.core]

ROOT = os.geteuid() == 0


def stat(pid: int) -> list[str]:
    return (
        Path(f"/proc/{pid}/stat").read_text("utf-8", "surrogateescape").rpartition(")")[2].split()
    )


def test_row_matches_kernel(backend: ModuleType, idle: processes.Process) -> None:
    def read() -> fastsmaps.ProcessTotals:
        (row,) = fastsmaps.scan([idle.pid], cgroup=True, cmdline=True)
        return row

    for attempt in processes.attempts(read, f"/proc/{idle.pid}/smaps_rollup"):
        with attempt as (row, (text,)):
            fields = stat(idle.pid)
            assert (row.pid, row.outcome, row.error) == (idle.pid, "read", None)
            assert row.ppid == os.getpid() == int(fields[1])
            assert row.uid == os.geteuid()
            assert row.comm == Path(f"/proc/{idle.pid}/comm").read_text().removesuffix("\n")
            assert row.start_time == int(fields[19]) / os.sysconf("SC_CLK_TCK")
            assert row.cmdline is not None
            assert row.cmdline[0] == sys.executable
            assert row.cgroup == fastsmaps.Process(idle.pid).info().cgroup
            assert row.totals is not None
            assert row.totals == fastsmaps.parse(text).totals()
            assert row.totals.source == "smaps_rollup"
            assert (row.age, row.estimated) == (None, False)
            assert row == pickle.loads(pickle.dumps(row))
            assert row.as_dict()["pss"] == row.totals.pss
            with pytest.raises(AttributeError):
                row.pid = 1


def test_scan_of_all_processes(backend: ModuleType, idle: processes.Process) -> None:
    scan = fastsmaps.scan()
    assert {idle.pid, os.getpid()} <= scan.by_pid.keys()
    assert scan.by_pid[idle.pid].outcome == "read"
    assert sum(scan.coverage.values()) == len(scan) == len(list(scan))
    assert tuple(scan.coverage) == OUTCOMES
    for row in scan:
        assert (row.outcome == "read") == (row.totals is not None) == (row.error is None)
    assert scan.cost.cpu > 0
    assert scan.cost.wall > 0
    assert scan.taken_at is not None
    assert abs(scan.taken_at - time.time()) < 600
    assert [row.pid for row in scan] == sorted(row.pid for row in scan)
    again = pickle.loads(pickle.dumps(scan))
    assert list(again) == list(scan)


def test_columns_groups_and_sums(backend: ModuleType, idle: processes.Process) -> None:
    with processes.zombie() as ended:
        scan = fastsmaps.scan([idle.pid, ended, os.getpid()])
    assert [row.outcome for row in scan] == ["read", "zombie", "read"]
    column = scan.column("pss")
    assert (column.format, column.readonly, column.contiguous) == ("Q", True, True)
    values = [row.totals.pss if row.totals else fastsmaps.ABSENT for row in scan]
    assert column.tolist() == values == scan.column("Pss").tolist()
    assert scan.column("pid").tolist() == [idle.pid, ended, os.getpid()]
    assert scan.column("start_time").format == "d"
    assert all(math.isnan(age) for age in scan.column("age"))
    totals = scan.totals()
    assert totals.rss == sum(value for value in scan.column("rss") if value != fastsmaps.ABSENT)
    (group,) = scan.group_by(lambda row: "all").values()
    assert (group.count, group.totals) == (2, totals)
    by_user = scan.group_by("user")
    assert list(by_user) == [scan[0].user]
    assert sum(group.count for group in scan.group_by("comm").values()) == 2
    assert list(scan[1:]) == [scan[1], scan[2]]
    for unknown in ("nonsense", "cpu"):
        with pytest.raises(KeyError):
            scan.column(unknown)
    with pytest.raises(ValueError, match="one or several of comm"):
        scan.group_by("nonsense")
    empty = fastsmaps.scan([])
    assert (len(empty), empty.totals().pss, empty.group_by("comm")) == (0, None, {})
    with pytest.raises(KeyError):
        empty.column("nonsense")


def test_rows_and_columns_agree(
    backend: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scan gives the same from the sweep's tables as from rows, even if rollups differ in fields.

    Iterating a scan makes its rows.
    """
    (tmp_path / "self").symlink_to("1")  # makes it a procfs
    monkeypatch.setattr("fastsmaps._source.source.Source.is_kernel_mount", lambda *_: True)
    rest = b"S 7 1 1 0 -1 4194304 " + b"0 " * 10 + b"1 0 77 " + b"0 " * 15 + b"17 0 0\n"
    for pid in range(1, 41):
        fields: dict[str, Any] = {"Rss": 4 * pid, "Pss": pid}
        fields |= {"Private_Clean": 1, "Private_Dirty": pid}
        if pid % 3:
            fields["Next"] = pid
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_bytes(b"%d (%d) " % (pid, pid % 5) + rest)
        rollup = record(0x1000, 0x9000, name=b"[rollup]", **fields)
        (tmp_path / str(pid) / "smaps_rollup").write_bytes(rollup)

    def scan(*pids: int, workers: int = 2) -> fastsmaps.Scan:
        return fastsmaps.scan(pids or None, procfs=tmp_path, workers=workers)

    for pids in ((), (1, 2, 4), (3, 6), (3, 1)):
        by_tables, by_rows = scan(*pids), scan(*pids)
        totals = [row.totals for row in by_rows if row.totals]
        assert len(totals) == len(by_rows) == len(pids or range(40))
        assert by_tables.totals() == sum(totals[1:], totals[0]) == by_rows.totals()
        for name in ("pss", "uss", "rss_swap", "Private_Dirty", "swap", "size"):
            values = [row_totals[name] for row_totals in totals]
            expected = [fastsmaps.ABSENT if value is None else value for value in values]
            assert by_tables.column(name).tolist() == by_rows.column(name).tolist() == expected
        groups, groups_by_rows = (
            {key: (group.count, group.totals) for key, group in table.group_by("comm").items()}
            for table in (by_tables, by_rows)
        )
        assert groups == groups_by_rows
        assert list(groups) == list(groups_by_rows)
    column = scan(1, 3, workers=1).column("Next")
    assert column.tolist() == scan(1, 3).column("next").tolist() == [1024, fastsmaps.ABSENT]
    assert "Next" not in scan().totals().by_label
    with pytest.raises(KeyError):
        scan(3, 6).column("next")


def test_scan_descendants(backend: ModuleType, idle: processes.Process) -> None:
    with processes.workload("idle") as other:
        scan = fastsmaps.scan([os.getpid(), idle.pid, other.pid])
    tree = scan.descendants(os.getpid())
    assert [row.pid for row in tree] == [os.getpid(), idle.pid, other.pid]
    assert tree.totals() == scan.totals()
    assert [row.pid for row in scan.descendants(idle.pid)] == [idle.pid]
    with pytest.raises(KeyError):
        scan.descendants(2**30)


@pytest.mark.thread_unsafe(reason="sends requests to a process that all threads share")
def test_every_outcome_is_reported(backend: ModuleType, idle: processes.Process) -> None:
    (tid,) = idle.request("threads", 1)
    with processes.zombie() as ended:
        pids = [ended, processes.dead_pid(), tid]
        expected = ["zombie", "gone", "failed"]
        if (thread := processes.kernel_thread()) is not None:
            pids.append(thread)
            expected.append("kernel_thread")
        scan = fastsmaps.scan(pids, workers=2)
    assert [row.outcome for row in scan] == expected
    assert [row.pid for row in scan] == pids
    for row in scan:
        assert row.error
        assert row.totals is None
    assert f"a thread of process {idle.pid}" in (scan[2].error or "")
    assert scan[0].comm == scan[0].comm
    assert scan[0].ppid == os.getpid()
    # Each process once, in the order of the argument.
    assert [row.pid for row in fastsmaps.scan([idle.pid, tid, idle.pid])] == [idle.pid, tid]


def test_scan_after_main_thread_exit(backend: ModuleType) -> None:
    with processes.workload("idle") as child:
        child.request("leave")
        (row,) = fastsmaps.scan([child.pid])
        assert row.outcome == "read"
        assert row.totals is not None
        assert row.totals.rss
        assert row.ppid == os.getpid()
        # The main thread's statm is 0 by now.
        (row,) = fastsmaps.scan([child.pid], min_rss=linux.PAGE)
        assert row.outcome == "read"
        (row,) = fastsmaps.scan([child.pid], max_rss=linux.PAGE)
        assert (row.outcome, row.totals) == ("skipped", None)
        assert f"above max_rss={linux.PAGE}" in (row.error or "")


def test_min_rss_and_max_rss(backend: ModuleType, idle: processes.Process) -> None:
    pid = idle.pid
    rss = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * linux.PAGE
    cases: list[tuple[dict[str, Any], str]] = [
        ({"min_rss": rss * 4}, f"below min_rss={rss * 4}"),
        ({"max_rss": rss // 4}, f"above max_rss={rss // 4}"),
        ({"max_rss": 0}, "above max_rss=0"),
    ]
    for limits, reason in cases:
        (row,) = fastsmaps.scan([pid], **limits)
        assert row.outcome == "skipped"
        assert reason in (row.error or "")
        assert row.comm is not None
    (row,) = fastsmaps.scan([pid], min_rss=rss // 4, max_rss=rss * 4)
    assert row.outcome == "read"


def test_exclude_by_pid_and_function(backend: ModuleType, idle: processes.Process) -> None:
    pids = [idle.pid, os.getpid()]
    by_number = fastsmaps.scan(pids, exclude={idle.pid})
    seen = []

    def is_idle(row: fastsmaps.ProcessTotals) -> bool:
        seen.append((row.pid, row.comm, row.uid, row.totals))
        return row.pid == idle.pid

    by_function = fastsmaps.scan(pids, exclude=is_idle)
    for scan in (by_number, by_function):
        assert [row.outcome for row in scan] == ["skipped", "read"]
        assert scan[0].error == "excluded"
        assert scan[0].totals is None
    assert [pid for pid, *_ in seen] == pids
    assert all(comm and uid is not None and totals is None for _, comm, uid, totals in seen)


def test_timeout_applies_before_exclude(
    backend: ModuleType, idle: processes.Process, tmp_path: Path
) -> None:
    fastsmaps.capture(tmp_path / "saved", [idle.pid])
    asked: list[str | None] = []

    def exclude(row: fastsmaps.ProcessTotals) -> bool:
        asked.append(row.comm)
        return False

    for procfs in ("/proc", tmp_path / "saved"):
        (row,) = fastsmaps.scan([idle.pid], procfs=procfs, timeout=0, exclude=exclude)
        assert row.outcome == "skipped"
        assert "timeout reached" in (row.error or "")
    assert asked == []  # reading stat of thousands of processes takes time too
    (row,) = fastsmaps.scan([idle.pid], timeout=3600, exclude=exclude)
    assert (row.outcome, asked) == ("read", [row.comm])


def test_timeout_skips_processes(backend: ModuleType, idle: processes.Process) -> None:
    scan = fastsmaps.scan([idle.pid, os.getpid()], timeout=0)
    assert [row.outcome for row in scan] == ["skipped", "skipped"]
    assert all("timeout reached" in (row.error or "") for row in scan)
    scan = fastsmaps.scan([idle.pid, os.getpid()], timeout=3600, workers=2)
    assert [row.outcome for row in scan] == ["read", "read"]


def test_timeout_stops_within_large_process(
    backend: ModuleType, idle: processes.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above some size a process is summed from chunks of smaps, so that it can stop midway."""
    monkeypatch.setattr(sweeper, "_LARGE_BYTES", linux.PAGE)
    (row,) = fastsmaps.scan([idle.pid], timeout=3600)
    assert row.totals is not None
    assert row.totals.source == "smaps"
    assert row.totals.rss == fastsmaps.totals(idle.pid).rss
    with processes.workload("many", "20000") as many:
        (row,) = fastsmaps.scan([many.pid], timeout=1e-3)
        assert row.outcome == "skipped"
        assert "timeout reached" in (row.error or "")
    fd = os.open(f"/proc/{idle.pid}/smaps", os.O_RDONLY)
    try:
        with pytest.raises(TimeoutError):
            _backend.total(fd, 3000, 1, time.monotonic())
    finally:
        os.close(fd)


def test_scan_arguments(backend: ModuleType, tmp_path: Path) -> None:
    cases: list[tuple[type[Exception], dict[str, Any]]] = [
        (TypeError, {"pids": ["self"]}),
        (TypeError, {"pids": 1}),
        (TypeError, {"pids": [1.5]}),
        (ValueError, {"pids": [0]}),
        (ValueError, {"workers": 0}),
        (TypeError, {"min_rss": "4 MiB"}),
        (TypeError, {"max_rss": float("inf")}),
        (TypeError, {"procfs": 7}),
        (fastsmaps.Error, {"procfs": tmp_path / "missing"}),
        (fastsmaps.Error, {"procfs": tmp_path / "missing", "pids": [1]}),
    ]
    for error, arguments in cases:
        with pytest.raises(error):
            fastsmaps.scan(**arguments)


def test_scan_capture(backend: ModuleType, tmp_path: Path) -> None:
    for i, name in enumerate(("zoo", "child", "kthread", "zombie"), 10):
        shutil.copytree(DATA / "captures/6.12-amd64" / name, tmp_path / str(i))
    (tmp_path / "20").mkdir()
    (tmp_path / "20" / "smaps").write_bytes(b"nonsense\n")
    scan = fastsmaps.scan(procfs=tmp_path, workers=2)
    outcomes = [row.outcome for row in scan]
    assert outcomes == ["read", "read", "kernel_thread", "zombie", "failed"]
    expected = fastsmaps.load(DATA / "captures/6.12-amd64/zoo/smaps_rollup").totals()
    assert scan[0].totals == expected
    assert fastsmaps.scan([10], procfs=tmp_path, max_rss=1)[0].outcome == "skipped"
    assert fastsmaps.scan([10], procfs=tmp_path, exclude=lambda row: True)[0].error == "excluded"


def test_procfs_without_smaps_rollup(
    backend: ModuleType, idle: processes.Process, tmp_path: Path
) -> None:
    """As on a kernel without smaps_rollup: smaps is summed."""
    (tmp_path / "self").symlink_to(str(idle.pid))
    (tmp_path / str(idle.pid)).mkdir()
    for name in ("stat", "status", "smaps"):
        text = Path(f"/proc/{idle.pid}/{name}").read_bytes()
        (tmp_path / str(idle.pid) / name).write_bytes(text)
    (row,) = fastsmaps.scan(procfs=tmp_path)
    assert row.totals is not None
    assert row.totals.source == "smaps"
    assert row.totals.size
    assert row.totals.rss == fastsmaps.totals(idle.pid).rss


@pytest.mark.thread_unsafe(reason="forks")
@pytest.mark.parametrize("undumpable", [False, True])
def test_scan_as_another_user(backend: ModuleType, undumpable: bool) -> None:
    with processes.workload("idle") as child:
        if undumpable:
            child.request("undumpable")

        def scan_unprivileged() -> tuple[fastsmaps.ProcessTotals, fastsmaps.ProcessTotals]:
            linux.become(linux.NOBODY if ROOT else os.geteuid())
            row, own = fastsmaps.scan([child.pid, os.getpid()])
            return row, own

        row, own = processes.run_in_child(scan_unprivileged)
        denied = ROOT or undumpable
        hidden = denied and linux.hides_processes()
        # The effective user, as ps shows it, even for an undumpable process.
        known = (None, None) if hidden else (os.geteuid(), os.getpid())
        assert (row.pid, row.uid, row.ppid) == (child.pid, *known)
        assert row.outcome == ("denied" if denied else "read")
        if denied:
            assert "CAP_SYS_PTRACE" in (row.error or "")
            assert ("hidepid" if hidden else "CAP_PERFMON") in (row.error or "")
        assert own.pid != child.pid


@pytest.mark.parametrize(
    ("limits", "outcome"),
    [
        ({"max_rss": 1 << 80}, "read"),
        ({"min_rss": 1 << 80}, "skipped"),
        ({"min_rss": 0}, "read"),
        ({"max_rss": 0}, "skipped"),
    ],
)
def test_limits_of_any_size(
    backend: ModuleType, idle: processes.Process, limits: dict[str, Any], outcome: str
) -> None:
    (row,) = fastsmaps.scan([idle.pid], **limits)
    assert row.outcome == outcome
    with pytest.raises(ValueError, match="_rss must be at least 0"):
        fastsmaps.scan([idle.pid], **{name: ~limit for name, limit in limits.items()})


def test_hostile_process_names(backend: ModuleType) -> None:
    with processes.workload("idle") as child:
        name = os.fsdecode(b") R 1 2\x1b[3\xff\n")
        assert child.request("name", name) == "named"
        (row,) = fastsmaps.scan([child.pid])
        assert row.outcome == "read"
        assert row.ppid == os.getpid()
        comm = Path(f"/proc/{child.pid}/stat").read_bytes().partition(b"(")[2].rpartition(b")")[0]
        assert row.comm == os.fsdecode(comm)


SPAWNER = """
import os, sys
sys.stdout.write("0\\n"); sys.stdout.flush()
for _ in range(int(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        if sys.argv[2] == "exec":
            os.execv("/bin/true", ["true"])
        os._exit(0)
    os.waitpid(pid, 0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["fork", "exec"])
def test_processes_start_and_exit_during_scan(backend: ModuleType, way: str) -> None:
    scans = 0
    with processes.running(sys.executable, "-c", SPAWNER, "750", way) as child:
        comms = (Path(f"/proc/{child.pid}/comm").read_text().rstrip("\n"), "true")
        while child.popen.poll() is None:
            scan = fastsmaps.scan(workers=2)
            scans += 1
            assert sum(scan.coverage.values()) == len(scan)
            for row in scan:
                if row.outcome == "read":
                    assert row.totals is not None
                    assert row.totals.rss is not None
                    if child.pid in (row.pid, row.ppid):  # others may have any name or none
                        assert row.comm in comms
                elif row.outcome == "failed":
                    # It called exec or ended during each of twenty attempts.
                    assert "during each of" in (row.error or "")
    assert scans > 0


def test_concurrent_scans_in_threads(backend: ModuleType, idle: processes.Process) -> None:
    failures: list[BaseException] = []

    def scan() -> None:
        try:
            for _ in range(5):
                rows = fastsmaps.scan([idle.pid, os.getpid()] * 20, workers=2)
                assert [row.outcome for row in rows] == ["read", "read"]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=scan) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_large_process_among_small_ones(backend: ModuleType, idle: processes.Process) -> None:
    with processes.workload("many", "65000") as many:
        scan = fastsmaps.scan([idle.pid, many.pid, os.getpid()], workers=2)
        assert [row.outcome for row in scan] == ["read"] * 3
        assert scan[1].totals is not None
        assert scan[1].totals.rss == fastsmaps.totals(many.pid).rss


@pytest.mark.thread_unsafe(reason="limits the process's descriptors")
def test_missing_descriptor_fails_row(backend: ModuleType, idle: processes.Process) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (processes.next_descriptor() + 10, hard))
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        os.close(held.pop())  # for the procfs directory
        (row,) = fastsmaps.scan([idle.pid])
        assert row.outcome == "failed"
        assert os.strerror(errno.EMFILE) in (row.error or "")
        os.close(held.pop())
        os.close(held.pop())
        (row,) = fastsmaps.scan([idle.pid])
        assert row.outcome == "read"
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


INTERRUPTED = """
import fastsmaps, os, sys
try:
    print("[]", flush=True)
    while True:
        fastsmaps.scan([os.getpid()] + list(map(int, sys.argv[1:])), workers=2)
except KeyboardInterrupt:
    print('"interrupted"', flush=True)
"""


def test_sigint_interrupts_scan(backend: ModuleType, idle: processes.Process) -> None:
    command = [sys.executable, "-c", INTERRUPTED, str(idle.pid)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"[]\n"
        child.send_signal(signal.SIGINT)
        out, error = child.communicate(timeout=processes.TIMEOUT)
        assert (child.returncode, out, error) == (0, b'"interrupted"\n', b"")


def test_wrong_directory_with_pids(backend: ModuleType, tmp_path: Path) -> None:
    for function in (fastsmaps.scan, fastsmaps.libs):
        with pytest.raises(fastsmaps.NotProcfs, match="neither a procfs nor a capture"):
            function([os.getpid()], procfs=tmp_path)
