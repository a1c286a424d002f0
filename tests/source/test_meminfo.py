"""meminfo() reads the host's memory."""

from __future__ import annotations

from pathlib import Path

import psutil

from fastsmaps._source.meminfo import meminfo


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
