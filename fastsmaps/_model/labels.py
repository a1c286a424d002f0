"""Labels for named memory: the names of mappings, grouped by purpose with a table of prefixes.

The names are set with prctl(PR_SET_VMA) by bionic, ART and scudo (Android), OpenHarmony's musl and
ArkTS, glibc since 2.39 (tunable glibc.mem.decorate_maps), Go since 1.25, jemalloc, and programs.
"""

from __future__ import annotations

import os

#: Prefixes of NAME in ``[anon:NAME]`` and their labels; the first that matches counts.
RULES = (
    # ART: the spaces that hold objects, as in dumpsys meminfo; then the rest of it.
    ("dalvik-main space", "Java heap"),
    ("dalvik-alloc", "Java heap"),
    ("dalvik-region space", "Java heap"),
    ("dalvik-rosalloc space", "Java heap"),
    ("dalvik-large object", "Java heap"),
    ("dalvik-free list large object", "Java heap"),
    ("dalvik-non moving space", "Java heap"),
    ("dalvik-zygote space", "Java heap"),
    ("dalvik-", "Java runtime"),
    ("ArkTS Heap", "JavaScript heap"),
    ("ArkJS Heap", "JavaScript heap"),
    # Allocators.
    ("libc_malloc", "malloc"),
    ("scudo", "malloc"),
    ("GWP-ASan", "malloc"),
    ("native_heap:", "malloc"),
    ("jemalloc", "malloc"),
    ("partition_alloc", "malloc"),
    (" glibc: malloc", "malloc"),
    # Stacks of threads; the names contain the thread's number.
    ("stack_and_tls:", "thread stacks"),
    ("stack:", "thread stacks"),
    ("signal_stack:", "thread stacks"),
    ("thread signal stack", "thread stacks"),
    ("thread stack", "thread stacks"),
    (" glibc: pthread stack", "thread stacks"),
    (" glibc: pthread user stack", "thread stacks"),
    # The dynamic linker, and the C library's other memory.
    ("linker_alloc", "linker"),
    (" glibc: loader", "linker"),
    ("bionic", "libc"),
    ("arc4random", "libc"),
    ("atexit handlers", "libc"),
    ("System property", "libc"),
    (" glibc: ", "libc"),
    # Go: the heap index is one of many tables of its runtime.
    (" Go: heap index", "Go runtime"),
    (" Go: heap", "Go heap"),
    (" Go: ", "Go runtime"),
)

_RULES = tuple((prefix.encode("ascii"), label) for prefix, label in RULES)
# Up to Android 10, ART's memory was ashmem.
_ASHMEM = b"/dev/ashmem/"
_DALVIK = _ASHMEM + b"dalvik-"
_TID = b"[stack:"
_NAMED = b"[anon:"


def label_of(name: bytes, kind: str) -> str:
    """Return a label for a mapping of this name and kind.

    The label of a file is its path, and without a name it is the kind. RULES decide for other
    names; if no rule matches, it is the name with ``#`` for each number.
    """
    if not name:
        return kind
    if name.startswith(_DALVIK):
        name = _NAMED + name.removeprefix(_ASHMEM)
    elif name.startswith(b"/"):
        return os.fsdecode(name)
    if name.startswith(_TID):
        return "thread stacks"
    if name.startswith(_NAMED):
        inner = name.removeprefix(_NAMED)
        for prefix, label in _RULES:
            if inner.startswith(prefix):
                return label
    return _without_numbers(os.fsdecode(name))


def _without_numbers(text: str) -> str:
    """Put ``#`` for each decimal number, and for each hexadecimal number with its 0x."""
    result = ""
    i = 0
    while i < len(text):
        digits = "0123456789"
        if text[i] in digits:
            if text[i : i + 2] == "0x" and text[i + 2 : i + 3] in set("0123456789abcdefABCDEF"):
                i += 2
                digits += "abcdefABCDEF"
            while i < len(text) and text[i] in digits:
                i += 1
            result += "#"
        else:
            result += text[i]
            i += 1
    return result
