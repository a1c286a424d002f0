"""Wrong arguments: TypeError for a wrong type, ValueError for a wrong value, alike everywhere."""

from __future__ import annotations

import inspect
import io
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

import fastsmaps

PATH = "procfs must be a str or a path of str"
SELF = fastsmaps.Process().pid
MAPPINGS = fastsmaps.parse(b"")
SCAN = fastsmaps.scan([SELF])
CHANGE = fastsmaps.diff(SCAN, SCAN).total
with fastsmaps.Watch(growth=False) as WATCH:
    SAMPLES = WATCH.samples


def case(call: Callable[..., Any], error: type[Exception], text: str, **arguments: Any) -> Any:
    name = getattr(call, "__name__", "call")
    # The same in each worker: no address of an object, and no host or time of a table.
    tables = (fastsmaps.Mappings, fastsmaps.Scan, fastsmaps.Samples)
    texts = {
        key: type(value).__name__ if isinstance(value, tables) else repr(value)
        for key, value in arguments.items()
    }
    shown = ",".join(f"{key}={text}"[:30] for key, text in texts.items()).partition(" at 0x")[0]
    return pytest.param(call, error, text, arguments, id=f"{name}-{shown}")


def cases() -> list[Any]:
    scan, libs, sampler, watch = fastsmaps.scan, fastsmaps.libs, fastsmaps.Sampler, fastsmaps.Watch
    diff, parse, load = fastsmaps.diff, fastsmaps.parse, fastsmaps.load
    from_pidfd = fastsmaps.Process.from_pidfd
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
        fastsmaps.host,
    ):
        found += [
            case(call, TypeError, f"{PATH}, got bytes", procfs=b"/proc"),
            case(call, TypeError, f"{PATH}, got int", procfs=5),
        ]
    for call in (scan, libs):
        found += [
            case(call, TypeError, "pids must be an iterable of ints, got int 1", pids=1),
            case(call, TypeError, "pids must be an iterable of ints, got str '12'", pids="12"),
            case(call, TypeError, "each of pids must be an int, got float 1.5", pids=[1.5]),
            case(call, TypeError, "each of pids must be an int, got str '1'", pids=["1"]),
            case(call, ValueError, "each of pids must be from 1 to 2147483647, got 0", pids=[0]),
            case(call, TypeError, "workers must be an int, got str '2'", workers="2"),
            case(call, TypeError, "workers must be an int, got bool True", workers=True),
            case(call, TypeError, "workers must be an int, got float 1.5", workers=1.5),
            case(call, ValueError, "workers must be at least 1, got 0", workers=0),
            case(call, TypeError, "progress must be a function or None, got int 1", progress=1),
        ]
    found += [
        case(fastsmaps.host, TypeError, "sysfs must be a path, got int 5", sysfs=5),
        case(fastsmaps.host, TypeError, "scan must be a Scan or None, got int 5", scan=5),
    ]
    processes, charged = fastsmaps.scan([1]), fastsmaps.cgroup_memory
    memory = fastsmaps.CgroupMemory(**dict.fromkeys(fastsmaps.CgroupMemory.__slots__))
    found += [
        case(memory.difference, TypeError, "totals must be a Totals, got int 5", totals=5),
        case(charged, TypeError, "scan must be a Scan, got int 5", scan=5),
        case(charged, TypeError, "cgroupfs must be a path, got int 5", scan=processes, cgroupfs=5),
        case(charged, TypeError, "by must be one or several of", scan=processes, by=5),
        case(
            charged,
            ValueError,
            "by must be one of cgroup, container, pod, slice, unit, got 'comm'",
            scan=processes,
            by="comm",
        ),
    ]
    find = fastsmaps.find
    with fastsmaps.Process() as process:
        one, many = process.find, process.find_many
    found += [
        case(one, TypeError, "address must be an int, got str", address="1"),
        case(one, TypeError, "address must be an int, got float", address=1.0),
        case(find, TypeError, "address must be an int, got str", pid=1, address="1"),
        case(find, TypeError, 'pid must be an int or "self", got float', pid=1.5, address=0),
        case(find, ValueError, "pid must be from 1 to 2147483647, got 0", pid=0, address=0),
        case(find, TypeError, f"{PATH}, got bytes", pid=1, address=0, procfs=b"/proc"),
    ]
    found += [
        case(many, TypeError, "addresses must be an iterable of ints, got int", addresses=1),
        case(many, TypeError, "addresses must be an iterable of ints, got str", addresses="1"),
        case(many, TypeError, "each of addresses must be an int, got str", addresses=["1"]),
    ]
    charge = sampler().charge
    found += [
        case(charge, TypeError, "seconds must be a number, got str", seconds="1"),
        case(charge, ValueError, "seconds must be at least 0, got -1", seconds=-1),
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
        case(WATCH.wait, TypeError, "timeout must be a number, got str '1'", timeout="1"),
        case(WATCH.wait, ValueError, "timeout must be at least 0, got -1", timeout=-1),
        case(SCAN.descendants, TypeError, "pid must be an int, got str '1'", pid="1"),
        case(SCAN.descendants, KeyError, "-1", pid=-1),
        case(MAPPINGS.find, TypeError, "address must be an int, got str '0x1'", address="0x1"),
    ]  # fmt: skip
    for table in (MAPPINGS, SCAN):
        found += [
            case(table.filter, TypeError, "wanted must be a function, got int 5", wanted=5),
            case(table.filter, TypeError, "wanted must be a function, got NoneType", wanted=None),
            case(table.top, TypeError, "n must be an int, got str '2'", n="2"),
            case(table.top, TypeError, "n must be an int, got bool True", n=True),
        ]
        key = "by must be a field's name or a function, got int 5"
        found += [
            case(table.sort, TypeError, key, by=5),
            case(table.sort, KeyError, "no field 'psss'; there are: ", by="psss"),
            case(table.top, TypeError, key, n=1, by=5),
            case(table.top, KeyError, "no field 'psss'; there are: ", n=1, by="psss"),
        ]
        for call in (table.column, table.absent):
            found += [
                case(call, TypeError, "name must be a str, got int 5", name=5),
                case(call, KeyError, "no field 'psss'; there are: ", name="psss"),
            ]
    words = "'path', 'kind', 'label', 'use' or a function"
    ranges = "'path', 'kind', 'label', 'use', 'range', 'name' or a function"
    keys = (
        "one or several of comm, user, cgroup, unit, slice, container, pod, exe, cmdline, pid, "
        "cmdline:REGEX, "
        "group:NAME=REGEX"
    )
    tables = "old and new must be two Mappings or two Scans"
    found += [
        case(SCAN[0].replace, TypeError, "unexpected keyword argument", changes=5),
        case(SAMPLES.column, TypeError, "name must be a str, got int 5", name=5),
        case(SAMPLES.column, KeyError, "no field 'psss'; there are: ", name="psss"),
        case(MAPPINGS.group_by, TypeError, f"by must be {words}, got int 5", by=5),
        case(MAPPINGS.group_by, ValueError, f"by must be {words}, got 'pid'", by="pid"),
        case(SCAN.group_by, TypeError, f"by must be {keys}, got int 5", by=5),
        case(SCAN.group_by, TypeError, f"each of by must be {keys}, got int 5", by=[5]),
        case(SCAN.group_by, ValueError, f"by must be {keys}, got 'path'", by="path"),
        case(SCAN.group_by, ValueError, f"by must be {keys}, got ()", by=()),
        case(
            SCAN.group_by,
            ValueError,
            "by must have a valid regular expression, got '('",
            by="cmdline:(",
        ),
        case(SCAN.group_by, ValueError, "by must have cmdline only once", by="cmdline,cmdline:x"),
        case(SCAN.group_by, ValueError, "by must have group:NAME=REGEX, got", by="group:web"),
        case(diff, TypeError, f"{tables}, got int and Mappings", old=5, new=MAPPINGS),
        case(diff, TypeError, f"{tables}, got Scan and Mappings", old=SCAN, new=MAPPINGS),
        case(diff, TypeError, f"by must be {ranges}, got int 5", old=MAPPINGS, new=MAPPINGS, by=5),
        case(diff, ValueError, f"by must be {ranges}, got 'x'", old=MAPPINGS, new=MAPPINGS, by="x"),
        case(diff, TypeError, f"by must be {keys}, got int 5", old=SCAN, new=SCAN, by=5),
        case(diff, ValueError, f"by must be {keys}, got 'x'", old=SCAN, new=SCAN, by="x"),
        case(CHANGE.rate, KeyError, "no field 'psss'; there are: ", name="psss"),
        case(
            parse, TypeError, "data must be bytes-like, as the kernel gives it, got str", data="x"
        ),
        case(parse, TypeError, "data must be bytes-like, as the kernel gives it, got int", data=5),
        case(parse, BufferError, "data must be a C-contiguous", data=memoryview(b"abcd")[::2]),
        case(load, TypeError, "source must be a path or an open binary file, got int 5", source=5),
        case(load, TypeError, "source must be a file opened in binary", source=io.StringIO("x")),
        case(load, TypeError, "max_bytes must be an int, got float", source="/", max_bytes=1e9),
        case(load, ValueError, "max_bytes must be at least 0, got -1", source="/", max_bytes=-1),
        case(from_pidfd, TypeError, "fd must be an int, got str '3'", fd="3"),
        case(from_pidfd, ValueError, "fd must be an open descriptor, got -1", fd=-1),
        case(from_pidfd, TypeError, f"{PATH}, got int", fd=0, procfs=5),
    ]
    found += capture_cases()
    for call in (sampler, watch):
        found += [
            case(call, TypeError, "budget must be a number, got str '1'", budget="1"),
            case(call, ValueError, "budget must be above 0 and at most 1, got 0", budget=0),
            case(call, ValueError, "budget must be above 0 and at most 1, got 2", budget=2),
        ]
    return found


def capture_cases() -> list[Any]:
    capture, open_capture = fastsmaps.capture, fastsmaps.open_capture
    missing = "/proc/self/none"
    return [
        case(capture, TypeError, "target must be a path, got int 5", target=5),
        case(capture, ValueError, "target must be the name of a new", target="/"),
        case(capture, ValueError, "target must be a directory's name or end in", target="a.tar.b"),
        case(capture, TypeError, "pids must be an iterable of ints", target=missing, pids=5),
        case(capture, TypeError, "progress must be a function or", target=missing, progress=5),
        case(capture, TypeError, f"{PATH}, got int", target=missing, procfs=5),
        case(open_capture, TypeError, "file must be a path, got int 5", file=5),
        case(open_capture, TypeError, "on_error must be a function", file=missing, on_error=5),
        case(open_capture, TypeError, "max_bytes must be an int", file=missing, max_bytes=1e9),
        case(open_capture, ValueError, "max_bytes must be at least 0", file=missing, max_bytes=-1),
        case(open_capture, TypeError, "max_members must be an int", file=missing, max_members="1"),
        case(open_capture, ValueError, "max_members must be at", file=missing, max_members=-1),
    ]


CASES = cases()


@pytest.mark.parametrize(("call", "error", "text", "arguments"), CASES)
def test_a_wrong_argument_is_refused(
    call: Callable[..., Any], error: type[Exception], text: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(error, match=re.escape(text)) as caught:
        call(**arguments)
    assert type(caught.value) is error


# Fields are a mapping's keys: get() takes any object, as dict's does.
ANY_KEY = {"Change.get", "Libs.get", "Mapping.get", "ProcessTotals.get", "Totals.get"}
# Classes with a constructor for users.
MADE_BY_USERS = {"Collector", "Process", "Sampler", "Watch", "open_capture"}


def public_arguments(everything: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every argument of the public functions and methods, except flags."""
    for name, public in everything.items():
        calls: dict[str, Any] = {name: public} if inspect.isfunction(public) else {}
        if inspect.isclass(public) and not issubclass(public, Exception):
            methods = inspect.getmembers(public, inspect.isroutine)
            calls = {
                f"{name}.{n}": method
                for n, method in methods
                if not n.startswith("_") and inspect.isfunction(getattr(method, "__func__", method))
            }
            if name in MADE_BY_USERS:
                calls[name] = public
        for called, call in calls.items():
            if called in ANY_KEY:
                continue
            for parameter in inspect.signature(call).parameters.values():
                if parameter.name != "self" and parameter.annotation != "bool":
                    yield called, parameter.name


def arguments_of(cases: list[Any]) -> Iterator[tuple[str, str]]:
    """Every argument that has a case."""
    for parameters in cases:
        call, _, _, arguments = parameters.values
        owner = getattr(call, "__self__", None)
        name = getattr(call, "__name__", "")
        if owner is not None:
            name = f"{(owner if inspect.isclass(owner) else type(owner)).__name__}.{name}"
        yield from ((name, argument) for argument in arguments)


def test_every_argument_has_a_case() -> None:
    everything = {name: getattr(fastsmaps, name) for name in fastsmaps.__all__}
    assert set(public_arguments(everything)) <= set(arguments_of(CASES))


class Index:
    """An int like numpy's."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


def test_any_object_with_index_is_an_int() -> None:
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


def test_numbers_of_other_types_become_floats() -> None:
    """decimal.Decimal cannot be added to the clock's floats."""
    half: Any = Decimal("0.5")
    assert fastsmaps.Watch(interval=half).interval == 0.5
    assert fastsmaps.scan([SELF], timeout=Decimal(60))[0].outcome == "read"  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="timeout must be a number, got int 1000"):
        fastsmaps.scan([SELF], timeout=10**400)


def test_excluded_texts_are_refused() -> None:
    with pytest.raises(TypeError, match="each of exclude must be an int, got str '1'"):
        fastsmaps.scan(exclude=["1"])  # type: ignore[list-item]
