"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat as _modes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO
    from typing import BinaryIO

    from fastsmaps._output.temporary import Temporary

    Path = str | os.PathLike[str]


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, that has its name once the block has ended; for its owner alone.

    Until then a temporary name stands beside it, which takes the place of a file that had the
    name. Anything but a regular file (a directory, a device, a symbolic link that somebody else
    may have put there) is left alone: FileExistsError. OSError where it cannot be written; then,
    or where the block fails, nothing of it stays.
    """
    target, temporary = _begun(path)
    try:
        with _buffered(temporary.fd) as file:
            yield file
        temporary.rename(target)
    finally:
        temporary.remove()


@contextlib.contextmanager
def _buffered(fd: int) -> Iterator[BinaryIO]:
    """A file of the descriptor, which stays open; on the disk once the block has ended."""
    file = open(fd, "wb", closefd=False)
    try:
        yield file
        file.flush()
        # After a crash of the machine the name must not lead to a file without its data.
        os.fsync(fd)
        file.close()
    except BaseException:
        # On a full disk what is left in its buffer fails once more: that is no other error.
        with contextlib.suppress(OSError):
            file.close()
        raise


def check(path: Path) -> None:
    """The OSError that atomic_file() would raise now: before hours of work, not after."""
    _begun(path)[1].remove()


def _begun(path: Path) -> tuple[str, Temporary]:
    from fastsmaps._output.temporary import UNFINISHED, Temporary  # 5 ms, for those who write

    target = os.fsdecode(path)
    try:
        if not _modes.S_ISREG(os.lstat(target).st_mode):
            raise FileExistsError(errno.EEXIST, "it is there, and no regular file", target)
    except FileNotFoundError:
        pass
    if not os.path.basename(target):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
    return target, Temporary(os.path.dirname(target) or ".", UNFINISHED)


def write_all(file: FileIO, data: bytes) -> None:
    """Writes all of it: a write to a file without a buffer may take a part."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
