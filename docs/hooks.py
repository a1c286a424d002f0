"""mkdocs hook that inserts the output of `fastsmaps COMMAND --help` into pages.

A line `<!-- help: COMMAND -->` becomes the help at build time, so that pages never list
options that do not exist. `<!-- help: -->` is the help of the main command.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

_HELP = re.compile(r"^<!-- help: ?([a-z]*) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:  # noqa: ANN401 - whatever mkdocs hands over
    """Replace each help comment by the command's help; mkdocs calls this for each page."""
    return _HELP.sub(lambda match: f"```text\n{_help(match[1])}```", markdown)


def _help(command: str) -> str:
    arguments = [command, "--help"] if command else ["--help"]
    return subprocess.run(
        [sys.executable, "-m", "fastsmaps", *arguments],
        env={**os.environ, "COLUMNS": "90"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
