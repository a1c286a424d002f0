"""How far a long piece of work is: what it tells, and what a terminal shows of it."""

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

# The command on a file system that never answers for the third process.
_SILENT = """
import os, signal
from fastsmaps._source.source import Source
from fastsmaps.cli.main import entry

opened = Source.open

def open_(source, name, directory=-1):
    if "3" in (name.split("/")[0], os.readlink(f"/proc/self/fd/{directory}").rsplit("/")[-1]):
        signal.pause()
    return opened(source, name, directory)

Source.open = open_
entry()
"""


@pytest.fixture
def host(tmp_path: Path) -> Path:
    for pid in "12345":
        shutil.copytree(SAVED, tmp_path / "host" / pid)
    return tmp_path / "host"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ps", "--json"], "reading processes 2/5"),
        # Of two threads one would go on.
        (["libs", "--workers", "1"], "reading mappings 2/5"),
        (["capture", "-o", "saved.tar"], "saving processes 2/5"),
    ],
)
def test_how_far_it_is(
    backend: ModuleType,
    host: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(host.parent)
    command = [sys.executable, "-c", _SILENT]
    with Job(*arguments, "--procfs", str(host), command=command) as job:
        job.until(lambda: said in job.text)


@pytest.mark.parametrize("work", [fastsmaps.scan, fastsmaps.libs, "capture", "replay"])
def test_what_is_told(
    backend: ModuleType, tmp_path: Path, work: str | Callable[..., object]
) -> None:
    steps: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        steps.append((done, total))

    more: dict[str, Any] = {"progress": progress}
    with processes.workload("idle") as child:
        pids = [os.getpid(), child.pid, os.getpid(), 2**22 + 1]
        if work == "capture":
            fastsmaps.capture(tmp_path / "saved", pids, **more)
        elif work == "replay":
            fastsmaps.capture(tmp_path / "saved.tar", pids)
            with fastsmaps.open_capture(tmp_path / "saved.tar") as saved:
                fastsmaps.scan(procfs=saved, **more)
        else:
            assert callable(work)
            work(pids, **more)
    assert steps == sorted(steps)
    assert steps[-1][0] == steps[-1][1]
    assert {total for _, total in steps} == {2 if work == "replay" else 3}


def test_the_excluded_are_no_work(backend: ModuleType) -> None:
    steps: list[tuple[int, int]] = []
    with processes.workload("idle") as child:
        fastsmaps.scan(
            [os.getpid(), child.pid],
            exclude=[os.getpid()],
            progress=lambda done, total: steps.append((done, total)),
        )
    assert steps[-1] == (1, 1)
