"""The container and pod that a cgroup belongs to, by the names that container runtimes give."""

from __future__ import annotations

import re
from functools import lru_cache

from fastsmaps._model.container import Container
from fastsmaps._model.systemd import below_slices, unit_at

_ID = "(?P<id>[0-9a-f]{64})"
_NAME = "(?P<id>[^/]+)"
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_TASK = f"(?:[0-9a-f]{{32}}|{_UUID})"
# A static pod has a hash for a uid. In a slice's name "-" separates slices.
_UID = f"(?P<pod>{_UUID}|[0-9a-f]{{32}})"
_UID_IN_SLICE = _UID.replace("-[0-9a-f]{", "_[0-9a-f]{")
_QOS = "(?P<qos>burstable|besteffort)"
# The kubelet's two cgroup drivers; kind's kubelet has --cgroup-root=/kubelet.
_POD = rf"(?:kubelet/)?kubepods/(?:{_QOS}/)?pod{_UID}"
_POD_SLICE = rf"(?:[^/:]+-)?kubepods(?:-{_QOS})?-pod{_UID_IN_SLICE}\.slice"
_PODMAN_POD = r"(?P<pod>[0-9a-f]{64})"
# runc's cgroupfs driver takes systemd's "slice:prefix:id" for a name.
_MIXED_UP = rf"(?:{_POD_SLICE}|[^/:]+\.slice)"

# What follows the slices, or the unit that the runtime runs in. The first match counts.
_PATHS = {
    "docker": (
        rf"docker-{_ID}\.scope",
        rf"docker/{_ID}",
        rf"{_MIXED_UP}:docker:{_ID}",
        rf"ecs/{_TASK}/{_ID}",
    ),
    "containerd": (
        rf"(?:cri-containerd|nerdctl)-{_ID}\.scope",
        rf"(?:k8s\.io|default)/{_ID}",  # containerd's namespaces
        rf"{_MIXED_UP}:(?:cri-containerd|nerdctl):{_ID}",
    ),
    "crio": (rf"crio-{_ID}\.scope", rf"{_POD}/crio-{_ID}", rf"{_MIXED_UP}:crio:{_ID}"),
    "podman": (
        rf"libpod-{_ID}\.scope",
        rf"libpod-payload-{_ID}",  # --cgroups=split
        rf"libpod_parent/(?:{_PODMAN_POD}/)?libpod-{_ID}",
    ),
    # containerd and docker have the same path here.
    "cri": (rf"{_POD}/{_ID}",),
    "ecs": (rf"ecs/{_TASK}/(?P<id>[0-9a-f]{{32}}-[0-9]+)",),
    "garden": (rf"garden/(?P<id>{_UUID})",),
    "lxc": (rf"lxc\.payload[./]{_NAME}", rf"lxc/{_NAME}"),
    # The other cgroup of nspawn, "supervisor", is not in the container.
    "nspawn": (
        rf"systemd-nspawn@{_NAME}\.service/payload",
        rf"machine-{_NAME}\.scope/payload",
        r"(?P<id>[^/]+\.service)/payload",  # --keep-unit: the name is not in the path
        "(?P<id>)payload",
    ),
}
_RUNTIMES = [
    (runtime, re.compile(rf"(?:{path})(?:/|\Z)"))
    for runtime, paths in _PATHS.items()
    for path in paths
]
_POD_SLICES = [
    re.compile(_POD_SLICE),
    re.compile(rf"(?:machine|user)-libpod_pod_{_PODMAN_POD}\.slice"),
]
_PODS = [re.compile(rf"(?:{path})(?:/|\Z)") for path in (_POD, rf"libpod_parent/{_PODMAN_POD}")]


@lru_cache(maxsize=4096)
def container_of(cgroup: str | None) -> Container | None:
    """Return the container in a cgroup's path, None if there is none.

    In a container within a container this is the outer one: a container names the cgroups below
    its own as it likes, so only the names that follow the slices, or the unit there, are compared.
    The processes that look after a container (conmon, a shim, nspawn itself) are not in it.

    `cgroup` is as unit_of() takes it. Sources: cgroups(7); the cgroup drivers of runc, crun, the
    kubelet, CRI-O, Podman and LXC; systemd's src/nspawn/nspawn-cgroup.c.
    """
    _, slices, names = below_slices(cgroup)
    pod, qos = _pod_of_slices(slices)
    for path in ["/".join(names)] + ["/".join(names[1:])] * bool(unit_at(names)):
        for runtime, pattern in _RUNTIMES:
            if found := pattern.match(path):
                # machined escapes "-" in the name of a machine's scope.
                name = found["id"].replace(r"\x2d", "-")
                if not pod:
                    pod, qos = _pod(found)
                inner = container_of(path[found.end() :])
                return Container(runtime=runtime, id=name, pod=pod, qos=qos, inner=inner)
    return None


@lru_cache(maxsize=4096)
def pod_of(cgroup: str | None) -> tuple[str, str]:
    """Return the uid and the QoS class of the pod in a cgroup's path, "" and "" if there is none.

    A pod's cgroup also has processes that are in none of its containers, such as CRI-O's conmon.
    """
    if container := container_of(cgroup):
        return container.pod, container.qos
    _, slices, names = below_slices(cgroup)
    path = "/".join(names)
    found = next(filter(None, (pattern.match(path) for pattern in _PODS)), None)
    return _pod(found) if found else _pod_of_slices(slices)


def _pod_of_slices(slices: list[str]) -> tuple[str, str]:
    name = slices[-1] if slices else ""
    found = next(filter(None, (pattern.fullmatch(name) for pattern in _POD_SLICES)), None)
    return _pod(found) if found else ("", "")


def _pod(found: re.Match[str]) -> tuple[str, str]:
    groups = found.groupdict()
    uid = (groups.get("pod") or "").replace("_", "-")
    is_kubernetes = uid and "qos" in groups
    return uid, (groups["qos"] or "guaranteed") if is_kubernetes else ""
