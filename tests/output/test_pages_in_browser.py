"""Pages in a headless Chromium: every view, search, drill-down, both themes, phone and desktop."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastsmaps
from fastsmaps import plot
from fastsmaps._model.sizes import human
from fastsmaps._output.tiles import KINDS
from support import processes
from support.browser import Tab, browser
from support.commands import run
from support.independent import DATA
from support.pages import MARKUP, hostile_process

# One browser for all of them: it takes two seconds to start.
pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("browser")) as tab:
        yield tab


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a page of each kind, by the view that it opens with."""
    directory = tmp_path_factory.mktemp("pages")
    with processes.workload("idle") as idle, processes.workload("many", "100") as other:
        scan = fastsmaps.scan([idle.pid, other.pid, os.getpid()], cmdline=True, cgroup=True)
        found = {
            "report": plot.report(scan, command="fastsmaps report " + "x" * 200),
            "processes": plot.processes(scan, by="user"),
            "mappings": plot.mappings(fastsmaps.mappings(other.pid), title=MARKUP),
        }
    with fastsmaps.Watch(interval=0.01) as watch:
        while watch.count < 3:
            watch.wait(0.01)
    found["course"] = plot.samples(watch.samples)
    for name, page in found.items():
        plot.save(page, directory / f"{name}.html")
    return {name: directory / f"{name}.html" for name in found}


@pytest.mark.parametrize("name", ["report", "processes", "mappings", "course"])
def test_browser_shows_every_view(tab: Tab, pages: dict[str, Path], name: str) -> None:
    """Without an error, a request or anything beside the window; at two widths, light and dark."""
    tab.problems.clear()
    for width in (390, 1280):
        backgrounds = set()
        for dark in (False, True):
            tab.open(pages[name], width=width, dark=dark)
            backgrounds.add(tab.run("getComputedStyle(document.body).backgroundColor"))
            views = tab.run("document.querySelectorAll('.tabs button').length")
            for i in range(max(views, 1)):
                if views:
                    tab.run(f"document.querySelectorAll('.tabs button')[{i}].click()")
                assert tab.run("document.querySelectorAll('.tile, .course svg, .card, td').length")
                assert tab.run("document.documentElement.scrollWidth") <= width, i
                assert tab.run(OVERLAPS) == [], i
        assert len(backgrounds) == 2
    assert tab.problems == []


def test_headings_side_by_side_are_level(tab: Tab, pages: dict[str, Path]) -> None:
    tab.open(pages["report"], width=1280)
    tops = tab.run(
        "[...document.querySelectorAll('.pair h2')].map(h => h.getBoundingClientRect().top)"
    )
    assert len(tops) == 2
    assert tops[0] == tops[1]


# Pairs of blocks of the page that lie on each other.
OVERLAPS = """(() => {
  const blocks = [...document.querySelectorAll(
    "h1, .facts, .quiet, .note, .tabs, .switch, .search, .crumbs, .map, .legend, .rows, " +
    ".cards > div, .stack, h2, .course, .toggles, footer")];
  const boxes = blocks
    .map(block => [block.className || block.tagName, block.getBoundingClientRect()])
    .filter(([, box], i) => box.width && box.height && blocks[i].checkVisibility());
  return boxes.flatMap(([name, a], i) => boxes.slice(i + 1).filter(([, b]) =>
    a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1)
    .map(([other]) => `${name} ${other}`));
})()"""


def search(tab: Tab, text: str) -> None:
    field = "document.querySelector('.search')"
    tab.run(f"{field}.value = {text!r}")
    tab.run(f"{field}.dispatchEvent(new Event('input'))")


CRUMBS = "document.querySelector('.crumbs').textContent"


def test_search_switch_and_drill_down(tab: Tab, pages: dict[str, Path]) -> None:
    tab.problems.clear()
    tab.open(pages["report"])
    tab.run("document.querySelectorAll('.tabs button')[1].click()")
    assert tab.run("document.querySelectorAll('tbody tr').length") == 4  # and the total
    whole = tab.run(CRUMBS)

    search(tab, "LIBC")
    assert tab.run("document.querySelectorAll('.tile.dim').length") > 0
    rows = tab.run("[...document.querySelectorAll('tbody tr')].map(x => x.textContent)")
    assert all("libc" in row.lower() or "total" in row for row in rows)
    assert "match" in tab.run("document.getElementById('found').textContent")
    search(tab, "")

    tab.run("document.querySelectorAll('.switch button')[2].click()")
    assert "Rss" in tab.run(CRUMBS)
    assert tab.run(CRUMBS) != whole
    tab.run("document.querySelectorAll('.switch button')[0].click()")
    assert tab.run(CRUMBS) == whole

    tab.run("document.querySelector('tbody button').click()")
    assert tab.run("document.querySelectorAll('.crumbs button').length") == 1
    assert "file" in tab.run("document.querySelector('tbody').textContent")
    inside = tab.run(CRUMBS)
    tab.run("[...document.querySelectorAll('.switch button')].at(-1).click()")
    assert "read-only data" in tab.run("document.querySelector('tbody').textContent")
    assert tab.run(CRUMBS) == inside  # at the same process
    tab.press("Backspace")
    assert tab.run(CRUMBS) == whole
    tab.run("document.querySelector('.tile').focus()")
    first = tab.run("document.activeElement.ariaLabel")
    tab.press("ArrowRight")
    tab.press("ArrowDown")
    assert tab.run("document.activeElement.ariaLabel") != first
    tab.run("document.querySelector('.tile.more').click()")
    assert tab.run(CRUMBS) != whole
    tab.run("document.querySelector('.crumbs button').click()")
    assert tab.run(CRUMBS) == whole
    tab.run("document.querySelector('.tile.more').click()")
    tab.run("history.back()")
    shown = (tab.run(CRUMBS) for _ in range(1000))  # the browser goes back some frames later
    assert whole in shown
    assert tab.problems == []


def test_focus_stays_in_the_page(tab: Tab, pages: dict[str, Path]) -> None:
    """Who opens a part, goes back or sorts with the keyboard goes on from there."""
    tab.open(pages["mappings"])
    focused = "document.activeElement.className || document.activeElement.textContent"
    for element in ("tbody button", ".crumbs button", ".tile.more"):
        tab.run(f"document.querySelector('{element}').focus()")
        tab.run("document.activeElement.click()")
        assert "tile" in tab.run(focused), element
    tab.press("Escape")
    assert "tile" in tab.run(focused)
    tab.run("document.querySelectorAll('th button')[1].focus()")
    tab.run("document.activeElement.click()")
    assert tab.run(focused) == "Pss"
    tab.open(pages["report"])
    tab.run("document.querySelectorAll('.tabs button')[2].focus()")
    tab.run("document.activeElement.click()")
    assert tab.run("document.activeElement.textContent") == "Trees"


def test_table_sorts_by_each_column(tab: Tab, pages: dict[str, Path]) -> None:
    tab.open(pages["mappings"])
    cells = "document.querySelectorAll('tbody tr:not(.total) td:first-child')"
    names = f"[...{cells}].map(x => x.textContent)"
    tab.run("document.querySelector('thead button').click()")
    ascending = tab.run(names)
    assert ascending == sorted(ascending)
    tab.run("document.querySelector('thead button').click()")
    assert tab.run(names) == ascending[::-1]
    assert tab.run("document.querySelector('th[aria-sort]').ariaSort") == "descending"


def test_sizes_are_shown_as_elsewhere(tab: Tab, pages: dict[str, Path]) -> None:
    tab.open(pages["mappings"])
    # Not 1.25: Python rounds halves to even, JavaScript away from 0.
    sizes = [None, 0, 1, 1023, 1024, 1536, 1 << 20, (1 << 20) - 1024, 5 << 20, (1 << 30) - 1]
    sizes += [1 << 30, 3 << 40, 5 << 50]
    for size in sizes:
        kib = "null" if size is None else size / 1024
        assert tab.run(f"human({kib})") == human(size)


def test_course_shows_values_and_peak(tab: Tab, pages: dict[str, Path]) -> None:
    tab.problems.clear()
    tab.open(pages["course"])
    assert "peak Pss" in tab.run("document.querySelector('.course').textContent")
    tab.run("document.querySelector('.course').focus()")
    tab.press("End")
    assert "VmHWM" in tab.run("document.getElementById('tip').textContent")
    lines = tab.run("document.querySelectorAll('.path').length")
    tab.run("document.querySelector('.toggles button').click()")
    assert tab.run("document.querySelectorAll('.path').length") == lines - 1
    assert tab.problems == []


def test_theme_can_be_chosen(tab: Tab, pages: dict[str, Path]) -> None:
    tab.open(pages["mappings"])
    background = "getComputedStyle(document.body).backgroundColor"
    light = tab.run(background)
    seen = []
    for _ in range(3):
        tab.run("document.querySelector('.quiet').click()")
        seen.append(tab.run(background))
    assert seen[0] == seen[2] == light != seen[1]


# WCAG's contrast of each tile's text with its background.
CONTRASTS = """[...document.querySelectorAll(".tile")].filter(x => x.textContent).map(tile => {
  const light = text => {
    const [r, g, b] = text.match(/[0-9.]+/g).map(x => x / 255)
      .map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const style = getComputedStyle(tile), a = light(style.color), b = light(style.backgroundColor);
  return Math.max(a, b) / Math.min(a, b);
})"""


def test_tiles_are_readable_in_both_themes(tab: Tab, pages: dict[str, Path]) -> None:
    for dark in (False, True):
        tab.open(pages["mappings"], dark=dark)
        # One of each kind: this process may not have all.
        tab.run(
            "document.querySelector('.map').append(...data.kinds.map(kind => "
            "el('button', {class: 'tile', fill: kind}, kind)))"
        )
        contrasts = tab.run(CONTRASTS)
        assert len(contrasts) > len(KINDS)
        assert min(contrasts) >= 4.5


def test_browser_shows_hostile_names_verbatim(tab: Tab, tmp_path: Path) -> None:
    """Of this host's real processes too: none becomes script or markup."""
    tab.problems.clear()
    paths = {}
    with hostile_process(tmp_path) as hostile:
        for arguments, wanted in (
            (("maps", hostile, "--plot"), f"(process {hostile})"),
            (("ps", "--plot"), "all processes"),
            (("report", "-o"), "What fills the memory"),
            (("watch", "--for", "0.3", hostile, "--plot"), f"(process {hostile})"),
        ):
            paths[tmp_path / f"{arguments[0]}.html"] = wanted
            run(*arguments, f"{tmp_path}/{arguments[0]}.html")
    for path, wanted in paths.items():
        tab.open(path)
        assert wanted in tab.run("document.body.innerText"), path
        assert tab.run("document.querySelectorAll('a, img, script[src], b b').length") == 0
        assert tab.run("document.title") != "owned"
    tab.open(tmp_path / "maps.html")
    search(tab, "onerror")
    assert "<img src=x onerror=" in tab.run("document.querySelector('tbody').textContent")
    assert tab.problems == []


@pytest.mark.slow
def test_a_large_host_makes_a_small_page(tab: Tab, tmp_path: Path) -> None:
    """3,000 processes with 200,000 mappings, as a fleet's largest hosts have."""
    head = (DATA / "captures/7.2-amd64/zoo/stat").read_text().split(")", 1)[1]
    smaps = [
        f"{i << 16:x}-{(i << 16) + 0x8000:x} r--p 00000000 fd:01 {i} /usr/lib/lib{i % 50}.so.{i}\n"
        f"Rss: {i % 13 + 4} kB\nPss: {i % 13 + 1} kB\n"
        f"Private_Clean: 0 kB\nPrivate_Dirty: {i % 13} kB\n"
        for i in range(1, 68)
    ]
    text = "".join(smaps)
    for pid in range(1, 3001):
        directory = tmp_path / "host" / str(pid)
        directory.mkdir(parents=True)
        (directory / "smaps").write_text(text)
        (directory / "stat").write_text(f"{pid} (worker{pid}){head}")
        (directory / "cmdline").write_text(
            f"/opt/app{pid % 7}/worker\0--number\0{pid}\0" + "x" * 90
        )
    run("report", "-o", f"{tmp_path}/out.html", "--procfs", f"{tmp_path}/host")
    assert (tmp_path / "out.html").stat().st_size < 1_500_000
    tab.open(tmp_path / "out.html")
    tab.run("document.querySelectorAll('.tabs button')[1].click()")
    assert "3,000" in tab.run("document.body.innerText")
    assert 0 < tab.run("document.querySelectorAll('.tile').length") <= 4000
