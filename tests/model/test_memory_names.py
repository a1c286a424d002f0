"""Named memory by purpose: group_by("label"), maps and diff --by label."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

import fastsmaps
from fastsmaps._model.labels import RULES
from support.commands import csv_rows, json_rows, run
from support.smaps_texts import record

LABELS = [
    # Android
    (b"[anon:dalvik-main space (region space)]", "Java heap"),
    (b"[anon:dalvik-zygote space]", "Java heap"),
    (b"[anon:dalvik-free list large object space]", "Java heap"),
    (b"/dev/ashmem/dalvik-main space (deleted)", "Java heap"),
    (b"[anon:dalvik-LinearAlloc]", "Java runtime"),
    (b"[anon:dalvik-jit-code-cache]", "Java runtime"),
    (b"[anon:libc_malloc]", "malloc"),
    (b"[anon:scudo:primary]", "malloc"),
    (b"[anon:GWP-ASan Guard Page]", "malloc"),
    (b"[anon:stack_and_tls:4000]", "thread stacks"),
    (b"[anon:thread signal stack]", "thread stacks"),
    (b"[stack:986]", "thread stacks"),
    (b"[anon:linker_alloc_small_objects]", "linker"),
    (b"[anon:bionic_alloc_small_objects]", "libc"),
    (b"[anon:arc4random data]", "libc"),
    # OpenHarmony, jemalloc
    (b"[anon:native_heap:jemalloc]", "malloc"),
    (b"[anon:jemalloc_pg_overcommit]", "malloc"),
    (b"[anon:stack:1000]", "thread stacks"),
    (b"[anon:ArkTS Heap]", "JavaScript heap"),
    # glibc, Go
    (b"[anon: glibc: malloc]", "malloc"),
    (b"[anon: glibc: malloc arena]", "malloc"),
    (b"[anon: glibc: pthread stack: 4711]", "thread stacks"),
    (b"[anon: glibc: loader malloc]", "linker"),
    (b"[anon: glibc: getrandom]", "libc"),
    (b"[anon: Go: heap]", "Go heap"),
    (b"[anon: Go: heap reservation]", "Go heap"),
    (b"[anon: Go: heap index]", "Go runtime"),
    (b"[anon: Go: gc bits]", "Go runtime"),
    # Without a rule, numbers become "#".
    (b"[anon:worker-12 of 300]", "[anon:worker-# of #]"),
    (b"[anon:at 0x7fAb12, 0xyz]", "[anon:at #, #xyz]"),
    (b"[anon_shmem:pool 7]", "[anon_shmem:pool #]"),
    (b"[anon:glibc: malloc]", "[anon:glibc: malloc]"),
    (b"[anon:\xff9]", "[anon:\udcff#]"),
    (b"socket:[123]", "socket:[#]"),
    (b"[heap]", "[heap]"),
    (b"[stack]", "[stack]"),
    # Files keep their paths; unnamed memory has its kind.
    (b"/usr/lib/libc.so.6", "/usr/lib/libc.so.6"),
    (b"/tmp/[anon:scudo:1]", "/tmp/[anon:scudo:1]"),
    (b"/memfd:pool 12 (deleted)", "/memfd:pool 12 (deleted)"),
    (b"", "anon"),
]


@pytest.mark.parametrize(("name", "label"), LABELS)
def test_names_get_their_label(backend: ModuleType, name: bytes, label: str) -> None:
    table = fastsmaps.parse(record(name=name, Pss=1))
    assert table[0].label == label
    assert list(table.group_by("label")) == [label]


def test_unnamed_memory_is_labelled_by_kind(backend: ModuleType) -> None:
    table = fastsmaps.parse(record(flags=b"rd ht", Pss=1) + record(0x20000, 0x21000, Pss=1))
    assert {*table.group_by("label")} == {"hugetlb", "anon"}


def text_of(names: list[bytes], pss: int = 64) -> bytes:
    return b"".join(
        record(i << 16, (i << 16) + 4096, name, Pss=pss) for i, name in enumerate(names, 1)
    )


STACKS = [b"[anon:stack_and_tls:%d]" % i for i in range(4000, 4040)]


def test_thread_stacks_are_one_group(backend: ModuleType) -> None:
    table = fastsmaps.parse(text_of([b"[anon:scudo:primary]", *STACKS, b"/a"]))
    groups = table.group_by("label")
    assert {label: (group.count, group.files) for label, group in groups.items()} == {
        "thread stacks": (40, 0), "malloc": (1, 0), "/a": (1, 1),
    }  # fmt: skip
    assert list(groups) == ["thread stacks", "malloc", "/a"]
    sums = {label: group.totals for label, group in groups.items()}
    own = table.group_by(lambda mapping: mapping.label)
    assert sums == {label: group.totals for label, group in own.items()}
    assert list(table[1:3].group_by("label")) == ["thread stacks"]
    with pytest.raises(ValueError, match="'path', 'kind', 'label', 'use' or a function, got 'x'"):
        table.group_by("x")


def test_commands_group_by_label(backend: ModuleType, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("old", "new")]
    paths[0].write_bytes(text_of([*STACKS, b"[anon: Go: heap]"]))
    # Other threads have the same label, so only the size changed.
    paths[1].write_bytes(
        text_of([b"[anon:stack_and_tls:%d]" % i for i in range(50)] + [b"[anon: Go: heap]"])
    )
    rows = json_rows("maps", str(paths[0]), "--by", "label")
    assert [(row["label"], row["mappings"], row["pss"]) for row in rows] == [
        ("thread stacks", 40, 40 << 16), ("Go heap", 1, 1 << 16),
    ]  # fmt: skip
    assert "LABEL" in run("maps", str(paths[0]), "--by", "label").stdout.split()
    (row,) = json_rows("maps", str(paths[0]), "--by", "label", "--filter", "Go")
    assert row["label"] == "Go heap"
    (line,) = csv_rows("diff", *map(str, paths), "--by", "label")
    assert (line["label"], line["pss"]) == ("thread stacks", str(10 << 16))
    old, new = (fastsmaps.load(path) for path in paths)
    (change,) = fastsmaps.diff(old, new, "label")
    assert (change.key, change.pss) == ("thread stacks", 10 << 16)


def test_no_rule_hides_a_later_one() -> None:
    prefixes = [prefix for prefix, _ in RULES]
    for i, prefix in enumerate(prefixes):
        assert not any(prefix.startswith(earlier) for earlier in prefixes[:i])


def test_rules_are_documented() -> None:
    text = (Path(__file__).parents[2] / "docs/fields.md").read_text()
    for prefix, label in RULES:
        assert f"| {label} |" in text
        assert f"`{prefix}`" in text
