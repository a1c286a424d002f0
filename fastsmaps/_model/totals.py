"""Fields summed over a process, a group of mappings or several processes."""

from __future__ import annotations

from fastsmaps._fields import LABELS, SIZES, names_of, python_name
from fastsmaps._model.figures import Figures, add_figures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from typing import Any

#: Python's names of the figures that totals have, but for ``size``, ``uss`` and ``rss_swap``.
NAMES = tuple(python_name(label) for label in SIZES if label != "Size")

_BY_NAME = tuple((name, LABELS[name]) for name in NAMES)
_KNOWN = frozenset(SIZES)


class _Sums(Figures):
    """What Totals and Change have in common: figures in bytes by label, and ``size``."""

    __slots__ = ("_figures", "size")

    _known = SIZES
    _derived = ("size", "uss", "rss_swap")

    _figures: dict[str, int]
    #: The sum of end - start; None from a rollup, which does not tell it, and for no mappings.
    size: int | None

    def _figure(self, label: str) -> int | None:
        return self._figures.get(label)

    def _labels(self) -> Iterable[str]:
        return self._figures

    def as_dict(self) -> dict[str, int | None]:
        """Every figure by Python's name, None for what the kernel did not print."""
        return self._named(())

    def _named(self, taken: Collection[str]) -> dict[str, int | None]:
        """as_dict() without the names that are `taken`."""
        figures = self._figures
        result: dict[str, int | None] = {"size": self.size, "uss": self.uss}
        result["rss_swap"] = self.rss_swap
        # By label, not by attribute: a scan does this for each process (5 us).
        for name, label in _BY_NAME:
            result[name] = figures.get(label)
        new = [label for label in figures if label not in _KNOWN]
        for label, name in names_of(new, type(self), taken).items():
            result[name] = figures[label]
        return result

    def __repr__(self) -> str:
        shown = ("pss", "uss", "rss", "swap")
        figures = ", ".join(f"{name}={getattr(self, name)}" for name in shown)
        return f"<{type(self).__name__} {figures} bytes>"


def beside(
    head: dict[str, Any], sums: _Sums, taken: Collection[str] | None = None
) -> dict[str, Any]:
    """A row's facts and its figures.

    A field whose name is `taken` (default: one of `head`'s) has the kernel's spelling instead.
    """
    return {**head, **sums._named(head if taken is None else taken)}


class Totals(_Sums):
    """Fields summed over mappings, in bytes; immutable, hashable, compared by its figures.

    An attribute for each size the kernel has had (``rss``, ``pss``, ... , docs/fields.md), None
    where it printed none; ``totals["NewField"]`` for those of tomorrow. Page sizes, flags and
    keys are not summed, so not here. A mapping that lacks a field is left out of its sum.

    ``a + b`` adds, with None for what either lacks, so that ``sum()`` over processes works;
    ``b - a`` gives the Change from a to b.

    Sources: proc_pid_smaps(5), fs/proc/task_mmu.c.
    """

    __slots__ = ("source",)

    #: The file it comes from: "smaps_rollup" or "smaps" ("maps" if that was read, which has no
    #: figures but ``size``; "mixed" for a sum of different ones, also within one text).
    source: str

    def __init__(self, figures: dict[str, int], size: int | None, source: str) -> None:
        set_ = object.__setattr__
        set_(self, "_figures", figures)
        set_(self, "size", size)
        set_(self, "source", source)

    def __reduce__(self) -> tuple[Callable[..., Totals], tuple[Any, ...]]:
        return Totals, (self._figures, self.size, self.source)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Totals):
            return NotImplemented
        return self._figures == other._figures and self.size == other.size

    def __hash__(self) -> int:
        return hash((self.size, frozenset(self._figures.items())))

    def __add__(self, other: Totals) -> Totals:
        if not isinstance(other, Totals):
            return NotImplemented
        mine, its = self._figures, other._figures
        return Totals(
            {label: value + its[label] for label, value in mine.items() if label in its},
            None if self.size is None or other.size is None else self.size + other.size,
            self.source if self.source == other.source else "mixed",
        )

    def __radd__(self, other: int) -> Totals:
        return self if other == 0 else NotImplemented  # sum() begins with 0

    def __sub__(self, other: Totals) -> Change:
        if not isinstance(other, Totals):
            return NotImplemented
        return Change(other, self)


class Change(_Sums):
    """The signed difference of two Totals, in bytes; None for what either lacks."""

    __slots__ = ("files", "key", "new", "old")

    old: Totals
    new: Totals
    #: What changed: the path, kind or process, where the totals are a group's.
    key: Any
    #: How many different files a group of mappings had before and after; otherwise None.
    files: tuple[int, int] | None

    def __init__(
        self,
        old: Totals,
        new: Totals,
        key: object = None,
        files: tuple[int, int] | None = None,
    ) -> None:
        before, after = old._figures, new._figures
        set_ = object.__setattr__
        figures = {label: after[label] - before[label] for label in after if label in before}
        set_(self, "_figures", figures)
        missing = old.size is None or new.size is None
        set_(self, "size", None if missing else (new.size or 0) - (old.size or 0))
        set_(self, "old", old)
        set_(self, "new", new)
        set_(self, "key", key)
        set_(self, "files", files)

    def _labels(self) -> Iterable[str]:
        # A field that only one side has is a field, and its change None.
        return {**self.old._figures, **self.new._figures}

    def __reduce__(self) -> tuple[Callable[..., Change], tuple[Any, ...]]:
        return Change, (self.old, self.new, self.key, self.files)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Change):
            return NotImplemented
        return self.__reduce__() == other.__reduce__()

    def __hash__(self) -> int:
        return hash((self.old, self.new, self.key))


add_figures(_Sums, NAMES)
