"""Errors: one tree, with Python's classes as bases; pickles keep every attribute."""

from __future__ import annotations

import copy
import errno
import pickle
from typing import Any

import pytest

import fastsmaps
from fastsmaps import (
    AccessDenied,
    CaptureError,
    Error,
    NoMemoryMap,
    NotAProcess,
    NotCaptured,
    NotInNamespace,
    NotProcfs,
    NotSupported,
    ParseError,
    ProcessGone,
    ReadError,
)

pytestmark = pytest.mark.core

ERRORS: list[Error] = [
    Error("message", pid=7, path="/proc/7"),
    ProcessGone("message", pid=7, path="/proc/7/smaps"),
    AccessDenied("message", pid=7, path="/proc/7/smaps"),
    AccessDenied("message", pid=7, path="/proc/7/smaps", errno=errno.EPERM),
    ReadError("message", pid=7, path="/proc/7/smaps", errno=errno.EMFILE),
    NoMemoryMap("zombie", pid=7, path="/proc/7/smaps"),
    NotAProcess(7, pid=8, path="/proc/8/status"),
    NotProcfs("/prco", pid=7),
    NotProcfs("/prco", "not a directory"),
    NotCaptured("message", pid=7, path="/capture/7/smaps"),
    NotInNamespace("message", path="/proc/self"),
    NotSupported("message", pid=7, path="/proc/7/smaps"),
    ParseError("problem", offset=5, line_number=2, line=b"\xff\n", pid=7, path="/saved"),
    # With only the message.
    Error("message"),
    ProcessGone("message"),
    AccessDenied("message"),
    ReadError("message"),
    ParseError("problem", offset=0, line_number=1, line=b""),
]


def content(error: Error) -> dict[str, Any]:
    names = ["pid", "path", "message", "args", "errno", "strerror", "filename", "filename2"]
    names += ["offset", "line_number", "line", "problem", "what", "process"]
    found = {name: getattr(error, name) for name in names if hasattr(error, name)}
    return {"type": type(error), "str": str(error), "repr": repr(error), **found}


@pytest.mark.thread_unsafe(reason="adds notes to errors that the module keeps")
@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_pickles_keep_every_attribute(error: Error) -> None:
    error.add_note("a note")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert content(again) == content(error)
        assert again.__notes__ == error.__notes__
    assert content(copy.copy(error)) == content(copy.deepcopy(error)) == content(error)


def test_pickles_keep_a_path_that_was_set_later() -> None:
    error = ParseError("problem", offset=0, line_number=1, line=b"x")
    error.path = "/saved"
    error.pid = 7
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "/saved: line 1 (byte 0): problem: 'x'"
    assert (again.pid, again.path) == (7, "/saved")


@pytest.mark.parametrize(
    ("kind", "also", "number"),
    [
        (ProcessGone, ProcessLookupError, errno.ESRCH),
        (AccessDenied, PermissionError, errno.EACCES),
        (ReadError, OSError, errno.EIO),
    ],
)
def test_system_errors_are_oserrors_with_errno(kind: Any, also: type[OSError], number: int) -> None:
    with pytest.raises(also) as caught:
        raise kind("message", pid=7, path="/proc/7")
    assert isinstance(caught.value, Error)
    assert (caught.value.errno, caught.value.strerror) == (number, "message")
    assert caught.value.filename == "/proc/7"
    assert str(caught.value) == "message"
    assert kind("message", errno=errno.ENOMEM).errno == errno.ENOMEM


def test_public_errors_have_the_documented_bases() -> None:
    classes = [getattr(fastsmaps, name) for name in fastsmaps.__all__]
    found = {c for c in classes if isinstance(c, type) and issubclass(c, BaseException)}
    assert found == {
        Error,
        ProcessGone,
        AccessDenied,
        ReadError,
        CaptureError,
        NoMemoryMap,
        NotAProcess,
        NotCaptured,
        NotInNamespace,
        NotProcfs,
        NotSupported,
        ParseError,
    }
    assert all(issubclass(c, Error) for c in found)
    assert issubclass(ParseError, ValueError)
    # One failure, one class: no class catches another's failures.
    leaves = found - {Error}
    assert not [(a, b) for a in leaves for b in leaves if a is not b and issubclass(a, b)]
    assert not issubclass(NoMemoryMap, OSError)
    assert not issubclass(ParseError, OSError)
    assert not issubclass(ReadError, (ProcessLookupError, PermissionError))


def test_no_memory_map_says_why() -> None:
    error = NoMemoryMap("kernel thread", pid=2)
    assert (error.what, error.pid) == ("kernel thread", 2)
    assert str(error) == "process 2 is a kernel thread: it has no memory map"


def test_a_parse_error_escapes_its_line() -> None:
    line = b"\x1b[2J\r\x00\xff\xc2\x9b" * 100
    error = ParseError("problem", offset=1, line_number=1, line=line)
    assert error.line == line
    assert str(error).isprintable()
    assert repr(error).isprintable()
    assert str(error).endswith("...")
