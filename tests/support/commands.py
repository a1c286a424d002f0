"""Helpers to run the command as a user does: captured, in a fork, on a terminal."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import locale
import os
import pty
import re
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
from fastsmaps.cli import main as cli
from support import processes
from support.independent import DATA

COMMAND = [sys.executable, "-m", "fastsmaps"]
ZOO = str(DATA / "captures/7.2-amd64/zoo/smaps")
#: Whether run() starts an interpreter for each command; pytest's option --spawn sets it.
spawns = False
OTHER = str(DATA / "captures/7.2-amd64/child/smaps")


def environment(**more: str) -> dict[str, str]:
    """Environment of a command that uses the tested backend."""
    return {**os.environ, "FASTSMAPS_BACKEND": fastsmaps.BACKEND, **more}


def run(*arguments: str, status: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command to its end and check its exit status."""
    options = {"env": environment(), **options}
    fork = not spawns and options.keys() <= {"env", "cwd", "input"}
    done = (_run_in_fork if fork else _run_in_interpreter)([*arguments], **options)
    assert done.returncode == status, (arguments, done.stdout[-500:], done.stderr)
    assert "Traceback" not in done.stderr
    return done


def _run_in_interpreter(arguments: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a new interpreter."""
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, **options
    )


def _run_in_fork(
    arguments: list[str],
    env: dict[str, str],
    cwd: str | Path | None = None,
    input: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the command in a fork of this process, saving the 80 ms of an interpreter's start."""
    with TemporaryFile() as stdin, TemporaryFile() as output, TemporaryFile() as errors:
        stdin.write((input or "").encode())
        stdin.seek(0)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                if input is not None:
                    os.dup2(stdin.fileno(), 0)
                os.dup2(output.fileno(), 1)
                os.dup2(errors.fileno(), 2)
                code = _call_entry(arguments, env, cwd)
            finally:
                os._exit(code)
        returncode = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        texts = []
        for file in (output, errors):
            file.seek(0)
            text = file.read().decode(locale.getencoding())
            texts.append(text.replace("\r\n", "\n").replace("\r", "\n"))
    return subprocess.CompletedProcess(arguments, returncode, *texts)


def _call_entry(arguments: list[str], env: dict[str, str], cwd: str | Path | None) -> int:
    """Call the entry point as an interpreter does at its start and end; return the exit status."""
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
        return 120  # Python's exit status where stdout cannot be flushed
    assert isinstance(code, int)
    return code


def json_rows(*arguments: str, status: int = 0) -> list[dict[str, Any]]:
    """Run the command with --json and parse its output."""
    rows: list[dict[str, Any]] = json.loads(run(*arguments, "--json", status=status).stdout)
    return rows


def csv_rows(*arguments: str) -> list[dict[str, str]]:
    """Run the command with --csv and parse its output."""
    return list(csv.DictReader(io.StringIO(run(*arguments, "--csv").stdout)))


def heads(line: str) -> list[str]:
    """Return the heads of a table's columns from its first line."""
    return re.split("  +", line.strip())


# ---- on a terminal

WITHOUT_RICH = """
import sys
sys.modules["rich"] = None
from fastsmaps.cli.main import entry
entry()
"""


# A shell's job control: it gives the terminal to its one job, reports when the job stops or ends,
# takes the terminal back, and continues a stopped job as the commands fg and bg do.
_SHELL = """
import fcntl, os, signal, subprocess, sys, termios

terminal = int(sys.argv[1])
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
# It must not stop when it takes the terminal back, nor end when the terminal is closed.
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
        pass  # the terminal is closed
    if not os.WIFSTOPPED(status):
        print("ended", os.waitstatus_to_exitcode(status), flush=True)
        break
    print("stopped", os.WSTOPSIG(status), flush=True)
    if sys.stdin.readline() == "fg\\n":
        os.tcsetpgrp(terminal, job.pid)
    os.kill(job.pid, signal.SIGCONT)
"""


class Job:
    """The command, started by a shell with job control on a terminal of 100 columns.

    ``text`` is the command's output, ``initial_modes`` the terminal's modes at its start.
    """

    def __init__(self, *arguments: str, command: list[str] = COMMAND) -> None:
        self._controller, self.terminal = pty.openpty()
        termios.tcsetwinsize(self.terminal, (30, 100))
        self.initial_modes = self.modes()
        self._output = b""
        self._shell_output = b""
        self._shell_lines_read = 0
        self._shell = subprocess.Popen(
            [sys.executable, "-c", _SHELL, str(self.terminal), *command, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True,
            pass_fds=[self.terminal], env=environment(TERM="xterm-256color", NO_COLOR=""),
        )  # fmt: skip
        self._pid = int(self.read_line().removeprefix("started "))

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        if b"ended" not in self._shell_output:
            self.signal(signal.SIGKILL)
        self._shell.kill()
        self._shell.communicate()
        self.hang_up()
        os.close(self.terminal)

    @property
    def text(self) -> str:
        return self._output.decode("utf-8", "replace")

    def modes(self) -> list[Any]:
        """Modes of the terminal, as tcgetattr() returns them."""
        return termios.tcgetattr(self.terminal)

    def until(self, condition: Callable[[], bool]) -> None:
        """Read output until the condition is true, then all that is pending."""
        assert self._shell.stdout is not None
        deadline = time.monotonic() + processes.TIMEOUT
        while True:
            met = condition()
            shell = self._shell.stdout.fileno()
            sources = [shell, self._controller] if self._controller >= 0 else [shell]
            ready = processes.readable(*sources, timeout=0 if met else 1)
            if self._controller in ready:
                self._output += os.read(self._controller, 1 << 16)
            elif met:
                return
            if shell in ready:
                self._shell_output += os.read(shell, 1 << 16)
            assert time.monotonic() < deadline, (self._shell_output, self._output)

    def read_line(self) -> str:
        """Read the shell's next line."""
        self.until(lambda: self._shell_output.count(b"\n") > self._shell_lines_read)
        self._shell_lines_read += 1
        return self._shell_output.decode().splitlines()[self._shell_lines_read - 1]

    def hang_up(self) -> None:
        """Close the terminal, as when its window is closed."""
        if self._controller >= 0:
            os.close(self._controller)
            self._controller = -1

    def end_shell(self) -> None:
        """Kill the shell, and wait until the command has ended by that."""
        command = os.pidfd_open(self._pid)
        try:
            self._shell.kill()
            assert processes.readable(command), "it goes on"
        finally:
            os.close(command)
        self._shell_output += b"ended"

    def press(self, keys: str) -> None:
        os.write(self._controller, keys.encode())

    def signal(self, number: int) -> None:
        """Send the command a signal."""
        os.kill(self._pid, number)

    def resume(self, order: str) -> None:
        """Let the shell continue the stopped command: "fg" or "bg"."""
        assert self._shell.stdin is not None
        self._shell.stdin.write(f"{order}\n".encode())


def on_terminal(*arguments: str, without_rich: bool = False, command: list[str] = COMMAND) -> str:
    """Return all output on a terminal."""
    if without_rich:
        command = [sys.executable, "-c", WITHOUT_RICH]
    with Job(*arguments, command=command) as job:
        assert job.read_line() == "ended 0", job.text
        assert job.modes() == job.initial_modes
        return job.text
