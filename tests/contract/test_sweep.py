"""The backends' Sweep and Uses: both backends must give the same."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fastsmaps import _backend
from fastsmaps._host.rows import SWEEP_OUTCOMES
from support import processes
from support.smaps_texts import record
from support.twins import STAT, rows_of

pytestmark = pytest.mark.core

ROLLUP = record(0x1000, 0x9000, name=b"[rollup]", Rss=8, Pss=4, Swap=0)


@pytest.fixture
def twins(pytestconfig: pytest.Config) -> list[dict[str, Any]]:
    names = ["python"] if pytestconfig.getoption("--no-extension") else ["c", "python"]
    return [_backend.exports(name) for name in names]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """Make a procfs of files, with texts that no live process has."""
    plain = STAT % (10, b"a) b (c")
    cases: dict[int, dict[str, bytes | None]] = {
        10: {
            "stat": plain,
            "smaps_rollup": ROLLUP,
            "statm": b"9 2 1 3 0 0 0\n",
            "cgroup": b"0::/a\n",
        },
        11: {"stat": STAT % (11, b"x" * 64), "smaps_rollup": ROLLUP.replace(b" 8 kB", b"12 kB")},
        12: {"stat": STAT % (12, b"x" * 65), "smaps_rollup": ROLLUP},
        13: {"stat": plain.replace(b") S", b") Z")},
        14: {"stat": plain.replace(b"4194304", b"2129984")},
        15: {"stat": plain.replace(b" 17 0 0\n", b" -1 0 0\n"), "smaps_rollup": ROLLUP},
        16: {"stat": b"nonsense"},
        17: {"stat": plain, "smaps_rollup": b"nonsense\n"},
        18: {"stat": plain, "smaps_rollup": ROLLUP + ROLLUP},
        19: {"stat": plain, "smaps_rollup": ROLLUP[:-1] + b"\nRss: 3 kB\n"},
        20: {"stat": plain, "smaps_rollup": b""},
        21: {"stat": plain},
        22: {"stat": b"", "smaps_rollup": ROLLUP},
        23: {},
        24: {"stat": plain, "smaps_rollup": ROLLUP + b"New: 7 kB\n", "statm": b"9 50 1 3 0 0 0\n"},
        25: {"stat": plain, "smaps_rollup": record(1, 2, name=b"[rollup]", Rss=8 << 40)},
        26: {"stat": plain, "smaps_rollup": ROLLUP, "statm": b""},
        27: {"stat": plain, "smaps_rollup": ROLLUP, "statm": b"9\n"},
    }
    for pid, files in cases.items():
        (tmp_path / str(pid)).mkdir()
        for name, text in files.items():
            (tmp_path / str(pid) / name).write_bytes(text or b"")
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"texts": ("cgroup",)},
        {"texts": ("cgroup", "statm")},
        {"statm": True, "min_pages": 3, "max_pages": 60},
        {"statm": True, "max_pages": 49},
        {"statm": True, "large_pages": 40},
        {"rollups": False},
    ],
)
def test_sweeps_of_both_backends_are_equal(
    twins: list[dict[str, Any]], root: int, options: dict[str, Any]
) -> None:
    pids = memoryview(array("i", [*range(10, 28), 99, 10]))
    found = []
    for twin in twins:
        sweep = twin["Sweep"](**options)
        at = 0
        while at < len(pids):
            at += sweep.take(root, pids[at:], 0.0)
            assert len(sweep) == at  # no time: one process each
        assert sweep.outcomes(3) == sweep.outcomes()[3:]
        found.append(rows_of(sweep))
    assert all(one == found[0] for one in found)
    by_pid = {row[0]: row for row in found[0][:-1]}
    assert found[0][-1] == by_pid[10]
    if not options:
        words = [row[1] for row in found[0]]
        assert words[:2] == ["read", "read"]
        assert words[2:5] == ["other", "zombie", "kernel_thread"]
        assert by_pid[10][2] == {"Rss": 8192, "Pss": 4096, "Swap": 0}
        assert by_pid[11][2]["Rss"] == 12288
        assert by_pid[24][2] == {"Rss": 8192, "Pss": 4096, "Swap": 0, "New": 7168}
        assert by_pid[25][2]["Rss"] == 8 << 50
        assert by_pid[10][5] == (b"a) b (c", 7, os.geteuid(), 77, False, 0, False)
        assert {by_pid[pid][1] for pid in (15, 16, 17, 18, 19, 20, 21, 22, 23, 99)} == {"other"}


def test_invalid_pids_are_not_read(twins: list[dict[str, Any]], root: int) -> None:
    for twin in twins:
        sweep = twin["Sweep"]()
        assert sweep.take(root, memoryview(array("i", [0, -1, -(2**31), 10])), 60) == 4
        assert [SWEEP_OUTCOMES[outcome] for outcome in sweep.outcomes()] == [
            "other",
            "other",
            "other",
            "read",
        ]


def test_a_table_read_between_two_takes_grows(twins: list[dict[str, Any]], tmp_path: Path) -> None:
    """A Sampler reads it between two takes; the names are unlike any kernel's."""
    for pid in (1, 2, 3):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_bytes(STAT % (pid, b"a"))
        rollup = record(0x1000, 0x9000, name=b"[rollup %d]" % pid, Rss=pid, flags=b"r%d" % pid)
        (tmp_path / str(pid) / "smaps_rollup").write_bytes(rollup)
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    for twin in twins:
        sweep = twin["Sweep"]()
        for pid in (1, 2, 3):
            sweep.take(fd, memoryview(array("i", [pid])), 1.0)
            row = sweep.table.row(pid - 1)
            assert row[6:8] == (b"[rollup %d]" % pid, b"r%d" % pid)
            assert row[-1] == pid << 10
    os.close(fd)


def test_fields_without_a_header_go_to_no_process(
    twins: list[dict[str, Any]], tmp_path: Path
) -> None:
    """No kernel writes such a rollup, but another file system may."""
    for pid, rollup in enumerate((ROLLUP, b"New: 3 kB\nRss: 9 kB\n", ROLLUP + b"nonsense\n"), 1):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_bytes(STAT % (pid, b"a"))
        (tmp_path / str(pid) / "smaps_rollup").write_bytes(rollup)
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    for twin in twins:
        sweep = twin["Sweep"]()
        sweep.take(root, memoryview(array("i", [1, 2, 3, 2, 1])), 1.0)
        rows = [row[1:3] for row in rows_of(sweep)]
        good = ("read", {"Rss": 8192, "Pss": 4096, "Swap": 0})
        assert rows == [good, *[("other", None)] * 3, good]
    os.close(root)


def test_wrong_arguments_are_refused(twins: list[dict[str, Any]]) -> None:
    for twin in twins:
        with pytest.raises(ValueError, match="texts"):
            twin["Sweep"](("a", "b", "c", "d"))
        with pytest.raises(IndexError):
            twin["Sweep"]().row(0)


def test_uses_of_both_backends_are_equal(twins: list[dict[str, Any]]) -> None:
    texts = [
        record(0x1000, 0x2000, name=b"/a", Rss=4)
        + record(0x2000, 0x4000, name=b"/b", Rss=8, Pss=2),
        record(0x1000, 0x2000, name=b"/b", Rss=1) + record(0x2000, 0x3000, name=b"/b", Rss=1 << 50),
        record(0x1000, 0x2000, name=b"/c", New=3),
        b"nonsense\n",
        b"",
        b"".join(record(i << 12, i + 1 << 12, name=b"/%d" % i, Rss=i) for i in range(500)),
        record(0x1000, 0x2000, name=b"/c", Rss=5, New=4, Newer=1),
    ]
    found = []
    for twin in twins:
        uses = twin["Uses"]()
        added = []
        for text in texts:
            fd = os.memfd_create("smaps")
            try:
                os.write(fd, text)
                added.append(uses.add(fd, 3000, 64))
            except ValueError:
                added.append("error")
            finally:
                os.close(fd)
        assert added == [True, True, True, "error", False, True, True]
        found.append({name: rest for name, *rest in uses.result()})
    assert all(one == found[0] for one in found)
    for name, users, sums in (
        (b"/a", 1, (0x1000, {"Rss": 4096})),
        (b"/b", 2, (0x4000, {"Rss": (9 << 10) + (1 << 60), "Pss": 2048})),
        (b"/c", 2, (0x2000, {"New": 7168, "Rss": 5120, "Newer": 1024})),
    ):
        assert found[0][name] == [users, [(b"00:00", 0, users, sums)]]
    assert len(found[0]) == 503


def test_uses_by_pid_leave_out_threads(twins: list[dict[str, Any]]) -> None:
    with processes.workload("idle") as child:
        (tid,) = child.request("threads", 1)
        numbers = (child.pid, tid, processes.dead_pid())
        for twin in twins:
            uses = twin["Uses"]()
            root = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
            try:
                assert [uses.take(root, pid, 3000, 64, False) for pid in numbers] == [1, 0, 0]
                assert [uses.take(root, pid, 3000, 64, True) for pid in numbers] == [1, 1, 0]
            finally:
                os.close(root)
            assert {users for _, users, _ in uses.result()} == {3}


def test_both_backends_export_the_same_names(backend: ModuleType) -> None:
    assert set(_backend.exports("python")) == set(_backend.NAMES)
