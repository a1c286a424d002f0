"""Many small processes of herd.c, which end with the program that started them.

``python herd.py 1000 0`` starts a thousand of them and runs until the end of its standard input.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import bare


class Herd:
    """Processes of herd.c that are ready; ``pids`` is in the order in which they started."""

    def __init__(self, output: IO[bytes], count: int) -> None:
        self._output = output
        self.pids = [self._wait_for(b"ready") for _ in range(count)]

    def _wait_for(self, event: bytes) -> int:
        word, _, pid = self._output.readline().partition(b" ")
        if word != event:
            raise RuntimeError("a process of the herd ended; is there memory for that many?")
        return int(pid)

    def grow(self, pid: int) -> None:
        """Make a process write 64 MiB of new anonymous memory, and wait until it has."""
        os.kill(pid, signal.SIGUSR1)
        assert self._wait_for(b"grown") == pid


@contextlib.contextmanager
def herd(count: int, mappings: int = 0, names: int | None = None) -> Iterator[Herd]:
    """Run ``count`` small programs of some 22 mappings plus ``mappings`` of one page each.

    With ``names``, they are called herd-0 to herd-(names - 1), in turn.
    """
    with tempfile.TemporaryDirectory() as directory:
        program = os.path.join(directory, "herd")
        bare.build("-o", program, str(Path(__file__).with_name("herd.c")))
        command = [program, str(count), str(mappings), *([str(names)] if names else [])]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            yield Herd(parent.stdout, count)
            # Popen.__exit__ closes their standard input, which ends them, and waits for the parent.


def main(count: str, mappings: str = "0") -> None:
    with herd(int(count), int(mappings)) as started:
        print(*started.pids, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
