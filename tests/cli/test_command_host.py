"""fastsmaps host: all of a host's memory as a table, JSON and CSV."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import ModuleType

import pytest

import fastsmaps
from support.commands import csv_rows, json_rows, run
from support.screens import write_host

pytestmark = pytest.mark.core


def test_rows_add_up_to_mem_total(backend: ModuleType) -> None:
    rows = json_rows("host")
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert sum(row["size"] for row in rows) == total
    assert sum(row["percent"] for row in rows) == pytest.approx(100, abs=0.1)
    assert {tuple(row) for row in rows} == {("name", "size", "percent", "about")}
    assert [row["name"] for row in csv_rows("host")] == [row["name"] for row in rows]


def test_table_has_sizes_percentages_and_notes(backend: ModuleType) -> None:
    table, notes = run("host", "--kib").stdout.split("\n\n")
    head, *rows, last = table.splitlines()
    assert head.split() == ["SIZE", "KiB", "MEM%", "NAME", "ABOUT"]
    assert last.split() == [str(fastsmaps.host().total >> 10), "100.0", "total", "MemTotal"]
    assert sum(int(row.split()[0]) for row in rows) == fastsmaps.host().total >> 10
    assert not [row for row in rows if row.split()[0] == "0"]
    assert re.search(r"^\d+ of \d+ processes read", notes)
    assert re.search(r"^[0-9.]+ % of all mapped memory explained$", notes, re.MULTILINE)
    assert " GiB" in run("host", "--human").stdout


def test_order_and_filter(backend: ModuleType) -> None:
    sizes = [row["size"] for row in json_rows("host", "--sort", "size")]
    assert sizes == sorted(sizes, reverse=True)
    done = run("host", "--filter", "^slab")
    assert "slab_reclaimable" in done.stdout
    assert "total" not in done.stdout
    assert "free" not in done.stdout
    assert run("host", "--filter", "nothing", status=1).stderr.count("\n") == 1


def test_capture_lacks_rows_and_says_so(backend: ModuleType, tmp_path: Path) -> None:
    host = write_host(tmp_path / "host")
    names = [row["name"] for row in json_rows("host", "--procfs", host)]
    assert "zram" not in names
    assert "hugetlb_used" not in names
    lines = run("host", "--procfs", host).stdout.splitlines()
    assert "not read: zram, free_per_cpu" in lines
    with (tmp_path / "host" / "meminfo").open("a") as file:
        file.write("Balloon: 2048 kB\n")
    assert "a balloon returned 2.0 MiB to the hypervisor" in run("host", "--procfs", host).stdout
    (tmp_path / "sys/devices/virtual/block/zram0").mkdir(parents=True)
    stat = tmp_path / "sys/devices/virtual/block/zram0/mm_stat"
    stat.write_text("8 8 4096 0 0 0 0 0 0\n")
    rows = json_rows("host", "--procfs", host, "--sysfs", str(tmp_path / "sys"))
    assert {row["name"]: row["size"] for row in rows}["zram"] == 4096
    (tmp_path / "host" / "meminfo").unlink()
    done = run("host", "--procfs", host, status=1)
    assert "has no meminfo with MemTotal" in done.stderr


def test_processes_beyond_the_kernels_sum_are_named(backend: ModuleType, tmp_path: Path) -> None:
    host = write_host(tmp_path / "host")
    text = (tmp_path / "host" / "meminfo").read_text()
    (tmp_path / "host" / "meminfo").write_text(text.replace("AnonPages: 96000", "AnonPages: 1000"))
    assert (
        " more was read than fits: values of other moments" in run("host", "--procfs", host).stdout
    )
