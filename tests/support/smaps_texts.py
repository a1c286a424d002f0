"""Small maps and smaps texts for tests; sizes are in kB."""

from __future__ import annotations


def header(
    start: int = 0x10000,
    end: int = 0x11000,
    name: bytes = b"",
    *,
    perms: bytes = b"rw-p",
    offset: int = 0,
    dev: bytes = b"00:00",
    inode: int = 0,
) -> bytes:
    """Header line as a 64-bit kernel prints it."""
    line = b"%08x-%08x %s %08x %s %d " % (start, end, perms, offset, dev, inode)
    return (line.ljust(73) + name if name else line) + b"\n"


def kb(label: str, number: int) -> bytes:
    """Field line as seq_put_decimal_ull_width() prints it."""
    return b"%-16s%8d kB\n" % (label.encode() + b":", number)


def record(
    start: int = 0x10000,
    end: int = 0x11000,
    name: bytes = b"",
    *,
    perms: bytes = b"rw-p",
    flags: bytes | None = None,
    **fields: int,
) -> bytes:
    """One record: a header, then the fields in the order given, then VmFlags."""
    lines = [header(start, end, name, perms=perms), *(kb(*item) for item in fields.items())]
    if flags is not None:
        lines.append(b"VmFlags: " + flags + b"\n")
    return b"".join(lines)


#: Five mappings, each with a field, flag or path that others lack.
TEXT = (
    record(0x10000, 0x12000, b"/lib/a", perms=b"r-xp", flags=b"rd ex ", Rss=8, Pss=2, Swap=0)
    + record(0x12000, 0x13000, b"[heap]", flags=b"rd wr ", Rss=4, Pss=4)
    + record(0x13000, 0x17000, b"/lib/a", flags=b"rd wr ", Rss=0, Pss=0, Swap=16)
    + record(0x20000, 0x20000, flags=b"", Pss=4)
    + record(0x30000, 0x31000, b"/anon_hugepage (deleted)", flags=b"rd ht ", Rss=0, Pss=0)
)
