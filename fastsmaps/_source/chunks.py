"""Reads of a memory file, and the amount that is read in one call."""

from __future__ import annotations

import os

from fastsmaps import _backend

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastsmaps._backend import Table

#: Bytes in a page, the unit of statm.
PAGE = os.sysconf("SC_PAGE_SIZE")
#: The kernel's seq_file fills a page with complete records, and formats a record that did not fit
#: again for the next read. A read of one page less one record avoids that (read_chunks() in src/).
CHUNK_SIZE = PAGE - 1096
#: Chunks in a call: 192 kB, which stay in the second-level cache.
CHUNKS = max(1, min(64, 192_000 // CHUNK_SIZE))


def take_mappings(fd: int) -> Table | None:
    """Read maps or smaps; None if it is empty."""
    table = _backend.read(fd, CHUNK_SIZE, CHUNKS)
    # A capture's file may have blank lines only.
    return table if table is not None and len(table) else None


def take_sums(fd: int) -> tuple[int, dict[str, int]] | None:
    """Sum smaps; None if it is empty."""
    return _backend.total(fd, CHUNK_SIZE, CHUNKS)
