"""Base classes of results: immutable values, and objects that show their figures."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fastsmaps._model.view import View


class Frozen:
    """An object whose attributes are set once, by `object.__setattr__`."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")


class Value(Frozen):
    """An immutable object of the values in its slots: compared by them, hashable, picklable.

    Written by hand, since importing dataclasses takes as long as importing all of fastsmaps.
    """

    __slots__: tuple[str, ...] = ()

    def __init__(self, **values: object) -> None:
        for name in self.__slots__:
            object.__setattr__(self, name, values[name])

    def _values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    # Pickles name only the class, which is public, so that modules may move.

    def __getstate__(self) -> dict[str, Any]:
        return self._values()

    def __setstate__(self, state: dict[str, Any]) -> None:
        Value.__init__(self, **state)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash(tuple(self._values().values()))


class Shown:
    """An object that shows its figures: in a REPL as text, in a notebook as HTML, and to rich."""

    __slots__ = ()

    if TYPE_CHECKING:

        def _view(self) -> View: ...

    def __repr__(self) -> str:
        return self._view().text()

    def _repr_html_(self) -> str:
        return self._view().html()

    def __rich__(self) -> object:
        return self._view().rich()
