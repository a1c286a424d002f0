"""One process, pinned by an open descriptor of its directory."""

from __future__ import annotations

import errno
import os
import time

from fastsmaps import _backend
from fastsmaps._backend.descriptors import OPEN, is_exhausted, is_low, limit, read_file
from fastsmaps._errors import Error, NoMemoryMap, ParseError, ProcessGone, ReadError, is_foreign
from fastsmaps._model.info import Info
from fastsmaps._model.mappings import Mappings
from fastsmaps._model.stat import (
    UNKNOWN,
    Stat,
    arguments,
    cgroup_path,
    damaged,
    parse_stat,
    stat_of_status,
    status_number,
    texts_of,
)
from fastsmaps._model.totals import Totals
from fastsmaps._source.arguments import check_pid, pids_among
from fastsmaps._source.chunks import CHUNK_SIZE, CHUNKS, PAGE
from fastsmaps._source.metadata import METADATA
from fastsmaps._source.pidfd import pidfd_number
from fastsmaps._source.source import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn, SupportsIndex, TypeVar

    from fastsmaps._backend import Table
    from fastsmaps._source.arguments import Pid, Procfs

    T = TypeVar("T")

#: An exec while a file is read ends it early; the next attempt reads the new program. One that
#: calls exec in a loop is given up after this many, and one whose threads end as fast.
ATTEMPTS = 20


def take_mappings(fd: int) -> Table | None:
    table = _backend.read(fd, CHUNK_SIZE, CHUNKS)
    # Blank lines alone, in a capture, are no text.
    return table if table is not None and len(table) else None


def take_rollup(fd: int) -> tuple[int, dict[str, int]] | None:
    # The kernel makes a rollup in one go, from one address space: nothing to confirm.
    return _backend.total(fd, CHUNK_SIZE, CHUNKS, False)


def take_sums(fd: int) -> tuple[int, dict[str, int]] | None:
    return _backend.total(fd, CHUNK_SIZE, CHUNKS, True)


class Process:
    """A process, pinned: never another one that got its number later.

    A context manager over an open descriptor of /proc/<pid>. Once the process is reaped, all
    that is read through it gives ESRCH, also when the pid is used again: ProcessGone here.
    The descriptors of smaps, smaps_rollup and maps are kept and read again from their start, which
    saves about 4 us a call; after an exec they are opened anew. None is kept while more than half
    of RLIMIT_NOFILE is used. Where no other file can be opened those that are kept are closed, for
    good.

    `pid` is a process's number in `procfs`, or "self". `procfs` may belong to another pid namespace
    than this process, as a host's /proc in a container does: then os.getpid(), subprocess and
    multiprocessing give numbers that are another process's there. For a child, open a pidfd and
    use from_pidfd().

    Raises TypeError or ValueError for what is neither, ProcessGone, AccessDenied, NotProcfs, or
    NotAProcess for a thread's number. After close() whatever reads raises ValueError.
    """

    _fd = -1  # of its directory; in the instance while it is open
    _keeps = True  # until there was no descriptor left

    def __init__(self, pid: Pid = "self", *, procfs: Procfs = "/proc") -> None:
        self._kept: dict[str, int] = {}
        self._has_rollup = True
        self._source = source = Source(procfs)
        self.procfs = source.path
        self._path = f"{self.procfs}/{check_pid(pid)}"
        number = None if pid == "self" else int(pid)
        try:
            if number is None:
                number = source.own_pid()
                if number is None:
                    raise FileNotFoundError
                self._path = f"{self.procfs}/{number}"
            fd = os.open(self._path, OPEN | os.O_DIRECTORY | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
            raise source.not_found(number, self._path) from None
        except OSError as error:
            raise source.failure(error, number, self._path) from None
        self.pid: int = number
        self._fd = fd
        try:
            status = self._file("status")
            if status is not None:
                source.check_owner(status, number)
        except BaseException:
            self.close()
            raise

    @classmethod
    def from_pidfd(cls, fd: SupportsIndex, *, procfs: Procfs = "/proc") -> Process:
        """The process of a pidfd (os.pidfd_open()), whatever its number in `procfs` is.

            with subprocess.Popen(command) as child:
                fd = os.pidfd_open(child.pid)
                with fastsmaps.Process.from_pidfd(fd) as process:
                    process.totals()

        `procfs` must show this process too. The descriptor stays open; it is not used later.

        Raises TypeError or ValueError for what is not an open pidfd, ProcessGone where the process
        has ended and was reaped, NotAProcess where the pidfd is a thread's (PIDFD_THREAD), and
        Error where it is not in the pid namespace of `procfs` or the kernel does not show its
        number.
        Otherwise as Process().

        Source: pidfd_open(2), proc_pid_fdinfo(5).
        """
        source = Source(procfs)
        number = pidfd_number(fd, source)
        try:
            process = cls(number, procfs=procfs)
        except Error:
            pidfd_number(fd, source)  # ProcessGone: then the number may be another's
            raise
        try:
            if pidfd_number(fd, source) != number:
                raise ProcessGone(f"process {number} has ended", pid=number, path=process._path)
        except BaseException:
            process.close()
            raise
        return process

    # ---- its life

    def close(self) -> None:
        """Closes all descriptors; may be called again, but not while another thread reads."""
        # Each is taken out before it is closed: of two threads only one gets it, since a number
        # closed twice may be another file's by then.
        fd = self.__dict__.pop("_fd", -1)
        if fd >= 0:
            os.close(fd)
        while True:
            try:
                fd = self._kept.popitem()[1]
            except KeyError:
                break
            os.close(fd)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_kept"):
            self.close()

    def __reduce__(self) -> NoReturn:
        # A copy would hold the same descriptors' numbers, and close them once more.
        raise TypeError("a Process holds open descriptors: it is neither copied nor pickled")

    def __repr__(self) -> str:
        return f"<Process {self.pid}{'' if self._fd >= 0 else ', closed'}>"

    # ---- what it tells

    def totals(self) -> Totals:
        """As fastsmaps.totals(), of this process."""
        if not self._source.is_proc and self._source.is_capture:
            # What a capture's file holds may be several rollups, or a rollup beside its smaps.
            table = self._take("smaps_rollup", take_mappings)
            return Mappings(table or self._needed("smaps", take_mappings)).totals()
        if self._has_rollup:
            result = self._take("smaps_rollup", take_rollup)
            if result is not None:
                return Totals(result[1], None, "smaps_rollup")
            self._has_rollup = False  # kernels before 4.14
        size, figures = self._needed("smaps", take_sums)
        return Totals(figures, size, "smaps")

    def _resident(self) -> int | None:
        """Rss by statm, in bytes, without a walk; None where there is no statm (a capture)."""
        pages = self._pages("statm")
        if not pages and not self._source.is_capture and self._stat().has_exited:
            # That of a main thread that has left says 0; others have the memory still.
            living = self._living()
            pages = pages if living is None else self._pages(f"{living[0]}statm")
        return None if pages is None else pages * PAGE

    def _pages(self, name: str) -> int | None:
        text = self._file(name)
        try:
            return None if text is None else int(text.split()[1])
        except (ValueError, IndexError):
            path = f"{self._path}/{name}"
            raise damaged("not a statm", text or b"", 1, 0, self.pid, path) from None

    def _totals_until(self, until: float) -> Totals:
        """Totals from chunks of smaps, TimeoutError once time.monotonic() is `until`.

        A rollup is one walk that nothing ends (11 to 16 ms a GiB); of smaps each mapping is one.
        """

        def take(fd: int) -> tuple[int, dict[str, int]] | None:
            return _backend.total(fd, CHUNK_SIZE, 1, True, until)

        size, figures = self._needed("smaps", take)
        return Totals(figures, size, "smaps")

    def _counted(self, take: Callable[[], T], until: float | None) -> tuple[T, int | None]:
        """What `take` reads, and how many mappings there are.

        None where they cannot be counted, or the process calls exec meanwhile. TimeoutError once
        time.monotonic() is `until`.
        """
        if self._source.is_capture:
            return take(), self._captured_count()
        fd = -1
        count = None
        try:
            try:
                living = self._living() if self._stat().has_exited else None
                fd = self._open(f"{living[0] if living else ''}maps")
                count = _backend.lines(fd, CHUNK_SIZE, CHUNKS, until or 0)
            except TimeoutError:
                raise
            except (Error, OSError) as error:
                if is_foreign(error):
                    raise
                # `take` fails too, or it is the count alone that may not be had
            result = take()
            # See read_memory() in src/read_process.pxi.
            if count is not None and not self._gives_a_byte(fd):
                count = None
            return result, count
        finally:
            if fd >= 0:
                os.close(fd)

    @staticmethod
    def _gives_a_byte(fd: int) -> bool:
        try:
            return bool(os.pread(fd, 1, 0))
        except OSError as error:
            if is_foreign(error):
                raise
            return False

    def _captured_count(self) -> int | None:
        """The rows of a capture's maps, of its smaps where it has no maps (smem's)."""
        for sizes in (False, True):
            try:
                return len(self.mappings(sizes=sizes))
            except Error:
                pass
        return None

    def mappings(self, *, sizes: bool = True) -> Mappings:
        """As fastsmaps.mappings(), of this process."""
        table = self._needed("smaps" if sizes else "maps", take_mappings)
        return Mappings(table, pid=self.pid, procfs=self.procfs, taken_at=time.time())

    def info(self, *, heap: bool = True) -> Info:
        """What the kernel says of the process beside its mappings.

        `heap=False` leaves the heap's ranges out (None), for which maps must be read.
        """
        stat = self._stat()
        memory, (status, command, cgroup), path = self._texts(
            stat, ("status", "cmdline", "cgroup"), self._file
        )
        uid = self._uid(status, path)
        peak = status_number(status or b"", b"VmHWM:", self.pid, f"{path}status")
        ranges = self._heap() if heap else None
        self._confirm(stat)
        return Info(
            pid=self.pid,
            ppid=stat.ppid,
            comm=stat.name,
            cmdline=arguments(command),
            uid=uid,
            start_time=stat.start_time,
            threads=stat.threads,
            peak_rss=None if peak is None else peak * 1024,
            cgroup=cgroup_path(cgroup or b"", self.pid, f"{path}cgroup"),
            start_brk=memory.start_brk,
            heap=ranges,
        )

    def _facts(self, wanted: Sequence[str]) -> dict[str, Any]:
        """What a row of a scan shows besides the figures; of cmdline, cgroup and exe the `wanted`.

        One of these that cannot be read is None; ``error`` is there where it is damaged.
        """
        stat = self._stat()
        _, (status, *texts), path = self._texts(stat, ("status", *wanted), self._readable)
        facts = {
            "ppid": stat.ppid,
            "comm": stat.name,
            "uid": self._uid(status, path),
            "start_time": stat.start_time,
            **texts_of(dict(zip(wanted, texts, strict=True)), self.pid, path.removesuffix("/")),
        }
        self._confirm(stat)
        return facts

    def _uid(self, status: bytes | None, path: str) -> int | None:
        return status_number(status or b"", b"Uid:", self.pid, f"{path}status", place=1)

    def _confirm(self, stat: Stat) -> None:
        """All that was read counts only if the process was there at the last of the reads."""
        if self._stat().start_time != stat.start_time:
            raise ProcessGone(f"process {self.pid} has ended", pid=self.pid, path=self._path)

    def _texts(
        self, stat: Stat, names: Sequence[str], read: Callable[[str], bytes | None]
    ) -> tuple[Stat, list[bytes | None], str]:
        """Stat and these files of the thread that has the memory, and where they are.

        A main thread that has left has no memory, no command line and no cgroup (v1 says "/").
        """
        for _ in range(ATTEMPTS):
            task, memory = (self._living() if stat.has_exited else None) or ("", stat)
            texts = [read(task + name) for name in names]
            if not task or all(texts):
                break  # or the thread has ended meanwhile
        return memory, texts, f"{self._path}/{task}"

    def _heap(self) -> tuple[tuple[int, int], ...] | None:
        try:
            return tuple((m.start, m.end) for m in self.mappings(sizes=False) if m.kind == "heap")
        except NoMemoryMap:
            return ()
        except (ProcessGone, ParseError, ReadError):
            raise
        except Error:  # may not be seen, or is not in the capture
            return None

    # ---- reading

    def _open(self, name: str) -> int:
        if self._fd < 0:
            raise ValueError("this Process is closed")
        try:
            return self._source.open(name, self._fd)
        except OSError as error:
            if not is_exhausted(error) or not self._give_up():
                raise
        return self._source.open(name, self._fd)

    def _give_up(self) -> bool:
        """Closes what is kept, where that lets another file be opened; whether there was any."""
        # A new descriptor is below the limit, which may have been lowered since.
        names = [name for name, fd in list(self._kept.items()) if fd < limit()]
        taken = [fd for name in names if (fd := self._kept.pop(name, None)) is not None]
        for fd in taken:
            os.close(fd)
            self._keeps = False
        return bool(taken)

    def _keep(self, name: str, fd: int) -> None:
        # Another thread may have kept one meanwhile.
        if self._fd < 0 or self._kept.setdefault(name, fd) != fd:
            os.close(fd)

    def _failure(self, error: OSError, name: str) -> Error:
        return self._source.failure(error, self.pid, f"{self._path}/{name}")

    def _file(self, name: str) -> bytes | None:
        """A small file's bytes, None where there is none: captures lack some, threads end."""
        fd = -1
        try:
            fd = self._open(name)
            return read_file(fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            # Of a thread's file ESRCH says that the thread has ended, not that the process has.
            if isinstance(error, ProcessLookupError) and name.startswith("task/"):
                return None
            raise self._failure(error, name) from None
        finally:
            if fd >= 0:
                os.close(fd)

    def _readable(self, name: str) -> bytes | None:
        """As _file(), None too where it may not or cannot be read; of the link exe its text."""
        try:
            if name.endswith("exe") and not self._source.is_capture:
                return os.fsencode(os.readlink(name, dir_fd=self._fd))
            return self._file(name)
        except ProcessGone:
            raise
        except (Error, OSError) as error:
            if is_foreign(error):
                raise
            return None

    def _stat(self) -> Stat:
        text = self._file("stat")
        if text is None:
            if not self._source.is_capture:
                # Reaped would have been ESRCH: it has become hidden, or has ended this moment.
                raise self._source.not_found(self.pid, self._path)
            path = f"{self._path}/status"
            return stat_of_status(self._file("status"), self._file("comm"), self.pid, path)
        return parse_stat(text, self.pid, f"{self._path}/stat")

    def _needed(self, name: str, take: Callable[[int], T | None]) -> T:
        result = self._take(name, take)
        if result is None:
            path = f"{self._path}/{name}"
            if self._source.is_capture:
                noted = f" ({METADATA} there tells what was denied)"
                told = self._source.has_metadata()
                missing = f"{path} is missing from the capture{noted if told else ''}"
                raise Error(missing, pid=self.pid, path=path)
            self._stat()
            raise Error(
                f"{path} is missing: this kernel was built without CONFIG_PROC_PAGE_MONITOR",
                pid=self.pid,
                path=path,
            )
        return result

    def _take(self, name: str, take: Callable[[int], T | None]) -> T | None:
        """What `take` makes of the file, whole; None where there is no such file."""
        try:
            # Taken out while it is read, so that no other thread closes it.
            kept = self._kept.pop(name, None)
            if kept is not None:
                result = None
                try:
                    result = take(kept)
                except ProcessLookupError:
                    pass
                finally:
                    if result is not None:
                        self._keep(name, kept)
                    else:
                        os.close(kept)  # after an exec it reads nothing for ever
                if result is not None:
                    return result
            return self._take_anew(name, take)
        except ParseError as error:
            error.pid, error.path = self.pid, f"{self._path}/{name}"
            raise
        except OSError as error:
            if isinstance(error, (Error, TimeoutError)):
                raise
            raise self._failure(error, name) from None

    def _take_anew(self, name: str, take: Callable[[int], T | None]) -> T | None:
        # Looked at before the file is opened: see Stat.keeps_parents_memory.
        keep = self._may_keep()
        thread = ""
        for _ in range(ATTEMPTS):
            fd = -1
            result = None
            try:
                fd = self._open(thread + name)
                result = take(fd)
            except FileNotFoundError:
                if not thread:
                    return None
            except ProcessLookupError:
                pass
            finally:
                if fd >= 0:
                    if keep and result is not None and not thread and self._keeps and is_low(fd):
                        self._keep(name, fd)
                    else:
                        os.close(fd)
            if result is not None:
                return result
            thread = self._reader()
        raise self._unsteady(name)

    def _unsteady(self, name: str) -> ReadError:
        return ReadError(
            f"process {self.pid} called exec, or lost the thread that was read, "
            f"during each of {ATTEMPTS} readings",
            pid=self.pid,
            path=f"{self._path}/{name}",
            errno=errno.EAGAIN,
        )

    def _may_keep(self) -> bool:
        text = self._file("stat")
        if text is None:
            return False
        return not parse_stat(text, self.pid, f"{self._path}/stat").keeps_parents_memory

    def _reader(self) -> str:
        """Whose files to try next after nothing was read: "" for the process's own.

        Raises NoMemoryMap or ProcessGone where there is nothing to be read.
        """
        stat = self._stat()
        if stat.is_kernel_thread:
            raise NoMemoryMap("kernel thread", pid=self.pid, path=self._path)
        if not stat.has_exited:
            if not self._source.is_capture:
                return ""
            # Neither of the two has a command line.
            if stat.state == UNKNOWN and not self._file("cmdline"):
                raise NoMemoryMap("kernel thread or zombie", pid=self.pid, path=self._path)
            raise Error(f"{self._path} was captured without text", pid=self.pid, path=self._path)
        # The main thread has left; others may live, and have the memory still.
        living = self._living()
        if living is None:
            raise NoMemoryMap("zombie", pid=self.pid, path=self._path)
        return living[0]

    def _living(self) -> tuple[str, Stat] | None:
        """Where a thread is that outlives the main one ("task/<tid>/"), its stat; None for none."""
        for _ in range(ATTEMPTS):
            ended = 0
            tids = self._threads()
            if not tids:
                return None  # a capture
            for tid in tids:
                text = self._file(f"task/{tid}/stat")
                if text is None:
                    continue
                stat = parse_stat(text, tid, f"{self._path}/task/{tid}/stat")
                if not stat.has_exited:
                    return f"task/{tid}/", stat
                ended += 1
            # One that ended while they were listed cuts the list short, or has started another.
            threads = self._stat().threads
            if threads is None or threads <= ended:
                return None
        raise self._unsteady("task")

    def _memory_stat(self) -> tuple[int, Stat] | None:
        """The number and stat of a thread that has the memory; None where there is none."""
        stat = self._stat()
        if stat.is_kernel_thread:
            return None
        if not stat.has_exited:
            return self.pid, stat
        living = self._living()
        return None if living is None else (int(living[0].split("/")[1]), living[1])

    def _has_waiting_thread(self) -> bool:
        """Whether one is in state D; of a capture only the process's own stat is there."""
        if self._stat().state == "D":
            return True
        for tid in self._threads():
            text = self._file(f"task/{tid}/stat")
            path = f"{self._path}/task/{tid}/stat"
            if text is not None and parse_stat(text, tid, path).state == "D":
                return True
        return False

    def _threads(self) -> list[int]:
        fd = -1
        try:
            fd = os.open("task", OPEN | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=self._fd)
            return sorted(pids_among(os.listdir(fd)))
        except FileNotFoundError:
            return []  # a capture
        except OSError as error:
            raise self._failure(error, "task") from None
        finally:
            if fd >= 0:
                os.close(fd)
