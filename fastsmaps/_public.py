"""The mark of public classes and functions."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T", bound=Callable[..., object])

_PACKAGE = "fastsmaps"


def public(thing: T) -> T:
    """Put a class or function into the package, and name the package as its module.

    Pickles, tracebacks and help() then show the public name, and the real module may move.
    typing.get_type_hints() looks up the annotations of a public class in the package.
    """
    thing.__module__ = _PACKAGE
    vars(sys.modules[_PACKAGE]).setdefault(thing.__name__, thing)
    return thing
