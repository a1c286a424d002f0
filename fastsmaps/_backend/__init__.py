"""Which of the two backends is used: ``FASTSMAPS_BACKEND=auto|c|python``, read at import.

``WHY_PYTHON`` says why "auto" chose pure Python; None where it did not.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: What a backend exports.
NAMES = ("Sweep", "Table", "Uses", "lines", "parse", "read", "same_memory", "statms", "total")


def exports(backend: str) -> dict[str, Any]:
    """All of NAMES of the backend "c" or "python"; ImportError where it is not there."""
    if backend == "c":
        from fastsmaps._backend import _csmaps

        return {name: getattr(_csmaps, name) for name in NAMES}
    from fastsmaps._backend import _pysmaps, _pysweep

    modules = (_pysweep, _pysmaps)
    return {name: getattr(next(m for m in modules if hasattr(m, name)), name) for name in NAMES}


# What Cython and CPython say where another interpreter of this process has the extension already.
_ONE_INTERPRETER = ("Interpreter change detected", "does not support loading in subinterpreters")


def _choose() -> tuple[str, dict[str, Any], str | None]:
    choice = os.environ.get("FASTSMAPS_BACKEND", "auto")
    if choice not in ("auto", "c", "python"):
        raise ImportError(f"FASTSMAPS_BACKEND must be auto, c or python, not {choice!r}")
    if choice != "python":
        try:
            return "c", exports("c"), None
        except ImportError as error:
            # An extension that is there and cannot be imported is an error, not a reason to
            # be slow in silence. But it is for one interpreter of a process alone.
            from importlib.util import find_spec

            there = find_spec("fastsmaps._backend._csmaps") is not None
            if there and (choice == "c" or not any(map(str(error).__contains__, _ONE_INTERPRETER))):
                raise
            if choice == "c":
                raise ImportError(
                    "FASTSMAPS_BACKEND=c, but the extension was not built: "
                    "install with FASTSMAPS_BUILD_EXTENSION=1 to see why"
                ) from error
            return "python", exports("python"), str(error) if there else "it was not built"
    return "python", exports("python"), None


BACKEND, _exports, WHY_PYTHON = _choose()

if TYPE_CHECKING:
    # The two are twins: what mypy knows of one holds for the other.
    from fastsmaps._backend._csmaps import Row as Row
    from fastsmaps._backend._csmaps import Sweep as Sweep
    from fastsmaps._backend._csmaps import SweepRow as SweepRow
    from fastsmaps._backend._csmaps import Table as Table
    from fastsmaps._backend._csmaps import Uses as Uses
    from fastsmaps._backend._csmaps import lines as lines
    from fastsmaps._backend._csmaps import parse as parse
    from fastsmaps._backend._csmaps import read as read
    from fastsmaps._backend._csmaps import same_memory as same_memory
    from fastsmaps._backend._csmaps import statms as statms
    from fastsmaps._backend._csmaps import total as total

else:
    globals().update(_exports)
