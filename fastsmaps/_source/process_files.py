"""ProcessFiles: the files of one process, read through an open descriptor of its directory."""

from __future__ import annotations

import errno
import os

from fastsmaps._arguments import pids_among
from fastsmaps._backend.descriptors import OPEN, is_exhausted, is_low, limit, read_file
from fastsmaps._errors import (
    Error,
    NoMemoryMap,
    NotCaptured,
    NotSupported,
    ParseError,
    ProcessGone,
    ReadError,
    is_foreign,
)
from fastsmaps._model.stat import UNKNOWN, Stat, parse_stat, stat_of_status
from fastsmaps._source.metadata import METADATA

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self, TypeVar

    from fastsmaps._source.source import Source

    T = TypeVar("T")

#: Attempts to read a file. An exec during a read ends the file early, and the next attempt reads
#: the new program; a process may call exec in a loop, and its threads may end as fast.
ATTEMPTS = 20


class ProcessFiles:
    """The files of one process under a Source.

    Once the process is reaped, every read through it fails with ESRCH, even if another process
    has its number now. The descriptors of smaps, smaps_rollup and maps are kept; see Process.
    """

    _fd = -1  # of the directory; the instance has its own while it is open
    _keeps = True  # False once the process ran out of descriptors

    def __init__(self, source: Source, pid: int | str) -> None:
        #: The kept descriptors, by the file's name.
        self.kept: dict[str, int] = {}
        self.source = source
        self.path = f"{source.path}/{pid}"
        number = None if isinstance(pid, str) else pid
        try:
            if number is None:
                number = source.own_pid()
                if number is None:
                    raise FileNotFoundError
                self.path = f"{source.path}/{number}"
            fd = os.open(self.path, OPEN | os.O_DIRECTORY | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
            raise source.not_found(number, self.path) from None
        except OSError as error:
            raise source.failure(error, number, self.path) from None
        self.pid: int = number
        self._fd = fd
        try:
            status = self.file("status")
            if status is not None:
                source.check_owner(status, number)
        except BaseException:
            self.close()
            raise

    # ---- open and close

    def close(self) -> None:
        """Close all descriptors; may be called again, but not while another thread reads."""
        # Each is removed before it is closed, so that two threads never close the same number:
        # it may be another file's by the second time.
        fd = self.__dict__.pop("_fd", -1)
        if fd >= 0:
            os.close(fd)
        while True:
            try:
                fd = self.kept.popitem()[1]
            except KeyError:
                break
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "kept"):
            self.close()

    @property
    def is_open(self) -> bool:
        """Whether close() has not been called."""
        return self._fd >= 0

    # ---- reading

    def open(self, name: str) -> int:
        """Open a file of the process; raise OSError if that fails.

        If no descriptor is left, the kept ones are closed first.
        """
        if self._fd < 0:
            raise ValueError("this Process is closed")
        try:
            return self.source.open(name, self._fd)
        except OSError as error:
            if not is_exhausted(error) or not self._give_up():
                raise
        return self.source.open(name, self._fd)

    def _give_up(self) -> bool:
        """Close the kept descriptors that can be used again; return whether there were any."""
        # A new descriptor is below the limit, which may have been lowered since.
        names = [name for name, fd in list(self.kept.items()) if fd < limit()]
        removed = [fd for name in names if (fd := self.kept.pop(name, None)) is not None]
        for fd in removed:
            os.close(fd)
            self._keeps = False
        return bool(removed)

    def _keep(self, name: str, fd: int) -> None:
        # Another thread may have kept one meanwhile.
        if self._fd < 0 or self.kept.setdefault(name, fd) != fd:
            os.close(fd)

    def failure(self, error: OSError, name: str) -> Error:
        """Return the typed error for an OSError about a file of the process."""
        return self.source.failure(error, self.pid, f"{self.path}/{name}")

    def file(self, name: str) -> bytes | None:
        """Return a small file's bytes; None if a capture lacks it, or the thread has ended."""
        fd = -1
        try:
            fd = self.open(name)
            return read_file(fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            # ESRCH for a thread's file: the thread has ended, not the process.
            if isinstance(error, ProcessLookupError) and name.startswith("task/"):
                return None
            raise self.failure(error, name) from None
        finally:
            if fd >= 0:
                os.close(fd)

    def optional_file(self, name: str) -> bytes | None:
        """Return a small file's bytes, or the target of the link exe; None if that fails."""
        try:
            if name.endswith("exe") and not self.source.is_capture:
                return os.fsencode(os.readlink(name, dir_fd=self._fd))
            return self.file(name)
        except ProcessGone:
            raise
        except (Error, OSError) as error:
            if is_foreign(error):
                raise
            return None

    def stat(self) -> Stat:
        """Return the parsed stat; if a capture lacks it, made from status and comm."""
        text = self.file("stat")
        if text is None:
            if not self.source.is_capture:
                # Not reaped, which would be ESRCH: it has just become hidden, or is about to end.
                raise self.source.not_found(self.pid, self.path)
            path = f"{self.path}/status"
            return stat_of_status(self.file("status"), self.file("comm"), self.pid, path)
        return parse_stat(text, self.pid, f"{self.path}/stat")

    def needed(self, name: str, take: Callable[[int], T | None]) -> T:
        """Return what take() returns; raise NotCaptured or NotSupported if the file is missing."""
        result = self.take(name, take)
        if result is None:
            path = f"{self.path}/{name}"
            if self.source.is_capture:
                problem = f"{path} is missing from the capture"
                if self.source.has_metadata():
                    problem += f" ({METADATA} there lists what was denied)"
                problem += ": capture the process again"
                raise NotCaptured(problem, pid=self.pid, path=path)
            self.stat()
            problem = f"{path} is missing: use a kernel with CONFIG_PROC_PAGE_MONITOR"
            raise NotSupported(problem, pid=self.pid, path=path)
        return result

    def take(self, name: str, take: Callable[[int], T | None]) -> T | None:
        """Return the result of `take` for the complete file; None if there is no such file."""
        try:
            # Removed while it is being read, so that no other thread closes it.
            kept = self.kept.pop(name, None)
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
                        os.close(kept)  # after an exec it stays empty
                if result is not None:
                    return result
            return self._take_anew(name, take)
        except ParseError as error:
            error.pid, error.path = self.pid, f"{self.path}/{name}"
            raise
        except OSError as error:
            if isinstance(error, (Error, TimeoutError)):
                raise
            raise self.failure(error, name) from None

    def _take_anew(self, name: str, take: Callable[[int], T | None]) -> T | None:
        # Checked before the file is opened: see Stat.keeps_parents_memory.
        keep = self._may_keep()
        thread = ""
        for _ in range(ATTEMPTS):
            fd = -1
            result = None
            try:
                fd = self.open(thread + name)
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
        raise self.unsteady(name)

    def unsteady(self, name: str) -> ReadError:
        """Return the error for a file that every attempt failed to read to its end."""
        return ReadError(
            f"process {self.pid} called exec, or lost the thread that was read, "
            f"during each of {ATTEMPTS} readings",
            pid=self.pid,
            path=f"{self.path}/{name}",
            errno=errno.EAGAIN,
        )

    def _may_keep(self) -> bool:
        text = self.file("stat")
        if text is None:
            return False
        return not parse_stat(text, self.pid, f"{self.path}/stat").keeps_parents_memory

    def _reader(self) -> str:
        """Return where to read next after an empty read: "" or "task/<tid>/".

        Raises NoMemoryMap or ProcessGone if there is nothing to read.
        """
        stat = self.stat()
        if stat.is_kernel_thread:
            raise NoMemoryMap("kernel thread", pid=self.pid, path=self.path)
        if not stat.has_exited:
            if not self.source.is_capture:
                return ""
            # A kernel thread and a zombie have no command line.
            if stat.state == UNKNOWN and not self.file("cmdline"):
                raise NoMemoryMap("kernel thread or zombie", pid=self.pid, path=self.path)
            problem = f"{self.path} was captured without text: capture the process again"
            raise NotCaptured(problem, pid=self.pid, path=self.path)
        # The main thread has exited. Others may live, and still have the memory.
        living = self.living()
        if living is None:
            raise NoMemoryMap("zombie", pid=self.pid, path=self.path)
        return living[0]

    def living(self) -> tuple[str, Stat] | None:
        """Return "task/<tid>/" and stat of a thread that outlives the main one, or None."""
        for _ in range(ATTEMPTS):
            ended = 0
            tids = self._threads()
            if not tids:
                return None  # a capture
            for tid in tids:
                text = self.file(f"task/{tid}/stat")
                if text is None:
                    continue
                stat = parse_stat(text, tid, f"{self.path}/task/{tid}/stat")
                if not stat.has_exited:
                    return f"task/{tid}/", stat
                ended += 1
            # A thread that ends during the listing cuts it short, or has started another thread.
            threads = self.stat().threads
            if threads is None or threads <= ended:
                return None
        raise self.unsteady("task")

    def memory_stat(self) -> tuple[int, Stat] | None:
        """Return the id and stat of a thread that has the memory; None if there is none."""
        stat = self.stat()
        if stat.is_kernel_thread:
            return None
        if not stat.has_exited:
            return self.pid, stat
        living = self.living()
        return None if living is None else (int(living[0].split("/")[1]), living[1])

    def has_waiting_thread(self) -> bool:
        """Whether a thread is in state D; a capture only has the process's own stat."""
        if self.stat().state == "D":
            return True
        for tid in self._threads():
            text = self.file(f"task/{tid}/stat")
            path = f"{self.path}/task/{tid}/stat"
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
            raise self.failure(error, "task") from None
        finally:
            if fd >= 0:
                os.close(fd)
