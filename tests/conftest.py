"""Options, markers and profiles; the fixture that runs a case on both backends; shared fixtures."""

from __future__ import annotations

import importlib
import os
import re
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

import fastsmaps
from fastsmaps import _backend
from support import commands, linux, processes
from support.captures import no_leftovers
from support.examples import ONE_PART

# Hides from all commands that are run here what is left in a buffer at their end.
os.environ.pop("PYTHONUNBUFFERED", None)

# `make test` draws a quarter of the examples; see support.examples.
for profile, count in {"fast": ONE_PART // 4, "thorough": ONE_PART}.items():
    settings.register_profile(
        profile,
        max_examples=count,
        # The backend fixture is set once for a test and stays so for all its examples; a busy
        # machine makes no example wrong.
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        deadline=None,
    )
settings.load_profile("thorough")

MODULES = {"c": "fastsmaps._backend._csmaps", "python": "fastsmaps._backend._pysmaps"}


def watched_by() -> str | None:
    """What looks at each use of memory in this process, as fuzz/sanitize has it."""
    mapped = Path("/proc/self/maps").read_text()
    tools = {"libasan": "ASan", "vgpreload_memcheck": "valgrind"}
    return next((tool for library, tool in tools.items() if library in mapped), None)


TOOL = watched_by()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-extension",
        action="store_true",
        help="test the pure Python backend alone; without this a missing extension fails the run",
    )
    parser.addoption(
        "--spawn",
        action="store_true",
        help="start an interpreter for each command, as a user does; without this most are forks",
    )


def pytest_configure(config: pytest.Config) -> None:
    # Where threads run beside each other, and ASan's report goes to a file of each program.
    alone = not config.pluginmanager.hasplugin("_run-parallel") and TOOL is None
    commands.spawns = config.getoption("--spawn") or not alone
    if TOOL == "ASan":
        # What is read shall be as it is anywhere; there, brk gives no heap and nothing is locked.
        plain = partial(processes.running, "env", "-u", "LD_PRELOAD")
        pytest.MonkeyPatch().setattr(processes, "running", plain)
    # A shell has what it runs in the background ignore these, and every child inherits that.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            ctrl_c = number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if ctrl_c else signal.SIG_DFL)


def pytest_report_header() -> str | None:
    return TOOL and f"memory watched by {TOOL}: {importlib.import_module(MODULES['c']).__file__}"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no other files for ``-m core``: they want packages that its users do not install."""
    core = re.fullmatch("core( and .*)?", config.option.markexpr)
    if core and collection_path.name.startswith("test_"):
        return "pytest.mark.core" not in collection_path.read_text() or None
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        mark = item.get_closest_marker("uninstrumented")
        if TOOL and mark:
            item.add_marker(pytest.mark.skip(reason=f"under {TOOL}: {mark.kwargs['reason']}"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        c, python = "c", pytest.param("python", marks=pytest.mark.pure)
        alone = metafunc.config.getoption("--no-extension")
        metafunc.parametrize("backend", [python] if alone else [c, python], indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """One backend's module, which all of fastsmaps uses during the test.

    Set before a test's threads begin, so that fuzz/threads can have many of them: what takes
    monkeypatch itself is run in one.
    """
    module = importlib.import_module(MODULES[request.param])
    with pytest.MonkeyPatch.context() as patch:
        for name, exported in _backend.exports(request.param).items():
            patch.setattr(_backend, name, exported)
        patch.setattr(fastsmaps, "BACKEND", request.param)
        yield module


@pytest.fixture
def twins(pytestconfig: pytest.Config) -> tuple[ModuleType, ModuleType]:
    """Both backends' modules, to be compared."""
    if pytestconfig.getoption("--no-extension"):
        pytest.skip("there is only one backend to compare")
    c, python = map(importlib.import_module, MODULES.values())
    return c, python


@pytest.fixture
def no_leak() -> Iterator[None]:
    """No descriptor is left behind; for a whole module by ``pytestmark``."""
    with processes.same_descriptors():
        yield


@pytest.fixture
def no_unpacked_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is left of what was unpacked, and no descriptor."""
    with no_leftovers(tmp_path_factory.mktemp("unpacked")):
        yield


@pytest.fixture(scope="module")
def idle() -> Iterator[processes.Process]:
    """A process that does nothing."""
    with processes.workload("idle") as child:
        yield child


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small C program of many parts, compiled."""
    try:
        return processes.compiled(tmp_path_factory.mktemp("program"))
    except linux.Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, idle: processes.Process) -> str:
    """A capture of two processes, the idle one and this."""
    target = str(tmp_path_factory.mktemp("saved") / "two.tar.gz")
    fastsmaps.capture(target, [idle.pid, os.getpid()])
    return target
