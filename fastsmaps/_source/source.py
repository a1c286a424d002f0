"""Source: a directory to read processes from, either a procfs or a capture.

docs/design.md ("Outcomes of a process") says what each errno means, with its sources;
docs/security.md says why only a procfs mounted by the kernel is trusted.
"""

from __future__ import annotations

import errno
import os
import stat

from fastsmaps._arguments import check_pids, path_of, pids_among
from fastsmaps._backend.bounded import MAX_TEXT
from fastsmaps._backend.descriptors import OPEN, read_file
from fastsmaps._errors import (
    AccessDenied,
    Error,
    NotAProcess,
    NotCaptured,
    NotInNamespace,
    NotProcfs,
    ProcessGone,
    ReadError,
    is_foreign,
)
from fastsmaps._model.stat import is_relative, status_number
from fastsmaps._source.metadata import MAX_METADATA, METADATA, Metadata
from fastsmaps._source.rights import (
    HIDEPID_FORBIDS,
    enough,
    enough_against_hidepid,
    hidden_by,
    mount_options,
    own_rights,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastsmaps._arguments import Procfs
    from fastsmaps._source.rights import Rights

#: The kernel's own procfs on every system.
PROC = "/proc"
#: The limit of mappings for one process; a capture has it at the same place.
MAX_MAP_COUNT = "sys/vm/max_map_count"
#: The largest file that is read where anybody may have made it. A million mappings, more than
#: most kernels allow, have 1.1 GB of smaps.
MAX_BYTES = 2 << 30

# The first pid namespace has a fixed number: PROC_PID_INIT_INO in include/linux/proc_ns.h.
_HOST_PIDS = "pid:[4026531836]"

_FILES_FOR_PERFMON = ("maps", "smaps", "smaps_rollup")


class Source:
    """A procfs or a capture: lists processes, opens files, and explains what fails.

    Two questions about the directory stay separate. `is_capture` asks what it claims to be, which
    decides what a missing file means and which errors name a capture. `open_trusted` asks whether
    the kernel mounted it, which decides whether the backend's fast path may open whatever is there.
    """

    __slots__ = ("_has_relative_cgroups", "_is_capture", "_metadata", "is_proc", "path")

    #: The directory, as the caller wrote it.
    path: str
    #: Whether the path is /proc, where everything is the kernel's.
    is_proc: bool

    def __init__(self, procfs: Procfs = PROC) -> None:
        self.path = path_of(procfs)
        self.is_proc = self.path == PROC
        self._is_capture: bool | None = None
        self._metadata: Metadata | None = None
        self._has_relative_cgroups: bool | None = None

    # ---- what it is

    @property
    def is_capture(self) -> bool:
        """Whether this is a capture: the directory does not claim to be a procfs.

        Every procfs has ``self`` (also with subset=pid), even if the link is dangling because the
        procfs belongs to another pid namespace. Decided at the first request.
        """
        if self._is_capture is None:
            self._is_capture = not os.path.lexists(f"{self.path}/self")
        return self._is_capture

    def open_trusted(self) -> int | None:
        """Open the directory for the backend's fast path; return None if it must not be used.

        The fast path opens any file it finds, so it needs a procfs that the kernel mounted. A
        procfs mounted only in another mount namespace is not recognized. The caller closes the
        descriptor.
        """
        if self.is_capture:
            return None
        try:
            fd = os.open(self.path, OPEN | os.O_DIRECTORY)
        except OSError as error:
            raise self.failure(error, None, self.path) from None
        trusted = False
        try:
            trusted = self.is_kernel_mount(fd)
        finally:
            if not trusted:
                os.close(fd)
        return fd if trusted else None

    def is_kernel_mount(self, directory: int) -> bool:
        """Whether the list of mounts shows a procfs at the open directory."""
        return self.is_proc or mount_options(os.fstat(directory).st_dev) is not None

    # ---- files

    def open(self, name: str, directory: int = -1) -> int:
        """Open a file, relative to an open directory of this source or to its top.

        Only the kernel makes the files in /proc. Anybody may have made another directory that root
        reads: there no link is followed, in any part of the path, and only regular files are
        opened (a FIFO blocks, opening a device may have effects). Anything else, and a file of
        more than 2 GiB, raises OSError.
        """
        if self.is_proc:
            if directory < 0:
                return os.open(f"{PROC}/{name}", OPEN)
            return os.open(name, OPEN, dir_fd=directory)
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        opened = []
        try:
            if directory < 0:
                opened.append(directory := os.open(self.path, flags))
            *parents, name = name.split("/")
            for parent in parents:
                directory = os.open(parent, flags | os.O_NOFOLLOW, dir_fd=directory)
                opened.append(directory)
            # Checked before and after it is opened: it may have been replaced in between.
            _check_file(os.stat(name, dir_fd=directory, follow_symlinks=False))
            opened.append(fd := os.open(name, OPEN | os.O_NOFOLLOW, dir_fd=directory))
            _check_file(os.fstat(fd))
            return opened.pop()
        finally:
            for fd in opened:
                os.close(fd)

    def read(self, name: str, directory: int = -1, limit: int = MAX_TEXT) -> bytes:
        """Return a small file's bytes, cut after `limit`; raise OSError if that fails."""
        fd = self.open(name, directory)
        try:
            return read_file(fd, limit)
        finally:
            os.close(fd)

    def read_optional(self, name: str, limit: int = MAX_TEXT) -> bytes | None:
        """Return a small file's bytes; None if it is missing or cannot be read."""
        try:
            return self.read(name, limit=limit)
        except OSError as error:
            if is_foreign(error):
                raise
            return None

    # ---- facts

    @property
    def metadata(self) -> Metadata:
        """The metadata of a capture; empty for a procfs and for another tool's capture."""
        if self._metadata is None:
            text = self.read_optional(METADATA, MAX_METADATA)
            if text is not None and len(text) > MAX_METADATA:  # it was cut
                text = None
            self._metadata = Metadata(text)
        return self._metadata

    def origin(self, read_at: float | None) -> tuple[str | None, float | None]:
        """Return the host that was read, and when (seconds since the epoch).

        For a procfs these are this host and `read_at`; for a capture they come from its metadata,
        and each is None if that lacks it.
        """
        if self.is_capture:
            return self.metadata.host, self.metadata.taken_at
        return os.uname().nodename, read_at

    def max_map_count(self) -> int | None:
        """Return the kernel's limit of mappings for one process; None if it is not known.

        A procfs mounted with subset=pid has no sys directory, and a capture may lack it.
        """
        number = (self.read_optional(MAX_MAP_COUNT, 32) or b"").removesuffix(b"\n")
        # The kernel stores an int: a longer number is damage.
        return int(number) if number.isdigit() and len(number) <= 18 else None

    @property
    def has_relative_cgroups(self) -> bool:
        """Whether cgroups are named from a place in the middle of their tree.

        A reader in a cgroup namespace of its own (the default of Docker, Podman and Kubernetes
        with cgroup v2) sees the cgroups of its own container as those at the top, so a unit's name
        there may be that of a part of a unit. If process 1 is outside of that namespace, others
        are, too. Source: cgroup_namespaces(7).
        """
        if self._has_relative_cgroups is None:
            self._has_relative_cgroups = is_relative(self.read_optional("1/cgroup") or b"")
        return self._has_relative_cgroups

    def host_pss(self) -> int | None:
        """Return AnonPages + Mapped, in bytes: the sum of Pss over all processes.

        The kernel counts a page when it is first mapped, so each counts once, as in a sum of Pss
        (within 2 % on an idle machine). None if meminfo is missing.
        """
        words = (self.read_optional("meminfo") or b"").split()
        try:
            return sum(
                int(words[words.index(label) + 1]) << 10 for label in (b"AnonPages:", b"Mapped:")
            )
        except (ValueError, IndexError):
            return None

    def hidden_by(self) -> str | None:
        """Return the mount option that hides processes from this reader; None for a capture."""
        return None if self.is_capture else hidden_by(self.path)

    # ---- pids

    def is_in_pid_namespace(self) -> bool | None:
        """Whether the processes here are only those of a pid namespace within the host's.

        None if it is not known: a capture, or process 1 may not be traced.
        """
        try:
            return os.readlink(f"{self.path}/1/ns/pid") != _HOST_PIDS
        except OSError as error:
            if is_foreign(error):
                raise
            return None

    def own_pid(self) -> int | None:
        """Return our own pid in this procfs; None if we are not in its pid namespace.

        A host's procfs in a container gives another number than os.getpid().
        """
        try:
            return int(os.readlink(f"{self.path}/self"))
        except (OSError, ValueError) as error:
            if is_foreign(error):
                raise
            return None

    def counts_ours(self) -> bool:
        """Whether the pids of this procfs are those of our own pid namespace.

        fork(), os.getpid(), subprocess and every system call use those. A procfs of an outer
        namespace shows our processes under other numbers, and other processes under the numbers
        that we know.
        """
        number = self.own_pid()
        if number is None:
            return False
        status = self.read_optional(f"{number}/status") or b""
        # One number for each namespace from that of the procfs to ours. Comparing the numbers is
        # not enough: a process may have the same number in both namespaces by chance.
        numbers = status.partition(b"\nNSpid:")[2].partition(b"\n")[0].split()
        if numbers:
            return len(numbers) == 1
        return number == os.getpid()  # before Linux 4.1

    def pids(self) -> list[int]:
        """Return the listed pids in ascending order.

        Raises NotProcfs if the directory is neither a procfs nor a capture, AccessDenied or
        ReadError if it cannot be listed.
        """
        path = self.path
        try:
            found = sorted(pids_among(os.listdir(path)))
        except OSError as error:
            if is_foreign(error):
                raise
            raise _not_listed(error, path) from error
        # A capture without processes has metadata. Without this check "/host" instead of
        # "/host/proc" would look like a machine on which nothing runs.
        if not found and self.is_capture and not self.has_metadata():
            raise NotProcfs(path)
        return found

    def select(self, pids: Iterable[int] | None) -> list[int]:
        """Return the given pids without duplicates; if None is given, the listed ones."""
        if pids is None:
            return self.pids()
        given = check_pids(pids)
        if not os.path.isdir(self.path):
            raise NotProcfs(self.path, "not a directory")
        if self.is_capture and not self.has_metadata():
            self.pids()  # raises NotProcfs
        return given

    def has_metadata(self) -> bool:
        """Whether there is a metadata file, valid or not."""
        return os.path.lexists(f"{self.path}/{METADATA}")

    # ---- threads: docs/design.md ("Is this number a thread's?")

    def check_is_process(self, pid: int) -> None:
        """Raise NotAProcess if the number is a thread's.

        /proc/<tid> is not listed but can be opened, and its files describe the process: a sum over
        thread ids would count a process many times.
        """
        if self.is_proc and proc_counts_ours():
            # 2 us; status takes 20. pidfd_open() refuses a thread's number, but also fails for
            # other reasons, so a failure is checked below. It uses our own pid namespace.
            try:
                os.close(os.pidfd_open(pid))
            except (OSError, AttributeError) as error:
                if is_foreign(error):
                    raise
            else:
                return
        status = self.read_optional(f"{pid}/status")
        # None: the process has just ended, after it was read, or a capture lacks status.
        if status is not None:
            self.check_owner(status, pid)

    def check_owner(self, status: bytes, pid: int) -> None:
        """Raise NotAProcess if the status of `pid` names another process as its owner."""
        path = f"{self.path}/{pid}/status"
        owner = status_number(status, b"Tgid:", pid, path)
        if owner is None or owner == pid:
            return
        # A capture may have been saved under another number: the number is a thread's only if the
        # process has such a thread.
        if os.path.lexists(f"{self.path}/{owner}/task/{pid}"):
            raise NotAProcess(owner, pid=pid, path=path)

    # ---- errors

    def failure(self, error: OSError, pid: int | None, path: str) -> Error:
        """Return the typed error for an OSError about a process that existed.

        Raises `error` itself if it does not come from the system.
        """
        if is_foreign(error):
            raise error
        if isinstance(error, ProcessLookupError):
            return ProcessGone(f"process {pid} has ended", pid=pid, path=path)
        if isinstance(error, PermissionError):
            return self.denied(error, pid, path)
        return ReadError(
            f"cannot read {path}: {error.strerror}", pid=pid, path=path, errno=error.errno
        )

    def denied(
        self, error: PermissionError, pid: int | None, path: str, rights: Rights | None = None
    ) -> AccessDenied:
        """Return the error for a refusal: EACCES from a file, EPERM from the mount option hidepid.

        hidepid=1 refuses with EPERM; hidepid=4 does so for a process that could be opened before.
        `rights` are the reader's, if they are known already.
        """
        if self.is_capture:
            advice = "the permissions of the capture's files forbid it"
        elif error.errno == errno.EPERM:
            advice = enough_against_hidepid(rights or own_rights())
            advice = f"{HIDEPID_FORBIDS}; {advice}"
        else:
            perfmon = path.rpartition("/")[2] in _FILES_FOR_PERFMON
            advice = enough(rights or own_rights(), perfmon=perfmon)
        return AccessDenied(
            f"not permitted to read {path}: {advice}", pid=pid, path=path, errno=error.errno
        )

    def not_found(self, pid: int | None, path: str) -> Error:
        """Return the error for a process without a directory; `pid` is None for "self"."""
        procfs = self.path
        if not os.path.isdir(procfs):
            return NotProcfs(procfs, "not a directory", pid=pid)
        if pid is not None and os.path.islink(path):
            problem = f"{path} is a symbolic link, which is not followed"
            return ReadError(problem, pid=pid, path=path, errno=errno.ELOOP)
        if self.is_capture:
            if not self._holds_a_capture():
                return NotProcfs(procfs, pid=pid)
            problem = f"the capture {procfs} does not hold process {'self' if pid is None else pid}"
            problem += ": pass one of the pids by which its directories are named"
            return NotCaptured(problem, pid=pid, path=path)
        if pid is None:
            problem = f"this process is not in the pid namespace of procfs={procfs!r}: pass a pid"
            return NotInNamespace(problem, path=path)
        if self._is_hidden(pid, path):
            return AccessDenied(
                f"process {pid} is hidden by the mount option hidepid of {procfs}: "
                + enough_against_hidepid(own_rights()),
                pid=pid,
                path=path,
            )
        return ProcessGone(f"there is no process {pid}", pid=pid, path=path)

    def _holds_a_capture(self) -> bool:
        """Whether a directory that is not a procfs holds a process, or a capture's metadata."""
        try:
            names = os.listdir(self.path)
        except OSError as error:
            if is_foreign(error):
                raise
            return True  # a directory that may be entered but not listed
        return METADATA in names or bool(pids_among(names))

    def _is_hidden(self, pid: int, path: str) -> bool:
        """Whether a process without a directory exists: hidepid=2 and 4 hide it.

        Signal 0 has no effect on a process, and fails with EPERM for another user's. If it
        succeeds the process may be hidden too: hidepid=4 hides a process that is not dumpable from
        its own user (seen on 6.18). Signals use our own pid namespace, so the procfs must belong
        to it.
        """
        if not self.counts_ours():
            return False
        try:
            os.kill(pid, 0)
        except PermissionError:
            pass
        except OSError as error:
            if is_foreign(error):
                raise
            return False
        return not os.path.lexists(path)  # it may have just started


def _not_listed(error: OSError, path: str) -> Error:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return NotProcfs(path, "not a directory")
    kind = AccessDenied if isinstance(error, PermissionError) else ReadError
    problem = f"procfs={path!r} cannot be listed: {error.strerror}"
    return kind(problem, path=path, errno=error.errno)


def _check_file(status: os.stat_result) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFLNK:
        raise OSError(errno.ELOOP, "it is a symbolic link, which is not followed")
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if kind != stat.S_IFREG:
        raise OSError(errno.EINVAL, "it is not a regular file")
    if status.st_size > MAX_BYTES:
        raise OSError(errno.EFBIG, f"it has more than {MAX_BYTES} bytes")


_counted: bool | None = None


def proc_counts_ours() -> bool:
    """Return counts_ours() of /proc; computed once, so that it costs totals() nothing."""
    global _counted
    if _counted is None:
        _counted = Source().counts_ours()
    return _counted


def _forget() -> None:
    global _counted
    _counted = None


# A child may be in another pid namespace.
os.register_at_fork(after_in_child=_forget)
