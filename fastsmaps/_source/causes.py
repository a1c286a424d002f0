"""The likely cause why a text is not smaps, in words that help the user find it."""

from __future__ import annotations

import re

from fastsmaps._errors import FIELD_FIRST, OTHER_UNIT, PROBLEMS
from fastsmaps._source.compressed import START, name_of
from fastsmaps._source.pasted import wide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastsmaps._errors import ParseError

_UNIT = re.compile(rb"[A-Z]\w*:[ \t]*[0-9]+[ \t]*([A-Za-z]{1,8})").match
_WITHOUT_DEVICE = re.compile(
    rb"[0-9a-f]+-[0-9a-f]+[ \t]+[r-][w-][x-][sSp-][ \t]+[0-9a-f]+"
    rb"(?:[ \t]+(?![0-9a-f]+:[0-9a-f]+ ).*)?"
).fullmatch

_WIDE = "UTF-16 without its byte order mark"
_BINARY = "binary data"
_FAILURE = "an error message was saved"
_HEADER = rb"[0-9a-f]{6,16}-[0-9a-f]{6,16}[ \t]"
_LINE = rb"(?:%s|[A-Z]\w+:)" % _HEADER
_FAILURES = (
    rb"No such (?:file|process)|Permission denied|Operation not permitted|Input/output error|"
    rb"Traceback|^[Ee]rror\b|Errno|not found$"
)
_COMMANDS = (
    rb"^(?:.{0,100}[$#%>] ?)?(?:sudo |adb |su |ssh )*"
    rb"(?:cat|head|tail|less|more|type|grep|xxd|adb|shell)\b|^[$#%] "
)
# The first pattern that matches the line at fault gives the cause.
_LINES = [
    (re.compile(pattern).search, cause)
    for pattern, cause in (
        (rb"^==> .*<==", "the name of a file, as head and tail print it"),
        (rb"^=+ ?Memory map", "the heading of an abort message"),
        (rb"^(?:```|~~~)", "a fence of Markdown"),
        (rb"^[ \t]*&(?:gt|lt|nbsp);|^[ \t]*<[A-Za-z!/?]", "HTML or XML"),
        (rb'^[ \t]*(?:\{|\[[{"])', "JSON"),
        (_FAILURES, _FAILURE),
        (rb"\x1b[\[\]]", "control sequences of a terminal"),
        (_COMMANDS, "a shell's prompt or command"),
        (rb"^[ \t]*>", "a quotation, as in mail"),
        (rb"^[ \t]*\|", "a table's border"),
        (rb"^[ \t]*[0-9]+[:.)\t ][ \t]*" + _LINE, "a line number before the line"),
        (rb"^[^ \t]{1,200}[:-](?:[0-9]+[:-])?" + _LINE, "a file's name, from grep"),
        (rb"^[ \t]+" + _LINE, "the line is indented"),
        (rb"[^ \t].*[ \t:>]" + _HEADER, "other text before the mapping's header"),
    )
]
_STARTS = (
    (b"%PDF", "a PDF"), (b"\x7fELF", "a program"), (b"PAR1", "a Parquet file"),
    (b"PK\x03\x04", "a zip archive"), (b"\x89PNG", "a picture"),
)  # fmt: skip


def cause_of(data: bytes, error: ParseError) -> str:
    """Return the likely cause why `data` could not be parsed; "" if it is not known."""
    return another_file(data) or _of_the_line(data, error) or _of_zeros(data)


def is_pasted(data: bytes, cause: str) -> bool:
    """Whether lenient parsing may find mappings in the text."""
    return cause not in ("", _FAILURE, _BINARY) and not another_file(data)


def _of_the_line(data: bytes, error: ParseError) -> str:
    line = error.line[:1024]
    if _is_last(data, error) and error.line_number > 1:
        return "the text is cut off here"
    if error.problem == PROBLEMS[OTHER_UNIT]:
        match = _UNIT(line)
        if match is not None and match[1] != b"kB":
            unit = match[1].decode("ascii")
            return f"the unit is {unit}; the kernel's is kB, and means 1024 bytes"
    if _WITHOUT_DEVICE(line):
        return "device and inode are missing"
    for matches, cause in _LINES:
        if matches(line):
            return cause
    if error.problem == PROBLEMS[FIELD_FIRST]:
        return "the text lacks its beginning"
    return ""


def _is_last(data: bytes, error: ParseError) -> bool:
    """Whether the line at fault is the last one and has no newline."""
    return error.offset + len(error.line) >= len(data) - 1 and data[-1:] not in (b"\n", b"")


def another_file(data: bytes) -> str:
    """Name the type of a file that is not text; return "" for any other."""
    compression = name_of(data[:START])
    if compression:
        return f"the text is compressed ({compression}): load() reads it"
    if data[257:262] == b"ustar":
        return "a tar archive: open_capture() reads it, the command with --procfs"
    for begins, what in _STARTS:
        if data.startswith(begins):
            return f"the text is {what}"
    return ""


def _of_zeros(data: bytes) -> str:
    if b"\0" not in data[:4096]:
        return ""
    return _WIDE if wide(data) else _BINARY
