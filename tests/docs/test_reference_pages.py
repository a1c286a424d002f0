"""The reference pages describe every metric and every error class."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import fastsmaps

DOCS = Path(__file__).parents[2] / "docs"


def first_columns(page: str) -> set[str]:
    """Return the code in the first column of the page's tables."""
    return set(re.findall(r"^\| `([^`]+)` \|", (DOCS / page).read_text(), re.MULTILINE))


def test_metrics_page_has_every_metric_with_its_labels() -> None:
    prometheus = pytest.importorskip("fastsmaps.prometheus", exc_type=ImportError)
    with prometheus.Collector(by="comm", mappings=True) as collector:
        assert collector.wait(60)
        expected = set()
        for family in collector.collect():
            names = {"counter": f"{family.name}_total", "info": f"{family.name}_info"}
            labels = {name for sample in family.samples for name in sample.labels}
            # A kernel that does not print a field leaves its family without samples.
            labels = labels.union(family._labelnames) - {"comm"}
            shown = f"{{{','.join(sorted(labels, reverse=True))}}}" if labels else ""
            expected.add(names.get(family.type, family.name) + shown)
    assert first_columns("metrics.md") == expected


def error_classes() -> list[str]:
    public = [getattr(fastsmaps, name) for name in fastsmaps.__all__]
    return [
        value.__name__
        for value in public
        if isinstance(value, type) and issubclass(value, fastsmaps.Error)
    ]


@pytest.mark.parametrize("name", error_classes())
def test_error_class_is_described(name: str) -> None:
    assert name in first_columns("errors.md")
    messages = (DOCS / "troubleshooting.md").read_text()
    assert name in ("Error", "ParseError") or re.search(rf"^\| .*\b{name}\b.* \|$", messages, re.M)


# What stands for a value in the messages of the page.
PLACEHOLDER = re.compile(r"\b(?:ARGUMENT|EXPECTED|FD|LIST|N|NAME|PATH|PID|PROBLEM|REASON|VALUE)\b")


def texts_in_the_source() -> str:
    """Return every string of the package, with f-strings as the texts between their values."""
    texts = []
    for path in Path(fastsmaps.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
                value = node.value
                texts.append(value.decode("latin-1") if isinstance(value, bytes) else value)
    return "\0".join(texts)


def test_messages_on_the_page_are_those_of_the_source() -> None:
    texts = texts_in_the_source()

    def is_there(words: list[str], cuts: int = 2) -> bool:
        """Whether the words are one text of the source, or a few texts one after the other."""
        if " ".join(words) in texts:
            return True
        ends = range(1, len(words)) if cuts else ()
        return any(
            " ".join(words[:end]) in texts and is_there(words[end:], cuts - 1) for end in ends
        )

    page = (DOCS / "troubleshooting.md").read_text()
    page = page[page.index("## Messages about processes") :]
    messages = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    assert len(messages) > 80
    unknown = []
    for message in messages:
        for fixed in PLACEHOLDER.split(message):
            words = fixed.strip(" '").split()
            if words and not is_there(words):
                unknown.append(message)
    assert not unknown
