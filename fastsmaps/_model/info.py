"""Info: facts about a process that are not in its mappings."""

from __future__ import annotations

from fastsmaps._arguments import Any
from fastsmaps._model.values import Value
from fastsmaps._public import public


@public
class Info(Value):
    """Facts about a process that are not in its mappings.

    ``pid``, ``ppid``, ``comm``, ``cmdline`` (a tuple of its arguments; () for a kernel thread or
    zombie), ``uid`` (the effective one, as ps shows), ``start_time`` (seconds since boot),
    ``threads``, ``peak_rss`` (VmHWM, bytes), ``cgroup`` (the path in the hierarchy of cgroup v2, or
    of v1's memory controller), ``start_brk`` (where the heap begins) and ``heap`` (the address
    ranges of the mappings named [heap]: mprotect splits it into several). A value that is missing
    or may not be read is None; start_brk and heap need the right to read maps. In a capture
    without stat, ppid, comm and threads come from status, and start_time is not known.

    Sources: proc_pid_stat(5), proc_pid_status(5), proc_pid_cmdline(5), cgroups(7).
    """

    __slots__ = (
        "cgroup", "cmdline", "comm", "heap", "peak_rss", "pid", "ppid", "start_brk",
        "start_time", "threads", "uid",
    )  # fmt: skip

    pid: int
    ppid: int | None
    comm: str | None
    cmdline: tuple[str, ...] | None
    uid: int | None
    start_time: float | None
    threads: int | None
    peak_rss: int | None
    cgroup: str | None
    start_brk: int | None
    heap: tuple[tuple[int, int], ...] | None

    def as_dict(self) -> dict[str, Any]:
        """All values by name."""
        return {name: getattr(self, name) for name in sorted(self.__slots__)}

    def __repr__(self) -> str:
        return f"<Info of process {self.pid} {self.comm!r}>"
