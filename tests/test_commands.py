"""Each command as a user runs it: text, JSON, CSV, order, errors and what ends it early."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import linux
import living
import pytest
from commands import COMMAND, environment, lines_of, rows_of, run
from independent import DATA

import fastsmaps

ZOO = str(DATA / "captures/7.2-amd64/zoo/smaps")
OTHER = str(DATA / "captures/7.2-amd64/child/smaps")


@pytest.fixture(scope="module")
def idle() -> Iterator[living.Process]:
    with living.playing("idle") as child:
        yield child


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, idle: living.Process) -> str:
    target = str(tmp_path_factory.mktemp("saved") / "two.tar.gz")
    fastsmaps.capture(target, [idle.pid, os.getpid()])
    return target


# ---- ps


def test_ps(backend: ModuleType, idle: living.Process) -> None:
    rows = {row["pid"]: row for row in rows_of("ps")}
    mine = rows[idle.pid]
    assert {"pid", "ppid", "comm", "user", "uid", "outcome", "rss", "pss", "uss", "swap"} <= set(
        mine
    )
    assert (mine["ppid"], mine["outcome"]) == (os.getpid(), "read")
    for row in rows.values():
        assert (row["outcome"] == "read") == (row["rss"] is not None)
    lines = {line["pid"]: line for line in lines_of("ps")}
    assert lines[str(idle.pid)]["rss"] == str(mine["rss"])
    text = run("ps", "--filter", "players").stdout.splitlines()
    assert text[0].split() == ["PID", "USER", "PSS", "USS", "RSS", "SWAP", "COMMAND"]
    assert any(line.split()[0] == str(idle.pid) for line in text)
    assert re.search(r"\d+ of \d+ processes read", text[-1])
    assert len(rows_of("ps", "--limit", "1")) == 1
    rss = [row["rss"] for row in rows_of("ps", "--sort", "rss") if row["rss"] is not None]
    assert rss == sorted(rss, reverse=True)
    pids = [row["pid"] for row in rows_of("ps", "--sort", "pid")]
    assert pids == sorted(pids)
    assert "MiB" in run("ps", "--human").stdout


def test_ps_by(backend: ModuleType, idle: living.Process) -> None:
    for by in ("comm", "user", "cgroup"):
        rows = rows_of("ps", "--by", by)
        assert all({by, "processes", "pss"} <= set(row) for row in rows)
        assert sum(row["processes"] for row in rows) > 1
    assert "total" in run("ps", "--by", "user").stdout


def test_ps_limits(backend: ModuleType, idle: living.Process) -> None:
    rows = {row["pid"]: row for row in rows_of("ps", "--max-rss", "1K")}
    assert rows[idle.pid]["outcome"] == "skipped"
    assert rows[idle.pid]["rss"] is None
    assert "skipped" in run("ps", "--max-rss", "1K").stdout
    rows = {row["pid"]: row for row in rows_of("ps", "--min-rss", "900G")}
    assert rows[idle.pid]["outcome"] == "skipped"
    assert {row["outcome"] for row in rows_of("ps", "--timeout", "0")} == {"skipped"}


def test_ps_of_a_capture(backend: ModuleType, saved: str, idle: living.Process) -> None:
    assert {row["pid"] for row in rows_of("ps", "--procfs", saved)} == {idle.pid, os.getpid()}


def test_a_damaged_capture(backend: ModuleType, saved: str, tmp_path: Path) -> None:
    """What is whole is shown, and one line says that there is more."""
    import gzip

    whole = gzip.decompress(Path(saved).read_bytes())
    (tmp_path / "short.tar").write_bytes(whole[: len(whole) * 2 // 3])
    done = run("ps", "--procfs", str(tmp_path / "short.tar"), status=1)
    assert done.stderr.startswith("fastsmaps: ")
    assert done.stderr.count("\n") == 1
    assert "processes read" in done.stdout
    (tmp_path / "garbage.tar").write_bytes(b"garbage" * 1000)
    assert run("ps", "--procfs", str(tmp_path / "garbage.tar"), status=1).stderr.count("\n") == 1
    assert run("ps", "--procfs", str(tmp_path / "nothing"), status=1).stderr.count("\n") == 1


def test_without_rights(backend: ModuleType, idle: living.Process) -> None:
    """What may be shown is; the rest is counted, and one line says what would help."""
    if os.geteuid() != 0:
        pytest.skip("only root becomes another user")

    def look(*arguments: str) -> tuple[int, str]:
        from fastsmaps.cli import main

        linux.become(linux.NOBODY)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            status = main(list(arguments))
        return status, out.getvalue()

    status, text = living.in_child(lambda: look("ps"))
    assert status == 0
    assert re.search(r"\d+ denied.*\nCAP_SYS_PTRACE would be enough", text)
    rows = json.loads(living.in_child(lambda: look("ps", "--json"))[1])
    (row,) = [row for row in rows if row["pid"] == idle.pid]
    assert (row["outcome"], row["rss"], row["uid"]) == ("denied", None, 0)
    assert living.in_child(lambda: look("totals", str(idle.pid)))[0] == 1


# ---- totals, maps, libs, diff


def test_totals(backend: ModuleType, idle: living.Process) -> None:
    (row,) = rows_of("totals", str(idle.pid))
    assert (row["pid"], row["source"]) == (idle.pid, "smaps_rollup")
    (line,) = lines_of("totals", ZOO)
    assert (line["pid"], line["source"], line["nonlinear"]) == ("", "smaps", "")
    assert line["pss"] == str(fastsmaps.load(ZOO).totals().pss)
    assert rows_of("totals", str(idle.pid), "--filter", "no such thing") == []
    assert run("totals", ZOO, OTHER).stdout.splitlines()[0].split()[0] == "KiB"
    assert run("totals", "0", status=1).stderr.count("\n") == 1


def test_maps(backend: ModuleType) -> None:
    rows = rows_of("maps", ZOO)
    wanted = {"start", "end", "perms", "offset", "dev", "inode", "path", "kind", "deleted"}
    assert all({*wanted, "vm_flags", "rss"} <= set(row) for row in rows)
    table = fastsmaps.load(ZOO)
    assert len(rows) == len(table) == len(lines_of("maps", ZOO))
    kinds = {row["kind"]: row for row in rows_of("maps", ZOO, "--by", "kind")}
    groups = table.group_by("kind")
    assert {kind: row["pss"] for kind, row in kinds.items()} == {
        kind: group.totals.pss for kind, group in groups.items()
    }
    some = rows_of("maps", ZOO, "--by", "path", "--filter", "memfd")
    assert some
    assert all("memfd" in row["path"] for row in some)
    text = run("maps", ZOO, "--fields", "rss,swap,Locked").stdout.splitlines()
    assert text[0].split() == ["ADDRESS", "PERMS", "RSS", "SWAP", "LOCKED", "KIND", "PATH"]
    assert text[-1].startswith("total")
    assert rows_of("maps", ZOO, "--sort=-pss", "--limit", "1")[0]["pss"] == max(
        row["pss"] for row in rows
    )


def test_libs(backend: ModuleType, idle: living.Process) -> None:
    rows = rows_of("libs", str(idle.pid))
    assert all({"path", "processes", "pss"} <= set(row) for row in rows)
    assert {row["processes"] for row in rows} == {1}
    found = rows_of("libs", "--filter", "libc")
    assert all("libc" in row["path"] for row in found)
    assert "processes read" in run("libs").stdout
    assert run("libs", "1x", status=2).stderr.count("\n") == 1
    run("libs", str(living.reaped()), status=1)


def test_diff(backend: ModuleType, saved: str, idle: living.Process) -> None:
    rows = rows_of("diff", ZOO, OTHER)
    expected = fastsmaps.diff(fastsmaps.load(ZOO), fastsmaps.load(OTHER))
    assert [(row["path"], row["change"]) for row in rows] == [(c.key, c.pss) for c in expected]
    assert all(row["new"] - row["old"] == row["change"] for row in rows)
    assert rows_of("diff", ZOO, ZOO) == []
    text = run("diff", ZOO, OTHER).stdout
    assert "PATH" in text
    assert "(no name)" in text
    assert rows_of("diff", saved, saved) == []
    run("diff", str(idle.pid), "--after", "0")
    for wrong in (("diff", ZOO), ("diff", ZOO, "--after", "1"), ("diff", ZOO, saved)):
        assert run(*wrong, status=2).stderr.count("\n") == 1
    assert run("diff", ZOO, "nothing-there", status=1).stderr.count("\n") == 1


# ---- capture


def test_capture(backend: ModuleType, tmp_path: Path, idle: living.Process) -> None:
    target = str(tmp_path / "one.tar")
    text = run("capture", "-o", target, str(idle.pid)).stdout
    assert f"{target}: 1 of 1 processes read" in text
    (row,) = rows_of("ps", "--procfs", target)
    assert row["pid"] == idle.pid
    gone = living.reaped()
    done = run("capture", "-o", str(tmp_path / "two"), str(idle.pid), str(gone), status=1)
    assert done.stderr.count("\n") == 1
    assert [row["pid"] for row in rows_of("ps", "--procfs", str(tmp_path / "two"))] == [idle.pid]
    run("capture", "-o", str(tmp_path / "two"), str(idle.pid), status=1)  # it is there
    assert run("capture", "-o", "/nowhere/x.tar", str(idle.pid), status=1).stderr.count("\n") == 1
    run("capture", status=2)
    some = str(tmp_path / "some.tar")
    run("capture", "-o", some, "--filter", "players.py")
    assert idle.pid in {row["pid"] for row in rows_of("ps", "--procfs", some)}


# ---- what all have in common


def test_wrong_use(backend: ModuleType) -> None:
    for arguments in (
        ("nonsense",),
        ("ps", "--sort", "nonsense"),
        ("ps", "--filter", "("),
        ("ps", "--limit", "-1"),
        ("ps", "--max-rss", "much"),
        ("ps", "--json", "--csv"),
        ("ps", "--by", "nonsense"),
        ("maps",),
        ("maps", ZOO, "--fields", "nonsense"),
        ("top", "--budget", "7"),
        ("ps", "--sort", "\x1b[31m"),
    ):
        done = run(*arguments, status=2)
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("fastsmaps: ")
        assert "\x1b" not in done.stderr


def test_help(backend: ModuleType) -> None:
    for command in ("ps", "totals", "maps", "libs", "diff", "top", "capture"):
        text = run(command, "--help").stdout
        assert "examples:" in text
        assert f"fastsmaps {command}" in text
        assert command in run("--help").stdout


HOSTILE = b'/tmp/\x1b[31m\xff\x07[red]x[/red]\xe2\x80\xae,"quoted"'


def test_hostile_names(backend: ModuleType, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(DATA / "captures/7.2-amd64/zoo", tmp_path / "host" / "7")
    for name in ("smaps", "maps"):
        place = tmp_path / "host" / "7" / name
        place.chmod(0o600)
        place.write_bytes(
            place.read_bytes() + b"7fffffff0000-7fffffff1000 r--p 0 0:0 5 " + HOSTILE + b"\n"
        )
    (tmp_path / "host" / "7" / "cmdline").write_bytes(HOSTILE + b"\0")
    stat = (tmp_path / "host/7/stat").read_bytes()
    (tmp_path / "host/7/stat").chmod(0o600)
    (tmp_path / "host/7/stat").write_bytes(b"7 (" + HOSTILE[:15] + b")" + stat.rpartition(b")")[2])
    root = ("--procfs", str(tmp_path / "host"))
    for command in (("ps",), ("ps", "--by", "comm"), ("maps", "7"), ("libs",), ("top",)):
        for form in ((), ("--json",), ("--csv",)):
            text = run(*command, *root, *form).stdout
            assert all(line.isprintable() for line in text.splitlines()), (command, form)
    assert r"/tmp/\x1b[31m\xff\x07[red]x[/red]\u202e" in run("ps", *root).stdout
    assert r"/tmp/\x1b[31m\xff\x07[red]x[/red]\u202e" in run("maps", "7", *root).stdout
    assert on_terminal("maps", "7", *root).count("\x1b[31m") == 0


def test_a_closed_pipe(backend: ModuleType) -> None:
    for command in ("ps", f"maps {ZOO}", f"maps {ZOO} --json", "libs --csv", "top"):
        shell = f"{sys.executable} -m fastsmaps {command} | head -n 1"
        done = subprocess.run(
            ["bash", "-c", shell], capture_output=True, text=True, check=True, env=environment()
        )
        assert done.stderr == ""
        assert done.stdout


def test_a_full_disk(backend: ModuleType) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "ps"], stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            env=environment(),
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [("maps", "-"), ("totals", "-"), ("diff", "self", "--after", "3600"),
                  ("top", "--iterations", "9", "--interval", "3600")],
)  # fmt: skip
def test_interrupted(backend: ModuleType, arguments: tuple[str, ...]) -> None:
    """Ctrl-C while it waits: no traceback."""
    command = [sys.executable, "-c", _INTERRUPTIBLE, *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment(),
    ) as child:  # fmt: skip
        assert child.stderr is not None
        assert child.stderr.readline() == b"ready\n"
        child.send_signal(signal.SIGINT)
        _, error = child.communicate(timeout=living.PATIENCE)
        assert (child.returncode, error) == (128 + signal.SIGINT, b"")


def unread(fd: int) -> int:
    """How many bytes are in a pipe."""
    return struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "arguments",
    [
        ("ps", "--json", "--procfs"),
        ("libs", "--procfs"),
        ("top", "--procfs"),
        ("capture", "-o", "nothing.tar", "--procfs"),
        ("maps",),
        ("diff", "self"),
    ],
    ids=" ".join,
)
def test_interrupted_while_it_reads(
    backend: ModuleType, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    """It has opened a pipe that says nothing; what it made until then is gone afterwards."""
    fifo, temporary = tmp_path / "fifo", tmp_path / "temporary"
    os.mkfifo(fifo)
    temporary.mkdir()
    with subprocess.Popen(
        [*COMMAND, *arguments, str(fifo)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=environment(TMPDIR=str(temporary)),
    ) as child:
        # Comes back once the other side opens it too; what is written is gone once it reads.
        with open(fifo, "wb", buffering=0) as pipe:
            pipe.write(b"7")
            while unread(pipe.fileno()):
                assert child.poll() is None
            output = error = None
            while output is None:
                # One that comes just before a read does not end it: then it is sent again.
                child.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    output, error = child.communicate(timeout=5)
        assert (child.returncode, output, error) == (128 + signal.SIGINT, b"", b"")
    assert os.listdir(temporary) == []
    assert not (tmp_path / "nothing.tar").exists()


_INTERRUPTIBLE = """
import sys
import fastsmaps.cli
main = fastsmaps.cli.main

def ready():
    sys.stderr.write("ready\\n"); sys.stderr.flush()
    return main()

fastsmaps.cli.main = ready
fastsmaps.cli.entry()
"""

WITHOUT_RICH = """
import sys
sys.modules["rich"] = None
from fastsmaps.cli import entry
entry()
"""


def on_terminal(
    *arguments: str, keys: str = "", without_rich: bool = False, end_by: int | None = None
) -> str:
    """What a terminal of 100 columns gets; each key is sent once more came, then the signal."""
    command = [sys.executable, "-c", WITHOUT_RICH] if without_rich else COMMAND
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (30, 100))
    before = termios.tcgetattr(theirs)
    child = subprocess.Popen(
        [*command, *arguments], stdin=theirs, stdout=theirs, stderr=theirs,
        env=environment(TERM="xterm-256color", NO_COLOR=""), start_new_session=True,
    )  # fmt: skip
    text = b""
    left = list(keys)
    signalled = False
    deadline = time.monotonic() + living.PATIENCE
    try:
        while child.poll() is None or select.select([ours], [], [], 0)[0]:
            assert time.monotonic() < deadline, text
            if not select.select([ours], [], [], 0.05)[0]:
                continue
            text += os.read(ours, 1 << 16)
            # A key for each screen that was drawn.
            if left and text.count(b"q quits") > len(keys) - len(left):
                os.write(ours, left.pop(0).encode())
            elif end_by is not None and not signalled and b"q quits" in text:
                child.send_signal(end_by)
                signalled = True
        assert termios.tcgetattr(theirs) == before
        assert child.returncode == (0 if end_by is None else 128 + end_by), text
    finally:
        child.kill()
        child.wait()
        os.close(ours)
        os.close(theirs)
    return text.decode("utf-8", "replace")


@pytest.mark.parametrize("without_rich", [False, True])
def test_on_a_terminal(backend: ModuleType, without_rich: bool) -> None:
    for arguments in (("ps",), ("maps", ZOO, "--by", "kind"), ("totals", ZOO)):
        text = on_terminal(*arguments, without_rich=without_rich)
        assert ("\x1b[" in text) == (not without_rich)
        plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
        assert max(map(len, plain.splitlines())) <= 100
    assert "\x1b" not in run("ps").stdout


@pytest.mark.parametrize("without_rich", [False, True])
def test_top(backend: ModuleType, without_rich: bool) -> None:
    text = on_terminal("top", "--interval", "3600", keys="rRcq", without_rich=without_rich)
    for word in ("by pss", "by rss", "by command", "q quits", "COMMAND", "budget 1.0%", "upwards"):
        assert word in text
    assert text.rstrip().endswith("\x1b[?1049l")
    assert "\x1b[?25h" in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_top_ended_by_a_signal(backend: ModuleType, number: int) -> None:
    """The terminal is as it was before: on_terminal() compares."""
    text = on_terminal("top", "--interval", "3600", end_by=number)
    assert text.rstrip().endswith("\x1b[?25h\x1b[?1049l")
    assert "Traceback" not in text


def test_standard_output_is_closed(backend: ModuleType) -> None:
    shell = f"{sys.executable} -m fastsmaps ps >&-"
    done = subprocess.run(
        ["bash", "-c", shell], stderr=subprocess.PIPE, text=True, check=True, env=environment()
    )
    assert done.stderr == ""


def test_top_for_programs(backend: ModuleType, idle: living.Process) -> None:
    rows = {row["pid"]: row for row in rows_of("top")}
    assert rows[idle.pid]["estimated"] is False
    assert rows[idle.pid]["age"] >= 0
    text = run("top", "--iterations", "2", "--interval", "0", "--limit", "1").stdout
    assert text.count("COMMAND") == 2
