"""The amount of a memory file that is read in one call."""

from __future__ import annotations

import os

#: Bytes in a page, the unit of statm.
PAGE = os.sysconf("SC_PAGE_SIZE")
#: The kernel's seq_file fills a page with complete records, and formats a record that did not fit
#: again for the next read. A read of one page less one record avoids that (read_chunks() in src/).
CHUNK_SIZE = PAGE - 1096
#: Chunks in a call: 192 kB, which stay in the second-level cache.
CHUNKS = max(1, min(64, 192_000 // CHUNK_SIZE))
