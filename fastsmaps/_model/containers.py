"""The container that a cgroup belongs to, by the names that container runtimes give."""

from __future__ import annotations

import re

from fastsmaps._model.systemd import below_slices, unit_at

# docker ps and its like show the first 12 digits.
_ID = "([0-9a-f]{12})[0-9a-f]{52}"
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
# runc's cgroupfs driver takes systemd's "slice:prefix:id" for a name.
_MIXED_UP = r"[^/:]+\.slice"
# kubelet's cgroupfs driver. A static pod has a hash for a uid.
_POD = rf"kubepods/(?:(?:burstable|besteffort)/)?pod(?:{_UUID}|[0-9a-f]{{32}})"
_TASK = "[0-9a-f]{32}"
_NAME = "([^/]+)"

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
        rf"libpod_parent/(?:[0-9a-f]{{64}}/)?libpod-{_ID}",  # a pod's
    ),
    # containerd and docker have the same path here.
    "cri": (rf"{_POD}/{_ID}",),
    "ecs": (rf"ecs/{_TASK}/([0-9a-f]{{12}})[0-9a-f]{{20}}(-[0-9]+)",),
    "garden": (rf"garden/({_UUID})",),
    "lxc": (rf"lxc\.payload[./]{_NAME}", rf"lxc/{_NAME}"),
    # The other cgroup of nspawn, "supervisor", is not in the container.
    "nspawn": (
        rf"systemd-nspawn@{_NAME}\.service/payload",
        rf"machine-{_NAME}\.scope/payload",
        r"([^/]+\.service)/payload",  # --keep-unit: the container's name is not in the path
        "payload",
    ),
}
_RUNTIMES = [
    (runtime, re.compile(rf"(?:{path})(?:/|\Z)"))
    for runtime, paths in _PATHS.items()
    for path in paths
]


def container_of(cgroup: str | None) -> str:
    """Return the container in a cgroup's path as "docker:1f2e3d4c5b6a"; "" if there is none.

    An id is cut to 12 digits; LXC and nspawn have names. In a container within a container this is
    the outer one: a container names the cgroups below its own as it likes, so only the names that
    follow the slices, or the unit there, are compared. The processes that look after a container
    (conmon, a shim, nspawn itself) are not in it.

    `cgroup` is as unit_of() takes it. Sources: cgroups(7); the cgroup drivers of runc, crun, the
    kubelet, CRI-O, Podman and LXC; systemd's src/nspawn/nspawn-cgroup.c.
    """
    _, names = below_slices(cgroup)
    return _container_at(names) or (_container_at(names[1:]) if unit_at(names) else "")


def _container_at(names: list[str]) -> str:
    path = "/".join(names)
    for runtime, pattern in _RUNTIMES:
        if found := pattern.match(path):
            # machined escapes "-" in the name of a machine's scope.
            name = "".join(found.groups()).replace(r"\x2d", "-")
            return f"{runtime}:{name or '?'}"
    return ""
