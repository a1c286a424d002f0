"""The contract: what both backends export. ``_pysmaps`` is the readable one.

Backends know bytes and descriptors. Of procfs they know that a process is a directory named by
its number (`Sweep`, `Uses`). They know no other path, no error class but ParseError, and no Python
names of fields.
"""

from collections.abc import Sequence
from typing import Any, Literal

# What a row of a Table begins with, and a row: see Table.row().
RowHead = tuple[int, int, int, int, int, bytes, bytes, bytes | None, dict[str, str] | None]
Row = tuple[
    int, int, int, int, int, bytes, bytes, bytes | None, dict[str, str] | None,
    *tuple[int | None, ...],
]  # fmt: skip

class Table:
    """The columns of one text of maps, smaps or smaps_rollup, one row per mapping.

    Column keys are "start end offset inode" (u64), "perms" (bytes: r 1, w 2, x 4, s 8, neither s
    nor p 16), "dev name flags" (u32: an index into ``devs``, ``names``, ``flags``; flags are
    2**32 - 1 if the record has no VmFlags), and the kernel's label of each number field (u64,
    ABSENT if the record lacks it; sizes in bytes).
    """

    @property
    def labels(self) -> tuple[str, ...]:
        """The number fields, in the order first seen."""

    @property
    def sized(self) -> tuple[bool, ...]:
        """For each label, whether every value had kB."""

    @property
    def names(self) -> tuple[bytes, ...]: ...
    @property
    def devs(self) -> tuple[bytes, ...]: ...
    @property
    def flags(self) -> tuple[bytes, ...]: ...
    def has_name(self, name: bytes, /) -> bool:
        """Whether the name is one of ``names``, without building ``names``."""

    @property
    def extra(self) -> dict[int, dict[str, str]]:
        """The fields whose value is text, by row and label."""

    def __len__(self) -> int: ...
    def column(self, key: str) -> memoryview:
        """Return a contiguous, read-only view; KeyError for a label that no record has."""

    def columns(self, keys: Sequence[str]) -> list[tuple[memoryview, int]]:
        """Return several columns, each with the number of rows that lack it.

        One pass over the rows fills all of them, in half the time that one call per column takes.
        Fields that are 0 in all rows share their memory.
        """

    def row(self, i: int, /) -> Row:
        """Return the row (start, end, offset, inode, perms, dev, name, flags, extra, *fields).

        Texts are bytes. flags, extra and fields are None if the record has none.
        """

    def row_into(self, i: int, into: dict[str, Any], names: tuple[str, ...], /) -> RowHead:
        """Put the fields of a row into a dict, by a name for each of ``labels``.

        Returns the row's other members: (start, end, offset, inode, perms, dev, name, flags,
        extra).
        """

    def sums(
        self, groups: memoryview | None = None, count: int = 1
    ) -> list[tuple[int, dict[str, int]]]:
        """Return for each of `count` groups the sum of end - start and of each size field.

        `groups` is a u32 for each row; rows with a number of `count` or more are left out. So are
        fields that no record of the group has, page sizes, and fields without kB.
        """

def parse(data: bytes | memoryview, crlf: bool = False) -> Table:
    """Parse the text, or raise ParseError; with `crlf` a CR before a newline is dropped."""

def read(fd: int, chunk_size: int, chunks: int) -> Table | None:
    """Parse the descriptor's text from offset 0, read in `chunks` of `chunk_size` bytes a call.

    Return None if offset 0 gives nothing after the end: the file is empty, or its process ended or
    called exec meanwhile, so that the text may be cut. A text that ends with x86's vsyscall page,
    which the kernel writes last, is complete without that check. OSError as the kernel gives it.
    """

def read_at(pid: int, sizes: bool, chunk_size: int, chunks: int) -> Table | None:
    """Return what read() returns for smaps, or maps, of a process of /proc by its number.

    None on every failure, for a number that may be a thread's, and for anything but a plain int.
    /proc must belong to our own pid namespace.
    """

def rollup(fd: int) -> dict[str, int] | None:
    """Return the sums of a rollup, ``total()[1]``; None if the file is empty.

    The kernel makes a rollup in one go, so one read gets all of it, and the read after the end,
    which would make it once more, is left out.
    """

def rollup_at(pid: int) -> dict[str, int] | None:
    """Return rollup() of a process of /proc by its number; None as for read_at()."""

# A row of maps, as Table.row() gives it, and the build ID of the file.
Found = tuple[RowHead, bytes | None]

def find(fd: int, address: int, build_id: bool, directory: int) -> Found | Literal[False] | None:
    """Ask the kernel for the mapping that contains the address, through a descriptor of maps.

    None if there is none. False if maps must be read instead: the kernel lacks the ioctl
    PROCMAP_QUERY (before Linux 6.11), maps would show the name in other letters, or the address
    may be x86's vsyscall page, of which the ioctl knows nothing. ProcessLookupError if the process
    has called exec since the descriptor was opened, or is reaped: that is seen through the open
    `directory` of the process (-1: not checked), since the memory may live longer, in a child of
    vfork(). The build ID takes 4 us and is only read on request.
    """

def find_at(pid: int, address: int, build_id: bool) -> Found | Literal[False] | None:
    """Return find() for a process of /proc by its number; False also where read_at() gives None."""

def find_many(
    fd: int, addresses: memoryview, build_id: bool, directory: int
) -> list[Found | Literal[False] | None]:
    """Return find() for each address (u64)."""

def total(
    fd: int, chunk_size: int, chunks: int, deadline: float = 0
) -> tuple[int, dict[str, int]] | None:
    """Return ``sums()[0]`` of the table that read() would return.

    The extension needs constant memory for it, however long the text is. The pure-Python backend
    makes the table first. With `deadline` (time.monotonic()) TimeoutError is raised between two
    calls once that time has come.
    """

def lines(fd: int, chunk_size: int, chunks: int, deadline: float = 0) -> int | None:
    """Count the lines of the descriptor's text; like read(), but nothing is parsed or kept.

    For `deadline` see total().
    """

# A row of a Sweep: see Sweep.row().
SweepRow = tuple[
    int,
    int,
    int | None,
    int,
    tuple[bytes | None, ...],
    tuple[bytes, int, int, int, bool, int, bool] | None,
    int | None,
]

class Sweep:
    """The stat line and the rollup of many processes, one row each, in the order taken.

    Everything in a row is read through one descriptor of the process's directory, the rollup last.
    `texts` names up to three small files to keep as well, equal texts once; of the link "exe" its
    target is kept. A text is cut after 128 KiB. If all different texts exceed 8 MiB, the longest
    are cut further. A cut text ends in "...".

    With `statm`, statm is read before the rollup. No rollup is read for a process of fewer than
    `min_pages` or more than `max_pages` (outcome OUTSIDE) or `large_pages` (LARGE), and for no
    process with `rollups=False`.

    With `maps_chunk` the lines of maps are counted, read in chunks of that many bytes. This is
    done also above `max_pages`, as it walks no pages. More than 65,536 lines make the process
    LARGE.

    `compare` is for a procfs of our own pid namespace. A process that has not called exec since
    its fork and has all of its memory in common with its parent is then SHARED, and its rollup is
    not read.

    Only one thread may take processes at a time. Meanwhile all other use raises RuntimeError.
    Afterwards any number of threads may read the rows.
    """

    def __init__(
        self,
        texts: tuple[str, ...] = (),
        min_pages: int = 0,
        max_pages: int = ...,
        large_pages: int = ...,
        statm: bool = False,
        rollups: bool = True,
        maps_chunk: int = 0,
        compare: bool = False,
    ) -> None: ...
    def __len__(self) -> int: ...
    def take(self, root: int, pids: memoryview, seconds: float) -> int:
        """Read these processes (i32) of the procfs open at `root`; return how many were read.

        At least one, then on until `seconds` have passed.
        """

    @property
    def table(self) -> Table:
        """The rollups, one row each; only rows that ``row()`` refers to count.

        It shares its memory with the sweep: do not use it while more processes are taken.
        """

    def outcomes(self, start: int = 0) -> bytes:
        """Return the outcome of each row from `start` on, an index into SWEEP_OUTCOMES."""

    def row(self, i: int) -> SweepRow:
        """Return (pid, outcome, its row in `table`, resident pages, texts, stat, mappings).

        `stat` is (comm, ppid, uid, start in ticks, forked without an exec since, start of the
        stack, own_memory), or None if stat was not read. `own_memory` says that kcmp(2) saw other
        memory than the parent's. The stack is 0 if we have no right to see addresses. `mappings`
        is None if they were not counted, or the process ended or called exec meanwhile.
        """

    @property
    def forked(self) -> bool:
        """Whether a process has not called exec since its fork; else no two can share memory."""

    def members(self) -> list[tuple[int, int, int, int, bool, int, bool, bool]]:
        """Return for each row that is READ or SHARED its number, and what sharing.Member holds."""

def same_memory(pids: memoryview) -> list[int | None]:
    """Return for each process (i32) the index of the first with the same memory, by kcmp(2).

    None if the process may not be compared or has ended. Zombies and kernel threads have no
    memory, and count as having the same. The pids are those of our own pid namespace. Takes about
    n log n system calls.
    """

# A name, how many processes use it, and for each of its files the device, the inode, how many
# processes use it, and its ``sums()``.
Use = tuple[bytes, int, list[tuple[bytes, int, int, tuple[int, dict[str, int]]]]]

class Uses:
    """Sums by file over the smaps of many processes; holds one process's rows at a time.

    A file is a name, a device and an inode: one name may belong to several files.

    Only one thread may use it at a time; another one gets a RuntimeError.
    """

    def __init__(self) -> None: ...
    def add(self, fd: int, chunk_size: int, chunks: int) -> bool:
        """Add one process's smaps; False, adding nothing, if read() would return no row."""

    def take(self, root: int, pid: int, chunk_size: int, chunks: int, listed: bool) -> bool:
        """Add a process of the procfs open at `root`; False if it cannot be read like this.

        A number that the procfs does not list is a thread's, and also False. `listed` says that
        the number is known to be listed. `root` must belong to this thread alone: its offset is
        moved.
        """

    def result(self) -> list[Use]:
        """Return the names in the order first seen, each with its files in that order."""

def statms(
    root: int, table: memoryview, slots: memoryview, max_kept: int, seconds: float
) -> tuple[int, int, list[tuple[int, int]]]:
    """Read statm of the processes in these slots (u32) of the table, which is updated.

    The table has six numbers (i64) a slot: pid (0 for a free slot), the descriptor of its statm (or
    -1), the inode of its statm (0 if not known), and its resident, shared and text pages. Without a
    descriptor, statm is opened below the directory `root`, and up to `max_kept` of those opened
    stay open. Stops after `seconds` of the thread's CPU time, and then returns how many slots were
    read.

    Returns the number of slots, the number of descriptors that now stay open, and events: slot and
    1 for changed values, 2 for another inode (the values are not read), -errno for a failure,
    -EINVAL if statm has other content than numbers.
    """

def pids_between(root: int, after: int, last: int) -> list[int]:
    """Return the listed pids above `after`, up to `last`, in ascending order.

    Lists only that part of /proc, at 1 us a process (the pure-Python backend lists all of it).
    """
