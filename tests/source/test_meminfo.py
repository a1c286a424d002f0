"""meminfo() reads the host's memory."""

from __future__ import annotations

from pathlib import Path

import psutil

from fastsmaps._source.meminfo import meminfo, memory_parts


def test_values_are_bytes_as_psutil_reads_them() -> None:
    values = meminfo()
    assert values["MemTotal"] == psutil.virtual_memory().total
    assert values["SwapTotal"] == psutil.swap_memory().total
    assert 0 < values["MemAvailable"] <= values["MemTotal"]


def test_numbers_without_unit_and_damaged_lines(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_bytes(
        b"MemTotal:  16 kB\nHugePages_Total:  3\nodd\nOdd: x kB\nLong: 1234567890123456789 kB\n"
        b"Empty:\nActive(anon):  2 kB\n\xff: 1 kB\n"
    )
    assert meminfo(str(tmp_path)) == {
        "MemTotal": 16384,
        "HugePages_Total": 3,
        "Active(anon)": 2048,
        "\\xff": 1024,
    }


def test_missing_file(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    assert meminfo(str(tmp_path)) == {}


def test_parts_add_up_to_the_total() -> None:
    values = meminfo()
    parts = memory_parts(values)
    assert sum(parts.values()) == values["MemTotal"]
    assert parts["anon"] == values["AnonPages"]
    assert parts["cache"] == values["Cached"] + values["Buffers"] - values["Shmem"]
    assert min(parts.values()) >= 0


def test_parts_of_an_unknown_total_and_of_old_kernels() -> None:
    assert memory_parts({"MemFree": 5}) == {}
    old = memory_parts({"MemTotal": 10, "MemFree": 4, "Cached": 1, "Shmem": 2})
    assert (old["free"], old["shmem"], old["cache"], old["slab"], old["other"]) == (4, 2, 0, 0, 4)
