"""Uses: what a mapping is for, read from its name, perms, flags, addresses and neighbours.

A reading of patterns that C libraries, runtimes and the kernel leave. docs/fields.md ("What a
mapping is for") has the rules and their sources; a use that ends with ``?`` is doubtful.
"""

from __future__ import annotations

from fastsmaps._model.kinds import file_name, is_unnamed_device, kind_of
from fastsmaps._model.labels import label_of
from fastsmaps._model.mapping import ROLLUP, SHARED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fastsmaps._backend import Table

# Of kinds that need no other rule.
_OF_KINDS = {
    "hugetlb": "huge pages",
    "heap": "main heap",
    "stack": "main stack",
    "special": "kernel pages",
    "shmem": "shared memory",
    "device": "device memory",
    "file": "mapped files",
}
TEXT, READ_ONLY, RELOCATIONS, WRITABLE = "text", "read-only data", "relocations", "writable data"
HEAP, STACKS, ARENAS, JIT = "main heap", "thread stacks", "malloc arenas", "JIT code"
MALLOC = "malloc"  # a label, too
GO_HEAP, JAVA_HEAP, V8_HEAP = "Go heap", "Java heap", "JavaScript heap"
LARGE, OTHER, NO_ACCESS = "large allocations", "other anonymous", "no access"
GPU, BUFFERS, FILES, ROLLUPS = "GPU memory", "kernel buffers", _OF_KINDS["file"], "rollup"
#: Every use, except those of named memory, which are labels.
USES = (
    TEXT, READ_ONLY, RELOCATIONS, WRITABLE, FILES, HEAP, "main stack", STACKS, ARENAS, MALLOC, JIT,
    GO_HEAP, JAVA_HEAP, V8_HEAP, LARGE, OTHER, NO_ACCESS, "shared memory", "huge pages", GPU,
    "device memory", BUFFERS, "kernel pages", ROLLUPS,
)  # fmt: skip

# Names that are labels beside those of kind anon_named: of shared memory, ART's old ones, and
# those of threads' stacks on Linux 3.4 to 4.4.
_NAMED = (b"[anon_shmem:", b"/dev/ashmem/dalvik-", b"[stack:")
#: Prefixes of names that drivers of GPUs and other accelerators give to their memory.
GPU_NAMES = (
    b"/dev/dri/", b"/dev/nvidia", b"/dev/kfd", b"/dev/mali", b"/dev/kgsl", b"/dev/pvr",
    b"/dev/nvmap", b"/dev/nvhost", b"/dev/dxg", b"/dev/accel/", b"/dmabuf:", b"/drm mm object",
    b"/i915", b"anon_inode:i915",
)  # fmt: skip
#: Memory that the kernel shares with the process: rings of io_uring, aio, perf, sockets, KVM.
BUFFER_NAMES = (b"anon_inode:", b"socket:", b"/[aio]")

# Bits of perms.
_WRITE, _EXECUTE, _ACCESS = 2, 4, 7
_NO_FLAGS: frozenset[bytes] = frozenset()
# Private anonymous memory that may be read and written; its neighbours decide.
_READ_WRITE = "read-write"
# glibc's malloc/arena.c: HEAP_MAX_SIZE is twice DEFAULT_MMAP_THRESHOLD_MAX.
_ARENA, _ARENA_32 = 64 << 20, 1 << 20
# glibc's DEFAULT_MMAP_THRESHOLD_MIN.
_THRESHOLD = 128 << 10
# The smallest stack (PTHREAD_STACK_MIN) and the largest guard: HotSpot's zones are four pages of
# up to 64 KiB, and the kernel merges a guard with reserved memory below it.
_MIN_STACK, _MAX_GUARD = 16 << 10, 1 << 20
_PAGE = 4 << 10
# A power of two from here on is a stack's size: what ulimit -s and runtimes choose.
_SURE_STACK = 64 << 10
# Chromium's partition_alloc_constants.h: slots begin after four pages, two of them guards.
_SUPER_PAGE, _FIRST_SLOT = 2 << 20, 16 << 10
# Go's runtime/malloc.go: the first hint for its heap on amd64 and others, and on arm64.
_GO_HEAPS = (0xC0 << 32, 0x40 << 32)
# HotSpot's OopEncodingHeapMax: compressed references reach addresses below 32 GiB.
_JAVA_MAX = 32 << 30
# A page of V8's heap.
_V8_PAGE = 256 << 10


def uses_of(table: Table) -> list[str]:
    """Return the use of each row of a backend's table, in the order of the text.

    If addresses overlap or go back, what neighbours say is doubtful.
    """
    rows = _Rows(table)
    uses = rows.read()
    if rows.overlaps:
        pairs = zip(rows.own, uses, strict=True)
        uses = [use if use in (before, OTHER) else use.rstrip("?") + "?" for before, use in pairs]
    return uses


# ---- what a row says by itself


def _own_uses(
    table: Table, columns: tuple[list[int], ...], flags: list[frozenset[bytes]]
) -> list[str]:
    """Return each row's use by its own values (perms, dev, name, flags)."""
    unnamed = [is_unnamed_device(dev) for dev in table.devs]
    perms, _, names, _ = columns
    executable = {name for bits, name in set(zip(perms, names, strict=True)) if bits & _EXECUTE}
    # With READ_IMPLIES_EXEC (personality(2)) all memory is executable, not only code.
    is_loose = any(table.names[name] in (b"[heap]", b"[stack]") for name in executable)

    def decide(bits: int, dev: int, name: int, number: int) -> str:
        text = table_names[name]
        codes = flags[number] if number < len(flags) else _NO_FLAGS
        shared = bool(bits & SHARED)
        kind = kind_of(text, shared, b"ht" in codes, unnamed[dev])
        if kind == "anon_named" or (kind in ("shmem", "stack") and text.startswith(_NAMED)):
            return _named(text, kind, bits)
        if kind == "anon":
            return _anonymous(bits, is_loose)
        is_program = name in executable and (kind == "file" or (kind == "shmem" and not shared))
        if is_program or (kind == "file" and _is_library(text)):
            return _of_program(bits, codes)
        return _other(text, kind, name in executable)

    table_names = table.names
    known: dict[tuple[int, ...], str] = {}
    result = []
    for key in zip(*columns, strict=True):
        if key not in known:  # many rows are similar
            known[key] = decide(*key)
        result.append(known[key])
    return result


def _named(name: bytes, kind: str, bits: int) -> str:
    if name == b"[anon: glibc: malloc arena]":
        return ARENAS
    label = label_of(name, kind)
    return JIT if bits & _EXECUTE and label != STACKS else label


def _anonymous(bits: int, is_loose: bool) -> str:
    if bits & _EXECUTE and not is_loose:
        return JIT
    if not bits & _ACCESS:
        return NO_ACCESS
    if bits & _WRITE:
        return _READ_WRITE
    return JIT + "?" if bits & _EXECUTE else OTHER


def _is_library(name: bytes) -> bool:
    """Whether a file is a shared library by its name: libm.so, libicudata.so.72."""
    _, found, version = file_name(name).rpartition(b"/")[2].partition(b".so")
    return bool(found) and (not version or (version[:1] == b"." and version[1:2].isdigit()))


def _of_program(bits: int, flags: frozenset[bytes]) -> str:
    if bits & _EXECUTE:
        return TEXT
    if not bits & _ACCESS:
        return NO_ACCESS
    if bits & _WRITE:
        return WRITABLE
    # ld.so maps the segment writable and protects its beginning after the relocation; the kernel
    # accounts private memory as soon as it is writable, and keeps the flag (mm/mprotect.c).
    return RELOCATIONS if b"ac" in flags else READ_ONLY


def _other(name: bytes, kind: str, executable: bool) -> str:
    if kind in ("device", "shmem"):
        if name.startswith(GPU_NAMES):
            return GPU
        if name.startswith(BUFFER_NAMES):
            return BUFFERS
        if name.startswith(b"/dev/hugepages/"):
            return _OF_KINDS["hugetlb"]
    if kind == "shmem":
        if executable:
            return JIT
        if name.startswith(b"/memfd:java_heap"):
            return JAVA_HEAP
    if name == ROLLUP:
        return ROLLUPS
    return NO_ACCESS if name == b"[page size compat]" else _OF_KINDS[kind]


# ---- what its neighbours say


class _Rows:
    """The rows of a table in the order of the text, with their uses as far as they are known."""

    def __init__(self, table: Table) -> None:
        keys = ("start", "end", "offset", "perms", "dev", "name", "flags")
        columns = [view.tolist() for view, _ in table.columns(keys)]
        self._starts, self._ends, self._offsets, perms, devs, self._names, self._flags = columns
        flags = [frozenset(codes.split()) for codes in table.flags]
        self.own = _own_uses(table, (perms, devs, self._names, self._flags), flags)
        self.uses = self.own.copy()
        # Numbers of flags. MAP_STACK sets nh since Linux 6.7. glibc maps arenas with
        # MAP_NORESERVE, and so does V8, which Node.js builds with MADV_DONTFORK besides.
        self._of_stacks = {i for i, codes in enumerate(flags) if b"nh" in codes}
        self._of_arenas = {i for i, codes in enumerate(flags) if b"nr" in codes}
        self._of_v8 = {i for i, codes in enumerate(flags) if codes >= {b"nr", b"dc"}}
        self._has_flags = any(b"ac" in codes for codes in flags)  # emulators print "rd wr"
        self._heap_row = self.own.index(HEAP) if HEAP in self.own else 0
        self._is_32_bit = max(self._ends, default=0) <= 1 << 32
        self._is_java = not self._is_32_bit and any(
            file_name(name).endswith(b"/libjvm.so") for name in table.names
        )

    @property
    def overlaps(self) -> bool:
        """Whether addresses overlap or go back, as in the text of several processes."""
        rows = zip(self._starts[1:], self._ends, self.own[1:], self.own, strict=False)
        return any(start < end and ROLLUPS not in pair for start, end, *pair in rows)

    def read(self) -> list[str]:
        """Return the use of each row."""
        rules: dict[str, Callable[[int], str]] = {
            _READ_WRITE: self._read_write,
            NO_ACCESS: self._no_access,
        }
        if self._is_java:
            rules[FILES] = self._file
        if not self._has_flags:
            rules[READ_ONLY] = self._read_only
        if self._of_stacks:
            rules[JIT] = self._executable
        for i, use in enumerate(self.own):
            rule = rules.get(use)
            if rule is not None:
                self.uses[i] = rule(i)
        return self.uses

    def _follows(self, i: int) -> bool:
        """Whether a row begins where the one before it ends."""
        return i > 0 and self._ends[i - 1] == self._starts[i]

    def _read_write(self, i: int) -> str:
        start = self._starts[i]
        size = self._ends[i] - start
        if use := self._heap(i):
            return use
        if self._follows(i):
            before = self.own[i - 1]
            if before in (WRITABLE, RELOCATIONS):
                # .bss. The kernel merges it with what mmap() puts above a library; what is below
                # [heap] belongs to the program, where mmap() puts nothing.
                if i < self._heap_row or size <= self._file_size(i - 1):
                    return WRITABLE
                return (LARGE if size >= _THRESHOLD else WRITABLE) + "?"
            if before == NO_ACCESS and (use := self._stack(i)):
                return use
        if self._flags[i] in self._of_stacks and self._is_row_of_stacks(i):
            return STACKS + "?"
        if self._flags[i] in self._of_v8 and start % _V8_PAGE == 0:
            return V8_HEAP + "?"
        return LARGE + "?" if size >= _THRESHOLD else OTHER

    def _no_access(self, i: int) -> str:
        return self._heap(i) or self._arena(i) or NO_ACCESS

    def _file(self, i: int) -> str:
        """Return Java heap for the archives that HotSpot maps into it."""
        return self._heap(i) or FILES

    def _executable(self, i: int) -> str:
        return (self._stack(i) if self._flags[i] in self._of_stacks else "") or JIT

    def _heap(self, i: int) -> str:
        """Return the heap of a runtime that has its place, or ""."""
        start = self._starts[i]
        if start in _GO_HEAPS or (self._follows(i) and self.uses[i - 1] == GO_HEAP):
            return GO_HEAP
        return JAVA_HEAP + "?" if self._is_java and self._ends[i] <= _JAVA_MAX else ""

    def _stack(self, i: int) -> str:
        """Return thread stacks if a guard is before the row, and mark it; or another use, or ""."""
        if not self._follows(i) or self.uses[i - 1] != NO_ACCESS:
            return ""
        if self._names[i - 1] != self._names[i]:
            return ""  # a gap in a file
        start, end = self._starts[i], self._ends[i]
        size, guard = end - start, start - self._starts[i - 1]
        if size < _MIN_STACK or guard > min(size // 4, _MAX_GUARD):
            return ""
        sizes = (size, size + guard)
        is_sure = self._flags[i] in self._of_stacks or (
            size >= _SURE_STACK and any(n & (n - 1) == 0 for n in sizes)
        )
        if not is_sure and start % _SUPER_PAGE == _FIRST_SLOT:
            return MALLOC + "?"
        use = STACKS if is_sure else STACKS + "?"
        self.uses[i - 1] = use
        return use

    def _is_row_of_stacks(self, i: int) -> bool:
        """Whether a size is a multiple of a stack's with its guard.

        Since glibc 2.42, guards are no mappings (MADV_GUARD_INSTALL), so stacks are merged.
        """
        size = self._ends[i] - self._starts[i]
        return any(size % ((_SURE_STACK << k) + _PAGE) == 0 for k in range(11))

    def _arena(self, i: int) -> str:
        """Return malloc arenas for the end of one, and mark what is before it, or ""."""
        end = self._ends[i]
        length = _ARENA_32 if self._is_32_bit else _ARENA
        if end % length or self._starts[i] <= end - length:
            return ""
        first = i
        # glibc names what it maps first, not what an arena grows by.
        while self._follows(first) and self.own[first - 1] in (_READ_WRITE, ARENAS):
            first -= 1
            # A full heap may be merged with the next one, so this need not be end - length.
            if self._starts[first] % length == 0:
                # With vm.overcommit_memory=2 there is no such flag.
                is_sure = not self._has_flags or self._flags[first] in self._of_arenas
                use = ARENAS if is_sure else ARENAS + "?"
                self.uses[first:i] = [use] * (i - first)
                return use
        return ""

    def _file_size(self, i: int) -> int:
        """Return the size of what a file occupies, up to the row."""
        first = i
        while first and self._names[first - 1] == self._names[i]:
            first -= 1
        return self._ends[i] - self._starts[first]

    def _read_only(self, i: int) -> str:
        """Find the beginning of a writable segment that was protected, without VmFlags."""
        if i + 1 == len(self.own) or not self._continues(i + 1) or self.own[i + 1] != WRITABLE:
            return READ_ONLY
        if self._follows(i) and self._names[i - 1] == self._names[i]:
            if self.own[i - 1] == READ_ONLY:
                return RELOCATIONS
            if self._continues(i):  # so it is a segment, as Go's linker makes it
                return READ_ONLY
        return RELOCATIONS + "?"

    def _continues(self, i: int) -> bool:
        """Whether a row goes on with the file where the row before it ends."""
        before = self._starts[i - 1]
        return (
            self._follows(i)
            and self._names[i - 1] == self._names[i]
            and self._offsets[i] - self._offsets[i - 1] == self._starts[i] - before
        )
