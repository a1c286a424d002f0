"""ProcessDir: memory and facts of one process, from the files of its pinned directory."""

from __future__ import annotations

import os
import time

from fastsmaps import _backend
from fastsmaps._backend.descriptors import gives_a_byte
from fastsmaps._errors import Error, NoMemoryMap, ParseError, ProcessGone, ReadError, is_foreign
from fastsmaps._model.info import Info
from fastsmaps._model.mapping import Mapping, found_mapping
from fastsmaps._model.mappings import Mappings
from fastsmaps._model.stat import (
    Stat,
    arguments,
    cgroup_path,
    damaged,
    status_number,
    texts_of,
)
from fastsmaps._model.totals import Totals
from fastsmaps._source.chunks import CHUNK_SIZE, CHUNKS, PAGE, take_mappings, take_sums
from fastsmaps._source.process_files import ATTEMPTS, ProcessFiles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Literal, TypeVar

    from fastsmaps._backend import Found

    T = TypeVar("T")


class ProcessDir(ProcessFiles):
    """Memory and facts of one process under a Source."""

    _asks: bool | None = None  # whether the kernel may be asked for a mapping, once known
    _has_rollup = True  # False once the kernel turned out to have none

    def totals(self) -> Totals:
        """Return the totals, as fastsmaps.totals() does."""
        if not self.source.is_proc and self.source.is_capture:
            # A capture's file may hold several rollups, or a rollup and its smaps.
            table = self.take("smaps_rollup", take_mappings)
            return Mappings(table or self.needed("smaps", take_mappings)).totals()
        if self._has_rollup:
            sums = self.take("smaps_rollup", _backend.rollup)
            if sums is not None:
                return Totals(sums, None, "smaps_rollup")
            self._has_rollup = False  # kernels before 4.14
        size, sums = self.needed("smaps", take_sums)
        return Totals(sums, size, "smaps")

    def resident(self) -> int | None:
        """Return Rss by statm, in bytes, without a page walk; None if a capture lacks statm."""
        pages = self._pages("statm")
        if not pages and not self.source.is_capture and self.stat().has_exited:
            # The statm of an exited main thread shows 0; the other threads still have the memory.
            living = self.living()
            pages = pages if living is None else self._pages(f"{living[0]}statm")
        return None if pages is None else pages * PAGE

    def _pages(self, name: str) -> int | None:
        text = self.file(name)
        try:
            return None if text is None else int(text.split()[1])
        except (ValueError, IndexError):
            path = f"{self.path}/{name}"
            raise damaged("not a statm", text or b"", 1, 0, self.pid, path) from None

    def totals_until(self, until: float) -> Totals:
        """Sum smaps chunk by chunk; raise TimeoutError once time.monotonic() is `until`.

        A rollup is one page walk that cannot be stopped (11 to 16 ms a GiB).
        """

        def take(fd: int) -> tuple[int, dict[str, int]] | None:
            return _backend.total(fd, CHUNK_SIZE, 1, until)

        size, sums = self.needed("smaps", take)
        return Totals(sums, size, "smaps")

    def with_mapping_count(
        self, take: Callable[[], T], until: float | None
    ) -> tuple[T, int | None]:
        """Return the result of `take()`, and the number of mappings.

        The number is None if they cannot be counted, or if the process calls exec meanwhile.
        Raises TimeoutError once time.monotonic() is `until`.
        """
        if self.source.is_capture:
            return take(), self._captured_count()
        fd = -1
        count = None
        try:
            try:
                living = self.living() if self.stat().has_exited else None
                fd = self.open(f"{living[0] if living else ''}maps")
                count = _backend.lines(fd, CHUNK_SIZE, CHUNKS, until or 0)
            except TimeoutError:
                raise
            except (Error, OSError) as error:
                if is_foreign(error):
                    raise
                # Either `take` fails too, or only counting is not permitted.
            result = take()
            # See read_memory() in src/read_process.pxi.
            if count is not None and not gives_a_byte(fd):
                count = None
            return result, count
        finally:
            if fd >= 0:
                os.close(fd)

    def _captured_count(self) -> int | None:
        """Count the rows of a capture's maps, or of its smaps if it has no maps (smem's)."""
        for sizes in (False, True):
            try:
                return len(self.mappings(sizes=sizes))
            except Error:
                pass
        return None

    def mappings(self, *, sizes: bool = True) -> Mappings:
        """Return the mappings, as fastsmaps.mappings() does."""
        table = self.needed("smaps" if sizes else "maps", take_mappings)
        path = self.source.path
        host, taken_at = self.source.origin(time.time())
        return Mappings(table, pid=self.pid, procfs=path, taken_at=taken_at, host=host)

    def find_one(self, address: int, build_id: object) -> Mapping | None:
        """Return the mapping that contains the address; through a kept descriptor, in 3 us."""
        fd = self.kept.pop("maps", None) if self._asks and 0 <= address < 2**64 else None
        if fd is not None:
            try:
                found = _backend.find(fd, address, bool(build_id), self._fd)
                if found is None:
                    return None
                if found is not False:
                    return found_mapping(*found)
            except ProcessLookupError:
                pass  # ended, or called exec
            finally:
                self._keep("maps", fd)
        return self.find((address,), build_id=bool(build_id))[0]

    def find(self, addresses: Sequence[int], *, build_id: bool = False) -> list[Mapping | None]:
        """Return the mapping that contains each address, as fastsmaps.find() does."""
        found: Sequence[Found | Literal[False] | None] = [False for _ in addresses]
        if self._asks is None:
            self._asks = not self.source.is_capture and self.source.is_kernel_mount(self._fd)
        if self._asks:
            found = self.needed("maps", lambda fd: _ask(fd, addresses, bool(build_id), self._fd))
        mappings = [
            found_mapping(*answer) if isinstance(answer, tuple) else None for answer in found
        ]
        if False in found:
            # All of one table: the process may have called exec since.
            table = self.mappings(sizes=False)
            read = [table.find(address) for address in addresses]
            mappings = [a if a == b else b for a, b in zip(mappings, read, strict=True)]
        return mappings

    def info(self, *, heap: bool = False) -> Info:
        """Return facts about the process that are not in its mappings; see Process.info()."""
        stat = self.stat()
        memory, (status, command, cgroup), path = self._texts(
            stat, ("status", "cmdline", "cgroup"), self.file
        )
        uid = self._uid(status, path)
        peak = status_number(status or b"", b"VmHWM:", self.pid, f"{path}status")
        ranges = self._heap() if heap else None
        self._confirm(stat)
        return Info(
            pid=self.pid,
            ppid=stat.ppid,
            comm=stat.name,
            cmdline=arguments(command),
            uid=uid,
            start_time=stat.start_time,
            threads=stat.threads,
            peak_rss=None if peak is None else peak * 1024,
            cgroup=cgroup_path(cgroup or b"", self.pid, f"{path}cgroup"),
            start_brk=memory.start_brk,
            heap=ranges,
        )

    def facts(self, wanted: Sequence[str]) -> dict[str, Any]:
        """Return a scan row's columns other than the sums.

        `wanted` names the files among cmdline, cgroup and exe to read. A file that cannot be read
        gives None; if one is damaged there is an ``error``.
        """
        stat = self.stat()
        _, (status, *texts), path = self._texts(stat, ("status", *wanted), self.optional_file)
        facts = {
            "ppid": stat.ppid,
            "comm": stat.name,
            "uid": self._uid(status, path),
            "start_time": stat.start_time,
            **texts_of(
                dict(zip(wanted, texts, strict=True)),
                self.pid,
                path.removesuffix("/"),
                relative="cgroup" in wanted and self.source.has_relative_cgroups,
            ),
        }
        self._confirm(stat)
        return facts

    def _uid(self, status: bytes | None, path: str) -> int | None:
        return status_number(status or b"", b"Uid:", self.pid, f"{path}status", place=1)

    def _confirm(self, stat: Stat) -> None:
        """Raise ProcessGone if the process has ended: then all that was read is invalid."""
        if self.stat().start_time != stat.start_time:
            raise ProcessGone(f"process {self.pid} has ended", pid=self.pid, path=self.path)

    def _texts(
        self, stat: Stat, names: Sequence[str], read: Callable[[str], bytes | None]
    ) -> tuple[Stat, list[bytes | None], str]:
        """Return stat and these files of a thread that has the memory, and their directory.

        An exited main thread has no memory, command line or cgroup (v1 gives "/").
        """
        for _ in range(ATTEMPTS):
            task, memory = (self.living() if stat.has_exited else None) or ("", stat)
            texts = [read(task + name) for name in names]
            if not task or all(texts):
                break  # otherwise the thread has ended meanwhile
        return memory, texts, f"{self.path}/{task}"

    def _heap(self) -> tuple[tuple[int, int], ...] | None:
        try:
            return tuple((m.start, m.end) for m in self.mappings(sizes=False) if m.kind == "heap")
        except NoMemoryMap:
            return ()
        except (ProcessGone, ParseError, ReadError):
            raise
        except Error:  # not permitted, or not in the capture
            return None


def _ask(
    fd: int, addresses: Sequence[int], build_id: bool, directory: int
) -> list[Found | Literal[False] | None] | None:
    """Ask the kernel through a descriptor of maps; None if it has no memory any more."""
    try:
        if len(addresses) == 1 and 0 <= addresses[0] < 2**64:
            return [_backend.find(fd, addresses[0], build_id, directory)]
        from array import array  # imports collections, which takes 4 ms

        # An address that no process has is in no mapping; maps is read for the last one.
        numbers = array("Q", [a if 0 <= a < 2**64 else 2**64 - 1 for a in addresses])
        return _backend.find_many(fd, memoryview(numbers), build_id, directory)
    except ProcessLookupError:
        return None
