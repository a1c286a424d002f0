"""capture() saves what procfs says of processes in procfs's own layout; replay.py opens it."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable

from fastsmaps._arguments import Procfs, check_function
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
from fastsmaps._source.chunks import CHUNK_SIZE
from fastsmaps._source.metadata import METADATA, metadata_text
from fastsmaps._source.process_dir import ATTEMPTS, ProcessDir
from fastsmaps._source.source import MAX_MAP_COUNT, Source
from fastsmaps._source.text import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from fastsmaps._model.sharing import Member

    T = TypeVar("T")

_SMALL = ("comm", "statm", "status", "cmdline", "cgroup")
_MEMORY = ("maps", "smaps", "smaps_rollup")
_MAX_LINE = 1 << 24
_SYSTEM = ("meminfo", "version", MAX_MAP_COUNT)


def capture(
    target: str | os.PathLike[str],
    pids: Iterable[int] | None = None,
    *,
    procfs: Procfs = "/proc",
    progress: Callable[[int, int], object] | None = None,
) -> Scan:
    """Saves what procfs says of these processes (of all, where `pids` is None).

    `target` becomes a tar where its name ends in .tar, .tar.gz, .tgz or .tar.xz (one that is
    there is replaced), otherwise a directory (one that is there must be empty). Its layout is
    procfs's (``<pid>/smaps``, ``<pid>/stat``, ...), so that every ``procfs=`` reads it as if it
    were /proc; ``fastsmaps.json`` notes what could not be read, and why. It may hold other users'
    command lines and addresses: it is for its owner alone (mode 0600 and 0700).

    All of a process is read through one open directory and is of one program: one that ends
    meanwhile is not in the capture. One process's text is in memory at a time. The target is
    there whole or not at all: until then a temporary name stands beside it. An archive is on the
    disk by then; a directory's files are left to the kernel, as any program's.

    Gives a row for each process as scan() does, with ``cgroup`` and ``cmdline``, from the saved
    text. Also what has all its memory in common with another process is saved; the notes say so,
    for what adds up. `progress` is called with how many processes are done and of how many.

    Raises CaptureError where it cannot be written, NotProcfs, AccessDenied or ReadError where
    `procfs` cannot be listed, TypeError and ValueError for wrong arguments. Nothing
    raises for one process.

    Sources: proc_pid_smaps(5), proc_pid_maps(5), proc_pid_stat(5), proc_pid_status(5).
    """
    from fastsmaps._capture.writers import target_of  # what it imports takes 10 ms

    path = os.fsdecode(target)
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
                row, files, errors = _taken(pid, source, sharing)
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
            for name in _SYSTEM:
                text = source.read_optional(name)  # subset=pid has neither meminfo nor version
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
        hidden_by=source.hidden_by() if pids is None else None,
        sharing_known=known,
    )


def _settle(rows: list[ProcessTotals], sharing: Sharing, notes: dict[str, dict[str, Any]]) -> None:
    """Rows and notes of what has its memory in common with another one that was saved."""
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


def _taken(
    pid: int, source: Source, sharing: Sharing
) -> tuple[ProcessTotals, dict[str, bytes], dict[str, Error]]:
    """A process's row, its files by their names, and why others could not be read."""
    try:
        with ProcessDir(source, pid) as process:
            for _ in range(ATTEMPTS):
                # Before it is read: see sharing.py.
                member = member_of(process)
                answer = None
                if member is not None and member.forked:
                    answer = sharing.same(member, member.ppid)
                taken = _Files(process)
                if taken.read():
                    row = _row(pid, source.path, taken)
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
    # It may have called exec before it was read.
    member.forked = taken.stat is not None and taken.stat.keeps_parents_memory
    member.linked, member.apart = answer is True, answer is False
    return row.replace(member=member)


class _Files:
    """One reading of a process's files."""

    def __init__(self, process: ProcessDir) -> None:
        self.process = process
        self.live = not process.source.is_capture
        self.files: dict[str, bytes] = {}
        self.errors: dict[str, Error] = {}
        self.stat: Stat | None = None
        self.what = ""  # "kernel thread" or "zombie", where it has no memory
        self._thread = ""

    def read(self) -> bool:
        """False where the process changed meanwhile: then nothing of it counts."""
        process = self.process
        text = process.file("stat")
        if text is None and self.live:
            raise ProcessGone(
                f"process {process.pid} has ended", pid=process.pid, path=process.path
            )
        if text is None:
            self.stat = process.stat()  # as far as the capture's other files say it
        else:
            self.files["stat"] = text
            self.stat = parse_stat(text, process.pid, f"{process.path}/stat")
        self._classify()
        fds: dict[str, int] = {}
        try:
            # Opened before all else is read: if maps still gives a byte at the end, no exec
            # came between, and all is of one program.
            opened = self._open(fds) and self._still()
            self._small()
            return opened and self._memory(fds) and self._is_same(fds)
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
            # The main thread has left. If others live they have the memory still: saved as the
            # process's own, where every reader finds it.
            living = self.process.living()
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
                fds[name] = self.process.open(self._thread + name)
            except FileNotFoundError:
                if self._thread:
                    return False
            except ProcessLookupError:
                return False
            except OSError as error:
                self.errors[name] = self.process.failure(error, name)
        return True

    def _still(self) -> bool:
        """Whether stat says as before; what is saved is its text of now.

        An exec between it and the opening of the files shows in nothing but its name and addresses.
        """
        if not self.live:
            return True
        text = self.process.file("stat")
        if text is None or self.stat is None:
            return False
        path = f"{self.process.path}/stat"
        before, self.stat = self.stat, parse_stat(text, self.process.pid, path)
        self.files["stat"] = text
        return _of_life(before) == _of_life(self.stat)

    def _small(self) -> None:
        for name in _SMALL:
            # A main thread that has left has its name still, but no memory, command line or cgroup.
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
            self.files["exe"] = exe  # the text of the link: nothing in a capture is a link

    def _memory(self, fds: dict[str, int]) -> bool:
        for name, fd in fds.items():
            try:
                text = _whole(fd)
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
                self.errors[name] = self.process.failure(error, name)
                del self.files[name]
        before, after = self.stat, self.process.stat()
        assert before is not None
        return _of_life(before) == _of_life(after)


def _of_life(stat: Stat) -> tuple[object, ...]:
    # Between vfork and exec it has its parent's memory, and descriptors keep that.
    return stat.start_time, stat.has_exited, stat.keeps_parents_memory


def _whole(fd: int) -> bytes:
    """The text of a memory file, in pieces of which the kernel makes no record twice."""
    blocks = []
    offset = 0
    line = 0  # bytes of it so far
    while block := os.pread(fd, CHUNK_SIZE, offset):
        blocks.append(block)
        offset += len(block)
        line = 0 if b"\n" in block else line + len(block)
        if line > _MAX_LINE:  # /dev/zero may be mounted over it
            raise OSError(errno.EFBIG, "it has a line without end")
    return b"".join(blocks)


def _row(pid: int, root: str, taken: _Files) -> ProcessTotals:
    """What scan() will say of the process when it reads the capture."""
    path = f"{root}/{pid}"
    files, stat = taken.files, taken.stat
    facts: dict[str, Any] = {}
    try:
        if stat is not None:
            facts = {
                "comm": stat.name,
                "ppid": stat.ppid,
                "start_time": stat.start_time,
            }
        if "status" in files:
            facts["uid"] = status_number(files["status"], b"Uid:", pid, f"{path}/status", place=1)
        facts |= texts_of({name: files.get(name) for name in ("cgroup", "cmdline")}, pid, path)
        # A rollup is the kernel's own sum of all of it; some kernels have none.
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
