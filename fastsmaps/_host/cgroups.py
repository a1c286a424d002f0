"""cgroup_memory(): what the kernel charges the cgroups of groups of processes for."""

from __future__ import annotations

from fastsmaps._arguments import Procfs, check_path, check_type
from fastsmaps._model.cgroup_memory import CgroupMemory
from fastsmaps._model.grouping import By, Keys, part_of_cgroup
from fastsmaps._model.processes import Scan
from fastsmaps._public import public
from fastsmaps._source.cgroupfs import Cgroupfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: The words whose groups have a cgroup.
WORDS = ("cgroup", "container", "pod", "slice", "unit")


@public
def cgroup_memory(
    scan: Scan, by: By = "container", *, cgroupfs: Procfs | None = None
) -> dict[str, CgroupMemory]:
    """Return what the cgroup of each group is charged for, by the keys of ``scan.group_by(by)``.

    `by` is "container", "pod", "unit", "slice" or "cgroup"; the scan must have read cgroups
    (``cgroup=True``). The cgroup of a container is the one that its runtime made, whatever it made
    below. A group is left out if it is not in one cgroup of its own, or that has no memory
    controller, as that of processes in no container.

    `cgroupfs` is another place for /sys/fs/cgroup, such as a host's in a container.

    Raises ValueError for another `by`, TypeError for wrong arguments, NotSupported if no hierarchy
    with the memory controller is mounted.
    """
    check_type("scan", scan, "a Scan", Scan)
    keys = Keys(by)
    if str(keys) not in WORDS:
        raise ValueError(f"by must be one of {', '.join(WORDS)}, got {by!r}")
    source = Cgroupfs(None if cgroupfs is None else check_path("cgroupfs", cgroupfs))
    cgroups = own_cgroups(scan, keys)
    found = ((key, source.memory(path)) for key, path in cgroups.items())
    return {key: memory for key, memory in found if memory is not None}


def own_cgroups(scan: Scan, keys: Keys) -> dict[str, str]:
    """Return the path of each group's cgroup, the nearest to the root that has the group's name."""
    part_of = str if str(keys) == "cgroup" else part_of_cgroup(str(keys))
    paths: dict[str, set[str]] = {}
    known: dict[tuple[str, str], str] = {}
    for row in scan:
        key = keys(row)
        if isinstance(key, str) and key and row.cgroup is not None:
            place = row.cgroup, key
            if place not in known:
                known[place] = next(filter(lambda p: part_of(p) == key, _above(row.cgroup)), "")
            paths.setdefault(key, set()).add(known[place])
    return {key: found.pop() for key, found in paths.items() if len(found) == 1 and "" not in found}


def of_several_groups(scan: Scan, by: By, charged: Mapping[str, CgroupMemory]) -> set[str]:
    """Return the keys whose cgroups have processes of other groups below them.

    A cgroup is charged for those below it, too: for user.slice with user-1000.slice.
    """
    keys = Keys(by)
    owners = {memory.path: key for key, memory in charged.items()}
    places = {(row.cgroup, keys(row)) for row in scan if row.cgroup is not None}
    return {
        owners[path]
        for cgroup, key in places
        for path in ("/", *_above(cgroup))
        if path in owners and owners[path] != key
    }


def _above(cgroup: str) -> Iterator[str]:
    """Yield the paths of the cgroups around a cgroup but the root, and its own last."""
    end = 0
    while (end := cgroup.find("/", end + 1)) > 0:
        yield cgroup[:end]
    yield cgroup
