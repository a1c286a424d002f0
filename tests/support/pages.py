"""Pages as a browser parses them, and names that would do harm on one."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from fastsmaps import plot
from support import processes

# Each would do harm in another place: in a script, in a page, in a line of text.
OWNED = "document.title='owned'"
HOSTILE = f"</script><script>{OWNED}</script><img src=x onerror={OWNED}>"
MARKUP = '<b>bold</b><a href="javascript:1">${x}&lt;&amp;\u202eevil\x1b[1m'

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


class Page(HTMLParser):
    """A page's tags, scripts and title, as a browser parses them, and its data."""

    def __init__(self, page: plot.Page | Path) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.title = ""
        self._inside = ""
        self.feed(page.read_text() if isinstance(page, Path) else page.html)
        self.close()
        self.data: dict[str, Any] = json.loads(self.scripts[0][1])
        self.facts: dict[str, str] = dict(self.data["facts"])

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

    def view(self, name: str) -> dict[str, Any]:
        (view,) = (view for view in self.data["views"] if view["name"] == name)
        found: dict[str, Any] = view
        return found

    def text(self, number: int) -> str:
        text: str = self.data["texts"][number]
        return text

    def sizes(self, sizes: list[float | None]) -> dict[str, int | None]:
        """Return sizes in bytes by name."""
        values = [None if value is None else int(value * 1024) for value in sizes]
        return dict(zip(self.data["sizes"], values, strict=True))

    def _sums(self, keyed: Iterable[tuple[str, list[Any]]]) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for key, part in keyed:
            sums = found.setdefault(key, dict.fromkeys(self.data["sizes"], 0))
            for name, value in self.sizes(part[2]).items():
                sums[name] += value or 0
        return found

    def by_kind(self, parts: list[list[Any]]) -> dict[str, dict[str, int]]:
        """Return the sizes of parts [path, kind, sizes, use, range], summed by kind."""
        return self._sums((self.data["kinds"][part[1]], part) for part in parts)

    def by_text(self, parts: list[list[Any]], place: int) -> dict[str, dict[str, int]]:
        """Return the sizes of parts, summed by the text that has its number at this place."""
        return self._sums(
            (self.text(part[place]) if place < len(part) else "", part) for part in parts
        )

    def process(self, pid: int) -> list[Any]:
        (row,) = (row for row in self.data["processes"] if row[0] == pid)
        return list(row)


@contextmanager
def hostile_process(directory: Path) -> Iterator[str]:
    """Start a process that has mapped files with hostile names; give its pid."""
    paths = [f"{directory}/files/{name}" for name in (HOSTILE, MARKUP)]
    for path in paths:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.truncate(4 << 20)
    command = [sys.executable, "-EsSB", "-c", MAPPING, *paths]
    with processes.running(*command) as child:
        yield str(child.pid)
