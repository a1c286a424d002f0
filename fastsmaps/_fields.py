"""The kernel's field labels: types of values, and names in Python.

Source: fs/proc/task_mmu.c and Documentation/filesystems/proc.rst, from 2.6.14 to 7.2;
docs/fields.md describes what each field counts. A label need not be here for its field to be read:
the fields of newer kernels become columns too.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: The value in a column where the kernel printed no such field (2**64 - 1).
ABSENT = 2**64 - 1

#: Sizes that can be summed over mappings, in the order of today's kernels; then those that only
#: older kernels have. The kernel prints kB; the library returns bytes.
SIZES = (
    "Size", "Rss", "Pss", "Pss_Dirty", "Pss_Anon", "Pss_File", "Pss_Shmem", "Shared_Clean",
    "Shared_Dirty", "Private_Clean", "Private_Dirty", "Referenced", "Anonymous", "KSM",
    "LazyFree", "AnonHugePages", "ShmemPmdMapped", "FilePmdMapped", "Shared_Hugetlb",
    "Private_Hugetlb", "Swap", "SwapPss", "Locked", "Nonlinear",
)  # fmt: skip

#: Sizes that describe a mapping but make no sense as a sum.
PAGE_SIZES = ("KernelPageSize", "MMUPageSize")

#: Numbers without unit: a flag and a key.
NUMBERS = ("THPeligible", "ProtectionKey")

#: The two labels with a text as value: the flags, and Android's name of a mapping.
FLAGS = "VmFlags"
NAME = "Name"

#: The most different labels in one text: a table grows with the product of records and labels.
#: Kernels have had 29 in all, vendors 6 more.
MAX_LABELS = 256

# Labels that the rule below splits wrongly.
_EXCEPTIONS = {"THPeligible": "thp_eligible"}


def python_name(label: str) -> str:
    """Convert a label to snake case: ``Private_Clean`` to ``private_clean``.

    A word begins at a capital after a small letter or digit (``SwapPss`` -> ``swap_pss``), and at
    the last capital of a run before a small letter (``MMUPageSize`` -> ``mmu_page_size``). A
    character that no name may have becomes an underscore.
    """
    if label in _EXCEPTIONS:
        return _EXCEPTIONS[label]
    name = ""
    for i, letter in enumerate(label):
        if letter.isupper() and i > 0:
            before, after = label[i - 1], label[i + 1 : i + 2]
            if before.islower() or before.isdigit() or (before.isupper() and after.islower()):
                name += "_"
        name += letter.lower() if letter.isalnum() else "_"
    return name


#: Python's name of every known number field -> the kernel's.
LABELS = {python_name(label): label for label in (*SIZES, *PAGE_SIZES, *NUMBERS)}

#: The label of every known number field -> its name. ``size`` is end - start in every view.
NAMES = {label: name for name, label in LABELS.items()} | {"Size": "size_printed"}

#: Sums of two fields; None unless the kernel printed both.
SUMS = {"uss": ("Private_Clean", "Private_Dirty"), "rss_swap": ("Rss", "Swap")}

#: Names with another meaning in one of the views: attributes and methods of rows, columns, keys of
#: JSON and CSV. A label of such a name keeps the kernel's spelling in every view.
RESERVED = frozenset(
    (
        *LABELS, *SUMS, "size_printed",
        # A mapping's.
        "start", "end", "perms", "offset", "dev", "st_dev", "inode", "path", "raw_path",
        "filename", "deleted", "kind", "label", "use", "range", "vm_flags", "extra", "build_id",
        # A process's.
        "pid", "ppid", "comm", "user", "uid", "start_time", "cgroup", "cmdline", "exe", "mappings",
        "outcome", "error", "age", "estimated", "shares_memory_with",
        "raw_cmdline", "systemd_cgroup", "unit", "slice",
        "container", "pod", "command", "depth", "threads",
        # Those of totals, changes, samples and groups.
        "source", "totals", "key", "old", "new", "change", "files", "old_files", "new_files",
        "name", "seconds", "rate", "shared_with_fewer",
        "processes", "unread", "elapsed", "time", "peak_rss", "count",
        # Methods.
        "as_dict", "by_label", "get", "items", "keys", "replace", "values",
        # The origin of a saved table.
        "host", "procfs", "taken_at",
    )
)  # fmt: skip


class Fields:
    """The fields of an object or a table: each label's one name, each name's label.

    A known label has the name in NAMES. Any other has its python_name(), unless that is
    RESERVED or an earlier label of the same object has it; then its name is the kernel's
    spelling. That begins with a capital, as no other name does, so it always finds its label.
    """

    __slots__ = ("_labels", "names")

    def __init__(self, labels: Iterable[str] = (), known: Iterable[str] = NAMES) -> None:
        """Name `labels`; those `known` are fields too, whether or not `labels` has them."""
        #: The name of each of `labels`, in their order.
        self.names: dict[str, str] = {}
        # The label of each name, also of the kernel's spelling.
        self._labels: dict[str, str] = {}
        for label in known:
            self._labels[NAMES[label]] = self._labels[label] = label
        for label in labels:
            name = NAMES.get(label)
            if name is None:
                name = python_name(label)
                if name in RESERVED or name.startswith("tree_") or name in self._labels:
                    name = label
            self.names[label] = name
            self._labels[name] = self._labels[label] = label

    def find(self, name: str) -> str | None:
        """Return the label of a name in Python's or the kernel's spelling, or None."""
        return self._labels.get(name)

    def label(self, name: str, others: Iterable[str] = ()) -> str:
        """Return the label of a name, as find() does.

        Raises KeyError for an unknown name; it lists the valid names, `others` and the fields'.
        """
        label = self._labels.get(name)
        if label is None:
            names = {**NAMES, **self.names}
            valid = dict.fromkeys((*others, *(names[known] for known in self._labels.values())))
            raise KeyError(f"no field {name!r}; there are: {', '.join(valid)}")
        return label


#: What the kernel sums over mappings: the fields of totals.
SUMMED = Fields(known=SIZES)
