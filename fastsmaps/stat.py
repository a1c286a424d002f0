"""What stat, status and cgroup of /proc/<pid> say of a process: proc_pid_stat(5) and so on."""

from __future__ import annotations

import os

from fastsmaps.errors import ParseError
from fastsmaps.texts import MARK
from fastsmaps.values import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# include/linux/sched.h; the values have not changed since 2.6.
_PF_EXITING = 0x4
_PF_FORKNOEXEC = 0x40
_PF_KTHREAD = 0x00200000

#: Bytes of a name: TASK_COMM_LEN is 16, of kernel workers stat shows more.
_MOST_COMM = 64
#: Arguments of a command line that are made; behind them stands MARK.
MOST_ARGUMENTS = 4096

#: Of a second: the unit of times in stat.
TICKS = os.sysconf("SC_CLK_TCK")


class Stat(Frozen):
    """What is used of the stat line."""

    __slots__ = ("comm", "flags", "ppid", "start_brk", "start_time", "state", "threads")

    comm: bytes
    state: str
    ppid: int
    flags: int
    threads: int
    start_time: float
    start_brk: int | None

    def __init__(self, comm: bytes, fields: list[bytes]) -> None:
        set_ = object.__setattr__
        set_(self, "comm", comm)
        set_(self, "state", fields[0].decode("ascii"))
        set_(self, "ppid", int(fields[1]))
        set_(self, "flags", int(fields[6]))
        set_(self, "threads", int(fields[17]))
        set_(self, "start_time", int(fields[19]) / TICKS)
        # Field 47 came with 3.3, and reads 0 for who may not see addresses, or where none is.
        set_(self, "start_brk", int(fields[44]) or None if len(fields) > 44 else None)

    @property
    def is_kernel_thread(self) -> bool:
        return bool(self.flags & _PF_KTHREAD)

    @property
    def has_exited(self) -> bool:
        """A zombie, or a thread on its way there: its memory is given back first."""
        return self.state in "ZX" or bool(self.flags & _PF_EXITING)

    @property
    def keeps_parents_memory(self) -> bool:
        """Forked, and no exec since.

        Between vfork and exec the child's memory is its parent's, and a descriptor of smaps
        that is opened then reads the parent's for ever (measured: 67,048 kB for 1,836). So
        while this flag is set no descriptor is kept.
        """
        return bool(self.flags & _PF_FORKNOEXEC)


def parse_stat(text: bytes, pid: int, path: str) -> Stat:
    """The line's fields; comm may hold anything, so they begin after the last ")"."""
    comm, closed, rest = text.partition(b"(")[2].rpartition(b")")
    try:
        if not closed or len(comm) > _MOST_COMM:
            raise ValueError
        return Stat(comm, rest.split())
    except (ValueError, IndexError, OverflowError):  # a number beyond a float, of a capture
        raise damaged("not a stat line", text.rstrip(b"\n"), 1, 0, pid, path) from None


def status_number(
    status: bytes, label: bytes, pid: int | None, path: str, *, place: int = 0
) -> int | None:
    """A number of a line of ``status``, None where there is no such line."""
    # In a status only the name could imitate a label, and its newlines are escaped.
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
    """The path that ``cgroup`` gives for memory: cgroup v2's, or v1's controller.

    None for an empty text, and where the text was cut before that path ends.
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
            paths[controller] = os.fsdecode(fields[2])
        offset += len(line) + 1
    # v2's line comes last.
    return paths.get(b"memory", None if was_cut else paths.get(b""))


def texts_of(texts: dict[str, bytes | None], pid: int, directory: str) -> dict[str, Any]:
    """What a row of a scan holds of these files, None for what is missing or damaged.

    "cmdline" is left as bytes; "error" is there where the cgroup is damaged.
    """
    facts: dict[str, Any] = dict(texts)
    if "cgroup" in texts:
        try:
            facts["cgroup"] = cgroup_path(texts["cgroup"] or b"", pid, f"{directory}/cgroup")
        except ParseError as error:
            facts |= {"cgroup": None, "error": str(error)}
    return facts


def arguments(cmdline: bytes | None) -> tuple[str, ...] | None:
    """The arguments of ``cmdline``: () for a kernel thread or zombie, None where it is missing.

    After MOST_ARGUMENTS there is one more, MARK.
    """
    if not cmdline:
        return None if cmdline is None else ()
    words = cmdline.removesuffix(b"\0").split(b"\0", MOST_ARGUMENTS)
    if len(words) > MOST_ARGUMENTS:
        words[-1] = MARK
    return tuple(map(os.fsdecode, words))


def damaged(
    problem: str, line: bytes, number: int, offset: int, pid: int | None, path: str
) -> ParseError:
    """The error for a line that no kernel wrote: that of a capture."""
    return ParseError(problem, offset=offset, line_number=number, line=line, pid=pid, path=path)
