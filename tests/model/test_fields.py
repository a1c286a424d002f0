"""Names: from the kernel's spelling to Python's, by one rule for unknown labels too."""

from __future__ import annotations

import keyword

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastsmaps
from fastsmaps._fields import (
    ABSENT,
    LABELS,
    NUMBERS,
    PAGE_SIZES,
    RESERVED,
    SIZES,
    Fields,
    python_name,
)

pytestmark = pytest.mark.core

# Written out, as code uses them; the rule's results for made-up labels are below.
KNOWN = {
    "Size": "size",
    "Rss": "rss",
    "Pss": "pss",
    "Pss_Dirty": "pss_dirty",
    "Pss_Anon": "pss_anon",
    "Pss_File": "pss_file",
    "Pss_Shmem": "pss_shmem",
    "Shared_Clean": "shared_clean",
    "Shared_Dirty": "shared_dirty",
    "Private_Clean": "private_clean",
    "Private_Dirty": "private_dirty",
    "Referenced": "referenced",
    "Anonymous": "anonymous",
    "KSM": "ksm",
    "LazyFree": "lazy_free",
    "AnonHugePages": "anon_huge_pages",
    "ShmemPmdMapped": "shmem_pmd_mapped",
    "FilePmdMapped": "file_pmd_mapped",
    "Shared_Hugetlb": "shared_hugetlb",
    "Private_Hugetlb": "private_hugetlb",
    "Swap": "swap",
    "SwapPss": "swap_pss",
    "Locked": "locked",
    "Nonlinear": "nonlinear",
    "KernelPageSize": "kernel_page_size",
    "MMUPageSize": "mmu_page_size",
    "THPeligible": "thp_eligible",
    "ProtectionKey": "protection_key",
}


def test_every_known_label_has_its_name() -> None:
    assert {label: python_name(label) for label in KNOWN} == KNOWN
    assert set(KNOWN) == {*SIZES, *PAGE_SIZES, *NUMBERS}
    assert {name: label for label, name in KNOWN.items()} == LABELS


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Writeback", "writeback"),
        ("WritebackHuge", "writeback_huge"),
        ("SwapShared", "swap_shared"),
        ("VmFlags", "vm_flags"),
        ("A", "a"),
        ("AB", "ab"),
        ("ABc", "a_bc"),
        ("AbC", "ab_c"),
        ("THPSize", "thp_size"),
        ("SizeKB", "size_kb"),
        ("Swap2Disk", "swap2_disk"),
        ("X64", "x64"),
        ("New-Field.2", "new_field_2"),
        ("Pss(anon)", "pss_anon_"),
        ("KSM_Zero", "ksm_zero"),
        ("__X", "__x"),
    ],
)
def test_labels_become_snake_case(label: str, name: str) -> None:
    assert python_name(label) == name


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":")))
def test_any_label_gives_an_identifier(rest: str) -> None:
    name = python_name("A" + rest)
    assert name.isidentifier()
    assert name == name.lower()


def test_no_known_name_is_a_keyword() -> None:
    assert not [name for name in LABELS if keyword.iskeyword(name) or keyword.issoftkeyword(name)]


def test_absent_is_the_largest_64_bit_number() -> None:
    assert fastsmaps.ABSENT == ABSENT == 2**64 - 1


@pytest.mark.parametrize(
    "cls",
    [
        fastsmaps.Change, fastsmaps.Group, fastsmaps.Mapping, fastsmaps.ProcessTotals,
        fastsmaps.Sample, fastsmaps.Totals,
    ],
)  # fmt: skip
def test_every_attribute_is_reserved(cls: type) -> None:
    assert {name for name in dir(cls) if not name.startswith("_")} <= RESERVED


def test_an_unknown_name_lists_the_fields() -> None:
    fields = Fields(("Rss", "NewField", "New_Field"), known=("Pss",))
    assert fields.names == {"Rss": "rss", "NewField": "new_field", "New_Field": "New_Field"}
    for name, label in (("pss", "Pss"), ("Pss", "Pss"), ("new_field", "NewField")):
        assert fields.find(name) == fields.label(name) == label
    assert fields.find("swap") is None
    with pytest.raises(KeyError, match="no field 'swap'; there are: uss, pss, rss, new_field, New"):
        fields.label("swap", ("uss",))


def test_a_misspelt_field_is_refused() -> None:
    """By mypy too, which reports an unused ignore (warn_unused_ignores)."""
    (row,) = fastsmaps.parse(b"00400000-00401000 r--p 00000000 00:00 0\nPss: 4 kB\n")
    totals = fastsmaps.Totals({"Pss": 4096}, None, "smaps")
    with pytest.raises(AttributeError, match="no field 'psss'"):
        _ = row.psss  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="no field 'psss'"):
        _ = totals.psss  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="no field 'psss'"):
        _ = (totals - totals).psss  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="psss"):
        _ = fastsmaps.ProcessTotals(1, "gone").psss  # type: ignore[attr-defined]
