"""mappings(): all mappings of one process."""

from __future__ import annotations

import time

from fastsmaps._arguments import Pid, Procfs, check_pid
from fastsmaps._model.mappings import Mappings
from fastsmaps._public import public
from fastsmaps._source.api import at_first_try, source_of
from fastsmaps._source.chunks import take_mappings
from fastsmaps._source.source import Source


@public
def mappings(pid: Pid = "self", *, sizes: bool = True, procfs: Procfs = "/proc") -> Mappings:
    """Return all mappings of a process, one row each.

    `sizes=False` reads maps instead of smaps: only addresses and names, without the page walk that
    the sizes cost. The table is complete: if the process ends or calls exec meanwhile, the result
    is an error or the new program's mappings. `pid` is a number in `procfs`, as for totals().

    Raises what totals() raises. Source: proc_pid_maps(5), proc_pid_smaps(5).
    """
    source = source_of(procfs)
    number = check_pid(pid)
    table = at_first_try(number, source, "smaps" if sizes else "maps", take_mappings)
    if table is None:
        from fastsmaps._source.process_dir import ProcessDir

        with ProcessDir(Source(procfs), number) as process:
            return process.mappings(sizes=sizes)
    own = source.own_pid() if number == "self" else int(number)
    return Mappings(table, pid=own, procfs=source.path, taken_at=time.time())
