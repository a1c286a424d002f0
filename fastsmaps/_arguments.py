"""Checks of the arguments of public functions, the same everywhere.

A wrong type is a TypeError, a wrong value a ValueError; the message names the argument, what it
must be, and what was passed. Any object with ``__index__`` is an int (numpy's too), except bool:
``max_rss=True`` is a mistake. Flags are taken by their truth, as Python does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any as Any
    from typing import SupportsIndex as SupportsIndex

    Pid = SupportsIndex | str
else:
    # For typing.get_type_hints() on what is public: importing typing takes 3 ms.
    Any, SupportsIndex, Pid = object, int, int | str
Procfs = str | os.PathLike[str]

# pid_t has 32 bits on every Linux.
_END_OF_PIDS = 2**31


def wrong(
    name: str, expected: str, value: object, types: type | tuple[type, ...] = ()
) -> TypeError | ValueError:
    """Return the error for an argument: a ValueError for a value of `types`, else a TypeError."""
    text = repr(value)
    text = text if len(text) < 40 else text[:37] + "..."
    if isinstance(value, types):
        return ValueError(f"{name} must be {expected}, got {text}")
    return TypeError(f"{name} must be {expected}, got {type(value).__name__} {text}")


def path_of(procfs: Procfs) -> str:
    """Return `procfs` as a str; raise TypeError for anything but a path of str."""
    path = procfs
    if not isinstance(path, str) and hasattr(path, "__fspath__"):
        path = os.fspath(path)
    if not isinstance(path, str):
        raise wrong("procfs", "a str or a path of str", path)
    return path


def check_pid(pid: Pid) -> int | str:
    """Return the pid as an int, or "self"; raise TypeError or ValueError for anything else."""
    if isinstance(pid, str):
        if pid != "self":
            raise wrong("pid", 'an int or "self"', pid, str)
        return pid
    return _check_number("pid", 'an int or "self"', pid)


def check_pids(pids: Iterable[int]) -> list[int]:
    """Return the pids, each once, in their order; raise TypeError or ValueError if one is wrong."""
    if isinstance(pids, str | bytes) or not hasattr(pids, "__iter__"):
        raise wrong("pids", "an iterable of ints", pids)
    given = list(pids)
    # Checking each by itself takes as long as reading 1 % of the processes.
    if set(map(type, given)) != {int} or min(given) < 1 or max(given) >= _END_OF_PIDS:
        given = [_check_number("each of pids", "an int", pid) for pid in given]
    return list(dict.fromkeys(given))


def _check_number(name: str, expected: str, pid: SupportsIndex) -> int:
    if isinstance(pid, bool) or not hasattr(pid, "__index__"):
        raise wrong(name, expected, pid)
    number = pid.__index__()
    if not 0 < number < _END_OF_PIDS:
        raise wrong(name, f"from 1 to {_END_OF_PIDS - 1}", number, int)
    return number


def pids_among(names: Iterable[str]) -> list[int]:
    """Return the names that are pids as the kernel writes them; a capture may hold other names."""
    return [
        int(name)
        for name in names
        if name.isdecimal() and name.isascii() and name[0] != "0" and int(name) < _END_OF_PIDS
    ]


def check_int(name: str, value: SupportsIndex, minimum: int | None = None) -> int:
    """Return an int of at least `minimum`."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise wrong(name, "an int", value)
    number = value.__index__()
    if minimum is not None and number < minimum:
        raise wrong(name, f"at least {minimum}", number, int)
    return number


def check_ints(name: str, values: Iterable[SupportsIndex]) -> list[int]:
    """Return the ints of an iterable."""
    if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
        raise wrong(name, "an iterable of ints", values)
    given = list(values)
    if set(map(type, given)) <= {int}:
        return list(map(int, given))
    return [check_int(f"each of {name}", value) for value in given]


def check_size(name: str, value: SupportsIndex | None) -> int | None:
    """Return a number of bytes, or None."""
    return None if value is None else check_int(name, value, 0)


def check_number(
    name: str, value: float, minimum: float, maximum: float, *, above: bool = False
) -> float:
    """Return a number from `minimum` to `maximum`; with `above`, one above `minimum`."""
    if isinstance(value, bool | str | bytes) or not hasattr(value, "__float__"):
        raise wrong(name, "a number", value)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):  # an array; an int beyond all floats
        raise wrong(name, "a number", value) from None
    if not (minimum < number if above else minimum <= number) or not number <= maximum:
        lower = f"above {minimum}" if above else f"at least {minimum}"
        upper = "" if maximum == float("inf") else f" and at most {maximum}"
        raise wrong(name, lower + upper, value, object)
    return number


def check_timeout(timeout: float | None) -> float | None:
    """Return a number of seconds, or None."""
    return None if timeout is None else check_number("timeout", timeout, 0, float("inf"))


def check_type(name: str, value: object, expected: str, types: type | tuple[type, ...]) -> None:
    """Raise TypeError for a value of any other type than `types`."""
    if not isinstance(value, types):
        raise wrong(name, expected, value)


def check_str(name: str, value: object, expected: str = "a str") -> None:
    """Raise TypeError for any other type than str."""
    check_type(name, value, expected, str)


def check_strs(name: str, values: Iterable[str]) -> list[str]:
    """Return the texts as a list; raise TypeError for anything but an iterable of str."""
    if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
        raise wrong(name, "an iterable of str", values)
    texts = list(values)
    for text in texts:
        check_str(f"each of {name}", text)
    return texts


def check_path(name: str, path: object, expected: str = "a path") -> str:
    """Return the path of a file as a str; raise TypeError for anything else."""
    try:
        return os.fsdecode(path)  # type: ignore[arg-type]
    except TypeError:
        raise wrong(name, expected, path) from None


def check_function(name: str, value: object, *, optional: bool = True) -> None:
    """Raise TypeError for an object that cannot be called; None is allowed if `optional`."""
    if not callable(value) and not (optional and value is None):
        raise wrong(name, "a function or None" if optional else "a function", value)


def check_exclude(exclude: object) -> None:
    """Raise TypeError for anything but a container, a function or None."""
    is_container = hasattr(exclude, "__contains__") and not isinstance(exclude, str | bytes)
    if exclude is not None and not is_container and not callable(exclude):
        raise wrong("exclude", "a container of pids or a function of a row", exclude)
    if isinstance(exclude, list | tuple | set | frozenset):
        for pid in exclude:
            check_int("each of exclude", pid)
