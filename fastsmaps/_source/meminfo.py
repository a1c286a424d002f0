"""The memory of a whole host, from /proc/meminfo."""

from __future__ import annotations

from fastsmaps._source.source import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# Parts of MemTotal that do not overlap: the values that are added, and those that are subtracted.
# Sources: proc_meminfo(5), Documentation/filesystems/proc.rst.
_PARTS = {
    "anon": (("AnonPages",), ()),
    "shmem": (("Shmem",), ()),
    "cache": (("Cached", "Buffers"), ("Shmem",)),
    "slab": (("Slab",), ()),
    "page_tables": (("PageTables", "SecPageTables"), ()),
    "kernel_stacks": (("KernelStack",), ()),
    "percpu": (("Percpu",), ()),
    "hugetlb": (("Hugetlb",), ()),
    "free": (("MemFree",), ()),
}


def meminfo(procfs: str = "/proc") -> dict[str, int]:
    """Return the values of meminfo by the kernel's names, sizes in bytes.

    Empty if the file is missing, as in some captures; lines that are none of the kernel's are
    left out. Source: proc_meminfo(5).
    """
    values = {}
    for line in (Source(procfs).read_optional("meminfo") or b"").splitlines():
        label, separator, rest = line.partition(b":")
        words = rest.split()
        if separator and words and words[0].isdigit() and len(words[0]) < 19:
            unit = 1024 if words[1:] == [b"kB"] else 1
            values[label.decode("ascii", "backslashreplace")] = int(words[0]) * unit
    return values


def memory_parts(values: Mapping[str, int]) -> dict[str, int]:
    """Return the parts of a host's memory in bytes, from its meminfo; empty without MemTotal.

    They add up to MemTotal: "other" is what no line of meminfo counts, pages that drivers and the
    kernel itself allocate.
    """
    if "MemTotal" not in values:
        return {}
    parts = {
        name: max(0, sum(values.get(n, 0) for n in added) - sum(values.get(n, 0) for n in less))
        for name, (added, less) in _PARTS.items()
    }
    return {**parts, "other": max(0, values["MemTotal"] - sum(parts.values()))}
