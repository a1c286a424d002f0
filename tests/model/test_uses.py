"""group_by("use"): the rules of docs/fields.md ("What a mapping is for"), and what always holds."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import hypothesis.strategies as st
import pytest
from hypothesis import given

import fastsmaps
from fastsmaps._model import labels, uses
from support.commands import csv_rows, json_rows, run
from support.smaps_texts import header, kb

DATA = Path(__file__).parents[1] / "data"
TEXTS = sorted(path for path in DATA.rglob("*maps") if path.stat().st_size)
WORDS = {*uses.USES, *(label for _, label in labels.RULES)}

KB, MB = 1 << 10, 1 << 20
#: Where mmap() puts memory on x86-64; a multiple of 64 MiB.
BASE = 0x7F00_0000_0000
LIBC = b"/usr/lib/libc.so.6"

# A row: (size, perms, name, flags, offset), after the one before; a number leaves a gap.
Line = tuple[int, bytes, bytes, bytes, int]


def line(
    size: int, perms: bytes = b"rw-p", name: bytes = b"", flags: bytes = b"", offset: int = 0
) -> Line:
    return size, perms, name, flags, offset


def text_of(*lines: Line | int, start: int = BASE, flags: bool = True) -> bytes:
    """Write rows of smaps from an address on; without `flags`, of maps."""
    rows = []
    for item in lines:
        if isinstance(item, int):
            start += item
            continue
        size, perms, name, codes, offset = item
        rows.append(header(start, start + size, name, perms=perms, offset=offset))
        if flags:
            rows += [kb("Rss", 4), kb("Pss", 4), b"VmFlags: " + codes + b"\n"]
        start += size
    return b"".join(rows)


def uses_of(*lines: Line | int, start: int = BASE, flags: bool = True) -> list[str]:
    return fastsmaps.parse(text_of(*lines, start=start, flags=flags)).uses()


GUARD = line(4 * KB, b"---p")
STACK = [GUARD, line(8 * MB)]
ARENA = [line(132 * KB, flags=b"rd wr nr "), line(64 * MB - 132 * KB, b"---p", flags=b"nr ")]
LIBRARY = [
    line(152 * KB, b"r--p", LIBC),
    line(1368 * KB, b"r-xp", LIBC, offset=152 * KB),
    line(332 * KB, b"r--p", LIBC, offset=1520 * KB),
    line(16 * KB, b"r--p", LIBC, b"rd mr mw me ac ", offset=1852 * KB),
    line(8 * KB, b"rw-p", LIBC, b"rd wr mr mw me ac ", offset=1868 * KB),
]
LIBRARY_USES = ["read-only data", "text", "read-only data", "relocations", "writable data"]

RULES = [
    # Threads' stacks: by size, by the flag of MAP_STACK, or in doubt.
    (STACK, ["thread stacks"] * 2),
    ([GUARD, line(8 * MB - 4 * KB)], ["thread stacks"] * 2),
    ([line(16 * KB, b"---p"), line(1008 * KB)], ["thread stacks"] * 2),
    ([*STACK, *STACK], ["thread stacks"] * 4),
    ([GUARD, line(100 * KB)], ["thread stacks?"] * 2),
    ([GUARD, line(100 * KB, flags=b"rd wr ac nh ")], ["thread stacks"] * 2),
    ([GUARD, line(32 * KB)], ["thread stacks?"] * 2),
    ([GUARD, line(8 * KB)], ["no access", "other anonymous"]),
    ([line(128 * KB, b"---p"), line(128 * KB)], ["no access", "large allocations?"]),
    ([line(2 * MB, b"---p"), line(8 * MB)], ["no access", "large allocations?"]),
    ([GUARD, 4 * KB, line(8 * MB)], ["no access", "large allocations?"]),
    ([line(4 * KB, b"---p", LIBC), line(8 * MB)], ["no access", "large allocations?"]),
    ([GUARD, line(8 * MB, b"rwxp", flags=b"ex nh ")], ["thread stacks"] * 2),
    ([GUARD, line(8 * MB, b"rwxp")], ["no access", "JIT code"]),
    # glibc 2.42 has guards that are no mappings.
    ([line(3 * (8 * MB + 4 * KB), flags=b"rd wr ac nh ")], ["thread stacks?"]),
    ([line(3 * (8 * MB + 4 * KB))], ["large allocations?"]),
    # PartitionAlloc of Chromium: a super page of 2 MiB with its metadata between guards.
    ([8 * KB, line(4 * KB), GUARD, line(2016 * KB)],
     ["other anonymous", "no access", "malloc?"]),
    # Arenas of malloc; a heap that is full is merged with the next.
    (ARENA, ["malloc arenas"] * 2),
    ([*ARENA, *ARENA], ["malloc arenas"] * 4),
    ([line(132 * KB, name=b"[anon: glibc: malloc arena]", flags=b"nr "),
      line(68 * KB, flags=b"nr "), line(64 * MB - 200 * KB, b"---p", flags=b"nr ")],
     ["malloc arenas"] * 3),
    ([line(65 * MB, flags=b"nr "), line(63 * MB, b"---p")], ["malloc arenas"] * 2),
    ([line(64 * KB, flags=b"nr hg "), line(68 * KB, flags=b"nr "), ARENA[1]],
     ["malloc arenas"] * 3),
    ([line(64 * KB, flags=b"rd wr ac "), line(64 * MB - 64 * KB, b"---p")], ["malloc arenas?"] * 2),
    ([64 * KB, *ARENA], ["large allocations?", "no access"]),
    ([line(64 * KB), line(128 * MB - 64 * KB, b"---p")], ["other anonymous", "no access"]),
    ([*ARENA, *STACK], ["malloc arenas"] * 2 + ["thread stacks"] * 2),
    # Files of programs; what follows them is .bss as far as the size is plausible.
    (LIBRARY, LIBRARY_USES),
    ([*LIBRARY, line(52 * KB)], [*LIBRARY_USES, "writable data"]),
    ([*LIBRARY, line(2 * MB)], [*LIBRARY_USES, "large allocations?"]),
    ([*LIBRARY, line(2 * MB), MB, line(MB, name=b"[heap]")],
     [*LIBRARY_USES, "writable data", "main heap"]),
    ([*LIBRARY[:4], line(52 * KB)], [*LIBRARY_USES[:4], "writable data"]),
    ([line(8 * KB, b"rw-p", b"/bin/a"), line(4 * KB, b"r-xp", b"/bin/a"), 4, line(4 * KB)],
     ["writable data", "text", "other anonymous"]),
    ([line(30 * MB, b"r--p", b"/usr/lib/libicudata.so.72.1 (deleted)")], ["read-only data"]),
    ([line(30 * KB, b"r--p", b"/etc/ld.so.cache")], ["mapped files"]),
    ([line(30 * KB, b"rw-s", b"/var/db (deleted)")], ["mapped files"]),
    ([line(30 * KB, b"---p", LIBC)], ["no access"]),
    # Code made at run time.
    ([line(64 * KB, b"rwxp")], ["JIT code"]),
    ([line(64 * KB, b"r-xp")], ["JIT code"]),
    ([line(64 * KB, b"rw-s", b"/memfd:doublemapper (deleted)"),
      line(64 * KB, b"r-xs", b"/memfd:doublemapper (deleted)")], ["JIT code"] * 2),
    ([line(64 * KB, b"rwxp", b"[anon:v8]")], ["JIT code"]),
    # A program that was started from a memfd, as container runtimes are, is mapped privately.
    ([line(64 * KB, b"r-xp", b"/memfd:runc (deleted)"),
      line(64 * KB, b"rw-p", b"/memfd:runc (deleted)", b"ac "), line(8 * KB)],
     ["text", "writable data", "writable data"]),
    # With READ_IMPLIES_EXEC, all is executable.
    ([line(64 * KB, b"rwxp", b"[stack]"), 4, line(64 * KB, b"rwxp"), line(64 * KB, b"r-xp")],
     ["main stack", "other anonymous", "JIT code?"]),
    # Heaps of runtimes.
    ([line(64 * KB, b"rw-s", b"/memfd:java_heap (deleted)")], ["Java heap"]),
    ([line(256 * KB, flags=b"rd wr dc nr ")], ["JavaScript heap?"]),
    ([4 * KB, line(256 * KB, flags=b"rd wr dc nr ")], ["large allocations?"]),
    # Names.
    ([line(64 * KB, name=b"[anon: glibc: malloc arena]")], ["malloc arenas"]),
    ([line(64 * KB, name=b"[anon: glibc: malloc]")], ["malloc"]),
    ([line(8 * MB, name=b"[anon: glibc: pthread stack: 4711]")], ["thread stacks"]),
    ([line(64 * KB, name=b"[anon: Go: heap]")], ["Go heap"]),
    ([line(64 * KB, name=b"[anon:worker 12]")], ["[anon:worker #]"]),
    ([line(64 * KB, b"rw-s", b"[anon_shmem:ring 1]")], ["[anon_shmem:ring #]"]),
    ([line(64 * KB, name=b"[stack:12]")], ["thread stacks"]),
    ([line(64 * KB, b"rw-s", b"/dev/ashmem/dalvik-main space (deleted)")], ["Java heap"]),
    # The rest.
    ([line(64 * KB, b"rw-s", b"/dev/dri/card0")], ["GPU memory"]),
    ([line(64 * KB, b"rw-s", b"/dev/nvidiactl")], ["GPU memory"]),
    ([line(64 * KB, b"rw-s", b"/drm mm object (deleted)")], ["GPU memory"]),
    ([line(64 * KB, b"rw-s", b"/dmabuf:x")], ["GPU memory"]),
    ([line(64 * KB, b"rw-s", b"/dev/infiniband/uverbs0")], ["device memory"]),
    ([line(64 * KB, b"rw-s", b"anon_inode:[io_uring]")], ["kernel buffers"]),
    ([line(64 * KB, b"rw-s", b"/[aio] (deleted)")], ["kernel buffers"]),
    ([line(64 * KB, b"rw-s", b"/dev/shm/a")], ["shared memory"]),
    ([line(64 * KB, b"rw-s", b"/dev/zero (deleted)")], ["shared memory"]),
    ([line(2 * MB, b"rw-p", b"/anon_hugepage (deleted)")], ["huge pages"]),
    ([line(2 * MB, b"rw-s", b"/dev/hugepages/a")], ["huge pages"]),
    ([line(8 * KB, b"r-xp", b"[vdso]")], ["kernel pages"]),
    ([line(8 * KB, b"---p", b"[page size compat]")], ["no access"]),
    ([line(64 * KB, b"rw-p", b"/dev/zero")], ["other anonymous"]),
    ([line(64 * KB, b"r--p")], ["other anonymous"]),
    ([line(128 * KB)], ["large allocations?"]),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "expected"), RULES)
def test_rules(backend: ModuleType, lines: list[Line | int], expected: list[str]) -> None:
    assert uses_of(*lines) == expected


def test_relocations_without_flags(backend: ModuleType) -> None:
    assert uses_of(*LIBRARY, flags=False) == LIBRARY_USES
    # An old linker: text and constants in one segment, then a gap.
    old = [
        line(1 * MB, b"r-xp", LIBC), line(2 * MB, b"---p", LIBC, offset=MB),
        line(16 * KB, b"r--p", LIBC, offset=MB), line(8 * KB, b"rw-p", LIBC, offset=MB + 16 * KB),
    ]  # fmt: skip
    assert uses_of(*old, flags=False)[2:] == ["relocations?", "writable data"]
    # Go's linker: no relocations, and segments that follow each other in the file, too.
    go = [
        line(520 * KB, b"r-xp", b"/bin/a"), line(572 * KB, b"r--p", b"/bin/a", offset=520 * KB),
        line(96 * KB, b"rw-p", b"/bin/a", offset=1092 * KB),
    ]  # fmt: skip
    assert uses_of(*go, flags=False) == ["text", "read-only data", "writable data"]
    # Flags that an emulator made up say nothing.
    emulated = [(*row[:3], b"rd ", row[4]) for row in LIBRARY]
    assert uses_of(*emulated) == LIBRARY_USES


def test_arenas_of_32_bit_processes_are_of_1_mib(backend: ModuleType) -> None:
    arena = [line(132 * KB), line(892 * KB, b"---p")]
    assert uses_of(*arena, start=0xF700_0000, flags=False) == ["malloc arenas"] * 2
    assert uses_of(*arena, flags=False) == ["large allocations?", "no access"]


def test_go_heap_begins_at_its_address(backend: ModuleType) -> None:
    heap: list[Line | int] = [line(4 * MB), line(60 * MB, b"---p"), MB, line(4 * MB)]
    for start in (0xC0_0000_0000, 0x40_0000_0000):
        expected = ["Go heap", "Go heap", "large allocations?"]
        assert uses_of(*heap, start=start, flags=False) == expected


def test_java_heap_is_below_32_gib(backend: ModuleType) -> None:
    archive = line(MB, name=b"/usr/lib/jvm/lib/server/classes.jsa")
    heap = text_of(line(MB), archive, line(62 * MB, b"---p"), start=0x7_0000_0000)
    above = text_of(line(MB), archive, start=0x8_0000_0000)
    program = text_of(line(MB, b"r-xp", b"/usr/lib/jvm/lib/server/libjvm.so"))
    found = fastsmaps.parse(heap + above + program).uses()
    assert found == ["Java heap?"] * 3 + ["large allocations?", "mapped files", "text"]
    assert "Java heap?" not in fastsmaps.parse(heap + above).uses()


def test_neighbours_are_doubtful_if_addresses_go_back(backend: ModuleType) -> None:
    lines: list[Line | int] = [*LIBRARY, line(52 * KB), *STACK, line(64 * KB), line(MB, b"rwxp")]
    one = text_of(*lines)
    found = fastsmaps.parse(one).uses()
    both = fastsmaps.parse(one + text_of(*ARENA)).uses()
    assert found[5:] == ["writable data"] + ["thread stacks"] * 2 + ["other anonymous", "JIT code"]
    neighbours = {"thread stacks", "malloc arenas"}
    assert both == [
        use + "?" if use in neighbours or i == 5 else use
        for i, use in enumerate([*found, *["malloc arenas"] * 2])
    ]


def test_rollups_do_not_count_as_overlaps(backend: ModuleType) -> None:
    text = header(BASE, BASE + 64 * MB, b"[rollup]", perms=b"---p") + kb("Rss", 4)
    table = fastsmaps.parse(text + text_of(*STACK, start=1 << 20))
    assert "rollup" in fastsmaps.parse(text).uses()
    assert not [use for use in table.uses() if use.endswith("?")]


def test_parts_of_a_table_know_their_neighbours(backend: ModuleType) -> None:
    table = fastsmaps.parse(text_of(*ARENA, *STACK, MB, line(MB)))
    expected = ["malloc arenas"] * 2 + ["thread stacks"] * 2 + ["large allocations?"]
    assert table.uses() == expected
    assert table[3:4].uses() == ["thread stacks"]
    assert table[::-1].uses() == expected[::-1]
    written = table.filter(lambda row: row.perms == "rw-p")
    assert written.uses() == ["malloc arenas", "thread stacks", "large allocations?"]
    assert {*written.group_by("use")} == {*written.uses()}
    assert table[:0].uses() == []
    assert fastsmaps.parse(b"").group_by("use") == {}


def check(table: fastsmaps.Mappings) -> dict[str, fastsmaps.Group]:
    """Check what holds for every table: one use for each row, and sums that agree."""
    found = table.uses()
    assert len(found) == len(table)
    groups = table.group_by("use")
    assert sum(group.count for group in groups.values()) == len(table)
    if "rollup" not in groups and groups:
        totals = table.totals()
        for name in ("size", *(name for name in table.fields if name in totals)):
            sums = [group.totals[name] or 0 for group in groups.values()]
            assert sum(sums) == totals[name], name
    return groups


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(DATA)))
def test_saved_texts_have_known_uses(backend: ModuleType, path: Path) -> None:
    for use in check(fastsmaps.load(path)):
        assert use.rstrip("?") in WORDS or use.startswith("[anon")


@pytest.mark.parametrize("path", sorted(DATA.glob("captures/*/zoo/smaps")), ids=str)
def test_uses_of_captures(backend: ModuleType, path: Path) -> None:
    """The program made two pieces of executable memory, six shared ones, and no thread."""
    groups = check(fastsmaps.load(path))
    assert {use: groups[use].count for use in ("main stack", "main heap", "shared memory")} == {
        "main stack": 1, "main heap": 3, "shared memory": 6,
    }  # fmt: skip
    assert (groups.get("JIT code") or groups["JIT code?"]).count == 2
    assert not [use for use in groups if use.startswith(("thread", "malloc"))]


LINES = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from([0, 1, 2, 4, 33, 256, 2048, 16384 - 33]).map(lambda n: n * 4096),
            st.sampled_from([b"---p", b"rw-p", b"r--p", b"r-xp", b"rwxp", b"rw-s"]),
            st.sampled_from([b"", b"", LIBC, b"[heap]", b"[stack]", b"/memfd:x", b"[anon:x]"]),
            st.sampled_from([b"", b"rd ac ", b"nh ", b"nr ", b"dc nr "]),
            st.sampled_from([0, 4096]),
        ),
        st.sampled_from([-4096, 4096, 1 << 26]),
    ),
    max_size=40,
)


@given(lines=LINES, flags=st.booleans(), start=st.sampled_from([BASE, 0xC0_0000_0000, 1 << 20]))
def test_every_table_has_uses(lines: list[Line | int], flags: bool, start: int) -> None:
    lines = [*lines, line(4096, b"r-xp", b"/libjvm.so")]
    check(fastsmaps.parse(text_of(*lines, start=start, flags=flags)))


def test_commands_group_by_use(backend: ModuleType, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("old", "new")]
    paths[0].write_bytes(text_of(*ARENA, *STACK))
    paths[1].write_bytes(text_of(*ARENA, *STACK, *STACK, line(4 * KB, name=b"[anon:\x1b]")))
    rows = json_rows("maps", str(paths[0]), "--by", "use")
    assert [(row["use"], row["mappings"], row["rss"]) for row in rows] == [
        ("malloc arenas", 2, 8192), ("thread stacks", 2, 8192),
    ]  # fmt: skip
    shown = run("maps", str(paths[1]), "--by", "use").stdout
    assert "USE" in shown.split("\n")[0].split()
    assert "\x1b" not in shown
    (row,) = json_rows("maps", str(paths[1]), "--by", "use", "--filter", "anon")
    assert row["use"] == "[anon:\x1b]"
    table = json_rows("maps", str(paths[0]), "--fields", "use,rss")
    assert [(row["use"], row["rss"]) for row in table] == [
        (use, 4096) for use in ("malloc arenas", "malloc arenas", "thread stacks", "thread stacks")
    ]  # fmt: skip
    assert "USE" in run("maps", str(paths[0]), "--fields", "use").stdout.split()
    assert "use" not in json_rows("maps", str(paths[0]))[0]
    by_key = {line["use"]: line for line in csv_rows("diff", *map(str, paths), "--by", "use")}
    assert by_key["thread stacks"]["rss"] == "8192"
    old, new = (fastsmaps.load(path) for path in paths)
    assert {change.key for change in fastsmaps.diff(old, new, "use")} == {
        "thread stacks", "[anon:\x1b]",
    }  # fmt: skip


def test_uses_are_documented() -> None:
    text = (Path(__file__).parents[2] / "docs/fields.md").read_text()
    section = text.partition("## What a mapping is for")[2].partition("\n## ")[0]
    for use in uses.USES:
        assert f"| {use} |" in section
    for name in (*uses.GPU_NAMES, *uses.BUFFER_NAMES):
        assert f"`{name.decode()}`" in section
