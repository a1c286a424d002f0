"""The command as a user runs it: what tests of it have in common."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from typing import Any

import fastsmaps

COMMAND = [sys.executable, "-m", "fastsmaps"]


def environment(**more: str) -> dict[str, str]:
    """With the backend that is tested."""
    return {**os.environ, "FASTSMAPS_BACKEND": fastsmaps.BACKEND, **more}


def run(*arguments: str, status: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs it to its end, which must be as expected."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=options.pop("env", environment()),
        **options,
    )
    assert done.returncode == status, (arguments, done.stdout[-500:], done.stderr)
    assert "Traceback" not in done.stderr
    return done


def rows_of(*arguments: str, status: int = 0) -> list[dict[str, Any]]:
    """What --json says."""
    rows: list[dict[str, Any]] = json.loads(run(*arguments, "--json", status=status).stdout)
    return rows


def lines_of(*arguments: str) -> list[dict[str, str]]:
    """What --csv says."""
    return list(csv.DictReader(io.StringIO(run(*arguments, "--csv").stdout)))
