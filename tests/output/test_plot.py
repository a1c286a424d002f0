"""Pages: the data in them, and what keeps them harmless."""

from __future__ import annotations

import base64
import hashlib
import html
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import fastsmaps
from fastsmaps import plot
from fastsmaps._output.tiles import shown
from support import processes
from support.commands import OTHER, ZOO, run
from support.independent import DATA
from support.metrics import write_process
from support.pages import HOSTILE, OWNED, Page, hostile_process

SIZES = ("pss", "uss", "rss", "swap")


# ---- the data


def sums(totals: fastsmaps.Totals) -> dict[str, int | None]:
    return {name: totals[name] for name in SIZES}


def known(sizes: dict[str, int | None]) -> dict[str, int]:
    return {name: size or 0 for name, size in sizes.items()}


def test_mappings_add_up(backend: ModuleType) -> None:
    with processes.workload("idle") as child:
        live = fastsmaps.mappings(child.pid)
    for m in (fastsmaps.load(ZOO), fastsmaps.load(OTHER), live):
        page = Page(plot.mappings(m))
        assert page.data["sizes"] == list(SIZES)
        parts = page.view("Mappings")["parts"]
        groups = {by: m.group_by(by) for by in ("kind", "use", "path")}
        wanted = {
            by: {name: known(sums(group.totals)) for name, group in found.items()}
            for by, found in groups.items()
        }
        drawn = {name: sizes for name, sizes in wanted["kind"].items() if any(sizes.values())}
        assert page.by_kind(parts) == drawn
        uses = {name: sizes for name, sizes in wanted["use"].items() if any(sizes.values())}
        assert page.by_text(parts, 3) == uses
        assert page.data["uses"]
        paths = {shown(name): s for name, s in wanted["path"].items() if any(s.values())}
        found = page.by_text(parts, 0)
        assert {name: found[name] for name in paths if name.startswith("/")} == {
            name: sizes for name, sizes in paths.items() if name.startswith("/")
        }
        ranges = page.by_text(parts, 4)
        assert {name: sizes["pss"] for name, sizes in ranges.items()} == {
            f"{x.start:x}-{x.end:x} {x.perms}": x.pss for x in m if any((x.pss, x.rss, x.swap))
        }


def test_page_without_pss_shows_rss_or_size(backend: ModuleType) -> None:
    text = b"1000-3000 r--p 0 0:0 5 /a\n3000-4000 r--p 0 0:0 0\n"
    page = Page(plot.mappings(fastsmaps.parse(text), title="two"))
    assert page.data["sizes"] == ["size"]
    assert page.by_kind(page.view("Mappings")["parts"]) == {
        "file": {"size": 0x2000},
        "anon": {"size": 0x1000},
    }
    assert page.title == "two"
    with_rss = fastsmaps.parse(text.replace(b"/a\n", b"/a\nRss: 8 kB\n"))
    page = Page(plot.mappings(with_rss))
    assert page.by_kind(page.view("Mappings")["parts"]) == {"file": {"rss": 8192}}
    page = Page(plot.mappings(list(with_rss)))  # rows without their neighbours have no use
    assert not page.data["uses"]
    assert Page(plot.mappings([])).view("Mappings")["parts"] == []


def test_small_parts_are_merged(backend: ModuleType) -> None:
    """A page stays small, and no size is lost."""
    rows = [
        b"%x-%x r--p 0 0:0 0\nPss: %d kB\nSwap: %d kB\n"
        % (i << 12, (i + 1) << 12, i % 97 + 1, 9999 * (i == 100))
        for i in range(20_000)
    ]
    m = fastsmaps.parse(b"".join(rows))
    page = Page(plot.mappings(m))
    parts = page.view("Mappings")["parts"]
    assert page.by_kind(parts) == {"anon": {"pss": m.totals().pss, "swap": m.totals().swap}}
    assert len(parts) == 6001
    assert min(part[0] for part in parts) == 6000 - 20_000
    ranges = {page.text(part[4]) for part in parts if len(part) > 4}
    assert f"{100 << 12:x}-{101 << 12:x} r--p" in ranges  # small, but for its swap


@pytest.fixture
def saved(backend: ModuleType, tmp_path: Path) -> str:
    """Three processes that never change."""
    with processes.workload("idle") as idle, processes.workload("many", "100") as other:
        fastsmaps.capture(str(tmp_path / "saved"), [idle.pid, other.pid, os.getpid()])
    return str(tmp_path / "saved")


def test_processes_have_the_sizes_of_the_scan(backend: ModuleType, saved: str) -> None:
    scan = fastsmaps.scan(procfs=saved, cmdline=True)
    assert scan.coverage["read"] == 3
    page = Page(plot.processes(scan, command="fastsmaps ps"))
    for row in scan:
        assert row.totals is not None
        pid, label, command, _, status, sizes, parts = page.process(row.pid)
        assert page.sizes(sizes) == sums(row.totals)
        assert status == ""
        assert page.text(label)
        assert row.cmdline is not None
        assert page.text(command)[:60] == " ".join(row.cmdline)[:60]
        kinds = fastsmaps.mappings(pid, procfs=saved).group_by("kind")
        assert page.by_kind(parts) == {
            kind: known(sums(group.totals))
            for kind, group in kinds.items()
            if any(sums(group.totals).values())
        }
    assert page.facts["Processes"] == "3 read"
    assert page.facts["Command"] == "fastsmaps ps"
    assert page.facts["Host"] == os.uname().nodename  # from the capture
    assert "Date" in page.facts
    with pytest.raises(ValueError, match=r"one or several of comm, .*, got 'nope'"):
        plot.processes(scan, by="nope")
    page = Page(plot.processes(scan, by="comm,user"))
    names = {page.text(number) for number in page.data["groups"]["by"]}
    assert names == {f"{row.comm}, {row.user}" for row in scan}


def test_unread_process_has_no_parts(backend: ModuleType, saved: str) -> None:
    """A process that ended, or whose pid was reused, is as large as in the scan."""
    scan = fastsmaps.scan(procfs=saved)
    rows = [
        row if i else row.replace(start_time=(row.start_time or 0) + 1)
        for i, row in enumerate(scan)
    ]
    rows.append(fastsmaps.ProcessTotals(1 << 20, "denied", comm="locked", error="no"))
    rows.append(fastsmaps.ProcessTotals(2 << 20, "kernel_thread", comm="kworker"))
    shutil.rmtree(f"{saved}/{rows[1].pid}")
    other = fastsmaps.Scan(rows, cost=scan.cost, taken_at=scan.taken_at, procfs=scan.procfs)
    page = Page(plot.processes(other))
    for i, row in enumerate(rows[:3]):
        *_, sizes, parts = page.process(row.pid)
        assert row.totals is not None
        assert page.sizes(sizes) == sums(row.totals)
        assert bool(parts) == (i == 2)
    *_, status, sizes, parts = page.process(1 << 20)
    assert (status, sizes, parts) == ("denied", [None] * 4, [])
    assert len(page.data["processes"]) == 4  # not the kernel thread
    assert page.facts["Processes"] == "3 read, 1 denied, 1 kernel thread"
    late = Page(plot.processes(scan, timeout=0))
    assert not any(row[-1] for row in late.data["processes"])


def test_trees_have_parents_first(backend: ModuleType, saved: str) -> None:
    scan = fastsmaps.scan(procfs=saved)
    page = Page(plot.processes(scan))
    pids = [row[0] for row in page.data["processes"]]
    parents = {row[0]: pids[row[3]] if row[3] >= 0 else None for row in page.data["processes"]}
    assert all(row[3] < i for i, row in enumerate(page.data["processes"]))
    assert parents == {row.pid: row.ppid if row.ppid in pids else None for row in scan}


def test_the_smallest_of_very_many_processes_are_left_out() -> None:
    rows = [
        fastsmaps.ProcessTotals(
            pid,
            "read",
            comm="x",
            uid=0,
            totals=fastsmaps.Totals({"Pss": pid << 10}, None, "smaps_rollup"),
        )
        for pid in range(1, 4004)
    ]
    scan = fastsmaps.Scan(rows, cost=fastsmaps.Cost(0, 0), taken_at=0, procfs="/nowhere")
    page = Page(plot.processes(scan))
    assert {row[0] for row in page.data["processes"]} == set(range(4, 4004))
    (note,) = page.data["notes"]
    assert note.startswith("The 3 smallest processes are left out; together 6 KiB")


def test_report_sums_files_over_processes(backend: ModuleType, saved: str) -> None:
    scan = fastsmaps.scan(procfs=saved, cmdline=True, cgroup=True)
    page = Page(plot.report(scan))
    names = [view["name"] for view in page.data["views"]]
    # A host need not have units and containers.
    assert [name for name in names if name not in ("Units", "Containers")] == [
        "Overview", "Processes", "Trees", "Users", "Cgroups", "Names", "Files",
    ]  # fmt: skip
    libs = fastsmaps.libs(procfs=saved)
    found = {page.text(row[0]): (page.sizes(row[2]), row[3]) for row in page.view("Files")["files"]}
    assert found == {
        shown(path): (sums(use.totals), use.processes)
        for path, use in libs.items()
        if any(sums(use.totals).values())
    }
    for word in ("user", "cgroup", "comm"):
        names = [page.text(number) for number in page.data["groups"][word]]
        rows = [scan.by_pid[row[0]] for row in page.data["processes"]]
        assert names == [shown(str(getattr(row, word))) for row in rows]


def test_groups_that_a_host_has(backend: ModuleType, tmp_path: Path) -> None:
    """Units and containers are shown if there are any, and if the scan has read cgroups."""
    scope = b"/system.slice/docker-%s.scope" % (b"0123456789abcdef" * 4)
    for pid, cgroup in ((1, b"/init.scope"), (2, scope), (3, b"/docker")):
        write_process(tmp_path, pid, cgroup=cgroup)
    scan = fastsmaps.scan(procfs=tmp_path, cgroup=True)
    page = Page(plot.report(scan))
    pids = [row[0] for row in page.data["processes"]]
    for word, view, expected in (
        ("unit", "Units", ["init.scope", scope[14:].decode(), "(none)"]),
        ("container", "Containers", ["(none)", "docker:0123456789ab", "(none)"]),
    ):
        assert page.view(view)["by"] == word
        names = [page.text(number) for number in page.data["groups"][word]]
        assert dict(zip(pids, names, strict=True)) == dict(zip((1, 2, 3), expected, strict=True))
    for part, missing in (
        (scan.filter(lambda row: row.pid != 2), {"Containers"}),
        (scan.filter(lambda row: row.pid == 3), {"Containers", "Units"}),
        (fastsmaps.scan(procfs=tmp_path), {"Containers", "Units", "Cgroups"}),
    ):
        views = {view["name"] for view in Page(plot.report(part)).data["views"]}
        assert {"Containers", "Units", "Cgroups"} - views == missing


def test_report_accounts_for_the_host(backend: ModuleType) -> None:
    scan = fastsmaps.scan([os.getpid()])
    rows = [
        *scan,
        fastsmaps.ProcessTotals(1, "denied", comm="a", error="process 1: no CAP_X"),
        fastsmaps.ProcessTotals(2, "denied", comm="b", error="process 2: no CAP_X"),
        fastsmaps.ProcessTotals(3, "skipped", comm="c", error="timeout"),
        fastsmaps.ProcessTotals(4, "skipped", comm="d", error="shared", shares_memory_with=3),
    ]
    scan = fastsmaps.Scan(rows, cost=scan.cost, taken_at=scan.taken_at, procfs="/proc")
    host = Page(plot.report(scan)).view("Overview")["host"]
    values = dict(host["meminfo"])
    assert sum(size for _, size, *_ in host["memory"]) == pytest.approx(values["MemTotal"])
    assert all(size > 0 for _, size, *_ in host["memory"])
    assert host["unread"] == [
        ["denied", "2", "process PID: no CAP_X"],
        ["skipped", "1", "timeout"],
    ]
    assert ["Processes read", "1", "of 4 that have memory"] in host["cards"]


def test_samples_have_a_line_per_field(backend: ModuleType) -> None:
    with fastsmaps.Watch(interval=3600) as watch:
        pass
    page = Page(plot.samples(watch.samples, title="a watch", host="h", command="c"))
    course = page.view("Course")["course"]
    assert {"pss", "uss", "rss", "peak_rss"} <= set(course["lines"])
    for name, values in course["lines"].items():
        assert [value * 1024 for value in values] == watch.samples.column(name).tolist()
    assert course["elapsed"] == [round(s, 3) for s in watch.samples.column("elapsed")]
    assert course["peaks"]["pss"][1] == max(course["lines"]["pss"])
    assert (page.facts["Host"], page.facts["Command"]) == ("h", "c")
    empty = Page(plot.samples(fastsmaps.Watch().samples))
    assert empty.view("Course")["course"]["elapsed"] == []


def test_growth_is_a_table(backend: ModuleType) -> None:
    old = fastsmaps.parse(b"1000-9000 rw-p 0 0:0 0\nRss: 8 kB\nPss: 8 kB\nPrivate_Dirty: 8 kB\n")
    new = fastsmaps.parse(
        b"1000-a000 rw-p 0 0:0 0\nRss: 20 kB\nPss: 20 kB\nPrivate_Dirty: 20 kB\n"
        b"b000-c000 r--p 0 0:0 1 /a\x1b\nRss: 4 kB\nPss: 2 kB\nPrivate_Dirty: 0 kB\n"
    )
    growth = fastsmaps.diff(old, new, by="name")
    page = Page(plot.samples(fastsmaps.Watch().samples, growth=growth))
    assert page.view("Course")["course"]["growth"] == [
        ["1000-a000", [None, 12, 12, None]],
        [r"/a\x1b", [None, 2, 4, None]],
    ]


def test_notebook_shows_a_page_in_a_frame() -> None:
    page = plot.mappings(fastsmaps.load(ZOO), title=HOSTILE)
    text = page._repr_html_()
    match = re.fullmatch(
        r'<iframe sandbox="allow-scripts" srcdoc="([^"<]*)" style="[^"]*">.*', text
    )
    assert match is not None
    assert html.unescape(match[1]) == page.html
    assert repr(page).startswith("<Page ")


# ---- the page


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[str]:
    with hostile_process(tmp_path) as pid:
        yield pid


def test_page_is_self_contained(backend: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "out.html"
    path.write_text("before")
    plot.save(plot.mappings(fastsmaps.load(ZOO), title=HOSTILE), path)
    page = Page(path)
    assert page.title.startswith(HOSTILE[:40])
    assert [tag for tag, _ in page.tags] == [
        "html", "head", "meta", "meta", "meta", "meta", "title", "style", "body", "noscript",
        "script", "script",
    ]  # fmt: skip
    assert not any({"src", "href", "style", "onload"} & set(attrs) for _, attrs in page.tags)
    (kind, _), (_, script) = page.scripts
    assert kind == {"type": "application/json", "id": "data"}
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in page.policy
    assert page.policy.startswith("default-src 'none';")
    assert "http" not in page.policy
    assert "unsafe" not in page.policy
    assert len(path.read_bytes()) < 100_000
    assert os.listdir(tmp_path) == ["out.html"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_page_is_written_atomically(tmp_path: Path) -> None:
    page = plot.mappings(fastsmaps.load(ZOO))
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "link").symlink_to("kept")
    for name, error in (("link", FileExistsError), ("none/x", FileNotFoundError), ("", OSError)):
        with pytest.raises(error):
            plot.save(page, f"{tmp_path}/{name}")
    assert sorted(os.listdir(tmp_path)) == ["kept", "link"]
    assert (tmp_path / "kept").read_text() == "kept"


def test_hostile_names_are_escaped(backend: ModuleType, hostile: str, tmp_path: Path) -> None:
    path = tmp_path / "out.html"
    run("maps", hostile, "--plot", str(path))
    page = Page(path)
    assert {"img", "a", "b"}.isdisjoint(tag for tag, _ in page.tags)
    (_, data), (_, script) = page.scripts
    assert "<" not in data
    assert OWNED not in script
    texts = " ".join(page.data["texts"])
    assert HOSTILE.replace("/", "") in texts.replace("/", "")
    assert texts.isprintable()
    assert r"\u202e" in texts
    assert r"\x1b" in texts


def test_commands_write_pages_of_captures(backend: ModuleType, tmp_path: Path) -> None:
    shutil.copytree(DATA / "captures/7.2-amd64/zoo", tmp_path / "host" / "7")
    path = tmp_path / "out.html"
    for command in (("ps",), ("ps", "--by", "comm"), ("maps", "7"), ("maps", "7", "--by", "kind")):
        run(*command, "--procfs", str(tmp_path / "host"), "--plot", str(path))
        page = Page(path)
        assert page.facts["Command"].startswith(f"fastsmaps {command[0]} ")
        assert "Host" not in page.facts  # this capture does not say
        rows = page.data.get("processes")
        (totals,) = fastsmaps.scan(procfs=str(tmp_path / "host"))
        if rows:
            assert page.sizes(rows[0][5])["pss"] == totals.pss
        else:
            kinds = page.by_kind(page.view("Mappings")["parts"])
            pss = fastsmaps.load(ZOO).totals().pss
            assert sum(sizes["pss"] for sizes in kinds.values()) == pss
