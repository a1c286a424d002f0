"""fastsmaps report: one page on a host or a capture, and its exit status."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import ModuleType

import pytest

import fastsmaps
from support import processes
from support.commands import run
from support.independent import DATA
from support.pages import Page


@pytest.fixture
def saved(backend: ModuleType, tmp_path: Path) -> str:
    with processes.workload("idle") as child:
        fastsmaps.capture(str(tmp_path / "saved"), [child.pid, os.getpid()])
    return str(tmp_path / "saved")


def test_report_on_a_capture(saved: str, tmp_path: Path) -> None:
    path = tmp_path / "out.html"
    done = run("report", "-o", str(path), "--procfs", saved)
    assert "2 of 2 processes read" in done.stdout
    page = Page(path)
    assert page.facts["Host"] == os.uname().nodename
    assert page.facts["Command"] == f"fastsmaps report -o {path} --procfs {saved}"
    assert page.title == f"Memory of {os.uname().nodename}"
    scan = fastsmaps.scan(procfs=saved)
    assert {row[0] for row in page.data["processes"]} == {row.pid for row in scan}
    assert all(row[-1] for row in page.data["processes"])
    assert path.stat().st_mode & 0o777 == 0o600


def test_report_on_another_tools_capture(backend: ModuleType, tmp_path: Path) -> None:
    """A directory with only smaps and stat has no host, no date and no meminfo."""
    shutil.copytree(DATA / "captures/7.2-amd64/zoo", tmp_path / "host" / "7")
    run("report", "-o", f"{tmp_path}/out.html", "--procfs", f"{tmp_path}/host")
    page = Page(tmp_path / "out.html")
    assert page.title == "Memory of a host"
    assert set(page.facts) == {"Command", "Processes"}
    host = page.view("Overview")["host"]
    assert (host["memory"], host["meminfo"]) == ([], [])


def test_report_on_this_host(backend: ModuleType, tmp_path: Path) -> None:
    run("report", "-o", f"{tmp_path}/out.html", "--workers", "2")
    page = Page(tmp_path / "out.html")
    assert page.facts["Host"] == os.uname().nodename
    assert os.getpid() in [row[0] for row in page.data["processes"]]
    host = page.view("Overview")["host"]
    assert [name for name, *_ in host["cards"]][:2] == ["Memory", "Available"]
    assert host["memory"]
    assert host["meminfo"]


def test_limits_are_explained(saved: str, tmp_path: Path) -> None:
    for option, why in (("--max-rss=1K", "Rss"), ("--timeout=0", "timeout")):
        run("report", "-o", f"{tmp_path}/out.html", "--procfs", saved, option)
        page = Page(tmp_path / "out.html")
        ((outcome, count, reason),) = page.view("Overview")["host"]["unread"]
        assert (outcome, count) == ("skipped", "2")
        assert why in reason
        assert {row[4] for row in page.data["processes"]} == {"skipped"}
        assert {size for row in page.data["processes"] for size in row[5]} == {None}


def test_errors_leave_no_file(backend: ModuleType, tmp_path: Path) -> None:
    done = run("report", status=2)
    assert "-o" in done.stderr
    (tmp_path / "empty").mkdir()
    path = f"{tmp_path}/out.html"
    done = run("report", "-o", path, "--procfs", f"{tmp_path}/empty", status=1)
    assert done.stderr.startswith("fastsmaps: ")
    done = run("report", "-o", f"{tmp_path}/missing/out.html", status=1)
    assert done.stderr.startswith("fastsmaps: cannot write ")
    assert os.listdir(tmp_path) == ["empty"]
