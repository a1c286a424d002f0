"""--procfs: a directory as it is, a capture opened for as long as the command runs."""

from __future__ import annotations

import contextlib
import os

import fastsmaps
from fastsmaps.cli.output import complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Replay:
    """Where to read: ``procfs``, and the ``status`` that damage of a capture leads to."""

    def __init__(self, procfs: str) -> None:
        self.procfs = procfs
        self.status = 0

    def damaged(self, error: Exception) -> None:
        """What is whole is shown nevertheless."""
        complain(error)
        self.status = 1


@contextlib.contextmanager
def opened(procfs: str) -> Iterator[Replay]:
    """The directory to read."""
    replay = Replay(procfs)
    if os.path.isdir(procfs) or not os.path.lexists(procfs):
        # What is not there is told of by whoever reads it.
        yield replay
        return
    with fastsmaps.open_capture(procfs, on_error=replay.damaged) as directory:
        replay.procfs = os.fspath(directory)
        yield replay
