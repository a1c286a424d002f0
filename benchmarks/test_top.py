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
from pathlib import Path

import pytest
from herd import herd
from results import Result

Record = Callable[[Result], None]

# The command, which notes when each scan ends.
CODE = """
import sys, time
import fastsmaps
from fastsmaps.cli.main import entry

path = sys.argv.pop(1)
real_sweep = fastsmaps.Sampler.sweep

def sweep(self):
    scan = real_sweep(self)
    with open(path, "a") as file:
        print(time.monotonic(), len(scan), file=file)
    return scan

fastsmaps.Sampler.sweep = sweep
entry()
"""
WARM_UP, SECONDS = 6.0, 30.0


class Screen:
    """The command on a terminal."""

    def __init__(self, size: tuple[int, int], scans: Path) -> None:
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, size)
        self.process = subprocess.Popen(
            [sys.executable, "-c", CODE, str(scans), "top"],
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
def screen(size: tuple[int, int], scans: Path) -> Iterator[Screen]:
    """Run the command on a terminal; q ends it."""
    started = Screen(size, scans)
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
def test_screen(record: Record, tmp_path: Path, count: int, size: tuple[int, int]) -> None:
    """Measure beside many processes that do nothing, after the first seconds."""
    scans = tmp_path / "scans"
    with herd(count), screen(size, scans) as top:
        shown = top.until("COMMAND")
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
    scanned, processes = scans.read_text().split(maxsplit=2)[:2]
    assert int(processes) >= count
    what = f"top, {count:,} processes, {size[1]}x{size[0]}"
    record(Result(f"{what}: share of one core", f"{share:.2%}", "", share, 0.02))
    delay = (shown - float(scanned)) * 1e3
    record(Result(f"{what}: first list, after the first scan", "", "", delay, 500, unit="ms"))
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
