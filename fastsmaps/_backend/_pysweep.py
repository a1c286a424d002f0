"""The pure-Python backend for many processes; ``_csmaps.pyi`` documents what both export."""

from __future__ import annotations

import errno
import os
import sys
import time
from _thread import allocate_lock
from array import array

from fastsmaps._backend import _pysmaps
from fastsmaps._backend.bounded import MAX_TEXT, MAX_TEXTS, MIN_TEXT, cut, limit_of
from fastsmaps._backend.descriptors import OPEN, is_exhausted, read_file
from fastsmaps._errors import ParseError, is_foreign

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fastsmaps._backend._csmaps import Task, Use
    from fastsmaps._backend._pytable import Table

    # A Task with the numbers of its texts.
    Row = tuple[
        int, int, int | None, int, tuple[int | None, ...],
        tuple[bytes, int, int, int, bool, int, bool] | None, int | None,
    ]  # fmt: skip

# The order of the extension's enum Fate, and of fastsmaps._host.sweeper.FATES.
_READ, _DENIED, _KERNEL_THREAD, _ZOMBIE, _OUTSIDE, _LARGE, _OTHER, _SHARED = range(8)
_PF_EXITING = 0x4
_PF_FORKNOEXEC = 0x40
_PF_KTHREAD = 0x00200000
_MOST_KEPT = 3
_NEVER = 2**64 - 1
_REFUSALS = (errno.EACCES, errno.EPERM)
_MOST_COMM = 64
_MOST_LINES = 1 << 16  # of maps in one go
_PIECES = 5  # as many as fit the extension's buffer
_MOST_DIGITS = 18  # of a number that is surely below 2**64


class _Alone:
    """What one thread does at a time: nobody waits, another one gets a RuntimeError."""

    def __init__(self, message: str) -> None:
        self._lock = allocate_lock()
        self._message = message

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(self._message)

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def check(self) -> None:
        """For what several threads may do at once, but not meanwhile."""
        if self._lock.locked():
            raise RuntimeError(self._message)


class _Fate(Exception):
    """Ends the reading of a process."""


class _Found:
    """What was read of a process so far."""

    def __init__(self, texts: int) -> None:
        self.record: int | None = None
        self.resident = 0
        self.texts: tuple[int | None, ...] = (None,) * texts
        self.who: tuple[bytes, int, int, int, bool, int, bool] | None = None
        self.mappings: int | None = None


def _is_number(field: bytes) -> bool:
    return field.isdigit() and len(field) <= _MOST_DIGITS


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
        raise _Fate(_DENIED if error.errno in _REFUSALS else _OTHER) from error


def _count(maps: int, piece: int) -> int | None:
    try:
        return _pysmaps.lines(maps, piece, _PIECES)
    except OSError as error:
        if is_foreign(error):
            raise
        return None


def _gives_a_byte(fd: int) -> bool:
    try:
        return bool(os.pread(fd, 1, 0))
    except OSError as error:
        if is_foreign(error):
            raise
        return False


class _Pool:
    """Equal texts once each, by their numbers; see keep_text() in src/read_process.pxi."""

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


# kcmp(2): Python has no name for it. 64 bits; elsewhere nothing is compared.
_KCMP = {
    "aarch64": 272, "loongarch64": 272, "ppc64": 354, "ppc64le": 354, "riscv64": 272, "s390x": 343,
    "x86_64": 312,
}  # fmt: skip
_KCMP_VM = 1
_MOST_SORTS = 8
_kcmp: list[Callable[[int, int], int]] = []


def kcmp_vm() -> Callable[[int, int], int]:
    """A function of two pids, as fsm_kcmp_vm() in src/csmaps.h."""
    if not _kcmp:
        number = _KCMP.get(os.uname().machine)
        try:
            if number is None or sys.maxsize < 2**32:
                raise ImportError
            import ctypes  # 8 ms, where a process has forked and called no exec

            call = ctypes.CDLL(None).syscall
        except (ImportError, OSError, AttributeError) as error:
            if is_foreign(error):
                raise
            _kcmp.append(lambda *_: -1)
        else:
            zero = ctypes.c_long(0)
            head, kind = ctypes.c_long(number), ctypes.c_long(_KCMP_VM)
            long = ctypes.c_long
            _kcmp.append(lambda a, b: call(head, long(a), long(b), kind, zero, zero))
    return _kcmp[0]


def same_memory(pids: memoryview) -> list[int | None]:
    from functools import cmp_to_key  # 2 ms
    from itertools import pairwise

    numbers = pids.cast("B").cast("i").tolist()
    kcmp = kcmp_vm()
    failed = [True]

    def order(i: int, j: int) -> int:
        answer = kcmp(numbers[i], numbers[j])
        if answer < 0:
            failed.append(True)
        return -1 if answer == 1 else int(answer > 1)

    for _ in range(_MOST_SORTS):
        # See compare_memory() in src/same_memory.pxi.
        able = [i for i, number in enumerate(numbers) if kcmp(number, number) == 0]
        first: list[int | None] = [None] * len(numbers)
        failed.clear()
        able.sort(key=cmp_to_key(order))
        if not failed:
            break
    else:
        return [None] * len(numbers)
    for i in able:
        first[i] = i
    for before, i in pairwise(able):
        if kcmp(numbers[before], numbers[i]) == 0:
            first[i] = first[before]
    return first


class Sweep:
    """Many processes, a row each; see _csmaps.pyi."""

    def __init__(
        self,
        texts: tuple[str, ...] = (),
        least: int = 0,
        most: int = _NEVER,
        large: int = _NEVER,
        sized: bool = False,
        rollups: bool = True,
        mappings: int = 0,
        compare: bool = False,
    ) -> None:
        if len(texts) > _MOST_KEPT:
            raise ValueError(f"texts: {_MOST_KEPT} at most")
        self._texts = texts
        self._limits = least, most, large
        self._sized = sized
        self._rollups = rollups
        self._piece = mappings
        self._kept = [_Pool() for _ in texts]
        self._rows: list[Row] = []
        self._compare = compare
        self._scanner = _pysmaps.Scanner(crlf=False)
        self._taking = _Alone(
            "a sweep is taken by one thread at a time, and not looked at meanwhile"
        )
        self._table = self._scanner.table()

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
            self._table = self._scanner.table()
            return taken

    @property
    def table(self) -> Table:
        return self._table

    def fates(self, start: int = 0) -> bytes:
        self._taking.check()
        return bytes(row[1] for row in self._rows[start:])

    def row(self, i: int) -> Task:
        self._taking.check()
        pid, fate, record, resident, numbers, who, mappings = self._rows[i]
        texts = [pool.text(number) for pool, number in zip(self._kept, numbers, strict=True)]
        return pid, fate, record, resident, tuple(texts), who, mappings

    @property
    def forked(self) -> bool:
        self._taking.check()
        return any(who is not None and who[4] for *_, who, _ in self._rows)

    def members(self) -> list[tuple[int, int, int, int, bool, int, bool, bool]]:
        self._taking.check()
        return [
            (i, pid, who[1], who[3], who[4], who[5], fate == _READ, who[6])
            for i, (pid, fate, *_, who, _) in enumerate(self._rows)
            if who is not None and fate in (_READ, _SHARED)
        ]

    def _process(self, root: int, pid: int) -> Row:
        found = _Found(len(self._texts))
        fate = _OTHER
        try:
            directory = os.open(str(pid), OPEN | os.O_DIRECTORY, dir_fd=root)
        except OSError as error:
            if is_foreign(error):
                raise
            # gone, hidden, or no descriptor left: Process finds out which
        else:
            try:
                fate = self._files(pid, directory, found)
            except _Fate as ended:
                fate = ended.args[0]
            except (OSError, ValueError, IndexError) as error:
                if is_foreign(error):
                    raise
                fate = _OTHER  # numbers that are none, from what is no procfs
            finally:
                os.close(directory)
        return pid, fate, found.record, found.resident, found.texts, found.who, found.mappings

    def _files(self, pid: int, directory: int, found: _Found) -> int:
        # The owner before stat: see read_files() in src/read_process.pxi.
        uid = os.fstat(directory).st_uid
        comm, closed, rest = _small_file(directory, "stat").partition(b"(")[2].rpartition(b")")
        fields = rest.split()
        if not closed or len(fields) < 36 or len(comm) > _MOST_COMM:
            return _OTHER
        # ppid, flags, threads, start and stack: damage is for Process to report.
        if not all(_is_number(fields[i]) for i in (1, 6, 17, 19, 25)):
            return _OTHER
        forked = bool(int(fields[6]) & _PF_FORKNOEXEC)
        found.who = comm, int(fields[1]), uid, int(fields[19]), forked, int(fields[25]), False
        fate = _READ
        if int(fields[6]) & _PF_KTHREAD:
            fate = _KERNEL_THREAD
        elif fields[0] in (b"Z", b"X") or int(fields[6]) & _PF_EXITING:
            if int(fields[17]) > 1:
                return _OTHER
            fate = _ZOMBIE
        elif fields[35].startswith(b"-"):
            return _OTHER
        found.texts = tuple(map(self._text, [directory] * _MOST_KEPT, self._texts, self._kept))
        if fate != _READ:
            return fate
        if not self._rollups:
            return _SHARED if self._has_parents_memory(pid, found) else _READ
        if self._sized:
            least, most, large = self._limits
            pages = _small_file(directory, "statm").split()[1]
            if not _is_number(pages):
                return _OTHER
            resident = found.resident = int(pages)
            if resident < least or (resident > most and not self._piece):
                return _OUTSIDE
            if large < resident <= most:
                return _LARGE
        if self._has_parents_memory(pid, found):
            return _SHARED
        return self._memory(directory, found)

    def _has_parents_memory(self, pid: int, found: _Found) -> bool:
        # Before the reading: see shares_parents_memory() in src/read_process.pxi.
        assert found.who is not None
        if not self._compare or not found.who[4]:
            return False
        answer = kcmp_vm()(pid, found.who[1])
        found.who = *found.who[:6], answer > 0
        return answer == 0

    def _memory(self, directory: int, found: _Found) -> int:
        # The order: see read_memory() in src/read_process.pxi.
        if not self._piece:
            return self._rollup(directory, found)
        try:
            maps = os.open("maps", OPEN, dir_fd=directory)
        except OSError as error:
            if is_foreign(error):
                raise
            return _OTHER if is_exhausted(error) else self._rollup(directory, found)
        try:
            count = _count(maps, self._piece)
            if count is not None and count > _MOST_LINES:
                return _LARGE
            try:
                outside = found.resident > self._limits[1]
                fate = _OUTSIDE if outside else self._rollup(directory, found)
            except _Fate as ended:
                fate = ended.args[0]
            if count is not None and _gives_a_byte(maps):
                found.mappings = count
            return fate
        finally:
            os.close(maps)

    @staticmethod
    def _text(directory: int, name: str, pool: _Pool) -> int | None:
        try:
            if name == "exe":
                return pool.add(os.fsencode(os.readlink(name, dir_fd=directory)))
            return pool.add(_small_file(directory, name))
        except (_Fate, OSError) as error:
            if is_exhausted(error) or is_foreign(error):
                raise  # it is there, but no descriptor is left
            return None

    def _rollup(self, directory: int, found: _Found) -> int:
        text = _small_file(directory, "smaps_rollup")
        if not text:
            return _OTHER
        scanner = self._scanner
        before = scanner.count
        if scanner.open:
            scanner.close()  # a field before any header is not the last process's
        try:
            scanner.feed(text.removesuffix(b"\n").split(b"\n"))
        except ParseError:
            return _OTHER
        # A row that is not one rollup's stays in the table, and nobody refers to it.
        if scanner.count != before + 1:
            return _OTHER
        found.record = before
        return _READ


def _is_thread(root: int, pid: int) -> bool:
    """By exit_signal, where a thread that is not the first has -1: lists cannot be entered here."""
    try:
        stat = _small_file(root, f"{pid}/stat")
    except _Fate:
        return True
    return stat.rpartition(b")")[2].split()[35].startswith(b"-")


class _Use:
    """What uses a name: how many processes, and each of its files."""

    def __init__(self) -> None:
        self.users = 0
        # By device and inode: how many processes, end - start, figures.
        self.files: dict[tuple[bytes, int], tuple[int, int, dict[str, int]]] = {}


class Uses:
    """Sums by file over many processes; see _csmaps.pyi."""

    def __init__(self) -> None:
        self._names: dict[bytes, _Use] = {}
        self._bare: set[str] = set()  # labels that one process had without kB: they are no sizes
        self._adding = _Alone("uses are added by one thread at a time")

    def add(self, fd: int, piece: int, pieces: int) -> bool:
        with self._adding:
            table = _pysmaps.read(fd, piece, pieces)
            if table is None or not len(table):
                return False
            self._add(table)
            return True

    def _add(self, table: Table) -> None:
        labels = zip(table.labels, table.sized, strict=True)
        self._bare.update(label for label, sized in labels if not sized)
        numbers: dict[tuple[int, int, int], int] = {}
        keys = zip(*map(table.column, ("name", "dev", "inode")), strict=True)
        groups = array("I", [numbers.setdefault(key, len(numbers)) for key in keys])
        here = set()
        sums = table.sums(memoryview(groups), len(numbers))
        for (name, dev, inode), (size, figures) in zip(numbers, sums, strict=True):
            use = self._names.setdefault(table.names[name], _Use())
            if name not in here:
                here.add(name)
                use.users += 1
            file = table.devs[dev], inode
            users, before, sum_ = use.files.get(file, (0, 0, {}))
            for label, value in figures.items():
                sum_[label] = sum_.get(label, 0) + value
            use.files[file] = users + 1, before + size, sum_

    def _sizes(self, sums: dict[str, int]) -> dict[str, int]:
        return {label: value for label, value in sums.items() if label not in self._bare}

    def take(self, root: int, pid: int, piece: int, pieces: int, listed: bool) -> bool:
        try:
            if not listed and _is_thread(root, pid):
                return False
            fd = os.open(f"{pid}/smaps", OPEN, dir_fd=root)
            try:
                return self.add(fd, piece, pieces)
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


def statms(fds: memoryview, out: memoryview) -> None:
    pages = array("Q")
    for fd in fds.cast("B").cast("i"):
        try:
            fields = os.pread(fd, 256, 0).split()[1:4]
        except OSError as error:
            if is_foreign(error):
                raise
            fields = []
        good = len(fields) == 3 and all(map(_is_number, fields))
        pages.extend(map(int, fields) if good else (_NEVER,) * 3)
    if out.nbytes != len(pages) * 8:
        raise ValueError("out: three 64-bit numbers for each descriptor")
    out.cast("B")[:] = memoryview(pages).cast("B")
