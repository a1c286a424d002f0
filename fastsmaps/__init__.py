"""Linux process memory from /proc/<pid>/smaps and smaps_rollup, at the kernel's own speed.

    >>> import fastsmaps
    >>> fastsmaps.totals("self").pss  # bytes
    >>> fastsmaps.mappings("self").top(3, "pss")

Sizes are in bytes. What the kernel did not print is None, in a column ABSENT: never 0.
"""

from __future__ import annotations

import sys as _sys

# With `python -m fastsmaps` Python looks for modules in the working directory first, which may be
# a stranger's: import nothing from there, as with -P. Python calls what it runs "-m" as long as it
# looks for the module, whose name is the word before the arguments or the end of the option.
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
from fastsmaps.api import mappings, totals
from fastsmaps.capture import capture
from fastsmaps.diff import diff
from fastsmaps.errors import (
    AccessDenied,
    CaptureError,
    Error,
    NoMemoryMap,
    ParseError,
    ProcessGone,
    ReadError,
)
from fastsmaps.fields import ABSENT
from fastsmaps.info import Info
from fastsmaps.libs import Libs, LibUse, libs
from fastsmaps.mapping import Mapping
from fastsmaps.mappings import Group, Mappings
from fastsmaps.process import Process
from fastsmaps.processes import Cost, ProcessTotals, Scan
from fastsmaps.replay import open_capture
from fastsmaps.sampler import Sampler
from fastsmaps.samples import Sample, Samples
from fastsmaps.scan import scan
from fastsmaps.text import load, parse
from fastsmaps.totals import Change, Totals
from fastsmaps.watch import Watch

__version__ = "0.1.0"

__all__ = [
    "ABSENT",
    "BACKEND",
    "AccessDenied",
    "CaptureError",
    "Change",
    "Cost",
    "Error",
    "Group",
    "Info",
    "LibUse",
    "Libs",
    "Mapping",
    "Mappings",
    "NoMemoryMap",
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
    "diff",
    "libs",
    "load",
    "mappings",
    "open_capture",
    "parse",
    "scan",
    "totals",
]
