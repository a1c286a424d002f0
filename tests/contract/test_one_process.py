"""rollup(), and rollup_at() and read_at(), which take a process of /proc by its number."""

from __future__ import annotations

import errno
import os
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastsmaps
from fastsmaps import _backend
from fastsmaps._source.chunks import CHUNK_SIZE, CHUNKS
from support import processes
from support.examples import examples
from support.independent import DATA
from support.twins import Twins, file_of, sums_of

pytestmark = pytest.mark.core

ROLLUPS = sorted(
    text for path in DATA.glob("captures/*/*/smaps_rollup") if (text := path.read_bytes())
)


def both(twins: Twins, text: bytes) -> Any:
    """Return what both backends answer, the order of the fields included."""
    answers = []
    with file_of(text) as fd:
        for twin in twins:
            sums = sums_of(twin.rollup, fd)
            answers.append(list(sums.items()) if isinstance(sums, dict) else sums)
    assert answers[0] == answers[1]
    return answers[0]


def changed(draw: Any, text: bytes) -> bytes:
    """Draw a change of some lines: other numbers, places, labels; lines less or twice."""
    lines = text.splitlines(keepends=True)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(lines) - 1))
        number = draw(st.sampled_from([b"0", b"7", b"99999999", b"100000000", b"4294967294"]))
        label = lines[at].partition(b":")[0]
        lines[at : at + 1] = draw(
            st.sampled_from(
                [
                    [b"%-16s%8s kB\n" % (label + b":", number)],
                    [b"%-16s%8s kB\n" % (b"New:", number)],
                    [b"New: %s\n" % number],
                    [b"THPeligible: %s\n" % number],
                    [b"KernelPageSize:        4 kB\n"],
                    [b"VmFlags: rd wr \n"],
                    [b"Name: x\n"],
                    [b"New: text\n"],
                    [],
                    [lines[at]] * 2,
                    [lines[at], *lines],
                    [lines[at][:-1]],
                    [lines[-1 - at], lines[at]],
                ]
            )
        ) or [b"\n"]
    return b"".join(lines)


@given(data=st.data())
@examples(150)
def test_rollups_after_each_other_are_read_alike(twins: Twins, data: st.DataObject) -> None:
    """The extension compares each with the one before, which must not show."""
    for _ in range(data.draw(st.integers(1, 5))):
        text = data.draw(st.sampled_from(ROLLUPS))
        both(twins, changed(data.draw, text) if data.draw(st.booleans()) else text)


def test_every_cut_and_every_order_of_a_rollup(twins: Twins) -> None:
    text = ROLLUPS[-1]
    header, *lines = text.splitlines(keepends=True)
    whole = both(twins, text)
    assert [label for label, _ in whole] == [line.split(b":")[0].decode() for line in lines]
    for end in range(len(text)):
        both(twins, text[:end])
        assert both(twins, text) == whole
    for turn in range(len(lines)):
        turned = both(twins, b"".join([header, *lines[turn:], *lines[:turn]]))
        assert turned == whole[turn:] + whole[:turn]
        assert both(twins, header + b"".join(lines[turn:])) == whole[turn:]
    assert both(twins, b"".join(lines)) == both(twins, b"".join(lines))  # no header
    assert dict(both(twins, text * 40)) == {label: 40 * size for label, size in whole}


def test_results_are_independent(twins: Twins) -> None:
    for twin in twins:
        with file_of(ROLLUPS[0]) as fd:
            first, second = twin.rollup(fd), twin.rollup(fd)
            assert first == second
            first.clear()
            assert second == twin.rollup(fd) != {}


def test_a_process_is_read_by_its_number(twins: Twins, idle: processes.Process) -> None:
    for twin in twins:
        sums = twin.rollup_at(idle.pid)
        assert sums is not None
        assert sums["Rss"] == fastsmaps.totals(idle.pid).rss
        for sizes in (True, False):
            table = twin.read_at(idle.pid, sizes, CHUNK_SIZE, CHUNKS)
            assert table is not None
            assert len(table) == len(fastsmaps.mappings(idle.pid, sizes=sizes))
            assert bool(table.labels) is sizes


def test_what_is_no_process_gives_none(twins: Twins) -> None:
    """The caller then reads it with ProcessDir, which says why."""
    numbers: list[Any] = [0, -1, -(2**70), 2**31, 2**64, 2**31 - 1, True, "self", "1", 1.0, None]
    numbers += [processes.dead_pid(), processes.kernel_thread()]
    with processes.zombie() as pid, processes.workload("idle") as child:
        for number in (*numbers, pid, *child.request("threads", 1)):
            for twin in twins:
                assert twin.rollup_at(number) is None, number
                assert twin.read_at(number, True, CHUNK_SIZE, CHUNKS) is None, number


def test_without_a_descriptor_left_they_give_none(backend: ModuleType) -> None:
    def read() -> tuple[Any, ...]:
        pid = os.getpid()
        fastsmaps.totals(pid)
        processes.limit_descriptors(processes.next_descriptor())
        processes.fill_descriptors()
        found = (_backend.rollup_at(pid), _backend.read_at(pid, True, CHUNK_SIZE, CHUNKS))
        with pytest.raises(fastsmaps.ReadError) as caught:
            fastsmaps.totals(pid)
        return *found, caught.value.errno

    assert processes.run_in_child(read) == (None, None, errno.EMFILE)
