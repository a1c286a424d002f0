"""Container: its runtime, id and pod."""

from __future__ import annotations

from fastsmaps._model.values import Value
from fastsmaps._public import public

# Runtimes whose ids are names.
_NAMED = ("garden", "lxc", "nspawn")
_SHORT = 12  # digits of an id, as docker ps and its like show it


@public
class Container(Value):
    """A container, as its runtime names it in the path of its cgroup.

    ``str(container)`` is the name in groups: ``docker:1f2e3d4c5b6a``.
    """

    __slots__ = ("id", "inner", "pod", "qos", "runtime")

    #: "docker", "containerd", "crio", "podman", "lxc", "nspawn", "ecs", "garden"; or "cri" with the
    #: kubelet's cgroupfs driver: the paths of containerd and cri-dockerd are the same there.
    runtime: str
    #: The whole id, 64 digits. LXC, nspawn and Garden have names; "" if nspawn's is not known.
    id: str
    #: The uid of the pod, with "-"; a static pod's is a hash. Podman's pods have 64 digits. Or "".
    pod: str
    #: The pod's class in Kubernetes: "guaranteed", "burstable" or "besteffort"; otherwise "".
    qos: str
    #: The container within this one (kind, Docker in Docker), by a name that this one chose.
    inner: Container | None

    def __str__(self) -> str:
        return f"{self.runtime}:{self.short_id or '?'}"

    @property
    def short_id(self) -> str:
        """The id as its runtime's tools list it: 12 digits, or the name."""
        if self.runtime in _NAMED:
            return self.id
        digits, dash, number = self.id.partition("-")
        return digits[:_SHORT] + dash + number
