"""Listing: processes that began and ended are found without listing all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import ModuleType

import pytest

from fastsmaps._host.listing import Listing
from fastsmaps._source.source import Source
from support import linux, processes

pytestmark = [pytest.mark.usefixtures("no_leak"), pytest.mark.core]


@pytest.fixture
def root() -> Iterator[int]:
    fd = os.open("/proc", os.O_RDONLY)
    yield fd
    os.close(fd)


def seldom(listing: Listing) -> None:
    """Make a full listing too expensive for the next hours."""
    listing._cost = 3600.0


def test_started_process_is_found_in_a_partial_listing(backend: ModuleType, root: int) -> None:
    listing, source = Listing(), Source()
    pids, all_listed = listing.update(source, root, True, 0.01)
    assert all_listed
    assert os.getpid() in pids
    seldom(listing)
    with processes.workload("idle") as child:
        born, all_listed = listing.update(source, root, True, 0.01)
        assert not all_listed
        assert child.pid in born
        assert 1 not in born
        again, all_listed = listing.update(source, root, True, 0.01)
        assert not all_listed
        assert child.pid not in again  # it is reported once


def test_numbers_that_start_again_are_found(backend: ModuleType) -> None:
    """After the largest pid the kernel assigns the lowest free ones."""

    def born() -> tuple[int, int, bool]:
        root = os.open("/proc", os.O_RDONLY)
        linux.set_next_pid(30_000)
        listing, source = Listing(), Source()
        with processes.workload("idle") as high:
            listing.update(source, root, True, 0.01)
            seldom(listing)
            linux.set_next_pid(100)
            with processes.workload("idle") as low:
                found, _ = listing.update(source, root, True, 0.01)
                return high.pid, low.pid, low.pid in found

    try:
        high, low, found = processes.run_in_namespaces(born)
    except linux.Unavailable as error:
        pytest.skip(str(error))
    assert low < high
    assert found


@pytest.mark.parametrize("known", [True, False])
def test_listing_is_full_without_loadavg(backend: ModuleType, root: int, known: bool) -> None:
    """/proc/loadavg counts in our pid namespace; of another one all processes are listed."""
    listing, source = Listing(), Source()
    seldom(listing)
    assert listing.update(source, root if known else None, False, 0.01)[1]  # the first
    seldom(listing)
    with processes.workload("idle") as child:
        assert listing.update(source, root, False, 0.01) == ([], False)
        listing._cost = 0.0
        pids, all_listed = listing.update(source, root, False, 0.01)
        assert all_listed
        assert child.pid in pids


def test_replaced_loadavg_is_not_believed(backend: ModuleType) -> None:
    """In a container lxcfs may have mounted its own over the kernel's."""

    def listed() -> list[bool]:
        with open("/tmp/loadavg", "w") as file:
            file.write("0.00 0.00 0.00 1/2 3\n")
        linux.call("mount", b"/tmp/loadavg", b"/proc/loadavg", None, linux.MS_BIND, None)
        root = os.open("/proc", os.O_RDONLY)
        listing = Listing()
        results = []
        for _ in range(2):
            results.append(listing.update(Source(), root, True, 0.01)[1])
            listing._cost = 0.0
        return results

    def alone() -> list[bool]:
        linux.call("mount", b"none", b"/tmp", b"tmpfs", 0, None)
        return listed()

    try:
        assert processes.run_in_namespaces(alone) == [True, True]
    except linux.Unavailable as error:
        pytest.skip(str(error))


def test_all_are_listed_after_a_process_ended(backend: ModuleType, root: int) -> None:
    """Its number may be in use again, and then loadavg shows no change."""
    listing, source = Listing(), Source()
    listing.update(source, root, True, 0.01)
    listing._cost = 0.0
    listing.list_soon()
    assert listing.update(source, root, True, 0.01)[1]
