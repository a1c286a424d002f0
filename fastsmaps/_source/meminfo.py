"""The memory of a whole host: /proc/meminfo, and what only other files of the kernel tell."""

from __future__ import annotations

import os

from fastsmaps._errors import is_foreign
from fastsmaps._source.source import Source

_POOLS = "kernel/mm/hugepages"
_BLOCK = "devices/virtual/block"
# 4,000 CPUs' lists in all zones take less.
_MAX_ZONEINFO = 1 << 24


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


def more_memory(procfs: str = "/proc", sysfs: str | None = None) -> dict[str, int]:
    """Return parts of a host's memory that meminfo does not tell, in bytes; only what can be read.

    "free_per_cpu" are free pages in lists of the CPUs, which MemFree leaves out; "hugetlb_used" and
    "hugetlb_free" are the pools of all page sizes; "zram" is the memory of all zram devices. If
    `sysfs` is None, /sys is read for a procfs of the running kernel, and nothing for a capture.

    Sources: mm/vmstat.c (zoneinfo), Documentation/ABI/testing/sysfs-kernel-mm-hugepages,
    Documentation/admin-guide/blockdev/zram.rst.
    """
    source, parts = Source(procfs), {}
    directory = source.open_trusted()
    if directory is not None:
        os.close(directory)
        sysfs = "/sys" if sysfs is None else sysfs
        zones = source.read_optional("zoneinfo", _MAX_ZONEINFO) or b""
        # In base pages, for each CPU of each zone.
        words = [line.split() for line in zones.splitlines() if b" count:" in line]
        counts = [_number(line[1]) for line in words if len(line) == 2]
        if counts and None not in counts and len(zones) < _MAX_ZONEINFO:
            parts["free_per_cpu"] = sum(filter(None, counts)) * os.sysconf("SC_PAGE_SIZE")
    if sysfs is not None:
        parts |= {**_pools(Source(sysfs)), **_zram(Source(sysfs))}
    return parts


def _pools(sysfs: Source) -> dict[str, int]:
    used = free = 0
    sizes = _listed(sysfs, _POOLS, "hugepages-", "kB") or []
    for kib in sizes:
        name, size = f"hugepages-{kib}kB", int(kib) * 1024
        number = _number(sysfs.read_optional(f"{_POOLS}/{name}/nr_hugepages", 32))
        unused = _number(sysfs.read_optional(f"{_POOLS}/{name}/free_hugepages", 32))
        if number is None or unused is None:
            return {}
        used += max(0, number - unused) * size
        free += unused * size
    return {"hugetlb_used": used, "hugetlb_free": free} if sizes else {}


def _zram(sysfs: Source) -> dict[str, int]:
    used = 0
    # Not /sys/block, which has links: none is followed where anybody may have made the directory.
    numbers = _listed(sysfs, _BLOCK, "zram")
    for number in numbers or ():
        words = (sysfs.read_optional(f"{_BLOCK}/zram{number}/mm_stat", 256) or b"").split()
        size = _number(words[2]) if len(words) > 2 else None  # mem_used_total
        if size is None:
            return {}
        used += size
    return {} if numbers is None else {"zram": used}


def _listed(sysfs: Source, directory: str, start: str, end: str = "") -> list[str] | None:
    """Return the numbers between `start` and `end` of the names that have one; None if unknown."""
    try:
        names = os.listdir(f"{sysfs.path}/{directory}")
    except OSError as error:
        if is_foreign(error):
            raise
        return None
    numbers = [
        name.removeprefix(start).removesuffix(end)
        for name in names
        if name.startswith(start) and name.endswith(end)
    ]
    return [text for text in numbers if text.isdecimal() and text.isascii() and len(text) < 13]


def _number(text: bytes | None) -> int | None:
    digits = (text or b"").strip()
    return int(digits) if digits.isdigit() and len(digits) < 19 else None
