"""Process: one process, pinned."""

from __future__ import annotations

from collections.abc import Iterable

from fastsmaps._arguments import Pid, Procfs, SupportsIndex, check_int, check_ints, check_pid
from fastsmaps._errors import Error, ProcessGone
from fastsmaps._model.info import Info
from fastsmaps._model.mapping import Mapping
from fastsmaps._model.mappings import Mappings
from fastsmaps._model.totals import Totals
from fastsmaps._public import public
from fastsmaps._source.pidfd import pidfd_number
from fastsmaps._source.process_dir import ProcessDir
from fastsmaps._source.source import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from fastsmaps._model.process_totals import ProcessTotals


@public
class Process:
    """One process, pinned: never another one that got its pid later.

    A context manager over an open descriptor of /proc/<pid>. Once the process is reaped, every
    read raises ProcessGone, even if the pid is in use again. The descriptors of smaps, smaps_rollup
    and maps are kept and read again from their start, which saves about 5 us a call; after an exec
    they are reopened. None is kept while more than half of RLIMIT_NOFILE is used, and all are
    closed for good if no other file can be opened.

    `pid` is a process's number in `procfs`, or "self". `procfs` may belong to another pid namespace
    than this process, as a host's /proc in a container does: then os.getpid(), subprocess and
    multiprocessing give numbers that belong to other processes there. For a child, open a pidfd
    and use from_pidfd().

    Raises TypeError or ValueError for any other `pid`, ProcessGone, AccessDenied, NotProcfs, or
    NotAProcess for a thread's number. After close() every read raises ValueError.
    """

    def __init__(self, pid: Pid = "self", *, procfs: Procfs = "/proc") -> None:
        source = Source(procfs)
        # For this package only: reads the files of the process that are not about memory.
        self.directory = ProcessDir(source, check_pid(pid))
        self.pid = self.directory.pid
        self.procfs = source.path

    @classmethod
    def from_pidfd(cls, fd: SupportsIndex, *, procfs: Procfs = "/proc") -> Process:
        """Open the process of a pidfd (os.pidfd_open()), whatever its number in `procfs`.

            with subprocess.Popen(command) as child:
                fd = os.pidfd_open(child.pid)
                with fastsmaps.Process.from_pidfd(fd) as process:
                    process.totals()

        `procfs` must show this process too. The descriptor stays open; it is not used later.

        Raises TypeError or ValueError if `fd` is not an open pidfd, ProcessGone if the process has
        been reaped, NotAProcess if the pidfd is a thread's (PIDFD_THREAD), NotInNamespace if the
        process is not in the pid namespace of `procfs`, NotSupported if the kernel does not report
        its number, and what Process() raises.

        Source: pidfd_open(2), proc_pid_fdinfo(5).
        """
        source = Source(procfs)
        number = pidfd_number(fd, source)
        try:
            process = cls(number, procfs=procfs)
        except Error:
            pidfd_number(fd, source)  # ProcessGone: then the number may be another process's
            raise
        try:
            if pidfd_number(fd, source) != number:
                raise ProcessGone(
                    f"process {number} has ended", pid=number, path=process.directory.path
                )
        except BaseException:
            process.close()
            raise
        return process

    def close(self) -> None:
        """Close all descriptors; may be called again, but not while another thread reads."""
        self.directory.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        # A copy would hold the same descriptors, and close them a second time.
        raise TypeError("a Process holds open descriptors: it is neither copied nor pickled")

    def __repr__(self) -> str:
        return f"<Process {self.pid}{'' if self.directory.is_open else ', closed'}>"

    def totals(self) -> Totals:
        """Return the totals of this process, as fastsmaps.totals() does."""
        return self.directory.totals()

    def mappings(self, *, sizes: bool = True) -> Mappings:
        """Return the mappings of this process, as fastsmaps.mappings() does."""
        return self.directory.mappings(sizes=sizes)

    def find(self, address: int, *, build_id: bool = False) -> Mapping | None:
        """Return the mapping that contains the address, or None, as fastsmaps.find() does."""
        if type(address) is not int:
            address = check_int("address", address)
        return self.directory.find_one(address, build_id)

    def find_many(
        self, addresses: Iterable[int], *, build_id: bool = False
    ) -> list[Mapping | None]:
        """Return what find() returns for each address, in the order given.

        Raises TypeError if one of them is not an int.
        """
        return self.directory.find(check_ints("addresses", addresses), build_id=build_id)

    def info(self, *, heap: bool = False) -> Info:
        """Return facts about the process that are not in its mappings.

        `heap=True` adds the address ranges of the heap, which takes a read of maps; otherwise
        ``heap`` is None.
        """
        return self.directory.info(heap=heap)


def process_of(row: ProcessTotals, procfs: str) -> Process:
    """Open the process of a scan's row; raises ProcessGone if another one has its number."""
    process = Process(row.pid, procfs=procfs)
    try:
        start = row.start_time
        if start is not None and start != process.directory.stat().start_time:
            raise ProcessGone(f"process {row.pid} has ended", pid=row.pid)
    except BaseException:
        process.close()
        raise
    return process
