"""What both backends export; ``_pysmaps`` is the readable one.

Backends know bytes and descriptors, and of procfs that a process is a directory named by its
number (`Sweep`, `Uses`): no other path, no typed error but ParseError, no names of Python's for
fields.
"""

from collections.abc import Sequence

# A row of a Table: see Table.row().
Row = tuple[
    int, int, int, int, int, bytes, bytes, bytes | None, dict[str, str] | None,
    *tuple[int | None, ...],
]  # fmt: skip

class Table:
    """The columns of one text of maps, smaps or smaps_rollup, a row a mapping.

    Column keys are "start end offset inode" (u64), "perms" (bytes: r 1, w 2, x 4, s 8, neither
    s nor p 16), "dev name flags" (u32: a place in ``devs``, ``names``, ``flags``; flags 2**32 - 1
    where the record has no VmFlags) and the kernel's label of each number field (u64, ABSENT
    where the record lacks it; sizes in bytes).
    """

    @property
    def labels(self) -> tuple[str, ...]:
        """The number fields, in the order first seen."""

    @property
    def sized(self) -> tuple[bool, ...]:
        """For each label: every value had kB."""

    @property
    def names(self) -> tuple[bytes, ...]: ...
    @property
    def devs(self) -> tuple[bytes, ...]: ...
    @property
    def flags(self) -> tuple[bytes, ...]: ...
    def has_name(self, name: bytes, /) -> bool:
        """Whether it is one of ``names``, without making them."""

    @property
    def extra(self) -> dict[int, dict[str, str]]:
        """By row and label: fields whose value is text."""

    def __len__(self) -> int: ...
    def column(self, key: str) -> memoryview:
        """A contiguous, read-only view; KeyError for a label that no record has."""

    def columns(self, keys: Sequence[str]) -> list[tuple[memoryview, int]]:
        """Several columns at once, each with how many rows lack it.

        In one pass over the rows: half of what one after the other takes. Fields that are 0 in
        all rows share their memory.
        """

    def row(self, i: int, /) -> Row:
        """The row (start, end, offset, inode, perms, dev, name, flags, extra, *fields).

        Texts are bytes; flags, extra and fields are None where the record has none.
        """

    def sums(
        self, groups: memoryview | None = None, count: int = 1
    ) -> list[tuple[int, dict[str, int]]]:
        """For each of `count` groups: the sum of end - start, and of each size field.

        `groups` is a u32 for each row; a row whose number is no group is left out. Fields that
        no record of a group has, page sizes and fields without kB are left out too.
        """

def parse(data: bytes | memoryview, crlf: bool = False) -> Table:
    """The text as a table, or ParseError; with `crlf`, a CR before a newline is no text."""

def read(fd: int, piece: int, pieces: int) -> Table | None:
    """The descriptor's text from offset 0, read `pieces` pieces of `piece` bytes a call.

    None where nothing can be read at offset 0 after the end: the file is empty, or its process
    ended or called exec meanwhile, so that the text may lack its end. A text that ends in x86's
    gate, which comes last, is whole without that. OSError as the kernel gives it.
    """

def total(
    fd: int, piece: int, pieces: int, confirm: bool, until: float = 0
) -> tuple[int, dict[str, int]] | None:
    """As read(), but only ``sums()[0]`` of the table.

    The extension does so in constant memory, however long the text is; the twin makes the table
    first.

    `confirm=False` is for a rollup, which the kernel makes in one go: a short read is its end,
    and the read after the end, which would make it once more, is left out. With `until`
    (time.monotonic()) TimeoutError is raised between two calls once that time has come.
    """

def lines(fd: int, piece: int, pieces: int, until: float = 0) -> int | None:
    """How many lines the descriptor's text has; as read(), but nothing is looked at or kept.

    `until` is that of total().
    """

# A row of a Sweep: see Sweep.row().
Task = tuple[
    int,
    int,
    int | None,
    int,
    tuple[bytes | None, ...],
    tuple[bytes, int, int, int, bool, int, bool] | None,
    int | None,
]

class Sweep:
    """Of many processes the stat line and the rollup, a row each, in the order they were taken.

    Everything of a row is read through one descriptor of the process's directory, the rollup
    last. `texts` names up to three small files whose bytes are kept as well, once each; of the
    link "exe" its text. A text is cut after 128 KiB, and the longest further where all that
    differ have more than 8 MiB; then it ends in "...". With `sized` statm is read before the
    rollup, which is left out for a process of fewer than `least` pages or more than `most`
    (fate OUTSIDE) or `large` (LARGE); `rollups=False` leaves all of them out. With `mappings`
    the lines of maps are counted, read in pieces of so many bytes, also of a process that has
    more pages than `most`: no page is walked for them. One that has more than 65,536 of them is
    LARGE. With `compare`, for a procfs of our own pid namespace, a process that has called no
    exec since its fork and has all of its memory in common with its parent is SHARED, and its
    rollup is left out.

    One thread takes at a time, others get a RuntimeError meanwhile, also who asks for rows;
    afterwards any number of threads may look at it.
    """

    def __init__(
        self,
        texts: tuple[str, ...] = (),
        least: int = 0,
        most: int = ...,
        large: int = ...,
        sized: bool = False,
        rollups: bool = True,
        mappings: int = 0,
        compare: bool = False,
    ) -> None: ...
    def __len__(self) -> int: ...
    def take(self, root: int, pids: memoryview, seconds: float) -> int:
        """Takes these processes (i32) of the procfs open at `root`; returns how many.

        At least one, then until `seconds` went by.
        """

    @property
    def table(self) -> Table:
        """The rollups, a row each; only rows that ``row()`` refers to count.

        It shares its memory with the sweep: not to be looked at while more are taken.
        """

    def fates(self, start: int = 0) -> bytes:
        """What became of each row from `start` on: a place in sweeper.FATES."""

    def row(self, i: int) -> Task:
        """The row (pid, fate, its place in `table`, resident pages, texts, who, mappings).

        `who` is (comm, ppid, uid, start in ticks, whether it has called no exec since its fork,
        start of the stack, whether kcmp(2) saw other memory than the parent's), None where stat was
        not read; where addresses may not be seen the stack's is 0. `mappings` is None where they
        were not counted, or the process ended or called exec meanwhile.
        """

    @property
    def forked(self) -> bool:
        """Whether one of them has called no exec since its fork; else each has its own memory."""

    def members(self) -> list[tuple[int, int, int, int, bool, int, bool, bool]]:
        """For each row that was read or is SHARED what sharing.Member knows, its number first."""

def same_memory(pids: memoryview) -> list[int | None]:
    """For each process (i32) the place of the first one that has the same memory, by kcmp(2).

    None where it may not be compared, or has ended. Zombies and kernel threads have no memory, and
    that in common. The pids are those of our own pid namespace. About n log n system calls.
    """

# A name, how many processes have it, and of each of its files the device, the inode, how many
# processes have it, and its ``sums()``.
Use = tuple[bytes, int, list[tuple[bytes, int, int, tuple[int, dict[str, int]]]]]

class Uses:
    """Sums by file over the smaps of many processes; only one process's rows at a time.

    A file is a name, a device and an inode: one name may belong to several files.

    For one thread at a time: another one gets a RuntimeError.
    """

    def __init__(self) -> None: ...
    def add(self, fd: int, piece: int, pieces: int) -> bool:
        """Adds one process's smaps; False, and nothing is added, where read() has no row."""

    def take(self, root: int, pid: int, piece: int, pieces: int, listed: bool) -> bool:
        """Adds a process of the procfs open at `root`; False where anything stands in the way.

        So does a number that the procfs does not list, a thread's, unless it is known to be
        `listed`. `root` must be this thread's own: its place in the list is moved.
        """

    def result(self) -> list[Use]:
        """The names in the order first seen, each with its files in that order."""

def statms(fds: memoryview, out: memoryview) -> None:
    """Of each open statm (i32) three numbers into `out` (u64): resident, shared and text pages.

    2**64 - 1 where it cannot be read.
    """
