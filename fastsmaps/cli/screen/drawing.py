"""Parts of a screen's line: bars, sparklines, short sizes."""

from __future__ import annotations

from fastsmaps._output.display import blocks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    #: A text and the name of its rich style.
    Span = tuple[str, str]

_EIGHTHS = " ▏▎▍▌▋▊▉█"


def short(size: int | None) -> str:
    """Return a size in at most five characters: "0", "12.3M", "-" for None. K is KiB."""
    if size is None:
        return "-"
    if -512 < size < 512:
        return "0"
    value = abs(size) / 1024
    for unit in "KMGT":
        if value < 999.5 or unit == "T":
            break
        value /= 1024
    digits = 1 if value < 99.95 and unit != "K" else 0
    return f"{'-' if size < 0 else ''}{value:.{digits}f}{unit}"


def signed(size: int | None) -> str:
    """Return a difference of sizes with its sign, "" for none, so that changes catch the eye."""
    text = short(size)
    return "" if text in ("0", "-") else text if text.startswith("-") else f"+{text}"


def bar(parts: Iterable[tuple[float, str, str]], whole: float, width: int) -> list[Span]:
    """Return a bar of `width` cells: for each part its value, style and fill character.

    Borders are at full cells; only the end of a solid last part has eighths of a cell.
    """
    present = [part for part in parts if part[0] > 0 and whole > 0]
    spans: list[Span] = []
    total = 0.0
    used = 0
    for i, (value, style, fill) in enumerate(present, 1):
        total += value
        end = min(total / whole, 1.0) * width
        fine = i == len(present) and fill == "█"
        cells = max((int(end) if fine else round(end)) - used, 0)
        text = fill * cells
        if fine and used + cells < width:
            text += _EIGHTHS[int(8 * (end - int(end)))].strip()
        spans.append((text, style))
        used += len(text)
    return [*spans, (" " * (width - used), "")]


def memory_bar(uss: int | None, pss: int | None, largest: int, width: int) -> list[Span]:
    """Return a bar of Pss beside the largest: solid for Uss, shaded for the shared part."""
    own, whole = uss or 0, pss or 0
    # It keeps its colours in the selected row.
    parts = [
        (min(own, whole), "cyan not reverse", "█"),
        (max(whole - own, 0), "blue not reverse", "▒"),
    ]
    return bar(parts, largest, width)


def sparkline(values: Sequence[int], width: int) -> str:
    """Return the last `width` values as a line of blocks, from the smallest to the largest.

    The lowest block is at most nine tenths of the largest value: less than that is no change.
    """
    shown = values[-width:] if width > 0 else []
    if not shown:
        return ""
    high = max(shown)
    return blocks(shown, min(*shown, 0.9 * high), high)
