"""The pure-Python backend for many processes; ``_csmaps.pyi`` documents what both export."""

from __future__ import annotations

import errno
import os
import time
from _thread import allocate_lock
from array import array

from fastsmaps._backend import _pysmaps
from fastsmaps._backend._pysame_memory import kcmp_vm
from fastsmaps._backend.bounded import MAX_TEXT, MAX_TEXTS, MIN_TEXT, cut, limit_of
from fastsmaps._backend.descriptors import OPEN, gives_a_byte, is_exhausted, read_file
from fastsmaps._errors import ParseError, is_foreign

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastsmaps._backend._csmaps import SweepRow, Use
    from fastsmaps._backend._pytable import Table

    # A SweepRow with the numbers of its texts instead of the texts.
    Row = tuple[
        int, int, int | None, int, tuple[int | None, ...],
        tuple[bytes, int, int, int, bool, int, bool] | None, int | None,
    ]  # fmt: skip

# The order of the extension's enum Outcome, and of fastsmaps._host.rows.SWEEP_OUTCOMES.
_READ, _DENIED, _KERNEL_THREAD, _ZOMBIE, _OUTSIDE, _LARGE, _OTHER, _SHARED = range(8)
_PF_EXITING = 0x4
_PF_FORKNOEXEC = 0x40
_PF_KTHREAD = 0x00200000
_MAX_FILES = 3
_MAX_U64 = 2**64 - 1
_REFUSALS = (errno.EACCES, errno.EPERM)
_MAX_COMM = 64
_MAX_MAPS_LINES = 1 << 16  # lines of maps that are counted at once
_CHUNKS = 5  # as many as fit the extension's buffer
_MAX_DIGITS = 18  # digits of a number that is surely below 2**64


class _OneThread:
    """A lock that never waits: while one thread has it, others get a RuntimeError."""

    def __init__(self, message: str) -> None:
        self._lock = allocate_lock()
        self._message = message

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(self._message)

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def check(self) -> None:
        """Raise RuntimeError while a thread has the lock."""
        if self._lock.locked():
            raise RuntimeError(self._message)


class _Ended(Exception):
    """Stop reading a process: its outcome is known."""


class _Found:
    """The data read from a process so far."""

    def __init__(self, texts: int) -> None:
        self.record: int | None = None
        self.resident = 0
        self.texts: tuple[int | None, ...] = (None,) * texts
        self.stat: tuple[bytes, int, int, int, bool, int, bool] | None = None
        self.mappings: int | None = None


def _is_number(field: bytes) -> bool:
    return field.isdigit() and len(field) <= _MAX_DIGITS


def _small_file(directory: int, name: str) -> bytes:
    try:
        fd = os.open(name, OPEN, dir_fd=directory)
        try:
            return read_file(fd)
        finally:
            os.close(fd)
    except OSError as error:
        if is_foreign(error):
            raise
        raise _Ended(_DENIED if error.errno in _REFUSALS else _OTHER) from error


def _count(maps: int, chunk_size: int) -> int | None:
    try:
        return _pysmaps.lines(maps, chunk_size, _CHUNKS)
    except OSError as error:
        if is_foreign(error):
            raise
        return None


class _Pool:
    """Texts kept once each, under a number; see keep_text() in src/read_process.pxi."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._texts: list[bytes] = []
        self._used = 0
        self._limit = MAX_TEXT
        self._allowed = MAX_TEXTS

    def add(self, text: bytes) -> int:
        text = cut(text, self._limit)
        number = self._numbers.setdefault(text, len(self._texts))
        if number == len(self._texts):
            self._texts.append(text)
            self._used += len(text)
            if self._used > self._allowed:
                self._lower()
        return number

    def _lower(self) -> None:
        self._limit = limit_of(map(len, self._texts), max(MIN_TEXT, self._limit // 2))
        self._texts = [cut(text, self._limit) for text in self._texts]
        self._numbers = {text: number for number, text in enumerate(self._texts)}
        self._used = sum(map(len, self._texts))
        self._allowed = max(MAX_TEXTS, 2 * self._used)

    def text(self, number: int | None) -> bytes | None:
        return None if number is None else self._texts[number]


class Sweep:
    """Many processes, a row each; see _csmaps.pyi."""

    def __init__(
        self,
        texts: tuple[str, ...] = (),
        min_pages: int = 0,
        max_pages: int = _MAX_U64,
        large_pages: int = _MAX_U64,
        statm: bool = False,
        rollups: bool = True,
        maps_chunk: int = 0,
        compare: bool = False,
    ) -> None:
        if len(texts) > _MAX_FILES:
            raise ValueError(f"texts: {_MAX_FILES} at most")
        self._texts = texts
        self._limits = min_pages, max_pages, large_pages
        self._statm = statm
        self._rollups = rollups
        self._maps_chunk = maps_chunk
        self._kept = [_Pool() for _ in texts]
        self._rows: list[Row] = []
        self._compare = compare
        self._parser = _pysmaps.Parser(crlf=False)
        self._taking = _OneThread(
            "a Sweep takes processes in one thread at a time, and cannot be read meanwhile"
        )
        self._table = self._parser.table()

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, root: int, pids: memoryview, seconds: float) -> int:
        with self._taking:
            end = time.monotonic() + seconds
            taken = 0
            for pid in pids.cast("B").cast("i"):
                self._rows.append(self._process(root, pid))
                taken += 1
                if time.monotonic() >= end:
                    break
            self._table = self._parser.table()
            return taken

    @property
    def table(self) -> Table:
        return self._table

    def outcomes(self, start: int = 0) -> bytes:
        self._taking.check()
        return bytes(row[1] for row in self._rows[start:])

    def row(self, i: int) -> SweepRow:
        self._taking.check()
        pid, outcome, record, resident, numbers, stat, mappings = self._rows[i]
        texts = [pool.text(number) for pool, number in zip(self._kept, numbers, strict=True)]
        return pid, outcome, record, resident, tuple(texts), stat, mappings

    @property
    def forked(self) -> bool:
        self._taking.check()
        return any(stat is not None and stat[4] for *_, stat, _ in self._rows)

    def members(self) -> list[tuple[int, int, int, int, bool, int, bool, bool]]:
        self._taking.check()
        return [
            (i, pid, stat[1], stat[3], stat[4], stat[5], outcome == _READ, stat[6])
            for i, (pid, outcome, *_, stat, _) in enumerate(self._rows)
            if stat is not None and outcome in (_READ, _SHARED)
        ]

    def _process(self, root: int, pid: int) -> Row:
        found = _Found(len(self._texts))
        outcome = _OTHER
        try:
            directory = os.open(str(pid), OPEN | os.O_DIRECTORY, dir_fd=root)
        except OSError as error:
            if is_foreign(error):
                raise
            # Ended, hidden, or no descriptor left: the caller finds out.
        else:
            try:
                outcome = self._files(pid, directory, found)
            except _Ended as ended:
                outcome = ended.args[0]
            except (OSError, ValueError, IndexError) as error:
                if is_foreign(error):
                    raise
                outcome = _OTHER  # not a number: not a procfs
            finally:
                os.close(directory)
        return pid, outcome, found.record, found.resident, found.texts, found.stat, found.mappings

    def _files(self, pid: int, directory: int, found: _Found) -> int:
        # The owner before stat: see read_files() in src/read_process.pxi.
        uid = os.fstat(directory).st_uid
        comm, closed, rest = _small_file(directory, "stat").partition(b"(")[2].rpartition(b")")
        fields = rest.split()
        if not closed or len(fields) < 36 or len(comm) > _MAX_COMM:
            return _OTHER
        # ppid, flags, threads, start and stack. The caller reports a damaged line.
        if not all(_is_number(fields[i]) for i in (1, 6, 17, 19, 25)):
            return _OTHER
        forked = bool(int(fields[6]) & _PF_FORKNOEXEC)
        found.stat = comm, int(fields[1]), uid, int(fields[19]), forked, int(fields[25]), False
        outcome = _READ
        if int(fields[6]) & _PF_KTHREAD:
            outcome = _KERNEL_THREAD
        elif fields[0] in (b"Z", b"X") or int(fields[6]) & _PF_EXITING:
            if int(fields[17]) > 1:
                return _OTHER
            outcome = _ZOMBIE
        elif fields[35].startswith(b"-"):
            return _OTHER
        found.texts = tuple(map(self._text, [directory] * _MAX_FILES, self._texts, self._kept))
        if outcome != _READ:
            return outcome
        if not self._rollups:
            return _SHARED if self._has_parents_memory(pid, found) else _READ
        if self._statm:
            min_pages, max_pages, large_pages = self._limits
            pages = _small_file(directory, "statm").split()[1]
            if not _is_number(pages):
                return _OTHER
            resident = found.resident = int(pages)
            if resident < min_pages or (resident > max_pages and not self._maps_chunk):
                return _OUTSIDE
            if large_pages < resident <= max_pages:
                return _LARGE
        if self._has_parents_memory(pid, found):
            return _SHARED
        return self._memory(directory, found)

    def _has_parents_memory(self, pid: int, found: _Found) -> bool:
        # Before the memory is read: see shares_parents_memory() in src/read_process.pxi.
        assert found.stat is not None
        if not self._compare or not found.stat[4]:
            return False
        answer = kcmp_vm()(pid, found.stat[1])
        found.stat = *found.stat[:6], answer > 0
        return answer == 0

    def _memory(self, directory: int, found: _Found) -> int:
        # The order: see read_memory() in src/read_process.pxi.
        if not self._maps_chunk:
            return self._rollup(directory, found)
        try:
            maps = os.open("maps", OPEN, dir_fd=directory)
        except OSError as error:
            if is_foreign(error):
                raise
            return _OTHER if is_exhausted(error) else self._rollup(directory, found)
        try:
            count = _count(maps, self._maps_chunk)
            if count is not None and count > _MAX_MAPS_LINES:
                return _LARGE
            try:
                outside = found.resident > self._limits[1]
                outcome = _OUTSIDE if outside else self._rollup(directory, found)
            except _Ended as ended:
                outcome = ended.args[0]
            if count is not None and gives_a_byte(maps):
                found.mappings = count
            return outcome
        finally:
            os.close(maps)

    @staticmethod
    def _text(directory: int, name: str, pool: _Pool) -> int | None:
        try:
            if name == "exe":
                return pool.add(os.fsencode(os.readlink(name, dir_fd=directory)))
            return pool.add(_small_file(directory, name))
        except (_Ended, OSError) as error:
            if is_exhausted(error) or is_foreign(error):
                raise  # the file is there, but no descriptor is left
            return None

    def _rollup(self, directory: int, found: _Found) -> int:
        text = _small_file(directory, "smaps_rollup")
        if not text:
            return _OTHER
        parser = self._parser
        before = parser.count
        if parser.open:
            parser.close()  # a field before the header must not go to the last process
        try:
            parser.feed(text.removesuffix(b"\n").split(b"\n"))
        except ParseError:
            return _OTHER
        # If the text is not one rollup, its rows stay in the table and no process refers to them.
        if parser.count != before + 1:
            return _OTHER
        found.record = before
        return _READ


def _is_thread(root: int, pid: int) -> bool:
    """Whether the number is a thread's: exit_signal is -1 for all but the first thread.

    The extension reads the directory at the number's offset instead, which Python cannot.
    """
    try:
        stat = _small_file(root, f"{pid}/stat")
    except _Ended:
        return True
    return stat.rpartition(b")")[2].split()[35].startswith(b"-")


class _Use:
    """The users of a name: how many processes, and the sums of each of its files."""

    def __init__(self) -> None:
        self.users = 0
        # By device and inode: how many processes, end - start, sums.
        self.files: dict[tuple[bytes, int], tuple[int, int, dict[str, int]]] = {}


class Uses:
    """Sums by file over many processes; see _csmaps.pyi."""

    def __init__(self) -> None:
        self._names: dict[bytes, _Use] = {}
        self._not_sizes: set[str] = set()  # labels that a process had without kB
        self._adding = _OneThread("a Uses is for one thread at a time")

    def add(self, fd: int, chunk_size: int, chunks: int) -> bool:
        with self._adding:
            table = _pysmaps.read(fd, chunk_size, chunks)
            if table is None or not len(table):
                return False
            self._add(table)
            return True

    def _add(self, table: Table) -> None:
        labels = zip(table.labels, table.sized, strict=True)
        self._not_sizes.update(label for label, sized in labels if not sized)
        numbers: dict[tuple[int, int, int], int] = {}
        keys = zip(*map(table.column, ("name", "dev", "inode")), strict=True)
        groups = array("I", [numbers.setdefault(key, len(numbers)) for key in keys])
        counted = set()
        sums = table.sums(memoryview(groups), len(numbers))
        for (name, dev, inode), (size, by_label) in zip(numbers, sums, strict=True):
            use = self._names.setdefault(table.names[name], _Use())
            if name not in counted:
                counted.add(name)
                use.users += 1
            file = table.devs[dev], inode
            users, old_size, total = use.files.get(file, (0, 0, {}))
            for label, value in by_label.items():
                total[label] = total.get(label, 0) + value
            use.files[file] = users + 1, old_size + size, total

    def _sizes(self, sums: dict[str, int]) -> dict[str, int]:
        return {label: value for label, value in sums.items() if label not in self._not_sizes}

    def take(self, root: int, pid: int, chunk_size: int, chunks: int, listed: bool) -> bool:
        try:
            if not listed and _is_thread(root, pid):
                return False
            fd = os.open(f"{pid}/smaps", OPEN, dir_fd=root)
            try:
                return self.add(fd, chunk_size, chunks)
            finally:
                os.close(fd)
        except (OSError, ParseError, IndexError) as error:
            if is_foreign(error):
                raise
            return False

    def result(self) -> list[Use]:
        with self._adding:
            return [
                (
                    name,
                    use.users,
                    [
                        (dev, inode, users, (size, self._sizes(sums)))
                        for (dev, inode), (users, size, sums) in use.files.items()
                    ],
                )
                for name, use in self._names.items()
            ]


def statms(
    root: int, table: memoryview, slots: memoryview, max_kept: int, seconds: float
) -> tuple[int, int, list[tuple[int, int]]]:
    rows = table.cast("B").cast("q")
    numbers = slots.cast("B").cast("I")
    for slot in numbers:
        if slot >= len(rows) // _STATM_COLUMNS:
            raise IndexError(slot)
    end = time.thread_time() + seconds
    kept = 0
    events: list[tuple[int, int]] = []
    for i, slot in enumerate(numbers):
        if i % 8 == 7 and time.thread_time() >= end:
            return i, kept, events
        row = rows[_STATM_COLUMNS * slot : _STATM_COLUMNS * (slot + 1)]
        if row[0] > 0:
            had_none = row[1] < 0
            if what := _read_statm(root, row, kept < max_kept):
                events.append((slot, what))
            kept += had_none and row[1] >= 0
    return len(numbers), kept, events


_STATM_COLUMNS = 6
_EQUAL, _MOVED, _OTHER_INODE = range(3)


def _read_statm(root: int, row: memoryview, keep: bool) -> int:
    """Read one statm; return what happened."""
    fd = row[1]
    opened = -1
    try:
        if fd < 0:
            fd = opened = os.open(f"{row[0]}/statm", OPEN, dir_fd=root)
            inode = os.fstat(fd).st_ino
            if row[2] not in (0, inode):
                return _OTHER_INODE
            row[2] = inode
        fields = os.pread(fd, 256, 0).split()[1:4]
        if len(fields) != 3 or not all(map(_is_number, fields)):
            return -errno.EINVAL
        found = list(map(int, fields))
        result = _EQUAL if found == row[3:].tolist() else _MOVED
        for k, value in enumerate(found, 3):
            row[k] = value
        if keep and opened >= 0:
            row[1], opened = opened, -1
        return result
    except OSError as error:
        if is_foreign(error) or error.errno is None:
            raise
        return -error.errno
    finally:
        if opened >= 0:
            os.close(opened)


def pids_between(root: int, after: int, last: int) -> list[int]:
    os.lseek(root, 0, os.SEEK_SET)  # listdir() goes on from where the descriptor is
    numbers = (int(name) for name in os.listdir(root) if name.isdecimal() and name.isascii())
    return sorted(pid for pid in numbers if after < pid <= last)
