"""--procfs: a directory, or a capture that is unpacked while the command runs."""

from __future__ import annotations

import contextlib
import os

import fastsmaps
from fastsmaps.cli.output import print_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class OpenedProcfs:
    """The directory to read, ``procfs``, and the exit ``status`` after a damaged capture."""

    def __init__(self, procfs: str) -> None:
        self.procfs = procfs
        self.status = 0

    def damaged(self, error: Exception) -> None:
        """Print the error; the members before the damage are still shown."""
        print_error(error)
        self.status = 1


@contextlib.contextmanager
def open_procfs(procfs: str) -> Iterator[OpenedProcfs]:
    """Yield the directory to read, with a capture unpacked."""
    opened = OpenedProcfs(procfs)
    if os.path.isdir(procfs) or not os.path.lexists(procfs):
        # The first read reports that it is missing.
        yield opened
        return
    with fastsmaps.open_capture(procfs, on_error=opened.damaged) as directory:
        opened.procfs = os.fspath(directory)
        yield opened
