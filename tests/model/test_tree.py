"""Trees of processes: ps --tree, totals --tree, Scan.descendants()."""

from __future__ import annotations

import os
import random
from pathlib import Path
from types import ModuleType

import pytest
from pyarrow import parquet

import fastsmaps
from fastsmaps._model.processes import Cost
from fastsmaps._model.totals import Totals
from fastsmaps._model.tree import Branch, below, forest, walk
from support import processes
from support.commands import csv_rows, json_rows, run
from support.metrics import write_process

KB = 1024


def row_of(
    pid: int, ppid: int | None, pss: int | None = 1, start: float | None = 1.0
) -> fastsmaps.ProcessTotals:
    """Return a process of a table, unread if Pss is None."""
    if pss is None:
        return fastsmaps.ProcessTotals(pid, "denied", ppid=ppid, comm="it", start_time=start)
    totals = Totals({"Pss": pss}, None, "smaps_rollup")
    return fastsmaps.ProcessTotals(
        pid, "read", ppid=ppid, comm="it", start_time=start, totals=totals
    )


def _pss(branch: Branch) -> int | None:
    return None if branch.totals is None else branch.totals.pss


def shape(rows: list[fastsmaps.ProcessTotals]) -> list[tuple[int, int, int | None, int, int]]:
    """Return pid, depth, the tree's Pss, its read processes and all its processes."""
    order = walk(forest(rows), lambda branch: branch.row.pid)
    return [(b.row.pid, b.depth, _pss(b), b.read, b.processes) for b in order]


def test_each_branch_sums_its_descendants() -> None:
    rows = [row_of(4, 2, 40), row_of(1, 0, 1), row_of(2, 1, 2), row_of(3, 1, 3), row_of(5, 99, 5)]
    assert shape(rows) == [
        (1, 0, 46, 4, 4),
        (2, 1, 42, 2, 2),
        (4, 2, 40, 1, 1),
        (3, 1, 3, 1, 1),
        (5, 0, 5, 1, 1),
    ]


def test_unread_processes_are_counted() -> None:
    kernel = fastsmaps.ProcessTotals(4, "kernel_thread", ppid=2)
    rows = [row_of(1, 0, None), row_of(2, 1, 2), row_of(3, 2, None), kernel]
    assert shape(rows) == [
        (1, 0, 2, 1, 3),
        (2, 1, 2, 1, 2),
        (3, 2, None, 0, 1),
        (4, 2, None, 0, 0),
    ]


def test_a_younger_process_is_not_a_parent() -> None:
    rows = [row_of(1, 0, start=1), row_of(2, 1, start=9), row_of(3, 2, start=5)]
    assert [(pid, depth) for pid, depth, *_ in shape(rows)] == [(1, 0), (2, 1), (3, 0)]
    assert [row.pid for row in below(rows, [1])] == [1, 2]
    # A start in the same tick, or an unknown one, is accepted.
    for start in (5.0, None):
        rows[1] = row_of(2, 1, start=start)
        assert [row.pid for row in below(rows, [1])] == [1, 2, 3]


def test_cycles_are_broken() -> None:
    """A damaged capture may hold any parents; each process appears once."""
    own = [row_of(7, 7, 7)]
    assert shape(own) == [(7, 0, 7, 1, 1)]
    circle = [row_of(1, 3), row_of(2, 1), row_of(3, 2), row_of(4, 3)]
    found = shape(circle)
    assert sorted(pid for pid, *_ in found) == [1, 2, 3, 4]
    assert found[0][2:] == (4, 4, 4)
    assert [row.pid for row in below(circle, [2])] == [1, 2, 3, 4]
    for seed in range(200):
        rng = random.Random(seed)  # noqa: S311
        rows = [row_of(pid, rng.randrange(12), start=rng.randrange(3)) for pid in range(10)]
        assert sorted(pid for pid, *_ in shape(rows)) == list(range(10))
        roots = forest(rows)
        assert sum(root.processes for root in roots) == 10


def test_a_tree_may_be_deeper_than_the_stack() -> None:
    rows = [row_of(pid, pid - 1) for pid in range(1, 20_001)]
    (root,) = forest(rows)
    assert root.totals is not None
    assert (root.totals.pss, root.read) == (20_000, 20_000)
    assert max(branch.depth for branch in walk([root])) == 19_999
    assert len(below(rows, [10_001])) == 10_000


def test_descendants_of_an_unknown_pid_is_a_key_error() -> None:
    rows = [row_of(1, 0, start=1), row_of(2, 1, start=9), row_of(3, 2, start=5)]
    scan = fastsmaps.Scan(rows, cost=Cost(0, 0), taken_at=0, procfs="/proc")
    assert [row.pid for row in scan.descendants(1)] == [1, 2]
    with pytest.raises(KeyError):
        scan.descendants(4)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Return 1 > 10 > (11, 12 > 13), 1 > 20, and 30, which has no parent here."""
    root = tmp_path / "host"
    for pid, ppid, pss in (
        (1, 0, 1), (10, 1, 10), (11, 10, 100), (12, 10, 30), (13, 12, 200), (20, 1, 900),
        (30, 29, 5),
    ):  # fmt: skip
        write_process(root, pid, b"p%d" % pid, Pss=pss)
        stat = b"%d (p%d) S %d " % (pid, pid, ppid) + b"0 " * 17 + b"%d " % pid + b"0 " * 27
        (root / str(pid) / "stat").write_bytes(stat + b"\n")
        (root / str(pid) / "cmdline").write_bytes(b"p%d\0" % pid)
    (root / "12/smaps_rollup").write_bytes(b"damaged\n")
    return root


def test_ps_tree_indents_children_below_parents(
    backend: ModuleType, host: Path, tmp_path: Path
) -> None:
    ps = ("ps", "--tree", "--procfs", str(host))
    rows = json_rows(*ps)
    assert [(row["pid"], row["depth"]) for row in rows] == [
        (1, 0), (20, 1), (10, 1), (12, 2), (13, 3), (11, 2), (30, 0),
    ]  # fmt: skip
    found = {row["pid"]: row for row in rows}
    assert (found[10]["pss"], found[10]["tree_pss"]) == (10 * KB, 310 * KB)
    assert (found[10]["tree_processes"], found[10]["tree_unread"]) == (3, 1)
    # It was not read, but the processes below it were.
    assert (found[12]["pss"], found[12]["tree_pss"]) == (None, 200 * KB)
    assert found[1]["tree_pss"] == sum(row["pss"] or 0 for row in rows) - found[30]["pss"]
    assert found[1]["tree_rss_swap"] == found[1]["tree_rss"] + found[1]["tree_swap"]
    lines = run(*ps).stdout.splitlines()
    at = lines[0].index("COMMAND")
    assert [line[at:] for line in lines[1:8]] == [
        "p1", "  p20", "  p10", "    p12", "      p13", "    p11", "p30",
    ]  # fmt: skip
    (total,) = [line.split() for line in lines if line.startswith("total")]
    assert total[1] == str(1 + 10 + 100 + 200 + 900 + 5)
    run(*ps, "--parquet", f"{tmp_path}/a")
    table = parquet.read_table(tmp_path / "a").to_pylist()
    more = [dict(row["extra_fields"]) for row in table]
    assert [
        (row["pid"], row["pss"], other["tree_pss"], other["depth"])
        for row, other in zip(table, more, strict=True)
    ] == [(row["pid"], row["pss"], row["tree_pss"], row["depth"]) for row in rows]
    assert list(csv_rows(*ps, "--fields", "tree_pss,pss")[0]) == [
        "pid", "ppid", "depth", "user", "outcome", "tree_pss", "pss", "comm",
    ]  # fmt: skip


def test_sort_orders_siblings(backend: ModuleType, host: Path) -> None:
    ps = ("ps", "--tree", "--procfs", str(host), "--sort")
    assert [row["pid"] for row in json_rows(*ps, "pid")] == [1, 10, 11, 12, 13, 20, 30]
    assert [row["pid"] for row in json_rows(*ps, "pss")] == [30, 1, 20, 10, 11, 12, 13]
    assert [row["pid"] for row in json_rows(*ps, "+tree_pss", "--limit", "2")] == [30, 1]
    assert "no field 'nonsense'" in run(*ps, "nonsense", status=2).stderr
    assert (
        "--tree and --by cannot be combined" in run("ps", "--tree", "--by", "user", status=2).stderr
    )


def test_a_filtered_parent_leaves_its_children_as_roots(backend: ModuleType, host: Path) -> None:
    """Trees of chosen processes, and of those with a parent that --filter left out."""
    ps = ("ps", "--tree", "--procfs", str(host))
    rows = json_rows(*ps, "12", "13", "20", status=1)
    assert [(row["pid"], row["depth"]) for row in rows] == [(20, 0), (12, 0), (13, 1)]
    rows = json_rows(*ps, "--filter", "p1$|p11|p13")
    assert [(row["pid"], row["depth"]) for row in rows] == [(13, 0), (11, 0), (1, 0)]
    assert run(*ps, "999", status=1).stderr.count("\n") == 1


def test_totals_of_overlapping_trees_count_once(backend: ModuleType, host: Path) -> None:
    totals = ("totals", "--procfs", str(host), "--tree")
    (row,) = json_rows(*totals, "10")
    assert (row["pid"], row["pss"], row["processes"], row["unread"]) == (10, 310 * KB, 3, 1)
    # Each counts once, even in overlapping trees.
    for again in (("10", "13"), ("13", "10", "10"), ("10", "11", "13")):
        (same,) = json_rows(*totals, *again)
        assert (same["pss"], same["processes"], same["pid"]) == (310 * KB, 3, None)
    (row,) = json_rows(*totals, "1", "30")
    assert row["pss"] == fastsmaps.scan(procfs=host).totals().pss
    (row,) = json_rows(*totals, "12", status=1)
    assert (row["pss"], row["processes"], row["unread"]) == (200 * KB, 1, 1)
    text = run(*totals, "10").stdout
    assert "3 of 4 processes read, 1 failed" in text
    assert ["pss", "310"] in [line.split() for line in text.splitlines()]
    assert run(*totals, "999", status=1).stdout == ""
    assert run(*totals, "nonsense", status=1).stderr.count("\n") == 1
    assert run(*totals, "0", status=1).stderr.count("\n") == 1


def test_totals_of_a_live_tree(backend: ModuleType, idle: processes.Process) -> None:
    (row,) = json_rows("totals", "--tree", str(os.getpid()))
    (own,) = fastsmaps.scan([idle.pid])
    assert own.totals is not None
    assert row["processes"] >= 3  # this one, the idle one and the command itself
    assert row["pss"] > (own.totals.uss or 0)
    rows = {row["pid"]: row for row in json_rows("ps", "--tree", str(os.getpid()))}
    assert rows[idle.pid]["depth"] == 1
    assert rows[os.getpid()]["depth"] == 0
    assert rows[os.getpid()]["tree_uss"] == sum(row["uss"] or 0 for row in rows.values())
