"""Wrong arguments: TypeError for a wrong type, ValueError for a wrong value, alike everywhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

import fastsmaps

PATH = "procfs must be a str or a path of str"
SELF = fastsmaps.Process().pid
MAPPINGS = fastsmaps.parse(b"")
SCAN = fastsmaps.scan([SELF])


def case(call: Callable[..., Any], error: type[Exception], text: str, **arguments: Any) -> Any:
    name = getattr(call, "__name__", "call")
    shown = ",".join(f"{key}={value!r}"[:30] for key, value in arguments.items())
    return pytest.param(call, error, text, arguments, id=f"{name}-{shown}")


def cases() -> list[Any]:
    scan, libs, sampler, watch = fastsmaps.scan, fastsmaps.libs, fastsmaps.Sampler, fastsmaps.Watch
    found = []
    one_process = (fastsmaps.totals, fastsmaps.mappings, fastsmaps.Process, watch)
    call: Callable[..., Any]
    for call in one_process:
        found += [
            case(call, TypeError, 'pid must be an int or "self", got float', pid=1.5),
            case(call, TypeError, 'pid must be an int or "self", got bool', pid=True),
            case(call, ValueError, "pid must be an int or \"self\", got '12'", pid="12"),
            case(call, ValueError, "pid must be from 1 to 2147483647, got 0", pid=0),
        ]
    for call in (
        fastsmaps.totals,
        fastsmaps.mappings,
        fastsmaps.Process,
        scan,
        libs,
        sampler,
        watch,
    ):
        found += [
            case(call, TypeError, f"{PATH}, got bytes", procfs=b"/proc"),
            case(call, TypeError, f"{PATH}, got int", procfs=5),
        ]
    for call in (scan, libs):
        found += [
            case(call, TypeError, "pids must be an iterable of ints, got int 1", pids=1),
            case(call, TypeError, "pids must be an iterable of ints, got str '12'", pids="12"),
            case(call, TypeError, 'pid must be an int or "self", got float', pids=[1.5]),
            case(call, TypeError, "workers must be an int, got str '2'", workers="2"),
            case(call, TypeError, "workers must be an int, got bool True", workers=True),
            case(call, TypeError, "workers must be an int, got float 1.5", workers=1.5),
            case(call, ValueError, "workers must be at least 1, got 0", workers=0),
            case(call, TypeError, "progress must be a function or None, got int 1", progress=1),
        ]
    for call in (scan, sampler):
        found += [
            case(call, TypeError, "max_rss must be an int, got bool True", max_rss=True),
            case(call, TypeError, "max_rss must be an int, got float 1.5", max_rss=1.5),
            case(call, ValueError, "max_rss must be at least 0, got -1", max_rss=-1),
            case(
                call, TypeError,
                "exclude must be a container of pids or a function of a row, got int 5", exclude=5,
            ),
            case(
                call, TypeError,
                "exclude must be a container of pids or a function of a row, got str 'x'",
                exclude="x",
            ),
        ]  # fmt: skip
    found += [
        case(scan, ValueError, "min_rss must be at least 0, got -1", min_rss=-1),
        case(scan, ValueError, f"min_rss must be at least 0, got {-(1 << 80)}", min_rss=-(1 << 80)),
        case(scan, ValueError, f"max_rss must be at least 0, got {-(1 << 80)}", max_rss=-(1 << 80)),
        case(scan, ValueError, "timeout must be at least 0, got -1", timeout=-1),
        case(scan, ValueError, "timeout must be at least 0, got nan", timeout=float("nan")),
        case(scan, TypeError, "timeout must be a number, got str '1'", timeout="1"),
        case(scan, TypeError, "timeout must be a number, got bool True", timeout=True),
        case(watch, TypeError, "max_samples must be an int, got float 2.5", max_samples=2.5),
        case(watch, ValueError, "max_samples must be at least 2, got 1", max_samples=1),
        case(watch, TypeError, "interval must be a number, got str '1'", interval="1"),
        case(
            watch,
            ValueError,
            "interval must be at least 0.001 and at most 86400, got 0",
            interval=0,
        ),
        case(SCAN.top, TypeError, "not supported between instances", n="2"),
        case(SCAN.top, KeyError, "no field 'psss'; there are: ", n=1, by="psss"),
        case(SCAN.column, KeyError, "no field 'psss'; there are: ", name="psss"),
        case(MAPPINGS.top, TypeError, "not supported between instances", n="2"),
        case(MAPPINGS.top, KeyError, "no field 'psss'; there are: ", n=1, by="psss"),
        case(MAPPINGS.column, KeyError, "no field 'psss'; there are: ", name="psss"),
        case(fastsmaps.parse, TypeError, "parse() takes bytes", data="text"),
    ]
    for call in (sampler, watch):
        found += [
            case(call, TypeError, "budget must be a number, got str '1'", budget="1"),
            case(call, ValueError, "budget must be above 0 and at most 1, got 0", budget=0),
            case(call, ValueError, "budget must be above 0 and at most 1, got 2", budget=2),
        ]
    return found


@pytest.mark.parametrize(("call", "error", "text", "arguments"), cases())
def test_a_wrong_argument(
    call: Callable[..., Any], error: type[Exception], text: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(error, match=re.escape(text)) as caught:
        call(**arguments)
    assert type(caught.value) is error


class Index:
    """An int as numpy has them."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


def test_whatever_has_an_index_is_an_int() -> None:
    one: Any = Index(1)
    pid: Any = Index(SELF)
    scan = fastsmaps.scan([pid], workers=one, min_rss=one, max_rss=Index(1 << 50), timeout=60)  # type: ignore[arg-type]
    assert scan.coverage["read"] == 1
    assert fastsmaps.scan([SELF], exclude=lambda row: False).coverage["read"] == 1
    assert fastsmaps.totals(pid).rss is not None


def test_flags_are_taken_by_their_truth() -> None:
    wanted: Any = "yes"
    (row,) = fastsmaps.scan([SELF], cgroup=wanted, cmdline=wanted, exe=0)  # type: ignore[arg-type]
    assert row.cmdline
    assert row.exe is None
