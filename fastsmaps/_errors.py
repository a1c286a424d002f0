"""The errors, which all have ``pid`` and ``path`` and pickle.

    Error                   the base class
    |-- ProcessGone         also ProcessLookupError: the process has ended, skip it
    |-- AccessDenied        also PermissionError: the message names the right that is needed
    |-- NoMemoryMap         a kernel thread or zombie: skip it
    |-- NotAProcess         a thread's number: read `process` instead
    |-- NotProcfs           `procfs=` is neither a procfs nor a capture: correct the path
    |-- NotCaptured         a capture lacks the process or the file: capture it again
    |-- NotInNamespace      the procfs is of a pid namespace without the process: pass another
    |-- NotSupported        the kernel or Python lacks what is needed: the message names it
    |-- ParseError          also ValueError: look at line_number and cause, try lenient=True
    |-- ReadError           also OSError: another failure of the system, see errno
    `-- CaptureError        also OSError: a capture cannot be written or read

A wrong argument is a TypeError or ValueError.
"""

from __future__ import annotations

import errno

from fastsmaps._public import public

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal, TypeAlias

    #: What a scan can report of a process.
    Outcome: TypeAlias = Literal[
        "read", "denied", "gone", "kernel_thread", "zombie", "skipped", "failed"
    ]
else:
    # Importing typing takes 3 ms: at run time fastsmaps.__getattr__() makes the Literal.
    Outcome = str


@public
class Error(Exception):
    """Base class; ``pid`` and ``path`` are None if the error is not about a process or file."""

    pid: int | None = None
    path: str | None = None

    def __init__(self, message: str, *, pid: int | None = None, path: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.pid = pid
        self.path = path

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Callable[..., Error], tuple[Any, ...], tuple[Any, ...]]:
        # Exceptions pickle as cls(*args), which would lose the keyword arguments. A pickle names
        # only the public class, so modules may move.
        from copyreg import __newobj__  # type: ignore[attr-defined]

        return __newobj__, (type(self),), (self.args, self.__dict__)

    def __setstate__(self, state: Any) -> None:  # noqa: ANN401 - from __reduce__()
        args, attributes = state
        if isinstance(self, OSError):
            OSError.__init__(self, *args[:2], attributes["path"])  # args may lack the path
        self.args = args
        self.__dict__.update(attributes)


def is_foreign(error: Exception) -> bool:
    """Return whether a caught OSError does not come from the system.

    The system's errors have an errno. An OSError without one, usually a TimeoutError, was raised by
    a signal handler during the call, and must reach the caller.
    """
    return isinstance(error, OSError) and error.errno is None


class _SystemError(Error, OSError):
    """An Error that is also an OSError, with its ``errno``, ``strerror`` and ``filename``."""

    _errno = errno.EIO

    def __init__(
        self,
        message: str,
        *,
        pid: int | None = None,
        path: str | None = None,
        errno: int | None = None,
    ) -> None:
        OSError.__init__(self, self._errno if errno is None else errno, message, path)
        self.message = message
        self.pid = pid
        self.path = path


@public
class ProcessGone(_SystemError, ProcessLookupError):
    """No process has this pid, or the pinned process has ended."""

    _errno = errno.ESRCH


@public
class AccessDenied(_SystemError, PermissionError):
    """The process exists but may not be read; the message names the right that is needed."""

    _errno = errno.EACCES


@public
class ReadError(_SystemError):
    """Another failure of the system (EMFILE, EIO, ...); see ``errno``."""


@public
class CaptureError(_SystemError):
    """A capture cannot be written, or cannot be read: it is damaged, refused or missing."""


@public
class NotAProcess(Error):
    """The pid is the number of a thread; ``process`` is the pid of its process."""

    def __init__(self, process: int, *, pid: int | None = None, path: str | None = None) -> None:
        super().__init__(f"{pid} is a thread of process {process}", pid=pid, path=path)
        self.process = process


@public
class NotProcfs(Error):
    """The directory ``procfs=``, in ``path``, is neither a procfs nor a capture."""

    path: str

    def __init__(
        self,
        path: str,
        problem: str = "neither a procfs nor a capture",
        *,
        pid: int | None = None,
    ) -> None:
        super().__init__(f"procfs={path!r} is {problem}", pid=pid, path=path)


@public
class NotCaptured(Error):
    """A capture does not hold the process, or lacks a file of it."""


@public
class NotInNamespace(Error):
    """The process has no number in the pid namespace of `procfs`."""


@public
class NotSupported(Error):
    """The kernel or this Python lacks what is needed; the message names it."""


@public
class NoMemoryMap(Error):
    """The process has no memory of its own; ``what`` is "kernel thread" or "zombie".

    ``what`` is "kernel thread or zombie" if a capture does not show which.
    """

    def __init__(self, what: str, *, pid: int | None = None, path: str | None = None) -> None:
        super().__init__(f"process {pid} is a {what}: it has no memory map", pid=pid, path=path)
        self.what = what


@public
class ParseError(Error, ValueError):
    """The text is not maps, smaps or smaps_rollup; no part of it is returned.

    ``offset`` is the offset of the line in the text, ``line_number`` counts from 1, and ``line``
    has the line's bytes without its end. ``problem`` says what is wrong with the line, ``cause``
    what the text probably is instead ("" if unknown).
    """

    cause = ""

    def __init__(
        self,
        problem: str,
        *,
        offset: int,
        line_number: int,
        line: bytes,
        pid: int | None = None,
        path: str | None = None,
    ) -> None:
        # A name can fill a page, and a process can put any bytes in it: show its start, escaped,
        # so that it cannot control a terminal.
        shown = repr(line[:80])[1:] + ("..." if len(line) > 80 else "")
        super().__init__(
            f"line {line_number} (byte {offset}): {problem}: {shown}", pid=pid, path=path
        )
        self.problem = problem
        self.offset = offset
        self.line_number = line_number
        self.line = line

    def explain(self, cause: str) -> None:
        """Add the probable cause to the message."""
        self.cause = cause
        self.message = f"{self.message} ({cause})"
        self.args = (self.message,)

    def __str__(self) -> str:
        return self.message if self.path is None else f"{self.path}: {self.message}"


# The problems of a ParseError. Both backends use indexes into this list, so that their messages
# are equal.
PROBLEMS = (
    "neither a mapping's header nor a field",
    "not a mapping's header (start-end perms offset dev inode name)",
    "a mapping that ends before it starts",
    "a field before the first mapping's header",
    "a field's label without its colon",
    "a number is missing",
    "a size without kB",
    'a size whose unit is not " kB"',
    "a unit where none belongs",
    "a number too large",
    "a field twice in one mapping",
    "more different fields than any kernel has",
)
(
    NO_LINE,
    NO_HEADER,
    BACKWARDS,
    FIELD_FIRST,
    NO_LABEL,
    NO_NUMBER,
    NO_UNIT,
    OTHER_UNIT,
    UNIT,
    TOO_LARGE,
    TWICE,
    TOO_MANY,
) = range(len(PROBLEMS))


#: All outcomes, in the order of ``coverage``.
OUTCOMES: tuple[Outcome, ...] = (
    "read", "denied", "gone", "kernel_thread", "zombie", "skipped", "failed",
)  # fmt: skip


def outcome_of(error: Error) -> Outcome:
    """Return the outcome of a process that could not be read because of `error`."""
    if isinstance(error, AccessDenied):
        return "denied"
    if isinstance(error, ProcessGone):
        return "gone"
    if isinstance(error, NoMemoryMap):
        # Some captures do not show which of the two it is.
        if error.what == "kernel thread":
            return "kernel_thread"
        return "zombie" if error.what == "zombie" else "failed"
    return "failed"
