"""CgroupMemory: what the kernel charges a cgroup for, beside what its processes map."""

from __future__ import annotations

from fastsmaps._arguments import check_type
from fastsmaps._model.totals import Totals
from fastsmaps._model.values import Value
from fastsmaps._public import public

#: The values, in the order in which they are shown.
NAMES = (
    "path", "current", "working_set", "limit", "anon", "file", "shmem", "kernel", "slab", "swap",
    "oom_kills",
)  # fmt: skip
#: The parts of the difference between ``current`` and the Pss of a cgroup's processes.
PARTS = ("unmapped_cache", "unmapped_shmem", "kernel", "elsewhere", "rest")


@public
class CgroupMemory(Value):
    """The memory that a cgroup and those below it are charged for, in bytes.

    ``current`` is what the kernel compares with ``limit`` (memory.current; v1:
    memory.usage_in_bytes). ``working_set`` is that without the page cache that was not used lately,
    as the kubelet and cAdvisor count it before they evict. ``anon`` is anonymous memory, ``file``
    the page cache with ``shmem`` (tmpfs and shared memory), ``kernel`` the kernel's memory for the
    cgroup with ``slab``, ``swap`` what was swapped out. ``limit`` is None if there is none.
    ``oom_kills`` is how many processes were killed at the limit; on v1 without those in the cgroups
    below. ``path`` is the cgroup's, as in /proc/<pid>/cgroup.

    A value that the kernel does not tell is None: on v1 ``slab``, before Linux 4.13 ``oom_kills``.

    Sources: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst beside it.
    """

    __slots__ = (
        "anon", "current", "file", "kernel", "limit", "oom_kills", "path", "shmem", "slab", "swap",
        "working_set",
    )  # fmt: skip

    path: str
    current: int
    working_set: int | None
    anon: int | None
    file: int | None
    shmem: int | None
    kernel: int | None
    slab: int | None
    swap: int | None
    limit: int | None
    oom_kills: int | None

    def as_dict(self) -> dict[str, str | int | None]:
        """Return all values by name."""
        return {name: getattr(self, name) for name in NAMES}

    def difference(self, totals: Totals) -> dict[str, int | None]:
        """Return the parts of ``current`` that the Pss of the cgroup's processes does not have.

        They add up: ``current`` is the Pss and all parts. ``unmapped_cache`` is page cache and
        ``unmapped_shmem`` tmpfs and shared memory that none of them maps; ``kernel`` is the
        kernel's. ``elsewhere`` (negative) is memory that they map and another cgroup is charged
        for: a page is charged once, to the cgroup that used it first. ``rest`` is anonymous memory
        that is charged and not mapped, pages charged in advance (MEMCG_CHARGE_BATCH, 64 a CPU), and
        what changed between the two reads.

        `totals` are those of all processes in the cgroup and in those below it.

        Each is None if the kernel does not tell enough: `totals` without the parts of Pss (Linux
        5.3), or nothing read.
        """
        check_type("totals", totals, "a Totals", Totals)
        mapped = (totals.pss_anon, totals.pss_file, totals.pss_shmem)
        charged = (self.anon, self.file, self.shmem)
        known = [size for size in (*mapped, *charged, totals.pss, self.kernel) if size is not None]
        if len(known) < 8:
            return dict.fromkeys(PARTS)
        pss_anon, pss_file, pss_shmem, anon, file, shmem, pss, kernel = known
        more = (file - shmem - pss_file, shmem - pss_shmem, anon - pss_anon)
        parts = {
            "unmapped_cache": max(0, more[0]),
            "unmapped_shmem": max(0, more[1]),
            "kernel": kernel,
            "elsewhere": sum(min(0, size) for size in more),
        }
        return {**parts, "rest": self.current - pss - sum(parts.values())}

    def __repr__(self) -> str:
        from fastsmaps._model.sizes import human

        limit = "no limit" if self.limit is None else f"limit={human(self.limit)}"
        return f"<CgroupMemory {self.path} current={human(self.current)} {limit}>"
