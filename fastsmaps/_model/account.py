"""HostAccount: all of a host's memory in rows that add up exactly to MemTotal."""

from __future__ import annotations

from fastsmaps._fields import ABSENT
from fastsmaps._model.processes import explained_part
from fastsmaps._model.values import Shown, Value
from fastsmaps._public import public

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastsmaps._model.processes import Scan
    from fastsmaps._model.view import View

#: Every row with what it is, in the order in which they are shown.
ROWS = {
    "processes_anon": "heaps, stacks, private data",
    "processes_file": "files they map, such as code",
    "processes_shmem": "tmpfs and shared memory they map",
    "processes": "Pss whose kind of page is not known",
    "unread": "mapped by processes not read",
    "shmem": "tmpfs, shared memory: not mapped",
    "page_cache": "page cache of files: not mapped",
    "buffers": "page cache of block devices",
    "swap_cache": "read back from swap: not mapped",
    "slab_reclaimable": "kernel caches of names, inodes, ...",
    "slab_unreclaimable": "other objects of the kernel",
    "kernel_reclaimable": "other memory the kernel can drop",
    "page_tables": "of processes, guests and devices",
    "kernel_stacks": "kernel stacks of threads",
    "vmalloc": "modules, BPF, large kernel tables",
    "percpu": "kernel memory for each CPU",
    "writeback": "bounce buffers, FUSE writeback",
    "gpu": "system memory of GPU drivers",
    "hugetlb_used": "huge page pools: in use",
    "hugetlb_free": "huge page pools: free or reserved",
    "hugetlb": "pools of other sizes, used or free",
    "zram": "compressed data of zram devices",
    "zswap": "compressed data of zswap",
    "corrupted": "pages with hardware errors",
    "unexplained": "counted nowhere: drivers, network",
    "free_per_cpu": "free, in lists of the CPUs",
    "free": "MemFree",
}

_PROCESSES = ("processes_anon", "processes_file", "processes_shmem", "processes")

# The parts that are sums of lines of meminfo. Those that a kernel never prints are left out, and so
# is a part without any of its lines. Quicklists are page tables kept for reuse, before Linux 5.3.
_SUMS = {
    "free": ("MemFree",),
    "anon": ("AnonPages",),
    "shmem": ("Shmem",),
    "buffers": ("Buffers",),
    "slab_reclaimable": ("SReclaimable",),
    "slab_unreclaimable": ("SUnreclaim",),
    "page_tables": ("PageTables", "SecPageTables", "Quicklists"),
    "kernel_stacks": ("KernelStack",),
    "percpu": ("Percpu",),
    "writeback": ("Bounce", "WritebackTmp"),
    "gpu": ("GPUActive", "GPUReclaim"),
    "zswap": ("Zswap",),
    "corrupted": ("HardwareCorrupted",),
}
_LISTS = ("Active", "Inactive", "Unevictable")


def memory_parts(
    values: Mapping[str, int], more: Mapping[str, int] | None = None
) -> tuple[dict[str, int], int]:
    """Return the parts of a host's memory in bytes, from its meminfo, and what is beyond MemTotal.

    The parts do not overlap and add up to MemTotal, "unexplained" included, which no line counts.
    Their names are those of ROWS, but "anon", "cache" and "shmem" are all such pages, mapped or
    not. `more` has the sizes of parts that are not in meminfo. What was not read is no part.
    Raises KeyError without MemTotal.

    Sources: proc_meminfo(5), Documentation/filesystems/proc.rst, fs/proc/meminfo.c.
    """
    parts: dict[str, int] = {}
    for part, labels in _SUMS.items():
        if any(label in values for label in labels):
            parts[part] = sum(values.get(label, 0) for label in labels)
    get = values.get
    if "Cached" in values:  # tmpfs is page cache, too
        parts["cache"] = max(0, values["Cached"] - get("Shmem", 0))
    if all(label in values for label in ("SwapCached", *_LISTS)):
        parts["swap_cache"] = _swap_cache(values)
    if "KReclaimable" in values and "SReclaimable" in values:
        parts["kernel_reclaimable"] = max(0, values["KReclaimable"] - values["SReclaimable"])
    # Until 4.3 the size of address ranges, with a VmallocChunk; then 0; since 5.3 pages.
    if get("VmallocUsed") and not get("VmallocChunk"):
        # Since 4.9 stacks are vmalloc()ed on most processors (CONFIG_VMAP_STACK). Where they are
        # not, too little is shown here and too much as unexplained, but nothing twice.
        stacks = get("KernelStack", 0)
        used = values["VmallocUsed"]
        parts["vmalloc"] = used - stacks if used >= stacks else used
    more = more or {}
    if "hugetlb_used" not in more:
        parts |= _hugetlb(values)
    parts |= more
    # The kernel does not count all of them at one moment, and lxcfs makes a meminfo of its own for
    # a container.
    left, excess = values["MemTotal"], 0
    for part, size in parts.items():
        parts[part] = min(size, left)
        left -= parts[part]
        excess += size - parts[part]
    return {**parts, "unexplained": left}, excess


def _swap_cache(values: Mapping[str, int]) -> int:
    """Return the pages of the swap cache that no process maps: AnonPages has the mapped ones.

    All of AnonPages, the page cache and the swap cache is on the lists of the kernel's reclaim
    (LRU): what these hold more than the others is in the swap cache only.
    """
    others = ("AnonPages", "Cached", "Buffers")
    only = sum(values[label] for label in _LISTS) - sum(values.get(label, 0) for label in others)
    return min(max(0, only), values["SwapCached"])


def _hugetlb(values: Mapping[str, int]) -> dict[str, int]:
    """Return the pools of huge pages as far as meminfo counts them.

    Its lines HugePages_ are only about the default size; Hugetlb, since 4.16, is the sum of all.
    """
    needed = ("HugePages_Total", "HugePages_Free", "Hugepagesize")
    if not all(label in values for label in needed):
        return {}
    number, free, size = (values[label] for label in needed)
    parts = {"hugetlb_used": max(0, number - free) * size, "hugetlb_free": free * size}
    other = values.get("Hugetlb", 0) - number * size
    return {**parts, "hugetlb": other} if other > 0 else parts


def _pss_by_kind(scan: Scan) -> dict[str, int]:
    """Return the sums of Pss over the processes read, in bytes, by kind of page.

    The kernel divides Pss into anon, file and shmem in smaps_rollup since 5.3; "other" is the Pss
    of processes whose totals are not divided. A kind that was read for no process is left out.
    """
    sums: dict[str, int] = {}
    names = ("pss", "pss_anon", "pss_file", "pss_shmem")
    for pss, anon, file, shmem in zip(*map(scan.column, names), strict=True):
        if pss == ABSENT:
            continue
        if ABSENT in (anon, file, shmem):
            sums["other"] = sums.get("other", 0) + pss
            continue
        # The kernel rounds each down. Most fractions are of files, which many processes map.
        file += max(0, pss - anon - file - shmem)
        for kind, size in (("anon", anon), ("file", file), ("shmem", shmem)):
            sums[kind] = sums.get(kind, 0) + size
    return sums


def _divided(parts: Mapping[str, int], mapped: int, pss: Mapping[str, int]) -> dict[str, int]:
    """Return the rows of `parts`: what processes map of them is divided by the Pss of each kind.

    `mapped` are mapped pages of files and shared memory. The kind of those that the Pss does not
    explain is not known: they are taken from the page cache first. More than the page cache has
    are pages of drivers, which no line of meminfo counts.
    """
    left = dict(parts)

    def take(size: int, *names: str) -> int:
        taken = 0
        for name in names:
            part = min(size - taken, left.get(name, 0))
            if part:
                left[name] -= part
                taken += part
        return taken

    rows: dict[str, int] = {}
    all_anon = left.pop("anon", 0)
    anon = min(pss.get("anon", 0), all_anon)
    shmem = take(min(pss.get("shmem", 0), mapped), "shmem")
    file = take(min(pss.get("file", 0), mapped - shmem), "cache", "buffers", "unexplained")
    rest = all_anon - anon
    rest += take(mapped - shmem - file, "cache", "shmem", "buffers", "unexplained")
    if "anon" in pss:
        rows |= {"processes_anon": anon, "processes_file": file, "processes_shmem": shmem}
    if "other" in pss:
        rows["processes"] = min(pss["other"], rest)
    return {**rows, "unread": rest - rows.get("processes", 0), **left}


@public
class HostRow(Value):
    """A row of a HostAccount: its ``name``, its ``size`` in bytes, and what it is (``about``)."""

    __slots__ = ("about", "name", "size")

    name: str
    size: int
    about: str

    def __init__(self, name: str, size: int, about: str) -> None:
        super().__init__(name=name, size=size, about=about)

    def __repr__(self) -> str:
        return f"HostRow(name={self.name!r}, size={self.size})"


@public
class HostAccount(Value, Shown):
    """All of a host's memory in ``rows`` that add up exactly to ``total``, which is MemTotal.

    What was not read has no row: a capture has no sizes of zram devices, for example. Memory that
    no row counts is in the row "unexplained". ``account["page_cache"]`` is the size of a row, and
    as_dict() has all names, with None where there is no row. Sizes are in bytes, never negative.

    ``pss`` is the sum of Pss over the processes that were read (None if none was), ``mapped`` is
    AnonPages + Mapped, the kernel's own sum over all processes (None if it prints no such lines),
    and ``explained`` is ``pss / mapped``. They are read at different moments, so it may be
    above 1. ``excess`` is what was read beyond MemTotal, or beyond AnonPages + Mapped: it is in no
    row.

    ``meminfo`` has all values of /proc/meminfo by the kernel's names, sizes in bytes. ``coverage``,
    ``hidden_by``, ``host``, ``procfs`` and ``taken_at`` are those of the scan.

    Sources: proc_meminfo(5), proc_pid_smaps(5), docs/host.md.
    """

    __slots__ = (
        "coverage", "excess", "explained", "hidden_by", "host", "mapped", "meminfo", "procfs",
        "pss", "rows", "taken_at", "total",
    )  # fmt: skip

    rows: tuple[HostRow, ...]
    total: int
    pss: int | None
    mapped: int | None
    explained: float | None
    excess: int
    meminfo: dict[str, int]
    coverage: dict[str, int]
    hidden_by: str | None
    host: str | None
    procfs: str
    taken_at: float | None

    def __init__(
        self, scan: Scan, meminfo: Mapping[str, int], more: Mapping[str, int] | None = None
    ) -> None:
        # `more` has sizes from elsewhere, as memory_parts() takes them.
        kinds = _pss_by_kind(scan)
        pss = sum(kinds.values()) if kinds else None
        parts, excess = memory_parts(meminfo, more)
        mapped = None
        if "AnonPages" in meminfo and "Mapped" in meminfo:
            mapped = meminfo["AnonPages"] + meminfo["Mapped"]
            parts = _divided(parts, meminfo["Mapped"], kinds)
            excess += (pss or 0) - sum(parts.get(name, 0) for name in _PROCESSES)
        names = {"anon": "unread", "cache": "page_cache"}
        sizes = {names.get(name, name): size for name, size in parts.items()}
        super().__init__(
            rows=tuple(
                HostRow(name, sizes[name], about) for name, about in ROWS.items() if name in sizes
            ),
            total=meminfo["MemTotal"],
            pss=pss,
            mapped=mapped,
            explained=explained_part(pss, mapped),
            excess=excess,
            meminfo=dict(meminfo),
            coverage=scan.coverage,
            hidden_by=scan.hidden_by,
            host=scan.host,
            procfs=scan.procfs,
            taken_at=scan.taken_at,
        )

    def __hash__(self) -> int:
        return hash(self.rows)

    def __getitem__(self, name: str) -> int:
        """Return the size of a row; KeyError if it has none."""
        for row in self.rows:
            if row.name == name:
                return row.size
        raise KeyError(name)

    def as_dict(self) -> dict[str, int | None]:
        """Return the size of each row by name, None for one that was not read."""
        return {**dict.fromkeys(ROWS), **{row.name: row.size for row in self.rows}}

    def _view(self) -> View:
        from fastsmaps._model import views

        return views.of_account(self)
