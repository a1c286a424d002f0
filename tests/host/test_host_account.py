"""host(): the account of this machine's memory."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType

import pytest

import fastsmaps
from fastsmaps._source.meminfo import more_memory
from support import linux, processes

pytestmark = [pytest.mark.usefixtures("no_leak"), pytest.mark.core]

MIB = 1 << 20
SIZE = 64 * MIB


def test_rows_add_up_to_all_memory(backend: ModuleType) -> None:
    account = fastsmaps.host()
    assert account.total == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert sum(row.size for row in account.rows) == account.total
    assert min(row.size for row in account.rows) >= 0
    assert account.host == os.uname().nodename
    assert account.coverage["read"] > 0
    assert account.meminfo["MemTotal"] == account.total
    assert account.pss is not None
    assert account.mapped is not None
    assert account.explained == account.pss / account.mapped


def read_own() -> fastsmaps.HostAccount:
    """Return an account in which the other processes, which change meanwhile, are "unread"."""
    account = fastsmaps.host(scan=fastsmaps.scan([os.getpid()]))
    assert sum(row.size for row in account.rows) == account.total
    return account


def check_growth(name: str, fill: Callable[[], AbstractContextManager[object]]) -> None:
    """Check that a row grows by what fill() takes; the rest of the host may disturb that."""
    changes = []
    for _ in range(50):
        old = read_own()
        with fill():
            changes.append(read_own()[name] - old[name])
        if abs(changes[-1] - SIZE) < SIZE // 8:
            return
    pytest.fail(f"{name} changed by {changes}, never by {SIZE}")


def fill_memory() -> mmap.mmap:
    block = mmap.mmap(-1, SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block.write(bytes(SIZE))
    return block


@contextlib.contextmanager
def fill_shared_memory(*, mapped: bool = False) -> Iterator[None]:
    fd = os.memfd_create("account")
    try:
        os.ftruncate(fd, SIZE)
        with mmap.mmap(fd, SIZE) as block:
            block.write(bytes(SIZE))
            if mapped:
                yield
        if not mapped:
            yield
    finally:
        os.close(fd)


def test_anonymous_memory_is_the_processes(backend: ModuleType) -> None:
    check_growth("processes_anon", fill_memory)


def test_shared_memory_is_the_processes_while_it_is_mapped(backend: ModuleType) -> None:
    check_growth("processes_shmem", lambda: fill_shared_memory(mapped=True))
    check_growth("shmem", fill_shared_memory)


def test_memory_of_another_process(backend: ModuleType) -> None:
    """A scan of some processes accounts for them; the others are "unread"."""
    with processes.workload("idle") as child:
        scan = fastsmaps.scan([child.pid])
        account = fastsmaps.host(scan=scan)
    totals = scan[0].totals
    assert totals is not None
    assert totals.pss is not None
    assert (account.pss, account.procfs) == (totals.pss, "/proc")
    assert account["processes_anon"] == totals["pss_anon"]
    assert account["processes_shmem"] == totals["pss_shmem"]
    assert account["unread"] > 0
    assert account.coverage == scan.coverage
    with fastsmaps.Sampler(budget=1) as sampler:
        swept = sampler.sweep()
        assert fastsmaps.host(scan=swept).coverage == swept.coverage


def test_what_a_user_may_not_read_is_a_row(backend: ModuleType) -> None:
    def read() -> tuple[fastsmaps.HostAccount, int]:
        linux.become(linux.NOBODY if os.geteuid() == 0 else os.geteuid())
        account = fastsmaps.host()
        return account, sum(row.size for row in account.rows)

    account, total = processes.run_in_child(read)
    assert total == account.total
    assert account.explained is not None
    assert 0 < account.explained < 1
    assert account["unread"] > 0
    assert account.coverage["denied"] or account.hidden_by


def test_host_of_a_capture(backend: ModuleType, tmp_path: Path) -> None:
    """A capture has meminfo, but nothing of /sys and no lists of the CPUs."""
    fastsmaps.capture(tmp_path / "c", [os.getpid()])
    account = fastsmaps.host(procfs=tmp_path / "c")
    assert sum(row.size for row in account.rows) == account.total == fastsmaps.host().total
    sizes = account.as_dict()
    assert (sizes["zram"], sizes["free_per_cpu"]) == (None, None)
    assert sizes["processes_anon"]
    assert account.taken_at is not None
    (tmp_path / "c" / "meminfo").unlink()
    with pytest.raises(fastsmaps.NotCaptured, match="no meminfo with MemTotal"):
        fastsmaps.host(procfs=tmp_path / "c")


def test_host_without_meminfo(backend: ModuleType) -> None:
    def read() -> str:
        with pytest.raises(fastsmaps.NotSupported) as error:
            fastsmaps.host()
        return str(error.value)

    text = processes.run_in_namespaces(read, "subset=pid")
    assert text == "/proc/meminfo cannot be read, or has no MemTotal"
    with pytest.raises(fastsmaps.NotProcfs):
        fastsmaps.host(procfs="/nowhere")


def test_sysfs_of_a_host(backend: ModuleType, tmp_path: Path) -> None:
    """Pools of all sizes and all zram devices; a damaged file makes the row unknown."""
    pools = tmp_path / "kernel/mm/hugepages"
    for name, number, free in (("2048kB", 5, 2), ("1048576kB", 3, 3)):
        (pools / f"hugepages-{name}").mkdir(parents=True)
        (pools / f"hugepages-{name}" / "nr_hugepages").write_text(f"{number}\n")
        (pools / f"hugepages-{name}" / "free_hugepages").write_text(f"{free}\n")
    for name, used in (("zram0", 4096), ("zram12", 8192), ("loop0", None)):
        (tmp_path / "devices/virtual/block" / name).mkdir(parents=True)
        if used is not None:
            (tmp_path / "devices/virtual/block" / name / "mm_stat").write_text(
                f"  9999 777 {used} 0 1 0 0 0 0\n"
            )
    parts = more_memory("/proc", str(tmp_path))
    huge = {"hugetlb_used": 6 * MIB, "hugetlb_free": 4 * MIB + (3 << 30)}
    assert {name: parts[name] for name in (*huge, "zram")} == {**huge, "zram": 12288}
    (pools / "hugepages-2048kB" / "free_hugepages").write_text("many\n")
    account = fastsmaps.host(sysfs=tmp_path, scan=fastsmaps.scan([os.getpid()]))
    assert account["zram"] == 12288
    (tmp_path / "devices/virtual/block/zram0/mm_stat").unlink()
    assert not {"hugetlb_used", "hugetlb_free", "zram"} & more_memory("/proc", str(tmp_path)).keys()
    assert more_memory(str(tmp_path)) == {}


def test_free_pages_in_lists_of_the_cpus(backend: ModuleType) -> None:
    """With them, all free pages are in the account: zoneinfo is where the kernel counts them."""
    if not os.access("/proc/zoneinfo", os.R_OK):
        pytest.skip("zoneinfo cannot be read")
    lines = Path("/proc/zoneinfo").read_text().splitlines()
    zones = sum(line.startswith("  pagesets") for line in lines)
    assert (more_memory()["free_per_cpu"] >= 0) == (zones > 0)
