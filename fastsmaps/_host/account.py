"""host(): where a host's memory went."""

from __future__ import annotations

from fastsmaps._arguments import Procfs, check_path, check_type
from fastsmaps._errors import Error, NotCaptured, NotSupported
from fastsmaps._host.scan import scan as scan_all
from fastsmaps._model.account import HostAccount
from fastsmaps._model.processes import Scan
from fastsmaps._public import public
from fastsmaps._source.meminfo import meminfo, more_memory
from fastsmaps._source.source import Source


@public
def host(
    *, procfs: Procfs = "/proc", sysfs: Procfs | None = None, scan: Scan | None = None
) -> HostAccount:
    """Return all of a host's memory in rows that add up exactly to MemTotal.

    `scan` is a Scan of all processes, as scan() or a Sampler returns, so that none is read again;
    its directory takes the place of `procfs`. Without it all processes are read, which raises what
    scan() does. Processes that a scan skipped or could not read are in the row "unread".

    `sysfs` is a host's /sys: for zram and for huge pages of all sizes. If it is None, /sys is read
    if `procfs` is a procfs of the running kernel, in whatever pid namespace; a capture has none,
    and its account lacks these rows.

    Raises NotSupported if there is no meminfo (a procfs mounted with subset=pid), NotCaptured if a
    capture lacks it, TypeError for wrong arguments.

    Sources: proc_meminfo(5), Documentation/filesystems/proc.rst, mm/vmstat.c.
    """
    if scan is not None:
        check_type("scan", scan, "a Scan or None", Scan)
        procfs = scan.procfs
    path = None if sysfs is None else check_path("sysfs", sysfs)
    scan = scan_all(procfs=procfs) if scan is None else scan
    source = Source(procfs)
    values = meminfo(source.path)
    if not values.get("MemTotal"):
        raise _without_meminfo(source)
    return HostAccount(scan, values, more_memory(source.path, path))


def _without_meminfo(source: Source) -> Error:
    path = f"{source.path}/meminfo"
    if source.is_capture:
        return NotCaptured(f"the capture {source.path} has no meminfo with MemTotal", path=path)
    return NotSupported(f"{path} cannot be read, or has no MemTotal", path=path)
