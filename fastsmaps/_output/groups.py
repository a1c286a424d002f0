"""Groups of processes: a bounded number of them, with escaped names."""

from __future__ import annotations

import itertools

from fastsmaps._model.grouping import Keys, words_of
from fastsmaps._model.process_totals import managed_cgroups
from fastsmaps._output.display import escaped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from fastsmaps._model.grouping import By
    from fastsmaps._model.process_totals import ProcessTotals
    from fastsmaps._model.processes import Scan
    from fastsmaps._model.totals import Totals

    Key = tuple[str, ...]

#: The name of the group that holds all processes beyond the limit.
OTHER = "other"
#: The sums of a group, in bytes, and the fields that each adds up.
SUMMED = {
    **{name: (name,) for name in ("pss", "uss", "rss", "swap")},
    "hugetlb": ("shared_hugetlb", "private_hugetlb"),
}
#: The parts of Pss; kernels before 5.3 do not print them.
PARTS = ("anon", "file", "shmem")

# A group among the largest is replaced only by one that is larger by this factor: otherwise two of
# nearly the same size would change places at every sweep.
_INCUMBENT = 1.25

# The labels of the words that have others.
_LABELS = {"container": ("container_id", "uid"), "pod": ("uid",)}
# How the kubelet, and so kube-state-metrics, spells a runtime in a container's id.
_SCHEMES = {"crio": "cri-o"}
# The number of cgroups whose labels are kept.
_MAX_PATHS = 1 << 13

# Outcomes of processes without memory; all others belong to a group, read or not.
_WITHOUT_MEMORY = ("kernel_thread", "zombie", "gone")


class ProcessGroup:
    """The sums over some processes.

    ``processes`` counts them, ``unread`` those that are missing in the sums. ``sums`` are in
    bytes, in the order of SUMMED; a sum is None if nothing was read or a process lacks a value.
    ``parts`` are those of Pss, in the order of PARTS. ``mappings`` is the largest number of
    mappings of a process, None if unknown. ``estimated`` is the part of Pss that was scaled since
    it was read; ``age`` is the age of the oldest value, in seconds.
    """

    __slots__ = ("age", "estimated", "mappings", "parts", "processes", "rows", "sums", "unread")

    def __init__(self, rows: Sequence[ProcessTotals]) -> None:
        self.rows = rows
        read = [row for row in rows if row.totals is not None]
        self.processes = len(rows)
        self.unread = len(rows) - len(read)
        totals = [row.totals for row in read]
        self.sums = [_sum(totals, names) for names in SUMMED.values()]
        self.parts = [_sum(totals, (f"pss_{part}",)) for part in PARTS]
        # A process that is too large to be read still has a number of mappings.
        counts = [row.mappings for row in rows if row.mappings is not None]
        self.mappings = max(counts, default=None)
        self.age = max((row.age for row in read if row.age is not None), default=0.0)
        self.estimated = sum(row.pss or 0 for row in read if row.estimated)

    @property
    def pss(self) -> int:
        """The key by which groups are sorted; an unknown Pss counts as the smallest."""
        return self.sums[0] or 0


def _sum(totals: Iterable[Totals | None], names: Iterable[str]) -> int | None:
    values = [getattr(record, name) for name in names for record in totals]
    return sum(values) if values and None not in values else None


class Labels:
    """The labels of groups of processes by these words, and a process's values of them.

    Most words are labels. "pid" comes with "comm". Containers and pods have the labels of
    kube-state-metrics, so that its series add the names that a cgroup's path does not have:
    "container" is ``container_id`` (``containerd://`` and 64 digits) and the pod's ``uid``, "pod"
    is ``uid``. ``keys`` are those of Scan.group_by(), ``reads`` the keyword arguments that a
    Sampler needs for them.
    """

    __slots__ = ("_paths", "keys", "names", "reads")

    def __init__(self, by: By) -> None:
        words = (("pid", "comm") if word == "pid" else (word,) for word in words_of(by))
        self.keys = Keys(itertools.chain.from_iterable(words))
        self.reads = self.keys.reads
        names = (_LABELS.get(name, (name,)) for name in self.keys.names)
        self.names = tuple(dict.fromkeys(itertools.chain.from_iterable(names)))
        # Most processes share a few cgroups.
        self._paths: dict[tuple[str | None, ...], dict[str, str]] = {}

    def values(self, row: ProcessTotals) -> Key:
        """Return the values of ``names``."""
        found: dict[str, str] = {}
        for name, value in zip(self.keys.names, self.keys.values(row), strict=True):
            if name in _LABELS:
                found |= self._of_container(row)
            else:
                found[name] = label_value(value)
        return tuple([found[name] for name in self.names])

    def _of_container(self, row: ProcessTotals) -> dict[str, str]:
        paths = managed_cgroups(row)
        if paths not in self._paths:
            if len(self._paths) >= _MAX_PATHS:
                self._paths.clear()
            self._paths[paths] = container_labels(*paths)
        return self._paths[paths]


def container_labels(*cgroups: str | None) -> dict[str, str]:
    """Return container_id and uid for the first of these cgroups that is in a container or pod."""
    from fastsmaps._model.containers import container_of, pod_of

    container = next(filter(None, map(container_of, cgroups)), None)
    uid = next((uid for uid, _ in map(pod_of, cgroups) if uid), "")
    if container is None:
        return {"container_id": "", "uid": label_value(uid)}
    scheme = _SCHEMES.get(container.runtime, container.runtime)
    return {"container_id": label_value(f"{scheme}://{container.id}"), "uid": label_value(uid)}


def grouped(scan: Scan, labels: Labels) -> dict[Key, ProcessGroup]:
    """Group all processes that have memory by the values of these labels."""
    members: dict[Key, list[ProcessTotals]] = {}
    for row in scan:
        # A process that was not reached yet has no name; coverage counts it. Some captures have
        # totals but no names.
        named = row.comm is not None or row.totals is not None
        shared = row.shares_memory_with is not None  # counted in that process
        if row.outcome not in _WITHOUT_MEMORY and named and not shared:
            members.setdefault(labels.values(row), []).append(row)
    return {name: ProcessGroup(rows) for name, rows in members.items()}


def bounded(
    groups: dict[Key, ProcessGroup], limit: int, before: Collection[Key]
) -> tuple[dict[Key, ProcessGroup], ProcessGroup | None, int]:
    """Return the `limit` largest groups by Pss, the sum of the others or None, and their number.

    Groups that were among the largest `before` stay there unless others outgrow them clearly.
    """

    def size(name: Key) -> tuple[float, Key]:
        return -groups[name].pss * (_INCUMBENT if name in before else 1.0), name

    order = sorted(groups, key=size)
    rest = [row for name in order[limit:] for row in groups[name].rows]
    largest = {name: groups[name] for name in order[:limit]}
    return largest, ProcessGroup(rest) if rest else None, len(order) - len(largest)


# ---- names


def label_value(value: object) -> str:
    r"""Return a name as the value of a label: escaped, so it is valid UTF-8.

    An unknown name is "": Prometheus treats an empty label like a missing one. A process that is
    really called "other" gets ``\x6fther``, so that it is not mistaken for the rest.
    """
    if value is None:
        return ""
    text = str(value)
    return r"\x6fther" if text == OTHER else escaped(text)
