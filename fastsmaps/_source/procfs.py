"""Where processes are found, and what the kernel's refusals mean.

Which failure means what is told, with its sources, in docs/design.md ("Fates of a process").
"""

from __future__ import annotations

import errno
import os

from fastsmaps._backend.descriptors import read_file
from fastsmaps._errors import (
    AccessDenied,
    Error,
    NotAProcess,
    NotProcfs,
    ProcessGone,
    ReadError,
    is_foreign,
)
from fastsmaps._model.stat import status_number
from fastsmaps._source.openat import KERNELS, open_in
from fastsmaps._source.rights import enough, enough_against_hidepid, own_rights

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import SupportsIndex

    from fastsmaps._source.rights import Rights

    Pid = SupportsIndex | str
    Procfs = str | os.PathLike[str]

#: The file in a capture that says what could not be read.
NOTES = "fastsmaps.json"
#: How many mappings a process may have; a capture has it in the same place.
MAX_MAP_COUNT = "sys/vm/max_map_count"
#: Bytes of a page, in which statm counts.
PAGE = os.sysconf("SC_PAGE_SIZE")
# seq_file makes whole records in a page, and makes the one that did not fit again in the next
# read: asking for a page less a record avoids that (see read_chunks() in src/). As many
# chunks a call as make 192 kB, which stays in the second-level cache.
CHUNK_SIZE = PAGE - 1096
CHUNKS = max(1, min(64, 192_000 // CHUNK_SIZE))

_FILES_FOR_PERFMON = ("maps", "smaps", "smaps_rollup")


def root(procfs: Procfs) -> str:
    """The procfs directory as str; TypeError for what is no path."""
    path = os.fspath(procfs)
    if not isinstance(path, str):
        raise TypeError(f"procfs: a str or a path of str, not {type(path).__name__}")
    return path


def check_pid(pid: Pid) -> int | str:
    """The pid as an int, or "self"; TypeError or ValueError for what can be none."""
    if isinstance(pid, str):
        if pid != "self":
            raise ValueError(f'pid: a number or "self", not {pid!r}')
        return pid
    if isinstance(pid, bool) or not hasattr(pid, "__index__"):
        raise TypeError(f'pid: an int or "self", not {type(pid).__name__}')
    number = pid.__index__()
    # pid_t is 32 bits wide on every Linux.
    if not 0 < number < 2**31:
        raise ValueError(f"pid: 1 to {2**31 - 1}, not {number}")
    return number


def is_procfs(procfs: str) -> bool:
    """Whether this claims to be a procfs, here or mounted elsewhere, and not a capture.

    Every procfs has ``self`` (also with subset=pid), though it may lead nowhere in another
    pid namespace's. Whether it is the kernel's own, openat.is_kernels() tells.
    """
    return os.path.lexists(f"{procfs}/self")


def self_pid(procfs: str) -> int | None:
    """Our own pid as this procfs counts; None where we are not in its pid namespace.

    A host's procfs in a container gives another number than os.getpid().
    """
    try:
        return int(os.readlink(f"{procfs}/self"))
    except (OSError, ValueError) as error:
        if is_foreign(error):
            raise
        return None


def max_map_count(procfs: str) -> int | None:
    """The kernel's limit of mappings for one process; None where it is not known.

    A procfs mounted with subset=pid has no sys, and a capture may lack it.
    """
    try:
        fd = open_in(procfs, MAX_MAP_COUNT)
        try:
            text = read_file(fd, 32)
        finally:
            os.close(fd)
    except OSError as error:
        if is_foreign(error):
            raise
        return None
    number = text.removesuffix(b"\n")
    # The kernel's is an int: what is longer is in no capture of ours.
    return int(number) if number.isdigit() and len(number) <= 18 else None


def counts_ours(procfs: str) -> bool:
    """Whether the numbers of this procfs are those of our own pid namespace.

    Those are what fork(), os.getpid(), subprocess and every system call use. A procfs of an outer
    namespace shows our processes by other numbers, and strangers by the numbers that we know.
    """
    number = self_pid(procfs)
    if number is None:
        return False
    try:
        fd = open_in(procfs, f"{number}/status")
        try:
            status = read_file(fd)
        finally:
            os.close(fd)
    except OSError as error:
        if is_foreign(error):
            raise
        status = b""
    # A number for each namespace from that of the procfs to ours: the same number in two
    # namespaces may be chance.
    numbers = status.partition(b"\nNSpid:")[2].partition(b"\n")[0].split()
    if numbers:
        return len(numbers) == 1
    return number == os.getpid()  # before Linux 4.1


def is_hidden(pid: int, path: str, procfs: str) -> bool:
    """Whether a process that cannot be found is there: hidepid=2 and 4 hide it.

    Signal 0 does nothing to a process. It fails with EPERM for another user's; where it works
    the process may be hidden too: hidepid=4 hides from its own user what is not dumpable (seen
    on 6.18). Signals go by our own pid namespace, so the procfs must be of that.
    """
    if not counts_ours(procfs):
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass
    except OSError as error:
        if is_foreign(error):
            raise
        return False
    return not os.path.lexists(path)  # it may have come just now


def _is_capture(directory: str) -> bool:
    """Whether a directory that is not a procfs holds a process, or the notes of a capture."""
    try:
        names = os.listdir(directory)
    except OSError as error:
        if is_foreign(error):
            raise
        return True  # one that may be entered and not listed
    return NOTES in names or bool(numbers(names))


def not_found(pid: int | None, path: str, procfs: str) -> Error:
    """The error for a process that has no directory; pid is None for "self"."""
    if not os.path.isdir(procfs):
        return NotProcfs(procfs, "not a directory", pid=pid)
    if pid is not None and os.path.islink(path):
        problem = f"{path} is a symbolic link, which is not followed"
        return ReadError(problem, pid=pid, path=path, errno=errno.ELOOP)
    if not is_procfs(procfs):
        if not _is_capture(procfs):
            return NotProcfs(procfs, pid=pid)
        which = "self" if pid is None else pid
        return Error(f"the capture {procfs} does not hold process {which}", pid=pid, path=path)
    if pid is None:
        return Error(f"procfs={procfs!r} is of a pid namespace without this process", path=path)
    if is_hidden(pid, path, procfs):
        return AccessDenied(
            f"process {pid} is hidden by the mount option hidepid of {procfs}: "
            + enough_against_hidepid(own_rights()),
            pid=pid,
            path=path,
        )
    return ProcessGone(f"there is no process {pid}", pid=pid, path=path)


def failure(error: OSError, pid: int | None, path: str, procfs: str) -> Error:
    """The typed error for an OSError about a process that was there.

    Raises what is not the system's.
    """
    if is_foreign(error):
        raise error
    if isinstance(error, ProcessLookupError):
        return ProcessGone(f"process {pid} has ended", pid=pid, path=path)
    if isinstance(error, PermissionError):
        return denied(error, pid, path, procfs)
    return ReadError(f"cannot read {path}: {error.strerror}", pid=pid, path=path, errno=error.errno)


def denied(
    error: PermissionError, pid: int | None, path: str, procfs: str, rights: Rights | None = None
) -> AccessDenied:
    """EACCES comes from the file, EPERM from the mount (hidepid=1; 4 for what was found before).

    `rights` are the reader's, where they are known already.
    """
    if not is_procfs(procfs):
        help_ = "the permissions of the capture's files forbid it"
    elif error.errno == errno.EPERM:
        advice = enough_against_hidepid(rights or own_rights())
        help_ = f"the mount option hidepid forbids it; {advice}"
    else:
        perfmon = path.rpartition("/")[2] in _FILES_FOR_PERFMON
        help_ = enough(rights or own_rights(), perfmon=perfmon)
    return AccessDenied(
        f"not permitted to read {path}: {help_}", pid=pid, path=path, errno=error.errno
    )


def check_is_process(pid: int, procfs: str) -> None:
    """Raise NotAProcess if the number is a thread's.

    /proc/<tid> is not listed, but opens; its files tell of the process, so that a sum over
    numbers of threads would count a process many times.
    """
    if procfs == KERNELS and _kernels_counts_ours():
        # 2 us; status takes 20. pidfd_open refuses a thread's number, and whatever else it
        # refuses is looked at again. It goes by our own pid namespace.
        try:
            os.close(os.pidfd_open(pid))
        except (OSError, AttributeError) as error:
            if is_foreign(error):
                raise
        else:
            return
    path = f"{procfs}/{pid}/status"
    try:
        fd = open_in(procfs, f"{pid}/status")
    except OSError as error:
        if is_foreign(error):
            raise
        return  # gone, which was no error a moment ago, or a capture without it
    try:
        status = read_file(fd)
    except OSError as error:
        if is_foreign(error):
            raise
        return
    finally:
        os.close(fd)
    check_owner(status, pid, path)


_known: bool | None = None


def _kernels_counts_ours() -> bool:
    """counts_ours() of /proc, asked once a process: a call of totals() takes no longer for it."""
    global _known
    if _known is None:
        _known = counts_ours(KERNELS)
    return _known


def _forget() -> None:
    global _known
    _known = None


# A child may be in another pid namespace.
os.register_at_fork(after_in_child=_forget)


def check_owner(status: bytes, pid: int, path: str) -> None:
    """Raise NotAProcess if the status of a task names another process."""
    owner = status_number(status, b"Tgid:", pid, path)
    if owner is None or owner == pid:
        return
    # A capture may have been saved under another number: only where the process has such a
    # thread is it one.
    root = path[: path.rindex(f"/{pid}/")]
    if os.path.lexists(f"{root}/{owner}/task/{pid}"):
        raise NotAProcess(owner, pid=pid, path=path)


def numbers(names: Iterable[str]) -> list[int]:
    """Those of the names that are a pid as the kernel writes it; a capture may hold any other."""
    return [
        int(name)
        for name in names
        if name.isdecimal() and name.isascii() and name[0] != "0" and int(name) < 2**31
    ]


def pids(procfs: Procfs = "/proc") -> list[int]:
    """The processes that a procfs or capture lists, in the order of their numbers.

    Raises NotProcfs for what is neither, AccessDenied or ReadError where it cannot be listed.
    """
    path = root(procfs)
    try:
        found = sorted(numbers(os.listdir(path)))
    except OSError as error:
        if is_foreign(error):
            raise
        raise _not_listed(error, path) from error
    # A capture may hold no process, and says so in its notes. "/host" instead of "/host/proc"
    # must not look like a machine on which nothing runs.
    if not found and not is_procfs(path) and not os.path.lexists(f"{path}/{NOTES}"):
        raise NotProcfs(path)
    return found


def _not_listed(error: OSError, path: str) -> Error:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return NotProcfs(path, "not a directory")
    kind = AccessDenied if isinstance(error, PermissionError) else ReadError
    problem = f"procfs={path!r} cannot be listed: {error.strerror}"
    return kind(problem, path=path, errno=error.errno)


def numbers_of(wanted: Iterable[int] | None, procfs: str) -> list[int]:
    """The processes asked for, each once; those that are listed where none are named."""
    if wanted is None:
        return pids(procfs)
    if isinstance(wanted, int | str):
        raise TypeError(f"pids: several numbers, not {wanted!r}")
    if not os.path.isdir(procfs):
        raise NotProcfs(procfs, "not a directory")
    given = list(wanted)
    # One by one only where some are no plain numbers: that takes as long as reading 1 % of them.
    if set(map(type, given)) != {int} or min(given) < 1 or max(given) >= 2**31:
        given = [_number_of(pid) for pid in given]
    return list(dict.fromkeys(given))


def _number_of(pid: int) -> int:
    number = check_pid(pid)
    if isinstance(number, str):
        raise TypeError(f"pids: numbers, not {number!r}")
    return number
