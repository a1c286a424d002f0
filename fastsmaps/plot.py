"""Plots: treemaps of memory, and memory over time, each saved as one self-contained HTML page.

    plot.save(plot.mappings(fastsmaps.mappings(1234)), "out.html")
    plot.save(plot.processes(fastsmaps.scan(cmdline=True)), "all.html")
    plot.save(plot.samples(watch.samples), "watch.html")

All figures are plotly figures: a notebook shows them, and their layout can be changed. Importing
this module without plotly raises an ImportError that names the extra.
"""

from __future__ import annotations

import heapq
import html
import math
import os
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from typing import Any, TypeAlias

from fastsmaps._arguments import check_timeout, check_type
from fastsmaps._errors import Error, ProcessGone
from fastsmaps._fields import ABSENT
from fastsmaps._model.grouping import By, key_of
from fastsmaps._model.mapping import Mapping
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
    raise ImportError(f'{error}: pip install "plotly>=5"') from error

# plotly has no types of its own.
Figure: TypeAlias = Any

# Tiles of a page, and of a process among many; smaller ones are merged.
_MAX_TILES = 3000
_MAX_PROCESS_TILES = 100
# A process with a smaller share of the whole is a tile without parts, which would be invisible.
_MIN_SHARE = 1 / 5000
# Characters of a name: on a tile, and in the text shown when the mouse is over it.
_MAX_LABEL = 32
_MAX_TEXT = 160

# Okabe and Ito's colours, which colour-blind people can distinguish, made lighter.
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

# Kinds whose path says no more than the kind does.
_WITHOUT_PATH = ("heap", "anon")


_TITLE = ("a str or None", (str, type(None)))


class _Tile:
    """A tile of a treemap: label, size, facts shown under the mouse, and its parts.

    ``count`` is the number of tiles that were merged into it because they were too small.
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
        """Return the part with that key, which is made if it does not exist."""
        if key not in self.parts:
            self.parts[key] = _Tile(label, facts, colour)
        return self.parts[key]


# ---- public functions


def mappings(m: Iterable[Mapping], *, title: str | None = None) -> Figure:
    """Draw a treemap of the Pss of a table of mappings, or some of its rows: kind > path > range.

    The whole is the sum of their Pss; for a complete table this is ``m.totals().pss``. Without
    Pss it shows Rss or size, and says so. If there are many tiles, the smallest are merged.
    Without a row it is one tile of 0.

    Raises TypeError for wrong arguments.
    """
    check_type("m", m, "an iterable of Mapping rows", Iterable)
    check_type("title", title, *_TITLE)
    rows = list(m)
    for row in rows:
        check_type("each of m", row, "a Mapping", Mapping)
    field = _field_of(rows)
    root = _Tile("all mappings")
    _add(root, rows, field, ranges=True)
    return _treemap(root, field, title or "mappings")


def processes(
    scan: Scan,
    *,
    by: By | Callable[[ProcessTotals], Hashable] | None = None,
    timeout: float | None = None,
    title: str | None = None,
) -> Figure:
    """Draw a treemap of the Pss of many processes: process > kind > path.

    This reads the mappings of each process that was read, one process after the other, which
    takes two to four times as long as the scan. A process is a tile without parts, as large as in
    the scan, if it has ended, is too small to be visible (1/5000 of all) or was not reached within
    `timeout` seconds. `by` (see Scan.group_by()) adds a level above processes. The sum differs
    from ``scan.totals().pss`` by what changed since the scan, and because the kernel rounds each
    mapping's Pss down to a KiB.

    A process that cannot be read raises nothing. Raises TypeError and ValueError for wrong
    arguments, TypeError also if the function `by` returns a value that is not hashable.
    """
    check_type("scan", scan, "a Scan", Scan)
    check_type("title", title, *_TITLE)
    check_timeout(timeout)
    group_of = None if by is None else key_of(by)
    until = math.inf if timeout is None else time.monotonic() + timeout
    field = _field_of([scan.totals()])
    rows = [(row, row.totals[field] or 0) for row in scan if row.totals is not None]
    minimum = max(1, sum(size for _, size in rows) * _MIN_SHARE)
    root = _Tile("all processes")
    for row, size in rows:
        group = root
        if group_of is not None:
            key = group_of(row)
            group = root.part(key, ", ".join(map(str, key)) if isinstance(key, tuple) else str(key))
        tile = _Tile(f"{row.comm or '?'} {row.pid}", _facts(row))
        if size >= minimum and time.monotonic() < until:
            _add(tile, _mappings_of(row, scan.procfs), field)
            _fold(tile, _MAX_PROCESS_TILES)
        tile.value = tile.value or size
        group.parts[row.pid] = tile
        if group is not root:
            group.value += tile.value
        root.value += tile.value
    return _treemap(root, field, title or f"{len(rows)} processes")


def samples(samples: Samples, *, title: str | None = None) -> Figure:
    """Draw Pss, Uss, Rss and swap of a Watch over time, and VmHWM.

    Swap is drawn only if there was any. Without a sample there is no line. Raises TypeError for
    wrong arguments.
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
        drawn.add_trace(_line(samples, name, divisor, name.capitalize(), color=colour))
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


# ---- making tiles


def _field_of(records: Collection[Record]) -> str:
    """Choose Pss if a record has it, otherwise Rss, otherwise size."""
    for name in ("pss", "rss"):
        if any(getattr(record, name) is not None for record in records):
            return name
    return "size"


def _add(root: _Tile, rows: Iterable[Mapping], field: str, *, ranges: bool = False) -> None:
    """Add mappings as parts of the tile."""
    for mapping in rows:
        size = mapping.size if field == "size" else mapping[field]
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
        facts.append(_ends(" ".join(row.cmdline), _MAX_TEXT))
    return facts


def _mappings_of(row: ProcessTotals, procfs: str) -> Iterable[Mapping]:
    """Read the mappings of the row's process; none if it has ended or cannot be read."""
    try:
        with Process(row.pid, procfs=procfs) as process:
            if row.start_time != process.directory.stat().start_time:
                raise ProcessGone(f"process {row.pid} has ended", pid=row.pid)
            return process.mappings()
    except Error:
        return ()


def _fold(root: _Tile, limit: int) -> None:
    """Keep the `limit` largest tiles, and merge the other parts of each tile into one."""
    tiles = list(_descend(root))
    if len(tiles) <= limit:
        return
    # A tile comes before its parts and is not smaller, so it is kept if one of them is.
    largest = heapq.nlargest(limit, tiles, key=lambda tile: tile.value)
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


# ---- plotly


def _treemap(root: _Tile, field: str, title: str) -> Figure:
    _fold(root, _MAX_TILES)
    rows: list[tuple[Any, ...]] = []
    waiting = [(root, "")]
    while waiting:
        tile, parent = waiting.pop()
        number = str(len(rows))
        size = human(tile.value)
        share = tile.value / root.value if root.value else 0
        label = _shown(tile.label, _MAX_LABEL)
        hover = [f"<b>{label}</b>", f"{field.capitalize()} {size}, {share:.1%}"]
        hover += [_shown(fact, _MAX_TEXT) for fact in tile.facts if fact]
        # A tile with parts has one line above them.
        text = f"{label}{'  ' if tile.parts else '<br>'}{size}"
        rows.append((number, parent, tile.value, text, "<br>".join(hover), tile.colour))
        waiting += [(part, number) for part in tile.parts.values()]
    ids, parents, values, labels, hovertext, colours = zip(*rows, strict=True)
    drawn = go.Figure(
        go.Treemap(
            ids=ids,
            parents=parents,
            values=values,
            labels=labels,
            hovertext=hovertext,
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
        title=_title(f"{title}: {field.capitalize()} {human(root.value)}"),
        font={"family": _FONT},
        uniformtext={"minsize": 9, "mode": "hide"},
        margin={"t": 60, "r": 10, "b": 10, "l": 10},
    )
    return drawn


def _title(text: str) -> dict[str, Any]:
    return {"text": _shown(text, _MAX_TEXT), "x": 0.01, "xanchor": "left", "font": {"size": 18}}


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


def _ends(text: str, length: int) -> str:
    """Cut the middle, which _shown() leaves out, before it escapes: that takes time and memory."""
    return text if len(text) <= 2 * length else text[:length] + text[-length:]


def _shown(text: str, length: int) -> str:
    """Return a name that plotly shows verbatim: it would interpret tags, <b> and <a href>."""
    text = escaped(_ends(text, length))
    if len(text) > length:
        half = length // 2
        text = f"{text[:half]}…{text[-half:]}"
    return html.escape(text, quote=False)


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as one HTML page of about 5 MB, atomically (mode 0600).

    The page holds plotly.js and loads nothing. Raises OSError if the file cannot be written
    (FileExistsError if `path` exists and is not a regular file), TypeError for wrong arguments.
    """
    check_type("figure", figure, "a plotly figure", BaseFigure)
    title = figure.layout.title.text or "fastsmaps"
    text = html_page(figure.to_json(), title, get_plotlyjs())
    with atomic_file(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
