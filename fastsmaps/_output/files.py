"""Atomic files: they appear complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat as _modes

from fastsmaps._arguments import check_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO
    from typing import BinaryIO

    from fastsmaps._output.temporary import Temporary

    Path = str | os.PathLike[str]


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write to, which appears at `path` when the block ends (mode 0600).

    Until then it has a temporary name in the same directory; then it replaces an existing file.
    If the block fails, nothing is left behind. Raises OSError if the file cannot be written, and
    FileExistsError for an existing path that is not a regular file: a directory, a device, or a
    symbolic link, which another user may have made.
    """
    target, temporary = _begin(path)
    try:
        with _buffered(temporary.fd) as file:
            yield file
        temporary.rename(target)
    finally:
        temporary.remove()


@contextlib.contextmanager
def _buffered(fd: int) -> Iterator[BinaryIO]:
    """Give a buffered file of the descriptor, which stays open; sync it when the block ends."""
    file = open(fd, "wb", closefd=False)
    try:
        yield file
        file.flush()
        # After a crash of the machine the name must not lead to a file that lacks its data.
        os.fsync(fd)
        file.close()
    except BaseException:
        # On a full disk the rest of its buffer fails as well: the same error.
        with contextlib.suppress(OSError):
            file.close()
        raise


def check(path: Path) -> None:
    """Raise the OSError that atomic_file() would raise now: before hours of work, not after."""
    _begin(path)[1].remove()


def _begin(path: Path) -> tuple[str, Temporary]:
    from fastsmaps._output.temporary import UNFINISHED, Temporary  # its imports take 5 ms

    target = check_path("path", path)
    try:
        if not _modes.S_ISREG(os.lstat(target).st_mode):
            raise FileExistsError(errno.EEXIST, "exists and is not a regular file", target)
    except FileNotFoundError:
        pass
    if not os.path.basename(target):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
    return target, Temporary(os.path.dirname(target) or ".", UNFINISHED)


def write_all(file: FileIO, data: bytes) -> None:
    """Write all of the data: an unbuffered file may take only a part at a time."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
