"""libs(): each mapped file over all processes."""

from __future__ import annotations

import contextlib
import os
import pickle
from pathlib import Path
from types import ModuleType

import linux
import living
import pytest

import fastsmaps
from fastsmaps import _backend

pytestmark = pytest.mark.usefixtures("no_leak")


def test_a_file_of_many(backend: ModuleType, tmp_path: Path) -> None:
    marks = [tmp_path / name for name in ("one", "two")]
    with contextlib.ExitStack() as stack:
        children = [
            stack.enter_context(living.playing("marked", str(mark)))
            for mark in (marks[0], marks[0], marks[1])
        ]
        pids = [child.pid for child in children]
        for workers in (1, 2):
            libs = fastsmaps.libs(pids, workers=workers)
            uses = [libs[str(mark)] for mark in marks]
            assert [use.processes for use in uses] == [2, 1]
            assert [use.totals.size for use in uses] == [2 * linux.PAGE, linux.PAGE]
            assert libs.coverage["read"] == 3
        marks[1].unlink()
        after = fastsmaps.libs(pids)
        assert str(marks[1]) not in after
        assert after[f"{marks[1]} (deleted)"].processes == 1
        everything = fastsmaps.libs(workers=2)
        assert everything[str(marks[0])].processes == 2
        assert everything.coverage["read"] > 3
        again = pickle.loads(pickle.dumps(after))
        assert again == after
        assert again.coverage == after.coverage
    sizes = [use.totals.pss or 0 for use in everything.values()]
    assert sizes == sorted(sizes, reverse=True)
    assert all(path.startswith("/") for path in everything)


def test_sums_are_those_of_the_tables(backend: ModuleType) -> None:
    with living.playing("idle") as one, living.playing("idle") as other:
        pids = [one.pid, other.pid]
        libs = fastsmaps.libs(pids)
        expected: dict[str, tuple[int, int]] = {}
        for pid in pids:
            for path, group in fastsmaps.mappings(pid).group_by("path").items():
                if path.startswith("/"):
                    rss, users = expected.get(path, (0, 0))
                    expected[path] = rss + (group.totals.rss or 0), users + 1
        assert {path: (use.totals.rss, use.processes) for path, use in libs.items()} == expected


def test_what_cannot_be_read(backend: ModuleType, tmp_path: Path) -> None:
    with living.playing("idle") as child, living.zombie() as ended:
        (tid,) = child.ask("threads", 1)
        numbers = [child.pid, ended, living.reaped(), tid]
        libs = fastsmaps.libs(numbers)
        assert {word: count for word, count in libs.coverage.items() if count} == {
            "read": 1,
            "zombie": 1,
            "gone": 1,
            "failed": 1,
        }
        assert list(libs.errors) == numbers[1:]
        assert all(str(pid) in error for pid, error in libs.errors.items())
        assert pickle.loads(pickle.dumps(libs)).errors == libs.errors
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "smaps").write_bytes(b"nonsense\n")
    libs = fastsmaps.libs(procfs=tmp_path)
    assert (dict(libs), libs.coverage["failed"]) == ({}, 1)
    with pytest.raises(ValueError, match="workers"):
        fastsmaps.libs([os.getpid()], workers=0)
    with pytest.raises(TypeError, match="several numbers, not 5"):
        fastsmaps.libs(5)  # type: ignore[arg-type]
    with pytest.raises(fastsmaps.Error):
        fastsmaps.libs(procfs=tmp_path / "nothing")


def test_a_label_without_a_unit_is_no_size(backend: ModuleType, tmp_path: Path) -> None:
    """In one process, and so nowhere; but not where that process cannot be read whole."""
    header = b"1000-2000 r--p 00000000 00:01 7 /x\n"
    texts = [
        header + b"Rss: 4 kB\nOne: 4 kB\nNew: 1 kB\n",
        header + b"Rss: 4 kB\nOne: 4\nNew: 1 kB\n",
        header + b"Rss: 4 kB\nNew: 1\nNew: 2\n",
        header + b"Rss: 8 kB\nOne: 8 kB\nNew: 1 kB\n",
    ]
    uses = _backend.Uses()
    for number, text in enumerate(texts):
        path = tmp_path / str(number)
        path.write_bytes(text)
        with open(path, "rb") as file:
            if number == 2:
                with pytest.raises(fastsmaps.ParseError):
                    uses.add(file.fileno(), 3000, 8)
            else:
                assert uses.add(file.fileno(), 3000, 8)
    sums = {"Rss": 16384, "New": 3072}
    assert uses.result() == [(b"/x", 3, (3 * 4096, sums))]


def test_a_refused_process_comes_first(backend: ModuleType, tmp_path: Path) -> None:
    """What it left behind makes no size of the next one's flags."""
    record = b"1000-2000 r--p 00000000 00:01 7 /x\nRss: 4 kB\nTHPeligible: 1\n"
    uses = _backend.Uses()
    for name, text in (("refused", record + b"?\n"), ("good", record)):
        path = tmp_path / name
        path.write_bytes(text)
        with open(path, "rb") as file:
            if name == "refused":
                with pytest.raises(fastsmaps.ParseError):
                    uses.add(file.fileno(), 3000, 8)
            else:
                assert uses.add(file.fileno(), 3000, 8)
    assert uses.result() == [(b"/x", 1, (4096, {"Rss": 4096}))]
