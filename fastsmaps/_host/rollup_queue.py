"""RollupQueue: whose rollup a Sampler reads next."""

from __future__ import annotations

from collections import OrderedDict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class RollupQueue:
    """Three queues, each with the pid that has waited longest first.

    ``new`` has processes without values, ``changed`` those whose values have probably changed
    since they were read, and ``all`` every process that is read again and again. Of five reads, two
    are of new processes, one of the process that changed most in this sweep, one of the changed
    ones in turn (by size, many small ones would never be read), and one of the oldest values, so
    that steady change elsewhere starves nobody.
    """

    def __init__(self) -> None:
        # Not a dict: finding its first key takes longer the more were removed before it.
        self.new: OrderedDict[int, None] = OrderedDict()
        self.changed: OrderedDict[int, None] = OrderedDict()
        self.all: OrderedDict[int, None] = OrderedDict()

    def add_new(self, pid: int) -> None:
        """Read a process that has no values."""
        self.discard(pid)
        self.new[pid] = None

    def put_back(self, pid: int, *, changed: bool) -> None:
        """Move a process that was read to the end."""
        self.discard(pid)
        self.all[pid] = None
        if changed:
            self.changed[pid] = None

    def discard(self, pid: int) -> None:
        """Do not read a process."""
        for queue in (self.new, self.changed, self.all):
            queue.pop(pid, None)

    def pids(self, largest: list[int], may_read: Callable[[int], bool]) -> Iterator[int]:
        """Yield the pids to read, each once; the caller moves or removes each.

        `largest` are those that changed in this sweep, the largest change last. `may_read` is
        asked before a process with values is yielded.
        """
        done: set[int] = set()

        def first_of(queue: OrderedDict[int, None]) -> int | None:
            while queue:
                pid = next(iter(queue))
                if pid in done:
                    return None  # all others were put back behind it
                if queue is self.new or may_read(pid):
                    return pid
                done.add(pid)
                queue.move_to_end(pid)
            return None

        def largest_change() -> int | None:
            while largest:
                pid = largest.pop()
                if pid not in done and pid in self.changed and may_read(pid):
                    return pid
            return None

        def new() -> int | None:
            return first_of(self.new)

        def changed() -> int | None:
            return first_of(self.changed)

        def oldest() -> int | None:
            return first_of(self.all)

        turns = (
            (largest_change, changed, new, oldest),
            (new, changed, oldest),
            (changed, new, oldest),
            (new, changed, oldest),
            (oldest, changed, new),
        )
        turn = 0
        while True:
            pid = next(
                (pid for take in turns[turn % len(turns)] if (pid := take()) is not None), None
            )
            if pid is None:
                return
            turn += 1
            done.add(pid)
            yield pid
