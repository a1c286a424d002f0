"""Collector: groups and their sums, unknown values, slow and failing sweeps."""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

import fastsmaps
from fastsmaps._output.groups import PARTS, Labels, ProcessGroup, bounded, grouped, label_value
from fastsmaps.prometheus import Collector
from support import metrics, processes
from support.commands import run
from support.metrics import (
    HOSTILE,
    Metrics,
    gate_samplers,
    parse_metrics,
    promtool,
    scrape,
    small_host,
    sweep_metrics,
    until,
    write_maps,
    write_process,
)

KB = 1024
FIGURES = ("pss_bytes", "uss_bytes", "rss_bytes", "swap_bytes", "hugetlb_bytes")
PER_GROUP = (
    *FIGURES, "processes", "unread_processes", "estimated_pss_bytes",
    "oldest_read_timestamp_seconds",
)  # fmt: skip


@pytest.fixture
def host(tmp_path: Path) -> Path:
    return small_host(tmp_path / "host")


# ---- values


def test_groups_have_sums_of_their_processes(backend: ModuleType, host: Path) -> None:
    before = time.time()
    says = sweep_metrics(host)
    assert says.of("pss_bytes") == {"init": 10 * KB, "web": 800 * KB, "db": 400 * KB}
    assert says.of("rss_bytes") == {"init": 100 * KB, "web": 200 * KB, "db": 100 * KB}
    assert says.of("uss_bytes") == {"init": 30 * KB, "web": 60 * KB, "db": 30 * KB}
    assert says.of("swap_bytes") == {"init": 0, "web": 8 * KB, "db": 0}
    assert says.of("hugetlb_bytes") == {"init": 0, "web": 0, "db": 6144 * KB}
    assert says.of("processes") == {"init": 1, "web": 2, "db": 1}
    assert says.of("unread_processes") == {"init": 0, "web": 0, "db": 0}
    assert says.of("estimated_pss_bytes") == {"init": 0, "web": 0, "db": 0}
    read = says.of("oldest_read_timestamp_seconds")
    assert all(before - 1 < at < time.time() + 1 for at in read.values())
    assert says.up
    assert says.get("folded_groups") == 0
    assert says.of("coverage_processes", "outcome") == {
        "read": 4, "denied": 0, "gone": 0, "kernel_thread": 0, "zombie": 0, "skipped": 0,
        "failed": 0,
    }  # fmt: skip
    assert says.get("sweeps_total") == 1
    assert says.get("sweep_errors_total") == 0
    assert says.get("cpu_seconds_total") is not None
    assert says.get("build_info", version=fastsmaps.__version__, backend=fastsmaps.BACKEND) == 1


@pytest.mark.parametrize(
    ("by", "labels"),
    [
        (("user",), [{"user": "root"}, {"user": "www-data"}, {"user": "4711"}]),
        (
            ("unit",),
            [{"unit": "init.scope"}, {"unit": "web.service"}, {"unit": "db@main.service"}],
        ),
        (
            ("cgroup",),
            [
                {"cgroup": "/init.scope"},
                {"cgroup": "/system.slice/web.service"},
                {"cgroup": "/system.slice/web.service/worker"},
                {"cgroup": "/system.slice/db@main.service"},
            ],
        ),
        (
            ("pid", "unit"),
            [
                {"pid": "1", "comm": "init", "unit": "init.scope"},
                {"pid": "7", "comm": "web", "unit": "web.service"},
                {"pid": "8", "comm": "web", "unit": "web.service"},
                {"pid": "9", "comm": "db", "unit": "db@main.service"},
            ],
        ),
        (
            ("comm", "unit"),
            [
                {"comm": "init", "unit": "init.scope"},
                {"comm": "web", "unit": "web.service"},
                {"comm": "db", "unit": "db@main.service"},
            ],
        ),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, tuple) else "",
)
def test_each_grouping_has_its_labels(
    backend: ModuleType, host: Path, by: tuple[str, ...], labels: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(
        "fastsmaps._model.process_totals._names", {0: "root", 33: "www-data", 4711: "4711"}
    )
    says = sweep_metrics(host, by)
    found = [set for (name, set) in says.samples if name == "fastsmaps_processes"]
    assert sorted(map(sorted, found)) == sorted(sorted(names.items()) for names in labels)
    assert sum(says.get("pss_bytes", **names) or 0 for names in labels) == 1210 * KB


UID = "1f2e3d4c-0001-4000-8000-00000000000a"
UID_IN_SLICE = UID.replace("-", "_")
CONTAINER = "ab" * 32


@pytest.mark.parametrize(
    ("cgroup", "labels"),
    [
        (
            (
                f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_IN_SLICE}.slice/"
                f"cri-containerd-{CONTAINER}.scope"
            ),
            (f"containerd://{CONTAINER}", UID),
        ),
        (
            f"/kubepods.slice/kubepods-pod{UID_IN_SLICE}.slice/crio-{CONTAINER}.scope",
            (f"cri-o://{CONTAINER}", UID),
        ),
        (f"/kubepods/besteffort/pod{UID}/{CONTAINER}", (f"cri://{CONTAINER}", UID)),
        (f"/docker/{CONTAINER}", (f"docker://{CONTAINER}", "")),
        ("/lxc.payload.web", ("lxc://web", "")),
        ("/system.slice/web.service", ("", "")),
    ],
)
def test_container_has_the_labels_of_kube_state_metrics(
    backend: ModuleType, tmp_path: Path, cgroup: str, labels: tuple[str, str]
) -> None:
    write_process(tmp_path, 1, b"it", cgroup=cgroup.encode())
    container_id, uid = labels
    says = sweep_metrics(tmp_path, "container")
    assert says.get("pss_bytes", container_id=container_id, uid=uid) == 50 * KB
    says = sweep_metrics(tmp_path, "comm,pod,container")
    assert says.get("pss_bytes", container_id=container_id, uid=uid, comm="it") == 50 * KB
    assert sweep_metrics(tmp_path, "pod").get("pss_bytes", uid=uid) == 50 * KB


@contextlib.contextmanager
def limited_container(pid: int, limit: int) -> Iterator[str]:
    """Put a process into a cgroup as Docker names it, with a limit of memory; give its id."""
    name = os.urandom(32).hex()
    v1 = Path("/sys/fs/cgroup/memory")
    top = v1 if (v1 / "memory.limit_in_bytes").exists() else Path("/sys/fs/cgroup")
    parent, cgroup = top / "docker", top / "docker" / name
    before = top / fastsmaps.scan([pid], cgroup=True)[0].cgroup[1:]  # type: ignore[index]
    try:
        parent.mkdir(exist_ok=True)
        if top != v1:
            for directory in (top, parent):
                (directory / "cgroup.subtree_control").write_text("+memory")
        cgroup.mkdir()
        file = "memory.limit_in_bytes" if top == v1 else "memory.max"
        (cgroup / file).write_text(str(limit))
        (cgroup / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        for directory in (cgroup, parent):
            with contextlib.suppress(OSError):
                directory.rmdir()
        pytest.skip(f"cannot make a cgroup: {error}")
    try:
        yield name
    finally:
        (before / "cgroup.procs").write_text(str(pid))
        cgroup.rmdir()
        with contextlib.suppress(OSError):  # another's containers may be there
            parent.rmdir()


def test_container_has_the_values_of_its_cgroup(backend: ModuleType) -> None:
    """Beside the sums of its processes, with the same labels."""
    with processes.workload("idle") as child, limited_container(child.pid, 256 << 20) as name:
        labels = {"container_id": f"docker://{name}", "uid": ""}
        with Collector("container") as collector:
            assert collector.wait(processes.TIMEOUT)
            says = scrape(collector)
            promtool("check", "metrics", text=generate_latest(collector))
        rss = says.get("rss_bytes", **labels)
        assert rss == fastsmaps.totals(child.pid).rss
        assert says.get("cgroup_limit_bytes", **labels) == 256 << 20
        assert says.get("cgroup_oom_kills_total", **labels) == 0
        current = says.get("cgroup_current_bytes", **labels)
        assert current is not None
        assert 0 <= current < 256 << 20
        for part in ("working_set", "anon", "file"):
            assert says.get(f"cgroup_{part}_bytes", **labels) is not None
        with Collector("container,comm") as collector:
            assert collector.wait(processes.TIMEOUT)
            assert not scrape(collector).of("cgroup_limit_bytes", "container_id")


def test_captures_have_no_values_of_this_machines_cgroups(
    backend: ModuleType, tmp_path: Path
) -> None:
    with processes.workload("idle") as child, limited_container(child.pid, 256 << 20) as name:
        write_process(tmp_path, 1, cgroup=f"/docker/{name}".encode())
        says = sweep_metrics(tmp_path, "container")
        assert says.get("pss_bytes", container_id=f"docker://{name}", uid="") == 50 * KB
        assert not says.of("cgroup_limit_bytes", "container_id")


def test_container_labels_are_bounded(backend: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastsmaps._output.groups._MAX_PATHS", 2)
    labels = Labels("container")
    rows = [
        fastsmaps.ProcessTotals(i, "read", cgroup=f"/docker/{i % 5:064x}") for i in range(1, 11)
    ]
    assert [labels.values(row) for row in rows] == [
        (f"docker://{i % 5:064x}", "") for i in range(1, 11)
    ]
    assert len(labels._paths) <= 2


def test_live_process_has_the_kernels_values(backend: ModuleType) -> None:
    with processes.workload("idle") as child, Collector("pid") as collector:
        assert collector.wait(processes.TIMEOUT)
        says = scrape(collector)
        comm = Path(f"/proc/{child.pid}/comm").read_text().removesuffix("\n")
        labels = {"pid": str(child.pid), "comm": label_value(comm)}
        totals = fastsmaps.totals(child.pid)
        assert says.get("rss_bytes", **labels) == totals.rss
        assert says.get("swap_bytes", **labels) == totals.swap
        pss = says.get("pss_bytes", **labels)
        assert pss is not None
        # It changes with other processes that map the same files.
        assert totals.uss is not None
        assert totals.rss is not None
        assert totals.uss * 0.9 <= pss <= totals.rss


def test_unknown_values_have_no_sample(backend: ModuleType, host: Path) -> None:
    """A kernel lacks a field; a process, or one process of a group, cannot be read."""
    write_process(host, 20, b"old", Swap=-1, Shared_Hugetlb=-1)
    write_process(host, 21, b"broken")
    (host / "21/smaps_rollup").write_bytes(b"no rollup\n")
    write_process(host, 22, b"web")
    (host / "22/smaps_rollup").write_bytes(b"no rollup\n")
    says = sweep_metrics(host)
    assert says.get("pss_bytes", comm="old") == 50 * KB
    assert says.get("swap_bytes", comm="old") is None
    assert says.get("hugetlb_bytes", comm="old") is None
    with_samples = {name for name in PER_GROUP if says.get(name, comm="broken") is not None}
    assert with_samples == {"processes", "unread_processes"}
    assert says.get("processes", comm="broken") == says.get("unread_processes", comm="broken") == 1
    assert says.get("processes", comm="web") == 3
    assert says.get("unread_processes", comm="web") == 1
    assert says.get("pss_bytes", comm="web") == 800 * KB
    assert says.get("coverage_processes", outcome="failed") == 2


def test_kernel_threads_and_zombies_are_in_no_group(backend: ModuleType, host: Path) -> None:
    for pid, flags, state in ((30, 0x200000, b"S"), (31, 0, b"Z")):
        write_process(host, pid, b"none")
        text = b"%d (none) %s 1 0 0 0 0 %d " % (pid, state, flags) + b"0 " * 40 + b"\n"
        (host / f"{pid}/stat").write_bytes(text)
        (host / f"{pid}/smaps_rollup").unlink()
        (host / f"{pid}/smaps").write_bytes(b"")
    says = sweep_metrics(host)
    assert "none" not in says.of("processes")
    assert says.get("coverage_processes", outcome="kernel_thread") == 1
    assert says.get("coverage_processes", outcome="zombie") == 1


def test_estimates_and_ages(backend: ModuleType, host: Path) -> None:
    """A group has those of its Sampler's rows; an unread group has neither."""
    rows = list(fastsmaps.scan([7, 8, 9], procfs=host))
    rows = [
        rows[0].replace(age=3.0, estimated=True),
        rows[1].replace(age=40.0),
        rows[2].replace(comm="web", totals=None, outcome="denied", age=500.0),
    ]
    scan = fastsmaps.Scan(rows, cost=fastsmaps.Cost(0, 0), taken_at=1000.0, procfs=str(host))
    group = grouped(scan, Labels("comm"))["web",]
    assert (group.processes, group.unread) == (3, 1)
    assert (group.pss, group.estimated, group.age) == (800 * KB, 500 * KB, 40.0)


def test_host_account_adds_up_to_memtotal(backend: ModuleType, host: Path) -> None:
    """Parts that were not read have no sample; without meminfo there is none at all."""
    says = sweep_metrics(host)
    assert not says.of("host_memory_bytes", "part")
    assert says.get("explained_ratio") is None
    sizes = {"MemTotal": 10_000, "MemFree": 5000, "Cached": 2000, "Shmem": 100, "AnonPages": 1200,
             "Mapped": 220}  # fmt: skip
    (host / "meminfo").write_text("".join(f"{k}:{v:>16} kB\n" for k, v in sizes.items()))
    says = sweep_metrics(host)
    parts = says.of("host_memory_bytes", "part")
    assert sum(parts.values()) == 10_000 * KB
    assert parts["free"] == 5000 * KB
    assert "gpu" not in parts
    assert says.get("explained_ratio") == round(1210 / 1420, 4)


@pytest.mark.host
def test_host_account_of_a_live_machine(backend: ModuleType) -> None:
    with Collector() as collector:
        assert collector.wait(processes.TIMEOUT)
        says = scrape(collector)
    (total,) = (
        line for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line
    )
    parts = says.of("host_memory_bytes", "part")
    assert sum(parts.values()) == int(total.split()[1]) * KB
    assert says.get("explained_ratio") is not None


def test_scans_are_handed_over(backend: ModuleType, host: Path) -> None:
    """on_sweep gets the Scan of each sweep that read something."""
    scans: list[fastsmaps.Scan] = []
    with Collector(procfs=str(host), interval=0.01, budget=1, on_sweep=scans.append):
        until(lambda: len(scans) > 1)
    assert [len(scan) for scan in scans[:2]] == [4, 4]


# ---- the limit


def test_groups_beyond_the_limit_are_summed(backend: ModuleType, host: Path) -> None:
    says = sweep_metrics(host, limit=1)
    assert says.of("pss_bytes") == {"web": 800 * KB, "other": 410 * KB}
    assert says.of("processes") == {"web": 2, "other": 2}
    assert says.of("hugetlb_bytes") == {"web": 0, "other": 6144 * KB}
    assert says.get("folded_groups") == 2
    assert (
        sweep_metrics(host, ("pid",), limit=1).get("pss_bytes", pid="other", comm="other")
        == 710 * KB
    )


def test_limit_suits_a_node(backend: ModuleType, tmp_path: Path) -> None:
    """By container there are more groups by default than by another word."""
    for pid in range(1, 121):
        write_process(tmp_path, pid, b"p%d" % pid, cgroup=b"/docker/%012x" % pid + b"0" * 52)
    assert sweep_metrics(tmp_path, limit=None).get("folded_groups") == 20
    assert sweep_metrics(tmp_path, "user,container", limit=None).get("folded_groups") == 0
    assert sweep_metrics(tmp_path, "container", limit=100).get("folded_groups") == 20


def test_process_named_other_is_not_the_rest(backend: ModuleType, host: Path) -> None:
    write_process(host, 40, b"other", Pss=9000)
    says = sweep_metrics(host, limit=1)
    assert says.of("pss_bytes") == {r"\x6fther": 9000 * KB, "other": 1210 * KB}


def test_equal_groups_do_not_swap_places(backend: ModuleType, tmp_path: Path) -> None:
    """Of two groups of the same size, the same one has its own series each time."""

    def groups(small: int, large: int) -> dict[tuple[str, ...], ProcessGroup]:
        shutil.rmtree(tmp_path / "host", ignore_errors=True)
        write_process(tmp_path / "host", 1, b"a", Pss=small)
        write_process(tmp_path / "host", 2, b"b", Pss=large)
        return grouped(fastsmaps.scan(procfs=tmp_path / "host"), Labels("comm"))

    largest, rest, folded = bounded(groups(100, 99), 1, ())
    assert (list(largest), rest and rest.processes, folded) == ([("a",)], 1, 1)
    assert list(bounded(groups(100, 120), 1, largest)[0]) == [("a",)]
    assert list(bounded(groups(100, 130), 1, largest)[0]) == [("b",)]
    assert bounded(groups(1, 2), 2, ())[1:] == (None, 0)


# ---- names


SHOWN = {
    r'a"} 1\nup{x="', "\\", "\\n\\", r"\x1b[31mred", r"\xff\xfe\xed\xa0\x80", r"\u202egnp.exe",
    r"# HELP x\n# EOF", r"tab\tcr\rff\x0c", r"\u2028\x85", "<script>{{x}}", "", " ", r"\x6fther",
    "käse",
}  # fmt: skip


def test_hostile_names_are_escaped(backend: ModuleType, tmp_path: Path) -> None:
    for pid, comm in enumerate(HOSTILE, 100):
        # The kernel does not allow a newline in a cgroup's name.
        write_process(tmp_path / "host", pid, comm, cgroup=b"/" + comm.translate(None, b"\r\n"))
    with Collector(("pid", "cgroup"), procfs=str(tmp_path / "host")) as collector:
        assert collector.wait(processes.TIMEOUT)
        text = generate_latest(collector)
        says = scrape(collector)
        strict = openmetrics(collector).decode()  # type: ignore[no-untyped-call]
    assert all(line.isprintable() for line in text.decode().splitlines())
    families = text_string_to_metric_families(strict)  # type: ignore[no-untyped-call]
    assert Metrics(families).samples.keys() == says.samples.keys()
    comms = {dict(labels)["comm"] for name, labels in says.samples if name == "fastsmaps_processes"}
    assert comms == SHOWN
    promtool("check", "metrics", text=text)


@pytest.mark.host
def test_hostile_live_processes_are_escaped(backend: ModuleType) -> None:
    """As the test above, with live processes."""
    with processes.workload("idle") as child:
        for comm in HOSTILE:
            child.request("name", os.fsdecode(comm))
            with Collector("pid") as collector:
                assert collector.wait(processes.TIMEOUT)
                text = generate_latest(collector)
            assert all(line.isprintable() for line in text.decode().splitlines())
            labels = {"pid": str(child.pid), "comm": label_value(os.fsdecode(comm))}
            says = metrics.parse_metrics(text.decode())
            assert says.get("processes", **labels) == 1, labels
            promtool("check", "metrics", text=text)


# ---- sweeps


def test_no_sums_before_the_first_sweep(
    backend: ModuleType, host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scrape during the first sweep does not wait for it."""
    held = gate_samplers(monkeypatch)
    with held.gate:
        collector = Collector(procfs=str(host))
        assert held.waiting.wait(processes.TIMEOUT)
        says = scrape(collector)
        assert says.get("up") == 0
        assert not says.of("pss_bytes")
        assert says.get("sweep_timestamp_seconds") is None
        assert not says.of("coverage_processes", "outcome")
        assert not collector.wait(0)
    with collector:
        assert collector.wait(processes.TIMEOUT)
        assert scrape(collector).up


def test_last_values_stay_while_a_sweep_hangs(
    backend: ModuleType, host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last values are reported, with the time at which they were read."""
    held = gate_samplers(monkeypatch)
    with Collector(procfs=str(host), interval=0.01, budget=1) as collector:
        assert collector.wait(processes.TIMEOUT)
        with held.gate:
            assert held.waiting.wait(processes.TIMEOUT)
            write_process(host, 50, b"new")
            first = scrape(collector)
            assert first.up
            assert first.get("processes", comm="new") is None
            assert scrape(collector).samples == first.samples
        until(lambda: scrape(collector).get("processes", comm="new") == 1)


def test_failed_sweep_drops_old_values(backend: ModuleType, host: Path) -> None:
    """There are no old values, and new ones once a sweep succeeds again."""
    failures: list[Exception] = []
    away = host.with_name("away")
    with Collector(procfs=str(host), interval=0.01, on_error=failures.append) as collector:
        assert collector.wait(processes.TIMEOUT)
        assert scrape(collector).up
        os.rename(host, away)
        # A sweep during the rename does not fail: it reads no process, so it is not up either.
        until(lambda: bool(scrape(collector).get("sweep_errors_total")))
        says = scrape(collector)
        assert not says.up
        assert not says.of("pss_bytes")
        until(lambda: bool(failures))
        assert isinstance(failures[0], fastsmaps.Error)
        os.rename(away, host)
        # Not at once: a sweep during the rename may have taken some processes for gone, and these
        # are read anew within the budget.
        until(lambda: scrape(collector).get("pss_bytes", comm="web") == 800 * KB)
        assert scrape(collector).up


def test_processes_appear_and_disappear(backend: ModuleType, host: Path) -> None:
    with Collector(procfs=str(host), interval=0.01, budget=1) as collector:
        assert collector.wait(processes.TIMEOUT)
        write_process(host, 60, b"new", Pss=70)
        until(lambda: scrape(collector).get("pss_bytes", comm="new") == 70 * KB)
        shutil.rmtree(host / "60")
        until(lambda: scrape(collector).get("processes", comm="new") is None)


def test_small_budget_makes_sweeps_rarer(backend: ModuleType, host: Path) -> None:
    with Collector(procfs=str(host), interval=0.01, budget=1e-7) as collector:
        until(lambda: collector._sweeps.pause > 1)
        # Reading keeps its share, whatever the rest takes.
        sweeps = collector._sweeps
        assert 0.5e-7 <= sweeps._sampler.budget <= 1e-7


def test_metrics_are_the_same_until_the_next_sweep(backend: ModuleType, host: Path) -> None:
    with Collector(procfs=str(host), interval=3600) as collector:
        assert collector.wait(processes.TIMEOUT)
        assert collector.collect() is collector.collect()


def test_registry_takes_a_collector_once(backend: ModuleType, host: Path) -> None:
    registry = CollectorRegistry(auto_describe=True)
    with Collector(procfs=str(host)) as collector:
        registry.register(collector)
        with pytest.raises(ValueError, match="fastsmaps_pss_bytes"):
            registry.register(collector)
        assert collector.wait(processes.TIMEOUT)
        assert registry.get_sample_value("fastsmaps_pss_bytes", {"comm": "web"}) == 800 * KB
        part = generate_latest(registry.restricted_registry(["fastsmaps_uss_bytes"])).decode()
        assert {name for name, _ in metrics.parse_metrics(part).samples} == {"fastsmaps_uss_bytes"}


def test_fork_sweeps_by_itself(backend: ModuleType, host: Path) -> None:
    """The child has no thread until it is scraped; the parent's thread stays."""
    with Collector(procfs=str(host), interval=0.01) as collector:
        assert collector.wait(processes.TIMEOUT)

        def child() -> tuple[bool, float | None]:
            os.rename(host / "7", host / "70")
            write_process(host, 80, b"child", Pss=5)
            collector.collect()
            collector.wait(processes.TIMEOUT)
            until(lambda: scrape(collector).up)
            value = scrape(collector).get("pss_bytes", comm="child")
            collector.close()
            return collector._thread.is_alive(), value

        with warnings.catch_warnings():
            # Newer Pythons warn about just this: a fork of a process with threads.
            warnings.simplefilter("ignore", DeprecationWarning)
            assert processes.run_in_child(child) == (False, 5 * KB)
        count = scrape(collector).get("sweeps_total")
        until(lambda: scrape(collector).get("sweeps_total") != count)


def test_close_ends_the_thread(backend: ModuleType) -> None:
    before = threading.enumerate()
    with processes.same_descriptors():
        collector = Collector(("unit", "user"), interval=0.01)
        assert collector.wait(processes.TIMEOUT)
        collector.close()
        collector.close()
        assert threading.enumerate() == before
    with pytest.raises(TypeError):
        pickle.dumps(collector)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"by": "nonsense"}, ValueError, "by must be "),
        ({"by": ()}, ValueError, "by must be "),
        ({"by": ("comm", "nonsense")}, ValueError, "by must be "),
        ({"limit": 0}, ValueError, "limit must be at least 1, got 0"),
        ({"limit": True}, TypeError, "limit must be an int, got bool True"),
        ({"interval": 0}, ValueError, "interval must be above 0 and at most"),
        ({"interval": float("nan")}, ValueError, "interval must be above 0 and at most"),
        ({"budget": 0}, ValueError, "budget must be above 0 and at most 1, got 0"),
        ({"budget": 2}, ValueError, "budget must be above 0 and at most 1, got 2"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], error: type[Exception], text: str) -> None:
    before = threading.enumerate()
    with pytest.raises(error, match=f"^{text}"):
        Collector(**arguments)  # type: ignore[arg-type]
    assert threading.enumerate() == before


def test_missing_prometheus_client_names_the_extra() -> None:
    code = "import sys; sys.modules['prometheus_client'] = None\nimport fastsmaps.prometheus"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'pip install "prometheus_client>=0.20"' in done.stderr.splitlines()[-1]


def test_parts_of_pss(backend: ModuleType, tmp_path: Path) -> None:
    """A group has them if all its processes do; a kernel before 5.3 prints none."""
    write_process(tmp_path, 7, b"web", Pss=60, Pss_Anon=10, Pss_File=20, Pss_Shmem=30)
    write_process(tmp_path, 8, b"web", Pss=6, Pss_Anon=1, Pss_File=2, Pss_Shmem=3)
    write_process(tmp_path, 9, b"old", Pss=50)
    write_process(tmp_path, 10, b"both", Pss=0, Pss_Anon=0, Pss_File=0, Pss_Shmem=0)
    write_process(tmp_path, 11, b"both")
    says = sweep_metrics(tmp_path)
    parts = {part: says.get("pss_part_bytes", comm="web", part=part) for part in PARTS}
    assert parts == {"anon": 11 << 10, "file": 22 << 10, "shmem": 33 << 10}
    assert sum(value or 0 for value in parts.values()) == says.get("pss_bytes", comm="web")
    for comm in ("old", "both"):
        assert all(says.get("pss_part_bytes", comm=comm, part=part) is None for part in PARTS)


def test_mappings_max_and_limit(backend: ModuleType, tmp_path: Path) -> None:
    """The largest number in the group, and the limit; only if they were asked for."""
    host = small_host(tmp_path / "host")
    write_maps(host, 1000, p7=3, p8=5, p9=2)
    says = sweep_metrics(host, mappings=True)
    assert says.of("mappings_max") == {"web": 5, "db": 2}
    assert says.get("mappings_limit") == 1000
    assert sweep_metrics(host, limit=1, mappings=True).of("mappings_max") == {"web": 5, "other": 2}
    # Too large to be read; counted all the same.
    says = sweep_metrics(host, mappings=True, max_rss=1)
    assert says.of("mappings_max") == {"web": 5, "db": 2}
    says = sweep_metrics(host)
    assert says.get("mappings_limit") is None
    assert not any(name.startswith("fastsmaps_mappings") for name, _ in says.samples)
    (host / "sys/vm/max_map_count").unlink()
    assert sweep_metrics(host, mappings=True).get("mappings_limit") is None
    text = run("export", "--once", "--mappings", "--procfs", str(host)).stdout
    assert parse_metrics(text).of("mappings_max") == {"web": 5, "db": 2}
    assert "mappings_max{" not in run("export", "--once", "--procfs", str(host)).stdout


def test_mappings_of_live_processes(backend: ModuleType, idle: processes.Process) -> None:
    (row,) = fastsmaps.scan([idle.pid], mappings=True)
    with Collector("pid", mappings=True, limit=10_000) as collector:
        assert collector.wait(processes.TIMEOUT)
        says = scrape(collector)
    labels = {"pid": str(idle.pid), "comm": label_value(row.comm)}
    assert says.get("mappings_max", **labels) == row.mappings
