"""The note below a table: what was read, why the rest was not, what would allow more."""

from __future__ import annotations

from fastsmaps._model.processes import coverage_text as coverage_text
from fastsmaps._model.processes import explained_text, failures_of, main_reason
from fastsmaps._model.stat import OUTSIDE
from fastsmaps._output.display import escaped
from fastsmaps._source.rights import (
    HIDEPID_FORBIDS,
    enough,
    enough_against_hidepid,
    own_rights,
)
from fastsmaps._source.source import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fastsmaps._model.processes import Scan


_SOME_PIDS = "the rest is mapped by processes outside of this pid namespace, or was not read"
_RELATIVE = (
    "units, slices, containers and pods are unknown, since this cgroup namespace hides where the "
    "paths of cgroups begin: run in the host's, for instance with --cgroupns=host"
)


def scan_note(scan: Scan) -> str:
    """Return the note for a scan: see coverage_note(), and how much of all memory it explains."""
    denied = [row.error or "" for row in scan if row.outcome == "denied"]
    note = coverage_note(scan.coverage, failures_of(scan), scan.procfs, scan.hidden_by, denied)
    explained = explained_text(scan.explained)
    if explained and Source(scan.procfs).is_in_pid_namespace():
        explained += f"\n{_SOME_PIDS}"
    return "\n".join(filter(None, [note, explained, cgroups_note(scan)]))


def cgroups_note(scan: Scan) -> str:
    """Return why no process has a unit or container in this cgroup namespace, or ""."""
    return _RELATIVE if any(row.systemd_cgroup == OUTSIDE for row in scan) else ""


def coverage_note(
    coverage: Mapping[str, int],
    failures: Iterable[tuple[int, str]],
    procfs: str,
    hidden_by: str | None,
    denied: Iterable[str],
) -> str:
    """Return lines on what was read, why most reads failed, and which rights are missing.

    `failures` are pids and errors of the processes that failed, `denied` the errors of those that
    were denied.
    """
    text = coverage_text(coverage)
    reason = main_reason(failures)
    if reason:
        text += f"\nfailed: {escaped(reason)}"
    if hidden_by:
        text += f"\n{procfs} hides other users' processes ({hidden_by}): "
        text += enough_against_hidepid(own_rights())
    if coverage.get("denied") and not Source(procfs).is_capture:
        # hidepid=1 denies what CAP_PERFMON would allow.
        if any(HIDEPID_FORBIDS in error for error in denied):
            text += f"\ndenied: {HIDEPID_FORBIDS}; {enough_against_hidepid(own_rights())}"
        else:
            text += f"\ndenied: {enough(own_rights())}"
    return text
