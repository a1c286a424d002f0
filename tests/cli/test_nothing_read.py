"""Commands that could read no process: they show the reason and exit with 1."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import ModuleType

import pytest

import fastsmaps
from fastsmaps._model.process_totals import ProcessTotals
from fastsmaps._model.processes import Scan, failures_of, is_failure, main_reason
from support import linux, processes
from support.commands import run
from support.metrics import parse_metrics, write_process


def without_smaps(root: Path) -> Path:
    """Write a capture of a host whose kernel has no smaps."""
    for pid in (10, 11):
        write_process(root, pid, b"daemon")
        (root / str(pid) / "smaps_rollup").unlink()
    return root


@pytest.mark.parametrize(
    "command",
    [
        ["ps"],
        ["ps", "--json"],
        ["ps", "--by", "comm"],
        ["ps", "--tree"],
        ["top", "--iterations", "1"],
        ["libs"],
        ["libs", "--csv"],
        ["totals", "10"],
        ["maps", "10"],
    ],
)
def test_commands_fail_if_nothing_was_read(
    backend: ModuleType, tmp_path: Path, command: list[str]
) -> None:
    done = run(*command, "--procfs", str(without_smaps(tmp_path / "host")), status=1)
    if "--json" in command:
        assert '"error": ' in done.stdout
    elif "--csv" not in command:
        assert "smaps is missing from the capture" in done.stdout + done.stderr


def test_capture_of_unreadable_processes_fails(backend: ModuleType, tmp_path: Path) -> None:
    host, saved = without_smaps(tmp_path / "host"), tmp_path / "saved"
    done = run("capture", "-o", str(saved), "--procfs", str(host), status=1)
    assert "0 of 2 processes read, 2 failed\nfailed: " in done.stdout
    assert run("diff", str(saved), str(saved), status=1).stderr.count("\n") == 1


def test_exporter_reports_nothing_read(backend: ModuleType, tmp_path: Path) -> None:
    host = without_smaps(tmp_path / "host")
    done = run("export", "--once", "--procfs", str(host), status=1)
    metrics = parse_metrics(done.stdout)
    assert not metrics.up
    assert metrics.of("coverage_processes", "outcome")["failed"] == 2
    assert "no process could be read" in done.stderr
    assert "smaps is missing" in done.stderr
    write_process(host, 12, b"fine")
    assert parse_metrics(run("export", "--once", "--procfs", str(host)).stdout).up


def test_skipped_processes_are_not_a_failure(backend: ModuleType, tmp_path: Path) -> None:
    write_process(tmp_path / "host", 7)
    run("ps", "--max-rss", "1", "--procfs", str(tmp_path / "host"))


def test_one_process_read_is_success(backend: ModuleType, tmp_path: Path) -> None:
    host = without_smaps(tmp_path / "host")
    write_process(host, 12, b"fine")
    done = run("ps", "--procfs", str(host))
    assert "1 of 3 processes read, 2 failed\nfailed: " in done.stdout


def test_most_frequent_reason_is_shown() -> None:
    rows = [
        ProcessTotals(1, "read"),
        ProcessTotals(2, "failed", error="2: once"),
        ProcessTotals(3, "failed", error="/proc/3/stat is odd"),
        ProcessTotals(44, "failed", error="/proc/44/stat is odd"),
        ProcessTotals(5, "denied", error="no"),
    ]
    scan = Scan(rows, cost=fastsmaps.Cost(0, 0), taken_at=0, procfs="/proc")
    assert main_reason(failures_of(scan)) == "/proc/3/stat is odd (2 of 3)"
    assert not is_failure(scan.coverage)
    assert is_failure(scan[1:].coverage)
    assert main_reason([]) == ""
    assert len(main_reason([(1, "x" * 5000)])) < 400


def test_reason_is_escaped(backend: ModuleType, tmp_path: Path) -> None:
    host = without_smaps(tmp_path / "h\x1b[31mt")
    done = run("ps", "--procfs", str(host), status=1)
    assert "\x1b" not in done.stdout + done.stderr


def test_processes_outside_of_the_namespace_are_mentioned(backend: ModuleType) -> None:
    """Meminfo is the host's, so a container's processes explain only a part of it."""
    note = "the rest is mapped by processes outside of this pid namespace, or was not read"
    try:
        text = processes.run_in_namespaces(lambda: in_process(["ps"]))
    except linux.Unavailable as error:
        pytest.skip(f"no pid namespace: {error}")
    assert re.search(rf"% of all mapped memory explained\n{note}$", text, re.MULTILINE)
    if os.stat("/proc/self/ns/pid").st_ino == 0xEFFFFFFC:  # the first one's
        assert note not in in_process(["ps"])


def test_hidden_processes_are_mentioned(backend: ModuleType) -> None:
    """With hidepid=2 another user's list looks complete but is not."""
    commands = (["ps"], ["host"], ["libs"], ["export", "--once"])

    def inside() -> tuple[list[str], str | None]:
        def unprivileged() -> tuple[list[str], str | None]:
            linux.become(linux.NOBODY if os.geteuid() == 0 else 0)
            return [in_process(command) for command in commands], fastsmaps.scan().hidden_by

        with processes.workload("idle"):
            return processes.run_in_child(unprivileged)

    try:
        texts, hidden_by = processes.run_in_namespaces(inside, "hidepid=2,gid=4321")
    except linux.Unavailable as error:
        pytest.skip(f"no /proc with hidepid=2: {error}")
    assert hidden_by in ("hidepid=2", "hidepid=invisible")
    ps, host, libs, metrics = texts
    for text in (ps, host):
        explained = re.search(r"^([0-9.]+) % of all mapped memory explained$", text, re.MULTILINE)
        assert explained
        assert float(explained[1]) < 100
    assert re.search("^ *[1-9].* unread ", host, re.MULTILINE)
    for text in (ps, host, libs):
        assert f"/proc hides other users' processes ({hidden_by})" in text
    assert parse_metrics(metrics).get("processes_hidden") == 1
    assert fastsmaps.scan([os.getpid()]).hidden_by is None  # no other process was requested


def test_hidepid_1_is_named_where_it_denies(backend: ModuleType) -> None:
    """CAP_PERFMON, which would be enough without it, is not advised."""

    def inside() -> list[str]:
        def unprivileged() -> list[str]:
            linux.become(linux.NOBODY if os.geteuid() == 0 else 0)
            return [in_process([command]) for command in ("ps", "libs")]

        with processes.workload("idle"):
            return processes.run_in_child(unprivileged)

    try:
        texts = processes.run_in_namespaces(inside, "hidepid=1,gid=4321")
    except linux.Unavailable as error:
        pytest.skip(f"no /proc with hidepid=1: {error}")
    for text in texts:
        assert "\ndenied: the mount option hidepid forbids it; CAP_SYS_PTRACE would be" in text
        assert "CAP_PERFMON" not in text


def in_process(command: list[str]) -> str:
    """Run the command in this process, which may not start another; return its output."""
    import contextlib
    import io

    from fastsmaps.cli.main import main

    out = io.TextIOWrapper(io.BytesIO(), write_through=True)
    with contextlib.redirect_stdout(out):
        assert main(command) == 0
    raw = out.buffer
    assert isinstance(raw, io.BytesIO)
    return raw.getvalue().decode()
