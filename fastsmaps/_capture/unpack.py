"""open_capture() unpacks what capture() and others saved."""

from __future__ import annotations

import os
from collections.abc import Callable

from fastsmaps._errors import CaptureError, Error, is_foreign
from fastsmaps._source.compressed import Damage, Decompressed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import BufferedReader

    from fastsmaps._capture.tar import Member
    from fastsmaps._output.temporary import Temporary

_DEPTH = 16  # procfs's own is 4: <pid>/task/<tid>/smaps
_BLOCK = 1 << 16
# Bytes that may follow an archive's end: tars are filled up to 10 kB, some to a tape's block.
_AFTER_END = 1 << 20
# Bytes of headers for a member: one of 512 and, for a long name, another with its block.
_HEADERS = 1 << 11


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
        self._temporary: Temporary | None = None

    def __enter__(self) -> str:
        from fastsmaps._output.temporary import temporary_directory

        path = self._path
        if self._temporary is not None:
            raise ValueError(f"{path} is open already")
        if os.path.isdir(path):
            return path
        try:
            # Before the file is opened, which may wait (a pipe): Ctrl-C then leaves nothing.
            self._temporary = temporary_directory()
            try:
                source = open(path, "rb")
            except OSError as error:
                if is_foreign(error):
                    raise
                raise CaptureError(
                    f"cannot open {path}: {error.strerror}", path=path, errno=error.errno
                ) from error
            with source:
                limits = self._max_bytes, self._max_members
                _Unpacking(path, self._temporary.path, *limits).run(source, self._on_error)
        except BaseException as error:
            self._remove()
            if isinstance(error, Error) or not isinstance(error, OSError) or is_foreign(error):
                raise
            raise CaptureError(
                f"cannot unpack {path}: {error.strerror or error}",
                path=path,
                errno=error.errno,
            ) from error
        return _top(self._temporary.path)

    def __exit__(self, *_: object) -> None:
        self._remove()

    def _remove(self) -> None:
        if self._temporary is not None:
            self._temporary.remove()
            self._temporary = None


def is_archive(path: str) -> bool:
    """Whether it is a file that begins as a tar does, compressed or not."""
    from fastsmaps._capture.tar import BLOCK, check

    try:
        with open(path, "rb") as source:
            check(_Stream(source, BLOCK).read(BLOCK))
    except (Damage, ImportError):
        return False
    except OSError as error:
        if is_foreign(error):
            raise
        return False
    return True


def _top(directory: str) -> str:
    """Where the processes are: people pack a capture's directory as a whole, under its name."""
    names = os.listdir(directory)
    while len(names) == 1 and not names[0].isdecimal():
        inner = f"{directory}/{names[0]}"
        if not os.path.isdir(inner):
            break
        directory, names = inner, os.listdir(inner)
    return directory


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
        except Damage as damage:
            error = CaptureError(f"{self._path} is damaged: {damage}", path=self._path)
            if not self._members:
                error = CaptureError(
                    f"{self._path} is not a capture (a directory or a tar archive): {damage}",
                    path=self._path,
                )
            if on_error is None or not self._members:
                raise error from damage.__cause__
            on_error(error)

    def _refusal(self, name: str, problem: str) -> CaptureError:
        return CaptureError(
            f"{self._path}: {name[:200]!r} {problem}: not unpacked", path=self._path
        )

    def _unpack(self, source: BufferedReader) -> None:
        from fastsmaps._capture.tar import Headers

        most = self._max_bytes + self._max_members * _HEADERS
        try:
            stream = _Stream(source, most)
        except ImportError as error:
            raise CaptureError(f"{self._path} is {error}", path=self._path) from error
        try:
            headers = Headers(stream.read)
            while (member := headers.next()) is not None:
                self._take(member, stream)
            # smemcap's have no end (and begin so); all others would be cut off there.
            if headers.without_end and self._first != "meminfo":
                raise Damage("it is cut off")
            if not self._members:
                raise Damage("it is empty")
            # The check sum of what was compressed comes last.
            left = _AFTER_END
            while left > 0 and (block := stream.read(_BLOCK)):
                left -= len(block)
        except _TooMuch:
            raise CaptureError(
                f"{self._path}: more than any capture holds: not unpacked", path=self._path
            ) from None

    def _take(self, member: Member, stream: _Stream) -> None:
        name = member.name
        if max(self._members, self._made) >= self._max_members:
            raise self._too_many(name)
        if not (member.is_file or member.is_directory):
            raise self._refusal(name, "is neither a regular file nor a directory")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts or "\0" in name:
            raise self._refusal(name, "leads elsewhere")
        if len(parts) > _DEPTH:
            raise self._refusal(name, "is deeper than any procfs")
        if "self" in parts or "thread-self" in parts:
            # By these a procfs is known: other files would be believed more than they may be.
            raise self._refusal(name, "is in no capture")
        if not parts and member.is_file:
            raise self._refusal(name, "is not a valid name for a file")
        try:
            self._write(member, parts, stream)
        except OSError as error:
            import errno

            if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
                raise self._refusal(name, "is a file and a directory") from None
            if error.errno == errno.ENAMETOOLONG:
                raise self._refusal(name, "is not a valid name for a file") from None
            raise
        self._members += 1
        self._first = self._first or name

    def _write(self, member: Member, parts: list[str], stream: _Stream) -> None:
        from fastsmaps._capture.tar import BLOCK
        from fastsmaps._output.files import write_all

        # Nothing here is a link, as none is made.
        directory = self._directory
        for part in parts if member.is_directory else parts[:-1]:
            directory = f"{directory}/{part}"
            if not os.path.isdir(directory):
                if self._made >= self._max_members:
                    raise self._too_many(member.name)
                os.mkdir(directory, 0o700)
                self._made += 1
        if member.is_directory:
            return
        if member.size > self._max_bytes - self._written:
            raise self._too_large(member.name)
        path = f"{directory}/{parts[-1]}"
        # Not os.open(): where a signal's handler raises after it, nobody has its descriptor.
        with open(path, "wb", buffering=0) as file:
            os.fchmod(file.fileno(), 0o600)
            try:
                left = member.size
                while left:
                    block = stream.read(min(left, _BLOCK))
                    if not block:
                        raise Damage("it is cut off")
                    left -= len(block)
                    write_all(file, block)
            except BaseException:
                os.unlink(path)
                raise
        self._written += member.size
        stream.read(-member.size % BLOCK)

    def _too_many(self, name: str) -> CaptureError:
        return self._refusal(name, f"is more than the {self._max_members} that are allowed")

    def _too_large(self, name: str) -> CaptureError:
        return self._refusal(name, f"is beyond the {self._max_bytes} bytes that are allowed")


class _TooMuch(Exception):
    """More was read than any archive of that size needs."""


class _Stream:
    """An archive's bytes without its compression, and no more of them than `most`."""

    def __init__(self, file: BufferedReader, most: int) -> None:
        self._file = file
        self._source = Decompressed(self._more)
        self._most = most

    def read(self, size: int) -> bytes:
        """So many bytes, fewer at the end alone."""
        pieces = []  # which may be of a byte each
        left = size
        while left and (more := self._source.read(left)):
            pieces.append(more)
            left -= len(more)
        self._most -= size - left
        if self._most < 0:
            raise _TooMuch
        return b"".join(pieces)

    def _more(self, size: int) -> bytes:
        try:
            return self._file.read1(size)
        except OSError as error:
            if is_foreign(error):
                raise
            raise Damage(error.strerror) from error
