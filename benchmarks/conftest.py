"""Fixtures: the processes to measure, the turns taken, the table at the end."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import figures
import pytest
import workloads
from measuring import Benchmark, Turns

FIGURES = pytest.StashKey[list[figures.Figure]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--figures", metavar="FILE", help="write the table of figures, as Markdown, to FILE"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = []


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    rows = config.stash[FIGURES]
    if not rows:
        return
    terminalreporter.section("figures")
    terminalreporter.write(figures.markdown(rows))
    if path := config.getoption("--figures"):
        Path(path).write_text(figures.markdown(rows))


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[[figures.Figure], None]:
    """Add a Figure to the table. A missed goal is shown and does not fail the run."""
    return request.config.stash[FIGURES].append


@pytest.fixture(autouse=True)
def no_collection() -> Iterator[None]:
    """No garbage collection while anything is timed, ours or a baseline."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="session")
def pid() -> Iterator[Callable[[str], int]]:
    """Return the pid of a workload by name; each is started once, at its first use."""
    with contextlib.ExitStack() as stack:
        started: dict[str, int] = {}

        def get(name: str) -> int:
            if name not in started:
                started[name] = stack.enter_context(getattr(workloads, name)())
            return started[name]

        yield get


@pytest.fixture(scope="session")
def text(pid: Callable[[str], int]) -> bytes:
    """Text of a smaps file with 20,000 mappings."""
    return workloads.smaps(pid("many_small"))


@pytest.fixture
def turns(benchmark: Benchmark, record: Callable[[figures.Figure], None]) -> Turns:
    return Turns(benchmark, record)
