"""fastsmaps watch: a process, or a command from its start to its end."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastsmaps
from fastsmaps.cli import live_line
from support import linux, processes
from support.commands import COMMAND, WITHOUT_RICH, Job, environment, run

MIB = 1 << 20
QUICK = ("--interval", "0.01", "--budget", "1")

# Grows, reports it, and waits for the end of its input.
GROWING = """
import mmap, sys
held = mmap.mmap(-1, 24 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for _ in range(24 << 4):
    held.write(b"x" * 65536)
print("grown", flush=True)
sys.exit(len(sys.stdin.read()))
"""

# The same after a line of input.
GROWING_LATER = GROWING.replace("held = ", "sys.stdin.readline()\nheld = ")

# Reports each signal it gets, and exits at SIGUSR2. By os.write(): one handler may interrupt
# another, and a print() inside a print() raises RuntimeError (reentrant call).
REPORTS_SIGNALS = """
import os, signal, sys, time
def report(number, frame):
    os.write(1, signal.Signals(number).name.encode() + b"\\n")
    if number == signal.SIGUSR2:
        sys.exit(7)
for name in ("INT", "QUIT", "TERM", "HUP", "USR1", "USR2"):
    signal.signal(getattr(signal, "SIG" + name), report)
os.write(1, b"ready\\n")
while True:  # pause() would not end for a signal that came just before it
    time.sleep(0.1)
"""


@pytest.fixture
def idle() -> Iterator[processes.Process]:
    with processes.workload("idle") as child:
        yield child


@contextlib.contextmanager
def start_watch(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Start the command; it is killed at the end of the block."""
    with subprocess.Popen(
        [*COMMAND, "watch", *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=environment(), **options,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def watch_report(*arguments: str, status: int = 0, **options: Any) -> dict[str, Any]:
    """Run watch --json and parse the report; with a command it is on standard error."""
    done = run("watch", "--json", *arguments, status=status, **options)
    report: dict[str, Any] = json.loads(done.stderr if "--" in arguments else done.stdout)
    return report


def is_read_by(pid: int, reader: int) -> bool:
    """Whether `reader` samples the process: it starts its thread after the first sample."""
    links = []
    with contextlib.suppress(OSError):
        if len(os.listdir(f"/proc/{reader}/task")) > 1:
            fds = os.listdir(f"/proc/{reader}/fd")
            links = [os.readlink(f"/proc/{reader}/fd/{fd}") for fd in fds]
    return f"/proc/{pid}/smaps_rollup" in links


def wait_for_first_sample(pid: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + processes.TIMEOUT
    while not is_read_by(pid, process.pid):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_for_samples(process: subprocess.Popen[str]) -> None:
    """Wait for two more samples, whatever pid namespace /proc is of.

    The sampling thread has at least one voluntary context switch per sample.
    """
    fd = os.pidfd_open(process.pid)
    with fastsmaps.Process.from_pidfd(fd) as reader:
        pid = reader.pid
    os.close(fd)
    deadline = time.monotonic() + processes.TIMEOUT
    first: int | None = None
    while True:
        count = 0
        for tid in os.listdir(f"/proc/{pid}/task"):
            if int(tid) != pid:
                text = Path(f"/proc/{pid}/task/{tid}/status").read_text()
                count += int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
        if count and first is None:
            first = count
        if first is not None and count > first + 20:
            return
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def grow_while_sampled(process: subprocess.Popen[str]) -> None:
    """Let GROWING_LATER grow between two samples, however late the first one is."""
    assert process.stdin is not None
    assert process.stdout is not None
    wait_for_samples(process)
    process.stdin.write("now\n")
    process.stdin.flush()
    assert process.stdout.readline() == "grown\n"
    wait_for_samples(process)


# ---- a process


def test_watch_for_a_duration(backend: ModuleType, idle: processes.Process, tmp_path: Path) -> None:
    saved = tmp_path / "samples.csv"
    report = watch_report(str(idle.pid), "--for", "0.2", *QUICK, "--csv", str(saved))
    assert (report["pid"], report["outcome"], report["exit_code"]) == (idle.pid, "read", None)
    assert report["duration"] >= 0.2
    assert all(change["rss"] == 0 for change in report["growth"])
    rss = fastsmaps.totals(idle.pid).rss
    assert report["start"]["rss"] == report["end"]["rss"] == report["peaks"]["rss"]["rss"] == rss
    with saved.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == report["samples"] >= 2
    assert list(rows[0]) == list(report["start"])
    assert {row["rss"] for row in rows} == {str(rss)}
    assert {row["nonlinear"] for row in rows} == {""}  # a missing field is empty, not 0
    assert saved.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["samples.csv"]


def test_watch_until_process_ends(backend: ModuleType) -> None:
    with processes.workload("idle") as child, start_watch(str(child.pid), *QUICK) as process:
        wait_for_first_sample(child.pid, process)
        child.reap()
        out, errors = process.communicate(timeout=processes.TIMEOUT)
    assert (process.returncode, errors) == (0, "")
    assert "ended after" in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_watch_with_report(
    backend: ModuleType, idle: processes.Process, number: int
) -> None:
    with start_watch(str(idle.pid), *QUICK) as process:
        wait_for_first_sample(idle.pid, process)
        process.send_signal(number)
        out, errors = process.communicate(timeout=processes.TIMEOUT)
    assert (process.returncode, errors) == (0, "")
    for word in ("watched for", "KiB", "START", "PEAK", "AT", "END", "pss", "VmHWM"):
        assert word in out


def test_missing_process_is_an_error(backend: ModuleType) -> None:
    done = run("watch", str(processes.dead_pid()), status=1)
    assert done.stdout == ""
    assert done.stderr.startswith("fastsmaps: there is no process")


# ---- a command


def test_watch_of_a_command(backend: ModuleType) -> None:
    with start_watch("--json", *QUICK, "--", sys.executable, "-c", GROWING) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "grown\n"
        pid = next(
            int(name)
            for name in os.listdir("/proc")
            if name.isdecimal() and is_read_by(int(name), process.pid)
        )
        time.sleep(0.1)  # several samples
        out, errors = process.communicate("12345", timeout=processes.TIMEOUT)
    assert (process.returncode, out) == (5, "")
    report = json.loads(errors)
    assert (report["pid"], report["exit_code"]) == (pid, 5)
    assert report["outcome"] in ("gone", "zombie")
    assert report["command"].startswith(sys.executable)
    assert report["peak_rss"] > 24 * MIB
    assert report["ru_maxrss"] is None or report["ru_maxrss"] > 24 * MIB
    assert report["peaks"]["pss"]["pss"] > 24 * MIB
    assert report["growth"][0]["path"] == ""
    assert report["growth"][0]["pss"] > 20 * MIB


@pytest.mark.parametrize("tree", [(), ("--tree",)])
def test_command_with_proc_of_outer_pid_namespace(
    backend: ModuleType, tree: tuple[str, ...]
) -> None:
    """The pid in /proc differs from subprocess's, which may be another process's there."""

    def inside() -> tuple[dict[str, Any], int]:
        with start_watch("--json", *tree, *QUICK, "--", sys.executable, "-c", GROWING) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "grown\n"
            wait_for_samples(process)
            _, errors = process.communicate(timeout=processes.TIMEOUT)
            return json.loads(errors), process.pid

    try:
        report, inner = processes.run_in_namespaces(inside, None)
    except linux.Unavailable as error:
        pytest.skip(f"no pid namespace: {error}")
    assert report["pid"] not in (inner, inner + 1)
    assert report["peaks"]["pss"]["pss"] > 24 * MIB
    assert tree or report["peak_rss"] > 24 * MIB
    assert report["samples"] > 1


def test_unrelated_process_with_equal_pid_is_not_watched(
    backend: ModuleType, idle: processes.Process
) -> None:
    def inside() -> tuple[dict[str, Any], int]:
        # The next process is fastsmaps, the one after it the command.
        linux.set_next_pid(idle.pid - 1)
        with start_watch("--json", *QUICK, "--", "sh", "-c", "echo $$; read line") as process:
            assert process.stdout is not None
            pid = int(process.stdout.readline())
            wait_for_samples(process)
            _, errors = process.communicate("\n", timeout=processes.TIMEOUT)
            return json.loads(errors), pid

    try:
        report, pid = processes.run_in_namespaces(inside, None)
    except linux.Unavailable as error:
        pytest.skip(f"no pid namespace in which pids can be chosen: {error}")
    if pid != idle.pid:
        pytest.skip(f"the kernel assigned {pid} instead of {idle.pid}")
    assert report["pid"] != idle.pid
    assert report["outcome"] in ("gone", "zombie")


def test_command_output_is_unchanged(backend: ModuleType, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    code = (
        "import os, sys; sys.stdout.write(sys.stdin.read()); "
        f"os.write({writer}, b'through a descriptor'); os.write(2, b'to the other')"
    )
    done = run(
        "watch", "-o", str(tmp_path / "report"), "--", sys.executable, "-c", code,
        input="as it is", pass_fds=[writer],
    )  # fmt: skip
    os.close(writer)
    assert (done.stdout, done.stderr) == ("as it is", "to the other")
    with open(reader) as pipe:
        assert pipe.read() == "through a descriptor"
    text = (tmp_path / "report").read_text()
    assert text.startswith(f"{sys.executable} -c import os")
    assert "exit status 0 after" in text


def test_command_exit_status_is_passed_on(backend: ModuleType, tmp_path: Path) -> None:
    assert "exit status 3" in run("watch", "--", "sh", "-c", "exit 3", status=3).stderr
    assert "by signal 9" in run("watch", "--", "sh", "-c", "kill -9 $$", status=137).stderr
    plain = tmp_path / "no program"
    plain.write_text("")
    for name, status in (("no-such-program", 127), (str(plain), 126)):
        done = run("watch", "--", name, status=status)
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith(f"fastsmaps: cannot run {name}: ")


def test_short_command_has_unknown_values(backend: ModuleType) -> None:
    """A command may end before the first sample; then its values are unknown, not 0."""
    for _ in range(3):
        report = watch_report("--", "true")
        assert report["exit_code"] == 0
        assert (report["samples"] == 0) == (report["start"] is None) == (report["peaks"] == {})
        assert report["peak_rss"] != 0
        text = run("watch", "true").stderr
        assert ("before the first sample" in text) != ("VmHWM" in text)


def test_signals_are_forwarded(backend: ModuleType) -> None:
    with start_watch(
        "--", sys.executable, "-c", REPORTS_SIGNALS, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        # Without a terminal, which would send the first two signals to both processes.
        for name in ("SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
            process.send_signal(getattr(signal, name))
            assert process.stdout.readline() == f"{name}\n"
        _, errors = process.communicate(timeout=processes.TIMEOUT)
    assert process.returncode == 7
    assert "exit status 7" in errors


def test_ctrl_c_reaches_command_once(backend: ModuleType) -> None:
    with Job("watch", "--", sys.executable, "-c", REPORTS_SIGNALS) as job:
        job.until(lambda: "ready" in job.text)
        for key, name in (("\x03", "SIGINT"), ("\x1c", "SIGQUIT"), ("\x03", "SIGINT")):
            count = job.text.count(name)
            job.press(key)
            job.until(lambda name=name, count=count: job.text.count(name) > count)  # type: ignore[misc]
        job.signal(signal.SIGUSR2)
        assert job.read_line() == "ended 7", job.text
    assert (job.text.count("SIGINT"), job.text.count("SIGQUIT")) == (2, 1)
    assert "exit status 7" in job.text


def test_ignored_sighup_stays_ignored(backend: ModuleType) -> None:
    """The command inherits the ignored signal, as nohup needs."""
    code = "import signal; print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)"
    with start_watch(
        "--", sys.executable, "-c", code,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    ) as process:  # fmt: skip
        assert process.communicate(timeout=processes.TIMEOUT)[0] == "True\n"


def test_closed_pipe_for_report(backend: ModuleType) -> None:
    for where in ("2>&-", "2>/dev/full", "2>&1 >&3 3>&- | true"):
        shell = f'"$@" {where}'
        words = ["bash", "-o", "pipefail", "-c", f"exec 3>&1; {shell}", "bash"]
        done = subprocess.run(
            [*words, *COMMAND, "watch", "--", "sh", "-c", "echo fine; exit 3"],
            capture_output=True, text=True, check=False, env=environment(),
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (3, "fine\n", ""), where


def test_watch_tree_report(backend: ModuleType) -> None:
    shell = 'sleep 1000 & "$0" -c "$1"; kill $!'
    with start_watch(
        "--json", "--tree", *QUICK, "--", "sh", "-c", shell, sys.executable, GROWING_LATER
    ) as process:
        grow_while_sampled(process)
        _, errors = process.communicate(timeout=processes.TIMEOUT)
    report = json.loads(errors)
    peak = report["peaks"]["pss"]
    assert peak["processes"] >= 2
    assert peak["pss"] > 24 * MIB
    # A tree has no VmHWM; the shell's alone would be shown next to the values of all processes.
    assert peak["peak_rss"] is report["peak_rss"] is report["start"]["peak_rss"] is None
    assert 0 < report["root_peak_rss"] < 24 * MIB


def test_tree_report_omits_values_of_one_process(backend: ModuleType) -> None:
    with start_watch("--tree", *QUICK, "--", sys.executable, "-c", GROWING_LATER) as process:
        grow_while_sampled(process)
        _, errors = process.communicate(timeout=processes.TIMEOUT)
    head, _, rest = errors.partition(" and its descendants together:\n")
    pid = head.split()[-1]
    table, single, growth, *_ = rest.split("\n\n")
    assert [line.split()[0] for line in table.splitlines()] == ["KiB", "pss", "uss", "rss", "swap"]
    alone, *largest = single.splitlines()
    assert alone.startswith(f"process {pid} alone, largest Rss (VmHWM): ")
    # Left out unless it is larger than what fastsmaps itself had at the fork.
    for line in largest:
        assert line.startswith("largest single process, its largest Rss (ru_maxrss): ")
    assert growth.startswith(f"process {pid} alone grew most, in ")
    assert "(no name)" in growth


def test_hostile_names_are_escaped(backend: ModuleType) -> None:
    text = run("watch", "--", "sh", "-c", ": \x1b[31m \u202e").stderr
    assert r"\x1b[31m \u202e" in text
    assert all(line.isprintable() for line in text.splitlines())


# ---- the live line

HINT = "Ctrl-C ends and shows the report"


def test_live_line_on_a_terminal(backend: ModuleType, idle: processes.Process) -> None:
    with Job("watch", str(idle.pid)) as job:
        job.until(lambda: job.text.count(" samples") > 1)
        job.press("\x03")
        assert job.read_line() == "ended 0", job.text
        lines, report = job.text.rsplit("\x1b[K", 1)
    assert f"Watching process {idle.pid}: {HINT}\r\n" in lines
    assert re.search(r"\r\n\d\.\d s  Pss [0-9.]+ [KM]iB  peak [0-9.]+ [KM]iB  \d+ samples", lines)
    # Each one is removed, the last one before the report.
    assert lines.count(HINT) == job.text.count("\r\x1b[K\x1b[A\x1b[K")
    assert HINT not in report
    # The long command line is broken between words.
    assert f"(process {idle.pid}): watched for " in " ".join(report.split())
    assert max(map(len, report.replace("\r", "").splitlines())) <= 100
    assert "\x1b" not in report
    assert "SIZE" in report


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["env", "TERM=dumb", *COMMAND], 1),
        (["sh", "-c", '"$@" | cat', "sh", *COMMAND], 0),
        (["sh", "-c", '"$@" 2>/dev/null', "sh", *COMMAND], 0),
    ],
)
def test_live_line_only_where_it_can_be_removed(
    backend: ModuleType, idle: processes.Process, words: list[str], count: int
) -> None:
    with Job("watch", str(idle.pid), "--for", "1.2", command=words) as job:
        assert job.read_line() == "ended 0", job.text
    assert job.text.count(HINT) == count
    assert "\x1b" not in job.text
    assert "watched for" in " ".join(job.text.split())


def test_no_live_line_in_the_background(backend: ModuleType, idle: processes.Process) -> None:
    with Job("watch", str(idle.pid), "--for", "2") as job:
        job.until(lambda: HINT in job.text)
        job.press("\x1a")
        assert job.read_line() == f"stopped {int(signal.SIGTSTP)}", job.text
        before = job.text
        job.resume("bg")
        assert job.read_line() == "ended 0", job.text
    assert "watched for" in " ".join(job.text.split())
    assert "\x1b" not in job.text.removeprefix(before)


def test_no_live_line_beside_a_command(backend: ModuleType) -> None:
    with Job("watch", "--", "sh", "-c", "sleep 0.8; echo done") as job:
        assert job.read_line() == "ended 0", job.text
    assert HINT not in job.text
    assert "\x1b" not in job.text


def test_live_line_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    controller, terminal = os.openpty()
    monkeypatch.setenv("TERM", "xterm")
    try:
        with os.fdopen(terminal, "w", encoding="utf-8") as stream:
            monkeypatch.setattr(sys, "stderr", stream)
            for width, parts in ((80, "one  two  three  ▃█"), (20, "one  two  three"), (10, "one")):
                termios.tcsetwinsize(terminal, (10, width))
                with live_line.LiveLine("a title \x1b[31m") as line:
                    line.show(["one", "two", "three"], [1, 4])
                title = r"a title \x1b[31m"[: width - 3]
                text = ""
                # A terminal passes on a write in pieces.
                while not text.endswith("\x1b[A\x1b[K"):
                    assert processes.readable(controller), text
                    text += os.read(controller, 1 << 12).decode()
                assert text == f"{title}\r\n{parts}\r\x1b[K\x1b[A\x1b[K"
    finally:
        os.close(controller)


@given(st.lists(st.integers(0, 9), max_size=300))
def test_course_keeps_the_peak_and_the_end(values: list[int]) -> None:
    course = live_line.Course()
    for i, value in enumerate(values, 1):
        course.add(value)
        assert max(course.values) == max(values[:i])
        assert course.values[-1] >= value
        assert len(course.values) <= 40


# ---- files


def test_samples_are_written_to_parquet(
    backend: ModuleType, idle: processes.Process, tmp_path: Path
) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table, text = tmp_path / "samples.parquet", tmp_path / "samples.csv"
    watch_report(str(idle.pid), "--for", "0.1", *QUICK, "--parquet", str(table), "--csv", str(text))
    samples = parquet.read_table(table)
    with text.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert samples.column_names == [*rows[0], "extra_fields"]
    assert samples.schema.field("time").type == pa.timestamp("us", "UTC")
    assert samples.schema.field("elapsed").type == pa.float64()
    assert samples.schema.field("pss").type == samples.schema.field("nonlinear").type == pa.int64()
    for name in ("elapsed", "pss", "peak_rss", "nonlinear"):
        values = ["" if value is None else str(value) for value in samples[name].to_pylist()]
        assert values == [row[name] for row in rows]
    stamps = [value.timestamp() for value in samples["time"].to_pylist()]
    assert stamps == pytest.approx([float(row["time"]) for row in rows], abs=1e-5)


@pytest.mark.parametrize("option", ["--csv", "--parquet", "--plot", "--output"])
def test_unwritable_file_is_reported_before_start(
    backend: ModuleType, tmp_path: Path, option: str
) -> None:
    """The error comes before the command is started."""
    if option == "--parquet":
        pytest.importorskip("pyarrow")
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "link").symlink_to("kept")
    (tmp_path / "directory").mkdir()
    for name in ("missing/file", "link", "directory", "directory/", "kept/file"):
        path = f"{tmp_path}/{name}"
        done = run("watch", option, path, "--", "touch", f"{tmp_path}/ran", status=1)
        assert done.stdout == ""
        assert done.stderr.startswith(f"fastsmaps: cannot write {path}: ")
        assert done.stderr.count("\n") == 1
    assert sorted(os.listdir(tmp_path)) == ["directory", "kept", "link"]
    assert (tmp_path / "kept").read_text() == "kept"


def test_file_that_becomes_unwritable(backend: ModuleType, tmp_path: Path) -> None:
    """The exit status is the command's own, or 1 if that is 0."""
    directory = tmp_path / "directory"
    for shell, status in (("rmdir {}", 1), ("rmdir {}; exit 3", 3)):
        directory.mkdir()
        command = ("--csv", f"{directory}/file", "--", "sh", "-c", shell.format(directory))
        done = run("watch", *command, status=status)
        assert f"fastsmaps: cannot write {directory}/file" in done.stderr


def test_missing_package_is_named(backend: ModuleType, tmp_path: Path) -> None:
    code = WITHOUT_RICH.replace("rich", "pyarrow")
    words = ["watch", "--parquet", f"{tmp_path}/file", "touch", f"{tmp_path}/x"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True, text=True, check=False, env=environment(),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert 'pip install "pyarrow>=14"' in done.stderr
    assert os.listdir(tmp_path) == []


def test_usage_errors(backend: ModuleType, tmp_path: Path) -> None:
    for arguments in (
        (),
        ("--",),
        ("self", "other"),
        ("--for", "1", "--", "touch", f"{tmp_path}/ran"),
        ("--interval", "0", "touch", f"{tmp_path}/ran"),
        ("--interval", "soon", "self"),
        ("--budget", "2", "self"),
        ("touch", f"{tmp_path}/ran", "--unknown"),
    ):
        done = run("watch", *arguments, status=2)
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("fastsmaps: ")
    assert os.listdir(tmp_path) == []
