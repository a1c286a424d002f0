"""What a capture says of itself: its host, its time, and what could not be read, and why."""

from __future__ import annotations

import os

from fastsmaps._backend.descriptors import read_file
from fastsmaps._errors import is_foreign
from fastsmaps._model.processes import OUTCOMES
from fastsmaps._source import openat as _openat
from fastsmaps._source import procfs as _procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from fastsmaps._model.processes import ProcessTotals

_FORMAT = 1
# A hundred thousand processes and more; what is made of a text may take twenty times as much.
_NOTES_BYTES = 64 << 20
_HOST_CHARACTERS = 255  # the kernel's limit is 64, the names of DNS have 253
_END_OF_TIME = 253402300800  # the year 10000, which no date can hold
# What a note may say of a process. That one was read its figures must show.
_UNREAD = tuple(outcome for outcome in OUTCOMES if outcome != "read")


def notes_text(
    processes: dict[str, dict[str, Any]],
    host: str | None,
    taken_at: float | None,
    sharing_known: bool,
) -> bytes:
    """The notes of a new capture: what could not be read of which process, where and when."""
    import json

    facts = {
        "format": _FORMAT,
        "host": host,
        "taken_at": taken_at,
        "sharing_known": sharing_known,
        "processes": processes,
    }
    return json.dumps(facts, indent=1).encode("ascii") + b"\n"


def _notes(procfs: str) -> dict[str, Any]:
    """What a capture's notes say; nothing for a directory without notes that can be used.

    That is a procfs or another tool's capture, or anything that claims to be one.
    """
    import json

    try:
        fd = _openat.open_in(procfs, _procfs.NOTES)
        try:
            if os.fstat(fd).st_size > _NOTES_BYTES:
                return {}
            text = read_file(fd, _NOTES_BYTES)
        finally:
            os.close(fd)
        notes = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        if is_foreign(error):
            raise
        return {}
    return notes if isinstance(notes, dict) else {}


def noted(procfs: str) -> dict[int, tuple[str, str]]:
    """What a capture notes of processes that could not be read: pid -> outcome, error.

    Without text it looks as if files were lost; only who took it knew that they were denied.
    """
    notes = _notes(procfs).get("processes")
    result: dict[int, tuple[str, str]] = {}
    for pid, note in notes.items() if isinstance(notes, dict) else ():
        if not isinstance(note, dict) or not pid.isdecimal() or len(pid) > 10:
            continue
        outcome, error = note.get("outcome"), note.get("error")
        if isinstance(outcome, str) and isinstance(error, str) and outcome in _UNREAD:
            result[int(pid)] = outcome, error
    return result


def noted_sharing(procfs: str) -> tuple[dict[int, int], bool] | None:
    """What a capture notes of memory that processes have in common; None where it does not.

    The pid of each that is counted in another one's row -> that one's, and whether all is known.
    """
    if _procfs.is_procfs(procfs):
        return None
    notes = _notes(procfs)
    known, processes = notes.get("sharing_known"), notes.get("processes")
    if not isinstance(known, bool) or not isinstance(processes, dict):
        return None
    found: dict[int, int] = {}
    for pid, note in processes.items():
        if isinstance(note, dict) and pid.isdecimal() and len(pid) <= 10:
            other = note.get("shares_memory_with")
            if isinstance(other, int) and not isinstance(other, bool):
                found[int(pid)] = other
    return found, known


def as_noted(row: ProcessTotals, notes: Mapping[int, tuple[str, str]]) -> ProcessTotals:
    """The row of a capture's process; of one without figures with what the notes say of it."""
    if row.totals is not None or row.pid not in notes:
        return row
    outcome, error = notes[row.pid]
    return row._replaced(outcome=outcome, error=error)


def origin(procfs: str, read_at: float | None) -> tuple[str | None, float | None]:
    """On which host, and when (seconds since the epoch), what is read here was so.

    Of a procfs this host, and when it was read; of a capture what it notes, None for what it
    does not.
    """
    if _procfs.is_procfs(procfs):
        return os.uname().nodename, read_at
    notes = _notes(procfs)
    host, taken_at = notes.get("host"), notes.get("taken_at")
    is_host = isinstance(host, str) and len(host) <= _HOST_CHARACTERS
    is_time = (
        isinstance(taken_at, int | float)
        and not isinstance(taken_at, bool)
        and 0 <= taken_at < _END_OF_TIME
    )
    return host if is_host else None, taken_at if is_time else None
