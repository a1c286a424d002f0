"""fastsmaps diff: what is compared, and how it is shown."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastsmaps
from fastsmaps._model.sizes import human
from fastsmaps._output.display import cell_width, cut_path, escaped
from fastsmaps.cli import change_table, tables
from support import processes
from support.commands import OTHER, ZOO, json_rows, run


def test_diff_reports_usage_errors_before_waiting(
    backend: ModuleType, idle: processes.Process
) -> None:
    for options, message in (
        (
            ("--by", "comm"),
            "--by for a process must be one of path, kind, label, use, range, got comm",
        ),
        (("--sort", "nonsense"), "no field 'nonsense'"),
    ):
        month = ("diff", str(idle.pid), "--after", "2678400")
        assert message in run(*month, *options, status=2, timeout=processes.TIMEOUT).stderr


def test_diff_without_changes_has_a_header(backend: ModuleType) -> None:
    """An empty diff can be sorted by every field and has a CSV header."""
    some = run("diff", ZOO, OTHER, "--csv").stdout.splitlines()
    none = run("diff", ZOO, ZOO, "--csv", "--sort", "private_dirty").stdout.splitlines()
    assert none == [some[0]]


def test_diff_by_range(backend: ModuleType, tmp_path: Path) -> None:
    """Unnamed memory that grew downwards has an address; --filter and --sort work on ranges."""
    old, new = tmp_path / "old", tmp_path / "new"
    line = "{}-{} rw-p 00000000 00:00 0 {}\nRss: {} kB\nPss: {} kB\n"
    old.write_text(
        line.format("20000", "30000", "", 8, 8) + line.format("50000", "60000", "/a", 4, 4)
    )
    new.write_text(
        line.format("10000", "30000", "", 99, 99) + line.format("50000", "60000", "/a", 5, 5)
    )
    rows = json_rows("diff", str(old), str(new), "--by", "range")
    shown = [(row["range"], row["path"], row["change"]) for row in rows]
    assert shown == [("10000-30000", "", 91 << 10), ("50000-60000", "/a", 1 << 10)]
    rows = json_rows(
        "diff", str(old), str(new), "--by", "range", "--filter", "/a", "--sort", "range"
    )
    assert [row["path"] for row in rows] == ["/a"]


def test_diff_output(backend: ModuleType, saved: str, idle: processes.Process) -> None:
    rows = json_rows("diff", ZOO, OTHER)
    expected = fastsmaps.diff(fastsmaps.load(ZOO), fastsmaps.load(OTHER), by="name")
    shown = [(*filter(None, (row["range"], row["path"] or "(no name)")),) for row in rows]
    assert [" ".join(names) for names in shown] == [change.name for change in expected]
    assert [row["change"] for row in rows] == [change.pss for change in expected]
    assert all(row["new"] - row["old"] == row["change"] for row in rows)
    assert json_rows("diff", ZOO, ZOO) == []
    assert json_rows("diff", ZOO, OTHER, "--by", "path") == rows
    assert run("diff", ZOO, OTHER).stdout.splitlines()[0].endswith("PATH")
    assert json_rows("diff", saved, saved) == []
    run("diff", str(idle.pid), "--after", "0")
    for wrong in (("diff", ZOO), ("diff", ZOO, "--after", "1"), ("diff", ZOO, saved)):
        assert run(*wrong, status=2).stderr.count("\n") == 1
    assert "cannot compare a capture" in run("diff", ZOO, saved, status=2).stderr
    assert "got kind" in run("diff", saved, saved, "--by", "kind", status=2).stderr
    assert run("diff", ZOO, "nothing-there", status=1).stderr.count("\n") == 1


def test_diff_table_is_signed_and_has_a_total(backend: ModuleType, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for path, sizes in ((old, (8, 300, 4, 64)), (new, (2056, 450, 1, 64))):
        path.write_text(
            "".join(
                f"{i}0000-{i}8000 rw-p 00000000 00:00 0 {name}\n"
                f"Rss: {rss} kB\nPss: {pss} kB\nPrivate_Clean: 0 kB\nPrivate_Dirty: {uss} kB\n"
                for i, (name, rss, pss, uss) in enumerate(
                    (
                        ("", sizes[0], sizes[0], sizes[0]),
                        ("/shared", 900, sizes[1], 0),
                        ("[heap]", sizes[2], sizes[2], sizes[2]),
                        ("/same", sizes[3], sizes[3], sizes[3]),
                    ),
                    1,
                )
            )
        )
    lines = [
        line.split() for line in run("diff", str(old), str(new), "--human").stdout.splitlines()
    ]
    assert " ".join(lines[0]) == "USS +/- PSS +/- RSS +/- NEW PSS PATH"
    assert [" ".join(line) for line in lines[1:5]] == [
        "+2.0 MiB +2.0 MiB +2.0 MiB 2.0 MiB 10000-18000 (no name)",
        "-3 KiB -3 KiB -3 KiB 1 KiB [heap]",
        "0 +150 KiB 0 450 KiB * /shared",
        "+2.0 MiB +2.1 MiB +2.0 MiB 2.5 MiB total",
    ]
    assert " ".join(lines[-1]).startswith("* shared with fewer processes than before")
    lines = [line.split() for line in run("diff", str(old), str(new)).stdout.splitlines()]
    assert " ".join(lines[0]) == "USS +/- KiB PSS +/- KiB RSS +/- KiB NEW PSS KiB PATH"
    assert [" ".join(line) for line in lines[1:5]] == [
        "+2048 +2048 +2048 2056 10000-18000 (no name)",
        "-3 -3 -3 1 [heap]",
        "0 +150 0 450 * /shared",
        "+2045 +2195 +2045 2571 total",
    ]
    # The total is that of what is shown by --filter, and of everything with --limit.
    text = run("diff", str(old), str(new), "--limit", "1").stdout.splitlines()
    assert [line.split()[-1] for line in text[1:3]] == ["name)", "total"]
    assert text[2].split()[0] == "+2045"
    text = run("diff", str(old), str(new), "--filter", "heap|shared").stdout.splitlines()
    assert text[3].split() == ["-3", "+147", "-3", "451", "total"]
    none = run("diff", str(old), str(old)).stdout.splitlines()
    assert [line.split() for line in none[1:]] == [["0", "0", "0", "376", "total"]]


def test_diff_of_maps_shows_sizes(backend: ModuleType, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("10000-18000 rw-p 00000000 00:00 0 [heap]\n")
    new.write_text("10000-20000 rw-p 00000000 00:00 0 [heap]\n")
    assert [line.split() for line in run("diff", str(old), str(new)).stdout.splitlines()] == [
        ["SIZE", "+/-", "KiB", "NEW", "SIZE", "KiB", "PATH"],
        ["+32", "64", "[heap]"],
        ["+32", "64", "total"],
    ]


def test_diff_has_growth_a_second_where_the_time_is_known(
    backend: ModuleType, idle: processes.Process, tmp_path: Path
) -> None:
    (head, *_) = run("diff", str(idle.pid), "--after", "0").stdout.splitlines()
    assert "USS KiB/s" in head
    captures = []
    for name, taken_at, kib in (("old", 1000, 100), ("new", 1100, 612)):
        captures.append(tmp_path / name)
        (tmp_path / name / "7").mkdir(parents=True)
        (tmp_path / name / "7/stat").write_text("7 (leaks) S 1 7 7 0 -1 4194304" + " 0" * 44)
        (tmp_path / name / "7/smaps_rollup").write_text(
            "10000-90000 ---p 00000000 00:00 0 [rollup]\n"
            f"Rss: {kib} kB\nPss: {kib} kB\nPrivate_Clean: 0 kB\nPrivate_Dirty: {kib} kB\n"
        )
        (tmp_path / name / "fastsmaps.json").write_text(
            json.dumps({"format": 1, "host": "h", "taken_at": taken_at, "processes": {}})
        )
    (row,) = json_rows("diff", *map(str, captures))
    assert (row["pid"], row["comm"], row["seconds"], row["rate"]) == (7, "leaks", 100, 5242.88)
    text = run("diff", *map(str, captures)).stdout.splitlines()
    assert [line.split() for line in text[1:]] == [
        ["+512", "+5.12", "+512", "+512", "612", "7", "leaks"],
        ["+512", "+5.12", "+512", "+512", "612", "total"],
        [],
        ["Differences", "after", "100.0", "s."],
    ]


def test_diff_fits_a_narrow_terminal() -> None:
    """A range takes 35 columns of 80."""
    totals = [fastsmaps.Totals({"Rss": n, "Pss": n, "Swap": 0}, n, "smaps") for n in (0, 4096)]
    records = [change_table.record_of(totals[1] - totals[0], {})]

    def heads(width: int | None) -> list[str]:
        return [column.head for column in change_table.change_columns(records, human, width)]

    assert heads(None) == heads(100) == ["USS +/-", "PSS +/-", "RSS +/-", "NEW PSS"]
    assert heads(99) == ["USS +/-", "PSS +/-"]


def test_paths_on_a_terminal_keep_their_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    rich = pytest.importorskip("rich.console")
    monkeypatch.setenv("TERM", "xterm")
    paths = ("/usr/lib/libc.so.6", "70-7f /usr/lib/libc.so.6", "* /\u7a0b\u5e8f/x/y.so", "[heap]")
    rows = [["1", path] for path in paths]

    def lines(width: int) -> list[str]:
        console = rich.Console(width=width, file=io.StringIO(), force_terminal=False)
        console.print(tables.rich_table(["PSS", "PATH"], rows, ["PATH"]))
        shown = console.file.getvalue().splitlines()
        assert max(Text(line).cell_len for line in shown) <= width
        return [line.removeprefix("  1 ").rstrip() for line in shown[1:]]

    from rich.text import Text

    assert lines(80) == list(paths)
    assert lines(20) == ["…r/lib/libc.so.6", "70-7f …libc.so.6", "* /\u7a0b\u5e8f/x/y.so", "[heap]"]
    assert lines(16) == ["…b/libc.so.6", "70-7f /usr/…", "* …\u5e8f/x/y.so", "[heap]"]


@given(st.text(), st.integers(1, 40))
def test_a_cut_name_fits(text: str, width: int) -> None:
    shown = cut_path(escaped(text), width)
    assert cell_width(shown) <= width
    assert shown == escaped(text) or "…" in shown


def test_a_long_name_is_cut_fast() -> None:
    assert cut_path("/" + "\u7a0b" * 1_000_000, 20) == "…" + "\u7a0b" * 9


@pytest.mark.parametrize(
    ("rate", "with_unit", "in_kib"),
    [
        (None, "-", "-"), (0, "0", "0"), (0.25, "+0.2 B/s", "+0.000244"),
        (-3.7, "-4 B/s", "-0.00361"), (1536.0, "+1.5 KiB/s", "+1.5"),
        (-(5 << 20), "-5.0 MiB/s", "-5120"),
    ],
)  # fmt: skip
def test_rates(rate: float | None, with_unit: str, in_kib: str) -> None:
    assert (change_table._human_rate(rate), change_table._kib_rate(rate)) == (with_unit, in_kib)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"), (119.9, "119.9 s"), (120, "2.0 min"), (7199, "120.0 min"),
        (7200, "2.0 h"), (172800, "2.0 days"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert change_table.duration(seconds) == text
