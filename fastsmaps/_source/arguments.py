"""Check the arguments `pid` and `procfs`, which most public functions take."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import SupportsIndex

    Pid = SupportsIndex | str
    Procfs = str | os.PathLike[str]

# pid_t has 32 bits on every Linux.
_END_OF_PIDS = 2**31


def path_of(procfs: Procfs) -> str:
    """Return `procfs` as a str; raise TypeError for anything but a path of str."""
    path = os.fspath(procfs)
    if not isinstance(path, str):
        raise TypeError(f"procfs: a str or a path of str, not {type(path).__name__}")
    return path


def check_pid(pid: Pid) -> int | str:
    """Return the pid as an int, or "self"; raise TypeError or ValueError for anything else."""
    if isinstance(pid, str):
        if pid != "self":
            raise ValueError(f'pid: a number or "self", not {pid!r}')
        return pid
    if isinstance(pid, bool) or not hasattr(pid, "__index__"):
        raise TypeError(f'pid: an int or "self", not {type(pid).__name__}')
    number = pid.__index__()
    if not 0 < number < _END_OF_PIDS:
        raise ValueError(f"pid: 1 to {_END_OF_PIDS - 1}, not {number}")
    return number


def check_pids(pids: Iterable[int]) -> list[int]:
    """Return the pids, each once, in their order; raise TypeError or ValueError if one is wrong."""
    if isinstance(pids, int | str):
        raise TypeError(f"pids: several numbers, not {pids!r}")
    given = list(pids)
    # Checking each by itself takes as long as reading 1 % of the processes.
    if set(map(type, given)) != {int} or min(given) < 1 or max(given) >= _END_OF_PIDS:
        given = [_check_number(pid) for pid in given]
    return list(dict.fromkeys(given))


def _check_number(pid: int) -> int:
    number = check_pid(pid)
    if isinstance(number, str):
        raise TypeError(f"pids: numbers, not {number!r}")
    return number


def pids_among(names: Iterable[str]) -> list[int]:
    """Return the names that are pids as the kernel writes them; a capture may hold other names."""
    return [
        int(name)
        for name in names
        if name.isdecimal() and name.isascii() and name[0] != "0" and int(name) < _END_OF_PIDS
    ]
