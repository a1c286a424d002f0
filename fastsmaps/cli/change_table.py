"""Changes as records, and as tables with signed figures and growth a second."""

from __future__ import annotations

from fastsmaps._model.sizes import change as signed
from fastsmaps._model.totals import NO_NAME, UNREAD, Change
from fastsmaps._output.display import kib, signed_kib
from fastsmaps.cli.records_output import Column

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastsmaps.cli.output import Record

#: The fields of a record besides its keys, those of files, and the sizes.
FIELDS = ("old", "new", "change", "seconds", "rate", "shared_with_fewer")

#: The keys of mappings that were compared by name or range.
MAPPING_NAMES = ("range", "path")

#: Explains the mark of marked_name().
FEWER = "* shared with fewer processes than before: Pss grew, but few or no pages are new"
# Fewer columns of a terminal leave no room for a range and all sizes.
_WIDE = 100


def record_of(change: Change, keys: Record) -> Record:
    """Return Pss before and after (size if there is no Pss), and the changes of all fields."""
    field = "size" if change.pss is None else "pss"
    record = {**keys, "old": change.old[field], "new": change.new[field], "change": change[field]}
    record["seconds"], record["rate"] = change.seconds, change.rate()
    record["shared_with_fewer"] = change.shared_with_fewer
    if change.files is not None:
        record["old_files"], record["new_files"] = change.files
    return {**record, **change.as_dict()}


def mapping_keys(change: Change) -> Record:
    """Return the values of MAPPING_NAMES."""
    area, path = change.key if isinstance(change.key, tuple) else (None, change.key)
    return dict(zip(MAPPING_NAMES, (area, path), strict=True))


def mapping_name(record: Record) -> str:
    """Return the name of a mapping that grew: its range, if it has one, and its path."""
    area, path = record["range"], record["path"] or NO_NAME
    return marked_name(f"{area} {path}" if area else path, record)


def marked_name(name: str, record: Record) -> str:
    """Return the name with a mark if it is only shared with fewer processes."""
    return f"* {name}" if record["shared_with_fewer"] else name


def names_of(*keys: str, files: bool) -> list[str]:
    """Return the names of a record's values in their order."""
    counts = ["old_files", "new_files"] if files else []
    return [*keys, *FIELDS, *counts, *UNREAD]


def total_record(change: Change, keys: Record) -> Record:
    """Return the record of a total, in which one group's growth may hide what others share."""
    return {**record_of(change, keys), "shared_with_fewer": None}


def sum_of(changes: Sequence[Change]) -> Change:
    """Return the sum of changes, at least one."""
    first, *rest = changes
    old = sum([change.old for change in rest], first.old)
    new = sum([change.new for change in rest], first.new)
    return Change(old, new, seconds=first.seconds)


def change_columns(
    records: Sequence[Record], unit: Callable[[int | None], str], width: int | None
) -> list[Column]:
    """Return the columns of sizes for these records, which include that of their total.

    `width` is that of the terminal, None without one.
    """
    is_narrow = width is not None and width < _WIDE
    is_kib = unit is kib
    more = " KiB" if is_kib else ""
    delta = signed_kib if is_kib else signed

    def difference(name: str) -> Column:
        return Column(f"{name.upper()} +/-{more}", lambda record: delta(record[name]))

    def rate(record: Record) -> str:
        return (_kib_rate if is_kib else _human_rate)(record["rate"])

    if records and all(record["pss"] is None for record in records):  # maps
        return [difference("size"), Column(f"NEW SIZE{more}", lambda record: unit(record["new"]))]
    columns = [difference("uss")]
    if any(record["rate"] is not None for record in records):
        columns.append(Column("USS KiB/s" if is_kib else "USS/s", rate))
    columns += [difference("pss"), *([] if is_narrow else [difference("rss")])]
    if any(record["swap"] for record in records):
        columns.append(difference("swap"))
    if not is_narrow:
        columns.append(Column(f"NEW PSS{more}", lambda record: unit(record["new"])))
    return columns


def _human_rate(rate: float | None) -> str:
    if not rate:
        return "-" if rate is None else "0"
    return f"{rate:+.1g} B/s" if abs(rate) < 1 else f"{signed(round(rate))}/s"


def _kib_rate(rate: float | None) -> str:
    if not rate:
        return "-" if rate is None else "0"
    value = rate / 1024
    return f"{value:+.0f}" if abs(value) >= 100 else f"{value:+.3g}"


def duration(seconds: float) -> str:
    """Return a time as people read it: "2.5 s", "3.0 min", "1.5 h", "2.0 days"."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"
