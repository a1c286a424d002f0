"""Calls of other libraries that return the same; the only module that imports them."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import psutil

PSUTIL_VERSION: str = psutil.__version__


def psutil_mappings(pid: int) -> list[Any]:
    """Return one named tuple per mapping, with 10 of the kernel's sizes."""
    rows: list[Any] = psutil.Process(pid).memory_maps(grouped=False)
    return rows


def psutil_totals(pid: int) -> object:
    """Return Rss, Pss, Uss and some more, which psutil reads from smaps_rollup."""
    totals: object = psutil.Process(pid).memory_full_info()
    return totals


def psutil_scan(pids: Container[int]) -> list[dict[str, Any]]:
    """Return memory, name and users of these processes, the way psutil's documentation suggests."""
    return [
        process.as_dict(["pid", "memory_full_info", "name", "uids"])
        for process in psutil.process_iter()
        if process.pid in pids
    ]
