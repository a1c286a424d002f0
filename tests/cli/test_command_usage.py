"""Common to all commands: usage errors, help, hostile names."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import ModuleType

import pytest

from fastsmaps.cli.parser import COMMANDS
from support.commands import OTHER, ZOO, on_terminal, run
from support.independent import DATA


def test_usage_errors(backend: ModuleType) -> None:
    for arguments in (
        ("nonsense",),
        ("ps", "--sort", "nonsense"),
        ("ps", "--filter", "("),
        ("ps", "--limit", "-1"),
        ("ps", "--max-rss", "much"),
        ("ps", "--json", "--csv"),
        ("ps", "--by", "nonsense"),
        ("maps",),
        ("maps", ZOO, "--fields", "nonsense"),
        ("top", "--budget", "7"),
        ("top", "--budget", "much"),
        ("top", "--json", "--sort", "command"),
        ("ps", "--sort", "\x1b[31m"),
    ):
        done = run(*arguments, status=2)
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("fastsmaps: ")
        assert "\x1b" not in done.stderr
        assert "seconds" not in done.stderr  # a budget is a share, not seconds


def test_help_of_each_command(backend: ModuleType) -> None:
    for command in COMMANDS:
        text = run(command, "--help").stdout
        assert "examples:" in text
        assert f"fastsmaps {command}" in text
        assert command in run("--help").stdout


@pytest.mark.parametrize("command", ["ps", "maps", "totals", "libs", "diff"])
@pytest.mark.parametrize("without_rich", [False, True])
def test_sizes_have_a_unit(backend: ModuleType, command: str, without_rich: bool) -> None:
    words = [command, *([ZOO, OTHER] if command == "diff" else [str(os.getpid())])]
    size = r"[0-9](\.[0-9])? [KMG]iB\b"
    for forced in ([], ["--human"]):
        text = on_terminal(*words, *forced, without_rich=without_rich)
        assert re.search(size, text)
        assert "PSS KiB" not in text
    for text in (
        run(*words).stdout,
        run(*words, "--kib").stdout,
        on_terminal(*words, "--kib", without_rich=without_rich),
    ):
        assert "KiB" in text.splitlines()[0]
        assert not re.search(size, text)
    assert re.search(size, run(*words, "--human").stdout)
    assert "not allowed with" in run(*words, "--kib", "--human", status=2).stderr


HOSTILE = b'/tmp/\x1b[31m\xff\x07[red]x[/red]\xe2\x80\xae,"quoted"'


def test_hostile_names_are_escaped(backend: ModuleType, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(DATA / "captures/7.2-amd64/zoo", tmp_path / "host" / "7")
    for name in ("smaps", "maps"):
        place = tmp_path / "host" / "7" / name
        place.chmod(0o600)
        place.write_bytes(
            place.read_bytes() + b"7fffffff0000-7fffffff1000 r--p 0 0:0 5 " + HOSTILE + b"\n"
        )
    (tmp_path / "host" / "7" / "cmdline").write_bytes(b"/bin/x\0" + HOSTILE + b"\0")
    stat = (tmp_path / "host/7/stat").read_bytes()
    (tmp_path / "host/7/stat").chmod(0o600)
    (tmp_path / "host/7/stat").write_bytes(b"7 (" + HOSTILE[:15] + b")" + stat.rpartition(b")")[2])
    root = ("--procfs", str(tmp_path / "host"))
    for command in (("ps",), ("ps", "--by", "comm"), ("maps", "7"), ("libs",), ("top",)):
        for form in ((), ("--json",), ("--csv",)):
            text = run(*command, *root, *form).stdout
            assert all(line.isprintable() for line in text.splitlines()), (command, form)
    assert r"x /tmp/\x1b[31m\xff\x07[red]x[/red]\u202e" in run("ps", *root).stdout
    assert r"/tmp/\x1b[31m\xff\x07[red]x[/red]\u202e" in run("maps", "7", *root).stdout
    assert on_terminal("maps", "7", *root).count("\x1b[31m") == 0
