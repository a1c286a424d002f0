"""Fields summed over a process, a group of mappings or several processes."""

from __future__ import annotations

from fastsmaps._fields import NAMES, SIZES, Fields
from fastsmaps._model import sizes
from fastsmaps._model.record import Record, add_fields
from fastsmaps._model.values import Shown
from fastsmaps._public import public

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fastsmaps._model.view import View

# The fields that totals always have; ``size`` takes the place of the printed Size.
_LABELS = {NAMES[label]: label for label in SIZES if label != "Size"}
_KNOWN = frozenset(SIZES)

#: Stands for an empty path where people read it; no real path has this form.
NO_NAME = "(no name)"

#: Python's names of the fields that totals always have, besides ``size``, ``uss``, ``rss_swap``.
SUM_NAMES = tuple(_LABELS)


class _Sums(Record):
    """The base of Totals and Change: sums in bytes by label, and ``size``."""

    __slots__ = ("_by_label", "size")

    _derived = ("size", "uss", "rss_swap")

    _by_label: dict[str, int]
    #: The sum of end - start; None from a rollup, which lacks it, and without mappings.
    size: int | None

    if TYPE_CHECKING:

        def __getitem__(self, name: str) -> int | None: ...

    def _value(self, label: str) -> int | None:
        return self._by_label.get(label)

    def _fields(self) -> Fields:
        return Fields(self._by_label, known=SIZES)

    @property
    def by_label(self) -> dict[str, int]:
        """The sums that the kernel printed, by the kernel's label."""
        return dict(self._by_label)

    def as_dict(self) -> dict[str, int | None]:
        """Return every sum by Python's name; None if the kernel did not print it."""
        sums = self._by_label
        result: dict[str, int | None] = {"size": self.size, "uss": self.uss}
        result["rss_swap"] = self.rss_swap
        # By label, not by attribute, which is slower: a scan does this for each process (5 us).
        for name, label in _LABELS.items():
            result[name] = sums.get(label)
        if not _KNOWN.issuperset(sums):
            for label, name in self._fields().names.items():
                if label not in _KNOWN:
                    result[name] = sums[label]
        return result


@public
class Totals(_Sums, Shown):
    """Fields summed over mappings, in bytes; immutable, hashable, compared by their values.

    Each size that a kernel ever had is an attribute (``rss``, ``pss``, ... , docs/fields.md), None
    if it was not printed. ``totals["pss"]`` and ``totals["Pss"]`` give the same, fields of newer
    kernels included. Page sizes, flags and keys are not summed. A mapping that lacks a field is
    left out of its sum.

    Totals follow the mapping protocol: ``dict(totals) == totals.as_dict()``.

    ``a + b`` adds, with None for a field that either lacks, so that ``sum()`` over processes works;
    ``b - a`` gives the Change from a to b.

    Sources: proc_pid_smaps(5), fs/proc/task_mmu.c.
    """

    __slots__ = ("source",)

    #: The file that was read: "smaps_rollup", "smaps" or "maps" (which only has ``size``); "mixed"
    #: for a sum over different ones, even in one text.
    source: str

    def __init__(self, by_label: dict[str, int], size: int | None, source: str) -> None:
        set_ = object.__setattr__
        set_(self, "_by_label", by_label)
        set_(self, "size", size)
        set_(self, "source", source)

    def __reduce__(self) -> tuple[Callable[..., Totals], tuple[Any, ...]]:
        return Totals, (self._by_label, self.size, self.source)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Totals):
            return NotImplemented
        return self._by_label == other._by_label and self.size == other.size

    def __hash__(self) -> int:
        return hash((self.size, frozenset(self._by_label.items())))

    def _view(self) -> View:
        from fastsmaps._model import views

        return views.of_totals(self)

    def __repr__(self) -> str:
        shown = ("pss", "uss", "rss", "swap")
        return f"<Totals {' '.join(f'{name}={sizes.human(self[name])}' for name in shown)}>"

    def __add__(self, other: Totals) -> Totals:
        if not isinstance(other, Totals):
            return NotImplemented
        added = other._by_label
        return Totals(
            {k: value + added[k] for k, value in self._by_label.items() if k in added},
            None if self.size is None or other.size is None else self.size + other.size,
            self.source if self.source == other.source else "mixed",
        )

    def __radd__(self, other: int) -> Totals:
        return self if other == 0 else NotImplemented  # sum() starts at 0

    def __sub__(self, other: Totals) -> Change:
        if not isinstance(other, Totals):
            return NotImplemented
        return Change(other, self)


@public
class Change(_Sums):
    """The signed difference of two Totals, in bytes; None for a field that either lacks."""

    __slots__ = ("files", "key", "new", "old", "seconds")

    old: Totals
    new: Totals
    #: The number of different files of a group of mappings before and after; otherwise None.
    files: tuple[int, int] | None
    #: The time between old and new; None if it is not known.
    seconds: float | None
    if TYPE_CHECKING:  # typing.get_type_hints() could not resolve Any
        #: The key of the group that changed: a path, kind or process; None if there are no groups.
        key: Any

    def __init__(
        self,
        old: Totals,
        new: Totals,
        key: object = None,
        files: tuple[int, int] | None = None,
        seconds: float | None = None,
    ) -> None:
        before, after = old._by_label, new._by_label
        set_ = object.__setattr__
        changes = {label: after[label] - before[label] for label in after if label in before}
        set_(self, "_by_label", changes)
        missing = old.size is None or new.size is None
        set_(self, "size", None if missing else (new.size or 0) - (old.size or 0))
        set_(self, "old", old)
        set_(self, "new", new)
        set_(self, "key", key)
        set_(self, "files", files)
        set_(self, "seconds", seconds)

    @property
    def name(self) -> str:
        """The key as text: ``/usr/lib/libc.so.6``, ``7f12a000-7f13b000 (no name)``.

        Not escaped: a path may have any character.
        """
        if self.key is None:
            return ""
        parts = self.key if isinstance(self.key, tuple) else (self.key,)
        return " ".join("?" if part is None else str(part) or NO_NAME for part in parts)

    def rate(self, name: str = "uss") -> float | None:
        """Return the change of a field a second, in bytes; None if it or the time is not known.

        Raises KeyError for an unknown name.
        """
        value = self[name]
        return value / self.seconds if self.seconds and value is not None else None

    @property
    def shared_with_fewer(self) -> bool | None:
        """Whether the Pss grew mostly because pages are shared with fewer processes than before.

        True if Pss grew and Rss grew by less than half of that. New pages count in Rss at least as
        much as in Pss. But when another process ends, unmaps a page or writes to its copy, the
        share of this process grows: its Pss, and its Uss if nobody else is left, while its Rss
        stays. The same figures result if this process writes to pages that it has shared since a
        fork: it then has a copy, which is new memory. None if the kernel printed no Rss or Pss.
        """
        rss, pss = self.rss, self.pss
        return None if rss is None or pss is None else 2 * max(rss, 0) < pss

    def _fields(self) -> Fields:
        # A field that only one side has counts too: its change is None.
        return Fields({**self.old._by_label, **self.new._by_label}, known=SIZES)

    def __reduce__(self) -> tuple[Callable[..., Change], tuple[Any, ...]]:
        return Change, (self.old, self.new, self.key, self.files, self.seconds)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Change):
            return NotImplemented
        return self.__reduce__() == other.__reduce__()

    def __hash__(self) -> int:
        return hash((self.old, self.new, self.key))

    def __repr__(self) -> str:
        shown = "size" if self.pss is None else "pss"
        key = "" if self.key is None else f"{self.key!r} "
        return f"<Change {key}{shown}={sizes.change(self[shown])}>"


# typing.get_type_hints() looks up names in the public package, which gets them when they are used.
Change.__annotations__.update(old=Totals, new=Totals)

add_fields(_Sums, _LABELS.values())

#: The totals of a process that was not read: every field None.
UNREAD = Totals({}, None, "smaps_rollup")
