"""The live screen: when it begins, how fast it answers a key, and what the whole command takes."""

from __future__ import annotations

import os
import pty
import select
import statistics
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from herd import herd
from results import Result

Record = Callable[[Result], None]

COMMAND = [sys.executable, "-m", "fastsmaps", "top"]
WARM_UP, SECONDS = 6.0, 30.0


class Screen:
    """The command on a terminal."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, size)
        self.begun = time.monotonic()
        self.process = subprocess.Popen(
            COMMAND,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm-256color"},
        )
        os.close(slave)

    def until(self, text: str) -> float:
        """Read until the screen shows a text; return the time."""
        seen = b""
        while text.encode() not in seen:
            assert select.select([self.master], [], [], 60)[0], seen[-500:]
            seen += os.read(self.master, 1 << 16)
        return time.monotonic()

    def drain(self, seconds: float) -> None:
        """Read what is drawn for some time."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([self.master], [], [], left)[0]:
                os.read(self.master, 1 << 16)

    def cpu(self) -> float:
        """Return the CPU time of the command, in seconds (proc_pid_stat(5))."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def screen(size: tuple[int, int]) -> Iterator[Screen]:
    """Run the command on a terminal; q ends it."""
    started = Screen(size)
    try:
        yield started
        os.write(started.master, b"q")
        with suppress(OSError):  # EIO: the command has closed the terminal
            while os.read(started.master, 1 << 16):
                pass
        assert started.process.wait() == 0
    finally:
        started.process.kill()
        started.process.wait()
        os.close(started.master)


@pytest.mark.parametrize("size", [(24, 80), (50, 200)])
@pytest.mark.parametrize("count", [200, 3000])
def test_screen(record: Record, count: int, size: tuple[int, int]) -> None:
    """Compare with one table in a pipe, which reads the same, and with the budget of 1 %."""
    with herd(count), screen(size) as top:
        shown = top.until("COMMAND") - top.begun
        top.drain(WARM_UP)
        cpu, wall = top.cpu(), time.monotonic()
        top.drain(SECONDS)
        share = (top.cpu() - cpu) / (time.monotonic() - wall)
        reactions = []
        for key, head in [(b"N", "PID▲"), (b"P", "PSS▼")] * 10:
            pressed = time.monotonic()
            os.write(top.master, key)
            reactions.append(top.until(head) - pressed)
            top.drain(0.1)
        begun = time.monotonic()
        table = subprocess.run([*COMMAND, "--iterations", "1"], capture_output=True, check=True)
        plain = time.monotonic() - begun
        assert table.stdout.count(b"herd") >= count
    what = f"top, {count:,} processes, {size[1]}x{size[0]}"
    record(Result(f"{what}: share of one core", f"{share:.2%}", "", share, 0.02))
    record(
        Result(
            f"{what}: first list, beyond one table in a pipe",
            f"{shown * 1e3:.0f} ms",
            f"{plain * 1e3:.0f} ms",
            (shown - plain) * 1e3,
            500,
            unit="ms",
        )
    )
    record(
        Result(
            f"{what}: a key",
            f"{statistics.median(reactions) * 1e3:.0f} ms",
            "",
            max(reactions) * 1e3,
            100,
            unit="ms",
            also="the slowest of 20",
        )
    )
