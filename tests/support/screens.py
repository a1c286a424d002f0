"""top's live screen without a terminal: keys are pressed, and the text is read."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

import fastsmaps
from fastsmaps.cli.screen.app import TopApp
from fastsmaps.cli.screen.processes import Choices
from fastsmaps.cli.screen.sweeps import Sweeps
from fastsmaps.cli.screen.table import Table
from support import processes
from support.smaps_texts import header, kb

TopPilot = Pilot[int]


def write_host(root: Path) -> str:
    """Write a small procfs: trees, users, wide and hostile names, two kinds of memory."""
    facts = [
        # pid, ppid, uid, comm, command line, unit, heap and file in kB
        (1, 0, 0, b"init", b"/sbin/init\0", b"/init.scope", 900, 400),
        (20, 1, 0, b"postgres", b"postgres: writer\0", b"/system.slice/db.service", 30000, 9000),
        (21, 20, 0, b"postgres", b"postgres: client\0", b"/system.slice/db.service", 50000, 9000),
        (22, 21, 1, b"worker", b"python3\0/srv/worker.py\0--queue=a\0", b"/", 3000, 2000),
        (23, 21, 1, b"worker", b"python3\0/srv/worker.py\0--queue=b\0", b"/", 7000, 2000),
        (40, 1, 1, b"\xe6\xbc\xa2\xe5\xad\x97", b"\xe6\xbc\xa2\xe5\xad\x97\0" * 3,
         b"/docker/" + b"0123456789abcdef" * 4, 2000, 0),
        (50, 1, 1, b"\x1b[31mred", b"\x1b[31mred\xff\n\0", b"/", 1000, 0),
    ]  # fmt: skip
    for pid, ppid, uid, comm, cmdline, unit, heap, file in facts:
        directory = root / str(pid)
        directory.mkdir(parents=True)
        (directory / "stat").write_bytes(
            b"%d (%s) S %d " % (pid, comm, ppid) + b"0 " * 17 + b"%d " % pid + b"0 " * 30 + b"\n"
        )
        pages = (heap + file) // 4
        (directory / "statm").write_bytes(b"%d %d 10 1 0 20 0\n" % (4 * pages, pages))
        (directory / "status").write_bytes(
            b"Name:\tx\nTgid:\t%d\nUid:\t%d\t%d\t%d\t%d\n" % (pid, *[uid] * 4)
        )
        (directory / "cmdline").write_bytes(cmdline)
        (directory / "cgroup").write_bytes(b"0::" + unit + b"\n")
        write_memory(directory, heap, file)
    (root / "meminfo").write_bytes(
        b"MemTotal: 1048576 kB\nMemFree: 524288 kB\nMemAvailable: 786432 kB\nBuffers: 1024 kB\n"
        b"Cached: 262144 kB\nSwapTotal: 1024 kB\nSwapFree: 512 kB\nAnonPages: 96000 kB\n"
        b"Mapped: 24000 kB\nShmem: 2048 kB\nSlab: 51200 kB\n"
        b"SReclaimable: 40960 kB\nSUnreclaim: 10240 kB\nPageTables: 4096 kB\n"
    )
    return str(root)


def write_memory(directory: Path, heap: int, file: int) -> None:
    """Write smaps and smaps_rollup: a heap, and a library that is half shared."""
    parts = [
        (header(0x10000, 0x10000 + heap * 1024, b"[heap]"), heap, heap, heap),
        (_library(file * 1024), file, file // 2, 0),
    ]  # fmt: skip
    text = b"".join(
        head + kb("Rss", rss) + kb("Pss", pss) + kb("Private_Clean", 0) + kb("Private_Dirty", own)
        + kb("Swap", 0) for head, rss, pss, own in parts if rss
    )  # fmt: skip
    replace(directory / "smaps", text)
    replace(
        directory / "smaps_rollup",
        header(0x10000, 0xA000000, b"[rollup]", perms=b"---p") + kb("Rss", heap + file)
        + kb("Pss", heap + file // 2) + kb("Private_Clean", 0) + kb("Private_Dirty", heap)
        + kb("Swap", 0)
    )  # fmt: skip


def replace(path: Path, data: bytes) -> None:
    """Write a file that a screen may read meanwhile."""
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.rename(path)


def _library(size: int) -> bytes:
    return header(0x9000000, 0x9000000 + size, b"/usr/lib/libx.so", perms=b"r-xp", inode=7)


def run_top(
    play: Callable[[TopPilot], Awaitable[None]],
    procfs: str = "/proc",
    *,
    size: tuple[int, int] = (100, 20),
    interval: float = 3600,
    choices: Choices | None = None,
    **options: Any,
) -> TopApp:
    """Run the screen until `play` returns, which presses keys after the first sweep."""

    async def run() -> TopApp:
        with fastsmaps.Sampler(
            procfs=procfs, cmdline=True, cgroup=True, exe=True, **options
        ) as sampler:
            sweeps = Sweeps(sampler, sampler.sweep, interval=interval, iterations=None)
            with contextlib.closing(sweeps):
                app = TopApp(sweeps, choices or Choices())
                async with app.run_test(size=size) as pilot:
                    await until(pilot, lambda: app.list.scan is not None)
                    await play(pilot)
            return app

    return asyncio.run(run())


def app_of(pilot: TopPilot) -> TopApp:
    """Return the app that the pilot drives."""
    assert isinstance(pilot.app, TopApp)
    return pilot.app


async def until(pilot: TopPilot, condition: Callable[[], object]) -> None:
    """Wait until the condition is true and its effects are drawn."""
    async with asyncio.timeout(processes.TIMEOUT):
        while not condition():
            await pilot.pause(0.01)
    await pilot.pause()


async def until_shown(pilot: TopPilot, text: str) -> None:
    """Wait until the screen shows a text."""
    await until(pilot, lambda: text in screen_text(pilot))


def lines(pilot: TopPilot) -> list[str]:
    """Return the lines on the screen."""
    app = pilot.app
    return [strip.text.rstrip() for strip in app.screen._compositor.render_strips(app.size)]


def screen_text(pilot: TopPilot) -> str:
    """Return the screen as text; what differs from run to run is replaced."""
    text = "\n".join(lines(pilot)) + "\n"
    text = re.sub(r"since \d\d:\d\d:\d\d", "since HH:MM:SS", text)
    text = re.sub(r"read in \S+ ms", "read in N ms", text)
    return re.sub(r"top takes \S+ of a core, ", "", text)


def rows(pilot: TopPilot) -> list[str]:
    """Return the lines of the table, without its head."""
    place = pilot.app.screen.query_one(Table).region
    return [line for line in lines(pilot)[place.y + 1 : place.bottom] if line]
