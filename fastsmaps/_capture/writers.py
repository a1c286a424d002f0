"""Atomic writing of a capture, as a directory or an archive."""

from __future__ import annotations

import contextlib
import errno
import os
import stat as _modes
import time

from fastsmaps._arguments import wrong
from fastsmaps._output.files import atomic_file, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from typing import Any

_ENDINGS = {".tar": "", ".tar.gz": "gz", ".tgz": "gz", ".tar.xz": "xz"}


def target_of(path: str) -> AbstractContextManager[Directory | Archive]:
    """Give the target to write the capture to; its name says of which kind it is.

    The target appears when the block ends; if the block fails nothing is left behind. Raises
    ValueError for a wrong name, OSError if the target cannot be written.
    """
    name = os.path.basename(path.rstrip("/"))
    if name in ("", ".", ".."):
        raise wrong("target", "the name of a new directory or archive", path, str)
    kinds = [kind for ending, kind in _ENDINGS.items() if name.endswith(ending)]
    if not kinds and ".tar." in name:
        raise wrong("target", f"a directory's name or end in {', '.join(_ENDINGS)}", path, str)
    return _archive(path, kinds[0]) if kinds else _directory(path.rstrip("/"))


class Directory:
    """A capture as a directory."""

    def __init__(self, path: str) -> None:
        self._path = path

    def process(self, pid: int, files: dict[str, bytes], uid: int | None) -> None:
        """Write a process's files."""
        os.mkdir(f"{self._path}/{pid}", 0o700)
        for name, text in files.items():
            self.file(f"{pid}/{name}", text)

    def file(self, name: str, text: bytes) -> None:
        """Write a file that does not belong to a process."""
        parent = self._path
        for part in name.split("/")[:-1]:
            parent = f"{parent}/{part}"
            with contextlib.suppress(FileExistsError):
                os.mkdir(parent, 0o700)
        # Not os.open(): if a signal handler raised right after it, the descriptor would leak.
        with open(f"{self._path}/{name}", "xb", buffering=0) as file:
            os.fchmod(file.fileno(), 0o600)
            write_all(file, text)


@contextlib.contextmanager
def _directory(path: str) -> Iterator[Directory]:
    from fastsmaps._output.temporary import UNFINISHED, Temporary

    try:
        if not _modes.S_ISDIR(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "exists and is not a directory", path)
        if os.listdir(path):
            raise FileExistsError(errno.EEXIST, "the directory is not empty", path)
    except FileNotFoundError:
        pass
    temporary = Temporary(os.path.dirname(path) or ".", UNFINISHED, directory=True)
    try:
        yield Directory(temporary.path)
        # Replaces an empty directory; if it was filled in the meantime, this is an error.
        temporary.rename(path)
    finally:
        temporary.remove()


class Archive:
    """A capture as a tar, compressed or not."""

    def __init__(self, tar: Any) -> None:  # noqa: ANN401 - typeshed hides tar.members
        self._tar = tar
        self._now = int(time.time())

    def process(self, pid: int, files: dict[str, bytes], uid: int | None) -> None:
        """Write a process's files."""
        # smem takes a process's user from the owner of its directory.
        self._member(str(pid), None, uid)
        for name, text in files.items():
            self._member(f"{pid}/{name}", text, uid)

    def file(self, name: str, text: bytes) -> None:
        """Write a file that does not belong to a process."""
        self._member(name, text, None)

    def _member(self, name: str, text: bytes | None, uid: int | None) -> None:
        import io
        import tarfile

        member = tarfile.TarInfo(name)
        member.mtime = self._now
        member.uid = uid or 0
        if text is None:
            member.type, member.mode = tarfile.DIRTYPE, 0o700
            self._tar.addfile(member)
        else:
            member.size, member.mode = len(text), 0o600
            self._tar.addfile(member, io.BytesIO(text))
        # Otherwise the tar keeps all members, 2 kB each.
        self._tar.members = []


@contextlib.contextmanager
def _archive(path: str, kind: str) -> Iterator[Archive]:
    import tarfile

    with atomic_file(path) as file:
        layers: list[Any] = []  # in the order in which they are closed
        try:
            if kind == "gz":
                import gzip

                # Level 6 is gzip's default; Python's default 9 takes three times as long for 2 %.
                layers = [gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file)]
            elif kind == "xz":
                import lzma

                layers = [lzma.LZMAFile(file, "wb", preset=2)]
            tar = tarfile.TarFile(fileobj=layers[0] if layers else file, mode="w")
            layers.insert(0, tar)
            yield Archive(tar)
            while layers:
                layers[0].close()
                del layers[0]
        except BaseException:
            for layer in layers:
                # The rest of its buffer fails as well, on a full disk or without memory.
                with contextlib.suppress(OSError, ValueError, MemoryError):
                    layer.close()
            raise
