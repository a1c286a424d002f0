"""The documents' examples, run as they stand; only who is asked about is put in."""

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
# These stay until they are told to end; tests of their own run them.
LASTING = ("top", "export", "watch")
# Modules that are public and not imported with the package.
WITH_EXTRAS = ("parquet", "plot", "prometheus")

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path, language: str) -> Iterator[tuple[int, str]]:
    """Each block of that language, with the line where it begins."""
    text = page.read_text()
    for match in _BLOCK.finditer(text):
        if match[1] == language:
            yield text.count("\n", 0, match.start(2)) + 1, match[2]


def pages(language: str) -> list[Path]:
    return [page for page in PAGES if any(blocks(page, language))]


def among_few(run: Callable[[processes.Process], T]) -> T:
    """Run it beside one idle process in a pid namespace: many examples read the whole machine.

    Where no namespaces may be made they do.
    """

    def inside() -> T:
        with processes.workload("idle") as child:
            return run(child)

    try:
        return processes.run_in_namespaces(inside)
    except linux.Unavailable:
        return inside()


def meant(text: str, child: processes.Process) -> str:
    """The example about a process that is there, and what that one maps."""
    libc = next(m.path for m in fastsmaps.mappings(child.pid) if "/libc" in m.path)
    text = text.replace("1234", str(child.pid))
    text = text.replace("/usr/lib/x86_64-linux-gnu/libc.so.6", libc)
    return text.replace("www-data", user_name(os.geteuid()))


# Loops that an agent or a profiler runs for ever end at their second sleep.
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
def test_python(backend: ModuleType, page: Path, tmp_path: Path) -> None:
    def run(child: processes.Process) -> subprocess.CompletedProcess[str]:
        found = blocks(page, "python")
        given = [(f"{page.name}:{line}", meant(code, child)) for line, code in found]
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", PRELUDE, str(child.pid)],
            input=repr(given),
            text=True,
            capture_output=True,
            cwd=tmp_path,
            env=commands.environment(),
            timeout=processes.TIMEOUT,
            check=False,
        )

    done = among_few(run)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


@pytest.mark.parametrize("page", pages("sh"), ids=lambda page: page.name)
def test_commands(page: Path, tmp_path: Path) -> None:
    def run(child: processes.Process) -> int:
        ran = 0
        for _, text in blocks(page, "sh"):
            for line in meant(text, child).replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] != ["fastsmaps"] or {*LASTING} & {*words}:
                    continue
                status = commands.run(*words[1:], cwd=tmp_path).returncode
                assert status == 0, line
                ran += 1
        return ran

    assert among_few(run) or page.name in ("prometheus.md", "watch.md", "install.md")


def test_every_test_that_a_claim_names_is_there() -> None:
    claims = (ROOT / "docs/security.md").read_text()
    named = re.findall(r"`(tests/\w+/test_\w+\.py)::(test_\w+)`", claims)
    assert len(named) > 40
    assert len(named) == claims.count("`tests/")
    for file, test in named:
        assert re.search(rf"^def {test}\(", (ROOT / file).read_text(), re.MULTILINE), (file, test)


def test_every_command_is_told_of() -> None:
    from fastsmaps.cli.main import COMMANDS

    told = re.findall(r"^<!-- help: (\w+) -->$", (ROOT / "docs/command.md").read_text(), re.M)
    assert sorted(told) == sorted(COMMANDS)


def told_names() -> list[str]:
    """What the reference describes, without the package's name."""
    return re.findall(r"^::: fastsmaps\.([\w.]+)$", (ROOT / "docs/api.md").read_text(), re.M)


def test_every_public_name_is_told_of() -> None:
    """By the name that users import; no module stands in its way."""
    told = [path for path in told_names() if path.partition(".")[0] not in WITH_EXTRAS]
    for path in told:
        module, _, name = f"fastsmaps.{path}".rpartition(".")
        assert getattr(fastsmaps, name) is pkgutil.resolve_name(f"{module}:{name}")
        assert module != "fastsmaps" or importlib.util.find_spec(f"fastsmaps.{name}") is None
    names = [path.rpartition(".")[2] for path in told]
    assert sorted([*names, "ABSENT", "BACKEND", "Outcome"]) == sorted(fastsmaps.__all__)


@pytest.mark.parametrize("name", WITH_EXTRAS)
def test_every_public_name_of_an_extra_is_told_of(name: str) -> None:
    module = pytest.importorskip(f"fastsmaps.{name}", exc_type=ImportError)
    public = [
        f"{name}.{each}"
        for each, value in vars(module).items()
        if not each.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    assert sorted(public) == sorted(path for path in told_names() if path.startswith(f"{name}."))
