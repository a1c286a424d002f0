"""The lines that say what could be read, why not the rest, and what would be needed for more."""

from __future__ import annotations

from fastsmaps._model.processes import failures_of, main_reason
from fastsmaps._output.display import escaped
from fastsmaps._source.rights import enough, own_rights
from fastsmaps._source.source import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fastsmaps._model.processes import Scan

# How each outcome is shown; kernel threads have no memory that could be missing.
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


def note_of(scan: Scan) -> str:
    """All lines for a scan: see note()."""
    return note(scan.coverage, failures_of(scan), scan.procfs, scan.hidden_by)


def note(
    coverage: Mapping[str, int],
    failures: Iterable[tuple[int, str]],
    procfs: str,
    hidden_by: str | None,
) -> str:
    """What was read; why most of those that failed did; what hides others; what would help.

    `failures` are pids and errors of the processes that failed.
    """
    text = read_of(coverage)
    reason = main_reason(failures)
    if reason:
        text += f"\nfailed: {escaped(reason)}"
    if hidden_by:
        text += f"\n{procfs} hides processes of others from this reader ({hidden_by})"
    if coverage.get("denied") and not Source(procfs).is_capture:
        text += f"\ndenied: {enough(own_rights())}"
    return text
