"""Commands that end early: closed pipes, a full disk, Ctrl-C."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path
from types import ModuleType

import pytest

import fastsmaps
from support import processes
from support.commands import COMMAND, ZOO, environment

_INTERRUPTIBLE = """
import sys
import fastsmaps.cli.main
main = fastsmaps.cli.main.main

def ready():
    sys.stderr.write("ready\\n"); sys.stderr.flush()
    return main()

fastsmaps.cli.main.main = ready
fastsmaps.cli.main.entry()
"""


def test_closed_pipe_is_quiet(backend: ModuleType) -> None:
    for command in ("ps", f"maps {ZOO}", f"maps {ZOO} --json", "libs --csv", "top"):
        shell = f"{sys.executable} -m fastsmaps {command} | head -n 1"
        done = subprocess.run(
            ["bash", "-c", shell], capture_output=True, text=True, check=True, env=environment()
        )
        assert done.stderr == ""
        assert done.stdout


def test_full_disk_is_reported(backend: ModuleType) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "ps"], stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            env=environment(),
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["--version", "--help", "ps --help"])
def test_unwritable_output_of_argparse(backend: ModuleType, command: str) -> None:
    """For these argparse raises SystemExit itself."""
    reader, closed = os.pipe()
    os.close(reader)
    full = os.open("/dev/full", os.O_WRONLY)
    for output, status, lines in ((full, 1, 1), (closed, 128 + signal.SIGPIPE, 0)):
        done = subprocess.run(
            [*COMMAND, *command.split()], stdout=output, stderr=subprocess.PIPE, text=True,
            check=False, env=environment(),
        )  # fmt: skip
        os.close(output)
        assert (done.returncode, done.stderr.count("\n")) == (status, lines), done.stderr


def test_closed_standard_output_is_reported(backend: ModuleType) -> None:
    shell = f"{sys.executable} -m fastsmaps ps >&-"
    done = subprocess.run(
        ["bash", "-c", shell], stderr=subprocess.PIPE, text=True, check=True, env=environment()
    )
    assert done.stderr == ""


@pytest.mark.parametrize(
    "arguments", [("maps", "-"), ("totals", "-"), ("diff", "self", "--after", "3600"),
                  ("top", "--iterations", "9", "--interval", "3600")],
)  # fmt: skip
def test_sigint_ends_without_traceback(backend: ModuleType, arguments: tuple[str, ...]) -> None:
    """Ctrl-C while it waits shows no traceback."""
    command = [sys.executable, "-c", _INTERRUPTIBLE, *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment(),
    ) as child:  # fmt: skip
        assert child.stderr is not None
        assert child.stderr.readline() == b"ready\n"
        child.send_signal(signal.SIGINT)
        # An interrupt that an import swallowed comes again; until then standard input stays open.
        child.wait(timeout=processes.TIMEOUT)
        _, error = child.communicate()
        assert (child.returncode, error) == (128 + signal.SIGINT, b"")


_INTERRUPTED_IN_A_FINALIZER = """
import os, signal, time
import fastsmaps.cli.main

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(3600)

def main():
    Finalized()
    with open(os.pipe()[0], "rb") as silent:
        silent.read()

fastsmaps.cli.main.main = main
fastsmaps.cli.main.entry()
"""


def test_sigint_in_finalizer_is_not_lost(backend: ModuleType) -> None:
    """Python only prints a KeyboardInterrupt raised in a finalizer; the command must still end."""
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED_IN_A_FINALIZER],
        capture_output=True, check=False, env=environment(), timeout=processes.TIMEOUT,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, b"", b"")


def unread(fd: int) -> int:
    """Count the unread bytes in a pipe."""
    return struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "arguments",
    [
        ("ps", "--json", "--procfs"),
        ("libs", "--procfs"),
        ("top", "--procfs"),
        ("capture", "-o", "capture.tar", "--procfs"),
        ("maps",),
        ("diff", "self"),
    ],
    ids=" ".join,
)
def test_sigint_while_reading_a_pipe(
    backend: ModuleType, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    """It has opened an empty pipe; files that it made until then are removed."""
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
        # open() returns once the command opens the pipe; the byte is gone once it reads.
        with open(fifo, "wb", buffering=0) as pipe:
            pipe.write(b"7")
            while unread(pipe.fileno()):
                assert child.poll() is None
            output = error = None
            while output is None:
                # A signal that arrives just before a read does not end it, so it is sent again.
                child.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    output, error = child.communicate(timeout=5)
        assert (child.returncode, output, error) == (128 + signal.SIGINT, b"", b"")
    assert os.listdir(temporary) == []
    assert not (tmp_path / "capture.tar").exists()


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-", "2>&1 >/dev/null | true"])
@pytest.mark.parametrize(
    ("command", "status"),
    [("totals 999999999", 1), ("totals --nosuch", 2), ("ps", 0), ("ps --nosuch", 2),
     ("watch -- sh -c 'exit 3'", 3), ("watch -- nosuchprogram", 127), ("--version", 0),
     ("maps /nothing", 1)],
)  # fmt: skip
def test_unwritable_standard_error_keeps_exit_status(
    backend: ModuleType, command: str, status: int, where: str, unbuffered: str
) -> None:
    """The exit status stays the same: unwritten buffers must not change it to 120."""
    shell = f"{sys.executable} -m fastsmaps {command} {where}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", shell], capture_output=True, check=False,
        env=environment(PYTHONUNBUFFERED=unbuffered),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (status, b"")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["--version", "--help", "ps --help", "ps", "totals self"])
@pytest.mark.parametrize("errors", ["", "2>/dev/full", "2>&-"])
def test_unwritable_standard_output_and_error(
    backend: ModuleType, command: str, errors: str, unbuffered: str
) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m fastsmaps {command} >/dev/full {errors}"],
        capture_output=True, text=True, check=False, env=environment(PYTHONUNBUFFERED=unbuffered),
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == (0 if errors else 1)


def test_opened_files_never_get_standard_descriptors(backend: ModuleType, tmp_path: Path) -> None:
    """A file opened as descriptor 2 would receive the error messages."""
    shell = f"{sys.executable} -m fastsmaps capture -o {tmp_path}/c.tar $$ 999999999 <&- >&- 2>&-"
    subprocess.run(["bash", "-c", shell], check=False, env=environment())
    with fastsmaps.open_capture(tmp_path / "c.tar") as directory:
        assert "fastsmaps.json" in os.listdir(directory)


@pytest.mark.parametrize("name", ["array", "argparse", "re", "json", "tempfile", "zlib", "signal"])
def test_nothing_is_imported_from_the_working_directory(tmp_path: Path, name: str) -> None:
    """The directory may belong to another user."""
    (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')\n")
    for word in (["-m", "fastsmaps"], ["-mfastsmaps"], ["-Bm", "fastsmaps.__main__"]):
        for arguments in (["--version"], ["totals", "self"], ["-m"]):
            done = subprocess.run(
                [sys.executable, *word, *arguments], cwd=tmp_path, capture_output=True, text=True,
                check=False, env=environment(),
            )  # fmt: skip
            assert "imported" not in done.stderr
            assert done.returncode == (2 if arguments == ["-m"] else 0)


def test_sys_path_of_other_programs_is_unchanged(tmp_path: Path) -> None:
    (tmp_path / "program").mkdir()
    code = "import fastsmaps, sys\nprint(sys.path[0])\n"
    (tmp_path / "program/__init__.py").write_text(code)
    (tmp_path / "program/__main__.py").write_text("")
    (tmp_path / "motherfastsmaps.py").write_text(code)
    for name in ("program", "motherfastsmaps"):
        done = subprocess.run(
            [sys.executable, "-m", name, "fastsmaps"], cwd=tmp_path, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        assert done.stdout == f"{tmp_path}\n"
