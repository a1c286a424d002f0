"""Fixtures for workloads and timing, and the table of results at the end."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import results
import workloads
from measuring import Benchmark, Turns

RESULTS = pytest.StashKey[list[results.Result]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--results", metavar="FILE", help="write the table of results to FILE, as Markdown"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RESULTS] = []


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    rows = config.stash[RESULTS]
    if not rows:
        return
    terminalreporter.section("results")
    terminalreporter.write(results.markdown(rows))
    if path := config.getoption("--results"):
        Path(path).write_text(results.markdown(rows))


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[[results.Result], None]:
    """Add a Result to the table. A missed goal is shown but does not fail the run."""
    return request.config.stash[RESULTS].append


@pytest.fixture(autouse=True)
def no_collection() -> Iterator[None]:
    """Disable garbage collection while anything is timed, including the baselines."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="session")
def pid() -> Iterator[Callable[[str], int]]:
    """Return a function from a workload's name to its pid; the first use starts the workload."""
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
def turns(benchmark: Benchmark, record: Callable[[results.Result], None]) -> Turns:
    """Time by pytest-benchmark, in turns with a baseline."""
    return Turns(benchmark, record)
