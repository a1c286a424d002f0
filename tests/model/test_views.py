"""What results show of themselves: in a REPL, in a notebook, and to rich."""

from __future__ import annotations

import io
import os
import pickle
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastsmaps
from fastsmaps._host.libs import Libs, LibUse
from fastsmaps._model.process_totals import ProcessTotals
from fastsmaps._model.processes import Cost, Scan
from fastsmaps._model.samples import Samples, Series
from fastsmaps._model.totals import Totals
from support.smaps_texts import TEXT, header, record

# Names that a terminal, HTML, or rich's markup would act on.
HOSTILE = (
    b"/tmp/\xff", b"/tmp/\x1b[31mred", b"/tmp/\r", "/tmp/\N{RIGHT-TO-LEFT OVERRIDE}evil".encode(),
    b"/tmp/<script>alert(1)</script>", b"/tmp/</td><img src=x onerror=alert(1)>", b"/tmp/[red]x",
    b'/tmp/"\'&amp;', b"/tmp/\xed\xa0\x80",
)  # fmt: skip


def totals(pss: int, **more: int) -> Totals:
    fields = {"Rss": pss, "Pss": pss, "Private_Clean": 0, "Private_Dirty": pss, "Swap": 0}
    return Totals(fields | more, None, "smaps_rollup")


def scan(*rows: ProcessTotals, procfs: str = "/proc") -> Scan:
    return Scan(rows, cost=Cost(0.0, 0.0), taken_at=1_700_000_000.0, procfs=procfs)


def samples(*values: int) -> Samples:
    series = Series(100)
    for i, value in enumerate(values):
        series.add(totals(value), elapsed=i * 10**9, time=i, processes=1, unread=0, peak_rss=None)
    return series.samples()


class Page(HTMLParser):
    """The tags of a page, and the texts of each row of its table."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[tuple[str, str | None]] = set()
        self.rows: list[list[str]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {*attrs}
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1] and self.lasttag in ("td", "th") and data != "\n":
            self.rows[-1][-1] += data


def in_rich(thing: object, width: int = 200) -> str:
    console = pytest.importorskip("rich.console")
    file = io.StringIO()
    console.Console(file=file, width=width, color_system=None).print(thing)
    return file.getvalue()


def words(text: str) -> list[list[str]]:
    return [re.split(r" {2,}", line.strip()) for line in text.splitlines()]


def many(count: int) -> fastsmaps.Mappings:
    return fastsmaps.parse(
        b"".join(
            record(i << 16, (i << 16) + 4096, b"/%d" % i, Rss=i, Pss=i, Swap=0)
            for i in range(1, count + 1)
        )
    )


def test_a_large_table_shows_the_largest_rows_and_sums(backend: ModuleType) -> None:
    assert words(repr(many(30))) == [
        ["30 mappings"],
        ["pss", "rss", "perms", "name"],
        *([f"{i} KiB", f"{i} KiB", "rw-p", f"/{i}"] for i in range(30, 20, -1)),
        ["210 KiB", "210 KiB", "20 more"],
        ["465 KiB", "465 KiB", "sum"],
    ]


def test_a_small_or_sorted_table_keeps_its_order(backend: ModuleType) -> None:
    small = words(repr(many(10)))
    assert [line[-1] for line in small[2:]] == [*(f"/{i}" for i in range(1, 11)), "sum"]
    by_rss = words(repr(many(30).sort("rss", reverse=True)[5:]))
    assert [line[-1] for line in by_rss[2:]] == [
        *(f"/{i}" for i in range(25, 15, -1)),
        "15 more",
        "sum",
    ]
    rows = [
        ProcessTotals(pid, "read", totals=totals((31 - pid) << 10), comm=f"p{pid}")
        for pid in range(1, 31)
    ]
    assert words(repr(scan(*rows)))[2][-1] == "p1"
    assert words(repr(scan(*rows).sort()))[2][-1] == "p30"


def test_unnamed_mappings_show_their_range_and_unknown_values_a_dash(backend: ModuleType) -> None:
    lines = words(repr(fastsmaps.parse(TEXT)))
    assert lines[1:] == [
        ["pss", "rss", "swap", "perms", "name"],
        ["2 KiB", "8 KiB", "0", "r-xp", "/lib/a"],
        ["4 KiB", "4 KiB", "-", "rw-p", "[heap]"],
        ["0", "0", "16 KiB", "rw-p", "/lib/a"],
        ["4 KiB", "-", "-", "rw-p", "20000-20000"],
        ["0", "0", "-", "rw-p", "/anon_hugepage (deleted)"],
        ["10 KiB", "12 KiB", "16 KiB", "sum"],
    ]
    maps = repr(fastsmaps.parse(header(0x1000, 0x3000, b"/a") + header(0x4000, 0x5000)))
    assert words(maps)[1:] == [
        ["size", "perms", "name"],
        ["8 KiB", "rw-p", "/a"],
        ["4 KiB", "rw-p", "4000-5000"],
        ["12 KiB", "sum"],
    ]


def test_titles_name_the_origin() -> None:
    mappings = fastsmaps.mappings()
    then = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(mappings.taken_at))
    host = os.uname().nodename
    title = f"{len(mappings)} mappings of process {os.getpid()} on {host}, {then}"
    assert repr(mappings).splitlines()[0] == title
    assert title in mappings._repr_html_()
    assert repr(scan(procfs="/srv/cap\x1bture")).startswith(
        "0 processes in /srv/cap\\x1bture, 2023-"
    )
    found = fastsmaps.scan([os.getpid()])
    assert repr(found).startswith(f"1 process on {host}, ")
    text = fastsmaps.parse(b"$ cat smaps\n" + record(Rss=1), lenient=True)
    assert repr(text).splitlines()[0] == "1 mapping"
    assert repr(text).splitlines()[-1] == "1 line of the text skipped"


def test_a_table_keeps_its_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: ModuleType
) -> None:
    here = os.uname()
    tables = [fastsmaps.mappings(), fastsmaps.mappings()[:3], fastsmaps.scan([os.getpid()])]
    with fastsmaps.Process(os.getpid()) as process:
        tables.append(process.mappings())
    with fastsmaps.Sampler() as sampler:
        tables.append(sampler.sweep())
    tables.append(fastsmaps.capture(tmp_path / "here", [os.getpid()]))
    pickles = [pickle.dumps(table) for table in tables]
    elsewhere = os.uname_result(
        (here.sysname, "elsewhere", here.release, here.version, here.machine)
    )
    monkeypatch.setattr(os, "uname", lambda: elsewhere)
    for table in map(pickle.loads, pickles):
        assert table.host == table[:1].host == here.nodename
    captured = str(tmp_path / "here")
    assert fastsmaps.mappings(os.getpid(), procfs=captured).host == here.nodename
    assert fastsmaps.scan(procfs=captured).host == here.nodename
    (tmp_path / "here" / "fastsmaps.json").unlink()
    other = fastsmaps.scan(procfs=captured)
    assert other.host is None
    assert f" in {captured}" in repr(other).splitlines()[0]
    assert fastsmaps.parse(TEXT).host is None


def test_a_scan_shows_coverage_and_outcomes() -> None:
    table = scan(
        ProcessTotals(1, "denied", comm="init", uid=0),
        ProcessTotals(2, "kernel_thread", comm="kthreadd", uid=0),
        ProcessTotals(3, "read", comm="sh", uid=2**32 - 2, totals=totals(4096)),
        ProcessTotals(4, "read", cmdline=b"/usr/bin/python3\0-i\0", totals=totals(2048, Swap=5120)),
    )
    lines = words(repr(table))
    assert lines[0][0].startswith("3 processes and 1 kernel thread, ")
    assert lines[1:] == [
        ["pss", "uss", "rss", "swap", "pid", "user", "command"],
        ["-", "-", "-", "-", "1", "root", "init (denied)"],
        ["-", "-", "-", "-", "2", "root", "kthreadd (kernel_thread)"],
        ["4 KiB", "4 KiB", "4 KiB", "0", "3", "4294967294", "sh"],
        ["2 KiB", "2 KiB", "2 KiB", "5 KiB", "4", "-", "python3 -i"],
        ["6 KiB", "6 KiB", "6 KiB", "5 KiB", "sum"],
        ["2 of 3 processes read, 1 denied"],
    ]


def test_rows_that_were_not_read_count_in_no_sum() -> None:
    rows = [ProcessTotals(i, "read", totals=totals(1024), comm="x") for i in range(1, 13)]
    lines = words(repr(scan(*rows, ProcessTotals(20, "denied"))))
    assert lines[-3:] == [
        ["2 KiB", "2 KiB", "2 KiB", "2 more"],
        ["12 KiB", "12 KiB", "12 KiB", "sum"],
        ["12 of 13 processes read, 1 denied"],
    ]


def test_libs_show_processes_and_files() -> None:
    one, two = totals(2048), totals(1024)
    uses = [
        (
            "/lib/b",
            LibUse(one + two, 7, {("fd:00", 1): LibUse(one, 6), ("fd:00", 2): LibUse(two, 1)}),
        ),
        ("/lib/a", LibUse(two, 3)),
    ]
    assert words(repr(Libs(uses, {"read": 9, "denied": 1}, {}, {}))) == [
        ["2 mapped files"],
        ["pss", "uss", "rss", "processes", "files", "path"],
        ["3 KiB", "3 KiB", "3 KiB", "7", "2", "/lib/b"],
        ["1 KiB", "1 KiB", "1 KiB", "3", "1", "/lib/a"],
        ["4 KiB", "4 KiB", "4 KiB", "sum"],
        ["9 of 10 processes read, 1 denied"],
    ]


def test_samples_are_spread_and_show_the_peak() -> None:
    values = [i << 10 for i in range(40)]
    values[17] = 1 << 20
    lines = words(repr(samples(*values)))
    assert lines[:2] == [["40 samples"], ["elapsed", "pss", "uss", "rss"]]
    assert [line[0] for line in lines[2:12]] == [f"{i * 39 // 9}.00 s" for i in range(10)]
    assert lines[12:] == [
        ["17.00 s", "1.0 MiB", "1.0 MiB", "1.0 MiB", "largest pss"],
        ["30 samples between these are not shown"],
    ]
    assert words(repr(samples(1024)))[1:] == [
        ["elapsed", "pss", "uss", "rss"],
        ["0.00 s", "1 KiB", "1 KiB", "1 KiB"],
    ]


def test_changes_are_signed_and_marked(backend: ModuleType) -> None:
    def table(*rows: tuple[bytes, int, int, int]) -> fastsmaps.Mappings:
        return fastsmaps.parse(
            b"".join(
                record(
                    i << 16,
                    (i << 16) + 4096,
                    name,
                    Rss=rss,
                    Pss=pss,
                    Private_Clean=0,
                    Private_Dirty=uss,
                )
                for i, (name, rss, pss, uss) in enumerate(rows)
            )
        )

    before = table((b"/a", 8, 8, 8), (b"/b", 8, 4, 0), (b"", 4, 4, 4), (b"/same", 4, 4, 4))
    after = table((b"/a", 4, 4, 4), (b"/b", 8, 8, 8), (b"", 2048, 2048, 2048), (b"/same", 4, 4, 4))
    changes = fastsmaps.diff(before, after)
    assert words(repr(changes)) == [
        ["3 changes"],
        ["pss", "uss", "rss", "name"],
        ["+2.0 MiB", "+2.0 MiB", "+2.0 MiB", "(no name)"],
        ["-4 KiB", "-4 KiB", "-4 KiB", "/a"],
        ["+4 KiB", "+8 KiB", "0", "* /b"],
        ["+2.0 MiB", "+2.0 MiB", "+2.0 MiB", "sum"],
        ["* shared with fewer processes than before"],
    ]
    assert Page(changes._repr_html_()).rows[1:4] == words(repr(changes))[2:5]
    assert "(no name)" in in_rich(changes)
    assert repr(fastsmaps.diff(before, before)).splitlines()[0] == "0 changes"
    older = scan(ProcessTotals(1, "read", totals=totals(1024), start_time=1.0))
    newer = scan(ProcessTotals(1, "read", totals=totals(2048), start_time=1.0))
    assert older.taken_at is not None
    newer.taken_at = older.taken_at + 2.5
    assert words(repr(fastsmaps.diff(older, newer)))[0] == ["1 change in 2.5 s"]


def test_a_change_of_many_groups_is_cut(backend: ModuleType) -> None:
    lines = words(repr(fastsmaps.diff(many(0), many(30))))
    assert lines[-2:] == [["+210 KiB", "+210 KiB", "20 more"], ["+465 KiB", "+465 KiB", "sum"]]


def test_totals_show_all_fields_in_a_notebook() -> None:
    page = Page(totals(4096, NewThing=2048)._repr_html_())
    assert page.rows == [
        ["size", "field"],
        *(["4 KiB", name] for name in ("uss", "rss_swap", "rss", "pss", "private_dirty")),
        ["2 KiB", "new_thing"],
    ]
    assert "2 other fields: 0" in totals(4096)._repr_html_()
    assert repr(totals(4096)) == "<Totals pss=4 KiB uss=4 KiB rss=4 KiB swap=0>"


def results() -> list[Any]:
    mappings = fastsmaps.parse(
        b"".join(
            record(i << 16, (i << 16) + 4096, name, Rss=1, Pss=1) for i, name in enumerate(HOSTILE)
        )
    )
    rows = [
        ProcessTotals(i, "read", totals=totals(1024), comm=os.fsdecode(name), cmdline=cmdline)
        for i, name in enumerate(HOSTILE, 1)
        for cmdline in (None, name + b"\0" + name + b"\0")
    ]
    libs = Libs(
        ((os.fsdecode(name), LibUse(totals(1024), 1)) for name in HOSTILE), {"read": 1}, {}, {}
    )
    changes = fastsmaps.diff(mappings[:0], mappings)
    scans = [scan(*rows[::2]), scan(*rows[1::2])]
    return [mappings, *scans, libs, totals(1), samples(1, 2), changes]


@pytest.mark.parametrize("result", results(), ids=lambda result: type(result).__name__)
def test_hostile_names_are_escaped(result: Any) -> None:
    assert all(line.isprintable() for line in repr(result).splitlines())
    html = result._repr_html_()
    assert html.encode()  # no surrogates
    page = Page(html)
    assert {*page.tags} <= {"div", "p", "table", "thead", "tbody", "tfoot", "tr", "td", "th"}
    # No colours of its own, no scripts, nothing that is loaded.
    assert page.attributes <= {
        ("style", "overflow-x: auto"),
        ("style", "text-align: left"),
        ("style", "text-align: right; white-space: nowrap"),
        ("class", "dataframe"),
    }
    assert len({len(row) for row in page.rows}) == 1
    text = in_rich(result)
    assert all(line.isprintable() for line in text.splitlines())
    if isinstance(result, fastsmaps.Mappings):
        shown = [row[-1] for row in page.rows]
        assert {"/tmp/\\xff", "/tmp/\\x1b[31mred", "/tmp/[red]x", HOSTILE[4].decode()} <= {*shown}
        assert "/tmp/[red]x" in text


@given(st.lists(st.binary(max_size=200).map(lambda name: b"/" + name.translate(None, b"\n "))))
def test_any_name_can_be_shown(names: list[bytes]) -> None:
    table = fastsmaps.parse(
        b"".join(
            record(i << 16, (i << 16) + 4096, name, Rss=1, Pss=1) for i, name in enumerate(names)
        )
    )
    assert max(map(len, repr(table).splitlines())) <= 80
    assert len(Page(table._repr_html_()).rows) <= 13
    assert str(len(names)) in repr(table)


def test_long_names_lose_their_middle(backend: ModuleType) -> None:
    table = fastsmaps.parse(record(name=b"/start" + b"x" * 500 + b"/end.so", Rss=1))
    assert re.search(r"/startx+\.\.\.x+/end\.so$", repr(table))
    assert len(Page(table._repr_html_()).rows[1][-1]) == 120


def test_results_of_this_machine_are_shown(backend: ModuleType) -> None:
    with fastsmaps.Watch(interval=0.01) as watch:
        pass
    everything = fastsmaps.scan(cmdline=True)
    for result in (
        fastsmaps.mappings(), fastsmaps.mappings(sizes=False), everything, everything[:0],
        fastsmaps.scan([os.getpid()]), fastsmaps.libs([os.getpid()]), watch.samples,
        watch.samples[:0], fastsmaps.totals(), fastsmaps.parse(b""),
    ):  # fmt: skip
        assert repr(result)
        assert Page(result._repr_html_()).rows
        assert in_rich(result, 80)
        again = pickle.loads(pickle.dumps(result))
        assert repr(again) == repr(result)


def test_ipython_shows_html() -> None:
    formatters = pytest.importorskip("IPython.core.formatters")
    for result in results():
        data, _ = formatters.DisplayFormatter().format(result)
        assert data["text/html"] == result._repr_html_()
        assert data["text/plain"] == repr(result)
