"""Command lines and cgroups that fill a reader's memory: readers keep a bounded part."""

from __future__ import annotations

import csv
import json
import os
import pickle
import resource
import subprocess
import sys
from array import array
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fastsmaps
from fastsmaps import _backend
from fastsmaps._backend.bounded import MARK, MAX_TEXT, MAX_TEXTS, MIN_TEXT, cut
from fastsmaps._host.texts import Shared
from fastsmaps._model.stat import MAX_ARGUMENTS, arguments, cgroup_path
from support.commands import environment, run
from support.processes import workload
from support.smaps_texts import record

ROLLUP = record(0x1000, 0x9000, name=b"[rollup]", Rss=8, Pss=4, Swap=0)
STAT = b"%d (it) S 1 1 1 0 -1 4194304 " + b"0 " * 10 + b"1 0 %d " + b"0 " * 15 + b"17 0 0\n"
#: More processes than needed to fill every bound, with texts of 2-byte words.
MANY = 2 * MAX_TEXTS // MAX_TEXT
MEMORY = 64 << 20


def put(root: Path, pid: int, **texts: bytes) -> None:
    (root / str(pid)).mkdir()
    files = {"stat": STAT % (pid, pid), "smaps_rollup": ROLLUP, **texts}
    for name, text in files.items():
        (root / str(pid) / name).write_bytes(text)


def long_text(pid: int) -> bytes:
    return b"%d\0" % pid + b"\xff\0" * (MAX_TEXT // 2)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a capture of many processes with long command lines, then as many with short ones."""
    root = tmp_path_factory.mktemp("crowd")
    for pid in range(1, MANY + 1):
        put(root, pid, cmdline=long_text(pid), cgroup=b"0::/hostile\n")
    for pid in range(MANY + 1, 2 * MANY + 1):
        put(root, pid, cmdline=b"nginx: worker %d\0" % pid, cgroup=b"0::/%d\n" % pid)
    return root


@pytest.fixture
def twins(pytestconfig: pytest.Config) -> list[dict[str, Any]]:
    names = ["python"] if pytestconfig.getoption("--no-extension") else ["c", "python"]
    return [_backend.exports(name) for name in names]


def swept(twin: dict[str, Any], root: Path, pids: list[int]) -> list[tuple[bytes | None, ...]]:
    """Return the texts that a backend keeps of these processes."""
    sweep = twin["Sweep"](("cmdline", "cgroup"))
    fd = os.open(root, os.O_RDONLY)
    try:
        assert sweep.take(fd, memoryview(array("i", pids)), 1000.0) == len(pids)
    finally:
        os.close(fd)
    return [sweep.row(i)[4] for i in range(len(sweep))]


def test_sweep_bounds_the_sum_of_all_texts(twins: list[dict[str, Any]], crowd: Path) -> None:
    pids = list(range(1, 2 * MANY + 1))
    pids += [1, 2, MANY + 1]  # again: equal texts are kept once
    results = [swept(twin, crowd, pids) for twin in twins]
    assert all(result == results[0] for result in results)
    texts = [text for text, _ in results[0]]
    assert sum(len(text or b"") for text in set(texts)) <= MAX_TEXTS
    for pid, text in zip(pids, texts, strict=True):
        assert text is not None
        if pid > MANY:
            assert text == b"nginx: worker %d\0" % pid
        else:
            limit = len(text) - len(MARK)
            assert text == long_text(pid)[:limit] + MARK
            assert MIN_TEXT < limit < MAX_TEXT


@pytest.mark.parametrize("beyond", range(-1, 6))
def test_text_is_cut_by_the_byte(twins: list[dict[str, Any]], tmp_path: Path, beyond: int) -> None:
    text = b"x" * (MAX_TEXT + beyond)
    put(tmp_path, 1, cmdline=text, cgroup=text)
    expected = text if beyond <= len(MARK) else b"x" * MAX_TEXT + MARK
    assert cut(expected) == expected
    for twin in twins:
        assert swept(twin, tmp_path, [1]) == [(expected, expected)]
    (row,) = fastsmaps.scan(procfs=tmp_path, cmdline=True)
    assert row.cmdline == (expected.decode(),)


def test_texts_beyond_the_shortest_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fastsmaps._backend.bounded.MAX_TEXTS", 1000)
    monkeypatch.setattr("fastsmaps._host.texts.MAX_TEXTS", 1000)
    shared = Shared()
    rows: list[fastsmaps.ProcessTotals] = []
    refits = 0
    for pid in range(200):
        row = fastsmaps.ProcessTotals(pid, "read", cmdline=b"%d" % pid + b"x" * 99, cgroup="/a")
        rows.append(shared.fit(row))
        if shared.is_full:
            refits += 1
            rows = shared.refit(rows)
    assert refits < 10  # each takes time proportional to the number of rows
    assert {len(row.cmdline[0]) for row in rows if row.cmdline} == {MIN_TEXT + len(MARK)}
    assert {row.cgroup for row in rows} == {"/a"}


def test_arguments_are_bounded() -> None:
    words = arguments(b"a\0" * (MAX_ARGUMENTS + 1))
    assert words == ("a",) * MAX_ARGUMENTS + ("...",)
    assert arguments(b"a\0" * MAX_ARGUMENTS) == ("a",) * MAX_ARGUMENTS


def test_cut_cgroup_is_unknown() -> None:
    """A part of a path would name another cgroup."""
    text = b"9:cpu:/c\n8:memory:/m\n0::/" + b"u" * 200
    assert cgroup_path(text + b"\n", 1, "p") == "/m"
    assert cgroup_path(cut(text, 100), 1, "p") == "/m"
    assert cgroup_path(cut(text, 15), 1, "p") is None
    assert cgroup_path(cut(b"0::/" + b"u" * 200, 100), 1, "p") is None
    assert cgroup_path(b"0::/dots...\n", 1, "p") == "/dots..."


def rows_within(root: Path, tmp_path: Path) -> dict[str, list[fastsmaps.ProcessTotals]]:
    with fastsmaps.Sampler(procfs=root, cmdline=True, cgroup=True) as sampler:
        sampled = list(sampler.sweep())
    target = tmp_path / f"{fastsmaps.BACKEND}.tar"
    saved = list(fastsmaps.capture(target, procfs=root))
    with fastsmaps.open_capture(target) as again:
        scan_capture = list(fastsmaps.scan(procfs=again, cmdline=True, cgroup=True))
    return {
        "scan": list(fastsmaps.scan(procfs=root, cmdline=True, cgroup=True)),
        "excluded": list(fastsmaps.scan(procfs=root, cmdline=True, exclude=lambda row: True)),
        "sampled": sampled,
        "saved": saved,
        "scan_capture": scan_capture,
    }


def test_rows_share_texts_within_a_bound(backend: ModuleType, crowd: Path, tmp_path: Path) -> None:
    for way, rows in rows_within(crowd, tmp_path).items():
        assert len(rows) == 2 * MANY, way
        texts = {id(row.raw_cmdline): len(row.raw_cmdline or b"") for row in rows}
        assert sum(texts.values()) <= MAX_TEXTS, way
        for row in rows[MANY:]:
            assert row.cmdline == (f"nginx: worker {row.pid}",), way
        for row in rows[:MANY]:
            assert row.cmdline is not None
            assert row.cmdline[0] == str(row.pid), way
            assert row.cmdline[-1].endswith("..."), way


def test_equal_texts_are_one_object(backend: ModuleType) -> None:
    with workload("idle") as child, workload("idle") as sibling:
        pids = [child.pid, sibling.pid]
        for pid in pids:
            with fastsmaps.Process(pid) as process:
                assert process.info(heap=True).cmdline is not None
        rows = list(fastsmaps.scan(pids, cmdline=True, cgroup=True))
        with fastsmaps.Sampler(cmdline=True, cgroup=True) as sampler:
            sampled = [sampler.sweep().by_pid[pid] for pid in pids]
    for first, second in (rows, sampled):
        assert first.cmdline == second.cmdline
        assert first.raw_cmdline is second.raw_cmdline
        assert first.cgroup is second.cgroup


def test_row_with_a_command_line_is_equal_and_pickles() -> None:
    row = fastsmaps.ProcessTotals(7, "read", cmdline=b"a\0\xff\0")
    assert row.cmdline == ("a", "\udcff")
    assert pickle.loads(pickle.dumps(row)) == row
    assert row != fastsmaps.ProcessTotals(7, "read", cmdline=b"a\0")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 texts of 1 MiB in two-byte words, all different."""
    root = tmp_path_factory.mktemp("hostile")
    for pid in range(1, 301):
        put(root, pid, cmdline=b"%d\0" % pid + b"\xff\0" * (1 << 19))
    return root


def limited() -> None:
    """Only for the command: the interpreter and its modules take 20 to 40 MB of these."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))


COMMANDS: dict[str, list[str]] = {
    "ps": ["ps"],
    "sorted": ["ps", "--sort", "command"],
    "top": ["top", "--iterations", "1"],
    "json": ["ps", "--filter", ".", "--json"],
    "csv": ["ps", "--filter", ".", "--csv"],
    "none": ["ps", "--filter", "^[1-9]+ ", "--limit", "3"],
}


@pytest.fixture(params=COMMANDS)
def command(request: pytest.FixtureRequest) -> list[str]:
    return COMMANDS[request.param]


@pytest.mark.slow
def test_commands_need_little_memory(
    backend: ModuleType, hostile: Path, command: list[str]
) -> None:
    done = run(*command, "--procfs", str(hostile), preexec_fn=limited, env=environment())
    if "--json" in command:
        rows = json.loads(done.stdout)
        assert {row["cmdline"][-1] for row in rows} == {"..."}
        assert {row["cmdline"][0] for row in rows} == {str(pid) for pid in range(1, 301)}
    elif "--csv" in command:
        csv.field_size_limit(1 << 20)
        (_, *lines) = csv.reader(done.stdout.splitlines())
        assert len(lines) == 300
        assert all(line[-1].endswith("...") for line in lines)
    else:
        lines_ = [line for line in done.stdout.splitlines() if r"\xff \xff" in line]
        assert len(lines_) == (3 if "--limit" in command else 300)
        # 4,096 characters before escaping; every second one becomes four.
        assert all(line.endswith("...") and len(line) < 20_000 for line in lines_)


# Fills its own argument memory with two-byte words, and forks.
FLOOD = r"""
import ctypes, os, signal, sys
fields = open("/proc/self/stat").read().rpartition(")")[2].split()
start, end = int(fields[45]), int(fields[46])
size = (end - start) // 2 * 2
ctypes.memmove(start, b"\xff\0" * (size // 2), size)
libc = ctypes.CDLL(None)
pids = []
for _ in range(int(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        libc.prctl(1, signal.SIGKILL, 0, 0, 0)
        os.close(1)
        signal.pause()
    pids.append(pid)
print(*pids, flush=True)
sys.stdin.read()
for pid in pids:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""


def test_report_shows_the_start_of_a_command_line(backend: ModuleType, hostile: Path) -> None:
    words = ["watch", "7", "--for", "0", "--no-growth", "--procfs", str(hostile)]
    first = run(*words, preexec_fn=limited).stdout.splitlines()[0]
    assert r"7 \xff \xff" in first
    assert len(first) < 20_000


def test_forks_share_one_long_command_line(backend: ModuleType) -> None:
    """1 MB of kernel memory is the command line of 20 processes; a reader keeps one text."""
    command = [sys.executable, "-EsSB", "-c", FLOOD, "20", *["x" * 100_000] * 10]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            pids = list(map(int, child.stdout.readline().split()))
            rows = list(fastsmaps.scan(pids, cmdline=True))
            assert len({id(row.raw_cmdline) for row in rows}) == 1
            assert rows[0].cmdline == ("\udcff",) * MAX_ARGUMENTS + ("...",)
            with fastsmaps.Process(pids[0]) as process:
                assert process.info(heap=True).cmdline == rows[0].cmdline
            for form in ([], ["--json"]):
                done = run("ps", "--filter", "\udcff", *form, preexec_fn=limited)
                assert len(done.stdout) < 20 * 100_000
        finally:
            child.communicate()
