"""Other libraries, asked for the same; the one place that imports them."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import psutil

PSUTIL_VERSION: str = psutil.__version__


def psutil_mappings(pid: int) -> list[Any]:
    """One named tuple a mapping, with 10 of the kernel's sizes."""
    rows: list[Any] = psutil.Process(pid).memory_maps(grouped=False)
    return rows


def psutil_totals(pid: int) -> object:
    """Rss, Pss, Uss and some more; psutil reads smaps_rollup for them."""
    totals: object = psutil.Process(pid).memory_full_info()
    return totals


def psutil_sweep(pids: Container[int]) -> list[dict[str, Any]]:
    """Memory, name and users of these processes, as its documentation tells one to ask for them."""
    return [
        process.as_dict(["pid", "memory_full_info", "name", "uids"])
        for process in psutil.process_iter()
        if process.pid in pids
    ]
