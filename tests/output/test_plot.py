"""Plots: what is drawn, the page it is saved as, and how a browser shows it."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fastsmaps
from support import processes
from support.commands import OTHER, ZOO, environment, run
from support.independent import DATA

pytest.importorskip("plotly")
from fastsmaps import plot

# Each would do harm in another place: in a script, in a page, as plotly's own markup.
OWNED = "document.title='owned'"
HOSTILE = f"</script><script>{OWNED}</script><img src=x onerror={OWNED}>"
MARKUP = '<b>bold</b><a href="javascript:1">%{label}&lt;&amp;{x}$x$'


# Maps the files that it is given, and has touched all their pages when it prints a line.
MAPPING = """
import mmap, sys
held = []
for path in sys.argv[1:]:
    with open(path, "r+b") as file:
        held.append(mmap.mmap(file.fileno(), 0))
        held[-1][::4096] = b"x" * len(held[-1][::4096])
print(1, flush=True)
sys.stdin.read()
"""


# ---- what is drawn


class Tiles:
    """The tiles of a treemap by id, with the sums checked."""

    def __init__(self, figure: Any) -> None:
        (trace,) = figure.data
        self.parents = dict(zip(trace.ids, trace.parents, strict=True))
        self.values = dict(zip(trace.ids, trace.values, strict=True))
        self.texts: dict[str, str] = dict(
            zip(trace.ids, map(html.unescape, trace.hovertext), strict=True)
        )
        assert len(self.values) == len(trace.ids)
        assert trace.branchvalues == "total"
        self.parts = defaultdict(list)
        for tile, parent in self.parents.items():
            self.parts[parent].append(tile)
        (self.root,) = self.parts.pop("")
        for tile, parts in self.parts.items():
            assert self.values[tile] == sum(self.values[part] for part in parts)

    @property
    def total(self) -> int:
        value: int = self.values[self.root]
        return value

    def below(self, tile: str) -> dict[str, int]:
        """Return the parts of a tile by the first line of their text."""
        return {self.name(part): self.values[part] for part in self.parts.get(tile, ())}

    def name(self, tile: str) -> str:
        first = self.texts[tile].partition("<br>")[0]
        return first.removeprefix("<b>").removesuffix("</b>")

    def called(self, name: str) -> str:
        (tile,) = (tile for tile in self.texts if self.name(tile) == name)
        return tile


def test_mappings_treemap_adds_up(backend: ModuleType) -> None:
    # Not this process: after other tests it maps libraries whose names are shown alike.
    with processes.workload("idle") as child:
        live = fastsmaps.mappings(child.pid)
    for m in (fastsmaps.load(ZOO), fastsmaps.load(OTHER), live):
        tiles = Tiles(plot.mappings(m))
        assert tiles.total == m.totals().pss
        kinds = {name: group.totals.pss for name, group in m.group_by("kind").items()}
        assert tiles.below(tiles.root) == {name: pss for name, pss in kinds.items() if pss}
        paths: dict[str, int] = defaultdict(int)
        for path, group in m.group_by("path").items():
            if group.totals.pss and next(x for x in m if x.path == path).kind == "file":
                paths[Path(path).name[:16]] += group.totals.pss
        found: dict[str, int] = defaultdict(int)
        for name, pss in tiles.below(tiles.called("file")).items():
            found[name.partition("…")[0][:16]] += pss
        assert len(found) == len(paths)
        assert sum(found.values()) == sum(paths.values())
        if "heap" in kinds:
            heap = {f"{x.start:x}-{x.end:x}": x.pss for x in m if x.kind == "heap" and x.pss}
            assert tiles.below(tiles.called("heap")) == heap


def test_treemap_without_pss_shows_rss_or_size(backend: ModuleType) -> None:
    text = b"1000-3000 r--p 0 0:0 5 /a\n3000-4000 r--p 0 0:0 0\n"
    figure = plot.mappings(fastsmaps.parse(text), title="two")
    assert Tiles(figure).total == 0x3000
    assert figure.layout.title.text == "two: Size 12 KiB"
    with_rss = text.replace(b"/a\n", b"/a\nRss: 8 kB\n")
    assert Tiles(plot.mappings(fastsmaps.parse(with_rss))).total == 8192
    assert Tiles(plot.mappings([])).total == 0


def test_small_tiles_are_merged(backend: ModuleType) -> None:
    with processes.workload("many", "8000") as child:
        m = fastsmaps.mappings(child.pid)
    rows = [
        b"%x-%x r--p 0 0:0 0\nPss: %d kB\n" % (i << 12, (i + 1) << 12, i % 97 + 1)
        for i in range(8000)
    ]
    many = fastsmaps.parse(b"".join(rows))
    assert len(m) > 4000
    for table in (m, many):
        tiles = Tiles(plot.mappings(table))
        assert tiles.total == table.totals().pss
        assert len(tiles.values) < 4500
    (other,) = (tile for tile in tiles.texts if "smaller" in tiles.name(tile))
    assert int(tiles.name(other).split()[0]) + len(tiles.values) == 8000 + 3


@pytest.fixture
def saved(backend: ModuleType, tmp_path: Path) -> str:
    """Three processes that never change."""
    with processes.workload("idle") as idle, processes.workload("many", "100") as other:
        fastsmaps.capture(str(tmp_path / "saved"), [idle.pid, other.pid, os.getpid()])
    return str(tmp_path / "saved")


def test_processes_treemap_adds_up(backend: ModuleType, saved: str) -> None:
    scan = fastsmaps.scan(procfs=saved, cmdline=True)
    assert scan.coverage["read"] == 3
    sums = {
        f"{row.comm} {row.pid}": fastsmaps.mappings(row.pid, procfs=saved).totals().pss
        for row in scan
    }
    figure = plot.processes(scan)
    tiles = Tiles(figure)
    assert tiles.below(tiles.root) == sums
    assert figure.layout.title.text.startswith("3 processes: Pss ")
    for row in scan:
        tile = tiles.called(f"{row.comm} {row.pid}")
        assert {"file", "anon"} <= set(tiles.below(tile))
        assert row.cmdline is not None
        assert " ".join(row.cmdline)[:60] in tiles.texts[tile]
    with pytest.raises(ValueError, match=r"one or several of comm, .*, got 'nope'"):
        plot.processes(scan, by="nope")
    by = Tiles(plot.processes(scan, by="comm"))
    assert by.total == tiles.total
    groups = {comm: group.count for comm, group in scan.group_by("comm").items()}
    assert {name: len(by.parts[by.called(name)]) for name in by.below(by.root)} == groups


def test_unread_process_is_a_tile_without_parts(backend: ModuleType, saved: str) -> None:
    """A process that ended, or whose pid was reused, is as large as in the scan."""
    scan = fastsmaps.scan(procfs=saved)
    rows = [
        row if i else row.replace(start_time=(row.start_time or 0) + 1)
        for i, row in enumerate(scan)
    ]
    shutil.rmtree(f"{saved}/{rows[1].pid}")
    other = fastsmaps.Scan(rows, cost=scan.cost, taken_at=scan.taken_at, procfs=scan.procfs)
    tiles = Tiles(plot.processes(other))
    for i, row in enumerate(rows):
        tile = tiles.called(f"{row.comm} {row.pid}")
        assert (tile in tiles.parts) == (i == 2)
        if i < 2:
            assert row.totals is not None
            assert tiles.values[tile] == row.totals.pss
    assert len(tiles.parts) > 2
    late = Tiles(plot.processes(scan, timeout=0))
    assert late.total == scan.totals().pss
    assert list(late.parts) == [late.root]


@pytest.mark.uninstrumented(reason="this process is GiB large, and its axis says so")
def test_samples_have_a_line_per_field(backend: ModuleType) -> None:
    with fastsmaps.Watch(interval=3600) as watch:
        pass
    figure = plot.samples(watch.samples, title="a watch")
    lines = {trace.name: trace for trace in figure.data}
    assert {"Rss", "Pss", "Uss", "VmHWM"} <= set(lines)
    assert figure.layout.yaxis.title.text == "MiB"
    for name, column in (("Pss", "pss"), ("VmHWM", "peak_rss")):
        assert list(lines[name].x) == watch.samples.column("elapsed").tolist()
        wanted = [size / (1 << 20) for size in watch.samples.column(column)]
        assert list(lines[name].y) == pytest.approx(wanted)
        assert all("MiB" in text for text in lines[name].customdata)
    assert len(plot.samples(fastsmaps.Watch().samples).data) == 0


# ---- the page


class Page(HTMLParser):
    """A page's tags, scripts and title, as a browser parses them."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.title = ""
        self._inside = ""
        self.feed(path.read_text())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append((self.tags[-1][1], data))
        elif self._inside == "title":
            self.title += data

    @property
    def policy(self) -> str:
        (text,) = (
            attrs["content"]
            for _, attrs in self.tags
            if attrs.get("http-equiv") == "Content-Security-Policy"
        )
        assert text is not None
        return text


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[str]:
    """Start a process that has mapped files with hostile names; give its pid."""
    paths = [f"{tmp_path}/files/{name}" for name in (HOSTILE, MARKUP)]
    for path in paths:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.truncate(4 << 20)
    command = [sys.executable, "-EsSB", "-c", MAPPING, *paths]
    with processes.running(*command) as child:
        yield str(child.pid)


def test_page_is_self_contained(backend: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "out.html"
    path.write_text("before")
    plot.save(plot.mappings(fastsmaps.load(ZOO), title=HOSTILE), path)
    page = Page(path)
    assert page.title.startswith(HOSTILE[:40])
    assert [tag for tag, _ in page.tags] == [
        "html", "head", "meta", "meta", "meta", "title", "style", "body", "div",
        "script", "script", "script",
    ]  # fmt: skip
    assert not any({"src", "href"} & set(attrs) for _, attrs in page.tags)
    (kind, data), *scripts = page.scripts
    assert kind == {"type": "application/json", "id": "figure"}
    assert json.loads(data)["data"][0]["type"] == "treemap"
    for _, script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in page.policy
    assert "default-src 'none'" in page.policy
    assert "http" not in page.policy
    assert os.listdir(tmp_path) == ["out.html"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_page_is_written_atomically(tmp_path: Path) -> None:
    figure = plot.mappings(fastsmaps.load(ZOO))
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "link").symlink_to("kept")
    for name, error in (("link", FileExistsError), ("none/x", FileNotFoundError), ("", OSError)):
        with pytest.raises(error):
            plot.save(figure, f"{tmp_path}/{name}")
    assert sorted(os.listdir(tmp_path)) == ["kept", "link"]
    assert (tmp_path / "kept").read_text() == "kept"


def test_hostile_names_are_escaped(backend: ModuleType, hostile: str, tmp_path: Path) -> None:
    path = tmp_path / "out.html"
    run("maps", hostile, "--plot", str(path))
    page = Page(path)
    assert {"img", "a", "b"}.isdisjoint(tag for tag, _ in page.tags)
    (_, data), *scripts = page.scripts
    assert len(scripts) == 2
    assert HOSTILE[:12] not in data
    assert not any(OWNED in script for _, script in scripts)
    hovertexts = json.loads(data)["data"][0]["hovertext"]
    assert any("<img src=x onerror=" in html.unescape(text) for text in hovertexts)


def test_missing_plotly_names_the_extra(tmp_path: Path) -> None:
    """One line says what to install; nothing is written, and nothing else needs plotly."""
    code = "import sys; sys.modules['plotly'] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}from fastsmaps import plot"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "ImportError: " in done.stderr
    assert 'pip install "plotly>=5"' in done.stderr
    for command in (["maps", ZOO], ["ps"], ["watch", "self"]):
        done = subprocess.run(
            [sys.executable, "-c", f"{code}from fastsmaps.cli.main import entry; entry()",
             *command, "--plot", f"{tmp_path}/out.html"],
            capture_output=True, text=True, check=False, env=environment(),
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
        assert 'pip install "plotly>=5"' in done.stderr
    assert os.listdir(tmp_path) == []


# ---- in a browser


@pytest.fixture
def browser(tmp_path: Path) -> Callable[[Path], str]:
    """Render a page in a browser and return the resulting HTML."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("no Chromium is installed")
    flags = (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--disable-dev-shm-usage", "--window-size=1600,1000", "--virtual-time-budget=20000",
        f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom",
    )  # fmt: skip

    def render(path: Path) -> str:
        done = subprocess.run(
            [program, *flags, path.as_uri()],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True,
            timeout=5 * processes.TIMEOUT, env={**os.environ, "HOME": str(tmp_path)},
        )  # fmt: skip
        return done.stdout

    return render


def shown(dom: str) -> list[str]:
    """Return the texts that plotly has drawn."""
    texts = re.findall(r"<text[^>]*>(.*?)</text>", dom, re.DOTALL)
    return [html.unescape(re.sub(r"<[^>]*>", " ", text)).strip() for text in texts]


def test_browser_draws_a_treemap(
    browser: Callable[[Path], str], hostile: str, tmp_path: Path
) -> None:
    """Every name is shown verbatim; none becomes script or markup."""
    path = tmp_path / "out.html"
    plot.save(plot.mappings(fastsmaps.mappings(int(hostile)), title=MARKUP), path)
    dom = browser(path)
    assert dom.count('class="slice') > 20
    texts = " ".join(shown(dom))
    for text in ("all mappings", "file", "heap", "script><img src", MARKUP):
        assert text in texts
    assert not re.search(r"<(a|img|b|script)\b[^>]*(javascript:1|owned)", dom)
    assert "<img" not in dom
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title is not None
    assert html.unescape(title[1]).startswith(MARKUP)
    assert 'data-title="Download' in dom
    assert 'data-title="Share' not in dom  # nothing leaves the page


def test_browser_draws_what_commands_write(
    browser: Callable[[Path], str], hostile: str, tmp_path: Path
) -> None:
    for arguments, wanted in (
        (("maps", hostile), ("all mappings", "file", "heap", f"(process {hostile}): Pss")),
        (("ps",), ("all processes", "anon", "processes read")),
        (("watch", "--for", "0.3", hostile), ("Rss", "Pss", "VmHWM", f"(process {hostile})")),
    ):
        path = tmp_path / f"{arguments[0]}.html"
        run(*arguments, "--plot", str(path))
        dom = browser(path)
        texts = " ".join(shown(dom))
        for text in wanted:
            assert text in texts, arguments
        assert "<title>owned</title>" not in dom


def test_commands_plot_captures(backend: ModuleType, tmp_path: Path) -> None:
    shutil.copytree(DATA / "captures/7.2-amd64/zoo", tmp_path / "host" / "7")
    for command in (("ps",), ("maps", "7"), ("ps", "--by", "comm"), ("maps", "7", "--by", "kind")):
        path = tmp_path / "out.html"
        run(*command, "--procfs", str(tmp_path / "host"), "--plot", str(path))
        data = json.loads(Page(path).scripts[0][1])["data"][0]
        assert data["values"][0] == fastsmaps.load(ZOO).totals().pss
