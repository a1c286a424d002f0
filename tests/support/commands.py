"""The command as a user runs it: what tests of it have in common."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import locale
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import fastsmaps
from fastsmaps import cli
from support import processes
from support.independent import DATA

COMMAND = [sys.executable, "-m", "fastsmaps"]
ZOO = str(DATA / "captures/7.2-amd64/zoo/smaps")
#: Whether run() starts an interpreter for each command; pytest's option --spawn sets it.
spawns = False
OTHER = str(DATA / "captures/7.2-amd64/child/smaps")


def environment(**more: str) -> dict[str, str]:
    """With the backend that is tested."""
    return {**os.environ, "FASTSMAPS_BACKEND": fastsmaps.BACKEND, **more}


def run(*arguments: str, status: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, which must be as expected."""
    options = {"env": environment(), **options}
    forks = not spawns and options.keys() <= {"env", "cwd", "input"}
    done = (_forked if forks else _spawned)([*arguments], **options)
    assert done.returncode == status, (arguments, done.stdout[-500:], done.stderr)
    assert "Traceback" not in done.stderr
    return done


def _spawned(arguments: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in an interpreter of its own."""
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, **options
    )


def _forked(
    arguments: list[str],
    env: dict[str, str],
    cwd: str | Path | None = None,
    input: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the command in a fork of this process: no start of an interpreter, which takes 80 ms."""
    with TemporaryFile() as given, TemporaryFile() as output, TemporaryFile() as errors:
        given.write((input or "").encode())
        given.seek(0)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                if input is not None:
                    os.dup2(given.fileno(), 0)
                os.dup2(output.fileno(), 1)
                os.dup2(errors.fileno(), 2)
                code = _as_command(arguments, env, cwd)
            finally:
                os._exit(code)
        returncode = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        texts = []
        for file in (output, errors):
            file.seek(0)
            text = file.read().decode(locale.getencoding())
            texts.append(text.replace("\r\n", "\n").replace("\r", "\n"))
    return subprocess.CompletedProcess(arguments, returncode, *texts)


def _as_command(arguments: list[str], env: dict[str, str], cwd: str | Path | None) -> int:
    """Give the exit status of the command, with what an interpreter does before and after it."""
    sys.stdin, sys.stdout, sys.stderr = (open(fd, mode) for fd, mode in enumerate("rww"))
    try:
        if cwd is not None:
            os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        sys.argv = ["fastsmaps", *arguments]
        cli.entry()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    try:
        sys.stdout.flush()
    except OSError:
        return 120  # as Python has it
    assert isinstance(code, int)
    return code


def json_rows(*arguments: str, status: int = 0) -> list[dict[str, Any]]:
    """What --json says."""
    rows: list[dict[str, Any]] = json.loads(run(*arguments, "--json", status=status).stdout)
    return rows


def csv_rows(*arguments: str) -> list[dict[str, str]]:
    """What --csv says."""
    return list(csv.DictReader(io.StringIO(run(*arguments, "--csv").stdout)))


# ---- on a terminal

WITHOUT_RICH = """
import sys
sys.modules["rich"] = None
from fastsmaps.cli import entry
entry()
"""

#: What each of top's screens ends with.
SCREEN = "\x1b[J"

# A shell as far as job control goes: it gives the terminal to its one job, says when that stops
# or ends, takes the terminal back, and does with a stopped job what it is told, as fg and bg do.
_SHELL = """
import fcntl, os, signal, subprocess, sys, termios

terminal = int(sys.argv[1])
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
# Neither is it stopped when it takes the terminal back, nor ended when that goes away.
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)

def begin():
    os.setpgid(0, 0)
    os.tcsetpgrp(terminal, os.getpid())
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)

job = subprocess.Popen(
    sys.argv[2:], stdin=terminal, stdout=terminal, stderr=terminal, preexec_fn=begin
)
print("started", job.pid, flush=True)
while True:
    status = os.waitpid(job.pid, os.WUNTRACED)[1]
    try:
        os.tcsetpgrp(terminal, os.getpgrp())
    except OSError:
        pass  # it is gone
    if not os.WIFSTOPPED(status):
        print("ended", os.waitstatus_to_exitcode(status), flush=True)
        break
    print("stopped", os.WSTOPSIG(status), flush=True)
    if sys.stdin.readline() == "fg\\n":
        os.tcsetpgrp(terminal, job.pid)
    os.kill(job.pid, signal.SIGCONT)
"""


class Job:
    """The command in front of a terminal of 100 columns, which a shell started.

    ``text`` is what the terminal got, ``before`` its modes when the command began.
    """

    def __init__(self, *arguments: str, command: list[str] = COMMAND) -> None:
        self._controller, self.terminal = pty.openpty()
        termios.tcsetwinsize(self.terminal, (30, 100))
        self.initial_modes = self.modes()
        self._got = b""
        self._said = b""
        self._heard = 0
        self._shell = subprocess.Popen(
            [sys.executable, "-c", _SHELL, str(self.terminal), *command, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True,
            pass_fds=[self.terminal], env=environment(TERM="xterm-256color", NO_COLOR=""),
        )  # fmt: skip
        self._pid = int(self.read_line().removeprefix("started "))

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        if b"ended" not in self._said:
            self.signal(signal.SIGKILL)
        self._shell.kill()
        self._shell.communicate()
        self.hang_up()
        os.close(self.terminal)

    @property
    def text(self) -> str:
        return self._got.decode("utf-8", "replace")

    @property
    def screens(self) -> int:
        """How often top drew its screen."""
        return self.text.count(SCREEN)

    def modes(self) -> list[Any]:
        """The terminal's."""
        return termios.tcgetattr(self.terminal)

    def until(self, condition: Callable[[], bool]) -> None:
        """Listens until it is true, and to all that came until then."""
        assert self._shell.stdout is not None
        deadline = time.monotonic() + processes.TIMEOUT
        while True:
            met = condition()
            heard = [self._shell.stdout.fileno(), *[self._controller] * (self._controller >= 0)]
            ready = select.select(heard, [], [], 0 if met else 1)[0]
            if self._controller in ready:
                self._got += os.read(self._controller, 1 << 16)
            elif met:
                return
            if heard[0] in ready:
                self._said += os.read(heard[0], 1 << 16)
            assert time.monotonic() < deadline, (self._said, self._got)

    def read_line(self) -> str:
        """The next line that the shell says."""
        self.until(lambda: self._said.count(b"\n") > self._heard)
        self._heard += 1
        return self._said.decode().splitlines()[self._heard - 1]

    def hang_up(self) -> None:
        """As when a terminal's window is closed."""
        if self._controller >= 0:
            os.close(self._controller)
            self._controller = -1

    def press(self, keys: str) -> None:
        os.write(self._controller, keys.encode())

    def signal(self, number: int) -> None:
        """Sends the command a signal."""
        os.kill(self._pid, number)

    def resume(self, order: str) -> None:
        """Has the shell go on with the command that stopped: "fg" or "bg"."""
        assert self._shell.stdin is not None
        self._shell.stdin.write(f"{order}\n".encode())


def on_terminal(
    *arguments: str, keys: str = "", without_rich: bool = False, command: list[str] = COMMAND
) -> str:
    """What a terminal gets until the command ends; each key is pressed after one more screen."""
    if without_rich:
        command = [sys.executable, "-c", WITHOUT_RICH]
    with Job(*arguments, command=command) as job:
        for count, key in enumerate(keys, 1):
            job.until(lambda count=count: job.screens >= count)  # type: ignore[misc]
            job.press(key)
        assert job.read_line() == "ended 0", job.text
        assert job.modes() == job.initial_modes
        return job.text
