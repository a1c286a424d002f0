"""Commands that guess what was meant, and names of processes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import ModuleType

import pytest

import fastsmaps
from fastsmaps.cli.hints import similar
from fastsmaps.cli.options import seconds
from support.commands import ZOO, json_rows, run
from support.metrics import small_host, write_process
from support.processes import workload


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("pss", "there is no command 'pss'; did you mean ps?"),
        ("mpas 1", "did you mean maps?"),
        ("help", "there is no command 'help'; did you mean --help?"),
        ("--verison", "did you mean --version?"),
        ("nonsense", "there is no command 'nonsense'; there are ps, totals, maps"),
        ("1234", "for a process run `fastsmaps totals 1234` or `fastsmaps maps 1234`"),
        ("ps --fliter=x", "unrecognized arguments: --fliter=x; did you mean --filter?"),
        ("--fliter x", "did you mean --filter? (see fastsmaps ps --help)"),
        ("ps --xyzzy", "unrecognized arguments: --xyzzy (see fastsmaps ps --help)"),
        ("ps --sort -rss", "expected one argument; write --sort=-rss (see"),
        ("ps -s -rss", "expected one argument; write --sort=-rss (see"),
        ("ps --sort", "expected one argument (see"),
        ("libs --filter -x", "expected one argument; write --filter=-x (see"),
        ("ps --sort ress", "--sort: no field 'ress'; did you mean rss? There are: pid"),
        ("ps --fields Pss,swpa", "--fields: no field 'swpa'; did you mean swap? There are: pid"),
        ("ps --fields xyzzy", "no field 'xyzzy'; there are: pid"),
        (f"maps {ZOO} --sort pth", "did you mean path?"),
        (f"maps {ZOO} --by knd", "did you mean kind? (see fastsmaps maps --help)"),
        ("ps -u rooot", "unknown user 'rooot'; did you mean root?"),
        ("ps --color=alwasy", "did you mean always? (see fastsmaps ps --help)"),
        ("ps --by contaner", "got 'contaner'; did you mean container? (see"),
        ("ps --by user,unti", "got 'unti'; did you mean unit? (see"),
        ("ps --by xyzzy", "got 'xyzzy' (see"),
        ("watch python work.py --fast",
         'put "--" before a command that has options: fastsmaps watch -- python work.py --fast'),
        ("watch --tree make -j8", "fastsmaps watch -- COMMAND (see fastsmaps watch --help)"),
    ],
)  # fmt: skip
def test_usage_errors_say_what_was_meant(backend: ModuleType, line: str, hint: str) -> None:
    done = run(*line.split(), status=2)
    assert hint in done.stderr
    assert done.stderr.count("\n") == 1


def test_similar_names() -> None:
    assert similar("PSSS", ["pss", "uss"]) == "; did you mean pss?"
    assert similar("x", ["pss"]) == similar("", []) == ""


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("1.5", 1.5), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("31d", 31 * 86400)],
)
def test_times_have_units(text: str, number: float) -> None:
    assert seconds(text) == number


@pytest.mark.parametrize("text", ["", "m", "1w", "-1m", "32d", "1m30s", "nan", "inf", "infs"])
def test_wrong_times_are_refused(backend: ModuleType, text: str) -> None:
    done = run("diff", "self", f"--after={text}", status=2)
    assert "expected a time such as 30 (seconds), 1.5m, 2h or 1d, at most 31 days" in done.stderr


def test_columns_are_fields(backend: ModuleType) -> None:
    pid = str(os.getpid())
    (row,) = json_rows("ps", pid, "--columns", "swap")
    assert row.keys() == json_rows("ps", pid, "--fields", "swap")[0].keys()


# ---- the name of a process


@pytest.fixture
def host(tmp_path: Path) -> list[str]:
    """Return options that show processes 7 (shopd), 8 (app.py), 9 and 10 (both worker)."""
    root = small_host(tmp_path / "host")
    for pid, cmdline in {
        7: b"/usr/sbin/shopd\0--fast\0",
        8: b"python3\0/srv/app.py\0",
        9: b"worker: idle\0",
        10: b"/opt/worker\0two\0",
    }.items():
        if not (root / str(pid)).exists():
            write_process(root, pid, b"worker")
        (root / f"{pid}/cmdline").write_bytes(cmdline)
        shutil.copy(ZOO, root / f"{pid}/smaps")
    return ["--procfs", str(root)]


@pytest.mark.parametrize(("name", "pid"), [("shopd", 7), ("app.py", 8)])
def test_process_by_name(backend: ModuleType, host: list[str], name: str, pid: int) -> None:
    assert json_rows("totals", name, *host) == [
        {**row, "target": name} for row in json_rows("totals", str(pid), *host)
    ]
    assert json_rows("maps", name, *host) == json_rows("maps", str(pid), *host)
    (row,) = json_rows("totals", "--tree", name, *host)
    assert row["pid"] == pid


def test_several_processes_of_a_name(backend: ModuleType, host: list[str]) -> None:
    for command in ("totals", "maps"):
        done = run(command, "worker", *host, status=1)
        assert "2 processes are called worker; choose one by its pid: 9 (" in done.stderr
        assert "10 (worker two)" in done.stderr


def test_unknown_name(backend: ModuleType, host: list[str]) -> None:
    done = run("maps", "shpod", *host, status=1)
    text = "fastsmaps: there is no process or file called shpod; did you mean shopd?\n"
    assert done.stderr == text
    done = run("totals", "xyzzy", *host, status=1)
    assert done.stderr == "fastsmaps: there is no process or file called xyzzy\n"
    done = run("maps", "./shopd", *host, status=1)
    assert "No such file" in done.stderr


def test_file_takes_precedence_over_a_name(
    backend: ModuleType, host: list[str], tmp_path: Path
) -> None:
    shutil.copy(ZOO, tmp_path / "shopd")
    saved = run("maps", "shopd", "--json", *host, cwd=tmp_path).stdout
    assert saved == run("maps", ZOO, "--json").stdout
    (tmp_path / "app.py").mkdir()
    named = run("maps", "app.py", "--json", *host, cwd=tmp_path).stdout
    assert named == run("maps", "8", "--json", *host).stdout


def test_script_of_a_real_process(backend: ModuleType, tmp_path: Path) -> None:
    with workload("idle") as idle:
        fastsmaps.capture(tmp_path / "host", [idle.pid, os.getpid()])
    host = ["--procfs", str(tmp_path / "host")]
    (row,) = json_rows("totals", "workloads.py", *host)
    assert row["pid"] == idle.pid


def test_diff_of_a_name(backend: ModuleType) -> None:
    done = run("diff", f"name-{os.getpid()}", "--after", "0", status=1)
    assert "there is no process or file called" in done.stderr
