"""capture() saves what procfs says of processes in procfs's own layout; open_capture() opens it."""

from __future__ import annotations

import os
import stat as _modes
import time

from fastsmaps import procfs as _procfs
from fastsmaps.errors import CaptureError, Error, NoMemoryMap, ProcessGone
from fastsmaps.process import Process
from fastsmaps.processes import OUTCOMES, Cost, ProcessTotals, Scan
from fastsmaps.procfs import OPEN, PIECE
from fastsmaps.scan import numbers_of, outcome_of
from fastsmaps.stat import Stat, arguments, cgroup_path, parse_stat, status_number
from fastsmaps.text import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    import tarfile
    from collections.abc import Callable, Iterable
    from io import BufferedReader, FileIO
    from typing import Any, TypeVar

    from fastsmaps.procfs import Procfs

    T = TypeVar("T")

_FORMAT = 1
_NOTES = "fastsmaps.json"
_NOTES_BYTES = 256 << 20  # of a capture that anybody may have made
_SMALL = ("comm", "statm", "status", "cmdline", "cgroup")
_MEMORY = ("maps", "smaps", "smaps_rollup")
# What a note may say of a process. That one was read its figures must show.
_UNREAD = tuple(outcome for outcome in OUTCOMES if outcome != "read")
_SYSTEM = ("meminfo", "version")
# As many as Process grants one that calls exec in a loop.
_ATTEMPTS = 20

_ENDINGS = {".tar": "", ".tar.gz": "gz", ".tgz": "gz", ".tar.xz": "xz"}
_TYPED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "lzma", b"\x28\xb5\x2f\xfd": "zstd"}

# What one archive may hold. A million files is some hundred thousand processes.
_MEMBERS = 1_000_000
_DEPTH = 16  # procfs's own is 4: <pid>/task/<tid>/smaps
_HEADER_BYTES = 1 << 20  # a member's headers: names are 4 kB at most
_BLOCK = 1 << 16


# ---- writing


def capture(
    target: str | os.PathLike[str], pids: Iterable[int] | None = None, *, procfs: Procfs = "/proc"
) -> Scan:
    """Saves what procfs says of these processes (of all, where `pids` is None).

    `target` becomes a tar where its name ends in .tar, .tar.gz, .tgz or .tar.xz (one that is
    there is replaced), otherwise a directory (one that is there must be empty). Its layout is
    procfs's (``<pid>/smaps``, ``<pid>/stat``, ...), so that every ``procfs=`` reads it as if it
    were /proc; ``fastsmaps.json`` notes what could not be read, and why. It may hold other users'
    command lines and addresses: it is for its owner alone (mode 0600 and 0700).

    All of a process is read through one open directory and is of one program: one that ends
    meanwhile is not in the capture. One process's text is in memory at a time. The target is
    there whole or not at all: until then a temporary name stands beside it.

    Gives a row for each process as scan() does, with ``cgroup`` and ``cmdline``, from the saved
    text. Raises CaptureError where it cannot be written, Error where `procfs` cannot be listed,
    TypeError and ValueError for wrong arguments. Nothing raises for one process.

    Sources: proc_pid_smaps(5), proc_pid_maps(5), proc_pid_stat(5), proc_pid_status(5).
    """
    path = os.fsdecode(target)
    root = _procfs.root(procfs)
    if isinstance(pids, int | str):
        raise TypeError(f"pids: several numbers, not {pids!r}")
    begun, cpu = time.monotonic(), time.thread_time()
    numbers = numbers_of(pids, root)
    writer = _writer(path)
    rows = []
    notes: dict[str, dict[str, Any]] = {}
    try:
        writer.begin()
        for pid in numbers:
            row, files, errors = _taken(pid, root)
            if files:
                writer.process(pid, files, row.uid)
            if row.outcome != "read" or errors:
                notes[str(pid)] = _note(row, errors)
            rows.append(row)
        taken_at = time.time()
        for name in _SYSTEM:
            text = _system_file(f"{root}/{name}")
            if text is not None:
                writer.file(name, text)
        writer.file(_NOTES, _notes_text(notes, taken_at))
        writer.finish()
    except BaseException as error:
        writer.abort()
        if isinstance(error, OSError) and not isinstance(error, Error):
            raise CaptureError(
                f"cannot write {path}: {error.strerror or error}", path=path, errno=error.errno
            ) from error
        raise
    cost = Cost(time.thread_time() - cpu, time.monotonic() - begun)
    return Scan(rows, cost=cost, taken_at=taken_at, procfs=root)


def _note(row: ProcessTotals, errors: dict[str, Error]) -> dict[str, Any]:
    note: dict[str, Any] = {"outcome": row.outcome, "error": row.error}
    if errors:
        note["files"] = {name: str(error) for name, error in errors.items()}
    return note


def _notes_text(notes: dict[str, dict[str, Any]], taken_at: float) -> bytes:
    import json

    facts = {
        "format": _FORMAT,
        "host": os.uname().nodename,
        "taken_at": taken_at,
        "processes": notes,
    }
    return json.dumps(facts, indent=1).encode("ascii") + b"\n"


def noted(procfs: str) -> dict[int, tuple[str, str]]:
    """What a capture notes of processes that could not be read: pid -> outcome, error.

    A process without text looks as if its files had been lost; only who took the capture knew
    that they were denied. Empty for a directory without notes that can be used (a procfs, another
    tool's capture): they are made of anything that claims to be a capture.
    """
    import json

    try:
        fd = os.open(f"{procfs}/{_NOTES}", OPEN | os.O_NONBLOCK)
        try:
            if os.fstat(fd).st_size > _NOTES_BYTES:
                return {}
            text = _procfs.read_file(fd)
        finally:
            os.close(fd)
        notes = json.loads(text)["processes"].items()
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
    result: dict[int, tuple[str, str]] = {}
    for pid, note in notes:
        if not isinstance(note, dict) or not pid.isdecimal() or len(pid) > 10:
            continue
        outcome, error = note.get("outcome"), note.get("error")
        if isinstance(outcome, str) and isinstance(error, str) and outcome in _UNREAD:
            result[int(pid)] = outcome, error
    return result


def _system_file(path: str) -> bytes | None:
    try:
        fd = os.open(path, OPEN)
        try:
            return _procfs.read_file(fd)
        finally:
            os.close(fd)
    except OSError:
        return None  # subset=pid has neither, nor have some captures


# ---- one process


def _taken(pid: int, root: str) -> tuple[ProcessTotals, dict[str, bytes], dict[str, Error]]:
    """A process's row, its files by their names, and why others could not be read."""
    try:
        with Process(pid, procfs=root) as process:
            for _ in range(_ATTEMPTS):
                taken = _Files(process)
                if taken.read():
                    return _row(pid, root, taken), taken.files, taken.errors
            raise process._unsteady("smaps")
    except Error as error:
        return ProcessTotals(pid, outcome_of(error), error=str(error)), {}, {}


class _Files:
    """One reading of a process's files."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.live = _procfs.is_procfs(process.procfs)
        self.files: dict[str, bytes] = {}
        self.errors: dict[str, Error] = {}
        self.stat: Stat | None = None
        self.what = ""  # "kernel thread" or "zombie", where it has no memory
        self._thread = ""

    def read(self) -> bool:
        """False where the process changed meanwhile: then nothing of it counts."""
        process = self.process
        text = process._file("stat")
        if text is None and self.live:
            raise ProcessGone(
                f"process {process.pid} has ended", pid=process.pid, path=process._path
            )
        if text is not None:
            self.files["stat"] = text
            self.stat = parse_stat(text, process.pid, f"{process._path}/stat")
        self._look()
        fds: dict[str, int] = {}
        try:
            # Opened before all else is read: if maps still gives a byte at the end, no exec
            # came between, and all is of one program.
            opened = self._open(fds)
            self._small()
            return opened and self._memory(fds) and self._is_same(fds)
        finally:
            for fd in fds.values():
                os.close(fd)

    def _look(self) -> None:
        stat = self.stat
        if stat is None:
            return
        if stat.is_kernel_thread:
            self.what = "kernel thread"
        elif stat.has_exited:
            # The main thread has left. If others live they have the memory still: saved as the
            # process's own, where every reader finds it.
            living = self.process._living()
            if living is None:
                self.what = "zombie"
            else:
                self._thread = living[0]

    def _open(self, fds: dict[str, int]) -> bool:
        if self.live and self.what:
            # As the kernel shows them; a rollup gives ESRCH (seen on 6.18).
            self.files.update(maps=b"", smaps=b"")
            return True
        for name in _MEMORY:
            try:
                fds[name] = self.process._open(self._thread + name)
            except FileNotFoundError:
                if self._thread:
                    return False
            except ProcessLookupError:
                return False
            except OSError as error:
                self.errors[name] = self.process._failure(error, name)
        return True

    def _small(self) -> None:
        for name in _SMALL:
            # Of comm and statm there is one a process; a main thread that has left has no command
            # line and no cgroup.
            thread = self._thread if name in ("status", "cmdline", "cgroup") else ""
            try:
                text = self.process._file(thread + name)
            except ProcessGone:
                raise
            except Error as error:
                self.errors[name] = error
            else:
                if text is not None:
                    self.files[name] = text

    def _memory(self, fds: dict[str, int]) -> bool:
        for name, fd in fds.items():
            try:
                text = _whole(fd)
            except ProcessLookupError:
                return False
            except OSError as error:
                self.errors[name] = self.process._failure(error, name)
                continue
            if not text and self.live:
                return False
            self.files[name] = text
        return True

    def _is_same(self, fds: dict[str, int]) -> bool:
        """Whether the process is there still, and is what it was before."""
        if not self.live:
            return True
        # The end of the file is where the memory went away as well: only a byte from its start
        # says that the text is whole.
        for name in ("maps", "smaps"):
            try:
                if name in fds and name in self.files and not os.pread(fds[name], 1, 0):
                    return False
            except ProcessLookupError:
                return False
            except OSError as error:
                self.errors[name] = self.process._failure(error, name)
                del self.files[name]
        before, after = self.stat, self.process._stat()
        assert before is not None
        # Between vfork and exec it has its parent's memory, and descriptors keep that.
        return (before.start_time, before.has_exited, before.keeps_parents_memory) == (
            after.start_time, after.has_exited, after.keeps_parents_memory,
        )  # fmt: skip


def _whole(fd: int) -> bytes:
    """The text of a memory file, in pieces of which the kernel makes no record twice."""
    blocks = []
    offset = 0
    while block := os.pread(fd, PIECE, offset):
        blocks.append(block)
        offset += len(block)
    return b"".join(blocks)


def _row(pid: int, root: str, taken: _Files) -> ProcessTotals:
    """What scan() will say of the process when it reads the capture."""
    path = f"{root}/{pid}"
    files, stat = taken.files, taken.stat
    facts: dict[str, Any] = {}
    try:
        if stat is not None:
            facts = {
                "comm": os.fsdecode(stat.comm),
                "ppid": stat.ppid,
                "start_time": stat.start_time,
            }
        if "status" in files:
            facts["uid"] = status_number(files["status"], b"Uid:", pid, f"{path}/status", place=1)
        facts["cmdline"] = arguments(files.get("cmdline", b""))
        facts["cgroup"] = cgroup_path(files.get("cgroup", b""), pid, f"{path}/cgroup")
        # A rollup is the kernel's own sum of all of it; some kernels have none.
        for name in ("smaps_rollup", "smaps"):
            if name in taken.errors:
                raise taken.errors[name]
            if files.get(name):
                totals = parse(files[name]).totals()
                return ProcessTotals(pid, "read", totals=totals, **facts)
        if taken.what:
            raise NoMemoryMap(taken.what, pid=pid, path=path)
        raise Error(f"{path}/smaps is missing or empty", pid=pid, path=f"{path}/smaps")
    except Error as error:
        return ProcessTotals(pid, outcome_of(error), error=str(error), **facts)


# ---- a directory or an archive


def _writer(path: str) -> _Directory | _Archive:
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
            _write(file, text)

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
            with contextlib.suppress(OSError, ValueError):  # what it holds does not fit either
                file.close()
        if self._temporary is not None:
            os.unlink(self._temporary)


def _taken_name(path: str, problem: str) -> CaptureError:
    import errno

    return CaptureError(f"cannot write {path}: {problem}", path=path, errno=errno.EEXIST)


def _write(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


# ---- opening


class open_capture:  # noqa: N801 - called like a function
    """A context manager that gives the directory of a capture, for ``procfs=``.

    A directory is given as it is. A tar (plain or compressed with gzip, xz or bzip2, or zstd
    where Python has it: 3.14; told by its first bytes, not by its name), as capture() and smem's
    smemcap write it, is unpacked into a private temporary directory that is removed at the end.

    What it holds may be made by anybody: whatever is neither a regular file nor a directory,
    absolute names, names with "..", more than 1,000,000 members, and more than `max_bytes`
    unpacked are refused, naming the member. Of owners and modes nothing is taken.

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
    ) -> None:
        self._path = os.fsdecode(file)
        self._on_error = on_error
        self._max_bytes = max_bytes
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
                _Unpacking(path, self._temporary, self._max_bytes).run(source, self._on_error)
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

    def __init__(self, path: str, directory: str, max_bytes: int) -> None:
        self._path = path
        self._directory = directory
        self._max_bytes = max_bytes
        self._written = 0
        self._members = 0
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
        stream = _Stream(_decompressed(source, self._path), self._max_bytes + (_MEMBERS << 11))
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
        if self._members >= _MEMBERS:
            raise self._refusal(name, f"is more than the {_MEMBERS} members that are allowed")
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

        # Nothing here is a link, as none is made.
        directory = "/".join([self._directory, *(parts if member.isdir() else parts[:-1])])
        os.makedirs(directory, 0o700, exist_ok=True)
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
                    _write(file, block)
            except BaseException:
                os.unlink(path)
                raise

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
    start = source.peek(6)[:6]
    for magic, name in _TYPED.items():
        if start.startswith(magic):
            import importlib

            module = "compression.zstd" if name == "zstd" else name
            try:
                opened: BufferedReader = importlib.import_module(module).open(source, "rb")
                return opened
            except ImportError as error:
                raise CaptureError(
                    f"{path} is compressed, and this Python has no {module}", path=path
                ) from error
    return source
