"""open_capture() unpacks what capture() and others saved."""

from __future__ import annotations

import os

from fastsmaps.compressed import START, opener
from fastsmaps.errors import CaptureError, Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    import tarfile
    from collections.abc import Callable
    from io import BufferedReader
    from typing import TypeVar

    T = TypeVar("T")

_DEPTH = 16  # procfs's own is 4: <pid>/task/<tid>/smaps
_HEADER_BYTES = 1 << 20  # a member's headers: names are 4 kB at most
_BLOCK = 1 << 16


class open_capture:  # noqa: N801 - called like a function
    """A context manager that gives the directory of a capture, for ``procfs=``.

    A directory is given as it is. A tar (plain or compressed with gzip, xz or bzip2, or zstd
    where Python has it: 3.14; told by its first bytes, not by its name), as capture() and smem's
    smemcap write it, is unpacked into a private temporary directory that is removed at the end.

    What it holds may be made by anybody: whatever is neither a regular file nor a directory,
    absolute names, names with "..", more than `max_members` files and directories, and
    more than `max_bytes` are refused, naming the member. Of owners and modes nothing is taken.

    Raises CaptureError where the file cannot be read, is refused, damaged or cut off, or where
    there is no space to unpack it. With `on_error`, a
    function of one argument, the error of a damaged file is given to it instead, once, and the
    members before the damage are there to be read; what has no whole member is an error
    nevertheless.
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        *,
        on_error: Callable[[Error], object] | None = None,
        max_bytes: int = 16 << 30,
        max_members: int = 1_000_000,
    ) -> None:
        self._path = os.fsdecode(file)
        self._on_error = on_error
        self._max_bytes = max_bytes
        self._max_members = max_members
        self._temporary: str | None = None

    def __enter__(self) -> str:
        import tempfile

        path = self._path
        if self._temporary is not None:
            raise ValueError(f"{path} is open already")
        if os.path.isdir(path):
            return path
        try:
            # Before the file is opened, which may wait (a pipe): Ctrl-C then leaves nothing.
            self._temporary = tempfile.mkdtemp(prefix="fastsmaps-")
            try:
                source = open(path, "rb")
            except OSError as error:
                raise CaptureError(
                    f"cannot open {path}: {error.strerror}", path=path, errno=error.errno
                ) from error
            with source:
                limits = self._max_bytes, self._max_members
                _Unpacking(path, self._temporary, *limits).run(source, self._on_error)
        except BaseException as error:
            self._remove()
            if isinstance(error, OSError) and not isinstance(error, Error):
                raise CaptureError(
                    f"cannot unpack {path}: {error.strerror or error}",
                    path=path,
                    errno=error.errno,
                ) from error
            raise
        return _top(self._temporary)

    def __exit__(self, *_: object) -> None:
        self._remove()

    def _remove(self) -> None:
        import shutil

        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None


def _top(directory: str) -> str:
    """Where the processes are: people pack a capture's directory as a whole, under its name."""
    names = os.listdir(directory)
    while len(names) == 1 and not names[0].isdecimal():
        inner = f"{directory}/{names[0]}"
        if not os.path.isdir(inner):
            break
        directory, names = inner, os.listdir(inner)
    return directory


class _Damage(Exception):
    """The archive cannot be read any further."""


class _Unpacking:
    """An archive on its way into a directory of our own."""

    def __init__(self, path: str, directory: str, max_bytes: int, max_members: int) -> None:
        self._path = path
        self._directory = directory
        self._max_bytes = max_bytes
        self._max_members = max_members
        self._written = 0
        self._members = 0
        self._made = 0  # directories too, of which a name may ask for several
        self._first = ""

    def run(self, source: BufferedReader, on_error: Callable[[Error], object] | None) -> None:
        try:
            self._unpack(source)
        except _Damage as damage:
            error = CaptureError(f"{self._path} is damaged: {damage}", path=self._path)
            if not self._members:
                error = CaptureError(f"{self._path} is no capture: {damage}", path=self._path)
            if on_error is None or not self._members:
                raise error from damage.__cause__
            on_error(error)

    def _refusal(self, name: str, problem: str) -> CaptureError:
        return CaptureError(
            f"{self._path}: {name[:200]!r} {problem}: not unpacked", path=self._path
        )

    def _unpack(self, source: BufferedReader) -> None:
        stream = _Stream(
            _decompressed(source, self._path), self._max_bytes + (self._max_members << 11)
        )
        try:
            tar = self._step(lambda: _tar(stream))
            while (member := self._step(lambda: self._next(tar, stream))) is not None:
                self._take(tar, member, stream)
            if not self._members:
                raise _Damage("it is empty")
            # The check sum of what was compressed comes last; tars are filled up to 10 kB.
            stream.allow()
            while self._step(lambda: stream.read(_BLOCK)) and stream.left > _BLOCK:
                pass
        except _TooMuch:
            raise CaptureError(
                f"{self._path}: more than any capture holds: not unpacked", path=self._path
            ) from None
        finally:
            stream.close()

    def _step(self, read: Callable[[], T]) -> T:
        """What a library of Python makes of the file, whose errors are of any kind."""
        try:
            return read()
        except (_Damage, _TooMuch, MemoryError):
            raise
        except Exception as error:
            raise _Damage(str(error) or type(error).__name__) from error

    def _next(self, tar: tarfile.TarFile, stream: _Stream) -> tarfile.TarInfo | None:
        stream.allow()
        member = tar.next()
        tar.members = []  # type: ignore[attr-defined]  # it keeps all of them otherwise
        if member is None and stream.ended_without_end:  # noqa: SIM102
            # smemcap's have no end (and begin so); all others would be cut off there.
            if self._first != "meminfo":
                raise _Damage("it is cut off")
        return member

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo, stream: _Stream) -> None:
        name = member.name
        if max(self._members, self._made) >= self._max_members:
            raise self._too_many(name)
        if member.issparse() or not (member.isreg() or member.isdir()):
            raise self._refusal(name, "is neither a regular file nor a directory")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts or "\0" in name:
            raise self._refusal(name, "leads elsewhere")
        if len(parts) > _DEPTH:
            raise self._refusal(name, "is deeper than any procfs")
        if "self" in parts or "thread-self" in parts:
            # By these a procfs is known: other files would be believed more than they may be.
            raise self._refusal(name, "is in no capture")
        if parts:
            try:
                self._write(tar, member, parts, stream)
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                raise self._refusal(name, "is a file and a directory") from None
            except (ValueError, OSError) as error:
                import errno

                if isinstance(error, OSError) and error.errno != errno.ENAMETOOLONG:
                    raise
                raise self._refusal(name, "is no name for a file") from None
        self._members += 1
        self._first = self._first or name

    def _write(
        self, tar: tarfile.TarFile, member: tarfile.TarInfo, parts: list[str], stream: _Stream
    ) -> None:
        from functools import partial

        from fastsmaps.files import write_all  # what it imports takes 5 ms

        # Nothing here is a link, as none is made.
        directory = self._directory
        for part in parts if member.isdir() else parts[:-1]:
            directory = f"{directory}/{part}"
            if not os.path.isdir(directory):
                if self._made >= self._max_members:
                    raise self._too_many(member.name)
                os.mkdir(directory, 0o700)
                self._made += 1
        if member.isdir():
            return
        if member.size > self._max_bytes - self._written:
            raise self._too_large(member.name)
        path = f"{directory}/{parts[-1]}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        data = tar.extractfile(member)
        assert data is not None
        with open(os.open(path, flags, 0o600), "wb", buffering=0) as file:
            try:
                left = member.size
                while left:
                    stream.allow()
                    block = self._step(partial(data.read, min(left, _BLOCK)))
                    if not block:
                        raise _Damage("it is cut off")
                    left -= len(block)
                    self._written += len(block)
                    if self._written > self._max_bytes:
                        raise self._too_large(member.name)
                    write_all(file, block)
            except BaseException:
                os.unlink(path)
                raise

    def _too_many(self, name: str) -> CaptureError:
        return self._refusal(name, f"is more than the {self._max_members} that are allowed")

    def _too_large(self, name: str) -> CaptureError:
        return self._refusal(name, f"is beyond the {self._max_bytes} bytes that are allowed")


class _TooMuch(Exception):
    """More was read than any archive of that size needs."""


class _Stream:
    """A file that gives no more than it was told to, as tarfile reads headers of any size."""

    def __init__(self, file: BufferedReader, most: int) -> None:
        self._file = file
        self.left = _HEADER_BYTES
        self._most = most
        self.ended_without_end = False

    def allow(self) -> None:
        self.left = _HEADER_BYTES

    def read(self, size: int) -> bytes:
        # All that a decompressor has before it meets the damage.
        data = self._file.read1(min(size, _HEADER_BYTES))
        self.left -= len(data)
        self._most -= len(data)
        if self.left < 0 or self._most < 0:
            raise _TooMuch
        return data

    def close(self) -> None:
        self._file.close()


def _tar(stream: _Stream) -> tarfile.TarFile:
    import tarfile

    class Member(tarfile.TarInfo):
        """tarfile takes a damaged header for the end of the archive; here it is told."""

        @classmethod
        def fromtarfile(cls, tar: tarfile.TarFile) -> Member:
            try:
                return super().fromtarfile(tar)
            except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
                raise
            except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
                stream.ended_without_end = True
                raise
            except tarfile.HeaderError as error:
                raise _Damage(str(error)) from error

    return tarfile.open(fileobj=stream, mode="r|", tarinfo=Member)  # type: ignore[call-overload,no-any-return]


def _decompressed(source: BufferedReader, path: str) -> BufferedReader:
    """The file without its compression, which is closed by whoever opened it."""
    try:
        opened = opener(source.peek(START)[:START])
    except ImportError as error:
        raise CaptureError(f"{path} is {error}", path=path) from error
    return source if opened is None else opened(source, "rb")
