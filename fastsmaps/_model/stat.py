"""Parse stat, status, cgroup, cmdline and exe of /proc/<pid>: proc_pid_stat(5) and so on."""

from __future__ import annotations

import os

from fastsmaps._backend.bounded import MARK
from fastsmaps._errors import ParseError
from fastsmaps._model.values import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# include/linux/sched.h; the values have not changed since 2.6.
_PF_EXITING = 0x4
_PF_FORKNOEXEC = 0x40
_PF_KTHREAD = 0x00200000

#: The most bytes of a name: TASK_COMM_LEN is 16, but stat shows more for kernel workers.
_MAX_COMM = 64
#: The most arguments of a command line; MARK takes the place of further ones.
MAX_ARGUMENTS = 4096

# The hierarchy of cgroup v1 that has no controller, only systemd's units.
_SYSTEMD = b"name=systemd"

#: The state of a process for which no file gives it.
UNKNOWN = "?"
#: The unit of times in stat: clock ticks per second.
TICKS = os.sysconf("SC_CLK_TCK")


class Stat(Frozen):
    """The fields of stat that are used; None for those that a capture without stat lacks."""

    __slots__ = (
        "comm", "flags", "ppid", "start_brk", "start_stack", "start_time", "state", "threads",
    )  # fmt: skip

    comm: bytes | None
    state: str
    ppid: int | None
    flags: int
    threads: int | None
    start_time: float | None
    start_stack: int
    start_brk: int | None

    def __init__(
        self,
        comm: bytes | None,
        *,
        state: str = UNKNOWN,
        ppid: int | None = None,
        flags: int = 0,
        threads: int | None = None,
        start_time: float | None = None,
        start_stack: int = 0,
        start_brk: int | None = None,
    ) -> None:
        set_ = object.__setattr__
        set_(self, "comm", comm)
        set_(self, "state", state)
        set_(self, "ppid", ppid)
        set_(self, "flags", flags)
        set_(self, "threads", threads)
        set_(self, "start_time", start_time)
        set_(self, "start_stack", start_stack)
        set_(self, "start_brk", start_brk)

    @property
    def name(self) -> str | None:
        """The comm as text."""
        return None if self.comm is None else os.fsdecode(self.comm)

    @property
    def is_kernel_thread(self) -> bool:
        return bool(self.flags & _PF_KTHREAD)

    @property
    def has_exited(self) -> bool:
        """A zombie, or a thread about to be one: its memory is released first."""
        return self.state in "ZX" or bool(self.flags & _PF_EXITING)

    @property
    def keeps_parents_memory(self) -> bool:
        """Whether the process was forked and has not called exec since.

        Between vfork and exec the child has its parent's memory, and a descriptor of smaps opened
        then reads the parent's for ever (measured: 67,048 kB instead of 1,836). So no descriptor
        is kept while this flag is set.
        """
        return bool(self.flags & _PF_FORKNOEXEC)


def _number(field: bytes) -> int:
    if not field.isdigit():  # int() takes a sign and "_" too
        raise ValueError
    return int(field)


def parse_stat(text: bytes, pid: int, path: str) -> Stat:
    """Parse a stat line; comm may contain any text, so its fields begin after the last ")"."""
    comm, closed, rest = text.partition(b"(")[2].rpartition(b")")
    try:
        if not closed or len(comm) > _MAX_COMM:
            raise ValueError
        fields = rest.split()
        return Stat(
            comm,
            state=fields[0].decode("ascii"),
            ppid=_number(fields[1]),
            flags=_number(fields[6]),
            threads=_number(fields[17]),
            start_time=_number(fields[19]) / TICKS,
            start_stack=_number(fields[25]) if len(fields) > 25 else 0,
            # Field 47 exists since 3.3; 0 means no heap, or that the reader may not see it.
            start_brk=_number(fields[44]) or None if len(fields) > 44 else None,
        )
    except (ValueError, IndexError, OverflowError):  # a capture may hold any number
        raise damaged("not a stat line", text.rstrip(b"\n"), 1, 0, pid, path) from None


def stat_of_status(status: bytes | None, comm: bytes | None, pid: int, path: str) -> Stat:
    """Make a Stat from ``status``, or only the name from ``comm``.

    Captures of other tools have no stat: `sos report` saves smaps and status.
    """
    if not status:
        return Stat(None if comm is None else _checked(comm.removesuffix(b"\n"), pid, path))
    name = _status_text(status, b"Name:")
    if name is not None:
        # fs/proc/array.c escapes only newline and backslash in the name.
        parts = name.split(b"\\\\")
        name = b"\\".join([part.replace(b"\\n", b"\n") for part in parts])
        name = _checked(name, pid, path)
    state = (_status_text(status, b"State:") or b"")[:1].decode("ascii", "replace") or UNKNOWN
    threads = status_number(status, b"Threads:", pid, path)
    is_kernel_thread = status_number(status, b"Kthread:", pid, path)  # since 6.8
    if is_kernel_thread is None and threads is not None and state not in "ZX":
        # Threads comes after the sizes: a status that has it but no sizes is of a kernel thread.
        is_kernel_thread = _status_text(status, b"VmSize:") is None
    return Stat(
        name,
        state=state,
        ppid=status_number(status, b"PPid:", pid, path),
        flags=_PF_KTHREAD if is_kernel_thread else 0,
        threads=threads,
    )


def _checked(name: bytes, pid: int, path: str) -> bytes:
    if len(name) > _MAX_COMM:
        raise damaged("not a process's name", name, 1, 0, pid, path)
    return name


def _status_text(status: bytes, label: bytes) -> bytes | None:
    """Return the value of a line of ``status``, without leading blanks; None if it is missing."""
    _, found, rest = (b"\n" + status).partition(b"\n" + label)
    return rest.partition(b"\n")[0].lstrip(b" \t") if found else None


def status_number(
    status: bytes, label: bytes, pid: int | None, path: str, *, place: int = 0
) -> int | None:
    """Return a number from a line of ``status``; None if there is no such line."""
    # Only the name could imitate a label, and its newlines are escaped.
    at = status.find(b"\n" + label) + 1
    if at == 0:
        return None
    line = status[at:].partition(b"\n")[0]
    try:
        return int(line.split()[1 + place])
    except (ValueError, IndexError):
        number = status.count(b"\n", 0, at) + 1
        raise damaged("not a line of status", line, number, at, pid, path) from None


def cgroup_path(text: bytes, pid: int, path: str) -> str | None:
    """Return the path in ``cgroup`` that applies to memory: cgroup v2's, or v1's controller.

    None for an empty text, and if the text was cut before the path's end.
    """
    return cgroup_paths(text, pid, path)[0]


def cgroup_paths(text: bytes, pid: int, path: str) -> tuple[str | None, str | None]:
    """Return cgroup_path(), and the path in the hierarchy that systemd manages.

    The latter is None if it is the same, or the root. With v1's controllers it is that of
    "name=systemd", or else v2's: systemd makes a unit's cgroup for the memory controller only if
    the unit has a limit or accounting. Without them it is v2's, even if a program has mounted
    "name=systemd".
    """
    paths = {}
    offset = 0
    # Not splitlines(): a cgroup's name may hold any character but "/" and newline.
    lines = text.removesuffix(b"\n").split(b"\n") if text else []
    was_cut = text.endswith(MARK)
    if was_cut:
        lines.pop()
    for number, line in enumerate(lines, 1):
        fields = line.split(b":", 2)
        if len(fields) < 3:
            raise damaged("not a line of cgroup", line, number, offset, pid, path)
        for controller in fields[1].split(b","):
            paths[controller] = fields[2]
        offset += len(line) + 1
    # v2's line comes last.
    memory = paths.get(b"memory", None if was_cut else paths.get(b""))
    managed = None
    if paths.keys() - {b"", _SYSTEMD} or not (was_cut or b"" in paths):
        managed = next((paths[n] for n in (_SYSTEMD, b"") if paths.get(n, b"/") != b"/"), None)
    return (
        None if memory is None else os.fsdecode(memory),
        None if managed in (None, memory) else os.fsdecode(managed),
    )


#: A row's systemd_cgroup if its paths begin at the root of a cgroup namespace: what is above is not
#: known, so no path says which unit or container the process belongs to.
OUTSIDE = "/.."


def is_relative(text: bytes) -> bool:
    """Whether a path in ``cgroup`` leads out of the reader's cgroup namespace.

    Source: cgroup_namespaces(7).
    """
    paths = (line.split(b":", 2)[-1] for line in text.split(b"\n"))
    return any(path.startswith(b"/../") or path == b"/.." for path in paths)


def texts_of(
    texts: dict[str, bytes | None], pid: int, directory: str, *, relative: bool = False
) -> dict[str, Any]:
    """Return a scan row's values of these files, None for a missing or damaged one.

    "cmdline" is left as bytes; there is an "error" if the cgroup is damaged. `relative` says that
    paths of cgroups begin at the root of a cgroup namespace that is not the host's.
    """
    facts: dict[str, Any] = dict(texts)
    if "cgroup" in texts:
        try:
            facts["cgroup"], facts["systemd_cgroup"] = cgroup_paths(
                texts["cgroup"] or b"", pid, f"{directory}/cgroup"
            )
        except ParseError as error:
            facts |= {"cgroup": None, "error": str(error)}
        if relative or is_relative(texts["cgroup"] or b""):
            facts["systemd_cgroup"] = OUTSIDE
    if "exe" in texts:
        facts["exe"] = exe_path(texts["exe"])
    return facts


def arguments(cmdline: bytes | None) -> tuple[str, ...] | None:
    """Split ``cmdline`` into arguments: () for a kernel thread or zombie, None if it is missing.

    After MAX_ARGUMENTS there is one more, MARK.
    """
    if not cmdline:
        return None if cmdline is None else ()
    words = cmdline.removesuffix(b"\0").split(b"\0", MAX_ARGUMENTS)
    if len(words) > MAX_ARGUMENTS:
        words[-1] = MARK
    return tuple(map(os.fsdecode, words))


def exe_path(link: bytes | None) -> str | None:
    """Return the program's path from the target of ``exe``; None if it is missing or was cut."""
    return os.fsdecode(link) if link and not link.endswith(MARK) else None


def damaged(
    problem: str, line: bytes, number: int, offset: int, pid: int | None, path: str
) -> ParseError:
    """Return the error for a line of a capture that no kernel wrote."""
    return ParseError(problem, offset=offset, line_number=number, line=line, pid=pid, path=path)
