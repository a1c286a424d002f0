"""Record: named fields, by attribute and by key; the base of Mapping, Totals and Change."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, ValuesView

from fastsmaps._arguments import Any
from fastsmaps._fields import NAMES, SUMMED, SUMS, Fields
from fastsmaps._model.values import Frozen

TYPE_CHECKING = False


class Record(Frozen):
    """Fields by name: ``x.pss``, ``x["pss"]``, ``x["Pss"]``; also ``"pss" in x``, ``dict(x)``.

    A field that this version does not know is present too, named by the same rule
    (``x["new_field"]``, ``x["NewField"]``).
    """

    __slots__ = ()

    if TYPE_CHECKING:  # add_fields() makes them
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

    #: Names of values that are not fields of the kernel.
    _derived: tuple[str, ...] = ()
    #: The fields that every object of the class has, whether or not the kernel printed them.
    _known: Fields = SUMMED

    def _value(self, label: str) -> int | None:
        raise NotImplementedError

    def _fields(self) -> Fields:
        """Return the fields of this object, including new ones."""
        raise NotImplementedError

    def as_dict(self) -> dict[str, Any]:
        """Every value by Python's name, None for a field that the kernel did not print."""
        raise NotImplementedError

    @property
    def uss(self) -> int | None:
        """Private_Clean + Private_Dirty: memory that would be freed if the process ended.

        Hugetlb pages are in no Rss, Pss or Uss: see ``private_hugetlb``.
        """
        return self._sum("uss")

    @property
    def rss_swap(self) -> int | None:
        """Rss + Swap: memory in use, in RAM or swapped out; top(1) calls it USED.

        Pages that several processes share count in each of them, as in Rss.
        """
        return self._sum("rss_swap")

    def _sum(self, name: str) -> int | None:
        first, second = map(self._value, SUMS[name])
        return None if first is None or second is None else first + second

    if not TYPE_CHECKING:  # a type checker refuses what is not declared, such as x.psss

        def __getattr__(self, name: str) -> int | None:
            # Only called for names that the class lacks: a field of a newer kernel.
            if not name.startswith("_"):
                for label, own_name in self._fields().names.items():
                    if own_name == name:
                        return self._value(label)
            raise AttributeError(f"{type(self).__name__!r} has no field {name!r}")

    # ---- the mapping protocol: dict(x) == x.as_dict()

    def __getitem__(self, name: str) -> Any:
        """Return a value by Python's name or the kernel's label; KeyError for an unknown name."""
        if name in self._derived:
            return getattr(self, name)
        label = self._known.find(name)
        if label is None:
            label = self._fields().label(name, self._derived)
        return self._value(label)

    def __contains__(self, name: object) -> bool:
        """Whether ``x[name]`` is known: the kernel's labels too, which keys() leaves out."""
        return isinstance(name, str) and (
            name in self._derived or self._fields().find(name) is not None
        )

    def __bool__(self) -> bool:
        return True  # without counting

    def __iter__(self) -> Iterator[str]:
        return iter(self.as_dict())

    def __reversed__(self) -> Iterator[str]:
        return reversed(self.as_dict())

    def __len__(self) -> int:
        return len(self.as_dict())

    def keys(self) -> KeysView[str]:
        """Return the names in as_dict()."""
        return self.as_dict().keys()

    def values(self) -> ValuesView[Any]:
        """Return the values in as_dict()."""
        return self.as_dict().values()

    def items(self) -> ItemsView[str, Any]:
        """Return the names and values in as_dict()."""
        return self.as_dict().items()

    def get(self, name: str, default: Any = None) -> Any:
        """Return ``x[name]``; None if it was not printed, `default` for an unknown name."""
        try:
            return self[name]
        except KeyError:
            return default


def add_fields(cls: type[Record], labels: Iterable[str]) -> None:
    """Give the class a read-only attribute for each of these fields."""
    for label in labels:
        setattr(cls, NAMES[label], _attribute(label))


def _attribute(label: str) -> property:
    return property(
        lambda self: self._value(label), doc=f"The kernel's {label}; see docs/fields.md"
    )
