"""A host's memory by purpose, and the processes that could not be read, for a report."""

from __future__ import annotations

import re
from typing import Any

from fastsmaps._model.processes import Scan
from fastsmaps._model.sizes import human
from fastsmaps._model.tree import is_missing
from fastsmaps._output.tiles import kib, shown
from fastsmaps._source.meminfo import meminfo, memory_parts

# The parts of a host's memory: what they are called, a colour, and what they are.
_PARTS = {
    "anon": ("Anonymous", "anon", "heaps, stacks and private data of processes"),
    "shmem": ("Shared", "shmem", "tmpfs and shared memory"),
    "cache": ("File cache", "file", "given back when needed"),
    "slab": ("Slab", "device", "the kernel's objects, such as cached names of files"),
    "page_tables": ("Page tables", "hugetlb", "of processes and guests"),
    "kernel_stacks": ("Kernel stacks", "stack", "of threads"),
    "percpu": ("Per CPU", "heap", "the kernel's memory for each CPU"),
    "hugetlb": ("Huge pages", "anon_named", "reserved by hugetlbfs, used or not"),
    "other": ("Other", "special", "the kernel and drivers, in no line of meminfo"),
    "free": ("Free", "", "used for nothing"),
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
        "memory": _memory(values),
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
        of = scan.host_pss
        more = f"{_percent(pss, of)} of AnonPages + Mapped" if of else "sum over the processes read"
        cards.append(("Pss of processes", human(pss), more))
    read = scan.coverage["read"]
    missing = sum(map(is_missing, scan))
    cards.append(("Processes read", f"{read:,}", f"of {read + missing:,} that have memory"))
    return cards


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %"


def _memory(values: dict[str, int]) -> list[tuple[str, float, str, str]]:
    parts = memory_parts(values)
    return [
        (title, parts[name] / 1024, colour, about)
        for name, (title, colour, about) in _PARTS.items()
        if parts.get(name)
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
