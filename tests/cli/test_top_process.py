"""The screen of one process in fastsmaps top, driven by Textual's Pilot."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import fastsmaps
from fastsmaps import Mappings
from fastsmaps.cli.screen import process_screen
from fastsmaps.cli.screen.mappings import MappingRows
from fastsmaps.cli.screen.process_screen import ProcessScreen
from support import processes
from support.screens import (
    TopPilot,
    lines,
    replace,
    rows,
    run_top,
    screen_text,
    until,
    until_shown,
    write_host,
)
from support.smaps_texts import header, kb


@pytest.fixture
def host(tmp_path: Path) -> str:
    return write_host(tmp_path / "host")


GROWER = """
import mmap, sys
kept = []
print("ready", flush=True)
for line in sys.stdin:
    kept.append(mmap.mmap(-1, int(line), mmap.MAP_PRIVATE))
    kept[-1].write(b"x" * int(line))
"""


def test_live_process_grows() -> None:
    """GREW counts from the moment the screen was opened, or from the mark."""
    command = [sys.executable, "-c", GROWER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()

        async def play(pilot: TopPilot) -> None:
            assert child.stdin is not None
            await pilot.press("slash", *str(child.pid), "enter", "enter")
            await until_shown(pilot, "at your request")
            assert re.search(r"Peak Rss [\d.]+M", screen_text(pilot))
            child.stdin.write(b"%d\n" % (32 << 20))
            child.stdin.flush()
            await until_shown(pilot, "+32.0M")
            await pilot.press("a", "G")
            await until(pilot, lambda: "+32.0M" in rows(pilot)[0])
            await pilot.press("d")
            await until(pilot, lambda: "+32.0M" not in screen_text(pilot))
            child.stdin.close()
            await until(pilot, lambda: re.search("ended|zombie", screen_text(pilot)))
            await pilot.press("escape")
            await until_shown(pilot, "processes, by pss")

        run_top(play, interval=0.02)


def test_process_that_runs_another_program() -> None:
    code = "import os, sys; input(); os.execv(sys.executable, ['second', '-c', 'input()'])"
    mark = f"exec-{os.getpid()}"  # found by the search, unlike a pid in no other row
    with subprocess.Popen([sys.executable, "-c", code, mark], stdin=subprocess.PIPE) as child:
        assert child.stdin is not None

        async def play(pilot: TopPilot) -> None:
            assert child.stdin is not None
            await pilot.press("slash", *mark, "enter", "enter")
            await until_shown(pilot, "at your request")
            child.stdin.write(b"\n")
            child.stdin.flush()
            await until_shown(pilot, f"{child.pid} second -c input()")
            child.stdin.write(b"\n")
            child.stdin.flush()

        run_top(play, interval=0.02)


def test_rows_that_are_late_are_not_shown(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are made in a thread: those for another view may be ready before."""
    go_on = threading.Event()

    def slow(old: Mappings, new: Mappings, view: str, **options: Any) -> MappingRows:
        assert view != "use" or go_on.wait(processes.TIMEOUT)
        return MappingRows(old, new, view, **options)

    async def play(pilot: TopPilot) -> None:
        await pilot.press("enter")
        await until_shown(pilot, "by use; a capture")
        monkeypatch.setattr(process_screen, "MappingRows", slow)
        screen = pilot.app.screen
        assert isinstance(screen, ProcessScreen)
        late = asyncio.create_task(screen._show())
        await asyncio.sleep(0)
        await pilot.press("p")
        await until_shown(pilot, "by path; a capture")
        go_on.set()
        await late
        assert "PATH" in screen_text(pilot)
        # Nor are those of a screen that was closed meanwhile.
        go_on.clear()
        screen._view = "use"
        late = asyncio.create_task(screen._show())
        await asyncio.sleep(0)
        await pilot.press("escape")
        await until_shown(pilot, "processes, by pss")
        go_on.set()
        await late

    run_top(play, host)


def test_long_paths_show_their_end(host: str) -> None:
    """Many libraries have the same first directories."""
    text = header(0x10000, 0x20000, b"/opt/" + b"deep/" * 30 + "lib漢字.so".encode())
    replace(Path(host, "21", "smaps"), text + kb("Rss", 64) + kb("Pss", 64))

    async def play(pilot: TopPilot) -> None:
        for width in (80, 40):
            await pilot.resize_terminal(width, 24)
            await pilot.press("enter", "p")
            await until_shown(pilot, "by path; a capture")
            assert re.search("….*/lib漢字.so$", rows(pilot)[0])
            await pilot.press("right")
            assert "…" not in rows(pilot)[0]
            await pilot.press("escape")

    run_top(play, host)


def test_process_that_is_gone(host: str) -> None:
    async def play(pilot: TopPilot) -> None:
        shutil.rmtree(Path(host, "21"))
        await pilot.press("enter")
        await until(pilot, lambda: "does not hold process 21" in " ".join(lines(pilot)))
        await pilot.press("escape")
        await until_shown(pilot, "processes, by pss")

    run_top(play, host)


def test_process_that_got_the_number_is_not_shown(host: str) -> None:
    """It belongs to another program: its memory would stand below the name of the first."""

    async def play(pilot: TopPilot) -> None:
        stat = Path(host, "21", "stat")
        later = re.sub(rb"(\) S 20 (?:0 ){17})21 ", rb"\g<1>4242 ", stat.read_bytes())
        assert later != stat.read_bytes()
        replace(stat, later)
        await pilot.press("enter")
        await until_shown(pilot, "process 21 has ended")
        assert "48.8M" not in screen_text(pilot)

    run_top(play, host)


def test_process_is_not_closed_while_it_is_read(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A screen that is left lets its thread read to the end: the descriptor may be another file."""
    events: list[str] = []
    reading, go_on, closed = threading.Event(), threading.Event(), threading.Event()
    real_read, real_close = fastsmaps.Process.mappings, fastsmaps.Process.close

    def read(self: fastsmaps.Process, **options: Any) -> Mappings:
        events.append("begin")
        reading.set()
        assert go_on.wait(processes.TIMEOUT)
        table = real_read(self, **options)
        events.append("end")
        return table

    def close(self: fastsmaps.Process) -> None:
        events.append("close")
        real_close(self)
        closed.set()

    monkeypatch.setattr(fastsmaps.Process, "mappings", read)
    monkeypatch.setattr(fastsmaps.Process, "close", close)

    async def play(pilot: TopPilot) -> None:
        await pilot.press("enter")
        await until(pilot, reading.is_set)
        await pilot.press("escape")
        await until_shown(pilot, "processes, by pss")
        go_on.set()
        await until(pilot, closed.is_set)

    run_top(play, host)
    assert events == ["begin", "end", "close"]
