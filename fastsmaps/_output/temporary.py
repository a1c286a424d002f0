"""Temporary files and directories that are always removed.

A signal's handler may raise between any two instructions, and a process may be killed. So a name
is chosen and noted before anything has it, what is noted is removed at the latest when the
interpreter ends, and a lock shows other processes whether the maker of what they find still lives.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import stat
import sys

from fastsmaps._errors import is_foreign

#: Beginnings of names: in the directory for temporary files, and beside a file that is written.
UNPACKED = "fastsmaps-"
UNFINISHED = ".fastsmaps-"

_RANDOM = 16  # bytes

# What is there or may be: its path, the process that makes it, and whether it is a directory.
_noted: dict[str, tuple[int, bool]] = {}


class Temporary:
    """A new file (0600) or directory (0700) of an unforeseeable name.

    It is removed by remove(), when this object dies or when the interpreter ends, unless
    rename() gave it another name. ``fd`` is an open descriptor of it, which also holds the lock.
    A fork of this process removes nothing.

    Orphans of killed processes in the same directory are removed first. Raises OSError.
    """

    def __init__(self, parent: str, beginning: str, *, directory: bool = False) -> None:
        self.fd = -1
        parent = os.path.abspath(parent)
        beginning += _of_this_host()
        _remove_orphans(parent, beginning)
        while self.fd < 0:
            self.path = f"{parent}/{beginning}{os.urandom(_RANDOM).hex()}"
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
                return  # somebody took it for an orphan before it was locked
        else:
            self.fd = os.open(self.path, flags | os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._close()  # somebody is about to remove it
        except OSError as error:
            # A file system without locks, where nobody finds an orphan either.
            if is_foreign(error):
                raise
        else:
            if not os.fstat(self.fd).st_nlink:
                self._close()

    def rename(self, target: str) -> None:
        """Gives it this name; a file takes the place of one that is there. Closes ``fd``."""
        os.rename(self.path, target)
        _noted.pop(self.path, None)
        self._close()

    def remove(self) -> None:
        """Removes it, unless it has another name by now. Closes ``fd``."""
        if self.path in _noted or self.fd >= 0:
            try:
                _remove(self.path)
            finally:
                _remove(self.path)  # once more, where a handler raised in the midst of it
                self._close()

    def _close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        if hasattr(self, "path"):
            self.remove()


def temporary_directory() -> Temporary:
    """A directory for temporary files; OSError where none of the usual places takes one.

    tempfile.tempdir, TMPDIR, TEMP and TMP name places. tempfile.gettempdir() would try one by a
    file of its own, which stays where a signal's handler raises just after it was made.
    """
    chosen = getattr(sys.modules.get("tempfile"), "tempdir", None)  # by the program
    named = [chosen, *map(os.environ.get, ("TMPDIR", "TEMP", "TMP"))]
    places = [place for place in (*named, "/tmp", "/var/tmp", ".") if place]
    for place in places[:-1]:
        try:
            return Temporary(place, UNPACKED, directory=True)
        except OSError as error:
            if is_foreign(error):
                raise
    return Temporary(places[-1], UNPACKED, directory=True)


@atexit.register
def remove_all() -> None:
    """Removes what this process made and did not rename."""
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
    """Removes it and all that is in it; what cannot be removed stays."""
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


def _of_this_host() -> str:
    """Part of a name: another host may share the directory, and see no lock of ours."""
    import zlib

    return f"{zlib.crc32(os.fsencode(os.uname().nodename)):08x}-"


def _remove_orphans(parent: str, beginning: str) -> None:
    """Removes what processes of this user made there and left when they were killed."""
    try:
        names = os.listdir(parent)
    except OSError as error:
        if is_foreign(error):
            raise
        return  # may not be listed: nothing is removed
    for name in names:
        random = name.removeprefix(beginning)
        if len(random) == 2 * _RANDOM and random != name and not random.strip("0123456789abcdef"):
            try:
                _remove_orphan(f"{parent}/{name}")
            except OSError as error:  # it is gone, or its maker lives
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
