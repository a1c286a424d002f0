"""The examples in the documentation, run with only the pid and a path replaced."""

from __future__ import annotations

import importlib.util
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import pytest

import fastsmaps
from fastsmaps._model.process_totals import user_name
from support import commands, linux, processes

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
# These run until they are stopped; they have tests of their own.
LONG_RUNNING = ("top", "export", "watch")
# Public modules that the package does not import.
WITH_EXTRAS = ("parquet", "plot", "prometheus")

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path, language: str) -> Iterator[tuple[int, str]]:
    """Yield each code block of a language and its first line number."""
    text = page.read_text()
    for match in _BLOCK.finditer(text):
        if match[1] == language:
            yield text.count("\n", 0, match.start(2)) + 1, match[2]


def pages(language: str) -> list[Path]:
    return [page for page in PAGES if any(blocks(page, language))]


def on_small_machine(run: Callable[[processes.Process], T]) -> T:
    """Call `run` in a pid namespace with one idle process, as many examples read all processes.

    Where namespaces are forbidden, it runs outside.
    """

    def inside() -> T:
        with processes.workload("idle") as child:
            return run(child)

    try:
        return processes.run_in_namespaces(inside)
    except linux.Unavailable:
        return inside()


def substitute(text: str, child: processes.Process) -> str:
    """Put a real pid, library and user into an example."""
    libc = next(m.path for m in fastsmaps.mappings(child.pid) if "/libc" in m.path)
    text = text.replace("1234", str(child.pid))
    text = text.replace("/usr/lib/x86_64-linux-gnu/libc.so.6", libc)
    return text.replace("www-data", user_name(os.geteuid()))


# Endless loops of agents and profilers end at their second sleep.
PRELUDE = """
import sys, time, os, fastsmaps
class Enough(BaseException): pass
def sleep(seconds, times=[]):
    times.append(seconds)
    if len(times) > 1: raise Enough
time.sleep = sleep
pid = int(sys.argv[1])
names = {"fastsmaps": fastsmaps, "pid": pid, "time": time, "running": False}
names["work"] = names["record"] = names["handle"] = lambda *_: None
blocks = eval(sys.stdin.read())
for where, code in blocks:
    try:
        exec(compile(code, where, "exec"), names)
    except Enough:
        pass
"""


@pytest.mark.parametrize("page", pages("python"), ids=lambda page: page.name)
def test_python_examples_run(backend: ModuleType, page: Path, tmp_path: Path) -> None:
    def run(child: processes.Process) -> subprocess.CompletedProcess[str]:
        examples = [
            (f"{page.name}:{line}", substitute(code, child))
            for line, code in blocks(page, "python")
        ]
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", PRELUDE, str(child.pid)],
            input=repr(examples),
            text=True,
            capture_output=True,
            cwd=tmp_path,
            env=commands.environment(),
            timeout=processes.TIMEOUT,
            check=False,
        )

    done = on_small_machine(run)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


@pytest.mark.parametrize("page", pages("sh"), ids=lambda page: page.name)
def test_command_examples_run(page: Path, tmp_path: Path) -> None:
    def run(child: processes.Process) -> int:
        ran = 0
        for _, text in blocks(page, "sh"):
            for line in substitute(text, child).replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] != ["fastsmaps"] or {*LONG_RUNNING} & {*words}:
                    continue
                status = commands.run(*words[1:], cwd=tmp_path).returncode
                assert status == 0, line
                ran += 1
        return ran

    assert on_small_machine(run) or page.name in ("prometheus.md", "watch.md", "install.md")


def test_tests_named_by_security_claims_exist() -> None:
    claims = (ROOT / "docs/security.md").read_text()
    references = re.findall(r"`(tests/\w+/test_\w+\.py)::(test_\w+)`", claims)
    assert len(references) > 40
    assert len(references) == claims.count("`tests/")
    for file, test in references:
        assert re.search(rf"^def {test}\(", (ROOT / file).read_text(), re.MULTILINE), (file, test)


def test_every_command_is_documented() -> None:
    from fastsmaps.cli.main import COMMANDS

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
