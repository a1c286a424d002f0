"""The memory of processes as Prometheus metrics; needs the extra ``prometheus``.

>>> from prometheus_client import REGISTRY
>>> from fastsmaps.prometheus import Collector
>>> REGISTRY.register(Collector(by="unit"))
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time

import fastsmaps
from fastsmaps._arguments import check_function, check_int, check_number, check_path, check_timeout
from fastsmaps._host.cgroups import WORDS as CGROUP_WORDS
from fastsmaps._model.processes import failures_of, is_failure, main_reason
from fastsmaps._output.groups import OTHER, PARTS, SUMMED, Labels, bounded, grouped
from fastsmaps._source.source import Source

try:
    from prometheus_client.metrics_core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        InfoMetricFamily,
    )
except ImportError as error:
    raise ImportError(
        'metrics need prometheus_client: pip install "prometheus_client>=0.20"'
    ) from error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence
    from typing import NoReturn

    from prometheus_client import Metric

    from fastsmaps._arguments import Procfs
    from fastsmaps._model.grouping import By
    from fastsmaps._model.processes import Scan
    from fastsmaps._output.groups import Key, ProcessGroup

__all__ = ["Collector"]

_HELP = {
    "pss": "Proportional set size: each page divided by how many processes map it.",
    "uss": "Unique set size: what would be freed if the processes ended.",
    "rss": "Resident set size; pages that several processes map count in each of them.",
    "swap": "Memory that was swapped out.",
    "hugetlb": "Hugetlb pages, shared and private; no other value includes them.",
}

# The values of a group's cgroup, each a metric.
_CGROUP_HELP = {
    "current": "Memory that the cgroup is charged for, with page cache and kernel memory.",
    "working_set": "The same without page cache that was not used lately, as the kubelet counts.",
    "limit": "The cgroup's limit of memory.",
    "anon": "Anonymous memory that the cgroup is charged for.",
    "file": "Page cache that the cgroup is charged for, with tmpfs and shared memory.",
    "kernel": "Kernel memory that the cgroup is charged for.",
}

# Share of the budget for the work with a sweep's result, mostly grouping: if that takes more,
# sweeps are made less often.
_MAX_GROUPING_SHARE = 0.25
# The default number of groups with series of their own: in general, and by container or pod. A node
# of Kubernetes has up to 110 pods unless configured otherwise, with two or three containers each.
_LIMIT, _NODE_LIMIT = 100, 500
# Between two sweeps, in seconds, however small the budget is.
_MAX_PAUSE = 3600.0


class Collector:
    """A collector for a registry of prometheus_client: sums over groups of processes.

    Its thread sweeps with a Sampler every `interval` seconds, and less often with thousands of
    processes, so that all its work takes at most `budget` of one core (0.01: 1 %). collect()
    returns the metrics of the last sweep and never waits. Before the first sweep, and after a
    failed one, ``fastsmaps_up`` is 0 and there are no sums.

    `by` says how processes are grouped: the words of Scan.group_by(), each of which becomes a
    label; "pid" comes with "comm". The text that a pattern matches is the label "cmdline". By
    "container" the labels are "container_id" and "uid" (the pod's), by "pod" only "uid", as
    kube-state-metrics spells them. The `limit` largest groups by Pss (None: 100, or 500 by
    container or pod) have their own series; all others are summed as "other". An unknown value has
    no sample; docs/prometheus.md explains each metric. `procfs`, `mappings` (their number, which
    needs a read of maps for each process), `max_rss` and `exclude` are those of Sampler.

    By "container", "pod", "unit", "slice" or "cgroup" alone there are also the values of each
    group's cgroup, as cgroup_memory() returns them; `cgroupfs` is another place for /sys/fs/cgroup.

    CPU time of the caller's other threads is not charged to the budget, unless `whole_process`
    is set, for a program that does nothing else. `on_error` is called in the thread with the
    exception of a failed sweep; sweeps go on. `on_sweep` is called there with the Scan of each
    other sweep, such as to log its coverage; its CPU time is charged, too.

    After a fork, the child starts its own sweeps when it calls collect(). close(), or the end of
    a with statement, ends the thread.

    Raises TypeError and ValueError for wrong arguments, and what Sampler raises.
    """

    def __init__(
        self,
        by: By = "comm",
        *,
        limit: int | None = None,
        budget: float = 0.01,
        interval: float = 5.0,
        procfs: Procfs = "/proc",
        cgroupfs: Procfs | None = None,
        mappings: bool = False,
        max_rss: int | None = None,
        exclude: Container[int] = (),
        whole_process: bool = False,
        on_error: Callable[[Exception], object] | None = None,
        on_sweep: Callable[[Scan], object] | None = None,
    ) -> None:
        limit = limit if limit is None else check_int("limit", limit, 1)
        check_number("interval", interval, 0, threading.TIMEOUT_MAX, above=True)
        check_function("on_error", on_error)
        check_function("on_sweep", on_sweep)
        cgroupfs = None if cgroupfs is None else check_path("cgroupfs", cgroupfs)
        labels = Labels(by)
        if limit is None:
            limit = _NODE_LIMIT if "uid" in labels.names else _LIMIT

        sampler = functools.partial(
            fastsmaps.Sampler,
            budget=budget,
            procfs=procfs,
            **labels.reads,
            mappings=mappings,
            max_rss=max_rss,
            exclude=exclude,
        )
        sampler().close()  # raises for wrong arguments
        self._make_sweeps = functools.partial(
            _Sweeps, sampler, labels, cgroupfs, limit, interval, whole_process
        )
        self._on_error = on_error
        self._on_sweep = on_sweep
        self._closed = False
        self._lock = threading.Lock()
        self._begin()

    def __enter__(self) -> Collector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Collector has a thread: it cannot be copied or pickled")

    def close(self) -> None:
        """End the thread after the current sweep; can be called again."""
        self._closed = True
        self._over.set()
        self._thread.join()
        self._sweeps.close()  # in a fork, no thread of its own has closed them

    def collect(self) -> Sequence[Metric]:
        """Return the metrics of the last sweep, the same objects until the next one; never wait."""
        if not self._thread.is_alive() and not self._closed:
            with self._lock:  # this is a fork, which has no threads
                if not self._thread.is_alive():
                    self._sweeps.close()
                    self._begin()
        return self._metrics

    def describe(self) -> Sequence[Metric]:
        """Return the metrics without a sweep: a registry asks only for their names."""
        return self._sweeps.metrics(None)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the first sweep, at most `timeout` seconds; return whether it is done."""
        check_timeout(timeout)
        self.collect()
        return self._first.wait(timeout)

    def _begin(self) -> None:
        self._sweeps = self._make_sweeps()
        self._metrics = self._sweeps.metrics(None)
        self._first, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="fastsmaps", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        sweeps, over = self._sweeps, self._over
        with contextlib.closing(sweeps):
            while not over.is_set():
                try:
                    self._metrics, scan = sweeps.sweep()
                    if sweeps.problem:
                        self._report(fastsmaps.Error(sweeps.problem))
                    elif self._on_sweep is not None:
                        self._on_sweep(scan)
                    sweeps.plan()
                except Exception as error:
                    # Old values would be taken for current ones.
                    self._metrics = sweeps.failed()
                    self._report(error)
                self._first.set()
                over.wait(sweeps.pause)

    def _report(self, error: Exception) -> None:
        if self._on_error is not None:
            self._on_error(error)


class _Sweeps:
    """Sweeps and the metrics made from them, within a budget for both."""

    def __init__(
        self,
        make_sampler: Callable[[], fastsmaps.Sampler],
        labels: Labels,
        cgroupfs: str | None,
        limit: int,
        interval: float,
        whole_process: bool,
    ) -> None:
        self._sampler = make_sampler()
        self._budget = self._sampler.budget
        self._labels = labels
        self._cgroupfs = cgroupfs
        self._limit = limit
        self._interval = interval
        self._clock = time.process_time if whole_process else time.thread_time
        self._named: set[Key] = set()
        self._count = self._errors = 0
        self._wall = self._cpu = 0.0
        # The thread's CPU clock when the last sweep's result was there.
        self._swept = 0.0
        # The CPU clock at the end of the last sweep.
        self._last: float | None = None
        #: Seconds to wait before the next sweep.
        self.pause = interval
        #: Why the last sweep read nothing; "" if it read something.
        self.problem = ""

    def close(self) -> None:
        self._sampler.close()

    def sweep(self) -> tuple[Sequence[Metric], Scan]:
        """Sweep and return the metrics, and the scan that they were made from."""
        begun, cpu = time.monotonic(), self._clock()
        if self._last is None:
            self._cpu += cpu if self._clock is time.process_time else 0.0
        else:
            self._cpu += cpu - self._last
            self._sampler.charge(cpu - self._last)
        scan = self._sampler.sweep()
        self._last = self._clock()
        self._count += 1
        self._wall += time.monotonic() - begun
        self._cpu += self._last - cpu
        self._swept = time.thread_time()
        self.problem = _problem(scan)
        return self.metrics(scan), scan

    def plan(self) -> None:
        """Set the pause after all work with a sweep's result is done."""
        needed = (time.thread_time() - self._swept) / (self._budget * _MAX_GROUPING_SHARE)
        self.pause = max(self._interval, min(needed, _MAX_PAUSE))

    def failed(self) -> Sequence[Metric]:
        """Return the metrics after a failed sweep, which have no sums."""
        self._errors += 1
        return self.metrics(None)

    # ---- metrics

    def metrics(self, scan: Scan | None) -> Sequence[Metric]:
        """Make all metrics; those of groups have no samples if there was no sweep."""
        build = InfoMetricFamily("fastsmaps_build", "The version of fastsmaps.")
        build.add_metric((), {"version": fastsmaps.__version__, "backend": fastsmaps.BACKEND})
        up = scan is not None and not is_failure(scan.coverage)
        return (
            _gauge("up", "Whether the last sweep read any process.", value=float(up)),
            build,
            _gauge(
                "budget_ratio", "The maximum share of one core that it may use.", value=self._budget
            ),
            _counter("sweeps", "Sweeps done.", self._count),
            _counter("sweep_errors", "Sweeps that failed.", self._errors),
            _counter("sweep_seconds", "Wall time of sweeps.", self._wall),
            _counter("cpu_seconds", "CPU time of sweeps and of making metrics.", self._cpu),
            *self._coverage(scan),
            *_host(scan),
            *self._groups(scan),
        )

    def _coverage(self, scan: Scan | None) -> Sequence[Metric]:
        hidden = _gauge(
            "processes_hidden", "Whether hidepid hides other users' processes from the exporter."
        )
        at = _gauge("sweep_timestamp_seconds", "Unix time of the last sweep.")
        outcomes = _gauge(
            "coverage_processes", "Processes by their outcome in the last sweep.", ("outcome",)
        )
        if scan is not None:
            assert scan.taken_at is not None  # only a scan of a capture may lack it
            at.add_metric((), round(scan.taken_at, 3))
            for outcome, count in scan.coverage.items():
                outcomes.add_metric((outcome,), count)
            hidden.add_metric((), float(scan.hidden_by is not None))
        return at, outcomes, hidden

    def _cgroups(self, scan: Scan | None, groups: Mapping[Key, ProcessGroup]) -> Sequence[Metric]:
        """Make the metrics of the groups' cgroups, none if `by` has none or they cannot be read."""
        labels = self._labels.names
        sizes = {
            name: _gauge(f"cgroup_{name}_bytes", text, labels)
            for name, text in _CGROUP_HELP.items()
        }
        kills = CounterMetricFamily(
            "fastsmaps_cgroup_oom_kills", "Processes killed at the cgroup's limit.", labels=labels
        )
        keys = self._labels.keys
        # The running kernel's cgroups say nothing about those of a capture.
        if scan is None or str(keys) not in CGROUP_WORDS or Source(scan.procfs).is_capture:
            return *sizes.values(), kills
        with contextlib.suppress(fastsmaps.Error):
            found = fastsmaps.cgroup_memory(scan, str(keys), cgroupfs=self._cgroupfs)
            for values, group in groups.items():
                memory = found.get(str(keys(group.rows[0])))
                # On v1 the root's values are those of the whole machine.
                if memory is None or memory.path == "/":
                    continue
                for name, family in sizes.items():
                    if (size := getattr(memory, name)) is not None:
                        family.add_metric(values, size)
                if memory.oom_kills is not None:
                    kills.add_metric(values, memory.oom_kills)
        return *sizes.values(), kills

    def _groups(self, scan: Scan | None) -> Sequence[Metric]:
        labels = self._labels.names
        sums = [_gauge(f"{name}_bytes", _HELP[name], labels) for name in SUMMED]
        parts = _gauge(
            "pss_part_bytes",
            "The parts of Pss: anonymous memory, files, shared memory (Linux 5.3).",
            (*labels, "part"),
        )
        mappings = _gauge(
            "mappings_max",
            "The largest number of mappings of a process in the group.",
            labels,
        )
        limit = _gauge("mappings_limit", "How many mappings a process may have: vm.max_map_count.")
        processes = _gauge(
            "processes",
            "Processes that have memory, including those that could not be read.",
            labels,
        )
        unread = _gauge("unread_processes", "Processes that the sums do not include.", labels)
        estimated = _gauge(
            "estimated_pss_bytes",
            "The part of fastsmaps_pss_bytes that is scaled by the current Rss, not read anew.",
            labels,
        )
        oldest = _gauge(
            "oldest_read_timestamp_seconds",
            "Unix time at which the oldest value in the sums was read.",
            labels,
        )
        folded = _gauge("folded_groups", f'Groups beyond the limit, summed as "{OTHER}".')
        groups: Mapping[Key, ProcessGroup] = {}
        if scan is not None:
            groups, rest, count = bounded(grouped(scan, self._labels), self._limit, self._named)
            self._named = set(groups)
            folded.add_metric((), count)
            if scan.max_map_count is not None:
                limit.add_metric((), scan.max_map_count)
            others = [] if rest is None else [((OTHER,) * len(labels), rest)]
            for values, group in (*groups.items(), *others):
                processes.add_metric(values, group.processes)
                unread.add_metric(values, group.unread)
                for family, size in zip(sums, group.sums, strict=True):
                    if size is not None:
                        family.add_metric(values, size)
                for part, size in zip(PARTS, group.parts, strict=True):
                    if size is not None:
                        parts.add_metric((*values, part), size)
                if group.mappings is not None:
                    mappings.add_metric(values, group.mappings)
                if group.unread == group.processes:
                    continue
                estimated.add_metric(values, group.estimated)
                assert scan.taken_at is not None
                oldest.add_metric(values, round(scan.taken_at - group.age, 3))
        metrics = (*sums, parts, mappings, limit, processes, unread, estimated, oldest, folded)
        return *metrics, *self._cgroups(scan, groups)


def _host(scan: Scan | None) -> Sequence[Metric]:
    memory = _gauge(
        "host_memory_bytes", "All memory of the host by part; they add up to MemTotal.", ("part",)
    )
    explained = _gauge(
        "explained_ratio", "The sum of Pss over all processes read, of AnonPages + Mapped."
    )
    if scan is not None:
        # A procfs mounted with subset=pid has no meminfo.
        with contextlib.suppress(fastsmaps.Error):
            account = fastsmaps.host(scan=scan)
            for row in account.rows:
                memory.add_metric((row.name,), row.size)
            if account.explained is not None:
                explained.add_metric((), round(account.explained, 4))
    return memory, explained


def _problem(scan: Scan) -> str:
    if not is_failure(scan.coverage):
        return ""
    reason = main_reason(failures_of(scan)) or next(
        row.error or "" for row in scan if row.outcome == "denied"
    )
    return f"no process could be read: {reason}"


def _gauge(
    name: str, text: str, labels: Sequence[str] | None = None, value: float | None = None
) -> GaugeMetricFamily:
    name = f"fastsmaps_{name}"
    return GaugeMetricFamily(name, text, value=value, labels=labels, unit=_unit(name))


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"fastsmaps_{name}", text, value=value, unit=_unit(name))


def _unit(name: str) -> str:
    return next((unit for unit in ("bytes", "seconds", "ratio") if name.endswith(unit)), "")
