"""capture() saves processes' files in procfs's own layout; unpack.py opens them again."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable

from fastsmaps._arguments import Procfs, check_function, check_path
from fastsmaps._errors import (
    CaptureError,
    Error,
    NoMemoryMap,
    NotCaptured,
    ProcessGone,
    is_foreign,
    outcome_of,
)
from fastsmaps._host.sharing import Sharing, in_order, member_of, related
from fastsmaps._host.texts import Shared
from fastsmaps._host.workers import counted
from fastsmaps._model.process_totals import ProcessTotals, counted_in, member_of_row
from fastsmaps._model.processes import Cost, Scan
from fastsmaps._model.stat import Stat, parse_stat, status_number, texts_of
from fastsmaps._public import public
from fastsmaps._source.chunks import CHUNK_SIZE
from fastsmaps._source.metadata import METADATA, metadata_text
from fastsmaps._source.process_dir import ProcessDir
from fastsmaps._source.process_files import ATTEMPTS
from fastsmaps._source.source import MAX_MAP_COUNT, Source
from fastsmaps._source.text import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from fastsmaps._model.sharing import Member

    T = TypeVar("T")

_SMALL_FILES = ("comm", "statm", "status", "cmdline", "cgroup")
_MEMORY_FILES = ("maps", "smaps", "smaps_rollup")
_SYSTEM_FILES = ("meminfo", "version", MAX_MAP_COUNT)
_MAX_LINE = 1 << 24  # bytes


@public
def capture(
    target: str | os.PathLike[str],
    pids: Iterable[int] | None = None,
    *,
    procfs: Procfs = "/proc",
    progress: Callable[[int, int], object] | None = None,
) -> Scan:
    """Save the files of these processes (all processes if `pids` is None).

    `target` becomes a tar if its name ends in .tar, .tar.gz, .tgz or .tar.xz (an existing one is
    replaced), otherwise a directory (an existing one must be empty). It has procfs's layout
    (``<pid>/smaps``, ``<pid>/stat``, ...), so that every ``procfs=`` reads it as if it were /proc;
    ``fastsmaps.json`` notes what could not be read, and why. It may hold other users' command
    lines and addresses, so only its owner can read it (mode 0600 and 0700).

    All files of a process are read through one open directory and belong to one program. A
    process that ends while it is read is left out. The text of one process at a time is in
    memory. Writing is atomic: until all is written, the target has a temporary name in the same
    directory. An archive is synced to disk before it is renamed; a directory's files are not.

    Returns a row for each process as scan() does, with ``cgroup`` and ``cmdline``, from the saved
    text. A process that shares all its memory with another one is saved too; the notes say so,
    so that sums count it once. `progress` is called with the number of processes that are done
    and the number of all.

    Raises CaptureError if the target cannot be written, NotProcfs, AccessDenied or ReadError if
    `procfs` cannot be listed, TypeError and ValueError for wrong arguments. A process that cannot
    be read raises nothing.

    Sources: proc_pid_smaps(5), proc_pid_maps(5), proc_pid_stat(5), proc_pid_status(5).
    """
    from fastsmaps._capture.writers import target_of  # its imports take 10 ms

    path = check_path("target", target)
    source = Source(procfs)
    check_function("progress", progress)
    begun, cpu = time.monotonic(), time.thread_time()
    numbers = source.select(pids)
    writing = target_of(path)
    rows: list[ProcessTotals] = []
    shared = Shared()
    sharing = Sharing(source)
    notes: dict[str, dict[str, Any]] = {}
    try:
        with writing as saved:
            for pid in counted(numbers, progress):
                row, files, errors = _read_process(pid, source, sharing)
                row = source.metadata.complete(row)
                if files:
                    saved.process(pid, files, row.uid)
                if row.outcome != "read" or errors:
                    notes[str(pid)] = _note(row, errors)
                rows.append(shared.fit(row))
                if shared.is_full:
                    rows = shared.refit(rows)
            _settle(rows, sharing, notes)
            taken_at = time.time()
            for name in _SYSTEM_FILES:
                text = source.read_optional(name)  # mounted with subset=pid, procfs lacks them
                if text is not None:
                    saved.file(name, text)
            known = not sharing.unknown
            saved.file(METADATA, metadata_text(notes, *source.origin(taken_at), known))
    except Error:
        raise
    except OSError as error:
        if is_foreign(error):
            raise
        raise CaptureError(
            f"cannot write {path}: {error.strerror or error}", path=path, errno=error.errno
        ) from error
    cost = Cost(time.thread_time() - cpu, time.monotonic() - begun)
    return Scan(
        rows,
        cost=cost,
        taken_at=taken_at,
        procfs=source.path,
        host=source.origin(taken_at)[0],
        hidden_by=source.hidden_by() if pids is None else None,
        sharing_known=known,
    )


def _settle(rows: list[ProcessTotals], sharing: Sharing, notes: dict[str, dict[str, Any]]) -> None:
    """Mark processes that share their memory with another saved one, in rows and notes."""
    places = {row.pid: i for i, row in enumerate(rows)}
    members = related(filter(None, map(member_of_row, rows)))
    for group in sharing.groups(members.values(), trusted=True):
        order = in_order(group)
        counted = next((member for member in order if member.read), None)
        for member in order:
            if counted is not None and member is not counted:
                place = places[member.pid]
                row = rows[place] = counted_in(rows[place], counted.pid)
                note = notes.setdefault(str(member.pid), {})
                note.update(_note(row, {}), shares_memory_with=counted.pid)


def _note(row: ProcessTotals, errors: dict[str, Error]) -> dict[str, Any]:
    note: dict[str, Any] = {"outcome": row.outcome, "error": row.error}
    if errors:
        note["files"] = {name: str(error) for name, error in errors.items()}
    return note


# ---- one process


def _read_process(
    pid: int, source: Source, sharing: Sharing
) -> tuple[ProcessTotals, dict[str, bytes], dict[str, Error]]:
    """Read a process: its row, its files by name, and the errors of files by name."""
    try:
        with ProcessDir(source, pid) as process:
            for _ in range(ATTEMPTS):
                # Decided before the process is read: see sharing.py.
                member = member_of(process)
                answer = None
                if member is not None and member.forked:
                    answer = sharing.same(member, member.ppid)
                taken = _Files(process)
                if taken.read():
                    row = _row(pid, source, taken)
                    return _with_member(row, member, answer, taken), taken.files, taken.errors
            raise process.unsteady("smaps")
    except Error as error:
        return ProcessTotals(pid, outcome_of(error), error=str(error)), {}, {}


def _with_member(
    row: ProcessTotals, member: Member | None, answer: bool | None, taken: _Files
) -> ProcessTotals:
    if member is None:
        return row
    member.read = row.totals is not None
    # It may have called exec since then.
    member.forked = taken.stat is not None and taken.stat.keeps_parents_memory
    member.linked, member.apart = answer is True, answer is False
    return row.replace(member=member)


class _Files:
    """One attempt to read a process's files."""

    def __init__(self, process: ProcessDir) -> None:
        self.process = process
        self.live = not process.source.is_capture
        self.files: dict[str, bytes] = {}
        self.errors: dict[str, Error] = {}
        self.stat: Stat | None = None
        self.what = ""  # "kernel thread" or "zombie" if it has no memory
        self._thread = ""

    def read(self) -> bool:
        """Read all files; return False if the process changed meanwhile: then discard them."""
        process = self.process
        text = process.file("stat")
        if text is None and self.live:
            raise ProcessGone(
                f"process {process.pid} has ended", pid=process.pid, path=process.path
            )
        if text is None:
            self.stat = process.stat()  # from the capture's other files
        else:
            self.files["stat"] = text
            self.stat = parse_stat(text, process.pid, f"{process.path}/stat")
        self._classify()
        fds: dict[str, int] = {}
        try:
            # Opened before anything else is read: if maps still gives a byte at the end, there was
            # no exec in between, and all files are of one program.
            opened = self._open(fds) and self._is_unchanged()
            self._read_small()
            return opened and self._read_memory(fds) and self._is_same(fds)
        finally:
            for fd in fds.values():
                os.close(fd)

    def _classify(self) -> None:
        stat = self.stat
        if stat is None:
            return
        if stat.is_kernel_thread:
            self.what = "kernel thread"
        elif stat.has_exited:
            # The main thread has exited. If another thread lives, its files show the memory; they
            # are saved as the process's own, where every reader finds them.
            living = self.process.living()
            if living is None:
                self.what = "zombie"
            else:
                self._thread = living[0]

    def _open(self, fds: dict[str, int]) -> bool:
        if self.live and self.what:
            # Empty, as the kernel shows them; a rollup gives ESRCH (seen on 6.18).
            self.files.update(maps=b"", smaps=b"")
            return True
        for name in _MEMORY_FILES:
            try:
                fds[name] = self.process.open(self._thread + name)
            except FileNotFoundError:
                if self._thread:
                    return False
            except ProcessLookupError:
                return False
            except OSError as error:
                self.errors[name] = self.process.failure(error, name)
        return True

    def _is_unchanged(self) -> bool:
        """Read stat again, to save it; return whether the process is the same as before.

        After an exec between stat and the opening of the files, only its name and addresses differ.
        """
        if not self.live:
            return True
        text = self.process.file("stat")
        if text is None or self.stat is None:
            return False
        path = f"{self.process.path}/stat"
        before, self.stat = self.stat, parse_stat(text, self.process.pid, path)
        self.files["stat"] = text
        return _identity(before) == _identity(self.stat)

    def _read_small(self) -> None:
        for name in _SMALL_FILES:
            # A main thread that has exited keeps its name, but no memory, command line or cgroup.
            thread = "" if name == "comm" else self._thread
            try:
                text = self.process.file(thread + name)
            except ProcessGone:
                raise
            except Error as error:
                self.errors[name] = error
            else:
                if text is not None:
                    self.files[name] = text
        exe = self.process.optional_file(f"{self._thread}exe")
        if exe is not None:
            self.files["exe"] = exe  # the text of the link: a capture holds no links

    def _read_memory(self, fds: dict[str, int]) -> bool:
        for name, fd in fds.items():
            try:
                text = _read_text(fd)
            except ProcessLookupError:
                return False
            except OSError as error:
                self.errors[name] = self.process.failure(error, name)
                continue
            if not text and self.live:
                return False
            self.files[name] = text
        return True

    def _is_same(self, fds: dict[str, int]) -> bool:
        """Whether the process still exists and is the same as before."""
        if not self.live:
            return True
        # The file also ends where the memory went away: the text is complete only if a byte can
        # still be read from the start.
        for name in ("maps", "smaps"):
            try:
                if name in fds and name in self.files and not os.pread(fds[name], 1, 0):
                    return False
            except ProcessLookupError:
                return False
            except OSError as error:
                self.errors[name] = self.process.failure(error, name)
                del self.files[name]
        before, after = self.stat, self.process.stat()
        assert before is not None
        return _identity(before) == _identity(after)


def _identity(stat: Stat) -> tuple[object, ...]:
    # Between vfork and exec a process has its parent's memory, and descriptors keep that.
    return stat.start_time, stat.has_exited, stat.keeps_parents_memory


def _read_text(fd: int) -> bytes:
    """Read a memory file, in chunks for which the kernel formats no record twice."""
    chunks = []
    offset = 0
    line = 0  # its length so far
    while chunk := os.pread(fd, CHUNK_SIZE, offset):
        chunks.append(chunk)
        offset += len(chunk)
        line = 0 if b"\n" in chunk else line + len(chunk)
        if line > _MAX_LINE:  # /dev/zero may be mounted over the file
            raise OSError(errno.EFBIG, "a line is too long")
    return b"".join(chunks)


def _row(pid: int, source: Source, taken: _Files) -> ProcessTotals:
    """Make the row that scan() will give for the process when it reads the capture."""
    path = f"{source.path}/{pid}"
    files, stat = taken.files, taken.stat
    facts: dict[str, Any] = {}
    try:
        if stat is not None:
            facts = {"comm": stat.name, "ppid": stat.ppid, "start_time": stat.start_time}
        if "status" in files:
            facts["uid"] = status_number(files["status"], b"Uid:", pid, f"{path}/status", place=1)
        texts = {name: files.get(name) for name in ("cgroup", "cmdline")}
        facts |= texts_of(texts, pid, path, relative=source.has_relative_cgroups)
        # A rollup is the kernel's own sum of all mappings; some kernels have none.
        for name in ("smaps_rollup", "smaps"):
            if name in taken.errors:
                raise taken.errors[name]
            if len(table := parse(files.get(name, b""))):
                return ProcessTotals(pid, "read", totals=table.totals(), **facts)
        if taken.what:
            raise NoMemoryMap(taken.what, pid=pid, path=path)
        raise NotCaptured(f"{path}/smaps is missing or empty", pid=pid, path=f"{path}/smaps")
    except Error as error:
        return ProcessTotals(pid, outcome_of(error), **{**facts, "error": str(error)})
