"""mappings(): all mappings of one process."""

from __future__ import annotations

from time import time

from fastsmaps import _backend
from fastsmaps._arguments import Pid, Procfs, check_pid
from fastsmaps._model.mappings import Mappings
from fastsmaps._public import public
from fastsmaps._source.api import at_first_try, own_number
from fastsmaps._source.chunks import CHUNK_SIZE, CHUNKS, take_mappings
from fastsmaps._source.source import PROC, Source, proc_counts_ours


@public
def mappings(pid: Pid = "self", *, sizes: bool = True, procfs: Procfs = "/proc") -> Mappings:
    """Return all mappings of a process, one row each.

    `sizes=False` reads maps instead of smaps: only addresses and names, without the page walk that
    the sizes cost. The table is complete: if the process ends or calls exec meanwhile, the result
    is an error or the new program's mappings. `pid` is a number in `procfs`, as for totals().

    Raises what totals() raises. Source: proc_pid_maps(5), proc_pid_smaps(5).
    """
    if procfs == PROC and proc_counts_ours():
        own = own_number(pid)
        table = _backend.read_at(own, sizes, CHUNK_SIZE, CHUNKS)
        if table is not None:
            return Mappings(table, pid=own, procfs=PROC, taken_at=time())
    source = Source(procfs)
    number = check_pid(pid)
    table = at_first_try(number, source, "smaps" if sizes else "maps", take_mappings)
    if table is None:
        from fastsmaps._source.process_dir import ProcessDir

        with ProcessDir(source, number) as process:
            return process.mappings(sizes=sizes)
    shown = source.own_pid() if number == "self" else int(number)
    host, taken_at = source.origin(time())
    return Mappings(table, pid=shown, procfs=source.path, taken_at=taken_at, host=host)
