"""Storage for the rows of a running scan."""

from __future__ import annotations

import errno
import os
from _thread import allocate_lock

from fastsmaps._errors import Error, NoMemoryMap, outcome_of
from fastsmaps._host.sharing import swept_member
from fastsmaps._host.texts import PATHS, Shared
from fastsmaps._model.process_totals import ProcessTotals, counted_in, member_of_row
from fastsmaps._model.rollups import Rollups
from fastsmaps._model.sharing import Member
from fastsmaps._model.stat import TICKS, texts_of
from fastsmaps._source.chunks import PAGE
from fastsmaps._source.rights import own_rights

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from fastsmaps._backend import Sweep, SweepRow
    from fastsmaps._source.rights import Rights
    from fastsmaps._source.source import Source

    Limits = tuple[int | None, int | None]

# What the backends' Sweep says of a row.
SWEEP_OUTCOMES = (
    "read",
    "denied",
    "kernel_thread",
    "zombie",
    "outside",
    "large",
    "other",
    "shared",
)
READ, DENIED, _, _, OUTSIDE, LARGE, OTHER, SHARED = range(len(SWEEP_OUTCOMES))

TIMED_OUT = "skipped: timeout reached"


def why_outside(limits: Limits, resident: int) -> str:
    """Return the error for a process whose Rss is outside the limits."""
    min_rss, max_rss = limits
    if min_rss is not None and resident < min_rss:
        return f"its Rss of {resident} bytes is below min_rss={min_rss}"
    return f"its Rss of {resident} bytes is above max_rss={max_rss}"


class Rows:
    """The rows of the backend's sweeps, and rows that replace or complete them.

    A backend's row becomes a ProcessTotals only when it is asked for. `texts` are the files whose
    text is in a row, `limits` the smallest and the largest Rss.
    """

    def __init__(self, source: Source, texts: tuple[str, ...], limits: Limits) -> None:
        self._source = source
        self._texts = texts
        self._limits = limits
        self._sweeps: list[Sweep] = []
        self._rows: dict[int, ProcessTotals] = {}  # these count instead of a sweep's
        self._shared = Shared()  # their texts
        self._lock = allocate_lock()  # for these two
        self._rights: Rights | None = None  # read once: thousands may be denied

    def __contains__(self, pid: int) -> bool:
        """Whether the process has a row besides the sweeps'."""
        return pid in self._rows

    def add_sweep(self, sweep: Sweep) -> None:
        """Add a backend's sweep, before its first row is read."""
        self._sweeps.append(sweep)

    def count_swept(self) -> int:
        """Return how many rows the sweeps have."""
        return sum(map(len, self._sweeps))

    def add(self, row: ProcessTotals) -> None:
        """Add a row, or replace the process's."""
        with self._lock:
            self._rows[row.pid] = self._shared.fit(row)
            if self._shared.is_full:
                for cut in self._shared.refit(self._rows.values()):
                    self._rows[cut.pid] = cut

    def take_last(self, sweep: Sweep, pid: int) -> ProcessTotals:
        """Return the row of the process that `sweep` has read last, which is not stored."""
        if pid in self._rows:
            return self._rows.pop(pid)
        found = sweep.row(len(sweep) - 1)
        row = self._made(found, Rollups(sweep.table), Shared())
        # Make the totals now, so that keeping the row does not keep the whole table.
        member = None
        if found[5] is not None:
            _, ppid, _, start, forked, stack, apart = found[5]
            read, linked = row.outcome == "read", row.shares_memory_with is not None
            member = Member(pid, ppid, start / TICKS, forked, stack, read, apart, linked=linked)
        return row.replace(totals=row.totals, member=member)

    def get(self, pid: int) -> ProcessTotals:
        """Return one row before all are made; rarely needed."""
        if pid not in self._rows:
            for sweep in self._sweeps:
                for place, number, *_ in sweep.members():
                    if number == pid:
                        return self._made(sweep.row(place), Rollups(sweep.table), Shared())
        return self._rows[pid]

    def all(self, pids: Iterable[int]) -> list[ProcessTotals]:
        """Return the rows of these processes, in their order."""
        found = dict(self._rows)
        shared = Shared()
        for sweep in self._sweeps:
            rollups = Rollups(sweep.table)
            for row in map(sweep.row, range(len(sweep))):
                if row[0] not in found:
                    found[row[0]] = self._made(row, rollups, shared)
        return [found.get(pid) or ProcessTotals(pid, "skipped", error=TIMED_OUT) for pid in pids]

    def members(self) -> list[Member]:
        """Return all that have memory; nothing if none was forked without an exec.

        Without such a fork each process has its own memory.
        """
        members = list(filter(None, map(member_of_row, self._rows.values())))
        if not any(sweep.forked for sweep in self._sweeps) and not any(
            member.forked for member in members
        ):
            return []
        swept = [
            swept_member(row)
            for sweep in self._sweeps
            for row in sweep.members()
            if row[1] not in self._rows
        ]
        return swept + [member for member in members if member.read or member.linked]

    def _made(self, found: SweepRow, rollups: Rollups, shared: Shared) -> ProcessTotals:
        pid, outcome, record, resident, texts, who, mappings = found
        facts: dict[str, Any] = {"mappings": mappings}
        if who is not None:
            comm, ppid, uid, start, *_ = who
            facts |= {
                "comm": os.fsdecode(comm),
                "ppid": ppid,
                "uid": uid,
                "start_time": start / TICKS,
            }
        directory = f"{self._source.path}/{pid}"
        if self._texts:
            files = dict(zip(self._texts, texts, strict=True))
            relative = self._source.has_relative_cgroups if "cgroup" in files else False
            facts |= texts_of(files, pid, directory, relative=relative)
            facts["cmdline"] = shared.text(facts.get("cmdline"))
            facts |= {name: shared.path(facts.get(name)) for name in PATHS}
        if outcome == READ:
            if record is None:
                return ProcessTotals(pid, "skipped", **facts)
            return ProcessTotals(pid, "read", totals=(rollups, record), **facts)
        if outcome == SHARED:
            return counted_in(ProcessTotals(pid, "skipped", **facts), facts["ppid"])
        if outcome == OUTSIDE:
            facts["error"] = why_outside(self._limits, resident * PAGE)
            return ProcessTotals(pid, "skipped", **facts)
        path = f"{directory}/smaps_rollup"
        error: Error
        if outcome == DENIED:
            # Everybody may read stat, unless the mount forbids it (hidepid=1, EPERM).
            number = errno.EPERM if who is None else errno.EACCES
            self._rights = self._rights or own_rights()
            error = self._source.denied(PermissionError(number, ""), pid, path, self._rights)
        else:
            error = NoMemoryMap(SWEEP_OUTCOMES[outcome].replace("_", " "), pid=pid, path=path)
        return ProcessTotals(pid, outcome_of(error), **{**facts, "error": str(error)})
