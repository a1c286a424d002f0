"""--procfs: a directory, or a capture that is unpacked while the command runs."""

from __future__ import annotations

import os

import fastsmaps
from fastsmaps.cli.output import print_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastsmaps._capture.unpack import open_capture


class open_procfs:  # noqa: N801 - called like a function
    """The directory to read, ``procfs``; a capture is unpacked in the block.

    ``status`` is the command's exit status so far: 1 after a damaged capture.
    """

    def __init__(self, procfs: str) -> None:
        self.procfs = procfs
        self.status = 0
        self._capture: open_capture | None = None

    def __enter__(self) -> open_procfs:
        # If it is missing, the first read reports that.
        if os.path.lexists(self.procfs) and not os.path.isdir(self.procfs):
            self._capture = fastsmaps.open_capture(self.procfs, on_error=self._damaged)
            self.procfs = os.fspath(self._capture.__enter__())
        return self

    def __exit__(self, *error: object) -> None:
        if self._capture is not None:
            self._capture.__exit__(*error)

    def _damaged(self, error: Exception) -> None:
        """Print the error; the members before the damage are still shown."""
        print_error(error)
        self.status = 1
