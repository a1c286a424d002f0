"""find(): the answers of the kernel's query equal those of maps."""

from __future__ import annotations

import mmap
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fastsmaps
from fastsmaps import _backend
from support import linux, processes

pytestmark = [pytest.mark.usefixtures("no_leak"), pytest.mark.core]

VSYSCALL = 0xFFFFFFFFFF600000
PAGE = mmap.PAGESIZE


def edges(table: fastsmaps.Mappings) -> list[int]:
    """Return the first and the last address of each mapping, and those around it."""
    found: dict[int, None] = {}
    for mapping in table:
        for address in (mapping.start - 1, mapping.start, mapping.end - 1, mapping.end):
            found[address] = None
    return [*found, 0, 1, VSYSCALL - 1, VSYSCALL, VSYSCALL + PAGE, 2**64 - 1]


def check(pid: int) -> int:
    """Compare all answers about an idle process with its maps; return their number."""
    table = fastsmaps.mappings(pid, sizes=False)
    addresses = edges(table)
    expected = [table.find(address) for address in addresses]
    with fastsmaps.Process(pid) as process:
        assert process.find_many(addresses) == expected
        for address, mapping in zip(addresses, expected, strict=True):
            assert process.find(address) == mapping, hex(address)
            assert fastsmaps.find(pid, address) == mapping, hex(address)
            if mapping is not None:
                found = process.find(address, build_id=True)
                assert found is not None
                assert found == mapping
                assert found.as_dict() == mapping.as_dict()
                assert (found.raw_path, found.label) == (mapping.raw_path, mapping.label)
                assert (found.rss, found.vm_flags, found.extra) == (None, None, {})
    return len(addresses)


def test_answers_equal_maps(backend: ModuleType) -> None:
    with processes.workload("idle") as child:
        assert check(child.pid) > 20


def test_odd_names_are_those_of_maps(backend: ModuleType, tmp_path: Path) -> None:
    """Newlines, blanks at the end, more than a page, deleted, memfd, anonymous names."""
    with processes.workload("zoo", str(tmp_path)) as child:
        assert check(child.pid) > 50


def test_maps_is_read_without_the_query(
    backend: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As before Linux 6.11, or under a filter of system calls."""
    with processes.workload("idle") as child:
        expected = fastsmaps.find(child.pid, fastsmaps.mappings(child.pid)[0].start)
        monkeypatch.setattr(_backend, "find", lambda *_: False)
        monkeypatch.setattr(_backend, "find_at", lambda *_: False)
        monkeypatch.setattr(_backend, "find_many", lambda fd, view, *_: [False] * len(view))
        check(child.pid)
        assert expected is not None
        assert fastsmaps.find(child.pid, expected.start) == expected
        assert fastsmaps.find(child.pid, expected.start, build_id=True) == expected


def test_exec_under_a_kept_descriptor(backend: ModuleType) -> None:
    """The old program's mappings are never returned."""
    with processes.workload("idle") as child, fastsmaps.Process(child.pid) as process:
        before = fastsmaps.mappings(child.pid, sizes=False)
        assert process.find(before[0].start) == before[0]
        child.request("exec", "many", "1000")
        after = fastsmaps.mappings(child.pid, sizes=False)
        addresses = [*edges(before), *edges(after)]
        expected = [after.find(address) for address in addresses]
        assert process.find(addresses[1]) == expected[1]
        assert [process.find(address) for address in addresses] == expected
        assert process.find_many(addresses) == expected


def test_ended_process_is_gone(backend: ModuleType) -> None:
    with processes.workload("idle") as child, fastsmaps.Process(child.pid) as process:
        address = fastsmaps.mappings(child.pid, sizes=False)[0].start
        assert process.find(address) is not None
        child.kill()
        with pytest.raises(fastsmaps.NoMemoryMap, match="zombie"):
            process.find(address)
        with pytest.raises(fastsmaps.NoMemoryMap, match="zombie"):
            fastsmaps.find(child.pid, address)
        child.reap()
        for call in (process.find, lambda a: process.find_many([a]), lambda a: process.find(a)):
            with pytest.raises(fastsmaps.ProcessGone):
                call(address)
        with pytest.raises(fastsmaps.ProcessGone):
            fastsmaps.find(child.pid, address)


_VFORK = """
import ctypes, sys, os
libc = ctypes.CDLL(None)
stack = ctypes.create_string_buffer(1 << 16)
pause = ctypes.cast(libc.pause, ctypes.c_void_p)
CLONE_VM = 0x100
child = libc.clone(pause, ctypes.c_void_p(ctypes.addressof(stack) + (1 << 16)), CLONE_VM | 17, None)
print(child, flush=True)
sys.stdin.read()
"""


def test_memory_of_a_reaped_process_is_not_its_own(backend: ModuleType) -> None:
    """A child with the same memory (CLONE_VM, vfork) keeps the kernel's answers alive."""
    with subprocess.Popen(
        [sys.executable, "-c", _VFORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            with fastsmaps.Process(parent.pid) as process:
                address = process.mappings(sizes=False)[0].start
                assert process.find(address) is not None
                parent.kill()
                parent.wait()
                for _ in range(2):
                    with pytest.raises(fastsmaps.ProcessGone):
                        process.find(address)
                    with pytest.raises(fastsmaps.ProcessGone):
                        process.find_many([address, address + 1])
        finally:
            os.kill(child, signal.SIGKILL)


def test_thread_is_not_a_process(backend: ModuleType) -> None:
    with processes.workload("idle") as child:
        (tid,) = child.request("threads", 1)
        with pytest.raises(fastsmaps.NotAProcess) as failure:
            fastsmaps.find(tid, 0)
        assert failure.value.pid == tid


def test_kernel_thread_has_no_mappings(backend: ModuleType) -> None:
    pid = processes.kernel_thread()
    if pid is None:
        pytest.skip("no kernel thread is shown")
    with pytest.raises(fastsmaps.NoMemoryMap, match="kernel thread"):
        fastsmaps.find(pid, 0)


def test_main_thread_may_have_exited(backend: ModuleType) -> None:
    """The other threads still have the memory."""
    with processes.workload("idle") as child:
        expected = fastsmaps.mappings(child.pid, sizes=False)
        child.request("leave")
        code = next(mapping for mapping in expected if "x" in mapping.perms)
        assert fastsmaps.find(child.pid, code.start) == code
        with fastsmaps.Process(child.pid) as process:
            assert process.find(code.end - 1) == process.find(code.start) == code


def test_another_user_is_denied(backend: ModuleType) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root becomes another user")
    with processes.workload("idle") as child:

        def error() -> str:
            linux.become(linux.NOBODY)
            try:
                fastsmaps.find(child.pid, 0)
            except fastsmaps.AccessDenied as denied:
                return f"{denied.pid} {denied.path}"
            return "found"

        if not linux.hides_processes():
            assert processes.run_in_child(error) == f"{child.pid} /proc/{child.pid}/maps"


def test_capture_has_the_mappings_of_its_maps(backend: ModuleType, tmp_path: Path) -> None:
    target = tmp_path / "capture"
    with processes.workload("idle") as child:
        fastsmaps.capture(target, [child.pid])
        pid = child.pid
    table = fastsmaps.mappings(pid, sizes=False, procfs=target)
    addresses = edges(table)
    expected = [table.find(address) for address in addresses]
    assert [fastsmaps.find(pid, address, procfs=target) for address in addresses] == expected
    with fastsmaps.Process(pid, procfs=target) as process:
        assert process.find_many(addresses) == expected
        assert process.find(table[0].start, build_id=True) == table[0]


def test_many_addresses_in_any_order(backend: ModuleType) -> None:
    with processes.workload("idle") as child, fastsmaps.Process(child.pid) as process:
        table = fastsmaps.mappings(child.pid, sizes=False)
        addresses = [mapping.start for mapping in table] * 2
        assert process.find_many(reversed(addresses)) == [*table, *table][::-1]
        assert process.find_many([]) == []
        assert process.find_many([-1, 2**64, 2**80, table[0].start]) == [None] * 3 + [table[0]]
        assert process.find(-1) is process.find(2**64) is fastsmaps.find(child.pid, -1) is None


def test_build_id_is_the_files(backend: ModuleType) -> None:
    with processes.workload("idle") as child:
        table = fastsmaps.mappings(child.pid, sizes=False)
        code = next(m for m in table if m.kind == "file" and "x" in m.perms)
        assert code.build_id is None
        with fastsmaps.Process(child.pid) as process:
            found = process.find(code.start, build_id=True)
            anonymous = next(m for m in table if m.kind == "anon")
            unnamed = process.find(anonymous.start, build_id=True)
            (many,) = process.find_many([code.start], build_id=True)
            assert process.find(code.start) == found
        assert found is not None
        assert many is not None
        assert unnamed is not None
        if found.build_id is None:
            pytest.skip("the kernel lacks PROCMAP_QUERY, or the program a build ID")
        assert re.fullmatch(r"[0-9a-f]{8,64}", found.build_id)
        assert many.build_id == found.build_id
        assert unnamed.build_id is None
        kept: Any = pickle.loads(pickle.dumps(found))
        assert (kept, kept.build_id) == (found, found.build_id)
        assert hash(kept) == hash(code)
        readelf = shutil.which("readelf")
        if readelf is not None:
            notes = subprocess.run([readelf, "-n", code.path], capture_output=True, text=True)
            assert f"Build ID: {found.build_id}" in notes.stdout


def test_twins_give_the_same(pytestconfig: pytest.Config) -> None:
    names = ["python"] if pytestconfig.getoption("--no-extension") else ["c", "python"]
    twins = [_backend.exports(name) for name in names]
    with processes.workload("idle") as child:
        fd = os.open(f"/proc/{child.pid}/maps", os.O_RDONLY)
        addresses = [a for a in edges(fastsmaps.mappings(child.pid, sizes=False)) if a >= 0]
        packed = memoryview(b"".join(a.to_bytes(8, sys.byteorder) for a in addresses))
        for build_id in (False, True):
            results = [
                (
                    [twin["find"](fd, a, build_id, -1) for a in addresses],
                    [twin["find_at"](child.pid, a, build_id) for a in addresses],
                    twin["find_many"](fd, packed, build_id, -1),
                )
                for twin in twins
            ]
            assert results[0] == results[-1]
            assert results[0][0] == results[0][1] == results[0][2]
        child.reap()
        for twin in twins:
            with pytest.raises(ProcessLookupError):
                twin["find"](fd, addresses[1], False, -1)
            assert twin["find_at"](child.pid, addresses[1], False) is False
        os.close(fd)
    plain = os.memfd_create("no maps")
    for twin in twins:
        assert twin["find"](plain, 4096, False, -1) is False  # ENOTTY
        assert twin["find_many"](plain, memoryview(bytes(16)), False, -1) == [False] * 2
        for pid in (0, -1, 2**40, "1", True):
            assert twin["find_at"](pid, 4096, False) is False
        for address in (-1, 2**64):
            with pytest.raises(OverflowError):
                twin["find"](plain, address, False, -1)
    os.close(plain)
