"""Containers: the names that runtimes give to cgroups."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from types import ModuleType

import pytest

import fastsmaps
from fastsmaps._backend.bounded import cut
from fastsmaps._model.containers import container_of, pod_of
from fastsmaps._model.grouping import Keys
from fastsmaps._model.process_totals import managed_cgroups
from fastsmaps._model.stat import OUTSIDE, texts_of
from fastsmaps._model.systemd import slice_of
from support.commands import json_rows, run
from support.metrics import parse_metrics, write_process

ID = "0123456789abcdef" * 4
INNER = "fedcba9876543210" * 4
POD = "/kubepods/burstable/pod4a7c1c1e-8f0e-4a53-9d0b-2f5a3f1e9a10"


def blocks() -> list[tuple[str, list[str], bytes]]:
    """Return the heading, the container, unit and pod, and the text of each of cgroups.txt."""
    text = (Path(__file__).parents[1] / "data/cgroups.txt").read_text()
    found = []
    for block in text.split("\n\n")[1:]:
        heading, *names, lines = block.rstrip("\n").split("\n", 4)
        names = [line.partition(": ")[2].removeprefix("-") for line in names]
        found.append((heading, names, lines.encode() + b"\n"))
    return found


def row_of(text: bytes) -> fastsmaps.ProcessTotals:
    return fastsmaps.ProcessTotals(1, "read", **texts_of({"cgroup": text}, 1, "/proc/1"))


@pytest.mark.parametrize(("heading", "names", "text"), blocks())
def test_containers_of_many_runtimes(heading: str, names: list[str], text: bytes) -> None:
    row = row_of(text)
    pod, _, qos = names[2].partition(" ")
    assert list(Keys("container,unit,pod").values(row)) == [*names[:2], pod], heading
    paths = managed_cgroups(row)
    assert [found for path in paths if any(found := pod_of(path))] == [(pod, qos)] * bool(pod)
    container = row.container
    if container is None:
        assert names[0] == ""
        return
    # Whole ids, as kube-state-metrics and `crictl ps --no-trunc` show them.
    assert str(container) == names[0]
    assert (container.pod, container.qos) == (pod, qos)
    if container.runtime not in ("ecs", "garden", "lxc", "nspawn"):
        assert len(container.id) == 64
        assert container.id in text.decode()


def test_a_container_in_a_container() -> None:
    """The outer one counts; the inner one's name is the outer one's choice."""
    kind = f"/docker/{ID}/kubelet{POD}/{INNER}"
    found = container_of(kind)
    assert found is not None
    assert (found.runtime, found.id, found.pod) == ("docker", ID, "")
    pod = POD.rpartition("/pod")[2]
    inner = found.inner
    assert inner is not None
    assert (inner.runtime, inner.id, inner.pod, inner.qos, inner.inner) == (
        "cri", INNER, pod, "burstable", None,
    )  # fmt: skip
    found = container_of(f"/docker/{ID}/docker/{INNER}")
    assert found is not None
    assert str(found.inner) == "docker:fedcba987654"
    assert pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize(
    ("cgroup", "pod"),
    [
        (None, ("", "")),
        ("/", ("", "")),
        ("/kubepods.slice", ("", "")),
        ("/kubepods/besteffort", ("", "")),
        (POD, ("4a7c1c1e-8f0e-4a53-9d0b-2f5a3f1e9a10", "burstable")),
        (f"{POD}x", ("", "")),
        (f"/..{POD}", ("", "")),
        # A program names the cgroups below its own as it likes.
        (f"/system.slice/web.service{POD}", ("", "")),
        (f"/docker/{ID}{POD}/{INNER}", ("", "")),
    ],
)
def test_pod_of_a_path(cgroup: str | None, pod: tuple[str, str]) -> None:
    assert pod_of(cgroup) == pod


@pytest.mark.parametrize(
    ("cgroup", "name"),
    [
        (None, ""),
        ("/init.scope", ""),
        ("/system.slice/web.service/a.slice/x.service", "system.slice"),
        ("/user.slice/user-1000.slice/session-2.scope", "user-1000.slice"),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/dbus.service",
            "user-1000.slice",
        ),
        ("/kubepods.slice/kubepods-besteffort.slice/x.scope", "kubepods-besteffort.slice"),
        ("/system.slice", "system.slice"),
        ("/../system.slice/web.service", ""),
        ("/docker/a.slice", ""),
    ],
)
def test_slice_of_a_path(cgroup: str | None, name: str) -> None:
    assert slice_of(cgroup) == name


@pytest.mark.parametrize(
    ("cgroup", "container"),
    [
        (None, ""),
        ("", ""),
        ("/", ""),
        (f"/docker/{ID} (deleted)", "docker:0123456789ab"),
        # Names below a container are its own choice.
        (f"/docker/{ID}/docker/{INNER}", "docker:0123456789ab"),
        (f"/lxc.payload.web/docker/{INNER}", "lxc:web"),
        (f"/system.slice/crio-{ID}.scope/system.slice/docker-{INNER}.scope", "crio:0123456789ab"),
        # So are those below a program that is in no container.
        (f"/a/docker/{ID}", ""),
        (f"/system.slice/web.service/sub/docker-{ID}.scope", ""),
        (f"/system.slice/web.service/a.slice/docker-{ID}.scope", ""),
        (f"/x.slice/y.slice/z.service/w.service/libpod-payload-{ID}", ""),
        ("/system.slice/web.service/supervisor/payload", ""),
        # Outside of the reader's cgroup namespace what is above is not known.
        (f"/../{ID}", ""),
        (f"/../docker-{ID}.scope", ""),
        (f"/../../docker/{ID}", ""),
        (f"/../..{POD}/{ID}", ""),
        # Whole names count, and whole ids.
        (f"/docker/{ID}0", ""),
        (f"/docker/{ID[1:]}", ""),
        (f"/docker/{ID.upper()}", ""),
        (f"/docker-{ID}.scope.d", ""),
        (f"/xdocker/{ID}", ""),
        ("/docker", ""),
        ("/docker/buildkit", ""),
        (POD, ""),
        (f"{POD}/crio-conmon-{ID}", ""),
        (f"{POD}/crio-{ID}/container", "crio:0123456789ab"),
        (f"/kubepods/podx/{ID}", ""),
        (f"/k8s.io/{ID}", "containerd:0123456789ab"),
        (f"/default/{ID}", "containerd:0123456789ab"),
        (f"/system.slice/nerdctl-{ID}.scope", "containerd:0123456789ab"),
        (f"/system.slice:docker:{ID}", "docker:0123456789ab"),
        (f"/libpod_parent/{INNER}/libpod-{ID}", "podman:0123456789ab"),
        (f"/ecs/{ID[:32]}/{INNER}", "docker:fedcba987654"),
        # Two containers of a task on Fargate differ only in the number.
        (f"/ecs/{ID[:32]}/{ID[:32]}-1234", "ecs:0123456789ab-1234"),
        ("/lxc.payload/web", "lxc:web"),
        ("/lxc.payload.a.b\x1b", "lxc:a.b\x1b"),
        ("/lxc.monitor/web", ""),
        ("/user.slice/user-1000.slice/session-2.scope/lxc.payload.web", "lxc:web"),
        (r"/machine.slice/machine-my\x2dbox.scope/payload", "nspawn:my-box"),
        ("/machine.slice/machine-deb.scope", ""),
        ("/machine.slice/machine-deb.scope/supervisor", ""),
        ("/payload", "nspawn:?"),
        ("/payloads", ""),
    ],
)
def test_container_of_a_path(cgroup: str | None, container: str) -> None:
    assert str(container_of(cgroup) or "") == container


def test_hierarchies_of_v1() -> None:
    """Systemd's hierarchy first, then the memory controller's; a stray one on v2 does not count."""
    docker, lxc = f"/docker/{ID}".encode(), b"/lxc.payload.web"
    for text, cgroup, container in (
        (b"4:memory:/a\n1:name=systemd:%s\n0::/\n" % lxc, "/a", "lxc:web"),
        (b"4:memory:%s\n1:name=systemd:/a\n0::/\n" % lxc, lxc.decode(), "lxc:web"),
        (b"4:memory:%s\n1:name=systemd:%s\n" % (docker, lxc), docker.decode(), "lxc:web"),
        (b"4:memory:/\n1:name=systemd:/\n0::%s\n" % lxc, "/", "lxc:web"),
        (b"2:cpu:/\n1:name=systemd:%s\n" % lxc, None, "lxc:web"),
        (b"1:name=systemd:%s\n0::/a\n" % lxc, "/a", ""),
        (b"1:name=systemd:/\n0::%s\n" % lxc, lxc.decode(), "lxc:web"),
        (cut(b"1:name=systemd:%s\n0::/a%s\n" % (lxc, b"a" * 200), 100), None, ""),
        (b"", None, ""),
    ):
        row = row_of(text)
        assert (row.cgroup, Keys("container")(row)) == (cgroup, container), text
        assert row.systemd_cgroup != row.cgroup or row.cgroup is None


def test_container_is_a_word_everywhere(backend: ModuleType, tmp_path: Path) -> None:
    write_process(tmp_path, 1, cgroup=b"/init.scope", Pss=10)
    write_process(tmp_path, 2, cgroup=f"/docker/{ID}".encode(), Pss=20)
    write_process(tmp_path, 3, cgroup=f"/system.slice/docker-{ID}.scope/x".encode(), Pss=30)
    write_process(tmp_path, 4, cgroup=b"/lxc.payload.a\x1b\xff", Pss=40)
    # v1: systemd has not made the cgroup in the memory hierarchy.
    write_process(tmp_path, 5, Pss=50)
    (tmp_path / "5/cgroup").write_bytes(b"4:memory:/\n1:name=systemd:/lxc.payload.b\n0::/\n")
    expected = {"docker:0123456789ab": 50, "lxc:b": 50, "lxc:a\x1b\udcff": 40, "": 10}

    for workers in (1, 2):
        groups = fastsmaps.scan(procfs=tmp_path, cgroup=True, workers=workers).group_by("container")
        assert {name: (group.totals.pss or 0) // 1024 for name, group in groups.items()} == expected
    with fastsmaps.Sampler(procfs=tmp_path, cgroup=True) as sampler:
        assert dict.fromkeys(sampler.sweep().group_by("container")).keys() == expected.keys()
    archive = tmp_path / "saved.tar"
    fastsmaps.capture(archive, procfs=tmp_path)
    procfs = ("--procfs", str(archive))
    rows = json_rows("ps", "--by", "container", *procfs)
    assert {row["container"]: row["pss"] // 1024 for row in rows} == expected
    table = run("ps", "--by", "container", *procfs).stdout
    assert "(no container)" in table
    assert r"lxc:a\x1b\xff" in table
    metrics = parse_metrics(run("export", "--once", "--by", "container", *procfs).stdout)
    assert metrics.get("processes", container_id=f"docker://{ID}", uid="") == 2


def test_no_names_in_a_private_cgroup_namespace(tmp_path: Path, backend: ModuleType) -> None:
    """If process 1 is outside of the reader's namespace, all paths begin in the middle."""
    write_process(tmp_path, 1, cgroup=b"/../../../init.scope", Pss=10)
    # In truth all of these are below web.service, the reader's own unit.
    write_process(tmp_path, 2, cgroup=b"/other.service", Pss=20)
    write_process(tmp_path, 3, cgroup=f"/docker/{ID}".encode(), Pss=30)
    scan = fastsmaps.scan(procfs=tmp_path, cgroup=True)
    for word in ("unit", "slice", "container", "pod"):
        assert list(scan.group_by(word)) == [""]
    assert [row.container for row in scan] == [None] * 3
    assert {row.systemd_cgroup for row in scan} == {OUTSIDE}
    assert [row.cgroup for row in scan] == [
        "/../../../init.scope", "/other.service", f"/docker/{ID}",
    ]  # fmt: skip
    for arguments in (("--cgroup",), ("--by", "unit")):
        says = run("ps", *arguments, "--procfs", str(tmp_path))
        assert says.stdout.count("--cgroupns=host") == 1
        assert "(no unit)" in says.stdout or "unit" not in arguments
    assert "--cgroupns" not in run("ps", "--procfs", str(tmp_path)).stdout
    once = run("export", "--once", "--by", "pod", "--procfs", str(tmp_path))
    assert once.stderr.count("--cgroupns=host") == 1
    assert "# TYPE fastsmaps_pss_bytes gauge" in once.stdout
    # A container's own processes, whose first one is at the top, have the names that they gave.
    shutil.rmtree(tmp_path / "1")
    write_process(tmp_path, 1, cgroup=b"/init.scope", Pss=10)
    scan = fastsmaps.scan(procfs=tmp_path, cgroup=True)
    assert set(scan.group_by("unit")) == {"init.scope", "other.service", ""}
