"""Number of mappings of each process, in scan(), Sampler and captures."""

from __future__ import annotations

import os
import pickle
from array import array
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fastsmaps
from fastsmaps import _backend
from fastsmaps._source.chunks import CHUNK_SIZE, CHUNKS
from support import processes
from support.captures import SMAPS, smem, tar
from support.smaps_texts import record

pytestmark = pytest.mark.usefixtures("no_leak")

LIMIT = int(Path("/proc/sys/vm/max_map_count").read_text())
MANY = 30000


def count_lines(pid: int) -> int:
    return Path(f"/proc/{pid}/maps").read_bytes().count(b"\n")


def scan_one(pid: int, **options: Any) -> fastsmaps.ProcessTotals:
    (row,) = fastsmaps.scan([pid], mappings=True, **options)
    return row


def test_scan_counts_mappings(backend: ModuleType, idle: processes.Process) -> None:
    scan = fastsmaps.scan([idle.pid], mappings=True)
    row = scan[0]
    assert row.mappings == count_lines(idle.pid) == len(fastsmaps.mappings(idle.pid))
    assert row.outcome == "read"
    assert row.as_dict()["mappings"] == row.mappings
    assert scan.column("mappings").tolist() == [row.mappings]
    assert scan.max_map_count == scan[:1].max_map_count == LIMIT
    again = pickle.loads(pickle.dumps(scan))
    assert (again.max_map_count, again[0]) == (LIMIT, row)


def test_mappings_are_not_counted_by_default(backend: ModuleType, idle: processes.Process) -> None:
    scan = fastsmaps.scan([idle.pid])
    assert (scan[0].mappings, scan.max_map_count) == (None, None)
    assert scan[0].as_dict()["mappings"] is None
    assert scan.column("mappings").tolist() == [fastsmaps.ABSENT]


def test_many_mappings_are_counted(backend: ModuleType) -> None:
    """More text than one call reads, and more lines than one sweep call counts."""
    with processes.workload("many", str(min(MANY, LIMIT // 2))) as child:
        expected = count_lines(child.pid)
        assert expected >= child.report
        assert scan_one(child.pid).mappings == expected
        # With a timeout the process is read through ProcessDir.
        assert scan_one(child.pid, timeout=60).mappings == expected
        with fastsmaps.Process(child.pid) as process:
            assert process.directory.with_mapping_count(process.totals, None)[1] == expected
            with pytest.raises(TimeoutError):
                process.directory.with_mapping_count(process.totals, 1e-9)


def test_mapping_count_with_rss_limits(backend: ModuleType, idle: processes.Process) -> None:
    """max_rss only avoids the page walk; processes below min_rss are not counted."""
    large = scan_one(idle.pid, max_rss=1)
    assert (large.outcome, large.totals, large.mappings) == ("skipped", None, count_lines(idle.pid))
    assert large.error is not None
    assert "max_rss=1" in large.error
    small = scan_one(idle.pid, min_rss=1 << 50)
    assert (small.outcome, small.mappings) == ("skipped", None)
    assert scan_one(idle.pid, exclude=[idle.pid]).mappings is None


def test_mapping_count_after_main_thread_exit(backend: ModuleType) -> None:
    with processes.workload("idle") as child:
        tid = child.request("leave")
        expected = Path(f"/proc/{child.pid}/task/{tid}/maps").read_bytes().count(b"\n")
        row = scan_one(child.pid)
        assert (row.outcome, row.mappings) == ("read", expected)


def test_no_mapping_count_without_memory(backend: ModuleType) -> None:
    with processes.zombie() as ended:
        row = scan_one(ended)
        assert (row.outcome, row.mappings) == ("zombie", None)
    thread = processes.kernel_thread()
    if thread is not None:
        assert scan_one(thread).mappings is None
    assert scan_one(processes.dead_pid()).mappings is None


def test_mapping_count_is_dropped_after_exec(backend: ModuleType) -> None:
    """The count of one program is never combined with the values of the next."""
    with processes.workload("many", "1000") as child, fastsmaps.Process(child.pid) as process:
        result, count = process.directory.with_mapping_count(
            lambda: child.request("exec", "idle"), None
        )
        assert result
        assert count is None
        assert process.directory.with_mapping_count(process.totals, None)[1] == count_lines(
            child.pid
        )


def test_backend_counts_lines(backend: ModuleType, tmp_path: Path) -> None:
    with processes.workload("idle") as child:
        fd = os.open(f"/proc/{child.pid}/maps", os.O_RDONLY)
        expected = count_lines(child.pid)
        for chunk_size, chunks in ((CHUNK_SIZE, CHUNKS), (1, 1), (7, 64), (1 << 16, 2)):
            assert _backend.lines(fd, chunk_size, chunks) == expected
        with pytest.raises(TimeoutError, match="deadline"):
            _backend.lines(fd, CHUNK_SIZE, CHUNKS, 1e-9)
        child.request("exec", "idle")
        assert _backend.lines(fd, CHUNK_SIZE, CHUNKS) is None
        os.close(fd)
    for chunk_size, chunks in ((0, 1), (1, 0), (1, 65)):
        with pytest.raises(ValueError, match="chunks: 1 to 64"):
            _backend.lines(0, chunk_size, chunks)
    with pytest.raises(OSError, match="Bad file descriptor"):
        _backend.lines(-1, CHUNK_SIZE, CHUNKS)
    file = tmp_path / "maps"
    for text, count in ((b"", None), (b"a", 0), (b"a\n\nb", 2), (b"\n" * 100_000, 100_000)):
        file.write_bytes(text)
        with file.open("rb") as opened:
            assert _backend.lines(opened.fileno(), CHUNK_SIZE, CHUNKS) == count


def test_sweep_skips_count_of_too_many_mappings(backend: ModuleType, tmp_path: Path) -> None:
    """A count that would delay signals is left to ProcessDir.

    The `maps` file is fake, so that the host's limit need not be raised.
    """
    (tmp_path / "10").mkdir()
    stat = b"10 (a) S 7 1 1 0 -1 4194304 " + b"0 " * 10 + b"1 0 77 " + b"0 " * 15 + b"17 0 0\n"
    (tmp_path / "10" / "stat").write_bytes(stat)
    (tmp_path / "10" / "smaps_rollup").write_bytes(record(1, 9, name=b"[rollup]", Rss=8))
    root = os.open(tmp_path, os.O_RDONLY)
    for count, (outcome, mappings) in {
        3: (0, 3),
        1 << 16: (0, 1 << 16),
        (1 << 16) + 1: (5, None),
    }.items():
        (tmp_path / "10" / "maps").write_bytes(b"%016x\n" % 0 * count)
        sweep = _backend.Sweep(maps_chunk=CHUNK_SIZE)
        sweep.take(root, memoryview(array("i", [10])), 60)
        row = sweep.row(0)
        assert (row[1], row[6]) == (outcome, mappings)
    os.close(root)


def test_sampler_counts_mappings(backend: ModuleType) -> None:
    with processes.workload("idle") as child, fastsmaps.Sampler(mappings=True) as sampler:
        scan = sampler.sweep()
        assert scan.by_pid[child.pid].mappings == count_lines(child.pid)
        assert scan.max_map_count == LIMIT
    with fastsmaps.Sampler() as sampler:
        scan = sampler.sweep()
        assert scan.max_map_count is None
        assert {row.mappings for row in scan} == {None}


@pytest.mark.parametrize("name", ["directory", "a.tar"])
def test_mapping_count_of_capture(
    backend: ModuleType, idle: processes.Process, tmp_path: Path, name: str
) -> None:
    fastsmaps.capture(tmp_path / name, [idle.pid])
    with fastsmaps.open_capture(tmp_path / name) as directory:
        scan = fastsmaps.scan(procfs=directory, mappings=True)
        assert (scan[0].mappings, scan.max_map_count) == (count_lines(idle.pid), LIMIT)
        assert fastsmaps.scan(procfs=directory)[0].mappings is None
        # Saving a capture again keeps the limit of the machine that it was taken on.
        Path(directory, "sys/vm/max_map_count").write_text("262144\n")
        fastsmaps.capture(tmp_path / "again", procfs=directory)
        scan = fastsmaps.scan(procfs=tmp_path / "again", mappings=True)
        assert (scan[0].mappings, scan.max_map_count) == (count_lines(idle.pid), 262144)
        for text in ("", "many\n", "-1\n", "9" * 30 + "\n"):
            Path(directory, "sys/vm/max_map_count").write_text(text)
            assert fastsmaps.scan(procfs=directory, mappings=True).max_map_count is None
        Path(directory, str(idle.pid), "maps").write_bytes(b"nonsense\n" * 3)
        row = fastsmaps.scan(procfs=directory, mappings=True)[0]
        assert (row.outcome, row.mappings) == ("read", count_lines(idle.pid))  # from smaps


def test_mapping_count_from_smaps_of_foreign_capture(backend: ModuleType, tmp_path: Path) -> None:
    with fastsmaps.open_capture(tar(tmp_path / "a.tar", smem())) as directory:
        scan = fastsmaps.scan(procfs=directory, mappings=True)
        assert [row.mappings for row in scan] == [SMAPS.count(b"Size:")] * 2
        assert scan.max_map_count is None


def test_mapping_count_in_arrow(backend: ModuleType, idle: processes.Process) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    scan = fastsmaps.scan([idle.pid], mappings=True)
    table = pyarrow.table(scan)
    assert table.column("mappings").to_pylist() == [scan[0].mappings]
    assert pyarrow.table(fastsmaps.scan([idle.pid])).column("mappings").to_pylist() == [None]
