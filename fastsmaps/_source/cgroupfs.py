"""Cgroupfs: the memory of cgroups, from the files of their memory controller."""

from __future__ import annotations

import os

from fastsmaps._backend.bounded import MAX_TEXT
from fastsmaps._backend.descriptors import OPEN, read_file
from fastsmaps._errors import NotSupported, is_foreign
from fastsmaps._model.cgroup_memory import CgroupMemory
from fastsmaps._source.rights import mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# The largest page counter, in pages: no limit (include/linux/page_counter.h).
_UNLIMITED = (1 << 63) // os.sysconf("SC_PAGE_SIZE") - 1
# Parts of kernel memory, for kernels before 5.18, which have no "kernel" in memory.stat.
_KERNEL = ("kernel_stack", "pagetables", "sec_pagetables", "percpu", "vmalloc", "slab")


class Cgroupfs:
    """The mount of the hierarchy that has the memory controller.

    `directory` is another place for /sys/fs/cgroup, such as a host's in a container; by default the
    mount is found. Raises NotSupported if there is no hierarchy with the controller.
    """

    __slots__ = ("_is_v2", "_path", "_root")

    def __init__(self, directory: str | None = None) -> None:
        found = _mounted() if directory is None else _below(directory)
        if found is None:
            where = "is mounted here" if directory is None else f"is below {directory}"
            raise NotSupported(
                f"no cgroup hierarchy with the memory controller {where}", path=directory
            )
        self._path, self._root, self._is_v2 = found

    def memory(self, cgroup: str) -> CgroupMemory | None:
        """Return the memory of a cgroup, by its path as in /proc/<pid>/cgroup.

        None if it is not below the mount, has ended, or is a root, which has no counters.
        """
        inside = cgroup + "/" if self._root == "/" else cgroup.removeprefix(self._root) + "/"
        if ".." in cgroup.split("/") or not f"{cgroup}/".startswith(self._root):
            return None
        try:
            fd = os.open(f"{self._path}{inside}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            if is_foreign(error):
                raise
            return None
        try:
            return (_v2 if self._is_v2 else _v1)(cgroup, fd)
        finally:
            os.close(fd)


def _v2(path: str, directory: int) -> CgroupMemory | None:
    current = _number(directory, "memory.current")
    if current is None:
        return None
    stat = _numbers(directory, "memory.stat")
    kernel = stat.get("kernel")
    if kernel is None and "slab" in stat:
        kernel = sum(stat.get(name, 0) for name in _KERNEL)
    return CgroupMemory(
        path=path,
        current=current,
        working_set=_working_set(current, stat.get("inactive_file")),
        anon=stat.get("anon"),
        file=stat.get("file"),
        shmem=stat.get("shmem"),
        kernel=kernel,
        slab=stat.get("slab"),
        swap=_number(directory, "memory.swap.current"),
        limit=_number(directory, "memory.max"),
        oom_kills=_numbers(directory, "memory.events").get("oom_kill"),
    )


def _v1(path: str, directory: int) -> CgroupMemory | None:
    current = _number(directory, "memory.usage_in_bytes")
    if current is None:
        return None
    # total_ includes the cgroups below, as the usage does.
    stat = _numbers(directory, "memory.stat")
    limit = _number(directory, "memory.limit_in_bytes")
    if limit is not None and limit // os.sysconf("SC_PAGE_SIZE") >= _UNLIMITED:
        limit = None
    return CgroupMemory(
        path=path,
        current=current,
        working_set=_working_set(current, stat.get("total_inactive_file")),
        anon=stat.get("total_rss"),
        file=stat.get("total_cache"),
        shmem=stat.get("total_shmem"),
        kernel=_number(directory, "memory.kmem.usage_in_bytes"),
        slab=None,
        swap=stat.get("total_swap"),
        limit=limit,
        oom_kills=_numbers(directory, "memory.oom_control").get("oom_kill"),
    )


def _working_set(current: int, inactive_file: int | None) -> int | None:
    return None if inactive_file is None else max(0, current - inactive_file)


def _number(directory: int, name: str) -> int | None:
    text = _read(directory, name).strip()
    return int(text) if text.isdigit() and len(text) < 20 else None


def _numbers(directory: int, name: str) -> Mapping[str, int]:
    lines = (line.split() for line in _read(directory, name).splitlines())
    return {
        words[0].decode("ascii", "backslashreplace"): int(words[1])
        for words in lines
        if len(words) == 2 and words[1].isdigit() and len(words[1]) < 20
    }


def _read(directory: int, name: str) -> bytes:
    try:
        fd = os.open(name, OPEN | os.O_NOFOLLOW, dir_fd=directory)
    except OSError as error:
        if is_foreign(error):
            raise
        return b""
    try:
        return read_file(fd, MAX_TEXT)
    except OSError as error:  # ENODEV: the cgroup has ended
        if is_foreign(error):
            raise
        return b""
    finally:
        os.close(fd)


# ---- where it is mounted


def _below(directory: str) -> tuple[str, str, bool] | None:
    """Return where the controller is below a place for /sys/fs/cgroup: see _mounted()."""
    for path, name, is_v2 in (
        (directory, "cgroup.controllers", True),
        (f"{directory}/memory", "memory.stat", False),
        (directory, "memory.stat", False),
        (f"{directory}/unified", "cgroup.controllers", True),
    ):
        if os.path.lexists(f"{path}/{name}"):
            return path, "/", is_v2
    return None


def _mounted() -> tuple[str, str, bool] | None:
    """Return the mount point, the cgroup that is mounted there, and whether it is v2.

    A controller is in one hierarchy: in v2's unless a v1 hierarchy has it.
    Source: proc_pid_mountinfo(5).
    """
    found = None
    for mount, (name, *options) in mounts():
        if name == b"cgroup2" or (name == b"cgroup" and b"memory" in options[-1].split(b",")):
            root, point = (os.fsdecode(_unescaped(mount[i])) for i in (3, 4))
            found = point, root, name == b"cgroup2"
            if name == b"cgroup":
                break
    return found


def _unescaped(name: bytes) -> bytes:
    # The kernel writes blanks, tabs, newlines and backslashes as octal numbers.
    return (
        name.replace(b"\\040", b" ")
        .replace(b"\\011", b"\t")
        .replace(b"\\012", b"\n")
        .replace(b"\\134", b"\\")
    )
