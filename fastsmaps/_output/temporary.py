"""Temporary files and directories that are always removed.

A signal handler may raise between any two instructions, and a process may be killed. So a path is
noted before it is created, every noted path is removed at the latest when the interpreter ends,
and a lock shows other processes whether the creator of a leftover still lives.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import stat
import sys

from fastsmaps._errors import is_foreign

#: Prefixes of names: in the directory for temporary files, and next to a file being written.
UNPACKED = "fastsmaps-"
UNFINISHED = ".fastsmaps-"

_RANDOM_BYTES = 16  # of a name

# By path, of all that exist or may exist: the pid of the creator, and whether it is a directory.
_noted: dict[str, tuple[int, bool]] = {}


class Temporary:
    """A new file (0600) or directory (0700) with an unpredictable name.

    It is removed by remove(), when this object dies or when the interpreter ends, unless
    rename() gave it another name. ``fd`` is its open descriptor, which also holds the lock.
    A fork of this process removes nothing.

    Leftovers of killed processes in the same directory are removed first. Raises OSError.
    """

    def __init__(self, parent: str, prefix: str, *, directory: bool = False) -> None:
        self.fd = -1
        parent = os.path.abspath(parent)
        prefix += _host_prefix()
        _remove_orphans(parent, prefix)
        while self.fd < 0:
            self.path = f"{parent}/{prefix}{os.urandom(_RANDOM_BYTES).hex()}"
            _noted[self.path] = os.getpid(), directory
            self._make(directory)
            if self.fd < 0:
                _remove(self.path)

    def _make(self, directory: bool) -> None:
        flags = os.O_NOFOLLOW | os.O_CLOEXEC
        if directory:
            os.mkdir(self.path, 0o700)
            try:
                self.fd = os.open(self.path, flags | os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                return  # another process took it for an orphan before it was locked
        else:
            self.fd = os.open(self.path, flags | os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._close()  # another process is about to remove it
        except OSError as error:
            # A file system without locks, where orphans are not found either.
            if is_foreign(error):
                raise
        else:
            if not os.fstat(self.fd).st_nlink:
                self._close()

    def rename(self, target: str) -> None:
        """Rename it, replacing an existing file, and close ``fd``."""
        os.rename(self.path, target)
        _noted.pop(self.path, None)
        self._close()

    def remove(self) -> None:
        """Remove it unless it was renamed, and close ``fd``."""
        if self.path in _noted or self.fd >= 0:
            try:
                _remove(self.path)
            finally:
                _remove(self.path)  # again, in case a handler raised in the middle
                self._close()

    def _close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        if hasattr(self, "path"):
            self.remove()


def temporary_directory() -> Temporary:
    """Make a temporary directory in the first usual place that allows it; raise OSError.

    The places are those of tempfile: its ``tempdir``, TMPDIR, TEMP, TMP, then fixed ones.
    tempfile.gettempdir() would try a place with a file of its own, which is left behind if a
    signal handler raises just after it was made.
    """
    chosen = getattr(sys.modules.get("tempfile"), "tempdir", None)  # by the program
    places = [chosen, *map(os.environ.get, ("TMPDIR", "TEMP", "TMP")), "/tmp", "/var/tmp"]
    for place in filter(None, places):
        try:
            return Temporary(place, UNPACKED, directory=True)
        except OSError as error:
            if is_foreign(error):
                raise
    return Temporary(".", UNPACKED, directory=True)


@atexit.register
def remove_all() -> None:
    """Remove everything that this process made and did not rename."""
    for path in list(_noted):
        _remove(path)


def _remove(path: str) -> None:
    pid, directory = _noted.get(path, (0, False))
    if pid != os.getpid():
        return
    _delete(path, directory)
    if not os.path.lexists(path):
        _noted.pop(path, None)


def _delete(path: str, directory: bool) -> None:
    """Remove a file or a directory with all its content, as far as possible."""
    try:
        if not directory:
            os.unlink(path)
            return
        with os.scandir(path) as entries:
            for entry in entries:
                _delete(entry.path, entry.is_dir(follow_symlinks=False))
        os.rmdir(path)
    except OSError as error:
        if is_foreign(error):
            raise


# ---- orphans


def _host_prefix() -> str:
    """Return a prefix for this host: another host that shares the directory sees no locks."""
    import zlib

    return f"{zlib.crc32(os.fsencode(os.uname().nodename)):08x}-"


def _remove_orphans(parent: str, prefix: str) -> None:
    """Remove what killed processes of this user left in the directory."""
    try:
        names = os.listdir(parent)
    except OSError as error:
        if is_foreign(error):
            raise
        return  # it may not be listed
    for name in names:
        rest = name.removeprefix(prefix)
        if rest != name and len(rest) == 2 * _RANDOM_BYTES and not rest.strip("0123456789abcdef"):
            try:
                _remove_orphan(f"{parent}/{name}")
            except OSError as error:  # it is gone, or its creator lives
                if is_foreign(error):
                    raise


def _remove_orphan(path: str) -> None:
    found = os.lstat(path)
    directory = stat.S_ISDIR(found.st_mode)
    kind, mode = (stat.S_IFDIR, 0o700) if directory else (stat.S_IFREG, 0o600)
    private = stat.S_IFMT(found.st_mode) == kind and found.st_mode & 0o777 == mode
    if not private or found.st_uid != os.geteuid():
        return
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for status in (os.fstat(fd), os.lstat(path)):
            if (status.st_dev, status.st_ino) != (found.st_dev, found.st_ino):
                return
        _delete(path, directory)
    finally:
        os.close(fd)
