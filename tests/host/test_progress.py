"""Progress of long operations: the callback's arguments and the line on a terminal."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fastsmaps
from support import processes
from support.commands import Job
from support.independent import DATA

SAVED = DATA / "captures/7.2-amd64/zoo"

# The command on a file system where reads of the third process hang.
_HANGING = """
import os, signal
from fastsmaps._source.source import Source
from fastsmaps.cli.main import entry

real_open = Source.open

def hanging_open(source, name, directory=-1):
    if "3" in (name.split("/")[0], os.readlink(f"/proc/self/fd/{directory}").rsplit("/")[-1]):
        signal.pause()
    return real_open(source, name, directory)

Source.open = hanging_open
entry()
"""


@pytest.fixture
def host(tmp_path: Path) -> Path:
    for pid in "12345":
        shutil.copytree(SAVED, tmp_path / "host" / pid)
    return tmp_path / "host"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["ps", "--json"], "reading processes 2/5"),
        # With two threads one would continue.
        (["libs", "--workers", "1"], "reading mappings 2/5"),
        (["capture", "-o", "saved.tar"], "saving processes 2/5"),
    ],
)
def test_progress_line_on_terminal(
    backend: ModuleType,
    host: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    line: str,
) -> None:
    monkeypatch.chdir(host.parent)
    command = [sys.executable, "-c", _HANGING]
    with Job(*arguments, "--procfs", str(host), command=command) as job:
        job.until(lambda: line in job.text)


@pytest.mark.parametrize("operation", [fastsmaps.scan, fastsmaps.libs, "capture", "replay"])
def test_progress_calls_reach_total(
    backend: ModuleType, tmp_path: Path, operation: str | Callable[..., object]
) -> None:
    steps: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        steps.append((done, total))

    options: dict[str, Any] = {"progress": progress}
    with processes.workload("idle") as child:
        pids = [os.getpid(), child.pid, os.getpid(), 2**22 + 1]
        if operation == "capture":
            fastsmaps.capture(tmp_path / "saved", pids, **options)
        elif operation == "replay":
            fastsmaps.capture(tmp_path / "saved.tar", pids)
            with fastsmaps.open_capture(tmp_path / "saved.tar") as saved:
                fastsmaps.scan(procfs=saved, **options)
        else:
            assert callable(operation)
            operation(pids, **options)
    assert steps == sorted(steps)
    assert steps[-1][0] == steps[-1][1]
    assert {total for _, total in steps} == {2 if operation == "replay" else 3}


def test_excluded_processes_are_not_in_total(backend: ModuleType) -> None:
    steps: list[tuple[int, int]] = []
    with processes.workload("idle") as child:
        fastsmaps.scan(
            [os.getpid(), child.pid],
            exclude=[os.getpid()],
            progress=lambda done, total: steps.append((done, total)),
        )
    assert steps[-1] == (1, 1)
