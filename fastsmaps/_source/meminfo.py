"""The memory of a whole host, from /proc/meminfo."""

from __future__ import annotations

from fastsmaps._source.source import Source


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
