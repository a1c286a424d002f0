"""Which of the two backends is used: ``FASTSMAPS_BACKEND=auto|c|python``, read at import."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType


def _choose() -> tuple[str, ModuleType]:
    choice = os.environ.get("FASTSMAPS_BACKEND", "auto")
    if choice not in ("auto", "c", "python"):
        raise ImportError(f"FASTSMAPS_BACKEND must be auto, c or python, not {choice!r}")
    if choice != "python":
        try:
            from fastsmaps import _csmaps

            return "c", _csmaps
        except ImportError as error:
            # An extension that is there and cannot be imported is an error, not a reason to
            # be slow in silence.
            from importlib.util import find_spec

            if find_spec("fastsmaps._csmaps") is not None:
                raise
            if choice == "c":
                raise ImportError(
                    "FASTSMAPS_BACKEND=c, but the extension was not built: "
                    "install with FASTSMAPS_BUILD_EXTENSION=1 to see why"
                ) from error
    from fastsmaps import _pysmaps

    return "python", _pysmaps


BACKEND, _module = _choose()

if TYPE_CHECKING:
    # The two are twins: what mypy knows of one holds for the other.
    from fastsmaps._csmaps import Table as Table
    from fastsmaps._csmaps import parse as parse
    from fastsmaps._csmaps import read as read
    from fastsmaps._csmaps import total as total

else:
    Table, parse, read, total = _module.Table, _module.parse, _module.read, _module.total
