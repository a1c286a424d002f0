"""Where a data set is kept: a directory, or an object store through pyarrow's file systems.

Each replaces a file atomically: a local file is renamed, an object is put as a whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import urllib.parse
from typing import Any

import pyarrow as pa

from fastsmaps._output.files import atomic_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO, Protocol

    class Store(Protocol):
        """Files by relative path; all methods raise OSError."""

        def names(self, directory: str) -> list[str]:
            """Return the sorted names in a directory; none if it does not exist."""

        def open(self, path: str) -> Any:
            """Open a file for pyarrow."""

        def replace(self, path: str) -> contextlib.AbstractContextManager[BinaryIO]:
            """Give a file to write to, which replaces `path` when the block ends."""

        def delete(self, path: str) -> None:
            """Delete a file, and directories that are empty then."""

        def lock(self, name: str) -> object:
            """Return a lock that holds while it is referenced; BlockingIOError if it is taken."""


def store_of(target: str) -> Store:
    """Return the store of a directory, or of a URL such as s3://bucket/prefix.

    Raises ValueError for an invalid URL, OSError.
    """
    if "://" not in target:
        return LocalStore(target)
    parts = urllib.parse.urlsplit(target)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise ValueError(f"file://{parts.netloc}/ names another host: write file:///DIR")
        return LocalStore(urllib.parse.unquote(parts.path))
    from pyarrow import fs

    return ObjectStore(*fs.FileSystem.from_uri(target))


class LocalStore:
    """A directory, which is made if it does not exist (mode 0700)."""

    def __init__(self, root: str) -> None:
        self._root = root
        os.makedirs(root, 0o700, exist_ok=True)

    def names(self, directory: str) -> list[str]:
        """Return the sorted names in a directory; none if it does not exist."""
        try:
            return sorted(os.listdir(os.path.join(self._root, directory)))
        except FileNotFoundError:
            return []

    def open(self, path: str) -> Any:
        """Open a file for pyarrow."""
        return pa.OSFile(os.path.join(self._root, path), "rb")

    @contextlib.contextmanager
    def replace(self, path: str) -> Iterator[BinaryIO]:
        """Give a file to write to, which replaces `path` when the block ends."""
        target = os.path.join(self._root, path)
        os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)
        with atomic_file(target) as file:
            yield file

    def delete(self, path: str) -> None:
        """Delete a file, and directories that are empty then."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self._root, path))
        while path := os.path.dirname(path):
            try:
                os.rmdir(os.path.join(self._root, path))
            except OSError:
                return

    def lock(self, name: str) -> int:
        """Lock an empty file, since polars refuses other files in a directory of Parquet."""
        path = os.path.join(self._root, f".fastsmaps-{urllib.parse.quote(name, safe='')}.lock")
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(fd)
            raise
        return fd


class ObjectStore:
    """One of pyarrow's file systems and a directory in it."""

    def __init__(self, filesystem: Any, root: str) -> None:
        self._fs = filesystem
        self._root = root.rstrip("/")
        base = getattr(filesystem, "base_fs", filesystem)
        # An object appears when it is complete; a file must be renamed.
        self._puts = base.type_name in ("s3", "gcs", "abfs")

    def _path(self, path: str) -> str:
        return f"{self._root}/{path}" if self._root else path

    def names(self, directory: str) -> list[str]:
        """Return the sorted names in a directory; none if it does not exist."""
        from pyarrow import fs

        selector = fs.FileSelector(self._path(directory), allow_not_found=True)
        return sorted(found.base_name for found in self._fs.get_file_info(selector))

    def open(self, path: str) -> Any:
        """Open a file for pyarrow."""
        return self._fs.open_input_file(self._path(path))

    @contextlib.contextmanager
    def replace(self, path: str) -> Iterator[BinaryIO]:
        """Give a local file to write to, which replaces `path` when the block ends."""
        with tempfile.TemporaryFile() as file:
            yield file
            file.seek(0)
            target = self._path(path)
            directory, _, name = target.rpartition("/")
            if not self._puts:
                self._fs.create_dir(directory)
            written = target if self._puts else f"{directory}/.{name}.tmp"
            with self._fs.open_output_stream(written) as stream:
                while chunk := file.read(1 << 20):
                    stream.write(chunk)
            if not self._puts:
                self._fs.move(written, target)

    def delete(self, path: str) -> None:
        """Delete a file."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.delete_file(self._path(path))

    def lock(self, name: str) -> object:
        """Lock among the processes of this machine, by an abstract Unix socket."""
        import hashlib
        import socket

        digest = hashlib.sha256(f"{self._root}\0{name}".encode()).hexdigest()
        taken = socket.socket(socket.AF_UNIX)
        try:
            taken.bind(f"\0fastsmaps-collect-{digest}")
        except OSError:
            taken.close()
            raise BlockingIOError(f"{self._root} has another collector of {name}") from None
        return taken
