"""Each command in the tutorial's table of questions runs and prints something."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import fastsmaps
from support import processes
from support.commands import run

PAGE = Path(__file__).parents[2] / "docs" / "getting-started.md"
TABLE = PAGE.read_text().partition("## Ten questions")[2].partition("\n## ")[0]
QUESTIONS = [row.strip("|").split("|") for row in TABLE.splitlines() if row.startswith("| ")][2:]
COMMANDS = [
    command
    for _, commands, _ in QUESTIONS
    for command in re.findall("`(fastsmaps[^`]*)`", commands)
]


def test_ten_questions_have_short_answers() -> None:
    """At most two commands, or four keys."""
    assert len(QUESTIONS) == 10
    for _, commands, keys in QUESTIONS:
        assert 1 <= commands.count("`fastsmaps") <= 2
        assert len(re.findall("Enter|`[^`]`", keys)) <= 4


@pytest.mark.parametrize("command", COMMANDS)
def test_command_answers(
    backend: object, command: str, idle: processes.Process, tmp_path: Path
) -> None:
    name = f"ten-{idle.pid}"
    idle.request("name", name)
    for when in ("BEFORE", "AFTER"):
        if when in command:
            fastsmaps.capture(tmp_path / f"{when}.tar", [idle.pid])
    words = [
        {
            "PID": str(idle.pid),
            "NAME": name,
            "BEFORE": str(tmp_path / "BEFORE.tar"),
            "AFTER": str(tmp_path / "AFTER.tar"),
            "10s": "0.1s",
            "1m": "0.3s",
        }.get(word, word)
        for word in command.split()[1:]
    ]
    assert run(*words).stdout
