"""The memory of processes as metrics for Prometheus; needs the extra ``prometheus``.

>>> from prometheus_client import REGISTRY
>>> from fastsmaps.prometheus import Collector
>>> REGISTRY.register(Collector(by="unit"))
"""

from __future__ import annotations

import threading
import time

import fastsmaps
from fastsmaps._arguments import check_function, check_int, check_number, check_timeout
from fastsmaps._model.processes import failures_of, is_failure, main_reason
from fastsmaps._output.groups import OTHER, PARTS, SUMMED, bounded, grouped, keys_of

try:
    from prometheus_client.metrics_core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        InfoMetricFamily,
    )
except ImportError as error:
    raise ImportError(
        'metrics need prometheus_client: pip install "fastsmaps[prometheus]"'
    ) from error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence
    from typing import NoReturn

    from prometheus_client import Metric

    from fastsmaps._arguments import Procfs
    from fastsmaps._model.grouping import By, Keys
    from fastsmaps._model.processes import Scan
    from fastsmaps._output.groups import Key

__all__ = ["Collector"]

_HELP = {
    "pss": "Proportional set size: each page divided by how many processes map it.",
    "uss": "Unique set size: what would be free if the processes ended.",
    "rss": "Resident set size; pages that several processes map count in each.",
    "swap": "What was swapped out.",
    "hugetlb": "Hugetlb pages, shared and private; they are in no other figure.",
}

# Of the budget at least so much is for reading, whatever is taken by groups and answers ...
_LEAST_READING = 0.5
# ... and at most so much for making groups: where it is too little, sweeps are further apart.
_MOST_GROUPING = 0.25
# However small the budget is, in seconds.
_LONGEST_PAUSE = 3600.0


class Collector:
    """Sums over groups of processes, for a registry of prometheus_client.

    A thread of its own sweeps with a Sampler, every `interval` seconds and less often where
    there are thousands of processes, so that all of it takes at most `budget` of one core (0.01:
    1 %). collect() gives what the last sweep found and never waits, however often it is called.
    Before the first sweep is done, and when one failed, ``fastsmaps_up`` is 0 and there are no
    figures.

    `by` names what processes are grouped by: the words of Scan.group_by(), each a label; "pid"
    comes with "comm". What a pattern finds in the command line is the label "cmdline". The
    `limit` largest groups by Pss have series of their own, the rest is summed as "other". A
    figure that is not known has no sample; docs/prometheus.md explains each metric. `procfs`,
    `mappings` (their numbers, which takes a read of maps for each process), `max_rss` and
    `exclude` are those of Sampler.

    Time that the caller's other threads take is not charged to the budget, unless the program
    does nothing else and says so by `whole_process`. `on_error` is called in the thread with
    the exception of a sweep that failed; the next one is tried nevertheless.

    After a fork the child sweeps by itself once it is asked to collect(). close(), or the end
    of a with statement, ends the thread.

    Raises ValueError for another `by`, a `limit` that is no int of 1 or more, an `interval` that
    is not above 0 or too long to wait for, and what Sampler raises; TypeError for a number as
    `by` and for an `interval` that is no number.
    """

    def __init__(
        self,
        by: By = "comm",
        *,
        limit: int = 100,
        budget: float = 0.01,
        interval: float = 5.0,
        procfs: Procfs = "/proc",
        mappings: bool = False,
        max_rss: int | None = None,
        exclude: Container[int] = (),
        whole_process: bool = False,
        on_error: Callable[[Exception], object] | None = None,
    ) -> None:
        limit = check_int("limit", limit, 1)
        check_number("interval", interval, 0, threading.TIMEOUT_MAX, above=True)
        check_function("on_error", on_error)
        keys = keys_of(by)

        def sampler() -> fastsmaps.Sampler:
            return fastsmaps.Sampler(
                budget=budget,
                procfs=procfs,
                **keys.reads,
                mappings=mappings,
                max_rss=max_rss,
                exclude=exclude,
            )

        def sweeps() -> _Sweeps:
            return _Sweeps(sampler(), keys, limit, interval, whole_process)

        sampler().close()  # it knows what is wrong with its arguments
        self._make_sweeps = sweeps
        self._on_error = on_error
        self._closed = False
        self._lock = threading.Lock()
        self._begin()

    def __enter__(self) -> Collector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Collector has a thread: it is neither copied nor pickled")

    def close(self) -> None:
        """Ends the thread, after the sweep under way; may be called again."""
        self._closed = True
        self._over.set()
        self._thread.join()
        self._sweeps.close()  # what a fork has inherited, and no thread of its own closed

    def collect(self) -> Sequence[Metric]:
        """The metrics as of the last sweep; the same objects until the next one. Never waits."""
        if not self._thread.is_alive() and not self._closed:
            with self._lock:  # this is a fork: threads do not come along
                if not self._thread.is_alive():
                    self._sweeps.close()
                    self._begin()
        return self._metrics

    def describe(self) -> Sequence[Metric]:
        """The metrics as they are without a sweep: their names are what a registry asks for."""
        return self._sweeps.metrics(None)

    def wait(self, timeout: float | None = None) -> bool:
        """Whether the first sweep is over; waits until it is, at most `timeout` seconds."""
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
        with sweeps:
            while not over.is_set():
                try:
                    self._metrics = sweeps.sweep()
                    self._complain(sweeps.problem)
                except Exception as error:
                    # Old figures would be taken for those of now.
                    self._metrics = sweeps.failed()
                    if self._on_error is not None:
                        self._on_error(error)
                self._first.set()
                over.wait(sweeps.pause)

    def _complain(self, problem: str) -> None:
        if problem and self._on_error is not None:
            self._on_error(fastsmaps.Error(problem))


class _Sweeps:
    """Sweep after sweep, each made into metrics; what it takes beside the sampler counts too."""

    def __init__(
        self,
        sampler: fastsmaps.Sampler,
        keys: Keys,
        limit: int,
        interval: float,
        whole_process: bool,
    ) -> None:
        self._sampler = sampler
        self._budget = sampler.budget
        self._keys = keys
        self._limit = limit
        self._interval = interval
        self._clock = time.process_time if whole_process else time.thread_time
        self._named: set[Key] = set()
        self._count = self._errors = 0
        self._wall = self._cpu = 0.0
        # What the clocks said when the sampler came back from the last sweep.
        self._then: tuple[float, float] | None = None
        #: How long to wait for the next sweep, in seconds.
        self.pause = interval
        #: Why the last sweep read nothing at all; "" where it did.
        self.problem = ""

    def __enter__(self) -> _Sweeps:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._sampler.close()

    def sweep(self) -> Sequence[Metric]:
        """Sweeps; the metrics."""
        begun, before = time.monotonic(), self._clock()
        if self._then is None:
            self._cpu += before if self._clock is time.process_time else 0.0
        else:
            # What was done since the last sweep is taken off the sampler's share.
            wall, cpu = self._then
            beside = (before - cpu) / max(begun - wall, 1e-9)
            self._cpu += before - cpu
            self._sampler.budget = max(self._budget - beside, self._budget * _LEAST_READING)
        scan = self._sampler.sweep()
        self._then = time.monotonic(), self._clock()
        self._count += 1
        self._wall += self._then[0] - begun
        self._cpu += self._then[1] - before
        made = time.thread_time()
        self.problem = _problem(scan)
        metrics = self.metrics(scan)
        made = time.thread_time() - made
        needed = made / (self._budget * _MOST_GROUPING)
        self.pause = max(self._interval, min(needed, _LONGEST_PAUSE))
        return metrics

    def failed(self) -> Sequence[Metric]:
        """The metrics after a sweep that failed: no figures."""
        self._errors += 1
        return self.metrics(None)

    # ---- metrics

    def metrics(self, scan: Scan | None) -> Sequence[Metric]:
        """All of them; those of groups without samples where there was no sweep."""
        build = InfoMetricFamily("fastsmaps_build", "The version of fastsmaps.")
        build.add_metric((), {"version": fastsmaps.__version__, "backend": fastsmaps.BACKEND})
        up = scan is not None and not is_failure(scan.coverage)
        return (
            _gauge("up", "Whether the last sweep gave figures.", value=float(up)),
            build,
            _gauge("budget_ratio", "The most it may take, of one core.", value=self._budget),
            CounterMetricFamily("fastsmaps_sweeps", "Sweeps done.", value=self._count),
            CounterMetricFamily(
                "fastsmaps_sweep_errors", "Sweeps that failed.", value=self._errors
            ),
            CounterMetricFamily(
                "fastsmaps_sweep_seconds",
                "Time that sweeps took.",
                value=self._wall,
                unit="seconds",
            ),
            CounterMetricFamily(
                "fastsmaps_cpu_seconds",
                "Processor time of sweeps and of what is made of them.",
                value=self._cpu,
                unit="seconds",
            ),
            *self._coverage(scan),
            *self._groups(scan),
        )

    def _coverage(self, scan: Scan | None) -> Sequence[Metric]:
        hidden = _gauge(
            "processes_hidden", "Whether hidepid hides processes of others from the exporter."
        )
        at = _gauge("sweep_timestamp_seconds", "When the last sweep was done, Unix time.")
        outcomes = _gauge(
            "coverage_processes", "Processes by how they came out of the sweep.", ("outcome",)
        )
        if scan is not None:
            at.add_metric((), round(scan.taken_at, 3))
            for outcome, count in scan.coverage.items():
                outcomes.add_metric((outcome,), count)
            hidden.add_metric((), float(scan.hidden_by is not None))
        return at, outcomes, hidden

    def _groups(self, scan: Scan | None) -> Sequence[Metric]:
        labels = self._keys.names
        figures = [_gauge(f"{name}_bytes", _HELP[name], labels) for name in SUMMED]
        parts = _gauge(
            "pss_part_bytes",
            "The parts of Pss: anonymous memory, files, shared memory (Linux 5.3).",
            (*labels, "part"),
        )
        mappings = _gauge(
            "mappings_max",
            "Mappings of the process in the group that has most of them.",
            labels,
        )
        limit = _gauge("mappings_limit", "Mappings that a process may have: vm.max_map_count.")
        processes = _gauge("processes", "Processes that have memory, read or not.", labels)
        unread = _gauge("unread_processes", "Processes that are missing in the sums.", labels)
        estimated = _gauge(
            "estimated_pss_bytes",
            "The part of fastsmaps_pss_bytes that was scaled by the Rss of now since it was read.",
            labels,
        )
        oldest = _gauge(
            "oldest_read_timestamp_seconds",
            "When the oldest figure in the sums was read, Unix time.",
            labels,
        )
        folded = _gauge("folded_groups", f'Groups beyond the limit, which are summed as "{OTHER}".')
        if scan is not None:
            groups, rest, count = bounded(grouped(scan, self._keys), self._limit, self._named)
            self._named = set(groups)
            folded.add_metric((), count)
            if scan.max_map_count is not None:
                limit.add_metric((), scan.max_map_count)
            others = [] if rest is None else [((OTHER,) * len(labels), rest)]
            for values, group in (*groups.items(), *others):
                processes.add_metric(values, group.processes)
                unread.add_metric(values, group.unread)
                for family, figure in zip(figures, group.sums, strict=True):
                    if figure is not None:
                        family.add_metric(values, figure)
                for part, figure in zip(PARTS, group.parts, strict=True):
                    if figure is not None:
                        parts.add_metric((*values, part), figure)
                if group.mappings is not None:
                    mappings.add_metric(values, group.mappings)
                if group.unread == group.processes:
                    continue
                estimated.add_metric(values, group.estimated)
                oldest.add_metric(values, round(scan.taken_at - group.age, 3))
        return *figures, parts, mappings, limit, processes, unread, estimated, oldest, folded


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
    unit = next((unit for unit in ("bytes", "seconds", "ratio") if name.endswith(unit)), "")
    return GaugeMetricFamily(f"fastsmaps_{name}", text, value=value, labels=labels, unit=unit)
