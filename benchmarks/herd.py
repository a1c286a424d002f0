"""Many small processes at once, those of herd.c; they end with whoever started them.

``python herd.py 1000 0`` starts a thousand by hand, until the end of its standard input.
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
    """Processes of herd.c, ready; ``pids`` in the order in which they said so."""

    def __init__(self, said: IO[bytes], count: int) -> None:
        self._said = said
        self.pids = [self._hear(b"ready") for _ in range(count)]

    def _hear(self, what: bytes) -> int:
        word, _, number = self._said.readline().partition(b" ")
        if word != what:
            raise RuntimeError("a process of the herd ended; is there room for so many?")
        return int(number)

    def grow(self, pid: int) -> None:
        """One of them takes 64 MiB more of anonymous memory, and has written it on return."""
        os.kill(pid, signal.SIGUSR1)
        assert self._hear(b"grown") == pid


@contextlib.contextmanager
def herd(count: int, mappings: int = 0, names: int | None = None) -> Iterator[Herd]:
    """``count`` small programs of some 22 mappings, and ``mappings`` more of a page each.

    With ``names`` they have so many different ones: herd-0, herd-1, ...
    """
    with tempfile.TemporaryDirectory() as directory:
        program = os.path.join(directory, "herd")
        bare.build("-o", program, str(Path(__file__).with_name("herd.c")))
        command = [program, str(count), str(mappings), *([str(names)] if names else [])]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            yield Herd(parent.stdout, count)
            # Popen's exit closes their standard input, at which they end, and waits for the parent.


def main(count: str, mappings: str = "0") -> None:
    with herd(int(count), int(mappings)) as started:
        print(*started.pids, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
