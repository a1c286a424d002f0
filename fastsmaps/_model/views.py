"""What each result shows of itself: the largest rows, and sums of the others and of all."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence

from fastsmaps._fields import ABSENT
from fastsmaps._model.grouping import short_command
from fastsmaps._model.processes import coverage_text, explained_text
from fastsmaps._model.totals import UNREAD
from fastsmaps._model.view import ROWS, View, name, number, percent, seconds, signed, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from fastsmaps._model.account import HostAccount
    from fastsmaps._model.changes import Changes
    from fastsmaps._model.mappings import Mappings
    from fastsmaps._model.process_totals import ProcessTotals
    from fastsmaps._model.processes import Scan
    from fastsmaps._model.samples import Sample, Samples
    from fastsmaps._model.totals import Change, Totals
    from fastsmaps._model.view import Column, Row

    #: A path, the numbers of its processes and of its files, and its totals.
    Use: TypeAlias = tuple[str, int, int, Totals]

# Characters of a command line; the middle of a long one is left out.
_MAX_COMMAND = 1000


def of_mappings(table: Mappings, *, sorted_: bool) -> View:
    """Show mappings: the largest ones, or the first ones of a table that was sorted."""
    total = table.totals()
    keys = _keys(table.fields, total.swap)
    shown = table if len(table) <= ROWS else table[:ROWS] if sorted_ else table.top(ROWS, keys[0])
    rows = [
        (*(row[key] for key in keys), row.perms, row.path or f"{row.start:x}-{row.end:x}")
        for row in shown
    ]
    process = "" if table.pid is None else f" of process {table.pid}"
    skipped = table.skipped_lines
    return View(
        f"{_number_of(len(table), 'mapping')}{process}{_origin(table)}",
        [*_sizes(keys), ("perms", name), ("name", name)],
        rows,
        sums=_sums(total, keys, rows, len(table) - len(rows), ("",)),
        notes=[f"{_number_of(skipped, 'line')} of the text skipped"] if skipped else [],
    )


def of_scan(table: Scan) -> View:
    """Show processes: the largest ones, or the first ones of a table that was sorted."""
    total = table.totals()
    keys = _keys(table.fields, total.swap)
    pids = [row.pid for row in table]
    as_is = len(pids) <= ROWS or pids != sorted(pids)
    shown = table[:ROWS] if as_is else table.top(ROWS, keys[0])
    coverage = table.coverage
    unseen = coverage["read"] - shown.coverage["read"]
    threads = coverage["kernel_thread"]
    rows = [(*(row[key] for key in keys), row.pid, row.user, _command(row)) for row in shown]
    count = _number_of(len(table) - threads, "process")
    if threads:
        count += f" and {_number_of(threads, 'kernel thread')}"
    notes = [coverage_text(coverage)]
    if table.hidden_by:
        notes.append(f"other users' processes are hidden ({table.hidden_by})")
    return View(
        f"{count}{_origin(table)}",
        [*_sizes(keys), ("pid", number), ("user", name), ("command", name)],
        rows,
        sums=_sums(total, keys, rows, unseen, (None, "")),
        notes=notes,
    )


def of_uses(uses: Collection[Use], coverage: Mapping[str, int]) -> View:
    """Show mapped files, the first ones of them."""
    sums = [totals for *_, totals in uses]
    total = sum(sums[1:], sums[0]) if sums else UNREAD
    keys = _keys([key for key, value in total.items() if value is not None], total.swap)
    several = any(files > 1 for _, _, files, _ in uses)
    rows = [
        (*(totals[key] for key in keys), processes, *([files] if several else []), path)
        for (path, processes, files, totals), _ in zip(uses, range(ROWS), strict=False)
    ]
    numbers = ["processes", *(["files"] if several else [])]
    return View(
        _number_of(len(uses), "mapped file"),
        [*_sizes(keys), *((key, number) for key in numbers), ("path", name)],
        rows,
        sums=_sums(total, keys, rows, len(uses) - len(rows), [None] * len(numbers)),
        notes=[coverage_text(coverage)],
    )


def of_samples(table: Samples) -> View:
    """Show samples evenly spread over the time, and the largest Pss of all."""
    count = len(table)
    keys = _keys(table.fields, max(table.column("swap"), default=0))
    places: Sequence[int] = range(count)
    if count > ROWS:
        places = [i * (count - 1) // (ROWS - 1) for i in range(ROWS)]
    rows = [_sample(table[i], keys) for i in places]
    notes = []
    if count > ROWS:
        notes.append(f"{count - ROWS} samples between these are not shown")
    peaks = []
    if count > 1:
        values = [-1 if value == ABSENT else value for value in table.column(keys[0])]
        peaks = [_sample(table[values.index(max(values))], keys, f"largest {keys[0]}")]
    return View(
        _number_of(count, "sample"),
        [("elapsed", seconds), *_sizes(keys), ("", name)],
        rows,
        sums=peaks,
        notes=notes,
    )


def of_changes(changes: Changes) -> View:
    """Show the first changes, those of everything else, and the change of the whole."""
    total = changes.total
    keys = _keys([key for key, value in total.items() if value is not None], total.swap)
    shown = changes[:ROWS]
    rows = [
        (*(change[key] for key in keys), "* " * bool(change.shared_with_fewer) + change.name)
        for change in shown
    ]
    fewer = any(change.shared_with_fewer for change in shown)
    span = "" if total.seconds is None else f" in {total.seconds:.1f} s"
    return View(
        f"{_number_of(len(changes), 'change')}{span}",
        [*((key, signed) for key in keys), ("name", name)],
        rows,
        sums=_sums(total, keys, rows, len(changes) - len(rows), ()),
        notes=["* shared with fewer processes than before"] if fewer else [],
    )


def of_account(account: HostAccount) -> View:
    """Show all of a host's memory by purpose."""
    rows = [
        (row.size, 100 * row.size / account.total, row.name, row.about)
        for row in account.rows
        if row.size
    ]
    zero = len(account.rows) - len(rows)
    return View(
        f"Memory{_origin(account)}",
        [("size", size), ("%", percent), ("row", name), ("what it is", name)],
        rows,
        sums=[(account.total, 100.0, "sum", "MemTotal")],
        notes=[
            f"{_number_of(zero, 'other row')}: 0" if zero else "",
            coverage_text(account.coverage),
            explained_text(account.explained),
            f"other users' processes are hidden ({account.hidden_by})" if account.hidden_by else "",
        ],
    )


def of_totals(totals: Totals) -> View:
    """Show the fields that the kernel printed."""
    known = {key: value for key, value in totals.items() if value is not None}
    zero = list(known.values()).count(0)
    return View(
        f"Totals from {totals.source}",
        [("size", size), ("field", name)],
        [(value, key) for key, value in known.items() if value],
        notes=[f"{_number_of(zero, 'other field')}: 0"] if zero else [],
    )


def _keys(fields: Collection[str], swap: int | None) -> list[str]:
    """Return the names of the sizes to show: what was printed, and swap unless it is 0."""
    known = {*fields, *(["uss"] if "private_dirty" in fields else [])}
    if swap == 0:
        known.discard("swap")
    return [key for key in ("pss", "uss", "rss", "swap") if key in known] or ["size"]


def _sizes(keys: Iterable[str]) -> list[Column]:
    return [(key, size) for key in keys]


def _sums(
    total: Totals | Change, keys: list[str], rows: Sequence[Row], unseen: int, blank: Row
) -> list[Row]:
    """Return lines with the sums of the `unseen` rows that are not shown, and of all."""
    if len(rows) + unseen < 2:
        return []
    sums = [total[key] for key in keys]
    lines: list[Row] = [(*sums, *blank, "sum")]
    if unseen:
        shown = zip(*(row[: len(keys)] for row in rows), strict=True)
        rest = [
            None if value is None else value - sum(part or 0 for part in parts)
            for value, parts in zip(sums, shown, strict=True)
        ]
        lines.insert(0, (*rest, *blank, f"{unseen} more"))
    return lines


def _sample(sample: Sample, keys: Iterable[str], note: str = "") -> Row:
    return (sample.elapsed, *(sample.totals[key] for key in keys), note)


def _command(row: ProcessTotals) -> str:
    """Return the command, or the process's name, and why it was not read."""
    command = short_command(row, _MAX_COMMAND) if row.raw_cmdline else row.comm or "?"
    return command if row.outcome == "read" else f"{command} ({row.outcome})"


def _number_of(count: int, what: str) -> str:
    plural = "" if count == 1 else "es" if what.endswith("s") else "s"
    return f"{count} {what}{plural}"


def _origin(table: Mappings | Scan | HostAccount) -> str:
    """Return where and when a table was read, in local time."""
    if table.host is not None:
        where = f" on {table.host}"
    else:
        where = f" in {table.procfs}" if table.procfs not in (None, "/proc") else ""
    if table.taken_at is None:
        return where
    return f"{where}, {time.strftime('%Y-%m-%d %H:%M:%S %Z', time.localtime(table.taken_at))}"
