"""The mark of public classes and functions."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")


def public(thing: T) -> T:
    """Name the package as the module of a class or function.

    Pickles, tracebacks and help() then show the public name, and the real module may move.
    """
    thing.__module__ = "fastsmaps"
    return thing
