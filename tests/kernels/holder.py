"""A process whose smaps has what a small process never has; it tells when all of it is there."""

import json
import mmap
import os
import sys
import time
from pathlib import Path

PAGE = mmap.PAGESIZE
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
MAP_HUGETLB, MADV_PAGEOUT = 0x40000, 21


def own(label: str) -> int:
    """The sum of one field over this process, in kB."""
    found = 0
    for line in Path("/proc/self/smaps").read_bytes().splitlines():
        if line.startswith(label.encode() + b":"):
            found += int(line.split()[1])
    return found


huge_page = int(Path("/proc/meminfo").read_text().partition("Hugepagesize:")[2].split()[0]) * 1024
hugetlb = mmap.mmap(-1, 2 * huge_page, flags=PRIVATE | MAP_HUGETLB)
hugetlb[0] = 1

transparent = mmap.mmap(-1, 8 * huge_page, flags=PRIVATE)
for start in range(0, len(transparent), PAGE):
    transparent[start] = 1

# Pages that differ from each other and from everything else, so that nothing but swap takes them.
swapped = mmap.mmap(-1, 64 * PAGE, flags=PRIVATE)
swapped.write(os.urandom(64 * PAGE))
swapped.madvise(MADV_PAGEOUT)

merged = mmap.mmap(-1, 64 * PAGE, flags=PRIVATE)
merged.write(b"the same in every page".ljust(PAGE, b".") * 64)
merged.madvise(mmap.MADV_MERGEABLE)
sharing = Path("/sys/kernel/mm/ksm/pages_sharing")
while not (int(sharing.read_text()) and own("Swap")):
    time.sleep(0.05)  # ksmd takes its time; who started this process says when that is too long

print(json.dumps({"kernel": os.uname().release}), flush=True)
sys.stdin.read()
