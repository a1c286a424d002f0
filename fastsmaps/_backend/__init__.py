"""The backend in use: ``FASTSMAPS_BACKEND=auto|c|python``, read at import.

``WHY_PYTHON`` is the reason why "auto" chose pure Python; None if it did not.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: The names that a backend exports.
NAMES = (
    "Sweep", "Table", "Uses", "find", "find_at", "find_many", "lines", "parse", "pids_between",
    "read", "read_at", "rollup", "rollup_at", "same_memory", "statms", "total",
)  # fmt: skip


def exports(backend: str) -> dict[str, Any]:
    """Return what the backend "c" or "python" exports; raise ImportError if it is missing."""
    if backend == "c":
        from fastsmaps._backend import _csmaps

        return {name: getattr(_csmaps, name) for name in NAMES}
    from fastsmaps._backend import _pyfind, _pysame_memory, _pysmaps, _pysweep

    modules = (_pysweep, _pysmaps, _pysame_memory, _pyfind)
    return {name: getattr(next(m for m in modules if hasattr(m, name)), name) for name in NAMES}


# The errors of Cython and CPython if another interpreter of this process has the extension.
_ONE_INTERPRETER = ("Interpreter change detected", "does not support loading in subinterpreters")


def _choose() -> tuple[str, dict[str, Any], str | None]:
    choice = os.environ.get("FASTSMAPS_BACKEND", "auto")
    if choice not in ("auto", "c", "python"):
        raise ImportError(f"FASTSMAPS_BACKEND must be auto, c or python, not {choice!r}")
    if choice != "python":
        try:
            return "c", exports("c"), None
        except ImportError as error:
            # An extension that was built but cannot be imported is an error, not a reason to be
            # slow silently. Only one interpreter of a process can have it, which is no failure.
            from importlib.util import find_spec

            built = find_spec("fastsmaps._backend._csmaps") is not None
            if built and (choice == "c" or not any(map(str(error).__contains__, _ONE_INTERPRETER))):
                raise
            if choice == "c":
                raise ImportError(
                    "FASTSMAPS_BACKEND=c, but the extension was not built: "
                    "install with FASTSMAPS_BUILD_EXTENSION=1 to see why"
                ) from error
            return "python", exports("python"), str(error) if built else "it was not built"
    return "python", exports("python"), None


BACKEND, _exports, WHY_PYTHON = _choose()

if TYPE_CHECKING:
    # Both backends have the same interface: the extension's types hold for both.
    from fastsmaps._backend._csmaps import Found as Found
    from fastsmaps._backend._csmaps import Row as Row
    from fastsmaps._backend._csmaps import RowHead as RowHead
    from fastsmaps._backend._csmaps import Sweep as Sweep
    from fastsmaps._backend._csmaps import SweepRow as SweepRow
    from fastsmaps._backend._csmaps import Table as Table
    from fastsmaps._backend._csmaps import Uses as Uses
    from fastsmaps._backend._csmaps import find as find
    from fastsmaps._backend._csmaps import find_at as find_at
    from fastsmaps._backend._csmaps import find_many as find_many
    from fastsmaps._backend._csmaps import lines as lines
    from fastsmaps._backend._csmaps import parse as parse
    from fastsmaps._backend._csmaps import pids_between as pids_between
    from fastsmaps._backend._csmaps import read as read
    from fastsmaps._backend._csmaps import read_at as read_at
    from fastsmaps._backend._csmaps import rollup as rollup
    from fastsmaps._backend._csmaps import rollup_at as rollup_at
    from fastsmaps._backend._csmaps import same_memory as same_memory
    from fastsmaps._backend._csmaps import statms as statms
    from fastsmaps._backend._csmaps import total as total

else:
    globals().update(_exports)
