"""Totals and Change: sums, with None for an unknown value."""

from __future__ import annotations

import copy
import pickle
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastsmaps
from fastsmaps import Change, Totals
from fastsmaps._fields import LABELS, SIZES, SUMS, python_name
from fastsmaps._model.totals import SUM_NAMES as NAMES
from support.smaps_texts import header, kb, record

pytestmark = pytest.mark.core


def totals_of(**sizes: int) -> Totals:
    """Return the totals of one mapping with these sizes in kB."""
    return fastsmaps.parse(fields(sizes)).totals()


def fields(sizes: dict[str, int]) -> bytes:
    """Return the text of one mapping of one page."""
    return header() + b"".join(kb(label, size) for label, size in sizes.items())


ROLLUP = header(0x10000, 0x20000, b"[rollup]", perms=b"---p") + kb("Rss", 8) + kb("Pss", 3)


def test_every_known_size_is_summed(backend: ModuleType) -> None:
    sizes = {label: i for i, label in enumerate(SIZES, 1)}
    totals = fastsmaps.parse(fields(sizes) * 3).totals()
    for label, size in sizes.items():
        assert totals[label] == 3 * size * 1024
        if label != "Size":
            assert (
                getattr(totals, python_name(label)) == totals[python_name(label)] == totals[label]
            )
    assert (totals.size, totals["size"]) == (3 * 4096, 3 * 4096)
    assert totals.as_dict() == {
        "size": totals.size,
        "uss": totals.uss,
        "rss_swap": totals.rss_swap,
        **{python_name(label): totals[label] for label in SIZES if label != "Size"},
    }


def test_an_absent_field_is_none_not_0(backend: ModuleType) -> None:
    totals = totals_of(Rss=0)
    assert totals.rss == 0
    for name in (*NAMES, *SUMS):
        if name != "rss":
            assert getattr(totals, name) is None
            assert totals[name] is None
            assert totals.as_dict()[name] is None
    assert set(totals.as_dict()) == {"size", *SUMS, *NAMES}


def test_page_sizes_flags_and_keys_are_not_summed(backend: ModuleType) -> None:
    text = record(KernelPageSize=4, MMUPageSize=4, Rss=4)
    text += b"THPeligible:    1\nProtectionKey:  0\nNewCount: 7\nText: a b\nVmFlags: rd \n"
    totals = fastsmaps.parse(text).totals()
    for label in ("KernelPageSize", "MMUPageSize", "THPeligible", "ProtectionKey", "NewCount"):
        for name in (label, python_name(label)):
            with pytest.raises(KeyError):
                totals[name]
            with pytest.raises(AttributeError):
                getattr(totals, name)
        assert python_name(label) not in totals.as_dict()
    for name in ("Text", "VmFlags", "", "start", "source"):
        with pytest.raises(KeyError):
            totals[name]


def test_a_record_without_the_field_is_left_out_of_its_sum(backend: ModuleType) -> None:
    totals = fastsmaps.parse(record(Rss=4, Swap=8) + record(Rss=4) + record()).totals()
    assert (totals.rss, totals.swap, totals.size) == (8192, 8192, 3 * 4096)


def test_unknown_sizes_are_summed_and_named(backend: ModuleType) -> None:
    totals = totals_of(NewField=3, Source=2, Uss=1)
    assert totals["NewField"] == totals["new_field"] == getattr(totals, "new_field") == 3072  # noqa: B009 - mypy does not know it
    # If the name is taken, the kernel's spelling finds it.
    assert (totals["Source"], totals.source) == (2048, "smaps")
    assert (totals["Uss"], totals["uss"], totals.uss) == (1024, None, None)
    values = totals.as_dict()
    assert (values["new_field"], values["Source"], values["Uss"]) == (3072, 2048, 1024)
    assert values["uss"] is None


def test_uss_needs_both_private_fields(backend: ModuleType) -> None:
    assert totals_of(Private_Clean=1, Private_Dirty=2, Private_Hugetlb=2048).uss == 3072
    assert totals_of(Private_Clean=1).uss is None
    assert totals_of(Private_Dirty=1, Private_Hugetlb=1).uss is None
    assert totals_of(Private_Clean=0, Private_Dirty=0).uss == 0


def test_source_names_the_file(backend: ModuleType) -> None:
    rollup = fastsmaps.parse(ROLLUP).totals()
    assert (rollup.source, rollup.size, rollup.rss, rollup.pss) == (
        "smaps_rollup", None, 8192, 3072,
    )  # fmt: skip
    assert totals_of(Rss=8).source == "smaps"
    assert fastsmaps.parse(header()).totals().source == "maps"
    assert (rollup + rollup).source == "smaps_rollup"
    assert (rollup + totals_of(Rss=8)).source == "mixed"
    assert (rollup + totals_of(Rss=8)).size is None
    assert fastsmaps.parse(ROLLUP + ROLLUP).totals() == rollup + rollup
    assert fastsmaps.parse(ROLLUP + ROLLUP).totals().source == "smaps_rollup"
    # A mapping with that name alone is not a rollup.
    assert fastsmaps.parse(header(name=b"[rollup]")).totals().source == "maps"


def test_a_sum_lacks_what_either_side_lacks(backend: ModuleType) -> None:
    a, b = totals_of(Rss=4, Pss=2), totals_of(Rss=8, Swap=1)
    both = a + b
    assert (both.rss, both.pss, both.swap, both.size) == (12288, None, None, 8192)
    assert a + b == b + a
    assert sum([a, a, a]) == a + a + a
    assert sum([a], b) == b + a
    assert sum(iter([a])) is a
    assert (a.rss, b.rss) == (4096, 8192)
    for other in (1, None, "x", 0.5):
        with pytest.raises(TypeError):
            a + other  # type: ignore[operator]
        with pytest.raises(TypeError):
            other + a  # type: ignore[operator]
        with pytest.raises(TypeError):
            a - other  # type: ignore[operator]


def test_a_difference_is_a_signed_change(backend: ModuleType) -> None:
    old = totals_of(Rss=8, Pss=2, Swap=1, Private_Clean=3, Private_Dirty=1)
    new = totals_of(Rss=4, Pss=5, Locked=1, Private_Clean=0, Private_Dirty=0)
    change = new - old
    assert isinstance(change, Change)
    assert (change.rss, change.pss, change.uss, change.size) == (-4096, 3072, -4096, 0)
    assert (change.swap, change.locked) == (None, None)
    assert (change["Rss"], change["pss"], change["Swap"]) == (-4096, 3072, None)
    assert (change.old, change.new, change.key) == (old, new, None)
    assert change.as_dict()["rss"] == -4096
    assert change.as_dict()["locked"] is None
    assert (new - fastsmaps.parse(ROLLUP).totals()).size is None
    assert Change(old, new, "/lib/a").key == "/lib/a"
    assert repr(change) == "<Change pss=+3 KiB>"


def test_equality_compares_the_values(backend: ModuleType) -> None:
    a = totals_of(Rss=4, Pss=2)
    assert a == totals_of(Pss=2, Rss=4)
    assert hash(a) == hash(totals_of(Pss=2, Rss=4))
    assert a != totals_of(Rss=4)
    assert a != totals_of(Rss=4, Pss=2, Swap=0)
    assert a != fastsmaps.parse(record(0x10000, 0x20000, Rss=4, Pss=2)).totals()
    assert a != 6144
    assert len({a, totals_of(Pss=2, Rss=4), totals_of(Rss=4)}) == 2
    changes = {a - a, totals_of(Pss=2, Rss=4) - a, a - totals_of(Rss=4)}
    assert len(changes) == 2


def test_totals_pickle_and_are_immutable(backend: ModuleType) -> None:
    totals = totals_of(Rss=4, NewField=2)
    for value in (totals, totals - totals_of(Rss=8), Change(totals, totals, ("a", 1))):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            again = pickle.loads(pickle.dumps(value, protocol))
            assert type(again) is type(value)
            assert (again, hash(again), again.as_dict()) == (value, hash(value), value.as_dict())
        assert copy.copy(value) == copy.deepcopy(value) == value
        for name in ("rss", "size", "uss", "source", "new_field", "_by_label"):
            with pytest.raises(AttributeError, match="immutable"):
                setattr(value, name, 1)
            with pytest.raises(AttributeError, match="immutable"):
                delattr(value, name)
    assert pickle.loads(pickle.dumps(totals)).source == "smaps"


def test_an_unknown_attribute_is_an_attribute_error(backend: ModuleType) -> None:
    for name in ("nonsense", "Rss", "__wrapped__", "_private", "start"):
        with pytest.raises(AttributeError, match=f"no field '{name}'"):
            getattr(totals_of(Rss=4), name)


FIGURES = st.dictionaries(st.sampled_from(["rss", "pss", "swap"]), st.integers(0, 2**40)).map(
    lambda sizes: fastsmaps.parse(
        fields({LABELS[name]: size for name, size in sizes.items()})
    ).totals()
)


@given(a=FIGURES, b=FIGURES, c=FIGURES)
def test_addition_is_associative_and_subtraction_its_inverse(
    a: Totals, b: Totals, c: Totals
) -> None:
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    for name in ("rss", "pss", "swap", "size"):
        first, second = getattr(a, name), getattr(b, name)
        known = first is not None and second is not None
        assert getattr(a + b, name) == (first + second if known else None)
        assert getattr(a - b, name) == (first - second if known else None)


def test_sums_beyond_64_bits_are_exact(backend: ModuleType) -> None:
    largest = 2**54 - 1
    text = b"".join(
        header(0, 2**64 - 1) + kb("Rss", largest) + kb("Pss", 2**32 - 2 + i) + kb("Swap", 2**32 - 3)
        for i in range(40)
    )
    table = fastsmaps.parse(text)
    totals = table.totals()
    assert totals.size == 40 * (2**64 - 1)
    assert totals.rss == 40 * largest * 1024
    assert totals.pss == sum(2**32 - 2 + i for i in range(40)) * 1024
    assert totals.swap == 40 * (2**32 - 3) * 1024
    (group,) = table[:20].group_by("kind").values()
    assert group.totals.rss == 20 * largest * 1024
    assert (totals - group.totals).rss == 20 * largest * 1024
    assert totals + totals == sum([totals, totals])


def test_totals_follow_the_mapping_protocol(backend: ModuleType) -> None:
    totals = totals_of(Rss=4, Pss=2, NewField=3)
    for sums in (totals, totals - totals):
        values = sums.as_dict()
        assert dict(sums) == {**sums} == dict(sums.items()) == values
        assert list(sums) == list(sums.keys()) == list(values)
        assert list(sums.values()) == list(values.values())
        assert len(sums) == len(values)
        for name in ("pss", "Pss", "swap", "uss", "size", "new_field", "NewField"):
            assert name in sums
            assert sums.get(name) == sums.get(name, 7) == sums[name]
        for unknown in ("psss", "source", "", None):
            assert unknown not in sums
        assert sums.get("psss") is None
        assert sums.get("psss", 7) == 7
        with pytest.raises(KeyError, match=r"no field 'psss'; there are: size, uss, .* new_field"):
            sums["psss"]
    assert totals.by_label == {"Rss": 4096, "Pss": 2048, "NewField": 3072}
    totals.by_label["Rss"] = 0
    assert totals.rss == 4096


def test_fields_in_reverse_order() -> None:
    totals = fastsmaps.totals()
    assert list(reversed(totals)) == list(totals)[::-1]
