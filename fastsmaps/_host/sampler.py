"""Sampler: repeated sweeps within a share of one CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Container

from fastsmaps._arguments import Procfs, check_exclude, check_number, check_size
from fastsmaps._host.sampled import Sampled, row_of
from fastsmaps._host.sweeper import files_of
from fastsmaps._model.process_totals import ProcessTotals
from fastsmaps._model.processes import Cost, Scan
from fastsmaps._public import public
from fastsmaps._source.source import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from fastsmaps._host.sampled import Seen

# A sweep that is worth less than so many times its fixed cost waits for the next one.
_MIN_WORTH = 3
# What a call takes before its first and after its last reading of the clock, with cold caches: at
# ten sweeps a second beside 10,000 processes a fifteenth of a budget of 1 %.
_CALL_COST = 70e-6
# charge() leaves at most what the budget earns in so many seconds.
_MAX_DEBT = 60.0


@public
class Sampler:
    """Repeated sweeps over all processes that use at most `budget` of one CPU (0.01 is 1 %).

    Each sweep() spends what the budget has earned since the last one: it samples the Rss of
    processes (statm, 1 us through a kept descriptor) and then reads rollups. Processes whose Rss
    moved within 30 seconds are sampled at each sweep, the others in turn, and more of them if
    AnonPages + Mapped in /proc/meminfo says that some have moved. Rollups are read of new
    processes, of those that changed, and of the oldest, in turns (see RollupQueue). A process whose
    new values differ from their estimate, and the family of a process that forked or ended, are
    read again soon. All CPU time of a sweep is charged to the budget. A debt is carried over, and
    takes up to half of what the next sweeps earn. The first sweep reads all processes, whatever
    that takes, and is not charged. Rows are made when they are asked for; charge() charges that,
    and whatever else the caller does with them. A Sampler never sleeps: the caller decides how
    often to sweep.

    Each row has an ``age``, the seconds since its totals were read. If its Rss changed since, the
    totals are scaled and the row is marked ``estimated``. A process that began or ended is noticed
    at the next sweep, or if there are thousands, within seconds. A reused pid starts anew, and so
    does a process that called exec: the size of its code (statm's text) has changed. An exec of the
    same program is noticed when its rollup is read next. A denied process is tried again after a
    minute, then after up to a quarter of an hour, and after an exec.

    `cgroup`, `cmdline`, `exe` and `mappings` are read with the totals on request, as scan() does.
    Processes above `max_rss` bytes are skipped, and so are those in `exclude`: numbers of `procfs`,
    or a function of a row without totals, which is called for each new process, after an exec, and
    from time to time. A Sampler is a context manager, and for one thread at a time.

    It keeps at most a quarter of the program's free descriptors (RLIMIT_NOFILE less the open ones),
    counted anew at each sweep. If this process or the whole system has none left, it closes those
    it keeps, and keeps none for a minute.

    Raises ValueError for a `budget` outside of 0 to 1, 0 excluded, and TypeError for a wrong type.
    sweep() raises what depends on `procfs` and the contents of `exclude`.
    """

    def __init__(
        self,
        *,
        budget: float = 0.01,
        procfs: Procfs = "/proc",
        cgroup: bool = False,
        cmdline: bool = False,
        exe: bool = False,
        mappings: bool = False,
        max_rss: int | None = None,
        exclude: Container[int] | Callable[[ProcessTotals], bool] = (),
    ) -> None:
        self.budget = check_number("budget", budget, 0, 1, above=True)
        max_rss = check_size("max_rss", max_rss)
        check_exclude(exclude)
        source = Source(procfs)
        self.procfs = source.path
        self._mappings = mappings
        self._sampled = Sampled(
            source,
            texts=files_of(cgroup=cgroup, cmdline=cmdline, exe=exe),
            mappings=mappings,
            max_rss=max_rss,
            exclude=exclude,
        )
        # What the last Scan shows: a copy, so that later sweeps do not change it.
        self._shown: dict[int, Seen] | None = None
        self._last = 0.0
        self._is_first = True  # until a sweep has read all
        self._credit = 0.0  # seconds of CPU time; a debt if negative
        self._closed = False

    def close(self) -> None:
        """Close all descriptors; may be called again."""
        self._closed = True
        self._sampled.close()

    def __enter__(self) -> Sampler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_sampled"):
            self._sampled.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._sampled)} processes"
        return f"<Sampler of {self.procfs}, budget={self.budget:g}: {state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Sampler holds open descriptors: it is neither copied nor pickled")

    def charge(self, seconds: float) -> None:
        """Charge CPU time to the budget: of what the caller does with the rows, such as drawing.

        Like any debt it takes at most half of what the next sweeps earn, and no more is carried
        over than a minute earns. Raises ValueError for a negative number.
        """
        seconds = check_number("seconds", seconds, 0, float("inf"))
        self._credit = max(self._credit - seconds, min(self._credit, -_MAX_DEBT * self.budget))

    def sweep(self) -> Scan:
        """Sweep once within the budget, and return all processes.

        No single process raises an error. Raises NotProcfs, AccessDenied or ReadError if `procfs`
        cannot be listed, TypeError for an `exclude` that is not a container, ValueError after
        close().
        """
        if self._closed:
            raise ValueError("this Sampler is closed")
        now, cpu = time.monotonic(), time.thread_time()
        first = self._is_first
        earned = 0.0 if first else self.budget * (now - self._last)
        self._last = now
        credit = self._credit + earned
        if self._credit < 0:
            credit = max(credit, earned / 2)
        works = first or credit > _MIN_WORTH * self._sampled.fixed_cost
        if works:
            self._shown = None
            # The path may name another directory by now.
            self._sampled.sweep(Source(self.procfs), self.budget, cpu, None if first else credit)
        if self._shown is None:
            self._shown = dict(self._sampled.seen)
        seen, ended = self._shown, time.monotonic()
        scan = Scan(
            lambda: [row_of(*found, ended) for found in seen.values()],
            cost=Cost(time.thread_time() - cpu, ended - now),
            taken_at=time.time(),
            procfs=self.procfs,
            host=Source(self.procfs).origin(None)[0],
            count=len(seen),
            sharing_known=self._sampled.sharing_known,
            max_map_count=Source(self.procfs).max_map_count() if self._mappings else None,
            hidden_by=self._sampled.hidden_by,
            host_pss=self._sampled.host_pss,
        )
        left = self._credit + earned - (time.thread_time() - cpu + _CALL_COST)
        if first:
            self._last = ended  # all processes take seconds, which would earn more than is needed
        # What is left after all was read is not needed later.
        self._credit = 0.0 if first else min(0.0, left) if works else left
        self._is_first = False
        return scan
