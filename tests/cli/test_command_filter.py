"""Selecting processes: PID, --user, --filter."""

from __future__ import annotations

import json
import os
import pwd
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fastsmaps
from fastsmaps.cli.main import main
from support import processes
from support.commands import COMMAND, ZOO, csv_rows, environment, json_rows, run
from support.metrics import small_host
from support.processes import running, workload

#: An argument that only the idle process has.
OWN = f"an-argument-of-{os.getpid()}"


@pytest.fixture(scope="module")
def idle() -> Iterator[processes.Process]:
    with workload("idle", OWN) as process:
        yield process


@pytest.mark.parametrize("command", ["ps", "top", "ps --by comm"])
def test_filter_without_match_fails(backend: ModuleType, command: str) -> None:
    words = [*command.split(), "--filter", "called s[o]"]
    done = run(*words, status=1)
    assert done.stderr == "fastsmaps: no process matches --filter 'called s[o]'\n"
    assert json_rows(*words, status=1) == []
    head, *rest = run(*words, "--csv", status=1).stdout.splitlines()
    assert "pss" in head
    assert rest == []


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["maps", ZOO], "path"),
        (["libs", str(os.getpid())], "path"),
        (["totals", ZOO], "process"),
        (["diff", ZOO, ZOO], "path that changed"),
    ],
)
def test_maps_filter_without_match_fails(backend: ModuleType, words: list[str], what: str) -> None:
    done = run(*words, "--filter", "nothing", status=1)
    assert done.stderr == f"fastsmaps: no {what} matches --filter 'nothing'\n"
    assert json_rows(*words, "--filter", "nothing", status=1) == []


def test_capture_without_match_writes_nothing(backend: ModuleType, tmp_path: Path) -> None:
    target = tmp_path / "host.tar"
    done = run("capture", "-o", str(target), "--filter", "called s[o]", status=1)
    assert done.stderr == "fastsmaps: no process matches --filter 'called s[o]'\n"
    assert list(tmp_path.iterdir()) == []
    assert json_rows("capture", "-o", str(target), "--filter", "called s[o]", status=1) == []


def test_fastsmaps_does_not_match_itself(backend: ModuleType, idle: processes.Process) -> None:
    rows = json_rows("ps", "--filter", OWN)
    assert [row["pid"] for row in rows] == [idle.pid]
    rows = json_rows("top", "--filter", OWN)
    assert [row["pid"] for row in rows] == [idle.pid]
    with subprocess.Popen(
        [*COMMAND, "ps", "--json"], stdout=subprocess.PIPE, env=environment()
    ) as child:
        assert child.pid in [row["pid"] for row in json.loads(child.communicate()[0])]


def test_filter_of_named_processes(backend: ModuleType, idle: processes.Process) -> None:
    """`totals self` is fastsmaps, which never matches."""
    done = run("totals", "self", str(idle.pid), "--filter", OWN, "--json")
    assert [row["pid"] for row in json.loads(done.stdout)] == [idle.pid]
    comm = fastsmaps.scan([idle.pid])[0].comm
    assert json_rows("totals", str(idle.pid), "--filter", f"^{comm}$")[0]["pid"] == idle.pid
    assert json_rows("totals", "self", "--filter", ".", status=1) == []


@pytest.mark.parametrize(
    "wrapper",
    [
        lambda words: ["env", *words],
        lambda words: ["sh", "-c", f"{shlex.join(words)}; exit $?"],
        lambda words: ["timeout", "100", *words],
        lambda words: ["timeout", "100", "sh", "-c", f"{shlex.join(words)}; exit $?"],
    ],
)
def test_launcher_of_fastsmaps_does_not_match(
    backend: ModuleType, wrapper: Callable[[list[str]], list[str]]
) -> None:
    words = wrapper([*COMMAND, "ps", "--filter", f"called s[o] {os.getpid()}"])
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 1, done.stdout
    assert "0 of 0 processes read" in done.stdout


def test_other_ancestors_match(backend: ModuleType) -> None:
    """A script that starts fastsmaps has the expression, but not all arguments."""
    words = [*COMMAND, "ps", "--json", "--filter"]
    script = "import os; exec(os.environ['SCRIPT'])"
    code = f"import subprocess, sys; subprocess.run([*{words!r}, sys.argv[1]], check=True)"
    done = subprocess.run(
        [sys.executable, "-c", script, f"script-{OWN}"],
        capture_output=True, text=True, check=True, env=environment(SCRIPT=code),
    )  # fmt: skip
    rows = json.loads(done.stdout)
    assert [row["cmdline"][-1] for row in rows] == [f"script-{OWN}"]


def test_only_matching_processes_are_read(
    backend: ModuleType, idle: processes.Process, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []
    for name in ("scan", "capture"):
        function = getattr(fastsmaps, name)

        def recorded(
            *args: Any, function: Callable[..., Any] = function, name: str = name, **more: Any
        ) -> Any:
            asked.append((name, args[-1]))
            return function(*args, **more)

        monkeypatch.setattr(fastsmaps, name, recorded)
    assert main(["ps", "--filter", OWN, "--json"]) == 0
    assert main(["ps", "--user", str(os.geteuid()), "--filter", OWN]) == 0
    target = str(tmp_path / fastsmaps.BACKEND)
    assert main(["capture", "-o", target, "--filter", OWN]) == 0
    assert asked == [("scan", [idle.pid]), ("scan", [idle.pid]), ("capture", [idle.pid])]


def test_ps_of_given_pids(backend: ModuleType, idle: processes.Process) -> None:
    assert [row["pid"] for row in json_rows("ps", str(idle.pid))] == [idle.pid]
    (line,) = csv_rows("ps", str(idle.pid), "--filter", OWN)
    assert line["pid"] == str(idle.pid)
    assert json_rows("ps", str(idle.pid), "--filter", "called s[o]", status=1) == []
    done = run("ps", str(idle.pid), "999999999", status=1)
    assert done.stderr == "fastsmaps: there is no process 999999999\n"
    assert "1 of 2 processes read" in done.stdout
    assert "expected a pid, got 'x'; --filter" in run("ps", "x", status=2).stderr


@pytest.mark.parametrize("command", ["ps", "top", "libs"])
def test_pids_as_in_ps(backend: ModuleType, idle: processes.Process, command: str) -> None:
    own = os.getpid()
    forms: list[list[str]] = [[f"{idle.pid},{own}"], ["-p", f"{own},{idle.pid}"]]
    forms += [["-p", str(own), str(idle.pid)], [f"-p{own}", "--pid", str(idle.pid)]]
    for form in forms:
        rows = json_rows(command, *form)
        if command != "libs":
            assert {row["pid"] for row in rows} == {idle.pid, own}
        else:
            assert max(row["processes"] for row in rows) == 2
    for wrong in ("", "1,", "1 2", "self"):
        assert "expected a pid, got" in run(command, "-p", wrong, status=2).stderr


def test_top_of_pids_and_users(backend: ModuleType, idle: processes.Process) -> None:
    uid = str(os.geteuid())
    pids = f"{idle.pid},999999999"
    done = run("top", "-p", pids, "-u", uid, "-n", "2", "--interval", "0", status=1)
    assert done.stderr == "fastsmaps: there is no process 999999999\n"
    assert done.stdout.count("1 of 1 processes read") == 2
    done = run("top", "999999999", status=1)
    assert done.stderr == "fastsmaps: there is no process 999999999\n"
    assert json_rows("top", str(idle.pid), "-u", "4294967294", status=1) == []
    users = {row["user"] for row in json_rows("top", "-u", uid)}
    assert users == {fastsmaps.scan([idle.pid])[0].user}


def test_filter_says_what_it_matched(backend: ModuleType, tmp_path: Path) -> None:
    host = small_host(tmp_path / "host")
    (host / "7/cmdline").write_bytes(b"/opt/shop/bin/python\0app.py\0")
    (host / "8/cmdline").write_bytes(b"")
    procfs = ["--procfs", str(host)]
    names = {row["pid"]: row["comm"] for row in json_rows("ps", *procfs)}
    done = run("ps", "--filter", "opt/shop", *procfs)
    assert "python app.py" in done.stdout
    assert done.stdout.endswith("\n--filter matched 1 command line\n")
    done = run("ps", "--filter", f"opt/shop|^{names[8]}$", *procfs)
    text = "1 command line, and only the name (comm) of 1 other process"
    assert text in done.stdout


def test_order_is_reversed(backend: ModuleType, idle: processes.Process) -> None:
    pids = ["ps", str(idle.pid), str(os.getpid())]
    usual = [row["pid"] for row in json_rows(*pids)]
    assert [row["pid"] for row in json_rows(*pids, "-r")] == usual[::-1]
    assert [row["pid"] for row in json_rows(*pids, "-r", "-s", "pid")] == sorted(usual)[::-1]
    assert [row["pid"] for row in json_rows(*pids, "-rs", "pid", "-n1")] == [max(usual)]
    tree = [row["pid"] for row in json_rows(*pids, "--tree", "-r", "--sort=+pid")]
    assert tree[0] == os.getpid()  # the other is its child


def test_ps_of_a_user(backend: ModuleType, idle: processes.Process) -> None:
    uid = os.geteuid()
    try:
        names = [pwd.getpwuid(uid).pw_name, str(uid), f"{uid},4294967294"]
    except KeyError:
        names = [str(uid), f"{uid},4294967294"]
    for name in names:
        assert [row["pid"] for row in json_rows("ps", str(idle.pid), "--user", name)] == [idle.pid]
        assert idle.pid in [row["pid"] for row in json_rows("ps", "--user", name)]
    assert json_rows("ps", str(idle.pid), "--user", str(uid + 1), status=1) == []
    done = run("ps", "--user", "4294967294", status=1)
    assert done.stderr == "fastsmaps: no process matches --user '4294967294'\n"
    for name in ("no such user", "", "1,,2", "99999999999"):
        done = run("ps", "--user", name, status=2)
        assert done.stderr.startswith("fastsmaps: --user: unknown user ")


def test_filter_on_a_capture(backend: ModuleType, idle: processes.Process, tmp_path: Path) -> None:
    fastsmaps.capture(tmp_path / "host", [idle.pid, os.getpid()])
    procfs = ["--procfs", str(tmp_path / "host")]
    rows = json_rows("ps", "--filter", OWN, *procfs)
    assert [row["pid"] for row in rows] == [idle.pid]
    assert [row["pid"] for row in json_rows("ps", str(idle.pid), *procfs)] == [idle.pid]
    assert len(json_rows("ps", "--user", str(os.geteuid()), *procfs)) == 2
    assert json_rows("ps", "--filter", "called s[o]", *procfs, status=1) == []


def test_sampler_does_not_read_excluded_processes(
    backend: ModuleType, idle: processes.Process
) -> None:
    seen = []

    def others(row: fastsmaps.ProcessTotals) -> bool:
        seen.append(row.totals)
        return row.pid != idle.pid

    with fastsmaps.Sampler(cmdline=True, exclude=others, budget=1) as sampler:
        for _ in range(3):
            scan = sampler.sweep()
            assert [row.pid for row in scan if row.totals is not None] == [idle.pid]
            # The budget may not reach a process that began a moment ago: it has no comm yet.
            known = [row for row in scan if row.comm is not None and row.pid != idle.pid]
            assert {row.error for row in known} == {"excluded"}
            assert scan.by_pid[os.getpid()].cmdline
    assert set(seen) == {None}


def test_sampler_calls_exclude_again_after_exec(backend: ModuleType) -> None:
    def others(row: fastsmaps.ProcessTotals) -> bool:
        return row.comm != "sleep"

    with (
        running("sh", "-c", "echo 1; read line; exec sleep 1000") as child,
        fastsmaps.Sampler(cmdline=True, exclude=others, budget=1) as sampler,
    ):
        assert sampler.sweep().by_pid[child.pid].error == "excluded"
        child.send()
        deadline = time.monotonic() + processes.TIMEOUT
        while sampler.sweep().by_pid[child.pid].outcome != "read":
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize(
    "words",
    [
        ["ps", "--filter", r"\w+\.jar"],
        ["totals", "7", "--filter", r"\w+\.jar"],
        ["ps", "--by", r"cmdline:\w+\.jar"],
    ],
)
def test_hostile_command_line_takes_no_quadratic_time(
    backend: ModuleType, tmp_path: Path, words: list[str]
) -> None:
    """A full search takes 18 s or more of CPU time, and a process may have many forks."""
    (small_host(tmp_path / "host") / "7/cmdline").write_bytes(b"x" * 130_000 + b"\0")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (10, 10))

    status = 1 if "--filter" in words else 0
    run(*words, "--procfs", str(tmp_path / "host"), status=status, preexec_fn=limit)
