"""Group keys: words by which every command and function groups processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable, Iterable, Sequence

from fastsmaps._arguments import wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from typing import Any

    from fastsmaps._model.info import Info
    from fastsmaps._model.process_totals import ProcessTotals

#: One or several of WORDS, in a comma-separated text or as an iterable.
By = str | Iterable[str]
#: The words; also "cmdline:REGEX", the part of the command line that the pattern matches, and
#: "group:NAME=REGEX", a name for the command lines that the pattern matches.
WORDS = (
    "comm", "user", "cgroup", "unit", "slice", "container", "pod", "exe", "cmdline", "pid",
)  # fmt: skip

#: The key of processes that no pattern matches.
NO_MATCH = ""

# The argument of scan() and Sampler that a word needs.
_READS = {
    **dict.fromkeys(("cgroup", "unit", "slice", "container", "pod"), "cgroup"),
    "exe": "exe",
    **dict.fromkeys(("cmdline", "group"), "cmdline"),
}

_PATTERN = "cmdline:"
_GROUP = "group:"
_EXPECTED = f"one or several of {', '.join(WORDS)}, {_PATTERN}REGEX, {_GROUP}NAME=REGEX"
# A pattern is tried on this many characters of a command line first, and then on four times as
# many, as long as that should take less than this many seconds if time grows by the square.
_FIRST_LENGTH = 1 << 10
_MAX_SECONDS = 0.05
# The most characters of a key, which is a group's name.
_MAX_KEY = 1 << 10
# The parts of a group's name that the process gives, beside those of the pattern.
_ROW_PARTS = ("comm", "user")
# How many command lines, or cgroups, the group is kept for: more than most hosts have.
_MAX_KEPT = 1 << 14


class Keys:
    """A function from a row of a scan to its group's key.

    ``words`` are those given, ``names`` too, but "cmdline" for a pattern and "group" for all named
    ones together; the first that matches counts. The key is a tuple with a value for each
    name, or the value itself if there is one name. ``reads`` are the keyword arguments that scan()
    and Sampler need for it. Raises ValueError for an unknown word or an invalid pattern.
    """

    __slots__ = ("_values", "names", "reads", "words")

    def __init__(self, by: By) -> None:
        self.words = words_of(by)
        values: dict[str, Callable[[ProcessTotals], Hashable]] = {}
        for word in self.words:
            name = word.partition(":")[0]
            if name not in values:
                groups = [w.removeprefix(_GROUP) for w in self.words if w.startswith(_GROUP)]
                values[name] = _named(groups) if name == "group" else _value_of(word)
            elif name != "group":
                raise ValueError(f"by must have {name} only once, got {by!r}")
        self.names = tuple(values)
        self.reads = dict.fromkeys((_READS[n] for n in self.names if n in _READS), True)
        self._values = tuple(values.values())

    def __str__(self) -> str:
        return ",".join(self.words)

    def __call__(self, row: ProcessTotals) -> Hashable:
        """Return the key."""
        if len(self._values) == 1:
            return self._values[0](row)
        return self.values(row)

    def values(self, row: ProcessTotals) -> tuple[Any, ...]:
        """Return the key's values as a tuple, even if there is only one; None if unknown."""
        return tuple([value(row) for value in self._values])

    def named(self, key: Any) -> dict[str, Any]:  # noqa: ANN401 - the result of __call__()
        """Return the values in a key by name."""
        parts = key if len(self.names) > 1 else (key,)
        return dict(zip(self.names, parts, strict=True))


def key_of(by: By | Callable[[ProcessTotals], Hashable]) -> Callable[[ProcessTotals], Hashable]:
    """Return the function from a row to its key: `by` itself if it is one, else Keys."""
    return by if callable(by) else Keys(by)


def words_of(by: By) -> tuple[str, ...]:
    """Split and check the words; a pattern takes the rest of its text, commas included."""
    words: list[str] = []
    if not isinstance(by, Iterable):
        raise wrong("by", _EXPECTED, by)
    for text in (by,) if isinstance(by, str) else by:
        if not isinstance(text, str):
            raise wrong("each of by", _EXPECTED, text)
        # A pattern begins at the first of them.
        starts = [f",{text}".find(f",{start}") for start in (_PATTERN, _GROUP)]
        at = min((start for start in starts if start >= 0), default=len(text) + 1)
        words += text[: max(at - 1, 0)].split(",") if at else ()
        words += [text[at:]] if at < len(text) else ()
    for word in words:
        if word not in WORDS and not (word.startswith((_PATTERN, _GROUP)) and word != _PATTERN):
            raise wrong("by", _EXPECTED, word, str)
    if not words:
        raise wrong("by", _EXPECTED, by, object)
    return tuple(dict.fromkeys(words))


def command_of(process: ProcessTotals | Info) -> str:
    """Return the arguments joined by blanks, or the name in brackets, as ps shows them."""
    words = process.cmdline
    if words and any(words):
        return " ".join(words)
    return "?" if process.comm is None else f"[{process.comm}]"


def short_command(row: ProcessTotals, max_length: int = 1 << 12, *, full: bool = False) -> str:
    """Return the command line with its program's base name: ``python3 /srv/app.py --fast``.

    Options and scripts stay as they are, so that ten Pythons differ; with `full` the program's
    path too. It is cut after `max_length` characters, with "..." added.
    """
    text = (row.raw_cmdline or b"").removesuffix(b"\0")
    if not text.strip(b"\0"):
        return command_of(row)
    program, nul, rest = text.partition(b"\0")
    comm = os.fsencode(row.comm or "")
    if not full:
        program = _base_name(program, comm, is_title=not rest.strip(b"\0"))
    text = program + nul + rest
    # A character has at most four bytes.
    start = os.fsdecode(text[: 4 * max_length + 4].replace(b"\0", b" "))
    return start if len(start) <= max_length else start[:max_length] + "..."


def _base_name(program: bytes, comm: bytes, *, is_title: bool) -> bytes:
    """Return the last part of a program's path.

    A process can write a title over its arguments, which then is all of argv[0]: ``nginx: worker
    process``, ``/opt/chrome/chrome --type=gpu --dir=/tmp/x``. The path there is the first word.
    """
    base = program.rpartition(b"/")[2]
    # comm has the first 15 bytes of the name of a program: /opt/My App/My Viewer.
    if is_title and b" " in program and (not comm or base[:15] != comm):
        first, blank, rest = program.partition(b" ")
        return (first.rpartition(b"/")[2] or first) + blank + rest
    return base or program


_SHELLS = ("sh", "ash", "bash", "dash", "ksh", "zsh")
_PYTHONS = ("python", "pypy")
# Interpreters, without the version in their names, and their options that take the next argument.
_INTERPRETERS = {
    **dict.fromkeys(_PYTHONS, ("-W", "-X", "--check-hash-based-pycs")),
    **dict.fromkeys(_SHELLS, ("-o", "-O", "+o", "+O", "--rcfile", "--init-file")),
    **dict.fromkeys(("node", "nodejs"), ("-r", "--require", "--import", "--loader", "-C")),
    "perl": ("-I",),
    "ruby": ("-I", "-r", "-C", "-E"),
    "php": ("-c", "-d", "-z"),
    "java": ("-cp", "-classpath", "--class-path", "-p", "--module-path", "--upgrade-module-path",
             "--add-modules", "--add-exports", "--add-opens", "--add-reads", "--source"),
}  # fmt: skip
# Their options with code, after which there is no script.
_CODE = {
    **dict.fromkeys((*_PYTHONS, *_SHELLS), ("-c",)),
    **dict.fromkeys(("node", "nodejs"), ("-e", "--eval", "-p", "--print")),
    "perl": ("-e", "-E"),
    "ruby": ("-e",),
    "php": ("-r",),
}
# Their options that name what they run: a module, a jar.
_RUN = {**dict.fromkeys(_PYTHONS, ("-m",)), "java": ("-jar", "-m", "--module"), "php": ("-f",)}


def process_label(row: ProcessTotals) -> str:
    """Return a short name of a process: its script if an interpreter runs one, otherwise comm.

    ``python3 /srv/app.py --fast`` is app.py, ``python -m http.server`` http.server, ``java -jar
    /opt/shop.jar`` shop.jar and ``java org.apache.catalina.startup.Bootstrap`` Bootstrap.
    """
    return _script(row.cmdline or ()) or ("?" if row.comm is None else row.comm)


def _script(words: Sequence[str]) -> str:
    """Return the base name of the script, module, jar or class that an interpreter runs, or ""."""
    program = words[0].rpartition("/")[2].lstrip("-").rstrip("0123456789.") if words else ""
    if program not in _INTERPRETERS:
        return ""
    code, run = _CODE.get(program, ()), _RUN.get(program, ())
    rest = iter(words[1:])
    for word in rest:
        # The last of several letters takes the next argument: bash -euo pipefail, python -um pip.
        several = word[0:1] == "-" and word[1:].isalpha() and len(word) < 6 and program != "java"
        option = f"-{word[-1]}" if several else word
        if word[:2] in code or option in code:
            return ""
        if option in run:
            return next(rest, "").rpartition("/")[2]
        if option in _INTERPRETERS[program]:
            next(rest, None)
        elif word.startswith(("/dev/fd/", "/proc/self/fd/")):
            return ""  # a pipe, as in bash <(...): its number names nothing
        elif not word.startswith(("-", "+", "@")):
            # A class has dots before its name, a script has slashes.
            return word.rpartition("." if program == "java" else "/")[2]
    return ""


def search(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    r"""Search a command line as Pattern.search() does, but only as much of it as is fast.

    Processes choose their command lines: ``\w+\.jar`` takes 18 s for 64 KiB of one letter, since
    it tries each start up to the end. Only the first part of such a text is searched.
    """
    size = _FIRST_LENGTH
    while len(text) > size:
        # Tried twice, since a thread's time includes interrupts: 3 ms once on a busy machine.
        for _ in range(2):
            begun = time.thread_time()
            match = pattern.search(text[:size])
            if 16 * (time.thread_time() - begun) <= _MAX_SECONDS:
                break
        else:
            return match
        size *= 4
    return pattern.search(text)


# ---- values


def _value_of(word: str) -> Callable[[ProcessTotals], Hashable]:
    if word.startswith(_PATTERN):
        return _matched(_compiled(word.removeprefix(_PATTERN)))
    if word in ("unit", "slice", "container", "pod"):
        return _part_of_row(word)
    if word == "cmdline":
        return lambda row: None if row.cmdline is None else command_of(row)[:_MAX_KEY]
    if word == "exe":
        return _exe
    return lambda row: getattr(row, word)


def part_of_cgroup(word: str) -> Callable[[str | None], str]:
    """Return the function from a cgroup's path to its unit, slice, container or pod, or ""."""
    # They import re.
    from fastsmaps._model.containers import container_of, pod_of
    from fastsmaps._model.systemd import slice_of, unit_of

    parts: dict[str, Callable[[str | None], str]] = {
        "unit": unit_of,
        "slice": slice_of,
        "container": lambda cgroup: str(container_of(cgroup) or ""),
        "pod": lambda cgroup: pod_of(cgroup)[0],
    }
    return parts[word]


def _part_of_row(word: str) -> Callable[[ProcessTotals], str]:
    from fastsmaps._model.process_totals import managed_cgroups

    part_of = part_of_cgroup(word)
    # Most processes share a few cgroups, and parsing one takes 3 us.
    parts: dict[tuple[str | None, ...], str] = {}

    def part(row: ProcessTotals) -> str:
        paths = managed_cgroups(row)
        if paths not in parts:
            if len(parts) >= _MAX_KEPT:  # each restart of a pod makes new ones
                parts.clear()
            parts[paths] = next(filter(None, map(part_of, paths)), "")
        return parts[paths]

    return part


def _exe(row: ProcessTotals) -> str | None:
    """Return the program's path, or if it is not known, comm in brackets, unlike any path."""
    if row.exe is not None:
        return row.exe.removesuffix(" (deleted)")
    return None if row.comm is None else f"[{row.comm}]"


def _compiled(pattern: str) -> re.Pattern[str]:
    import re

    try:
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(
            f"by must have a valid regular expression, got {pattern!r}: {error}"
        ) from None


def _matched(pattern: re.Pattern[str]) -> Callable[[ProcessTotals], str | None]:
    named = tuple(pattern.groupindex)

    def matched(row: ProcessTotals) -> str | None:
        if row.cmdline is None:
            return None
        match = search(pattern, command_of(row))
        if match is None:
            return NO_MATCH
        parts = [match[name] for name in named if match[name]] if named else [match[0]]
        return " ".join(parts)[:_MAX_KEY]

    return matched


def _named(groups: Sequence[str]) -> Callable[[ProcessTotals], str | None]:
    rules = [_rule(group) for group in groups]
    # A process keeps its command line, and a search takes microseconds.
    kept: dict[tuple[Hashable, ...], str] = {}

    def named(row: ProcessTotals) -> str | None:
        if row.cmdline is None:
            return None
        key = (row.raw_cmdline, *[getattr(row, part) for part in _ROW_PARTS])
        if key not in kept:
            if len(kept) >= _MAX_KEPT:
                kept.clear()
            command = command_of(row)
            found = (name for name in (rule(row, command) for rule in rules) if name is not None)
            kept[key] = next(found, NO_MATCH)[:_MAX_KEY]
        return kept[key]

    return named


def _rule(group: str) -> Callable[[ProcessTotals, str], str | None]:
    """Return the function from a row and its command line to the group's name, None for another."""
    import re

    template, equals, regex = group.partition("=")
    if not template or not equals:
        raise ValueError(f"by must have {_GROUP}NAME=REGEX, got {_GROUP + group!r}")
    pattern = _compiled(regex)
    part = re.compile(r"\{(\w+)\}")
    for name in part.findall(template):
        if name not in pattern.groupindex and name not in _ROW_PARTS:
            raise ValueError(
                f"by must have a named part of the pattern, {' or '.join(_ROW_PARTS)} in braces, "
                f"got {{{name}}} in {_GROUP + group!r}"
            )

    def name_of(row: ProcessTotals, command: str) -> str | None:
        match = search(pattern, command)
        if match is None:
            return None

        def value(found: re.Match[str]) -> str:
            name = found[1]
            return (match[name] if name in pattern.groupindex else getattr(row, name)) or ""

        return part.sub(value, template)

    return name_of
