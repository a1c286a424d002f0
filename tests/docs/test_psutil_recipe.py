"""The recipe for psutil in docs/coming-from.md, compared with psutil's own answers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from support import linux, processes

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/coming-from.md"
NAMES = ("memory_maps", "memory_full_info")
# Other processes map and unmap the same libraries all the time, which changes Pss.
TIMEOUT = 60.0

OWN = {name: getattr(psutil.Process, name) for name in NAMES}

# As another user, where that is possible: both answers of each method.
DENIED = """
import os, psutil, sys
own = psutil.Process.memory_maps, psutil.Process.memory_full_info
code, pid, sys.path[:0] = sys.stdin.read(), int(sys.argv[1]), [sys.argv[2]]
exec(code, {})
from support import linux
if os.geteuid() == 0:
    linux.become(linux.NOBODY)
process = psutil.Process(pid)
for function in *own, psutil.Process.memory_maps, psutil.Process.memory_full_info:
    try:
        function(process)
    except psutil.AccessDenied as error:
        print(error.pid, error.name, error.msg)
    else:
        print("read")
"""


def recipe() -> str:
    """Return the block of the page that patches psutil."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    [block] = [block for block in blocks if "psutil.Process.memory_maps =" in block]
    return str(block)


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, function in OWN.items():
        monkeypatch.setattr(psutil.Process, name, function)  # undone after the test
    exec(compile(recipe(), str(PAGE), "exec"), {})  # noqa: S102 - what readers paste
    assert all(getattr(psutil.Process, name) is not OWN[name] for name in NAMES)


@pytest.fixture(scope="module")
def idle() -> Iterator[psutil.Process]:
    with processes.workload("idle") as child:
        yield psutil.Process(child.pid)


def both(own: Callable[[], Any], patched: Callable[[], Any]) -> tuple[Any, Any]:
    """Return both answers at a moment at which psutil gives the same before and after.

    A process that begins and ends in between changes only the answer in the middle, because Pss
    counts it. That does not happen three times in a row.
    """
    deadline = time.monotonic() + TIMEOUT
    different = 0
    while True:
        before, answer, after = own(), patched(), own()
        if before == after:
            different = 0 if answer == after else different + 1
            if different in (0, 3):
                return after, answer
        if time.monotonic() > deadline:
            return after, answer


def error_of(function: Callable[[], Any]) -> tuple[type, Any, Any]:
    with pytest.raises(psutil.Error) as caught:
        function()
    return type(caught.value), caught.value.pid, caught.value.name


@pytest.mark.parametrize("grouped", [True, False])
def test_memory_maps_are_those_of_psutil(
    patched: None, idle: psutil.Process, grouped: bool
) -> None:
    expected, found = both(
        lambda: OWN["memory_maps"](idle, grouped=grouped),
        lambda: idle.memory_maps(grouped=grouped),
    )
    assert found == expected
    assert {*map(type, found)} == {*map(type, expected)}
    assert "[anon]" in [row.path for row in found]


def test_memory_full_info_is_that_of_psutil(patched: None, idle: psutil.Process) -> None:
    expected, found = both(lambda: OWN["memory_full_info"](idle), idle.memory_full_info)
    assert found == expected
    assert type(found) is type(expected)
    assert idle.as_dict(["memory_full_info"])["memory_full_info"].uss == found.uss


def test_a_process_that_ended_raises_no_such_process(patched: None) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = psutil.Process(child.pid)
    child.communicate()
    for name in NAMES:
        error = error_of(lambda name=name: OWN[name](process))  # type: ignore[misc]
        assert error == error_of(getattr(process, name))
        assert error[0] is psutil.NoSuchProcess


def test_a_zombie_raises_zombie_process(patched: None) -> None:
    with processes.zombie() as pid:
        process = psutil.Process(pid)
        process.name()  # part of the errors from here on
        error = error_of(lambda: OWN["memory_maps"](process))
        assert error == (psutil.ZombieProcess, pid, process.name())
        for name in NAMES:
            assert error_of(getattr(process, name)) == error


def test_a_kernel_thread_has_no_mappings(patched: None) -> None:
    pid = processes.kernel_thread()
    if pid is None:
        pytest.skip("no kernel thread in this pid namespace")
    process = psutil.Process(pid)
    assert process.memory_maps() == process.memory_maps(grouped=False) == []
    assert not any(process.memory_full_info())


def test_a_refusal_raises_access_denied_with_advice(idle: psutil.Process) -> None:
    pid = idle.pid if os.geteuid() == 0 else 1
    if linux.hides_processes():
        pytest.skip("hidepid")
    done = subprocess.run(
        [sys.executable, "-c", DENIED, str(pid), ROOT / "tests"],
        input=recipe(),
        text=True,
        capture_output=True,
        check=True,
    )
    own_maps, own_full, maps, full = done.stdout.splitlines()[-4:]
    if own_maps == "read":
        pytest.skip("this reader is refused nothing")
    assert own_maps == own_full == f"{pid} None "
    assert maps.startswith(f"{pid} None not permitted to read /proc/{pid}/smaps: ")
    assert full.startswith(f"{pid} None not permitted to read /proc/{pid}/smaps_rollup: ")
    assert "CAP_SYS_PTRACE" in maps
