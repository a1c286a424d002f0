"""The account of a host's memory: rows that add up to MemTotal, whatever meminfo says."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastsmaps
from fastsmaps._model.account import ROWS, HostAccount, memory_parts
from fastsmaps._model.process_totals import ProcessTotals
from fastsmaps._model.processes import Cost, Scan
from fastsmaps._model.totals import Totals

pytestmark = pytest.mark.core

# Whole MiB, so that a sum shows what it is made of.
VALUES = {
    "MemTotal": 10_000, "MemFree": 4_000, "MemAvailable": 7_000, "Buffers": 100, "Cached": 2_000,
    "SwapCached": 30, "Active": 1_500, "Inactive": 1_610, "Unevictable": 0, "AnonPages": 1_000,
    "Mapped": 400, "Shmem": 300, "KReclaimable": 220, "Slab": 500, "SReclaimable": 200,
    "SUnreclaim": 300, "KernelStack": 40, "PageTables": 50, "SecPageTables": 5, "VmallocUsed": 90,
    "VmallocChunk": 0, "Percpu": 60, "Zswap": 70, "HardwareCorrupted": 1, "GPUActive": 2,
    "GPUReclaim": 3, "HugePages_Total": 100, "HugePages_Free": 60, "Hugepagesize": 2,
    "Hugetlb": 1_224,
}  # fmt: skip
LABELS = (*VALUES, "Quicklists", "Bounce", "WritebackTmp", "Balloon")


def scan(*pss: tuple[int, ...]) -> Scan:
    """Return a scan of processes with Pss, and if there are more values, Pss_Anon, _File, _Shmem.

    A process without values was denied.
    """
    labels = ("Pss", "Pss_Anon", "Pss_File", "Pss_Shmem")
    rows = [
        ProcessTotals(
            pid,
            "read" if values else "denied",
            totals=Totals(dict(zip(labels, values, strict=False)), None, "s") if values else None,
        )
        for pid, values in enumerate(pss, 1)
    ]
    return Scan(rows, cost=Cost(0.0, 0.0), taken_at=None, procfs="/nowhere")


def check(account: HostAccount) -> None:
    assert sum(row.size for row in account.rows) == account.total
    assert all(row.size >= 0 for row in account.rows)
    assert account.excess >= 0
    assert [row.name for row in account.rows] == [name for name in ROWS if name in names(account)]
    assert all(row.about == ROWS[row.name] for row in account.rows)


def names(account: HostAccount) -> set[str]:
    return {name for name, size in account.as_dict().items() if size is not None}


def test_each_value_is_in_one_row() -> None:
    account = HostAccount(scan((700, 500, 150, 50), (90, 60, 30, 0), ()), VALUES)
    check(account)
    assert {row.name: row.size for row in account.rows} == {
        "processes_anon": 560,
        "processes_file": 180,
        "processes_shmem": 50,
        "unread": 1_400 - 790,
        "shmem": 250,
        # All of Mapped that the Pss does not explain is taken from the page cache.
        "page_cache": 2_000 - 300 - 350,
        "buffers": 100,
        "swap_cache": 10,  # 20 of SwapCached are in AnonPages
        "slab_reclaimable": 200,
        "slab_unreclaimable": 300,
        "kernel_reclaimable": 20,
        "page_tables": 55,
        "kernel_stacks": 40,
        "vmalloc": 50,  # kernel stacks are vmalloc()ed
        "percpu": 60,
        "gpu": 5,
        "hugetlb_used": 80,
        "hugetlb_free": 120,
        "hugetlb": 1_024,
        "zswap": 70,
        "corrupted": 1,
        "unexplained": 865,
        "free": 4_000,
    }
    assert (account.total, account.pss, account.mapped, account.excess) == (10_000, 790, 1_400, 0)
    assert account.explained == 790 / 1_400
    assert account["buffers"] == 100
    assert (account.as_dict()["zram"], account.coverage["denied"]) == (None, 1)
    with pytest.raises(KeyError, match="zram"):
        account["zram"]


def test_sizes_from_elsewhere() -> None:
    more = {"hugetlb_used": 200, "hugetlb_free": 1_024, "zram": 33, "free_per_cpu": 44}
    account = HostAccount(scan(), VALUES, more)
    check(account)
    assert {name: account[name] for name in more} == more
    assert "hugetlb" not in names(account)
    assert account["unexplained"] == 865 - 33 - 44


def test_no_process_was_read() -> None:
    account = HostAccount(scan((), ()), VALUES)
    check(account)
    assert (account.pss, account.explained, account["unread"]) == (None, None, 1_400)
    assert account.as_dict()["processes_anon"] is None


def test_totals_without_kinds_of_pages() -> None:
    """Before Linux 5.4, and in sums of smaps, Pss is not divided."""
    account = HostAccount(scan((700,), (100,)), VALUES)
    check(account)
    assert (account["processes"], account["unread"]) == (800, 600)
    assert (account["page_cache"], account["shmem"]) == (1_300, 300)
    assert account.as_dict()["processes_file"] is None
    mixed = HostAccount(scan((700, 500, 150, 50), (100,)), VALUES)
    check(mixed)
    assert [mixed[name] for name in ("processes_anon", "processes", "unread")] == [500, 100, 600]


def test_rounded_parts_of_pss_are_not_lost() -> None:
    account = HostAccount(scan((703, 500, 150, 50)), VALUES)
    check(account)
    assert (account.pss, account["processes_file"], account.excess) == (703, 153, 0)


def test_pss_beyond_the_kernels_sum_is_named() -> None:
    """Processes grow and end between the reads: the account stays exact and says by how much."""
    account = HostAccount(scan((1_800, 1_100, 500, 200)), VALUES)
    check(account)
    assert [account[f"processes_{kind}"] for kind in ("anon", "file", "shmem")] == [1_000, 200, 200]
    assert (account["unread"], account.excess) == (0, 400)
    assert account.explained == 1_800 / 1_400


def test_parts_beyond_the_total_are_named() -> None:
    """Lxcfs makes up a meminfo: the total is the container's, the rest may be the host's."""
    account = HostAccount(scan(), {**VALUES, "MemTotal": 9_000})
    check(account)
    assert (account["unexplained"], account.excess) == (0, 1_000 - 865)
    small = HostAccount(scan((700, 500, 150, 50)), {**VALUES, "MemTotal": 100})
    check(small)
    assert small["free"] == 100


def test_mapped_pages_of_drivers_are_not_in_the_page_cache() -> None:
    values = {**VALUES, "Cached": 300, "Buffers": 0, "Active": 0, "Inactive": 1_300}
    account = HostAccount(scan((600, 200, 400, 0)), values)
    check(account)
    before = memory_parts(values)[0]["unexplained"]
    assert (account["processes_file"], account["page_cache"], account["shmem"]) == (400, 0, 300)
    assert account["unexplained"] == before - 400


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"VmallocUsed": 90, "VmallocChunk": 7}, None),  # addresses, before 4.4
        ({"VmallocUsed": 0, "VmallocChunk": 0}, None),  # not counted, 4.4 to 5.2
        ({"VmallocUsed": 90, "VmallocChunk": 0, "KernelStack": 40}, 50),
        ({"VmallocUsed": 90, "VmallocChunk": 0, "KernelStack": 91}, 90),  # stacks are elsewhere
    ],
)
def test_vmalloc_is_counted_where_it_is_memory(
    values: dict[str, int], expected: int | None
) -> None:
    account = HostAccount(scan(), {"MemTotal": 1_000, **values})
    check(account)
    assert account.as_dict()["vmalloc"] == expected


def test_what_meminfo_lacks_has_no_row() -> None:
    account = HostAccount(scan((5, 3, 2, 0)), {"MemTotal": 10, "MemFree": 4})
    check(account)
    assert names(account) == {"free", "unexplained"}
    assert (account.pss, account.mapped, account.explained) == (5, None, None)
    with pytest.raises(KeyError):
        HostAccount(scan(), {"MemFree": 4})


SIZES = st.integers(0, 1 << 62) | st.integers(0, 1 << 20)


@given(
    st.dictionaries(st.sampled_from(LABELS), SIZES),
    SIZES,
    st.lists(st.sampled_from([(), (1,), (4,)]).flatmap(lambda n: st.tuples(*[SIZES] * sum(n)))),
    st.dictionaries(st.sampled_from(["zram", "free_per_cpu"]), SIZES),
)
def test_any_meminfo_adds_up(
    values: dict[str, int], total: int, pss: list[tuple[int, ...]], more: dict[str, int]
) -> None:
    account = HostAccount(scan(*pss), {**values, "MemTotal": total}, more)
    check(account)
    parts, _ = memory_parts({**values, "MemTotal": total}, more)
    assert sum(parts.values()) == total
    if "MemFree" in values:
        assert account["free"] == min(total, values["MemFree"])


def test_account_is_a_value() -> None:
    account = HostAccount(scan((700, 500, 150, 50)), VALUES)
    assert pickle.loads(pickle.dumps(account)) == account
    assert hash(account) == hash(HostAccount(scan((700, 500, 150, 50)), VALUES))
    assert account != HostAccount(scan((701, 500, 150, 51)), VALUES)
    assert repr(account.rows[0]) == "HostRow(name='processes_anon', size=500)"
    with pytest.raises(AttributeError):
        account.total = 5
    with pytest.raises(AttributeError):
        account.rows[0].size = 5


def test_account_shows_its_rows() -> None:
    values = {
        name: value if name.startswith("HugePages_") else value << 20
        for name, value in VALUES.items()
    }
    account = HostAccount(scan((650 << 20, 500 << 20, 150 << 20, 0), ()), values)
    lines = repr(account).splitlines()
    assert lines[0] == "Memory in /nowhere"
    assert lines[2].split()[:4] == ["500.0", "MiB", "5.0", "processes_anon"]
    assert " 10.0 MiB    0.1  swap_cache          read back from swap: not mapped" in lines
    assert lines[-4:] == [
        "  9.8 GiB  100.0  sum                 MemTotal",
        "1 other row: 0",
        "1 of 2 processes read, 1 denied",
        "46.4 % of all mapped memory explained",
    ]
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if "..." in line and "inodes" not in line]  # nothing is cut
    assert "<td" in account._repr_html_()


def test_scan_says_what_it_explains() -> None:
    assert scan((700,), (100,), ()).explained is None
    table = scan((700,), (100,), ())
    table.host_pss = 1_600
    assert table.explained == 0.5
    assert fastsmaps.scan([1]).explained is None
