"""Pages: treemaps of memory, memory over time, and a report on a host, each one HTML file.

    plot.save(plot.mappings(fastsmaps.mappings(1234)), "out.html")
    plot.save(plot.processes(fastsmaps.scan(cmdline=True)), "all.html")
    plot.save(plot.samples(watch.samples), "watch.html")

A page loads nothing from the network. A notebook shows a Page as the result of a cell.
"""

from __future__ import annotations

import html
import itertools
import math
import os
import time
from collections.abc import Callable, Hashable, Iterable

from fastsmaps import _version
from fastsmaps._arguments import Any, check_function, check_str, check_timeout, check_type
from fastsmaps._errors import Error
from fastsmaps._fields import ABSENT
from fastsmaps._model.grouping import By, Keys, command_of, key_of, process_label
from fastsmaps._model.mapping import Mapping
from fastsmaps._model.mappings import Mappings
from fastsmaps._model.process_totals import ProcessTotals
from fastsmaps._model.processes import Scan
from fastsmaps._model.samples import Samples
from fastsmaps._model.sizes import human
from fastsmaps._model.totals import NO_NAME, Change
from fastsmaps._model.tree import forest, is_missing, walk
from fastsmaps._output.files import atomic_file
from fastsmaps._output.host_account import host_account
from fastsmaps._output.html import html_page
from fastsmaps._output.tiles import (
    KINDS,
    Part,
    Sizes,
    Texts,
    added,
    folded,
    kib,
    kind_number,
    parts_of,
    shown,
    sizes_in,
    sums,
)
from fastsmaps._source.process import process_of

# Parts of memory on a page, and of one process.
_MAX_PARTS = 6000
_MAX_PROCESS_PARTS = 200
# Processes and files of a page.
_MAX_PROCESSES = 4000
_MAX_FILES = 2000
_MAX_CHANGES = 30
# A process with a smaller share of all is shown without its parts.
_MIN_SHARE = 1 / 5000

_LINES = ("pss", "uss", "rss", "swap", "peak_rss")
# Views of groups of processes, by the words of Scan.group_by().
_GROUPS = {
    "user": "Users",
    "unit": "Units",
    "container": "Containers",
    "cgroup": "Cgroups",
    "comm": "Names",
}


class Page:
    """An HTML page: ``html`` is its text, ``title`` its title; save() writes it.

    A notebook shows it in a frame, which can reach neither the notebook nor the network.
    """

    __slots__ = ("html", "title")

    html: str
    title: str

    def __init__(self, html: str, title: str) -> None:
        check_str("html", html)
        check_str("title", title)
        self.html = html
        self.title = title

    def __repr__(self) -> str:
        return f"<Page {self.title!r}>"

    def _repr_html_(self) -> str:
        return (
            f'<iframe sandbox="allow-scripts" srcdoc="{html.escape(self.html)}" '
            'style="width: 100%; height: 720px; border: 0"></iframe>'
        )


# ---- public functions


def mappings(m: Iterable[Mapping], *, title: str | None = None, command: str | None = None) -> Page:
    """Make a treemap of a table of mappings, or some of its rows: kind > path > range.

    The page shows Pss, Uss, Rss or swap; the whole is the sum over the rows, for a complete table
    ``m.totals()``. Without any of these (maps) it shows the size. If there are many tiles, the
    smallest are merged. `command` is a line that says how the page was made.

    Raises TypeError for wrong arguments.
    """
    check_type("m", m, "an iterable of Mapping rows", Iterable)
    _check_texts(title, command)
    rows = list(m)
    for row in rows:
        check_type("each of m", row, "a Mapping", Mapping)
    sizes = sizes_in(rows)
    uses = m.uses() if isinstance(m, Mappings) else [""] * len(rows)
    (parts,) = folded([parts_of(rows, uses, sizes, ranges=True)], _MAX_PARTS)
    texts = Texts()
    view = {"name": "Mappings", "all": "all mappings", "parts": texts.parts(parts)}
    origin = (m.host, m.taken_at) if isinstance(m, Mappings) else (None, None)
    facts = [*_facts(*origin, command), ("Mappings", f"{len(rows):,}")]
    has_uses = any(part.use for part in parts)
    return _page(title or "mappings", facts, [view], sizes=sizes, texts=texts, uses=has_uses)


def processes(
    scan: Scan,
    *,
    by: By | Callable[[ProcessTotals], Hashable] | None = None,
    timeout: float | None = None,
    title: str | None = None,
    command: str | None = None,
) -> Page:
    """Make a treemap of many processes: process > kind > path.

    This reads the mappings of each process that was read, one process after the other, which
    takes two to four times as long as the scan. A process is a tile without parts if it has ended,
    has less than 1/5000 of the memory, or was not reached within `timeout` seconds. Its size is
    always the scan's. Processes without memory (kernel threads, zombies) are only counted.

    The page also shows trees, users and names, and with ``scan(cgroup=True)`` units, containers and
    cgroups; `by` (see Scan.group_by()) adds groups of your own. `command` is a line that says how
    the page was made.

    A process that cannot be read raises nothing. Raises TypeError and ValueError for wrong
    arguments, TypeError also if the function `by` returns a value that is not hashable.
    """
    check_type("scan", scan, "a Scan", Scan)
    _check_texts(title, command)
    timeout = check_timeout(timeout)
    table = _ProcessTable(scan, timeout)
    views = table.views()
    if by is not None:
        name = shown(str(by)) if isinstance(by, str | Keys) else "group"
        views.insert(0, table.grouped(f"By {name}", "by", key_of(by)))
    table.read(minimum=_MIN_SHARE)
    return table.page(title or f"Processes of {scan.host or 'a host'}", views, command)


def report(
    scan: Scan,
    *,
    timeout: float | None = None,
    title: str | None = None,
    command: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Page:
    """Make a report on a host: its memory, its processes as processes() shows them, mapped files.

    This reads the mappings of each process that was read, and /proc/meminfo. Mapped files are
    summed over the processes whose mappings were read within `timeout` seconds. Command lines need
    ``scan(cmdline=True)``. `progress(done, all)` is called with numbers of processes, `command` is
    a line that says how the page was made.

    A process that cannot be read raises nothing: the page says why. Raises TypeError and
    ValueError for wrong arguments.
    """
    check_type("scan", scan, "a Scan", Scan)
    _check_texts(title, command)
    check_function("progress", progress)
    table = _ProcessTable(scan, check_timeout(timeout))
    views = table.views()
    files = table.read(minimum=0, progress=progress)
    views.append(table.files_view(files))
    overview = {"name": "Overview", "host": host_account(scan, table.unreached)}
    return table.page(title or f"Memory of {scan.host or 'a host'}", [overview, *views], command)


def samples(
    samples: Samples,
    *,
    growth: Iterable[Change] | None = None,
    title: str | None = None,
    command: str | None = None,
    host: str | None = None,
) -> Page:
    """Draw Pss, Uss, Rss and swap of a Watch over time, and VmHWM, with a table.

    Swap is drawn only if there was any. `growth` is that of the Watch, or another result of diff(),
    and becomes a table of the largest changes. `command` is a line that says how the page was made,
    `host` the name of the host. Raises TypeError for wrong arguments.
    """
    check_type("samples", samples, "Samples", Samples)
    changes = [] if growth is None else _growth(growth)
    _check_texts(title, command, host)
    lines = {}
    peaks = {}
    elapsed = samples.column("elapsed").tolist()
    for name in _LINES:
        values = [None if v == ABSENT else v for v in samples.column(name).tolist()]
        present = [value for value in values if value is not None]
        if not present or (name == "swap" and not any(present)):
            continue
        lines[name] = kib(values)
        if name != "peak_rss":  # when the kernel recorded it is not known
            at = values.index(max(present))
            peaks[name] = [round(elapsed[at], 3), lines[name][at]]
    rounded = [round(seconds, 3) for seconds in elapsed]
    course = {"elapsed": rounded, "lines": lines, "peaks": peaks, "growth": changes}
    taken_at = samples[-1].time if len(samples) else None
    facts = _facts(host, taken_at, command)
    views = [{"name": "Course", "course": course}]
    return _page(title or "memory over time", facts, views, sizes=(), texts=Texts())


def _growth(growth: Iterable[Change]) -> list[tuple[str, list[float | None]]]:
    """Return the name, and the changes of Uss, Pss, Rss and swap in KiB, of the largest changes."""
    check_type("growth", growth, "an iterable of Change or None", Iterable)
    changes = list(itertools.islice(growth, _MAX_CHANGES))
    rows = []
    for change in changes:
        check_type("each of growth", change, "a Change", Change)
        key = change.key if isinstance(change.key, tuple) else (change.key,)
        name = " ".join(str(part) for part in key if part) or NO_NAME
        rows.append((shown(name), kib([change.uss, change.pss, change.rss, change.swap])))
    return rows


def save(page: Page, path: str | os.PathLike[str]) -> None:
    """Write a page as one HTML file, atomically (mode 0600).

    Raises OSError if the file cannot be written (FileExistsError if `path` exists and is not a
    regular file), TypeError for wrong arguments.
    """
    check_type("page", page, "a Page", Page)
    with atomic_file(path) as file:
        file.write(page.html.encode())


# ---- processes


class _ProcessTable:
    """The processes of a page, parents before their children, with the tiles of each."""

    def __init__(self, scan: Scan, timeout: float | None) -> None:
        self._until = math.inf if timeout is None else time.monotonic() + timeout
        self._scan = scan
        rows = [row for row in scan if row.totals is not None or is_missing(row)]
        if len(rows) > _MAX_PROCESSES:
            rows.sort(key=lambda row: row.pss or row.rss or 0, reverse=True)
        self.left_out = rows[_MAX_PROCESSES:]
        branches = list(walk(forest(rows[:_MAX_PROCESSES])))
        self.rows = [branch.row for branch in branches]
        places = {row.pid: i for i, row in enumerate(self.rows)}
        self._parents = [-1] * len(self.rows)
        for i, branch in enumerate(branches):
            for child in branch.children:
                self._parents[places[child.row.pid]] = i
        totals = [row.totals for row in self.rows if row.totals is not None]
        self._sizes = sizes_in(totals)
        self._totals = [self._sizes_of(row) for row in self.rows]
        self._parts: list[list[Part]] = [[] for _ in self.rows]
        self._texts = Texts()
        self._groups: dict[str, list[int]] = {}
        #: The number of processes that were read, but not their mappings.
        self.unreached = 0

    def _sizes_of(self, row: ProcessTotals) -> Sizes:
        totals = row.totals
        return [None if totals is None else totals.get(name) for name in self._sizes]

    def views(self) -> list[dict[str, Any]]:
        """Return the views of all processes: each, trees, and groups."""
        views = [_view("Processes"), _view("Trees", by="parent")]
        for word, name in _GROUPS.items():
            key = key_of(word)
            if any(map(key, self.rows)):  # a host may have no units, and no containers
                views.append(self.grouped(name, word, key))
        return views

    def grouped(
        self, name: str, word: str, key: Callable[[ProcessTotals], Hashable]
    ) -> dict[str, Any]:
        """Return a view of groups; the page holds the group of each process under the word."""
        texts = [_group_text(key(row)) for row in self.rows]
        self._groups[word] = list(map(self._texts.number, texts))
        return _view(name, by=word)

    def read(
        self, *, minimum: float, progress: Callable[[int, int], object] | None = None
    ) -> list[_File]:
        """Read the mappings of processes with at least this share; return the files they map."""
        files: dict[str, _File] = {}
        held = 0
        wholes = sums(self._totals)
        for i, row in enumerate(self.rows):
            if progress is not None:
                progress(i, len(self.rows))
            shares = [(s or 0) / t for s, t in zip(self._totals[i], wholes, strict=True) if t]
            if row.totals is None or max(shares, default=0) < minimum:
                continue
            m = None
            if time.monotonic() < self._until:
                m = _mappings_of(row, self._scan.procfs)
            if m is None:
                self.unreached += 1
                continue
            parts = parts_of(m, m.uses(), self._sizes)
            (self._parts[i],) = folded([parts], _MAX_PROCESS_PARTS)
            held += len(self._parts[i])
            if held > 8 * _MAX_PARTS:  # so that many processes take bounded memory
                self._parts = folded(self._parts, 2 * _MAX_PARTS)
                held = sum(map(len, self._parts))
            for part in parts:
                if part.path.startswith("/"):
                    if part.path not in files:
                        files[part.path] = _File(part)
                    files[part.path].add(part, row.pid)
        if progress is not None:
            progress(len(self.rows), len(self.rows))
        return list(files.values())

    def files_view(self, files: list[_File]) -> dict[str, Any]:
        """Return a view of the mapped files; the smallest are merged."""
        files.sort(key=lambda file: max(size or 0 for size in file.sizes), reverse=True)
        nodes = [
            [self._texts.number(file.path), kind_number(file.kind), kib(file.sizes), file.processes]
            for file in files[:_MAX_FILES]
        ]
        if rest := files[_MAX_FILES:]:
            sizes = sums(file.sizes for file in rest)
            name = self._texts.number(f"{len(rest):,} smaller")
            nodes.append([name, kind_number("file"), kib(sizes), 0])
        return {
            "name": "Files",
            "all": "all mapped files",
            "count": "Processes",
            "files": nodes,
        }

    def page(self, title: str, views: list[dict[str, Any]], command: str | None) -> Page:
        """Return the page."""
        rows = []
        tables = folded(self._parts, _MAX_PARTS)
        for row, parent, sizes, parts in zip(
            self.rows, self._parents, self._totals, tables, strict=True
        ):
            texts = [self._texts.number(f(row)) for f in (process_label, command_of)]
            status = "" if row.outcome == "read" else row.outcome
            rows.append([row.pid, *texts, parent, status, kib(sizes), self._texts.parts(parts)])
        scan = self._scan
        counts = (f"{n:,} {_outcome(name, n)}" for name, n in scan.coverage.items() if n)
        facts = [*_facts(scan.host, scan.taken_at, command), ("Processes", ", ".join(counts))]
        more = {"processes": rows, "groups": self._groups, "uses": any(tables)}
        notes = []
        if self.left_out:
            notes.append(
                f"The {len(self.left_out):,} smallest processes are left out; together "
                f"{human(sum(row.pss or 0 for row in self.left_out))} of Pss."
            )
        return _page(title, facts, views, sizes=self._sizes, texts=self._texts, notes=notes, **more)


def _outcome(name: str, count: int) -> str:
    nouns = {"kernel_thread": "kernel thread", "zombie": "zombie"}
    return nouns[name] + "s" * (count != 1) if name in nouns else name


class _File:
    """A mapped file: its sizes summed over processes, and how many map it."""

    __slots__ = ("_last", "kind", "path", "processes", "sizes")

    def __init__(self, part: Part) -> None:
        self.path = part.path
        self.kind = part.kind
        self.sizes: Sizes = [None] * len(part.sizes)
        self.processes = 0
        self._last = -1

    def add(self, part: Part, pid: int) -> None:
        """Add a part of a process; its parts come one after the other."""
        self.sizes = added(self.sizes, part.sizes)
        self.processes += pid != self._last
        self._last = pid


def _view(name: str, *, by: str | None = None) -> dict[str, Any]:
    view = {"name": name, "all": "all processes"}
    return view if by is None else {**view, "by": by, "count": "Processes"}


def _group_text(key: object) -> str:
    parts = key if isinstance(key, tuple) else (key,)
    return ", ".join("(unknown)" if part is None else str(part) or "(none)" for part in parts)


def _mappings_of(row: ProcessTotals, procfs: str) -> Mappings | None:
    """Read the mappings of the row's process; None if it has ended or cannot be read."""
    try:
        with process_of(row, procfs) as process:
            return process.mappings()
    except Error:
        return None


# ---- pages


def _check_texts(title: str | None, command: str | None, host: str | None = None) -> None:
    for name, value in (("title", title), ("command", command), ("host", host)):
        check_type(name, value, "a str or None", (str, type(None)))


def _facts(host: str | None, taken_at: float | None, command: str | None) -> list[tuple[str, str]]:
    """Return the host, the date and the command, as far as they are known."""
    date = None
    if taken_at is not None:
        date = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(taken_at))
    facts = (("Host", host), ("Date", date), ("Command", command))
    return [(name, text) for name, text in facts if text is not None]


def _page(
    title: str,
    facts: Iterable[tuple[str, str]],
    views: list[dict[str, Any]],
    *,
    sizes: Iterable[str],
    texts: Texts,
    **more: Any,
) -> Page:
    title = shown(title)
    data = {
        "title": title,
        "facts": [(name, shown(text)) for name, text in facts],
        "notes": [],
        "footer": f"fastsmaps {_version.__version__}. This page loads nothing from the network.",
        "sizes": list(sizes),
        "kinds": list(KINDS),
        "legend": KINDS,
        "groups": {},
        "uses": False,
        "texts": texts.all,
        "views": views,
        **more,
    }
    return Page(html_page(title, data), title)
