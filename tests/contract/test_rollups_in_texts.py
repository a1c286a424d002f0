"""Several rollups in one text, and rollups with the smaps of their process or of others."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import ModuleType

import pytest

import fastsmaps
from fastsmaps import ABSENT, Totals
from fastsmaps._capture.capture import capture
from support.commands import run
from support.independent import DATA
from support.smaps_texts import header, record

#: Where each has both files, of several kernels and processes.
CAPTURED = sorted(
    path.parent
    for path in (DATA / "captures").glob("*/*/smaps_rollup")
    if path.stat().st_size and (path.parent / "smaps").stat().st_size
)
ZOO = DATA / "captures/6.12-amd64/zoo"


def rollup(start: int, end: int, **fields: int) -> bytes:
    return record(start, end, b"[rollup]", perms=b"---p", flags=None, **fields)


def smaps(start: int, end: int, rss: int, *, stack: bool = True) -> bytes:
    """Return a process from `start` to `end`: program, heap, stack, gate; `rss` kB in all."""
    parts = [
        record(start, start + 0x1000, b"/bin/x", perms=b"r-xp", Rss=rss // 4, Pss=rss // 4),
        record(start + 0x2000, start + 0x9000, b"[heap]", Rss=rss - rss // 2, Pss=1),
        record(end - 0x1000, end, b"[stack]", Rss=rss // 2 - rss // 4, Pss=0),
        record(0xFFFFFFFFFF600000, 0xFFFFFFFFFF601000, b"[vsyscall]", Rss=0, Pss=0),
    ]
    return b"".join(parts if stack else parts[:2])


A = (0x55D4A0000000, 0x7FFE40000000)
B = (0x00400000, 0x7FFC10000000)
C = (0x560000000000, 0x7FFD00000000)
R = {name: rollup(*at, Rss=rss, Pss=rss) for name, at, rss in (
    ("A", A, 1000), ("B", B, 300), ("C", C, 70))}  # fmt: skip
S = {name: smaps(*at, rss=rss) for name, at, rss in (("A", A, 1000), ("B", B, 300), ("C", C, 70))}
KB = 1024


def check(text: bytes, rss: int, source: str, rows: int | None = None) -> fastsmaps.Mappings:
    """Check that all views agree on `rss` kB."""
    table = fastsmaps.parse(text)
    totals = table.totals()
    assert (totals.rss, totals.source) == (rss * KB, source)
    assert (totals.size is None) == (source != "smaps")
    assert rows is None or len(table) == rows
    for by in ("path", "kind"):
        groups = table.group_by(by)
        assert sum(group.totals.rss or 0 for group in groups.values()) == rss * KB
        assert sum(group.count for group in groups.values()) == len(table)
    assert sum(row.rss or 0 for row in table) == rss * KB
    assert sum(row.rss or 0 for row in table.top(len(table), "rss")) == rss * KB
    assert sum(table.column("rss")) == rss * KB
    half = len(table) // 2
    parts = [part.totals() for part in (table[:half], table[half:])]
    assert sum(part.rss or 0 for part in parts) == rss * KB
    return table


def test_several_rollups_are_summed(backend: ModuleType) -> None:
    for count in (1, 2, 3):
        for names in itertools.permutations("ABC", count):
            text = b"".join(R[name] for name in names)
            wanted = sum({"A": 1000, "B": 300, "C": 70}[name] for name in names)
            table = check(text, wanted, "smaps_rollup", count)
            assert [row.size for row in table] == [None] * count
            assert table.column("size").tolist() == [ABSENT] * count
            assert (table.absent("size"), len(table.top(9, "size"))) == (count, 0)
            assert table.find(A[0]) is None
            assert not table.overlaps
    # One layout: a process and its forked children, or one process at several times.
    check(R["A"] * 3, 3000, "smaps_rollup", 3)


def test_a_rollup_with_its_smaps_counts_once(backend: ModuleType) -> None:
    for text in (R["A"] + S["A"], S["A"] + R["A"], S["A"] + b"\n" + R["A"]):
        table = check(text, 1000, "smaps", 4)
        assert table == table
        assert list(table) == list(fastsmaps.parse(S["A"]))
        assert table.totals() == fastsmaps.parse(S["A"]).totals()
        assert "[rollup]" not in table.group_by("path")
        assert not table.overlaps
        assert table.find(A[0] + 0x2345).kind == "heap"  # type: ignore[union-attr]


def test_each_process_of_a_text_counts_once(backend: ModuleType) -> None:
    every = [S[name] for name in "ABC"], [R[name] for name in "ABC"]
    orders = {
        "smaps alone": every[0],
        "cat /proc/*/smaps*": [part for pair in zip(*every, strict=True) for part in pair],
        "each rollup first": [part for s, r in zip(*every, strict=True) for part in (r, s)],
        "all rollups first": [*every[1], *every[0]],
        "all smaps first": [*every[0], *every[1]],
        "in another order": [*every[1][::-1], *every[0]],
    }
    for parts in orders.values():
        table = check(b"".join(parts), 1370, "smaps", 12)
        assert table.overlaps  # addresses go back where the next process begins
        assert list(table) == list(fastsmaps.parse(b"".join(every[0])))


def test_a_rollup_with_other_smaps_is_added(backend: ModuleType) -> None:
    for text in (R["A"] + S["B"], S["B"] + R["A"]):
        table = check(text, 1300, "mixed", 5)
        assert table.group_by("path")["[rollup]"].totals.source == "smaps_rollup"
        assert table.find(B[0]).path == "/bin/x"  # type: ignore[union-attr]
        assert table.find(A[0] + 7) is None
    for other in "AC":  # nested ranges
        for text in (R["B"] + S[other], S[other] + R["B"]):
            check(text, {"A": 1300, "C": 370}[other], "mixed", 5)
    check(R["C"] + S["A"] + R["A"] + S["B"], 1370, "mixed", 9)
    check(S["A"] + R["A"] + R["B"], 1300, "mixed", 5)
    # The rollup of a forked child has the range of its parent's smaps: one of the two.
    check(S["A"] + R["A"] + R["A"], 2000, "mixed", 5)


def test_the_rollup_of_an_excerpt_is_left_out(backend: ModuleType) -> None:
    head = smaps(*A, rss=1000, stack=False)
    lines = head.splitlines(keepends=True)
    for part in (head, b"".join(lines[3:])):  # from the start; [heap] alone
        wanted = fastsmaps.parse(part).totals().rss
        assert wanted
        for text in (R["A"] + part, part + R["A"]):
            assert check(text, wanted // KB, "smaps").totals() == fastsmaps.parse(part).totals()
    # An excerpt with a larger Rss belongs to another process.
    check(rollup(*A, Rss=10, Pss=5) + head, 760, "mixed")
    # A lower mapping was added between the two reads.
    check(R["A"] + smaps(A[0] - 0x5000, A[1], 1000), 1000, "smaps", 4)


def test_a_field_that_one_rollup_lacks_is_none(backend: ModuleType) -> None:
    first = rollup(*A, Rss=1, Pss_Anon=1)
    totals = fastsmaps.parse(first + rollup(*B, Rss=2)).totals()
    assert (totals.rss, totals.pss_anon) == (3 * KB, None)
    mixed = fastsmaps.parse(S["B"] + first).totals()
    assert (mixed.rss, mixed.pss_anon, mixed.pss) == (301 * KB, None, None)
    # A repeated rollup is left out with its own fields.
    table = fastsmaps.parse(rollup(*A, Rss=1000, Pss_Anon=1) + S["A"])
    assert table.fields == ("rss", "pss")
    assert table.totals().pss_anon is None
    assert table.column("pss_anon").tolist() == [fastsmaps.ABSENT] * len(table)


def test_a_rollup_with_maps_is_kept(backend: ModuleType) -> None:
    maps = header(A[0], A[0] + 0x1000, b"/bin/x") + header(A[1] - 0x1000, A[1], b"[stack]")
    for text in (maps + R["A"], R["A"] + maps):
        totals = fastsmaps.parse(text).totals()
        assert (totals.rss, totals.size, totals.source) == (1000 * KB, None, "mixed")


def test_a_similar_name_is_not_a_rollup(backend: ModuleType) -> None:
    for line in (
        header(0x1000, 0x2000, b"[rollup]", perms=b"r--p"),
        header(0x1000, 0x2000, b"[rollup]", perms=b"---p", inode=7),
        header(0x1000, 0x2000, b"[rollup]", perms=b"---p", dev=b"08:01"),
        header(0x1000, 0x2000, b"/tmp/[rollup]", perms=b"---p"),
    ):
        table = fastsmaps.parse(line + b"Rss: 4 kB\n" + S["A"])
        assert (len(table), table[0].size) == (5, 0x1000)
        assert table.totals().rss == 1004 * KB


@pytest.mark.parametrize("where", CAPTURED, ids=lambda path: "/".join(path.parts[-2:]))
def test_captured_rollups_match_their_smaps(backend: ModuleType, where: Path) -> None:
    whole, alone = (where / "smaps").read_bytes(), (where / "smaps_rollup").read_bytes()
    rows = list(fastsmaps.parse(whole))
    for text in (alone + whole, whole + alone):
        table = fastsmaps.parse(text)
        assert list(table) == rows
        assert table.totals() == fastsmaps.parse(whole).totals()
    twice = fastsmaps.parse(alone * 2).totals()
    one = fastsmaps.parse(alone).totals()
    assert twice == one + one
    assert (twice.size, twice.source) == (None, "smaps_rollup")


def test_all_captures_in_one_text_count_once(backend: ModuleType) -> None:
    names = [path for path in CAPTURED if path.parent.name == "6.12-amd64"]
    assert len(names) > 1
    texts = [(path / "smaps").read_bytes() for path in names]
    rollups = [(path / "smaps_rollup").read_bytes() for path in names]
    rows = list(fastsmaps.parse(b"".join(texts)))
    pairs = zip(texts, rollups, strict=True)
    for text in (b"".join(map(b"".join, pairs)), b"".join(rollups + texts)):
        assert list(fastsmaps.parse(text)) == rows
    totals = fastsmaps.parse(b"".join(rollups)).totals()
    wanted: Totals = sum(fastsmaps.parse(one).totals() for one in rollups)  # type: ignore[assignment]
    assert totals == wanted


def test_columns_have_only_the_kept_rows(backend: ModuleType) -> None:
    text = S["A"] + R["A"] + S["B"] + R["B"] + R["C"]
    table = fastsmaps.parse(text)
    rows = list(table)
    assert len(rows) == len(table) == 9
    for part, wanted in ((table, rows), (table[2:7], rows[2:7]), (table[::-2], rows[::-2])):
        assert list(part) == wanted
        for name in ("start", "end", "rss", "pss", "inode"):
            column = part.column(name)
            assert (column.format, column.readonly, column.contiguous) == ("Q", True, True)
            assert column.tolist() == [getattr(row, name) for row in wanted]
        sizes = [ABSENT if row.size is None else row.size for row in wanted]
        assert part.column("size").tolist() == sizes


def test_arrow_columns_equal_the_rows(backend: ModuleType) -> None:
    pa = pytest.importorskip("pyarrow")
    table = fastsmaps.parse(S["A"] + R["A"] + R["C"] + S["B"])
    for part in (table, table[::-1], table[1:6]):
        arrow = pa.table(part)
        for name in ("start", "size", "rss", "path", "perms", "kind"):
            assert arrow[name].to_pylist() == [getattr(row, name) for row in part]
    assert sum(pa.table(table)["rss"].to_pylist()) == 1370 * KB


def test_a_captures_files_may_hold_rollups(backend: ModuleType, tmp_path: Path) -> None:
    """A capture gives the same, whichever file holds both."""
    stat = b"%d (x) S 1 1 1 0 -1 4194304 " + b"0 " * 44 + b"\n"
    texts = {
        10: {"smaps": R["A"] + S["A"]},
        11: {"smaps": S["B"], "smaps_rollup": R["B"] + S["B"]},
        12: {"smaps_rollup": R["C"], "smaps": S["C"]},
    }
    for pid, files in texts.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / f"{pid}/stat").write_bytes(stat % pid)
        for name, text in files.items():
            (tmp_path / f"{pid}/{name}").write_bytes(text)
    wanted = {10: 1000 * KB, 11: 300 * KB, 12: 70 * KB}
    again = tmp_path / "again"
    for procfs in (tmp_path, again):
        assert {pid: fastsmaps.totals(pid, procfs=procfs).rss for pid in texts} == wanted
        assert {row.pid: row.rss for row in fastsmaps.scan(procfs=procfs)} == wanted
        for pid in texts:
            assert fastsmaps.mappings(pid, procfs=procfs).totals().rss == wanted[pid]
            with fastsmaps.Process(pid, procfs=procfs) as process:
                assert process.totals().rss == wanted[pid]
        if procfs is tmp_path:
            rows = capture(again, procfs=tmp_path)
            assert {row.pid: row.rss for row in rows} == wanted


def test_many_rollups_and_runs_take_linear_time(backend: ModuleType) -> None:
    # Nothing pairs: no rollup covers a run.
    parts = []
    for i in range(2000):
        parts.append(rollup(0x1000 * i, 0x1000 * i + 0x1000, Rss=1))
        parts.append(record(0x7F0000000000, 0x7F0000001000, b"/x", Rss=2))
    assert fastsmaps.parse(b"".join(parts)).totals().rss == 6000 * KB


def test_commands_count_a_rollup_once(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    saved.write_bytes(R["A"] + S["A"])
    (row,) = json.loads(run("totals", str(saved), "--json").stdout)
    assert (row["rss"], row["source"]) == (1000 * KB, "smaps")
    assert sum(row["rss"] for row in json.loads(run("maps", str(saved), "--json").stdout)) == (
        1000 * KB
    )
    saved.write_bytes(R["A"] + R["B"])
    (row,) = json.loads(run("totals", str(saved), "--json").stdout)
    assert (row["rss"], row["size"], row["source"]) == (1300 * KB, None, "smaps_rollup")
    shown = run("maps", str(saved))
    assert shown.stderr == ""
    assert shown.stdout.splitlines()[-1].split()[:3] == ["total", "-", "1300"]
    shown = run("maps", str(saved), "--by", "kind")
    assert shown.stdout.splitlines()[-1].split()[:2] == ["-", "1300"]
