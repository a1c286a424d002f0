"""The baselines of bare.c, compiled at the first call and timed inside C.

``python bare.py FILE...`` shows what reading each file costs, here and now.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("bare.c")


class Timing(NamedTuple):
    """What one call took, and how many bytes (or lines) it saw."""

    ns: int
    seen: int


def compiler() -> list[str]:
    """C compiler's command: ``$CC``, else ``cc``."""
    return shlex.split(os.environ.get("CC", "cc")) or ["cc"]


def build(*arguments: str) -> None:
    """Run the compiler; raise RuntimeError with its message, or if there is none."""
    command = [*compiler(), "-O2", *arguments]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise RuntimeError(
            f"no C compiler: {command[0]!r} was not found. The baselines are written in C: "
            "install one (gcc or clang) or name it in CC."
        ) from None
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{shlex.join(command)} failed:\n{error.stderr}") from None


@functools.cache
def library() -> ctypes.CDLL:
    """bare.c as a loaded library; its file is gone again before the first call."""
    with tempfile.TemporaryDirectory() as directory:
        target = os.path.join(directory, "bare.so")
        build("-pthread", "-shared", "-fPIC", "-o", target, str(SOURCE))
        bare = ctypes.CDLL(target)
    out = ctypes.POINTER(ctypes.c_uint64)
    bare.bare_read.argtypes = bare.chunks_read.argtypes = (ctypes.c_char_p, out)
    bare.count_newlines.argtypes = (ctypes.c_char_p, ctypes.c_uint64, out)
    bare.bare_sweep.argtypes = (
        ctypes.POINTER(ctypes.c_int32),
        ctypes.c_size_t,
        ctypes.POINTER(ctypes.c_char_p),
        ctypes.c_int,
        out,
    )
    for function in (bare.bare_read, bare.chunks_read, bare.count_newlines, bare.bare_sweep):
        function.restype = ctypes.c_int64
    return bare


def _read(name: str, path: str) -> Timing:
    count = ctypes.c_uint64()
    ns = getattr(library(), name)(os.fsencode(path), ctypes.byref(count))
    if ns < 0:
        raise OSError(-ns, os.strerror(-ns), path)
    return Timing(ns, count.value)


def read(path: str) -> Timing:
    """Open, fill 64 KiB again and again until the end, close; nothing is parsed."""
    return _read("bare_read", path)


def read_chunks(path: str) -> Timing:
    """Read with preadv(2) in 64 chunks of 3,000 bytes: the floor, not a baseline."""
    return _read("chunks_read", path)


def sweep(pids: Sequence[int], *names: str, threads: int = 1) -> Timing:
    """Each process's files of these names, one after the other, as read() does; in C threads.

    OSError if one of them could not be read.
    """
    count = ctypes.c_uint64()
    numbers = (ctypes.c_int32 * len(pids))(*pids)
    files = (ctypes.c_char_p * (len(names) + 1))(*map(os.fsencode, names), None)
    ns = library().bare_sweep(numbers, len(pids), files, threads, ctypes.byref(count))
    if ns < 0:
        raise OSError(-ns, os.strerror(-ns), ", ".join(names))
    return Timing(ns, count.value)


def count_newlines(text: bytes) -> Timing:
    """Count the newlines of ``text`` by repeated memchr()."""
    count = ctypes.c_uint64()
    ns = library().count_newlines(text, len(text), ctypes.byref(count))
    return Timing(ns, count.value)


def main(paths: list[str], rounds: int = 101) -> None:
    """Print medians of the two ways to read, interleaved."""
    for path in paths:
        pairs = [(read(path), read_chunks(path)) for _ in range(rounds)]
        plain = statistics.median(pair[0].ns for pair in pairs) / 1000
        chunks = statistics.median(pair[1].ns for pair in pairs) / 1000
        print(
            f"{path}: {pairs[0][0].seen:,} bytes, read {plain:,.1f} us, "
            f"in chunks {chunks:,.1f} us ({chunks / plain:.2f})"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
