"""StatmTable: the last statm of each process, and the descriptors kept to read it."""

from __future__ import annotations

import errno
import os
import time
from array import array

from fastsmaps import _backend
from fastsmaps._backend.descriptors import free_descriptors, is_exhausted
from fastsmaps._errors import is_foreign

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastsmaps._source.source import Source

#: What sample() reports of a slot, in addition to -errno.
MOVED, OTHER_INODE = 1, 2

# The columns of the table, see the backend's statms().
_COLUMNS = 6
_NEW = (-1, 0, -1, -1, -1)
# Slots in a backend call, so that signals are handled.
_BATCH = 2048
# Keep one of so many free descriptors, since the program may open more meanwhile.
_FREE_PER_KEPT = 4
# Seconds without kept descriptors after none was free.
_NONE_KEPT = 60.0


class StatmTable:
    """The values of statm by slot; a process has the same slot until it ends."""

    def __init__(self) -> None:
        self._rows = array("q")
        self._free: list[int] = []
        self._none_kept_until = 0.0
        self.kept = 0
        self.max_kept = 0

    def __len__(self) -> int:
        """Return the number of slots, free ones included."""
        return len(self._rows) // _COLUMNS

    def add(self, pid: int) -> int:
        """Return the slot of a new process."""
        if self._free:
            slot = self._free.pop()
            self._rows[_COLUMNS * slot : _COLUMNS * (slot + 1)] = array("q", (pid, *_NEW))
            return slot
        self._rows.extend((pid, *_NEW))
        return len(self) - 1

    def remove(self, slot: int) -> None:
        """Free a slot, and close its descriptor."""
        self.let_go(slot)
        self._rows[_COLUMNS * slot] = 0
        self._free.append(slot)

    def pid(self, slot: int) -> int:
        """Return the pid in a slot; 0 if it is free."""
        return self._rows[_COLUMNS * slot]

    def pages(self, slot: int) -> tuple[int, int, int]:
        """Return the resident, shared and text pages; -1 each if they were never read."""
        at = _COLUMNS * slot
        resident, shared, text = self._rows[at + 3 : at + 6]
        return resident, shared, text

    def forget_inode(self, slot: int) -> None:
        """Take the inode that is found next for the process's own."""
        self._rows[_COLUMNS * slot + 2] = 0

    def sample(
        self, source: Source, root: int | None, slots: Sequence[int], seconds: float, keep: float
    ) -> tuple[int, list[tuple[int, int]]]:
        """Read the statm of these slots, until `seconds` of CPU time have passed.

        Returns how many slots were read, and the slots with an event: MOVED, OTHER_INODE or
        -errno. `root` is the open directory of a trusted procfs. Opened descriptors are kept as
        long as there are fewer than the part `keep` of all that may be kept.
        """
        numbers = memoryview(array("I", slots))
        end = time.thread_time() + seconds
        done = 0
        events: list[tuple[int, int]] = []
        while done < len(numbers):
            batch = numbers[done : done + _BATCH]
            left = end - time.thread_time()
            if root is None:
                read, kept, found = self._sample_slowly(source, batch, end)
            else:
                read, kept, found = _backend.statms(
                    root,
                    memoryview(self._rows),
                    batch,
                    max(0, int(self.max_kept * keep) - self.kept),
                    left,
                )
            self.kept += kept
            events += found
            done += read
            if read < len(batch):
                break
        return done, events

    def _sample_slowly(
        self, source: Source, slots: Sequence[int], end: float
    ) -> tuple[int, int, list[tuple[int, int]]]:
        """Do the same for a directory that the kernel did not mount; keep no descriptor."""
        events: list[tuple[int, int]] = []
        for i, slot in enumerate(slots):
            if time.thread_time() >= end:
                return i, 0, events
            if self.pid(slot) and (what := self._read_slowly(source, slot)):
                events.append((slot, what))
        return len(slots), 0, events

    def _read_slowly(self, source: Source, slot: int) -> int:
        at = _COLUMNS * slot
        try:
            fd = source.open(f"{self._rows[at]}/statm")
            try:
                inode = os.fstat(fd).st_ino
                if self._rows[at + 2] not in (0, inode):
                    return OTHER_INODE
                self._rows[at + 2] = inode
                values = array("q", map(int, os.pread(fd, 256, 0).split()[1:4]))
            finally:
                os.close(fd)
        except (OSError, ValueError, OverflowError) as error:
            if is_foreign(error):
                raise
            return -(getattr(error, "errno", None) or errno.EINVAL)
        if len(values) != 3 or min(values) < 0:
            return -errno.EINVAL
        if values == self._rows[at + 3 : at + 6]:
            return 0
        self._rows[at + 3 : at + 6] = values
        return MOVED

    # ---- descriptors

    def fit(self) -> None:
        """Set how many descriptors may be kept, and close the rest."""
        free = None if time.monotonic() < self._none_kept_until else free_descriptors()
        self.max_kept = 0 if free is None else max(0, free + self.kept) // _FREE_PER_KEPT
        self._shrink()

    def give_up(self, error: BaseException | None = None) -> bool:
        """Close all kept descriptors; return whether there were any.

        With an error, only if it says that no descriptor is left.
        """
        if error is not None and not is_exhausted(error):
            return False
        any_kept = self.kept > 0
        self.max_kept = 0
        self._none_kept_until = time.monotonic() + _NONE_KEPT
        self._shrink()
        return any_kept

    def let_go(self, slot: int) -> None:
        """Close a slot's descriptor if it has one."""
        at = _COLUMNS * slot + 1
        fd, self._rows[at] = self._rows[at], -1
        if fd >= 0:
            self.kept -= 1
            os.close(fd)

    def _shrink(self) -> None:
        for slot in range(len(self)):
            if self.kept <= self.max_kept:
                break
            self.let_go(slot)

    def close(self) -> None:
        """Close all descriptors, and free all slots."""
        self.max_kept = 0
        self._shrink()
        self._rows, self._free = array("q"), []
