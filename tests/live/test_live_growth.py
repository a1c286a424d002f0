"""What grew in processes that grow in known ways."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import fastsmaps
from support import processes
from support.commands import json_rows

MIB = 1 << 20

# Handles the requests on its standard input, and answers with an address.
ACTOR = """
import ctypes, json, mmap, os, signal, sys, threading

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
held, children = [], []

def filled(address, size):
    ctypes.memset(ctypes.c_void_p(address), 1, size)
    return address

def malloc(size, count):
    return [filled(libc.malloc(size), size) for _ in range(count)]

def anonymous(size):
    held.append(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    return filled(ctypes.addressof(ctypes.c_char.from_buffer(held[-1])), size)

def thread(size):
    threading.stack_size(size)
    addresses, done = [], threading.Event()
    def run():
        addresses.append(threading.get_native_id())
        done.set()
        threading.Event().wait()
    threading.Thread(target=run, daemon=True).start()
    done.wait()
    return addresses[0]

def file(path):
    with open(path, "rb") as opened:
        held.append(mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ))
    return sum(held[-1][::4096])

def fork():
    children.append(os.fork())
    if children[-1] == 0:
        signal.pause()
    return children[-1]

def reap():
    os.kill(children[-1], signal.SIGKILL)
    return os.waitpid(children.pop(), 0)[0]

print(json.dumps(os.getpid()), flush=True)
for line in sys.stdin:
    what, *arguments = json.loads(line)
    print(json.dumps(globals()[what](*arguments)), flush=True)
"""

pytestmark = [
    pytest.mark.core,
    pytest.mark.thread_unsafe(reason="each test talks to one process through its pipes"),
]


def holds(change: fastsmaps.Change, address: int) -> bool:
    start, end = (int(part, 16) for part in change.key[0].split("-"))
    return start <= address < end


@pytest.fixture
def actor() -> Iterator[processes.Process]:
    with processes.running(sys.executable, "-EsSB", "-c", ACTOR) as process:
        yield process


def test_growth_is_at_its_address(backend: ModuleType, actor: processes.Process) -> None:
    """In the heap, and in memory that was mapped; however the kernel splits and merges it."""
    before = fastsmaps.mappings(actor.pid)
    blocks = actor.request("malloc", 1 << 16, 200)
    large = actor.request("anonymous", 16 * MIB)
    changes = fastsmaps.diff(before, fastsmaps.mappings(actor.pid), by="range")
    grown = changes.grown
    for address in (*blocks, large):
        assert sum(holds(change, address) for change in grown) == 1
    added = sum(change.uss or 0 for change in grown if any(holds(change, a) for a in blocks))
    (found,) = [change for change in grown if holds(change, large)]
    assert found.uss is not None
    assert found.uss >= 16 * MIB
    assert (changes.total.uss or 0) >= 28 * MIB
    assert added >= 12 * MIB
    assert grown[0] is max(grown, key=lambda change: change.uss or 0)


def test_a_new_stack_is_a_new_range(backend: ModuleType, actor: processes.Process) -> None:
    before = fastsmaps.mappings(actor.pid)
    for _ in range(3):
        actor.request("thread", 2 * MIB)
    changes = fastsmaps.diff(before, fastsmaps.mappings(actor.pid), by="name").grown
    stacks = [change for change in changes if change.name.endswith("(no name)") and change.size]
    assert sum(change.size or 0 for change in stacks) >= 6 * MIB
    assert sum(change.rss or 0 for change in stacks) > 0


def test_a_mapped_file_is_one_change(
    backend: ModuleType, actor: processes.Process, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (4 * MIB))
    before = fastsmaps.mappings(actor.pid)
    actor.request("file", str(path))
    after = fastsmaps.mappings(actor.pid)
    (by_name,) = [c for c in fastsmaps.diff(before, after, by="name") if c.key == str(path)]
    (by_range,) = [c for c in fastsmaps.diff(before, after, by="range") if c.key[1] == str(path)]
    assert by_name.size == by_range.size == by_name.rss == by_range.rss == 4 * MIB
    assert by_name.shared_with_fewer is False
    assert by_range.name.endswith(f" {path}")


def test_the_end_of_a_child_is_not_growth(
    backend: ModuleType, actor: processes.Process, tmp_path: Path
) -> None:
    """The parent's Pss and Uss grow by far more than by what it allocates."""
    shared = actor.request("anonymous", 64 * MIB)
    actor.request("fork")
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(Path(f"/proc/{actor.pid}/smaps").read_bytes())
    actor.request("reap")
    blocks = actor.request("malloc", 1 << 16, 64)
    new.write_bytes(Path(f"/proc/{actor.pid}/smaps").read_bytes())
    changes = fastsmaps.diff(fastsmaps.load(old), fastsmaps.load(new), by="range")
    (change,) = [change for change in changes if holds(change, shared)]
    assert change.uss is not None
    assert change.uss >= 64 * MIB
    assert change.shared_with_fewer is True
    first = changes[0]
    assert any(holds(first, address) for address in blocks)
    assert first.rss is not None
    assert first.rss >= 2 * MIB
    assert changes.grown[0] == first
    rows = json_rows("diff", str(old), str(new), "--by", "range")
    assert [(row["range"], row["path"]) for row in rows] == [change.key for change in changes]
    (row,) = [row for row in rows if row["range"] == change.key[0]]
    assert row["shared_with_fewer"] is True
