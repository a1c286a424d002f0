"""Linux process memory from smaps and smaps_rollup, about as fast as the kernel can report it.

    >>> import fastsmaps
    >>> fastsmaps.totals("self").pss  # bytes
    >>> fastsmaps.mappings("self").top(3, "pss")

Sizes are in bytes. A value that the kernel did not print is None (in a column, ABSENT), never 0.
"""

from __future__ import annotations

import sys as _sys

# `python -m fastsmaps` makes Python search the working directory for modules first, and that may be
# another user's: import nothing from there, as with -P. While Python locates the module, argv[0] is
# "-m", and the module's name is the word before the arguments or the end of the option.
if (
    _sys.argv[:1] == ["-m"]
    and not _sys.flags.safe_path
    and f"m{_sys.orig_argv[-len(_sys.argv)].removesuffix('.__main__')}".endswith("mfastsmaps")
):
    del _sys.path[0]

if _sys.platform not in ("linux", "android"):
    raise ImportError(
        f"fastsmaps reads Linux's /proc/<pid>/smaps; there is none on {_sys.platform}"
    )

from fastsmaps._backend import BACKEND
from fastsmaps._errors import (
    AccessDenied,
    CaptureError,
    Error,
    NoMemoryMap,
    NotAProcess,
    NotCaptured,
    NotInNamespace,
    NotProcfs,
    NotSupported,
    ParseError,
    ProcessGone,
    ReadError,
)
from fastsmaps._fields import ABSENT
from fastsmaps._version import __version__ as __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastsmaps._capture.capture import capture
    from fastsmaps._capture.unpack import open_capture
    from fastsmaps._errors import Outcome
    from fastsmaps._host.account import host
    from fastsmaps._host.cgroups import cgroup_memory
    from fastsmaps._host.libs import Libs, LibUse, libs
    from fastsmaps._host.sampler import Sampler
    from fastsmaps._host.scan import scan
    from fastsmaps._host.watch import Watch
    from fastsmaps._model.account import HostAccount, HostRow
    from fastsmaps._model.cgroup_memory import CgroupMemory
    from fastsmaps._model.changes import Changes
    from fastsmaps._model.container import Container
    from fastsmaps._model.diff import diff
    from fastsmaps._model.info import Info
    from fastsmaps._model.mapping import Mapping
    from fastsmaps._model.mappings import Group, Mappings
    from fastsmaps._model.process_totals import ProcessTotals
    from fastsmaps._model.processes import Cost, Scan
    from fastsmaps._model.samples import Sample, Samples
    from fastsmaps._model.totals import Change, Totals
    from fastsmaps._source.api import totals
    from fastsmaps._source.find import find
    from fastsmaps._source.mappings import mappings
    from fastsmaps._source.process import Process
    from fastsmaps._source.text import load, parse

# The modules of the names that are imported when they are first used: to import all of them with
# the package would take as long as to start Python.
_MODULES = {
    "CgroupMemory": "_model.cgroup_memory",
    "Change": "_model.totals",
    "Changes": "_model.changes",
    "Container": "_model.container",
    "Cost": "_model.processes",
    "Group": "_model.mappings",
    "HostAccount": "_model.account",
    "HostRow": "_model.account",
    "Info": "_model.info",
    "LibUse": "_host.libs",
    "Libs": "_host.libs",
    "Mapping": "_model.mapping",
    "Mappings": "_model.mappings",
    "Process": "_source.process",
    "ProcessTotals": "_model.process_totals",
    "Sample": "_model.samples",
    "Sampler": "_host.sampler",
    "Samples": "_model.samples",
    "Scan": "_model.processes",
    "Totals": "_model.totals",
    "Watch": "_host.watch",
    "capture": "_capture.capture",
    "cgroup_memory": "_host.cgroups",
    "diff": "_model.diff",
    "find": "_source.find",
    "host": "_host.account",
    "libs": "_host.libs",
    "load": "_source.text",
    "mappings": "_source.mappings",
    "open_capture": "_capture.unpack",
    "parse": "_source.text",
    "scan": "_host.scan",
    "totals": "_source.api",
}

__all__ = [
    "ABSENT",
    "BACKEND",
    "AccessDenied",
    "CaptureError",
    "CgroupMemory",
    "Change",
    "Changes",
    "Container",
    "Cost",
    "Error",
    "Group",
    "HostAccount",
    "HostRow",
    "Info",
    "LibUse",
    "Libs",
    "Mapping",
    "Mappings",
    "NoMemoryMap",
    "NotAProcess",
    "NotCaptured",
    "NotInNamespace",
    "NotProcfs",
    "NotSupported",
    "Outcome",
    "ParseError",
    "Process",
    "ProcessGone",
    "ProcessTotals",
    "ReadError",
    "Sample",
    "Sampler",
    "Samples",
    "Scan",
    "Totals",
    "Watch",
    "capture",
    "cgroup_memory",
    "diff",
    "find",
    "host",
    "libs",
    "load",
    "mappings",
    "open_capture",
    "parse",
    "scan",
    "totals",
]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


if not TYPE_CHECKING:  # type checkers would accept any name

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used (PEP 562)."""
        if name in _MODULES:
            module = __import__(f"{__name__}.{_MODULES[name]}", fromlist=[name])
            return globals().setdefault(name, getattr(module, name))
        if name == "Outcome":
            # Made on demand: importing typing takes 3 ms.
            from typing import Literal

            from fastsmaps._errors import OUTCOMES

            return Literal[OUTCOMES]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
