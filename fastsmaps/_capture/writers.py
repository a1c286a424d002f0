"""Where a capture is written: a directory or an archive, there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat as _modes
import time

from fastsmaps._output.files import atomic_file, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from typing import Any

_ENDINGS = {".tar": "", ".tar.gz": "gz", ".tgz": "gz", ".tar.xz": "xz"}


def target_of(path: str) -> AbstractContextManager[Directory | Archive]:
    """What to write the capture to, of the kind that the name says: there once the block has ended.

    ValueError for a name of no kind. The block raises OSError where it cannot be written; then,
    or where the block fails, nothing of it stays.
    """
    name = os.path.basename(path.rstrip("/"))
    if name in ("", ".", ".."):
        raise ValueError(f"target: the name of a new directory or archive, not {path!r}")
    kinds = [kind for ending, kind in _ENDINGS.items() if name.endswith(ending)]
    if not kinds and ".tar." in name:
        raise ValueError(f"target: {', '.join(_ENDINGS)} or a directory's name, not {path!r}")
    return _archive(path, kinds[0]) if kinds else _directory(path.rstrip("/"))


class Directory:
    """A capture as a directory."""

    def __init__(self, path: str) -> None:
        self._path = path

    def process(self, pid: int, files: dict[str, bytes], uid: int | None) -> None:
        """A process's files."""
        os.mkdir(f"{self._path}/{pid}", 0o700)
        for name, text in files.items():
            self.file(f"{pid}/{name}", text)

    def file(self, name: str, text: bytes) -> None:
        """A file that is no process's."""
        parent = self._path
        for part in name.split("/")[:-1]:
            parent = f"{parent}/{part}"
            with contextlib.suppress(FileExistsError):
                os.mkdir(parent, 0o700)
        # Not os.open(): where a signal's handler raises after it, nobody has its descriptor.
        with open(f"{self._path}/{name}", "xb", buffering=0) as file:
            os.fchmod(file.fileno(), 0o600)
            write_all(file, text)


@contextlib.contextmanager
def _directory(path: str) -> Iterator[Directory]:
    from fastsmaps._output.temporary import UNFINISHED, Temporary

    try:
        if not _modes.S_ISDIR(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "it is there, and no directory", path)
        if os.listdir(path):
            raise FileExistsError(errno.EEXIST, "the directory is not empty", path)
    except FileNotFoundError:
        pass
    temporary = Temporary(os.path.dirname(path) or ".", UNFINISHED, directory=True)
    try:
        yield Directory(temporary.path)
        # Takes the place of an empty directory; one that was filled meanwhile is an error.
        temporary.rename(path)
    finally:
        temporary.remove()


class Archive:
    """A capture as a tar, compressed or not."""

    def __init__(self, tar: Any) -> None:  # noqa: ANN401 - typeshed hides what is cleared
        self._tar = tar
        self._now = int(time.time())

    def process(self, pid: int, files: dict[str, bytes], uid: int | None) -> None:
        """A process's files."""
        # smem takes a process's user from the owner of its directory.
        self._member(str(pid), None, uid)
        for name, text in files.items():
            self._member(f"{pid}/{name}", text, uid)

    def file(self, name: str, text: bytes) -> None:
        """A file that is no process's."""
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
        # It keeps all members otherwise: 2 kB each.
        self._tar.members = []


@contextlib.contextmanager
def _archive(path: str, kind: str) -> Iterator[Archive]:
    import tarfile

    with atomic_file(path) as file:
        layers: list[Any] = []  # in the order in which they are closed
        try:
            if kind == "gz":
                import gzip

                # Level 6 is gzip's own default; Python's, 9, takes three times as long for 2 %.
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
                # What it holds does not fit either, on the disk or in memory.
                with contextlib.suppress(OSError, ValueError, MemoryError):
                    layer.close()
            raise
