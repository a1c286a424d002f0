"""Pictures: treemaps of memory, and its course over time, each one page that needs no network.

    plot.save(plot.mappings(fastsmaps.mappings(1234)), "out.html")
    plot.save(plot.processes(fastsmaps.scan(cmdline=True)), "all.html")
    plot.save(plot.samples(watch.samples), "watch.html")

The figures are plotly's own: a notebook shows them, and their layout can be changed. Importing
this raises ImportError without plotly, and names the extra.
"""

from __future__ import annotations

import heapq
import html
import os
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, TypeAlias

from fastsmaps._arguments import check_timeout, check_type
from fastsmaps._errors import Error, ProcessGone
from fastsmaps._fields import ABSENT
from fastsmaps._model.grouping import By, key_of
from fastsmaps._model.mapping import Mapping
from fastsmaps._model.mappings import Mappings
from fastsmaps._model.process_totals import ProcessTotals
from fastsmaps._model.processes import Scan
from fastsmaps._model.record import Record
from fastsmaps._model.samples import Samples
from fastsmaps._model.sizes import human
from fastsmaps._output.display import escaped
from fastsmaps._output.files import atomic_file
from fastsmaps._output.html import html_page
from fastsmaps._source.process import Process

try:
    import plotly.graph_objects as go
    from plotly.basedatatypes import BaseFigure
    from plotly.offline import get_plotlyjs
except ImportError as error:
    raise ImportError(f'{error}: pip install "fastsmaps[plot]"') from error

# plotly has no types of its own.
Figure: TypeAlias = Any

# Tiles of a page, and of a process among many; what is smaller is one tile with its neighbours.
_MOST = 3000
_MOST_OF_PROCESS = 100
# A process with less than this share of all is a tile without parts: they could not be seen.
_LEAST_SHARE = 1 / 5000
# Characters of a name: on a tile, and in what is told of it.
_LONGEST_LABEL = 32
_LONGEST = 160

# Okabe and Ito's colours, which those who see few colours can tell apart, made lighter.
_COLOURS = {
    "heap": "#f2b36b",
    "anon": "#efd98a",
    "anon_named": "#e3c46c",
    "stack": "#e58f6d",
    "file": "#8cc5ea",
    "shmem": "#7cc7ac",
    "hugetlb": "#d9a3c4",
    "device": "#b9b1d6",
    "special": "#c8c8c8",
}
_GREY = "#dcdfe3"
_LINES = {"rss": "#56b4e9", "pss": "#0072b2", "uss": "#009e73", "swap": "#d55e00"}
_PAD = {"t": 22, "l": 3, "r": 3, "b": 3}
_FONT = "system-ui, sans-serif"

# Their path says no more than the kind does.
_WITHOUT_PATH = ("heap", "anon")


_TITLE = ("a str or None", (str, type(None)))


class _Tile:
    """A part of a treemap: what it is called, how large it is, what is told of it, its parts.

    ``count`` is of how many others it is made, where these are too small to be drawn.
    """

    __slots__ = ("colour", "count", "facts", "label", "parts", "value")

    def __init__(self, label: str, facts: Iterable[str] = (), colour: str = _GREY) -> None:
        self.label = label
        self.facts = tuple(facts)
        self.colour = colour
        self.value = 0
        self.count = 1
        self.parts: dict[Hashable, _Tile] = {}

    def part(
        self, key: Hashable, label: str, facts: Iterable[str] = (), colour: str = _GREY
    ) -> _Tile:
        """Its part by that key, made where it is not there yet."""
        if key not in self.parts:
            self.parts[key] = _Tile(label, facts, colour)
        return self.parts[key]


# ---- what is drawn


def mappings(m: Iterable[Mapping], *, title: str | None = None) -> Figure:
    """A treemap of the Pss of a table of mappings, or of some of its rows: kind > path > range.

    Its whole is the sum of their Pss, of all of a table ``m.totals().pss``; where there is no
    Pss it is Rss or size, and says so. Of many tiles the smallest are drawn as one. `title`
    stands above it. Without a row it is one tile of 0.

    Raises TypeError for wrong arguments.
    """
    check_type("m", m, "an iterable of Mapping rows", Iterable)
    check_type("title", title, *_TITLE)
    rows = list(m)
    for row in rows:
        check_type("each of m", row, "a Mapping", Mapping)
    figure = _figure_of(rows)
    root = _Tile("all mappings")
    _add(root, rows, figure, ranges=True)
    return _treemap(root, figure, title or "mappings")


def processes(
    scan: Scan,
    *,
    by: By | Callable[[ProcessTotals], Hashable] | None = None,
    timeout: float | None = None,
    title: str | None = None,
) -> Figure:
    """A treemap of the Pss of many processes: process > kind > path.

    The mappings of each process that was read are read now, one after the other, which takes
    some two to four times what the scan took; what is not read, because it ended, is too small
    to be seen (1/5000 of all) or was not reached within `timeout` seconds, is a tile without
    parts, as large as in the scan. `by` (as of Scan.group_by()) adds a level above. The sum
    differs from ``scan.totals().pss`` by what changed meanwhile, and because the kernel rounds
    each mapping's Pss down to a KiB.

    A process that cannot be read raises nothing. Raises TypeError and ValueError for wrong
    arguments, TypeError also if the function `by` returns a value that is not hashable.
    """
    check_type("scan", scan, "a Scan", Scan)
    check_type("title", title, *_TITLE)
    check_timeout(timeout)
    group_of = None if by is None else key_of(by)
    until = None if timeout is None else time.monotonic() + timeout
    figure = _figure_of([scan.totals()])
    rows = [(row, row.totals[figure]) for row in scan if row.totals is not None]
    least = sum(size or 0 for _, size in rows) * _LEAST_SHARE
    root = _Tile("all processes")
    for row, size in rows:
        group = root
        if group_of is not None:
            key = group_of(row)
            group = root.part(key, ", ".join(map(str, key)) if isinstance(key, tuple) else str(key))
        tile = _Tile(f"{row.comm or '?'} {row.pid}", _facts(row))
        if (size or 0) >= max(least, 1) and (until is None or time.monotonic() < until):
            table = _mappings_of(row, scan.procfs)
            if table is not None:
                _add(tile, table, figure)
                _fold(tile, _MOST_OF_PROCESS)
        tile.value = tile.value or size or 0
        group.parts[row.pid] = tile
        if group is not root:
            group.value += tile.value
        root.value += tile.value
    return _treemap(root, figure, title or f"{len(rows)} processes")


def samples(samples: Samples, *, title: str | None = None) -> Figure:
    """Pss, Uss, Rss and swap of a Watch over time, and VmHWM beside them.

    Swap is drawn if there was some. Without a sample there is no line. Raises TypeError for wrong
    arguments.
    """
    check_type("samples", samples, "Samples", Samples)
    check_type("title", title, *_TITLE)
    known = samples.fields
    largest = [v for name in ("peak_rss", "rss") for v in samples.column(name) if v != ABSENT]
    unit, divisor = _unit(max(largest, default=0))
    drawn = go.Figure()
    for name, colour in _LINES.items():
        if name not in known or (name == "swap" and not any(samples.column(name))):
            continue
        drawn.add_trace(_line(samples, name, divisor, _name_of(name), color=colour))
    if "peak_rss" in known:
        style = {"color": "#888888", "dash": "dot", "shape": "hv"}
        drawn.add_trace(_line(samples, "peak_rss", divisor, "VmHWM", **style))
    if "pss" in known:
        sizes = [0 if size == ABSENT else size for size in samples.column("pss")]
        at = sizes.index(max(sizes))
        drawn.add_annotation(
            x=samples[at].elapsed,
            y=sizes[at] / divisor,
            text=f"Pss {human(sizes[at])} at {samples[at].elapsed:.1f} s",
            ax=0,
            ay=40,
            bgcolor="rgba(255, 255, 255, 0.8)",
        )
    drawn.update_layout(
        title=_title(title or "memory over time"),
        font={"family": _FONT},
        template="plotly_white",
        hovermode="x unified",
        xaxis={"title": "seconds", "rangemode": "tozero"},
        yaxis={"title": unit, "rangemode": "tozero"},
        legend={"orientation": "h", "y": 1.04, "yanchor": "bottom", "x": 1, "xanchor": "right"},
        margin={"t": 90, "r": 30, "b": 60, "l": 70},
    )
    return drawn


# ---- how tiles come about


def _figure_of(some: Iterable[Record]) -> str:
    """Pss where one has it, otherwise the next best."""
    names = {name for one in some for name in ("pss", "rss") if getattr(one, name) is not None}
    return "pss" if "pss" in names else "rss" if "rss" in names else "size"


def _name_of(figure: str) -> str:
    return figure.capitalize()


def _add(root: _Tile, rows: Iterable[Mapping], figure: str, *, ranges: bool = False) -> None:
    """Mappings as parts of the tile."""
    for mapping in rows:
        size = mapping.size if figure == "size" else mapping[figure]
        if not size:
            continue
        kind, path = mapping.kind, mapping.path
        colour = _COLOURS[kind]
        tiles = [root, root.part(kind, kind, colour=colour)]
        if kind not in _WITHOUT_PATH:
            tiles.append(tiles[-1].part(path, _last_part(path), [path], colour))
        if ranges:
            address = f"{mapping.start:x}-{mapping.end:x}"
            tiles.append(_Tile(address, [mapping.perms, path], colour))
            tiles[-2].parts[mapping.start, mapping.end, len(tiles[-2].parts)] = tiles[-1]
        for tile in tiles:
            tile.value += size


def _last_part(path: str) -> str:
    last = path.rpartition("/")[2] if path.startswith("/") else path
    return last or path or "(no name)"


def _facts(row: ProcessTotals) -> list[str]:
    facts = [f"process {row.pid}, user {row.user}"]
    if row.cmdline:
        facts.append(_ends(" ".join(row.cmdline), _LONGEST))
    return facts


def _mappings_of(row: ProcessTotals, procfs: str) -> Mappings | None:
    """The mappings of the very process of the row; None where they cannot be read any more."""
    try:
        with Process(row.pid, procfs=procfs) as process:
            if row.start_time != process.directory.stat().start_time:
                raise ProcessGone(f"process {row.pid} has ended", pid=row.pid)
            return process.mappings()
    except Error:
        return None


def _fold(root: _Tile, most: int) -> None:
    """Leaves the `most` largest tiles; of each tile those that are left out become one."""
    every = list(_descend(root))
    if len(every) <= most:
        return
    # A whole comes before its parts and is no smaller, so it stays where one of them does.
    largest = heapq.nlargest(most, every, key=lambda tile: tile.value)
    kept = set(map(id, largest))
    for tile in largest:
        rest = [part for part in tile.parts.values() if id(part) not in kept]
        tile.parts = {key: part for key, part in tile.parts.items() if id(part) in kept}
        if rest and tile.parts:
            other = _Tile("", colour=tile.colour)
            other.value = sum(part.value for part in rest)
            other.count = sum(part.count for part in rest)
            other.label = f"{other.count} smaller"
            tile.parts[other] = other


def _descend(tile: _Tile) -> Iterator[_Tile]:
    yield tile
    for part in tile.parts.values():
        yield from _descend(part)


# ---- plotly's figures


def _treemap(root: _Tile, figure: str, title: str) -> Figure:
    _fold(root, _MOST)
    rows: list[tuple[Any, ...]] = []
    waiting = [(root, "")]
    while waiting:
        tile, parent = waiting.pop()
        number = str(len(rows))
        size = human(tile.value)
        share = tile.value / root.value if root.value else 0
        label = _shown(tile.label, _LONGEST_LABEL)
        told = [f"<b>{label}</b>", f"{_name_of(figure)} {size}, {share:.1%}"]
        told += [_shown(fact, _LONGEST) for fact in tile.facts if fact]
        # A whole has one line above its parts.
        text = f"{label}{'  ' if tile.parts else '<br>'}{size}"
        rows.append((number, parent, tile.value, text, "<br>".join(told), tile.colour))
        waiting += [(part, number) for part in tile.parts.values()]
    ids, parents, values, texts, told_of, colours = zip(*rows, strict=True)
    drawn = go.Figure(
        go.Treemap(
            ids=ids,
            parents=parents,
            values=values,
            labels=texts,
            hovertext=told_of,
            textinfo="label",
            textfont={"size": 13},
            hoverinfo="text",
            branchvalues="total",
            marker={"colors": colours, "line": {"width": 1, "color": "white"}, "pad": _PAD},
            tiling={"pad": 1},
            pathbar={"visible": True},
            root={"color": "#f4f5f7"},
        )
    )
    drawn.update_layout(
        title=_title(f"{title}: {_name_of(figure)} {human(root.value)}"),
        font={"family": _FONT},
        uniformtext={"minsize": 9, "mode": "hide"},
        margin={"t": 60, "r": 10, "b": 10, "l": 10},
    )
    return drawn


def _title(text: str) -> dict[str, Any]:
    return {"text": _shown(text, _LONGEST), "x": 0.01, "xanchor": "left", "font": {"size": 18}}


def _line(samples: Samples, name: str, divisor: int, label: str, **style: str) -> Any:  # noqa: ANN401
    values = [None if v == ABSENT else v for v in samples.column(name).tolist()]
    return go.Scatter(
        x=samples.column("elapsed").tolist(),
        y=[None if value is None else value / divisor for value in values],
        customdata=[human(value) for value in values],
        hovertemplate="%{customdata}",
        mode="lines",
        name=label,
        line=style,
    )


def _unit(largest: int) -> tuple[str, int]:
    for unit, divisor in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if largest >= divisor:
            return unit, divisor
    return "KiB", 1 << 10


def _ends(text: str, longest: int) -> str:
    """What _shown() shows of a text, before anything is escaped, which takes time and room."""
    return text if len(text) <= 2 * longest else text[:longest] + text[-longest:]


def _shown(text: str, longest: int) -> str:
    """A name as plotly shows it to the letter: it takes tags such as <b> and <a href>."""
    text = escaped(_ends(text, longest))
    if len(text) > longest:
        half = longest // 2
        text = f"{text[:half]}…{text[-half:]}"
    return html.escape(text, quote=False)


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Writes a figure as one HTML page of some 5 MB, whole or not at all (mode 0600).

    The page holds plotly.js and loads nothing. Raises OSError where it cannot be written, of which
    FileExistsError is for a name that anything but a regular file has; TypeError for wrong
    arguments.
    """
    check_type("figure", figure, "a plotly figure", BaseFigure)
    title = figure.layout.title.text or "fastsmaps"
    text = html_page(figure.to_json(), title, get_plotlyjs())
    with atomic_file(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
