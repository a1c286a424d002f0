"""A capture's metadata: host, time, and what could not be read, and why."""

from __future__ import annotations

from fastsmaps._errors import OUTCOMES, Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from fastsmaps._model.process_totals import ProcessTotals

#: The file in a capture that holds its metadata.
METADATA = "fastsmaps.json"
#: The largest metadata file that is read, enough for more than a hundred thousand processes. The
#: objects that Python makes of JSON may take twenty times as much memory as the text.
MAX_METADATA = 64 << 20

_FORMAT = 1
_MAX_HOST = 255  # the kernel's limit is 64, names of DNS have 253
_END_OF_TIME = 253402300800  # the year 10000, which no date can hold
# The outcomes that metadata may give. Only the process's own files show that it was read.
_UNREAD = tuple(outcome for outcome in OUTCOMES if outcome != "read")


def metadata_text(
    processes: dict[str, dict[str, Any]],
    host: str | None,
    taken_at: float | None,
    sharing_known: bool,
) -> bytes:
    """Return the metadata of a new capture: host, time, and what was not read."""
    import json

    facts = {
        "format": _FORMAT,
        "host": host,
        "taken_at": taken_at,
        "sharing_known": sharing_known,
        "processes": processes,
    }
    return json.dumps(facts, indent=1).encode("ascii") + b"\n"


class Metadata:
    """A capture's metadata; every value is checked, since anybody may have written it."""

    __slots__ = ("host", "sharing", "taken_at", "unread")

    #: The host that was captured; None if it is not known.
    host: str | None
    #: When it was captured, in seconds since the epoch; None if it is not known.
    taken_at: float | None
    #: For each process that could not be read: the outcome and the error. Without them a denied
    #: file would look like a lost one.
    unread: dict[int, tuple[Outcome, str]]
    #: For each process that shares its memory, the process whose row counts it; and whether all
    #: such processes are known. None if nothing is known.
    sharing: tuple[dict[int, int], bool] | None

    def __init__(self, text: bytes | None) -> None:
        facts = _facts(text)
        host, taken_at = facts.get("host"), facts.get("taken_at")
        is_host = isinstance(host, str) and len(host) <= _MAX_HOST
        is_time = (
            isinstance(taken_at, int | float)
            and not isinstance(taken_at, bool)
            and 0 <= taken_at < _END_OF_TIME
        )
        self.host = host if is_host else None
        self.taken_at = taken_at if is_time else None
        notes = _notes_by_pid(facts.get("processes"))
        self.unread = {
            pid: (note["outcome"], note["error"])
            for pid, note in notes.items()
            if note.get("outcome") in _UNREAD and isinstance(note.get("error"), str)
        }
        self.sharing = None
        known = facts.get("sharing_known")
        if isinstance(known, bool) and isinstance(facts.get("processes"), dict):
            shared = ((pid, note.get("shares_memory_with")) for pid, note in notes.items())
            self.sharing = {pid: other for pid, other in shared if type(other) is int}, known

    def complete(self, row: ProcessTotals) -> ProcessTotals:
        """Return the row; if it has no totals, with the metadata's outcome and error."""
        if row.totals is not None or row.pid not in self.unread:
            return row
        outcome, error = self.unread[row.pid]
        return row.replace(outcome=outcome, error=error)


def _facts(text: bytes | None) -> dict[str, Any]:
    if text is None:
        return {}
    import json

    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _notes_by_pid(processes: object) -> Mapping[int, dict[str, Any]]:
    if not isinstance(processes, dict):
        return {}
    return {
        int(pid): note
        for pid, note in processes.items()
        if isinstance(note, dict) and pid.isdecimal() and len(pid) <= 10
    }
