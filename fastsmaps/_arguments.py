"""Check arguments of public functions, alike everywhere.

A wrong type is a TypeError, a wrong value a ValueError; the message names the argument, what it
must be, and what was given. Whatever has ``__index__`` is an int (numpy's too), but bool is not:
``max_rss=True`` is a mistake. Flags are taken by their truth, as Python does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import SupportsIndex

    Pid = SupportsIndex | str
else:
    Pid = int | str  # for typing.get_type_hints(): importing typing takes 3 ms
Procfs = str | os.PathLike[str]

# pid_t has 32 bits on every Linux.
_END_OF_PIDS = 2**31


def path_of(procfs: Procfs) -> str:
    """Return `procfs` as a str; raise TypeError for anything but a path of str."""
    path = procfs
    if not isinstance(path, str) and hasattr(path, "__fspath__"):
        path = os.fspath(path)
    if not isinstance(path, str):
        raise TypeError(f"procfs must be a str or a path of str, got {type(path).__name__}")
    return path


def check_pid(pid: Pid) -> int | str:
    """Return the pid as an int, or "self"; raise TypeError or ValueError for anything else."""
    if isinstance(pid, str):
        if pid != "self":
            raise ValueError(f'pid must be an int or "self", got {pid!r}')
        return pid
    if isinstance(pid, bool) or not hasattr(pid, "__index__"):
        raise TypeError(f'pid must be an int or "self", got {type(pid).__name__}')
    number = pid.__index__()
    if not 0 < number < _END_OF_PIDS:
        raise ValueError(f"pid must be from 1 to {_END_OF_PIDS - 1}, got {number}")
    return number


def check_pids(pids: Iterable[int]) -> list[int]:
    """Return the pids, each once, in their order; raise TypeError or ValueError if one is wrong."""
    if isinstance(pids, str | bytes) or not hasattr(pids, "__iter__"):
        raise TypeError(f"pids must be an iterable of ints, got {_shown(pids)}")
    given = list(pids)
    # Checking each by itself takes as long as reading 1 % of the processes.
    if set(map(type, given)) != {int} or min(given) < 1 or max(given) >= _END_OF_PIDS:
        given = [_check_number(pid) for pid in given]
    return list(dict.fromkeys(given))


def _check_number(pid: int) -> int:
    number = check_pid(pid)
    if isinstance(number, str):
        raise TypeError(f"pids must be an iterable of ints, got {number!r} in it")
    return number


def pids_among(names: Iterable[str]) -> list[int]:
    """Return the names that are pids as the kernel writes them; a capture may hold other names."""
    return [
        int(name)
        for name in names
        if name.isdecimal() and name.isascii() and name[0] != "0" and int(name) < _END_OF_PIDS
    ]


def _shown(value: object) -> str:
    """Return a value with its type, short."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) < 40 else text[:37] + '...'}"


def check_int(name: str, value: SupportsIndex, minimum: int) -> int:
    """Return an int of at least `minimum`."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an int, got {_shown(value)}")
    number = value.__index__()
    if number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {number}")
    return number


def check_size(name: str, value: SupportsIndex | None) -> int | None:
    """Return a number of bytes, or None."""
    return None if value is None else check_int(name, value, 0)


def check_number(
    name: str, value: float, minimum: float, maximum: float, *, above: bool = False
) -> float:
    """Return a number from `minimum` to `maximum`; with `above`, one above `minimum`."""
    if isinstance(value, bool | str | bytes) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be a number, got {_shown(value)}")
    if not (minimum < value if above else minimum <= value) or not value <= maximum:
        least = f"above {minimum}" if above else f"at least {minimum}"
        most = "" if maximum == float("inf") else f" and at most {maximum}"
        raise ValueError(f"{name} must be {least}{most}, got {value!r}")
    return value


def check_timeout(timeout: float | None) -> float | None:
    """Return a number of seconds, or None."""
    return None if timeout is None else check_number("timeout", timeout, 0, float("inf"))


def check_function(name: str, value: object) -> None:
    """Raise TypeError for what is neither None nor can be called."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be a function or None, got {_shown(value)}")


def check_exclude(exclude: object) -> None:
    """Raise TypeError for what is neither None, nor a container, nor a function."""
    is_container = hasattr(exclude, "__contains__") and not isinstance(exclude, str | bytes)
    if exclude is not None and not is_container and not callable(exclude):
        raise TypeError(
            f"exclude must be a container of pids or a function of a row, got {_shown(exclude)}"
        )
