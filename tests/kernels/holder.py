"""A process with swap, hugetlb, KSM and huge pages; it reports when all of them are in use."""

import json
import mmap
import os
import sys
import time
from pathlib import Path

PAGE = mmap.PAGESIZE
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
MAP_HUGETLB, MADV_PAGEOUT = 0x40000, 21


def own_sum(label: str) -> int:
    """Sum of one field over this process, in kB."""
    total = 0
    for line in Path("/proc/self/smaps").read_bytes().splitlines():
        if line.startswith(label.encode() + b":"):
            total += int(line.split()[1])
    return total


huge_page = int(Path("/proc/meminfo").read_text().partition("Hugepagesize:")[2].split()[0]) * 1024
hugetlb = mmap.mmap(-1, 2 * huge_page, flags=PRIVATE | MAP_HUGETLB)
hugetlb[0] = 1

transparent = mmap.mmap(-1, 8 * huge_page, flags=PRIVATE)
for start in range(0, len(transparent), PAGE):
    transparent[start] = 1

# All pages are different, so that they can only be swapped, not merged.
swapped = mmap.mmap(-1, 64 * PAGE, flags=PRIVATE)
swapped.write(os.urandom(64 * PAGE))
swapped.madvise(MADV_PAGEOUT)

merged = mmap.mmap(-1, 64 * PAGE, flags=PRIVATE)
merged.write(b"the same in every page".ljust(PAGE, b".") * 64)
merged.madvise(mmap.MADV_MERGEABLE)
sharing = Path("/sys/kernel/mm/ksm/pages_sharing")
while not (int(sharing.read_text()) and own_sum("Swap")):
    time.sleep(0.05)  # ksmd is slow; the parent has the timeout

print(json.dumps({"kernel": os.uname().release}), flush=True)
sys.stdin.read()
