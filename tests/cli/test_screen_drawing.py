"""Bars, sparklines and short sizes of the live screen."""

from __future__ import annotations

import pytest

from fastsmaps.cli.screen.drawing import bar, short, signed, sparkline


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ([], 8, ""),
        ([0, 0], 8, "▁▁"),
        ([5], 8, "█"),
        ([0, 50, 100], 8, "▁▅█"),
        ([0, 50, 100], 2, "▁█"),
        ([0, 50, 100], 0, ""),
        # A change of a hundredth is not drawn as if it were all.
        ([1000, 1000, 990], 8, "██▇"),
    ],
)
def test_sparkline(values: list[int], width: int, line: str) -> None:
    assert sparkline(values, width) == line


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "-"),
        (0, "0"),
        (400, "0"),
        (1024, "1K"),
        (1023 * 1024, "1.0M"),
        (12 << 20, "12.0M"),
        (-(12 << 20), "-12.0M"),
        (123 << 20, "123M"),
        (999 << 20, "999M"),
        (1 << 30, "1.0G"),
        (5 << 50, "5120T"),
    ],
)
def test_short(size: int | None, text: str) -> None:
    assert short(size) == text


def test_signed() -> None:
    assert [signed(size) for size in (None, 0, 100, 1 << 20, -1 << 20)] == [
        "",
        "",
        "",
        "+1.0M",
        "-1.0M",
    ]


@pytest.mark.parametrize(
    ("parts", "whole", "text"),
    [
        ([(1, "a", "█")], 1, "█" * 10),
        ([(1, "a", "█")], 0, " " * 10),
        ([(0.5, "a", "█"), (0.5, "b", "▒")], 1, "█████▒▒▒▒▒"),
        ([(0.55, "a", "█")], 1, "█████▌    "),
        ([(0.98, "a", "█"), (0.02, "b", "▒")], 1, "█" * 10),
        ([(3, "a", "█"), (3, "b", "▒")], 2, "█" * 10),
        ([], 5, " " * 10),
    ],
)
def test_bar_fills_its_width(parts: list[tuple[float, str, str]], whole: float, text: str) -> None:
    assert "".join(span for span, _ in bar(parts, whole, 10)) == text
