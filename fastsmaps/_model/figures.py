"""Attributes for the kernel's fields, shared by whatever has figures."""

from __future__ import annotations

from array import array

from fastsmaps._fields import ABSENT, LABELS, names_of
from fastsmaps._model.values import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


#: Figures that are sums of two fields, None where the kernel printed only one of them or none.
SUMS = {"uss": ("Private_Clean", "Private_Dirty"), "rss_swap": ("Rss", "Swap")}


class Figures(Frozen):
    """Something with figures by the kernel's labels: ``x.pss``, ``x["Pss"]``, ``x["pss"]``.

    A field that this version does not know is there too, by the same rule of names
    (``x.new_field``, ``x["NewField"]``).
    """

    __slots__ = ()

    if TYPE_CHECKING:  # add_figures() makes them
        rss: int | None
        pss: int | None
        pss_dirty: int | None
        pss_anon: int | None
        pss_file: int | None
        pss_shmem: int | None
        shared_clean: int | None
        shared_dirty: int | None
        private_clean: int | None
        private_dirty: int | None
        referenced: int | None
        anonymous: int | None
        ksm: int | None
        lazy_free: int | None
        anon_huge_pages: int | None
        shmem_pmd_mapped: int | None
        file_pmd_mapped: int | None
        shared_hugetlb: int | None
        private_hugetlb: int | None
        swap: int | None
        swap_pss: int | None
        locked: int | None
        nonlinear: int | None

    #: Labels that are fields here also where the kernel printed none.
    _known: tuple[str, ...] = ()
    #: Names of figures that are no label's.
    _derived: tuple[str, ...] = ()

    def _figure(self, label: str) -> int | None:
        raise KeyError(label)

    def _labels(self) -> Iterable[str]:
        return ()

    @property
    def uss(self) -> int | None:
        """Private_Clean + Private_Dirty: what would be free if the process ended, or unmapped it.

        Hugetlb pages are in no Rss, Pss or Uss: see ``private_hugetlb``.
        """
        return self._sum("uss")

    @property
    def rss_swap(self) -> int | None:
        """Rss + Swap: memory in use, wherever it is now; top(1) calls it USED.

        Pages that several processes share count in each of them, as in Rss.
        """
        return self._sum("rss_swap")

    def _sum(self, name: str) -> int | None:
        one, other = map(self._figure, SUMS[name])
        return None if one is None or other is None else one + other

    def __getattr__(self, name: str) -> int | None:
        # Only reached for what the class does not have: a field nobody has seen yet.
        if not name.startswith("_"):
            for label, own in names_of(self._labels(), type(self)).items():
                if own == name:
                    return self._figure(label)
        raise AttributeError(f"{type(self).__name__!r} has no field {name!r}")

    def __getitem__(self, name: str) -> int | None:
        """The figure by the kernel's label or Python's name; KeyError for what is no field."""
        if name in self._derived:
            value: int | None = getattr(self, name)
            return value
        label = LABELS.get(name, name)
        if label in self._known or label in self._labels():
            return self._figure(label)
        for label, own in names_of(self._labels(), type(self)).items():
            if own == name:
                return self._figure(label)
        raise KeyError(name)


def cell(value: int | None) -> int:
    """The value as a column of 64-bit numbers holds it.

    ABSENT for what is not known, and for what does not fit: no kernel gives it, but captures do.
    """
    return value if value is not None and 0 <= value < ABSENT else ABSENT


def sum_column(name: str, column: Callable[[str], Sequence[int]]) -> memoryview:
    """One of SUMS for all rows, from the columns that `column` gives by the kernel's label.

    Empty where either column is.
    """
    one, other = map(column, SUMS[name])
    # ABSENT is the largest number: with it, or beyond 64 bits, which no kernel prints, all is.
    pairs = zip(one, other, strict=bool(one and other))
    values = array("Q", [min(a + b, ABSENT) for a, b in pairs])
    return memoryview(values).toreadonly()


def add_figures(cls: type[Figures], names: Iterable[str]) -> None:
    """Gives the class a read-only attribute for each of these fields."""
    for name in names:
        setattr(cls, name, _attribute(LABELS[name]))


def _attribute(label: str) -> property:
    return property(lambda self: self._figure(label), doc=f"{label} of the kernel; docs/fields.md")
