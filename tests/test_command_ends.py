"""What ends a command early: closed pipes, a full disk, Ctrl-C."""

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

import living
import pytest
from commands import COMMAND, ZOO, environment

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


@pytest.mark.parametrize("command", ["--version", "--help", "ps --help"])
def test_what_argparse_prints(backend: ModuleType, command: str) -> None:
    """It leaves by an exception of its own."""
    buffered = environment()
    buffered.pop("PYTHONUNBUFFERED", None)
    reader, closed = os.pipe()
    os.close(reader)
    full = os.open("/dev/full", os.O_WRONLY)
    for output, status, lines in ((full, 1, 1), (closed, 128 + signal.SIGPIPE, 0)):
        done = subprocess.run(
            [*COMMAND, *command.split()], stdout=output, stderr=subprocess.PIPE, text=True,
            check=False, env=buffered,
        )  # fmt: skip
        os.close(output)
        assert (done.returncode, done.stderr.count("\n")) == (status, lines), done.stderr


def test_standard_output_is_closed(backend: ModuleType) -> None:
    shell = f"{sys.executable} -m fastsmaps ps >&-"
    done = subprocess.run(
        ["bash", "-c", shell], stderr=subprocess.PIPE, text=True, check=True, env=environment()
    )
    assert done.stderr == ""


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


_INTERRUPTED_IN_A_FINALIZER = """
import os, signal, time
import fastsmaps.cli

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(3600)

def main():
    Finalized()
    with open(os.pipe()[0], "rb") as silent:
        silent.read()

fastsmaps.cli.main = main
fastsmaps.cli.entry()
"""


def test_interrupted_where_exceptions_are_ignored(backend: ModuleType) -> None:
    """In a finalizer Python tells of a KeyboardInterrupt and goes on: it must not be lost."""
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED_IN_A_FINALIZER],
        capture_output=True, check=False, env=environment(), timeout=living.PATIENCE,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, b"", b"")


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
