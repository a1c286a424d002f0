"""The errors; each carries ``pid`` and ``path`` and pickles.

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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal, TypeAlias

    #: How a process can come out of a scan.
    Outcome: TypeAlias = Literal[
        "read", "denied", "gone", "kernel_thread", "zombie", "skipped", "failed"
    ]
else:
    # fastsmaps.Outcome is the Literal at run time: importing typing takes 3 ms.
    Outcome = str


class Error(Exception):
    """Any failure of fastsmaps; ``pid`` and ``path`` (None where there is none) say of what."""

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
        # Exceptions pickle as cls(*args), which would lose what is given by keyword. A pickle names
        # the class alone, which is public: modules may move.
        from copyreg import __newobj__  # type: ignore[attr-defined]

        return __newobj__, (type(self),), (self.args, self.__dict__)

    def __setstate__(self, state: Any) -> None:  # noqa: ANN401 - what __reduce__ gives
        args, attributes = state
        if isinstance(self, OSError):
            OSError.__init__(self, *args[:2], attributes["path"])  # args may lack the file's name
        self.args = args
        self.__dict__.update(attributes)


def is_foreign(error: Exception) -> bool:
    """Whether an OSError that was caught is not the system's.

    The system's have a number. What has none was raised by a signal's handler in the midst of a
    call, TimeoutError above all: it is nobody's but the caller's.
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


class ProcessGone(_SystemError, ProcessLookupError):
    """No process has this pid, or the one that was pinned has ended."""

    _errno = errno.ESRCH


class AccessDenied(_SystemError, PermissionError):
    """The process exists and may not be read; the message names what would be enough."""

    _errno = errno.EACCES


class ReadError(_SystemError):
    """The system failed in another way (EMFILE, EIO, ...): ``errno`` says how."""


class CaptureError(_SystemError):
    """A capture cannot be written, or one cannot be read: damaged, refused, or not there."""


class NotAProcess(Error):
    """The number is a thread's: `process` is the number of its process."""

    def __init__(self, process: int, *, pid: int | None = None, path: str | None = None) -> None:
        super().__init__(f"{pid} is a thread of process {process}", pid=pid, path=path)
        self.process = process


class NotProcfs(Error):
    """The directory given as ``procfs=``, which is `path`, is neither a procfs nor a capture."""

    path: str

    def __init__(
        self,
        path: str,
        problem: str = "neither a procfs nor a capture",
        *,
        pid: int | None = None,
    ) -> None:
        super().__init__(f"procfs={path!r} is {problem}", pid=pid, path=path)


class NotCaptured(Error):
    """A capture does not hold the process, or lacks a file of it."""


class NotInNamespace(Error):
    """The process has no number in the pid namespace of `procfs`."""


class NotSupported(Error):
    """The kernel or this Python lacks what is needed; the message names it."""


class NoMemoryMap(Error):
    """The process has no memory of its own: ``what`` is "kernel thread" or "zombie".

    It is "kernel thread or zombie" where a capture does not say which.
    """

    def __init__(self, what: str, *, pid: int | None = None, path: str | None = None) -> None:
        super().__init__(f"process {pid} is a {what}: it has no memory map", pid=pid, path=path)
        self.what = what


class ParseError(Error, ValueError):
    """The text is no smaps; nothing of it is returned.

    ``offset`` is the place of the line's first byte in the text, ``line_number`` counts from
    1, ``line`` is the line's bytes without its end. ``problem`` says what is wrong with it, and
    ``cause`` what the text most likely is instead ("" where nothing is likely).
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
        # A name may be as long as a page, and holds whatever a process wrote: show its start,
        # as bytes, so that nothing of it acts on a terminal.
        shown = repr(line[:80])[1:] + ("..." if len(line) > 80 else "")
        super().__init__(
            f"line {line_number} (byte {offset}): {problem}: {shown}", pid=pid, path=path
        )
        self.problem = problem
        self.offset = offset
        self.line_number = line_number
        self.line = line

    def explain(self, cause: str) -> None:
        """Adds the likely cause to the message."""
        self.cause = cause
        self.message = f"{self.message} ({cause})"
        self.args = (self.message,)

    def __str__(self) -> str:
        return self.message if self.path is None else f"{self.path}: {self.message}"


# What a ParseError can say. The backends know these by their place in the list, so that both
# use the same words.
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


#: All outcomes; ``coverage`` counts each.
OUTCOMES: tuple[Outcome, ...] = (
    "read", "denied", "gone", "kernel_thread", "zombie", "skipped", "failed",
)  # fmt: skip


def outcome_of(error: Error) -> Outcome:
    """Return the outcome that an error means for a process."""
    if isinstance(error, AccessDenied):
        return "denied"
    if isinstance(error, ProcessGone):
        return "gone"
    if isinstance(error, NoMemoryMap):
        # Some captures do not say which of the two it is.
        if error.what == "kernel thread":
            return "kernel_thread"
        return "zombie" if error.what == "zombie" else "failed"
    return "failed"
