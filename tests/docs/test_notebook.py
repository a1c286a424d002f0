"""The notebook in docs/: its cells run, and the repository has none of their output."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support import commands, processes

DOCS = Path(__file__).parents[2] / "docs"
NOTEBOOKS = sorted(DOCS.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_cells_run_and_show_tables(path: Path) -> None:
    pytest.importorskip("IPython")
    done = subprocess.run(
        [sys.executable, "-W", "error", DOCS / "run_notebook.py", path],
        env=commands.environment(),
        capture_output=True,
        text=True,
        timeout=processes.TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    page = done.stdout
    assert page.count('<table class="dataframe">') > 8
    for shown in ("mappings of process", "changes in ", "samples", "processes on ", "mapped files"):
        assert shown in page
    # A name in a capture that a browser or a terminal would act on, or that is not UTF-8.
    assert "\\xff" in page
    assert page.encode()


def test_a_cell_that_fails_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("IPython")
    cells = [{"cell_type": "code", "source": ["print(1)\n", "1 / 0"]}]
    (tmp_path / "bad.ipynb").write_text(json.dumps({"cells": cells}))
    done = subprocess.run(
        [sys.executable, DOCS / "run_notebook.py", tmp_path / "bad.ipynb"],
        env=commands.environment(),
        capture_output=True,
        text=True,
        timeout=processes.TIMEOUT,
        check=False,
    )
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_no_output_is_stored(path: Path) -> None:
    notebook = json.loads(path.read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
