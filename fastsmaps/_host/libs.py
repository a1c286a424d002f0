"""libs(): sum each mapped file over all processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping

from fastsmaps import _backend
from fastsmaps._arguments import Any, Procfs, check_function, check_int
from fastsmaps._errors import OUTCOMES, Error, Outcome, outcome_of
from fastsmaps._host.sharing import Sharing, in_order, member_of, related
from fastsmaps._host.sweeper import Sweeper
from fastsmaps._host.workers import counted, spread
from fastsmaps._model.frames import Frames
from fastsmaps._model.sharing import error_of
from fastsmaps._model.totals import Totals
from fastsmaps._model.values import Frozen, Value
from fastsmaps._public import public
from fastsmaps._source.chunks import CHUNK_SIZE, CHUNKS
from fastsmaps._source.process_dir import ProcessDir
from fastsmaps._source.source import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from fastsmaps._backend import Uses
    from fastsmaps._model.sharing import Member
    from fastsmaps._model.view import View
    from fastsmaps._model.views import Use

    # A pid, its outcome, and the error if it was not read.
    Result = tuple[int, Outcome, str | None]

    # Number of processes, end - start, values by label.
    _Sum: TypeAlias = tuple[int, int, dict[str, int]]


@public
class LibUse(Value):
    """The use of a path by all processes: ``totals``, and how many ``processes`` map it.

    One path may lead to several files: in containers, after an upgrade, or because the kernel
    gives the same name to many (``/dev/zero (deleted)``, ``/memfd:NAME (deleted)``). ``parts``
    has the LibUse of each, by device and inode as in ``Mapping.dev`` and ``Mapping.inode``, the
    largest Pss first. ``processes`` counts a process once, however many of the files it maps.
    """

    __slots__ = ("parts", "processes", "totals")

    totals: Totals
    processes: int
    parts: dict[tuple[str, int], LibUse]

    def __init__(
        self,
        totals: Totals,
        processes: int,
        parts: dict[tuple[str, int], LibUse] | None = None,
    ) -> None:
        super().__init__(totals=totals, processes=processes, parts=parts or {})

    @property
    def files(self) -> int:
        """The number of different files, as far as device and inode show them (docs/fields.md)."""
        return max(1, len(self.parts))

    def __hash__(self) -> int:
        return hash((self.totals, self.processes))

    def __repr__(self) -> str:
        files = f", {self.files} files" if self.files > 1 else ""
        return f"<LibUse by {self.processes}{files}: {self.totals!r}>"


@public
class Libs(Frozen, Frames, Mapping[str, LibUse]):
    """A read-only mapping of paths to LibUse, the largest Pss first.

    ``coverage`` counts the processes by outcome. ``errors`` has the reason for each pid that was
    not read, and ``outcomes`` its outcome.
    """

    __slots__ = ("_uses", "coverage", "errors", "outcomes")

    _uses: dict[str, LibUse]
    coverage: dict[str, int]
    errors: dict[int, str]
    if TYPE_CHECKING:  # typing.get_type_hints() could not resolve Outcome
        outcomes: dict[int, Outcome]

    def __init__(
        self,
        uses: Iterable[tuple[str, LibUse]],
        coverage: dict[str, int],
        errors: dict[int, str],
        outcomes: dict[int, Outcome],
    ) -> None:
        for name, value in zip(
            self.__slots__, (dict(uses), coverage, errors, outcomes), strict=True
        ):
            object.__setattr__(self, name, value)

    def __getitem__(self, path: str) -> LibUse:
        return self._uses[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._uses)

    def __len__(self) -> int:
        return len(self._uses)

    def _view(self) -> View:
        from fastsmaps._model import views

        return views.of_uses(self._list(), self.coverage)

    def _list(self) -> list[Use]:
        return [(path, use.processes, use.files, use.totals) for path, use in self.items()]

    def _batch(self) -> Any:
        from fastsmaps._model import arrow

        return arrow.uses_batch(self._list())

    def __reduce__(self) -> tuple[Callable[..., Libs], tuple[Any, ...]]:
        return Libs, (list(self.items()), self.coverage, self.errors, self.outcomes)


@public
def libs(
    pids: Iterable[int] | None = None,
    *,
    procfs: Procfs = "/proc",
    workers: int = 1,
    progress: Callable[[int, int], object] | None = None,
) -> Libs:
    """Sum each mapped file over all processes, and count the processes that map it.

    A file is anything that the kernel names with a path: libraries, programs, data, shared memory
    (``/dev/shm``, ``/memfd:``), with " (deleted)" if it is gone. The keys are paths as in
    ``Mapping.path``. If a path leads to several files, ``LibUse.parts`` has each. Memory holds the
    sums of each file, and one process's table for each of the `workers` threads. Processes that
    cannot be read are left out: ``coverage`` counts them, ``errors`` says why. A process that
    shares all its memory with another one that is read (a child between vfork and exec) is
    "skipped". `progress(done, all)` is called with numbers of processes, by any of the threads.

    Raises what scan() raises. Source: proc_pid_smaps(5).
    """
    source = Source(procfs)
    workers = check_int("workers", workers, 1)
    check_function("progress", progress)
    numbers = source.select(pids)
    listed = pids is None
    sharing = Sharing(source)
    groups = _groups(numbers, source, sharing, workers)
    later = {member.pid for group in groups for member in in_order(group)[1:]}
    now = [pid for pid in numbers if pid not in later]
    uses: list[Uses] = []
    slow: list[int] = []  # pids that the fast path did not read
    results: list[Result] = []  # of processes that ProcessDir read
    members: list[Member] = []  # of these processes; forks are read later

    def work(batch: Iterator[int]) -> None:
        own = _backend.Uses()
        uses.append(own)
        take = own.take
        root = source.open_trusted()
        if root is None:
            found = (_add(own, pid, source, members) for pid in batch)
            results.extend(result for result in found if result is not None)
            return
        try:
            slow.extend([pid for pid in batch if not take(root, pid, CHUNK_SIZE, CHUNKS, listed)])
        finally:
            os.close(root)

    spread(counted(now, progress), max(1, min(workers, len(now))), work)
    uses.append(last := _backend.Uses())
    results.extend(_added(last, pid, source) for pid in slow)
    forks = {member.pid for member in members if member.forked}
    groups += sharing.groups(related(members).values())
    later |= forks
    read = set(now).difference(forks, (pid for pid, outcome, _ in results if outcome != "read"))
    for group in groups:
        results.extend(_add_once(last, in_order(group), source, sharing, later, read))
    results.extend(_added(last, pid, source) for pid in numbers if pid in later)
    coverage: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
    coverage["read"] = len(numbers) - len(results)
    errors: dict[int, str] = {}
    outcomes: dict[int, Outcome] = {}
    notes = source.metadata.unread if results else {}
    for pid, outcome, error in results:
        if error is not None:
            outcome, errors[pid] = notes.get(pid, (outcome, error))
            outcomes[pid] = outcome
        coverage[outcome] += 1
    return Libs(_merged(uses), coverage, errors, outcomes)


def _groups(
    numbers: list[int], source: Source, sharing: Sharing, workers: int
) -> list[list[Member]]:
    """Return groups of processes that share memory, before any of it is read.

    Returns no groups for the slow path, which finds them while it reads.
    """
    sweeper = Sweeper(source, texts=(), limits=(None, None), until=None)
    try:
        if not sweeper.is_fast:
            return []
        sweeper.run(numbers, workers, rollups=False)
        return sharing.groups(related(sweeper.members()).values())
    finally:
        sweeper.close()


def _add_once(
    uses: Uses,
    order: list[Member],
    source: Source,
    sharing: Sharing,
    later: set[int],
    read: set[int],
) -> Iterator[Result]:
    """Add one member of a group that shares memory, if one can be read.

    Removes from `later` what is done here. `read` has the pids read before.
    """
    counted = next((member for member in order if member.pid in read), None)
    for member in order:
        if member.pid not in later:
            continue
        later.remove(member.pid)
        if counted is not None and sharing.still(member, counted):
            yield member.pid, "skipped", error_of(counted.pid)
            continue
        result = _added(uses, member.pid, source)
        yield result
        if counted is None and result[1] == "read":
            counted = member


def _added(uses: Uses, pid: int, source: Source) -> Result:
    """Add a process by ProcessDir; return its number, the outcome and the error."""
    result = _add(uses, pid, source)
    assert result is not None
    return result


def _add(
    uses: Uses, pid: int, source: Source, members: list[Member] | None = None
) -> Result | None:
    """Add a process. With `members`, put it there; a fork is not added, and None returned."""
    try:
        with ProcessDir(source, pid) as process:
            member = None if members is None else member_of(process)
            if member is not None and members is not None:
                member.read = True  # nothing says otherwise yet
                members.append(member)
                if member.forked:
                    return None
            process.needed("smaps", lambda fd: uses.add(fd, CHUNK_SIZE, CHUNKS) or None)
    except Error as error:
        return pid, outcome_of(error), str(error)
    return pid, "read", None


def _merged(uses: list[Uses]) -> list[tuple[str, LibUse]]:
    """Add up the sums of all workers; no two of them read the same process."""
    users: dict[bytes, int] = {}
    files: dict[bytes, dict[tuple[bytes, int], _Sum]] = {}
    for worker in uses:
        for name, processes, parts in worker.result():
            if not name.startswith(b"/"):
                continue
            users[name] = users.get(name, 0) + processes
            sums = files.setdefault(name, {})
            for dev, inode, number, (size, values) in parts:
                _add_sum(sums, (dev, inode), (number, size, values))
    found = [(os.fsdecode(name), _use(users[name], sums)) for name, sums in files.items()]
    # Workers find files in any order: the path decides among equals.
    return sorted(found, key=lambda item: (-(item[1].totals.pss or 0), item[0]))


def _use(processes: int, files: dict[tuple[bytes, int], _Sum]) -> LibUse:
    parts = {
        (dev.decode("ascii"), inode): LibUse(Totals(values, size, "smaps"), number)
        for (dev, inode), (number, size, values) in files.items()
    }
    if len(parts) == 1:
        ((_, size, values),) = files.values()
    else:
        order = sorted(parts, key=lambda file: (-(parts[file].totals.pss or 0), file))
        parts = {file: parts[file] for file in order}
        total: dict[bool, _Sum] = {}
        for sum_ in files.values():
            _add_sum(total, True, sum_)
        _, size, values = total[True]
    return LibUse(Totals(values, size, "smaps"), processes, parts)


def _add_sum(sums: dict[Any, _Sum], key: object, more: _Sum) -> None:
    """Add sums as the backend does: a label that one part lacks keeps the other's value."""
    if key not in sums:
        sums[key] = more
        return
    number, size, values = sums[key]
    added = dict(values)
    for label, value in more[2].items():
        added[label] = added.get(label, 0) + value
    sums[key] = number + more[0], size + more[1], added
