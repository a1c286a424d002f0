"""The start of an interpreter: imports and whole commands, compared with ``python -c ''``."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import venv
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from fresh import timed
from measuring import Turns, environment
from results import Result

import fastsmaps

ROUNDS = 100


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an environment with both packages, as pip installs them; return its programs.

    An editable installation would import pathlib, re and others before anything is measured.
    """
    place = tmp_path_factory.mktemp("installed")
    venv.create(place, symlinks=True)
    (packages,) = place.glob("lib/python*/site-packages")
    for file in (fastsmaps.__file__, psutil.__file__):
        assert file is not None
        package = Path(file).parent
        (packages / package.name).symlink_to(package)
    script = place / "bin/fastsmaps"
    script.write_text(
        f"#!{place}/bin/python\nimport sys\nfrom fastsmaps.cli.main import entry\n"
        "if __name__ == '__main__':\n    sys.exit(entry())\n"
    )
    script.chmod(0o700)
    return place / "bin"


def run(program: Path, *arguments: str) -> None:
    """Run a program to its end, its output discarded."""
    child = {**environment(), "PYTHONPATH": ""}
    null = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    pid = os.posix_spawn(program, [str(program), *arguments], child, file_actions=null)
    assert os.waitpid(pid, 0)[1] == 0


def test_import(turns: Turns, installed: Path) -> None:
    """Time a whole interpreter that imports a package, less one that imports nothing."""
    python = installed / "python"
    run(python, "-c", f"import fastsmaps; assert fastsmaps.BACKEND == {fastsmaps.BACKEND!r}")
    run(python, "-c", "import fastsmaps; assert fastsmaps.totals().rss")
    run(python, "-c", f"import psutil; assert psutil.__version__ == {psutil.__version__!r}")

    def start(code: str) -> Callable[[], float]:
        return lambda: timed(lambda: run(python, "-c", code))

    times = turns.take(
        lambda: run(python, "-c", "import fastsmaps"),
        {
            "bare": start(""),
            "psutil": start("import psutil"),
            "totals": start("import fastsmaps; fastsmaps.totals()"),
        },
        ROUNDS,
    )
    if not times:
        return
    bare = statistics.median(times["bare"])
    beyond = {name: (statistics.median(ns) - bare) / 1e6 for name, ns in times.items()}
    turns.show(
        Result(
            "import fastsmaps, beyond python -c ''",
            f"{beyond['ours']:.1f} ms",
            f"{beyond['psutil']:.1f} ms, import psutil",
            beyond["ours"] / beyond["psutil"],
            0.2,
            also=f"python -c '' {bare / 1e6:.1f} ms; with totals() {beyond['totals']:.1f} ms",
        )
    )


@pytest.mark.parametrize(("command", "goal"), [("totals", 2.1), ("ps", float("inf"))])
def test_command(
    turns: Turns, pid: Callable[[str], int], installed: Path, command: str, goal: float
) -> None:
    number = pid("ordinary")
    arguments = [command, str(number)] if command == "totals" else [command]
    output = subprocess.run(
        [installed / "fastsmaps", *arguments, "--json"], stdout=subprocess.PIPE, check=True
    ).stdout
    rss = {row["pid"]: row["rss"] for row in json.loads(output)}
    assert rss[number] == fastsmaps.totals(number).rss
    turns.ratio(
        f"fastsmaps {command}{' PID' if command == 'totals' else ''}, whole command",
        lambda: run(installed / "fastsmaps", *arguments),
        lambda: timed(lambda: run(installed / "python", "-c", "")),
        against="python -c ''",
        goal=goal,
        rounds=ROUNDS,
        also={
            "import fastsmaps": lambda: timed(
                lambda: run(installed / "python", "-c", "import fastsmaps")
            )
        },
        note=f"{len(rss)} processes" if command == "ps" else "",
    )
