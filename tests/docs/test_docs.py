"""Every example in the documents, run as a reader would paste it."""

from __future__ import annotations

import importlib.util
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import pytest

import fastsmaps
from support import commands, linux, processes

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
# Modules that are public and not imported with the package.
WITH_EXTRAS = ("parquet", "plot", "prometheus")
# A block in another language is not run: `console` for what changes the machine or never ends.
RUN = {"python": [sys.executable, "-W", "error", "-"], "sh": ["bash", "-euo", "pipefail"]}
NOT_RUN = {
    "console",
    "json",
    "text",
    "yaml",
    "promql",
    "ini",
    "dockerfile",
    "sql",
    "mermaid",
    "toml",
}

_BLOCK = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path) -> Iterator[tuple[int, str, str]]:
    """Each block of code: the line where it begins, its language, and its text."""
    text = page.read_text()
    for match in _BLOCK.finditer(text):
        code = re.sub(rf"^{match[1]}", "", match[3], flags=re.MULTILINE)
        yield text.count("\n", 0, match.start(3)) + 1, match[2], code


def pages(language: str) -> list[Path]:
    return [page for page in PAGES if any(block[1] == language for block in blocks(page))]


def with_few_processes(function: Callable[[], T]) -> T:
    """Call it in a pid namespace of its own, since many examples read the whole machine.

    Without the right to make namespaces they do read all of it.
    """
    try:
        return processes.run_in_namespaces(function)
    except linux.Unavailable:
        return function()


def failures(page: Path, language: str, directory: Path) -> list[str]:
    """Run each block of the page by itself; say what failed."""

    def run() -> list[str]:
        failed = []
        for line, found, code in blocks(page):
            if found != language:
                continue
            place = directory / str(line)
            place.mkdir()
            done = subprocess.run(
                RUN[language],
                input=code,
                text=True,
                capture_output=True,
                cwd=place,
                env=commands.environment(
                    PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}", LC_ALL="C.UTF-8"
                ),
                timeout=processes.TIMEOUT,
                check=False,
            )
            if done.returncode or (language == "python" and done.stderr):
                failed.append(f"{page.name}:{line}: {done.returncode}\n{done.stderr[-2000:]}")
        return failed

    return with_few_processes(run)


@pytest.mark.parametrize("page", pages("python"), ids=lambda page: page.name)
def test_python_blocks_run_as_pasted(backend: ModuleType, page: Path, tmp_path: Path) -> None:
    failed = failures(page, "python", tmp_path)
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("page", pages("sh"), ids=lambda page: page.name)
def test_shell_blocks_run_as_pasted(page: Path, tmp_path: Path) -> None:
    failed = failures(page, "sh", tmp_path)
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_has_a_language_that_is_known(page: Path) -> None:
    unknown = [(line, name) for line, name, _ in blocks(page) if name not in {*RUN, *NOT_RUN}]
    assert not unknown


def test_tests_named_by_security_claims_exist() -> None:
    claims = (ROOT / "docs/security.md").read_text()
    references = re.findall(r"`(tests/\w+/test_\w+\.py)::(test_\w+)`", claims)
    assert len(references) > 40
    assert len(references) == claims.count("`tests/")
    for file, test in references:
        assert re.search(rf"^def {test}\(", (ROOT / file).read_text(), re.MULTILINE), (file, test)


def test_every_command_is_documented() -> None:
    from fastsmaps.cli.parser import COMMANDS

    commands = re.findall(r"^<!-- help: (\w+) -->$", (ROOT / "docs/command.md").read_text(), re.M)
    assert sorted(commands) == sorted(COMMANDS)


def documented_names() -> list[str]:
    """Names that the API reference describes, without the package's name."""
    return re.findall(r"^::: fastsmaps\.([\w.]+)$", (ROOT / "docs/api.md").read_text(), re.M)


def test_every_public_name_is_documented() -> None:
    """The reference uses the names that users import, and no module hides them."""
    paths = [path for path in documented_names() if path.partition(".")[0] not in WITH_EXTRAS]
    for path in paths:
        module, _, name = f"fastsmaps.{path}".rpartition(".")
        assert getattr(fastsmaps, name) is pkgutil.resolve_name(f"{module}:{name}")
        assert module != "fastsmaps" or importlib.util.find_spec(f"fastsmaps.{name}") is None
    names = [path.rpartition(".")[2] for path in paths]
    assert sorted([*names, "ABSENT", "BACKEND", "Outcome"]) == sorted(fastsmaps.__all__)


@pytest.mark.parametrize("name", WITH_EXTRAS)
def test_every_public_name_of_an_extra_is_documented(name: str) -> None:
    module = pytest.importorskip(f"fastsmaps.{name}", exc_type=ImportError)
    public = [
        f"{name}.{attribute}"
        for attribute, value in vars(module).items()
        if not attribute.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    assert sorted(public) == sorted(
        path for path in documented_names() if path.startswith(f"{name}.")
    )
