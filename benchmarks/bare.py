"""The baselines of bare.c, compiled by the first call and timed in C.

``python bare.py FILE...`` measures how long reading each file takes.
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
    """Nanoseconds of one call, and the bytes (or lines) that it read."""

    ns: int
    total: int


def compiler() -> list[str]:
    """Command of the C compiler: ``$CC``, or ``cc``."""
    return shlex.split(os.environ.get("CC", "cc")) or ["cc"]


def build(*arguments: str) -> None:
    """Run the C compiler; raise RuntimeError if it fails or is missing."""
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
    """Compile bare.c, load the library and delete its file."""
    with tempfile.TemporaryDirectory() as directory:
        target = os.path.join(directory, "bare.so")
        build("-pthread", "-shared", "-fPIC", "-o", target, str(SOURCE))
        bare = ctypes.CDLL(target)
    out = ctypes.POINTER(ctypes.c_uint64)
    bare.bare_read.argtypes = bare.chunks_read.argtypes = (ctypes.c_char_p, out)
    bare.count_newlines.argtypes = (ctypes.c_char_p, ctypes.c_uint64, out)
    bare.bare_scan.argtypes = (
        ctypes.POINTER(ctypes.c_int32),
        ctypes.c_size_t,
        ctypes.POINTER(ctypes.c_char_p),
        ctypes.c_int,
        out,
    )
    bare.once_read.argtypes = (ctypes.c_int, out)
    bare.rollup_read.argtypes = (ctypes.c_char_p, ctypes.c_int, out)
    bare.query_kept.argtypes = (ctypes.c_int, ctypes.c_uint64, out)
    bare.query_new.argtypes = (ctypes.c_char_p, ctypes.c_int, ctypes.c_uint64, out)
    for function in (
        bare.bare_read, bare.chunks_read, bare.count_newlines, bare.bare_scan, bare.once_read,
        bare.rollup_read, bare.query_kept, bare.query_new,
    ):  # fmt: skip
        function.restype = ctypes.c_int64
    return bare


def _read(name: str, path: str | int, *more: int) -> Timing:
    count = ctypes.c_uint64()
    file = path if isinstance(path, int) else os.fsencode(path)
    ns = getattr(library(), name)(file, *more, ctypes.byref(count))
    if ns < 0:
        raise OSError(-ns, os.strerror(-ns), path)
    return Timing(ns, count.value)


def read(path: str) -> Timing:
    """Open a file, read it into a buffer of 64 KiB until the end, and close it."""
    return _read("bare_read", path)


def read_chunks(path: str) -> Timing:
    """Read with preadv(2) into 64 chunks of 3,000 bytes: the lower limit for a parser."""
    return _read("chunks_read", path)


def query_kept(fd: int, address: int) -> Timing:
    """Ask for the mapping of an address through an open maps; the total is its size."""
    return _read("query_kept", fd, address)


def query(pid: int, address: int) -> Timing:
    """Make the system calls of find(pid, address), and nothing else."""
    return _read("query_new", f"/proc/{pid}/maps", pid, address)


def read_once(fd: int) -> Timing:
    """Read an open rollup with one pread(2)."""
    return _read("once_read", fd)


def read_rollup(pid: int) -> Timing:
    """Make the system calls of totals(pid), and nothing else."""
    return _read("rollup_read", f"/proc/{pid}/smaps_rollup", pid)


def scan(pids: Sequence[int], *names: str, threads: int = 1) -> Timing:
    """Read the named files of each process like read(), in C threads.

    Raises OSError if one of them could not be read.
    """
    count = ctypes.c_uint64()
    numbers = (ctypes.c_int32 * len(pids))(*pids)
    files = (ctypes.c_char_p * (len(names) + 1))(*map(os.fsencode, names), None)
    ns = library().bare_scan(numbers, len(pids), files, threads, ctypes.byref(count))
    if ns < 0:
        raise OSError(-ns, os.strerror(-ns), ", ".join(names))
    return Timing(ns, count.value)


def count_newlines(text: bytes) -> Timing:
    """Count the newlines of ``text`` by repeated memchr()."""
    count = ctypes.c_uint64()
    ns = library().count_newlines(text, len(text), ctypes.byref(count))
    return Timing(ns, count.value)


def main(paths: list[str], rounds: int = 101) -> None:
    """Print the medians of both ways to read, interleaved."""
    for path in paths:
        pairs = [(read(path), read_chunks(path)) for _ in range(rounds)]
        plain = statistics.median(pair[0].ns for pair in pairs) / 1000
        chunks = statistics.median(pair[1].ns for pair in pairs) / 1000
        print(
            f"{path}: {pairs[0][0].total:,} bytes, read {plain:,.1f} us, "
            f"in chunks {chunks:,.1f} us ({chunks / plain:.2f})"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
