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


def read_of(coverage: Mapping[str, int]) -> str:
    """As in "412 of 430 processes read, 15 denied"."""
    processes = sum(coverage.values()) - coverage.get("kernel_thread", 0)
    missed = [
        f", {count} {outcome}"
        for outcome, count in coverage.items()
        if count and outcome not in ("read", "kernel_thread")
    ]
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
        text += f"\n{procfs} hides other users' processes ({hidden_by})"
    if coverage.get("denied") and not Source(procfs).is_capture:
        text += f"\ndenied: {enough(own_rights())}"
    return text
