"""open_capture() unpacks a capture, made by capture() or another program."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from fastsmaps._arguments import check_function, check_int, check_path
from fastsmaps._errors import CaptureError, Error, is_foreign
from fastsmaps._public import public
from fastsmaps._source.compressed import Damage, Decompressed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import BufferedReader

    from fastsmaps._capture.tar import Member
    from fastsmaps._output.temporary import Temporary

_MAX_DEPTH = 16  # of directories; procfs has 4: <pid>/task/<tid>/smaps
_BLOCK = 1 << 16
# Bytes that may follow an archive's end: tars are padded to 10 kB, some to a tape's block.
_MAX_PADDING = 1 << 20
# Bytes of headers for a member: one of 512 and, for a long name, another with its block.
_MAX_HEADERS = 1 << 11


@public
class open_capture:  # noqa: N801 - called like a function
    """A context manager that gives the directory of a capture, for ``procfs=``.

    A directory is given as it is. A tar, as capture() and smem's smemcap write it, is unpacked
    into a private temporary directory that is removed at the end. It may be compressed with gzip,
    xz or bzip2, or zstd (Python 3.14); this is detected from its first bytes, not from its name.

    A capture is untrusted input. Members that are neither regular files nor directories, absolute
    names, names with "..", more than `max_members` files and directories, and more than
    `max_bytes` are refused; the error names the member. Owners and modes are ignored.

    Raises CaptureError if the file cannot be read, is refused, damaged or cut off, or if there is
    no space to unpack it; TypeError and ValueError for wrong arguments. `on_error`, a function of
    one argument, is called once with the error of a damaged file instead, and the members before
    the damage can be read. A file without a complete member is an error even then.
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        *,
        on_error: Callable[[Error], object] | None = None,
        max_bytes: int = 16 << 30,
        max_members: int = 1_000_000,
    ) -> None:
        check_function("on_error", on_error)
        self._path = check_path("file", file)
        self._on_error = on_error
        self._max_bytes = check_int("max_bytes", max_bytes, 0)
        self._max_members = check_int("max_members", max_members, 0)
        self._temporary: Temporary | None = None

    def __enter__(self) -> str:
        from fastsmaps._output.temporary import temporary_directory

        path = self._path
        if self._temporary is not None:
            raise ValueError(f"{path} is open already")
        if os.path.isdir(path):
            return path
        try:
            # Made before the file is opened, which may block (a pipe): Ctrl-C leaves nothing.
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
    """Whether a file begins like a tar, compressed or not."""
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
    """Find the directory of the processes: people pack a capture's directory under its name."""
    names = os.listdir(directory)
    while len(names) == 1 and not names[0].isdecimal():
        inner = f"{directory}/{names[0]}"
        if not os.path.isdir(inner):
            break
        directory, names = inner, os.listdir(inner)
    return directory


class _Unpacking:
    """The unpacking of one archive into a private directory."""

    def __init__(self, path: str, directory: str, max_bytes: int, max_members: int) -> None:
        self._path = path
        self._directory = directory
        self._max_bytes = max_bytes
        self._max_members = max_members
        self._written = 0
        self._members = 0
        self._directories = 0  # that were made; a name may need several
        self._first = ""  # the name of the first member

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

        try:
            stream = _Stream(source, self._max_bytes + self._max_members * _MAX_HEADERS)
        except ImportError as error:
            raise CaptureError(f"{self._path} is {error}", path=self._path) from error
        try:
            headers = Headers(stream.read)
            while (member := headers.next()) is not None:
                self._take(member, stream)
            # smemcap, whose first member is meminfo, does not write the end; others always do.
            if headers.without_end and self._first != "meminfo":
                raise Damage("it is cut off")
            if not self._members:
                raise Damage("it is empty")
            # Read to the end, where the checksum of compressed data is.
            left = _MAX_PADDING
            while left > 0 and (block := stream.read(_BLOCK)):
                left -= len(block)
        except _TooLarge:
            raise CaptureError(
                f"{self._path} is larger than any capture: not unpacked", path=self._path
            ) from None

    def _take(self, member: Member, stream: _Stream) -> None:
        name = member.name
        if max(self._members, self._directories) >= self._max_members:
            raise self._too_many(name)
        if not (member.is_file or member.is_directory):
            raise self._refusal(name, "is neither a regular file nor a directory")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts or "\0" in name:
            raise self._refusal(name, "leads outside the capture")
        if len(parts) > _MAX_DEPTH:
            raise self._refusal(name, "is deeper than any procfs")
        if "self" in parts or "thread-self" in parts:
            # These names mark a procfs, whose files are trusted more than a capture's.
            raise self._refusal(name, "is not allowed in a capture")
        if not parts and member.is_file:
            raise self._refusal(name, "is not a valid name for a file")
        try:
            self._write(member, parts, stream)
        except OSError as error:
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

        # Links are never made, so none can be followed here.
        directory = self._directory
        for part in parts if member.is_directory else parts[:-1]:
            directory = f"{directory}/{part}"
            if not os.path.isdir(directory):
                if self._directories >= self._max_members:
                    raise self._too_many(member.name)
                os.mkdir(directory, 0o700)
                self._directories += 1
        if member.is_directory:
            return
        if member.size > self._max_bytes - self._written:
            raise self._too_large(member.name)
        path = f"{directory}/{parts[-1]}"
        # Not os.open(): if a signal handler raised right after it, the descriptor would leak.
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


class _TooLarge(Exception):
    """More was read than an archive of the allowed size needs."""


class _Stream:
    """An archive's decompressed bytes, at most `max_bytes` of them."""

    def __init__(self, file: BufferedReader, max_bytes: int) -> None:
        self._file = file
        self._source = Decompressed(self._more)
        self._left = max_bytes

    def read(self, size: int) -> bytes:
        """Read exactly `size` bytes, fewer only at the end."""
        chunks = []
        left = size
        while left and (chunk := self._source.read(left)):
            chunks.append(chunk)
            left -= len(chunk)
        self._left -= size - left
        if self._left < 0:
            raise _TooLarge
        return b"".join(chunks)

    def _more(self, size: int) -> bytes:
        try:
            return self._file.read1(size)
        except OSError as error:
            if is_foreign(error):
                raise
            raise Damage(error.strerror) from error
