"""What the kernel charges cgroups for: a real memory controller, and saved files."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import fastsmaps
from fastsmaps._host.cgroups import of_several_groups
from fastsmaps._model.cgroup_memory import PARTS
from support.commands import json_rows, run
from support.metrics import write_process
from support.processes import running

MIB = 1 << 20
ID = "0123456789abcdef" * 4
# Waits until it was moved to its cgroup: memory is charged to the cgroup that uses it first.
PROGRAM = """
import json, mmap, sys
print(json.dumps(True), flush=True)
sys.stdin.readline()
path, anon, file = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
block = mmap.mmap(-1, anon, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for at in range(0, anon, 4096):
    block[at] = 1
with open(path, "wb") as out:
    out.write(b"x" * file)
print(json.dumps(True), flush=True)
sys.stdin.readline()
"""


def test_a_real_cgroup(backend: ModuleType, tmp_path: Path) -> None:
    """Pss, page cache that nobody maps and kernel memory add up to what is charged."""
    name = f"fastsmaps-{os.getpid()}"
    arguments = str(tmp_path / "file"), str(40 * MIB), str(24 * MIB)
    with (
        container(name) as (outer, inner),
        running(sys.executable, "-c", PROGRAM, *arguments) as process,
    ):
        (inner / "cgroup.procs").write_text(str(process.pid))
        process.request()
        scan = fastsmaps.scan([process.pid], cgroup=True)
        assert scan[0].cgroup == f"/lxc.payload.{name}/inner"
        for word in ("container", "cgroup"):
            [(key, memory)] = fastsmaps.cgroup_memory(scan, word).items()
            group = scan.group_by(word)[key]
            assert group.totals.pss_anon is not None
            assert group.totals.pss_anon > 40 * MIB
            # The container's own cgroup, not the one that the process is in.
            assert memory.path == f"/lxc.payload.{name}" + "/inner" * (word == "cgroup")
            assert memory.anon is not None
            assert memory.file is not None
            # The kernel counts some pages in batches for each CPU.
            slack = (os.cpu_count() or 1) * MIB
            # What the process used before it was moved stays charged elsewhere.
            assert 40 * MIB - slack < memory.anon < group.totals.pss_anon + slack
            assert memory.file > 24 * MIB - slack
            parts = memory.difference(group.totals)
            assert sum(filter(None, parts.values())) == memory.current - (group.totals.pss or 0)
            assert (parts["unmapped_cache"] or 0) > 24 * MIB - slack
            assert (parts["elsewhere"] or 0) < 0
            assert memory.working_set is not None
            assert memory.working_set <= memory.current
            assert memory.limit is None
            assert memory.oom_kills in (0, None)
            limit = next(path for path in limits(outer) if path.exists())
            limit.write_text(str(512 * MIB))
            again = fastsmaps.cgroup_memory(scan, "container")
            assert [found.limit for found in again.values()] == [512 * MIB]
            limit.write_text("max" if limit.name == "memory.max" else "-1")


def limits(cgroup: Path) -> tuple[Path, Path]:
    return cgroup / "memory.max", cgroup / "memory.limit_in_bytes"


@contextlib.contextmanager
def container(name: str) -> Iterator[tuple[Path, Path]]:
    """Make the cgroup of a container, and one in it; remove both."""
    for top in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")):
        outer = top / f"lxc.payload.{name}"
        try:
            outer.mkdir()
        except OSError:
            continue
        inner = outer / "inner"
        try:
            if any(path.exists() for path in limits(outer)):
                inner.mkdir()
                try:
                    yield outer, inner
                finally:
                    inner.rmdir()
                return
        finally:
            outer.rmdir()
    pytest.skip("no cgroup with a memory controller can be made here")


@pytest.fixture
def v2(tmp_path: Path) -> tuple[Path, Path]:
    """Make the procfs and the cgroupfs of a host of cgroup v2."""
    procfs, cgroupfs = tmp_path / "proc", tmp_path / "cgroup"
    pod = "kubepods-burstable-pod4a7c1c1e_8f0e_4a53_9d0b_2f5a3f1e9a10.slice"
    scope = f"/kubepods.slice/kubepods-burstable.slice/{pod}/cri-containerd-{ID}.scope"
    write_process(procfs, 1, cgroup=b"/init.scope")
    write_process(
        procfs, 2, cgroup=f"{scope}/a".encode(), Pss=50, Pss_Anon=40, Pss_File=5, Pss_Shmem=5
    )
    write_process(
        procfs, 3, cgroup=f"{scope}/b".encode(), Pss=50, Pss_Anon=40, Pss_File=5, Pss_Shmem=5
    )
    directory = cgroupfs / scope[1:]
    directory.mkdir(parents=True)
    (cgroupfs / "cgroup.controllers").write_text("memory pids\n")
    files = {
        "memory.current": "409600\n",
        "memory.stat": "anon 81920\nfile 204800\nkernel 40960\nshmem 8192\ninactive_file 102400\n"
        "slab 20480\nfuture words here\n",
        "memory.max": "1048576\n",
        "memory.events": "low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 0\n",
        "memory.swap.current": "0\n",
    }
    for name, text in files.items():
        (directory / name).write_text(text)
    return procfs, cgroupfs


def test_cgroup_v2(backend: ModuleType, v2: tuple[Path, Path]) -> None:
    procfs, cgroupfs = v2
    scan = fastsmaps.scan(procfs=procfs, cgroup=True)
    [(key, memory)] = fastsmaps.cgroup_memory(scan, "container", cgroupfs=cgroupfs).items()
    assert key == "containerd:0123456789ab"
    assert memory.path.endswith(f"cri-containerd-{ID}.scope")
    values = memory.as_dict()
    assert next(iter(values)) == "path"
    assert values == {
        "path": memory.path, "current": 409600, "working_set": 307200, "limit": 1 << 20,
        "anon": 81920, "file": 204800, "shmem": 8192, "kernel": 40960, "slab": 20480, "swap": 0,
        "oom_kills": 2,
    }  # fmt: skip
    # Pss is 102,400: 81,920 anonymous, 10,240 of files, 10,240 shared, 2,048 charged elsewhere.
    totals = scan.group_by("container")[key].totals
    assert memory.difference(totals) == {
        "unmapped_cache": 186368, "unmapped_shmem": 0, "kernel": 40960, "elsewhere": -2048,
        "rest": 81920,
    }  # fmt: skip
    assert pickle.loads(pickle.dumps(memory)) == memory
    assert "current=400 KiB limit=1.0 MiB" in repr(memory)
    # The pod's cgroup has no files here, and init.scope is missing.
    assert fastsmaps.cgroup_memory(scan, "pod", cgroupfs=cgroupfs) == {}
    assert fastsmaps.cgroup_memory(scan, "unit", cgroupfs=cgroupfs).keys() == {
        f"cri-containerd-{ID}.scope"
    }


def test_parts_need_all_processes_of_the_cgroup(v2: tuple[Path, Path]) -> None:
    """A slice is charged for the slices below it, which are groups of their own."""
    procfs, cgroupfs = v2
    above = cgroupfs / "kubepods.slice"
    (above / "memory.current").write_text("819200\n")
    write_process(procfs, 4, cgroup=b"/kubepods.slice/kubelet.service")
    scan = fastsmaps.scan(procfs=procfs, cgroup=True)
    for word in ("slice", "container", "unit"):
        charged = fastsmaps.cgroup_memory(scan, word, cgroupfs=cgroupfs)
        assert charged
        others = {"kubepods.slice"} if word == "slice" else set()
        assert of_several_groups(scan, word, charged) == others
    write_process(procfs, 5, cgroup=b"/kubepods.slice/kubepods-burstable.slice/x.service")
    scan = fastsmaps.scan(procfs=procfs, cgroup=True)
    charged = fastsmaps.cgroup_memory(scan, "slice", cgroupfs=cgroupfs)
    assert charged.keys() == {"kubepods.slice"}
    assert of_several_groups(scan, "slice", charged) == {"kubepods.slice"}


def test_what_is_not_told_is_none(backend: ModuleType, v2: tuple[Path, Path]) -> None:
    procfs, cgroupfs = v2
    directory = next(cgroupfs.glob("**/cri-*"))
    scan = fastsmaps.scan(procfs=procfs, cgroup=True)
    totals = scan.group_by("container")["containerd:0123456789ab"].totals

    def memory() -> fastsmaps.CgroupMemory:
        [found] = fastsmaps.cgroup_memory(scan, "container", cgroupfs=cgroupfs).values()
        return found

    # Linux before 5.18: the parts of the kernel's memory are added.
    (directory / "memory.stat").write_text("anon 1\nfile 2\nshmem 0\nslab 4096\nkernel_stack 8\n")
    assert (memory().kernel, memory().working_set) == (4104, None)
    (directory / "memory.max").write_text("max\n")
    assert memory().limit is None
    (directory / "memory.stat").unlink()
    (directory / "memory.events").unlink()
    found = memory()
    assert (found.anon, found.kernel, found.oom_kills, found.current) == (None, None, None, 409600)
    assert found.difference(totals) == dict.fromkeys(PARTS)
    (directory / "memory.current").write_text("")
    assert fastsmaps.cgroup_memory(scan, "container", cgroupfs=cgroupfs) == {}


def test_a_v1_hierarchy(backend: ModuleType, tmp_path: Path) -> None:
    procfs, directory = tmp_path / "proc", tmp_path / f"cgroup/memory/docker/{ID}"
    write_process(procfs, 1)
    (procfs / "1/cgroup").write_text(f"4:memory:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/\n")
    directory.mkdir(parents=True)
    (directory.parents[1] / "memory.stat").write_text("")
    for name, text in {
        "memory.usage_in_bytes": "8192",
        "memory.stat": "cache 1\nrss 2\ntotal_cache 4096\ntotal_rss 2048\ntotal_shmem 0\n"
        "total_inactive_file 1024\ntotal_swap 7",
        "memory.kmem.usage_in_bytes": "100",
        "memory.limit_in_bytes": "9223372036854771712",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 5",
    }.items():
        (directory / name).write_text(f"{text}\n")
    scan = fastsmaps.scan(procfs=procfs, cgroup=True)
    [memory] = fastsmaps.cgroup_memory(scan, "container", cgroupfs=tmp_path / "cgroup").values()
    assert memory.as_dict() == {
        "path": f"/docker/{ID}", "current": 8192, "working_set": 7168, "limit": None, "anon": 2048,
        "file": 4096, "shmem": 0, "kernel": 100, "slab": None, "swap": 7, "oom_kills": 5,
    }  # fmt: skip


def test_paths_outside_of_the_mount(backend: ModuleType, tmp_path: Path) -> None:
    """A path that leads out of the cgroup namespace is not opened."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/memory.current").write_text("1\n")
    cgroupfs = tmp_path / "cgroup"
    cgroupfs.mkdir()
    (cgroupfs / "cgroup.controllers").write_text("")
    write_process(tmp_path / "proc", 1, cgroup=b"/../secret")
    scan = fastsmaps.scan(procfs=tmp_path / "proc", cgroup=True)
    assert scan[0].cgroup == "/../secret"
    assert fastsmaps.cgroup_memory(scan, "cgroup", cgroupfs=cgroupfs) == {}
    with pytest.raises(fastsmaps.NotSupported, match="no cgroup hierarchy"):
        fastsmaps.cgroup_memory(scan, "cgroup", cgroupfs=tmp_path / "proc")


def test_ps_shows_what_is_charged(tmp_path: Path) -> None:
    """Beside the Pss of a group; its own process is in some cgroup."""
    rows = json_rows("ps", "--by", "cgroup", "--cgroup-memory")
    if all(row["cgroup_current"] is None for row in rows):
        pytest.skip("no cgroup here has a memory controller")
    for row in rows:
        if row["rest"] is not None:
            assert row["pss"] + sum(row[part] for part in PARTS) == row["cgroup_current"]
    table = run("ps", "--by", "cgroup", "--cgroup-memory").stdout
    assert "CGROUP_CURRENT" in table
    assert "UNMAPPED_CACHE" in table
    wrong = run("ps", "--cgroup-memory", status=2)
    assert "needs --by cgroup, container, pod, slice, unit" in wrong.stderr
