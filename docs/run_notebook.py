"""Run a notebook, and print it as Markdown with the output of its cells.

    python docs/run_notebook.py docs/notebook-tour.ipynb

The hook of mkdocs inserts the result into a page, so the repository has no outputs. A cell that
raises an exception ends the run with exit status 1.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config


def outputs(shell: InteractiveShell, code: str) -> Iterator[str]:
    """Run a cell and yield its outputs as blocks of Markdown."""
    # Inside the trap, run_cell() leaves the captured display hook in place.
    with shell.display_trap, capture_output() as captured:
        result = shell.run_cell(code)  # type: ignore[no-untyped-call]  # IPython has no types
    if result.error_before_exec or result.error_in_exec:
        sys.exit(captured.stdout + captured.stderr)
    if captured.stdout:
        yield f"```text\n{captured.stdout.rstrip()}\n```"
    for output in captured.outputs:
        yield output.data.get("text/html") or f"```text\n{output.data['text/plain']}\n```"


def markdown(notebook: dict[str, Any]) -> Iterator[str]:
    """Yield the cells of a notebook, and their outputs, as blocks of Markdown."""
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    shell = InteractiveShell.instance(config=config)
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield source
        else:
            yield f"```python\n{source}\n```"
            yield from outputs(shell, source)


def main(path: Path) -> None:
    """Print the notebook; its cells run in its directory, as in Jupyter."""
    notebook = json.loads(path.read_text())
    os.chdir(path.parent)
    # Not those of the user, and no directory that stays.
    with tempfile.TemporaryDirectory() as settings:
        os.environ["IPYTHONDIR"] = settings
        print("\n\n".join(markdown(notebook)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
