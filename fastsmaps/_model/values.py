"""What is handed out as one piece: set once, equal by value, pickled."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Frozen:
    """Attributes are set once, by `object.__setattr__`."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")


class Value(Frozen):
    """Is what its slots hold.

    By hand, since to import dataclasses takes as long as to import all of fastsmaps.
    """

    __slots__: tuple[str, ...] = ()

    def __init__(self, **values: object) -> None:
        for name in self.__slots__:
            object.__setattr__(self, name, values[name])

    def _values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def __reduce__(self) -> tuple[Callable[..., Value], tuple[Any, ...]]:
        return _rebuilt, (type(self), self._values())

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash(tuple(self._values().values()))


def _rebuilt(cls: type[Value], values: dict[str, Any]) -> Value:
    value = cls.__new__(cls)
    Value.__init__(value, **values)
    return value
