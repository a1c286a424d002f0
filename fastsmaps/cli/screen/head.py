"""The lines above the list: the host's memory, what was read, what top itself takes."""

from __future__ import annotations

import os

from rich.cells import cell_len
from rich.text import Text

from fastsmaps._fields import ABSENT
from fastsmaps._model.account import memory_parts
from fastsmaps._model.processes import explained_part
from fastsmaps._output.display import escaped
from fastsmaps._source.source import Source
from fastsmaps.cli.screen.drawing import bar, short, sparkline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fastsmaps._model.processes import Scan
    from fastsmaps.cli.screen.drawing import Span

_BAR_WIDTH = 24
_MIN_BAR_WIDTH = 8
# The parts of the host's memory, with their styles; the rest of a bar is free or not known.
_PARTS = {"anon": "green", "shmem": "yellow", "cache": "blue", "kernel": "magenta"}
_SUMS = {
    "cache": ("cache", "buffers", "swap_cache"),
    "kernel": (
        "slab_reclaimable", "slab_unreclaimable", "kernel_reclaimable", "page_tables",
        "kernel_stacks", "vmalloc", "percpu",
    ),
}  # fmt: skip


def memory_line(procfs: str, width: int, values: Mapping[str, int], used: Sequence[int]) -> Text:
    """Return a line with the host's name, its memory as a bar, swap, and what was `used` so far."""
    host = Source(procfs).origin(None)[0] or os.path.basename(procfs)
    line = Text(no_wrap=True, overflow="ellipsis")
    total, available = values.get("MemTotal"), values.get("MemAvailable")
    if not total:
        return line.append(escaped(host), "bold").append("  no meminfo")
    found, _ = memory_parts(values)
    parts = {name: sum(found.get(part, 0) for part in _SUMS.get(name, (name,))) for name in _PARTS}
    swap = values.get("SwapTotal", 0)
    swapped = f"swap {short(swap - values.get('SwapFree', 0))} of {short(swap)}"
    texts = [f"of {short(total)}", swapped if swap else "no swap"]
    if available is not None:
        texts[0] = f"{short(total - available)} used {texts[0]}"
        texts.insert(1, f"{short(available)} available")
    spans: list[Span] = [(escaped(host), "bold")]
    for text in texts:
        _append(spans, (f"  {text}", ""), width=width)
    if (room := width - _size(spans) - 4) >= _MIN_BAR_WIDTH:
        parts_of_bar = [(float(parts[name]), style, "█") for name, style in _PARTS.items()]
        drawn = bar(parts_of_bar, total, min(_BAR_WIDTH, room))
        spans[1:1] = [("  [", "dim"), *drawn, ("]", "dim")]
    for name, style in _PARTS.items():
        _append(spans, (f"  {name} {short(parts[name])}", style), width=width)
    room = width - _size(spans) - len("  used ")
    if len(used) > 1 and room >= _MIN_BAR_WIDTH:
        spans += [("  used ", "dim"), (sparkline(used, min(_BAR_WIDTH, room)), "")]
    return line.append_text(Text.assemble(*spans))


def _append(spans: list[Span], *more: Span, width: int) -> None:
    """Append what fits whole."""
    if _size([*spans, *more]) <= width:
        spans += more


def _size(spans: Iterable[tuple[str, str]]) -> int:
    return sum(cell_len(text) for text, _ in spans)


def reading_line(scan: Scan, width: int, own: str) -> Text:
    """Return a line on the sum of Pss, what was read, and `own`: what top takes."""
    # Not totals(), which takes five times as long.
    sizes = [size for size in scan.column("pss") if size != ABSENT]
    pss = sum(sizes) if sizes else None
    coverage = scan.coverage
    processes = sum(coverage.values()) - coverage["kernel_thread"]
    mapped = explained_part(pss, scan.host_pss)
    explained = "" if mapped is None else f" ({100 * mapped:.0f}% of mapped)"
    missed = [
        f"{count} {outcome}"
        for outcome, count in coverage.items()
        if count and outcome not in ("read", "kernel_thread", "zombie", "gone")
    ]
    oldest = max((row.age or 0.0 for row in scan), default=0.0)
    line = Text(f"Pss {short(pss)}{explained}", no_wrap=True, overflow="ellipsis")
    parts = [f"read {coverage['read']}/{processes}", *missed, own]
    if oldest >= 1:
        parts.append(f"oldest {oldest:.0f}s")
    for part in parts:
        if part and line.cell_len + 2 + len(part) <= width:
            line.append("  " + part, "yellow" if part.endswith(("denied", "failed")) else "")
    return line
