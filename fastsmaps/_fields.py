"""The kernel's field labels: what their values are, and their names in Python.

Source: fs/proc/task_mmu.c and Documentation/filesystems/proc.rst, from 2.6.14 to 7.2;
docs/fields.md tells what each one counts. Everything here is about names: no label is
needed for a field to be read, a field that nobody has seen yet becomes a column too.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

#: What a column holds where the kernel printed no such field (2**64 - 1).
ABSENT = 2**64 - 1

#: Sizes that can be summed over mappings, in the order of today's kernels; then those that
#: are gone. They are printed in kB and handed out in bytes.
SIZES = (
    "Size",
    "Rss",
    "Pss",
    "Pss_Dirty",
    "Pss_Anon",
    "Pss_File",
    "Pss_Shmem",
    "Shared_Clean",
    "Shared_Dirty",
    "Private_Clean",
    "Private_Dirty",
    "Referenced",
    "Anonymous",
    "KSM",
    "LazyFree",
    "AnonHugePages",
    "ShmemPmdMapped",
    "FilePmdMapped",
    "Shared_Hugetlb",
    "Private_Hugetlb",
    "Swap",
    "SwapPss",
    "Locked",
    "Nonlinear",
)

#: Sizes that say something of a mapping but make no sense as a sum.
PAGE_SIZES = ("KernelPageSize", "MMUPageSize")

#: Bare numbers: a flag and a key.
NUMBERS = ("THPeligible", "ProtectionKey")

#: The two labels whose value is text: the flags, and Android's name of a mapping.
FLAGS = "VmFlags"
NAME = "Name"

#: More different labels than this in one text is no smaps: a table would grow with the
#: product of records and labels. Kernels have had 29 in all, vendors 6 more.
MAX_LABELS = 256

# Where the rule below reads a word wrongly.
_EXCEPTIONS = {"THPeligible": "thp_eligible"}


def python_name(label: str) -> str:
    """The label in snake case: ``Private_Clean`` -> ``private_clean``, ``SwapPss`` -> ``swap_pss``.

    A word begins at a capital after a small letter or digit, and at the last capital of a run
    before a small letter (``MMUPageSize`` -> ``mmu_page_size``); what cannot stand in a name
    becomes an underscore.
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

# Size has another name: ``size`` is end - start.
_KNOWN = {label: name for name, label in LABELS.items()} | {"Size": "size_printed"}


def names_of(labels: Iterable[str], cls: type, taken: Collection[str] = ()) -> dict[str, str]:
    """Return the name of each label, by label; no two are the same.

    A known label has its own. A new one has its python_name(), unless a known field, an attribute
    of `cls` or an earlier label is called so, or the name is `taken`; then it keeps the kernel's
    spelling. That begins with a capital, as no other name does.
    """
    names: dict[str, str] = {}
    used: set[str] = set()
    for label in labels:
        name = _KNOWN.get(label)
        if name is None:
            name = python_name(label)
            if name in used or name in LABELS or name in taken or hasattr(cls, name):
                name = label
            used.add(name)
        names[label] = name
    return names
