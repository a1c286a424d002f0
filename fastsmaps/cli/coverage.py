"""The line that says what could be read, and what would be needed for more."""

from __future__ import annotations

import os

from fastsmaps.procfs import is_procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_CAP_SYS_PTRACE = 19  # include/uapi/linux/capability.h

# How an outcome is told of; kernel threads have no memory to be missed.
_WORDS = {
    "denied": "denied",
    "gone": "gone meanwhile",
    "zombie": "ended and not yet reaped",
    "skipped": "skipped",
    "failed": "failed",
}


def read_of(coverage: Mapping[str, int]) -> str:
    """As in "412 of 430 processes read, 15 denied"."""
    processes = sum(coverage.values()) - coverage.get("kernel_thread", 0)
    missed = [f", {coverage[name]} {word}" for name, word in _WORDS.items() if coverage.get(name)]
    return f"{coverage['read']} of {processes} processes read{''.join(missed)}"


def advice(coverage: Mapping[str, int], procfs: str) -> str:
    """A line for who was denied some; empty where it would help nobody."""
    if not coverage.get("denied") or not is_procfs(procfs) or _has_ptrace():
        return ""
    return "\nCAP_SYS_PTRACE would be enough for those denied, or CAP_PERFMON on newer kernels"


def _has_ptrace() -> bool:
    """Whether CAP_SYS_PTRACE is effective: root in a container has it not, as a rule."""
    try:
        with open("/proc/self/status", "rb") as file:
            mask = file.read().partition(b"\nCapEff:")[2].split(maxsplit=1)[0]
        return bool(int(mask, 16) >> _CAP_SYS_PTRACE & 1)
    except (OSError, ValueError, IndexError):
        return os.geteuid() == 0
