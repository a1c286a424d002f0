"""A host's memory by purpose, and the processes that could not be read, for a report."""

from __future__ import annotations

import re
from typing import Any

from fastsmaps._model.account import HostAccount
from fastsmaps._model.processes import Scan, explained_text
from fastsmaps._model.sizes import human
from fastsmaps._model.tree import is_missing
from fastsmaps._output.tiles import kib, shown
from fastsmaps._source.meminfo import meminfo, more_memory

# The colours of the account's rows.
_COLOURS = {
    "processes_anon": "anon",
    "processes_file": "file",
    "processes_shmem": "shmem",
    "processes": "anon",
    "unread": "special",
    "shmem": "shmem",
    "page_cache": "file",
    "buffers": "file",
    "swap_cache": "anon",
    "slab_reclaimable": "device",
    "slab_unreclaimable": "device",
    "kernel_reclaimable": "device",
    "page_tables": "hugetlb",
    "kernel_stacks": "stack",
    "vmalloc": "heap",
    "percpu": "heap",
    "writeback": "device",
    "gpu": "device",
    "hugetlb_used": "anon_named",
    "hugetlb_free": "anon_named",
    "hugetlb": "anon_named",
    "zram": "anon_named",
    "zswap": "anon_named",
    "unexplained": "special",
}
_MAX_REASONS = 50
_MAX_REASON = 600  # characters


def host_account(scan: Scan, unreached: int) -> dict[str, Any]:
    """Return the cards, the memory by purpose, meminfo, and what was not read, with reasons.

    `unreached` is the number of processes that were read, but not their mappings.
    """
    values = meminfo(scan.procfs)
    return {
        "cards": _cards(scan, values),
        "memory": _memory(scan, values),
        "unread": _unread(scan, unreached),
        "meminfo": [
            (shown(name), kib([value])[0]) if value % 1024 == 0 else (shown(name), str(value))
            for name, value in values.items()
        ],
    }


def _cards(scan: Scan, values: dict[str, int]) -> list[tuple[str, str, str]]:
    total, available = values.get("MemTotal"), values.get("MemAvailable")
    cards = []
    if total:
        cards.append(("Memory", human(total), "MemTotal"))
        if available is not None:
            cards.append(
                ("Available", human(available), f"{_percent(available, total)} of the memory")
            )
        swap = values.get("SwapTotal")
        if swap:
            used = swap - values.get("SwapFree", swap)
            cards.append(("Swap used", human(used), f"of {human(swap)}"))
    pss = scan.totals().pss
    if pss is not None:
        more = explained_text(scan.explained) or "sum over the processes read"
        cards.append(("Pss of processes", human(pss), more))
    read = scan.coverage["read"]
    missing = sum(map(is_missing, scan))
    cards.append(("Processes read", f"{read:,}", f"of {read + missing:,} that have memory"))
    return cards


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %"


def _memory(scan: Scan, values: dict[str, int]) -> list[tuple[str, float, str, str]]:
    if not values.get("MemTotal"):
        return []
    account = HostAccount(scan, values, more_memory(scan.procfs))
    return [
        (row.name.replace("_", " "), row.size / 1024, _COLOURS.get(row.name, ""), row.about)
        for row in account.rows
        if row.size
    ]


def _unread(scan: Scan, unreached: int) -> list[tuple[str, str, str]]:
    """Return outcome, number of processes and reason, the most frequent first."""
    counts: dict[tuple[str, str], int] = {}
    for row in scan:
        if is_missing(row):
            # Errors that only differ in the process are one reason.
            reason = re.sub(rf"\b{row.pid}\b", "PID", row.error or "")
            reason = re.sub("Rss of [0-9]+ bytes", "Rss", reason)
            counts[row.outcome, reason] = counts.get((row.outcome, reason), 0) + 1
    order = sorted(counts.items(), key=lambda item: -item[1])
    rows = [
        (outcome, f"{n:,}", shown(reason, _MAX_REASON))
        for (outcome, reason), n in order[:_MAX_REASONS]
    ]
    if rest := sum(n for _, n in order[_MAX_REASONS:]):
        rows.append(("other", f"{rest:,}", "other reasons"))
    if unreached:
        why = "their mappings were not read: they ended, or the timeout was reached"
        rows.append(("only totals", f"{unreached:,}", why))
    if scan.hidden_by:
        rows.append(
            ("hidden", "", f"{shown(scan.procfs)} hides processes ({shown(scan.hidden_by)})")
        )
    return rows
