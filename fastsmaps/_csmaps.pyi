"""What both backends export; ``_pysmaps`` is the readable one.

Backends know bytes and descriptors: no pids, no paths, no names of Python's for fields.
"""

class Table:
    """The columns of one text of maps, smaps or smaps_rollup, a row a mapping.

    Column keys are "start end offset inode" (u64), "perms" (bytes: r 1, w 2, x 4, s 8),
    "dev name flags" (u32: a place in ``devs``, ``names``, ``flags``; flags 2**32 - 1 where the
    record has no VmFlags) and the kernel's label of each number field (u64, ABSENT where the
    record lacks it; sizes in bytes).
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
    @property
    def extra(self) -> dict[int, dict[str, str]]:
        """By row and label: fields whose value is text."""

    def __len__(self) -> int: ...
    def column(self, key: str) -> memoryview:
        """A contiguous, read-only view; KeyError for a label that no record has."""

    def row(self, i: int, /) -> tuple[object, ...]:
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
    ended or called exec meanwhile, so that the text may lack its end. OSError as the kernel
    gives it.
    """

def total(fd: int, piece: int, pieces: int, confirm: bool) -> tuple[int, dict[str, int]] | None:
    """As read(), but only ``sums()[0]`` of the table, in constant memory.

    `confirm=False` is for a rollup, which the kernel makes in one go: a short read is its end,
    and the read after the end, which would make it once more, is left out.
    """
