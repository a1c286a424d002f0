"""Processes by what they have in common, a bounded number of groups, with names made harmless."""

from __future__ import annotations

from fastsmaps._model.grouping import Keys, words_of
from fastsmaps._output.display import harmless

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from fastsmaps._model.grouping import By
    from fastsmaps._model.process_totals import ProcessTotals
    from fastsmaps._model.processes import Scan

    Key = tuple[str, ...]

#: The name of the group that holds what is beyond the limit.
OTHER = "other"
#: The figures that are summed, in bytes.
SUMMED = ("pss", "uss", "rss", "swap", "hugetlb")
#: The parts of Pss; kernels before 5.3 do not print them.
PARTS = ("anon", "file", "shmem")

# A group with a place of its own gives it up only to one that is larger by this factor: two of
# nearly the same size would otherwise change places at every sweep.
_INCUMBENT = 1.25

#: Outcomes of processes without memory; all others belong to a group, read or not.
UNSEEN = ("kernel_thread", "zombie", "gone")


class ProcessGroup:
    """The sums over some processes.

    ``processes`` counts them, ``unread`` those of them that are missing in the sums. ``figures``
    are in bytes, in the order of SUMMED, None for what is not known: nothing was read, or a
    process lacks it. ``parts`` are those of Pss, in the order of PARTS; ``mappings`` is the number
    of the process that has most, None where it is not known. ``estimated`` is the part of Pss
    that was scaled since it was read, ``age`` how old the oldest figure is, in seconds.
    """

    __slots__ = ("age", "estimated", "figures", "mappings", "parts", "processes", "rows", "unread")

    def __init__(self, rows: Sequence[ProcessTotals]) -> None:
        self.rows = rows
        read = [row for row in rows if row.totals is not None]
        totals = [row.totals for row in read if row.totals is not None]
        self.processes = len(rows)
        self.unread = len(rows) - len(read)
        self.figures: tuple[int | None, ...] = (
            _sum([one.pss for one in totals]),
            _sum([one.uss for one in totals]),
            _sum([one.rss for one in totals]),
            _sum([one.swap for one in totals]),
            _sum([one.shared_hugetlb for one in totals] + [one.private_hugetlb for one in totals]),
        )
        self.parts: tuple[int | None, ...] = (
            _sum([one.pss_anon for one in totals]),
            _sum([one.pss_file for one in totals]),
            _sum([one.pss_shmem for one in totals]),
        )
        # Also those of processes that are too large to be read.
        counts = [row.mappings for row in rows if row.mappings is not None]
        self.mappings = max(counts, default=None)
        self.age = max((row.age for row in read if row.age is not None), default=0.0)
        self.estimated = sum(
            row.totals.pss or 0 for row in read if row.estimated and row.totals is not None
        )

    @property
    def pss(self) -> int:
        """What groups are ordered by; what is not known is the smallest."""
        return self.figures[0] or 0


def _sum(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def keys_of(by: By) -> Keys:
    """The keys by these words, whose names are labels; a pid says little alone: with its comm."""
    words = words_of(by)
    both = (("pid", "comm") if word == "pid" else (word,) for word in words)
    return Keys([word for some in both for word in some])


def grouped(scan: Scan, keys: Keys) -> dict[Key, ProcessGroup]:
    """All processes that have memory, by the values of these labels."""
    members: dict[Key, list[ProcessTotals]] = {}
    for row in scan:
        # What was not looked at yet has no name: coverage counts it. Some captures have no names.
        named = row.comm is not None or row.totals is not None
        shared = row.shares_memory_with is not None  # it has none of its own
        if row.outcome not in UNSEEN and named and not shared:
            key = tuple([label_value(value) for value in keys.values(row)])
            members.setdefault(key, []).append(row)
    return {name: ProcessGroup(rows) for name, rows in members.items()}


def bounded(
    groups: dict[Key, ProcessGroup], limit: int, before: Collection[Key]
) -> tuple[dict[Key, ProcessGroup], ProcessGroup | None, int]:
    """The `limit` largest by Pss, the sum of the rest (None where there is none), its number.

    Groups that were among the largest `before` stay there unless others outgrow them clearly.
    """

    def size(name: Key) -> tuple[float, Key]:
        return -groups[name].pss * (_INCUMBENT if name in before else 1.0), name

    order = sorted(groups, key=size)
    rest = [row for name in order[limit:] for row in groups[name].rows]
    largest = {name: groups[name] for name in order[:limit]}
    return largest, ProcessGroup(rest) if rest else None, len(order) - len(largest)


# ---- names


def label_value(value: object) -> str:
    r"""A name as it is told: without what a terminal would act on, and valid UTF-8.

    Control characters, changes of the writing direction and bytes that are no UTF-8 are made
    visible, ``\x1b``, ``\xff``. "" stands for what is not known, as for Prometheus, to which an
    empty label is none. What is really called "other" is ``\x6fther``: it is not the rest.
    """
    if value is None:
        return ""
    text = str(value)
    return r"\x6fther" if text == OTHER else harmless(text)
