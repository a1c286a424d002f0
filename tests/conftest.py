"""Options, hypothesis profiles and shared fixtures; `backend` runs a test on both backends."""

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
from support.examples import DEFAULT_EXAMPLES

# It would hide output that a command leaves in a buffer at its end.
os.environ.pop("PYTHONUNBUFFERED", None)

# `make test` draws a quarter of the examples; see support.examples.
for profile, count in {"fast": DEFAULT_EXAMPLES // 4, "thorough": DEFAULT_EXAMPLES}.items():
    settings.register_profile(
        profile,
        max_examples=count,
        # The backend fixture holds for all examples of a test; a busy machine makes examples slow.
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        deadline=None,
    )
settings.load_profile("thorough")

MODULES = {"c": "fastsmaps._backend._csmaps", "python": "fastsmaps._backend._pysmaps"}


def memory_checker() -> str | None:
    """Name the memory checker that this process runs under, as in fuzz/sanitize."""
    maps = Path("/proc/self/maps").read_text()
    checkers = {"libasan": "ASan", "vgpreload_memcheck": "valgrind"}
    return next((checker for library, checker in checkers.items() if library in maps), None)


CHECKER = memory_checker()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-extension",
        action="store_true",
        help="test only the pure Python backend; by default a missing extension fails the run",
    )
    parser.addoption(
        "--spawn",
        action="store_true",
        help="start an interpreter for each command, as a user does; by default most are forks",
    )


def pytest_configure(config: pytest.Config) -> None:
    # Tests that run in parallel threads cannot fork, and ASan writes a report file per program.
    can_fork = not config.pluginmanager.hasplugin("_run-parallel") and CHECKER is None
    commands.spawns = config.getoption("--spawn") or not can_fork
    if CHECKER == "ASan":
        # Workloads run without ASan, under which brk gives no heap and mlock() locks nothing.
        unchecked = partial(processes.running, "env", "-u", "LD_PRELOAD")
        pytest.MonkeyPatch().setattr(processes, "running", unchecked)
    # Background jobs of a shell ignore these signals, and all children inherit that.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            ctrl_c = number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if ctrl_c else signal.SIG_DFL)


def pytest_report_header() -> str | None:
    extension = importlib.import_module(MODULES["c"]).__file__ if CHECKER else None
    return CHECKER and f"memory checked by {CHECKER}: {extension}"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignore all other files with ``-m core``: they import packages that need not be installed."""
    core = re.fullmatch("core( and .*)?", config.option.markexpr)
    if core and collection_path.name.startswith("test_"):
        return "pytest.mark.core" not in collection_path.read_text() or None
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        mark = item.get_closest_marker("uninstrumented")
        if CHECKER and mark:
            item.add_marker(pytest.mark.skip(reason=f"under {CHECKER}: {mark.kwargs['reason']}"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        c, python = "c", pytest.param("python", marks=pytest.mark.pure)
        pure_only = metafunc.config.getoption("--no-extension")
        metafunc.parametrize("backend", [python] if pure_only else [c, python], indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """One backend's module, which all of fastsmaps uses during the test.

    It is set before a test's threads start, so that fuzz/threads can run the test in many of them.
    A test that uses monkeypatch itself runs in one thread there.
    """
    module = importlib.import_module(MODULES[request.param])
    with pytest.MonkeyPatch.context() as patch:
        for name, exported in _backend.exports(request.param).items():
            patch.setattr(_backend, name, exported)
        patch.setattr(fastsmaps, "BACKEND", request.param)
        yield module


@pytest.fixture
def twins(pytestconfig: pytest.Config) -> tuple[ModuleType, ModuleType]:
    """Both backends' modules, to compare them."""
    if pytestconfig.getoption("--no-extension"):
        pytest.skip("only one backend is tested")
    c, python = map(importlib.import_module, MODULES.values())
    return c, python


@pytest.fixture
def no_leak() -> Iterator[None]:
    """Fail if the test leaks a descriptor."""
    with processes.same_descriptors():
        yield


@pytest.fixture
def no_unpacked_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail if the test leaves unpacked files or descriptors behind."""
    with no_leftovers(tmp_path_factory.mktemp("unpacked")):
        yield


@pytest.fixture(scope="module")
def idle() -> Iterator[processes.Process]:
    """Idle process, shared by the tests of a module."""
    with processes.workload("idle") as child:
        yield child


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of a compiled C program with several roles."""
    try:
        return processes.compiled(tmp_path_factory.mktemp("program"))
    except linux.Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, idle: processes.Process) -> str:
    """Capture of two processes: the idle one and this one."""
    target = str(tmp_path_factory.mktemp("saved") / "two.tar.gz")
    fastsmaps.capture(target, [idle.pid, os.getpid()])
    return target
