"""find(): the mapping that contains an address, asked of the kernel."""

from __future__ import annotations

from fastsmaps import _backend
from fastsmaps._arguments import Pid, Procfs, check_int, check_pid
from fastsmaps._model.mapping import Mapping, found_mapping
from fastsmaps._public import public
from fastsmaps._source.api import own_number
from fastsmaps._source.source import PROC, Source, proc_counts_ours

_MAX_ADDRESS = 2**64 - 1


@public
def find(
    pid: Pid, address: int, *, build_id: bool = False, procfs: Procfs = "/proc"
) -> Mapping | None:
    """Return the mapping of a process that contains the address, or None: without sizes.

    It is what ``mappings(pid, sizes=False).find(address)`` returns. The kernel is asked for this
    one mapping (the ioctl PROCMAP_QUERY of Linux 6.11). Where it has no such query maps is read,
    and in a capture its maps. To find many addresses, use a Process: it keeps the descriptor.

    `build_id=True` also sets ``Mapping.build_id``, which takes the kernel 4 us more, and is only
    known where it can be asked.

    Raises what mappings() raises, and TypeError for an `address` that is not an int. An address
    below 0 or above 2**64 - 1 is in no mapping.

    Source: proc_pid_maps(5), uapi linux/fs.h (struct procmap_query).
    """
    address = check_int("address", address)
    if 0 <= address <= _MAX_ADDRESS and procfs == PROC and proc_counts_ours():
        found = _backend.find_at(own_number(pid), address, bool(build_id))
        if found is None:
            return None
        if found:
            return found_mapping(*found)
    source = Source(procfs)
    number = check_pid(pid)
    from fastsmaps._source.process_dir import ProcessDir

    with ProcessDir(source, number) as process:
        return process.find([address], build_id=build_id)[0]
