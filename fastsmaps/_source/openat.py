"""Opening what stands below a procfs directory, which anybody may have made.

docs/security.md tells from whom this protects.
"""

from __future__ import annotations

import os
import stat

from fastsmaps._backend.descriptors import OPEN, read_file
from fastsmaps._errors import is_foreign

#: Where the kernel's own is on every system.
KERNELS = "/proc"

#: Of a file that anybody may have made. A million mappings, more than most kernels allow, have
# 1.1 GB of smaps; what needs no walk is small.
MOST_BYTES = 2 << 30


def open_in(procfs: str, name: str, directory: int = -1) -> int:
    """Opens a file below `procfs`: relative to an open directory there, or to `procfs` itself.

    In /proc everything is the kernel's. Any other directory may be made by anybody, and be read
    by root: there no link is followed, also not on the way, and what is no regular file is not
    opened at all (a FIFO waits for ever, a device may act); OSError for these, as for a file of
    more than 2 GiB.
    """
    if procfs == KERNELS:
        if directory < 0:
            return os.open(f"{procfs}/{name}", OPEN)
        return os.open(name, OPEN, dir_fd=directory)
    way = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    opened = []
    try:
        if directory < 0:
            opened.append(directory := os.open(procfs, way))
        *parents, name = name.split("/")
        for parent in parents:
            opened.append(directory := os.open(parent, way | os.O_NOFOLLOW, dir_fd=directory))
        # Before it is opened, and after: another may stand there by then.
        _check_file(os.stat(name, dir_fd=directory, follow_symlinks=False))
        opened.append(fd := os.open(name, OPEN | os.O_NOFOLLOW, dir_fd=directory))
        _check_file(os.fstat(fd))
        return opened.pop()
    finally:
        for fd in opened:
            os.close(fd)


def _check_file(status: os.stat_result) -> None:
    import errno

    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFLNK:
        raise OSError(errno.ELOOP, "it is a symbolic link, which is not followed")
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if kind != stat.S_IFREG:
        raise OSError(errno.EINVAL, "it is no regular file")
    if status.st_size > MOST_BYTES:
        raise OSError(errno.EFBIG, f"it has more than {MOST_BYTES} bytes")


def is_kernels(procfs: str, directory: int) -> bool:
    """Whether all below the open directory is the kernel's own, by the list of mounts.

    is_procfs() asks what a directory claims to be; this, whether the quick ways may be taken, which
    open whatever they find. False for a procfs that is mounted in another mount namespace alone.
    """
    if procfs == KERNELS:
        return True
    try:
        device = os.fstat(directory).st_dev
        fd = os.open("/proc/self/mountinfo", OPEN)
        try:
            mounts = read_file(fd, 1 << 26)
        finally:
            os.close(fd)
    except OSError as error:
        if is_foreign(error):
            raise
        return False
    number = b"%d:%d" % (os.major(device), os.minor(device))
    for line in mounts.splitlines():
        # proc_pid_mountinfo(5): the device is the third, the type follows a lone "-".
        mount, _, kind = line.partition(b" - ")
        if mount.split(b" ", 3)[2:3] == [number]:
            return kind.startswith(b"proc ")
    return False
