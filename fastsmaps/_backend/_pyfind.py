"""The pure-Python backend's find(): one mapping by an address; see ``_csmaps.pyi``."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from array import array

from fastsmaps._backend.descriptors import OPEN
from fastsmaps._errors import is_foreign

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from fastsmaps._backend._csmaps import Found

# struct procmap_query in uapi linux/fs.h.
_QUERY = struct.Struct("=9Q4I2Q")
# _IOWR('f', 17, struct procmap_query), as most architectures encode it. With another number the
# kernel answers ENOTTY, and maps is read.
_PROCMAP_QUERY = 3 << 30 | _QUERY.size << 16 | ord("f") << 8 | 17
_MAX_NAME = 4096
_MAX_BUILD_ID = 32
_VSYSCALL = 0xFFFFFFFFFF600000


def find(fd: int, address: int, build_id: bool, directory: int) -> Found | Literal[False] | None:
    if not 0 <= address < 2**64:
        raise OverflowError(f"no address: {address}")
    if address >= _VSYSCALL:
        return False
    name = array("B", bytes(_MAX_NAME))
    found_id = array("B", bytes(_MAX_BUILD_ID))
    query = bytearray(
        _QUERY.pack(
            _QUERY.size, 0, address, *(0,) * 8, _MAX_NAME, _MAX_BUILD_ID if build_id else 0,
            name.buffer_info()[0], found_id.buffer_info()[0] if build_id else 0,
        )
    )  # fmt: skip
    try:
        fcntl.ioctl(fd, _PROCMAP_QUERY, query)
    except OSError as error:
        if is_foreign(error) or error.errno == errno.ESRCH:
            raise
        # 32-bit Arm has its vectors there, a page without a VMA as x86's vsyscall.
        return None if error.errno == errno.ENOENT and address >> 16 != 0xFFFF else False
    _check_reaped(directory)
    (
        _, _, _, start, end, flags, _, offset, inode, major, minor, name_size, id_size, *_,
    ) = _QUERY.unpack(query)  # fmt: skip
    shown = name.tobytes()[: max(0, name_size - 1)]
    # maps escapes a newline, and its parser drops blanks at the end.
    if any(byte < ord(" ") for byte in shown) or shown.endswith(b" "):
        return False
    row = start, end, offset, inode, flags & 0xF, b"%02x:%02x" % (major, minor), shown, None, None
    return row, found_id.tobytes()[:id_size] if id_size else None


def find_at(pid: int, address: int, build_id: bool) -> Found | Literal[False] | None:
    if type(pid) is not int or not 0 < pid < 2**31 or address >= _VSYSCALL:
        return False
    fd = -1
    try:
        os.close(os.pidfd_open(pid))  # refuses a thread's number
        fd = os.open(f"/proc/{pid}/maps", OPEN)
        return find(fd, address, build_id, -1)
    except (OSError, AttributeError) as error:  # no pidfd_open before Linux 5.3
        if is_foreign(error):
            raise
        return False
    finally:
        if fd >= 0:
            os.close(fd)


def find_many(
    fd: int, addresses: memoryview, build_id: bool, directory: int
) -> list[Found | Literal[False] | None]:
    results: list[Found | Literal[False] | None] = []
    last: Found | Literal[False] | None = None
    start = end = 0
    for address in addresses.cast("B").cast("Q"):
        if not start <= address < end:  # neighbours are often in one mapping
            last = find(fd, address, build_id, -1)
            start, end = last[0][:2] if isinstance(last, tuple) else (0, 0)
        results.append(last)
    _check_reaped(directory)
    return results


def _check_reaped(directory: int) -> None:
    """Raise ProcessLookupError if the process of an open directory is reaped."""
    if directory >= 0:
        try:
            os.stat("maps", dir_fd=directory)
        except FileNotFoundError:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from None
        except PermissionError:
            pass  # hidepid
