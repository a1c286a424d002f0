"""Where a capture is written: a directory or an archive, there whole or not at all."""

from __future__ import annotations

import os
import stat as _modes
import time

from fastsmaps.errors import CaptureError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import FileIO
    from typing import Any

_ENDINGS = {".tar": "", ".tar.gz": "gz", ".tgz": "gz", ".tar.xz": "xz"}


def writer_of(path: str) -> _Directory | _Archive:
    """The writer for the kind that the name says; CaptureError where that cannot be there."""
    head, name = os.path.split(path.rstrip("/"))
    if name in ("", ".", ".."):
        raise ValueError(f"target: the name of a new directory or archive, not {path!r}")
    kinds = [kind for ending, kind in _ENDINGS.items() if name.endswith(ending)]
    if not kinds and ".tar." in name:
        raise ValueError(f"target: {', '.join(_ENDINGS)} or a directory's name, not {path!r}")
    head = head or "."
    return _Archive(path, head, kinds[0]) if kinds else _Directory(path, head)


class _Directory:
    """A capture as a directory."""

    def __init__(self, path: str, head: str) -> None:
        self._target = path.rstrip("/")
        self._head = head
        self._temporary: str | None = None

    def begin(self) -> None:
        import tempfile

        problem = None
        try:
            mode = os.lstat(self._target).st_mode
        except FileNotFoundError:
            pass
        else:
            if not _modes.S_ISDIR(mode):
                problem = "it is there, and no directory"
            elif os.listdir(self._target):
                problem = "the directory is not empty"
        if problem is not None:
            raise _taken_name(self._target, problem)
        self._temporary = tempfile.mkdtemp(prefix=".fastsmaps-", dir=self._head)  # mode 0700

    def process(self, pid: int, files: dict[str, bytes], uid: int | None) -> None:
        os.mkdir(f"{self._temporary}/{pid}", 0o700)
        for name, text in files.items():
            self.file(f"{pid}/{name}", text)

    def file(self, name: str, text: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(f"{self._temporary}/{name}", flags, 0o600)
        with open(fd, "wb", buffering=0) as file:
            write_all(file, text)

    def finish(self) -> None:
        assert self._temporary is not None
        # Takes the place of an empty directory; one that was filled meanwhile is an error.
        os.rename(self._temporary, self._target)
        self._temporary = None

    def abort(self) -> None:
        import shutil

        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)


class _Archive:
    """A capture as a tar, compressed or not."""

    def __init__(self, path: str, head: str, kind: str) -> None:
        self._target = path
        self._head = head
        self._kind = kind
        self._temporary: str | None = None
        # The tar, its compression and the file, in the order in which they are closed.
        self._files: list[Any] = []
        self._now = int(time.time())

    def begin(self) -> None:
        import tarfile
        import tempfile

        try:
            mode = os.lstat(self._target).st_mode
        except FileNotFoundError:
            pass
        else:
            if not _modes.S_ISREG(mode):
                raise _taken_name(self._target, "it is there, and no regular file")
        fd, self._temporary = tempfile.mkstemp(prefix=".fastsmaps-", dir=self._head)  # mode 0600
        file: Any = open(fd, "wb")
        self._files = [file]
        if self._kind == "gz":
            import gzip

            # Level 6 is gzip's own default; Python's, 9, takes three times as long for 2 %.
            file = gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file)
            self._files.insert(0, file)
        elif self._kind == "xz":
            import lzma

            file = lzma.LZMAFile(file, "wb", preset=2)
            self._files.insert(0, file)
        self._files.insert(0, tarfile.TarFile(fileobj=file, mode="w"))

    def process(self, pid: int, files: dict[str, bytes], uid: int | None) -> None:
        # smem takes a process's user from the owner of its directory.
        self._member(str(pid), None, uid)
        for name, text in files.items():
            self._member(f"{pid}/{name}", text, uid)

    def file(self, name: str, text: bytes) -> None:
        self._member(name, text, None)

    def _member(self, name: str, text: bytes | None, uid: int | None) -> None:
        import io
        import tarfile

        member = tarfile.TarInfo(name)
        member.mtime = self._now
        member.uid = uid or 0
        if text is None:
            member.type, member.mode = tarfile.DIRTYPE, 0o700
            self._files[0].addfile(member)
        else:
            member.size, member.mode = len(text), 0o600
            self._files[0].addfile(member, io.BytesIO(text))
        # It keeps all members otherwise: 2 kB each.
        self._files[0].members = []

    def finish(self) -> None:
        assert self._temporary is not None
        while self._files:
            self._files[0].close()
            del self._files[0]
        os.replace(self._temporary, self._target)
        self._temporary = None

    def abort(self) -> None:
        import contextlib

        for file in self._files:
            # What it holds does not fit either, on the disk or in memory.
            with contextlib.suppress(OSError, ValueError, MemoryError):
                file.close()
        if self._temporary is not None:
            os.unlink(self._temporary)


def _taken_name(path: str, problem: str) -> CaptureError:
    import errno

    return CaptureError(f"cannot write {path}: {problem}", path=path, errno=errno.EEXIST)


def write_all(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
