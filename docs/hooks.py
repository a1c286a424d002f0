"""mkdocs hook: insert the command's help and files of the project's root into pages.

A line `<!-- help: COMMAND -->` becomes the output of `fastsmaps COMMAND --help` at build time, so
that a page never describes an option that does not exist. `<!-- help: -->` is the whole command's.
`<!-- include: FILE.md -->` becomes that file, with its links to docs/ made relative.
`<!-- notebook: FILE.ipynb -->` becomes that notebook with the output of its cells, which run now.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

_HELP = re.compile(r"^<!-- help: ?([a-z]*) -->$", re.MULTILINE)
_INCLUDE = re.compile(r"^<!-- include: ([A-Z]+\.md) -->$", re.MULTILINE)
_NOTEBOOK = re.compile(r"^<!-- notebook: ([a-z-]+\.ipynb) -->$", re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?:)([\w./-]+)")
_ROOT = Path(__file__).parents[1]
_PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
_SOURCE = "https://github.com/fastsmaps/fastsmaps/blob/main/"


def on_page_markdown(markdown: str, **_: Any) -> str:  # noqa: ANN401 - mkdocs passes its own types
    """Return the page with its markers replaced; mkdocs calls this for each page."""
    markdown = _INCLUDE.sub(lambda match: _included((_ROOT / match[1]).read_text()), markdown)
    markdown = _NOTEBOOK.sub(lambda match: _notebook(match[1]), markdown)
    return _HELP.sub(lambda match: f"```text\n{_help(match[1])}```", markdown)


def _included(markdown: str) -> str:
    """Turn links that are relative to the project's root into links between pages."""

    def link(match: re.Match[str]) -> str:
        target = match[1]
        if target.startswith("docs/"):
            return f"]({target.removeprefix('docs/')}"
        return f"]({_PAGES.get(target, _SOURCE + target)}"

    return _LINK.sub(link, markdown)


def _notebook(name: str) -> str:
    docs = _ROOT / "docs"
    command = [sys.executable, str(docs / "run_notebook.py"), str(docs / name)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def _help(command: str) -> str:
    arguments = [command, "--help"] if command else ["--help"]
    return subprocess.run(
        [sys.executable, "-m", "fastsmaps", *arguments],
        env={**os.environ, "COLUMNS": "90"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
