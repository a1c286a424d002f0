"""Process.info(heap=True): facts about a process other than its mappings."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import psutil
import pytest

import fastsmaps
from support import linux, processes

pytestmark = pytest.mark.usefixtures("no_leak")


def info_of(pid: int) -> fastsmaps.Info:
    with fastsmaps.Process(pid) as process:
        return process.info(heap=True)


def status_of(pid: int, label: str) -> list[str]:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == label:
            return value.split()
    pytest.skip(f"this kernel's status has no {label}")


def test_heap_moved_only_by_sbrk(program: str, backend: ModuleType) -> None:
    """Only sbrk() moved the break, so the results of sbrk() are the kernel's values."""
    with processes.running(program, "brk") as child:
        before, after = child.report
        info = info_of(child.pid)
        assert info.start_brk == before
        assert info.heap is not None
        assert len(info.heap) == 3  # mprotect split it
        assert info.heap[0][0] == before & -linux.PAGE
        assert info.heap[-1][1] == after + linux.PAGE - 1 & -linux.PAGE
        assert [end for _, end in info.heap[:-1]] == [start for start, _ in info.heap[1:]]


def test_heap_of_an_ordinary_process(tmp_path: Path, backend: ModuleType) -> None:
    with processes.workload("zoo", str(tmp_path)) as child:
        report, info = child.report, info_of(child.pid)
        table = fastsmaps.mappings(child.pid)
        heap = [mapping for mapping in table if mapping.kind == "heap"]
        assert info.heap == tuple((mapping.start, mapping.end) for mapping in heap)
        if "unavailable" in report["mappings"]["heap"]:
            pytest.skip(report["mappings"]["heap"]["unavailable"])
        assert len(heap) >= 3
        assert "r--p" in [mapping.perms for mapping in heap]
        # The heap had grown before the report: sbrk(0) is above the start of the heap.
        assert info.start_brk is not None
        assert info.start_brk & -linux.PAGE == heap[0].start
        assert info.start_brk < report["brk before"] < report["brk"] <= heap[-1].end
        for name in ("heap", "heap, write-protected", "heap, its end"):
            mapping = table.find(report["mappings"][name]["start"])
            assert mapping in heap
        with fastsmaps.Process(child.pid) as process:
            assert process.info(heap=False).heap is None


def test_info_matches_psutil_and_status(backend: ModuleType) -> None:
    with processes.workload("idle", "an argument", "", "new\nline\t\x1b[31m", "\udcff") as child:
        info, peer = info_of(child.pid), psutil.Process(child.pid)
        assert info.pid == child.pid
        assert info.ppid == os.getpid() == peer.ppid()
        assert info.comm == peer.name()[:15]
        assert info.cmdline is not None
        assert info.cmdline[0] == sys.executable
        assert info.cmdline[-4:] == ("an argument", "", "new\nline\t\x1b[31m", "\udcff")
        assert info.uid == os.geteuid()
        assert info.threads == 1
        # The kernel's counters are approximate, even for an idle process.
        assert info.peak_rss is not None
        assert abs(info.peak_rss - int(status_of(child.pid, "VmHWM")[0]) * 1024) < 2**21
        # psutil adds the boot time.
        assert abs(psutil.boot_time() + info.start_time - peer.create_time()) < 1
        tids = child.request("threads", 3)
        assert len(tids) == 3
        later = info_of(child.pid)
        assert later.threads == 4
        assert later != info
        again = info_of(child.pid).as_dict()
        assert {**again, "peak_rss": None} == {**later.as_dict(), "peak_rss": None}


def test_cgroup_of_memory_controller(backend: ModuleType) -> None:
    with processes.workload("idle") as child:
        lines = Path(f"/proc/{child.pid}/cgroup").read_text().splitlines()
        paths = {line.split(":", 2)[1]: line.split(":", 2)[2] for line in lines}
        memory_paths = [path for names, path in paths.items() if "memory" in names.split(",")]
        expected = memory_paths[0] if memory_paths else paths.get("")
        assert info_of(child.pid).cgroup == expected


@pytest.mark.parametrize(
    "name", ["a) R 1 (b\n", ")", "(", "", " ) S 1", "\x1b[31m\t\r", "\udcff\udcfe", "x" * 15]
)
def test_info_with_hostile_process_name(backend: ModuleType, name: str) -> None:
    with processes.workload("idle") as child:
        child.request("name", name)
        info = info_of(child.pid)
        assert info.comm == name
        assert info.ppid == os.getpid()
        assert info.threads == 1
        assert info.uid == os.geteuid()
        assert fastsmaps.totals(child.pid).rss
        assert len(fastsmaps.mappings(child.pid)) > 10


def test_uid_is_effective_uid(backend: ModuleType) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may become another user")
    with processes.workload("idle") as child:
        child.request("seteuid", linux.NOBODY)
        assert status_of(child.pid, "Uid")[:2] == ["0", str(linux.NOBODY)]
        assert info_of(child.pid).uid == linux.NOBODY


def test_info_of_zombie(backend: ModuleType) -> None:
    with processes.zombie() as pid:
        info = info_of(pid)
        assert (info.pid, info.ppid) == (pid, os.getpid())
        assert (info.cmdline, info.heap) == ((), ())
        assert (info.start_brk, info.peak_rss) == (None, None)


def test_info_of_kernel_thread(backend: ModuleType) -> None:
    pid = processes.kernel_thread()
    if pid is None:
        pytest.skip("no kernel thread is visible")
    info = info_of(pid)
    assert info.comm == os.fsdecode(Path(f"/proc/{pid}/comm").read_bytes()[:-1])
    assert (info.cmdline, info.heap, info.start_brk, info.peak_rss) == ((), (), None, None)
    assert info.uid == 0


def test_info_after_main_thread_exit(backend: ModuleType) -> None:
    with processes.workload("idle") as child:
        before = info_of(child.pid)
        child.request("leave")
        after = info_of(child.pid)
        for name in ("pid", "ppid", "comm", "cmdline", "uid", "start_time", "cgroup", "start_brk"):
            assert getattr(after, name) == getattr(before, name), name
        assert after.heap
        assert after.peak_rss
        assert after.threads == 2


def test_info_without_permission(backend: ModuleType) -> None:
    with processes.workload("idle") as child:
        child.request("undumpable")

        def read() -> fastsmaps.Info:
            linux.keep_capabilities()
            return info_of(child.pid)

        if linux.hides_processes() and os.getegid() != 0:  # root's group is exempt from hidepid
            with pytest.raises(fastsmaps.AccessDenied, match="hidepid"):
                processes.run_in_child(read)
            return
        info = processes.run_in_child(read)  # this pickles it
        assert (info.start_brk, info.heap) == (None, None)
        assert info.peak_rss
        assert info.cmdline
        assert info.uid == os.geteuid()
