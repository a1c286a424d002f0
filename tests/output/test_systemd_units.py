"""Units: systemd's names in a cgroup's path."""

from __future__ import annotations

import os

import pytest

from fastsmaps import ProcessTotals
from fastsmaps._model.grouping import Keys
from fastsmaps._model.stat import texts_of

pytestmark = pytest.mark.core

MANAGER = "/user.slice/user-1000.slice/user@1000.service"


@pytest.mark.parametrize(
    ("line", "unit"),
    [
        ("0::/system.slice/ssh.service", "ssh.service"),
        ("0::/init.scope", "init.scope"),
        ("0::/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service"),
        ("0::/system.slice/ssh.service/sub/other.service", "ssh.service"),
        ("0::/user.slice/user-1000.slice/session-3.scope", "session-3.scope"),
        ("0::/user.slice/user-1000.slice/session-c1.scope/x", "session-c1.scope"),
        (f"0::{MANAGER}/app.slice/dbus.service", "user@1000.service/dbus.service"),
        (f"0::{MANAGER}/init.scope", "user@1000.service/init.scope"),
        (f"0::{MANAGER}", "user@1000.service"),
        (f"0::{MANAGER}/app.slice/app-a\\x2db-1.scope/x", r"user@1000.service/app-a\x2db-1.scope"),
        (r"0::/system.slice/dev-disk-by\x2duuid.swap", r"dev-disk-by\x2duuid.swap"),
        ("0::/system.slice/_cgroup.service", "cgroup.service"),
        ("0::/_memory.slice/x.mount", "x.mount"),
        ("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-a.scope", "cri-containerd-a.scope"),
        ("0::/system.slice/docker-0123.scope/init.scope", "docker-0123.scope"),
        ("0::/system.slice/gone.service (deleted)", "gone.service"),
        # Outside of the reader's cgroup namespace: these may be below another unit, or a manager.
        ("0::/../../system.slice/ssh.service", ""),
        ("0::/../ssh.service", ""),
        # Nor is it certain that another hierarchy's path begins at its root.
        ("4:memory:/..\n1:name=systemd:/system.slice/x.service\n0::/..", ""),
        ("9:memory:/system.slice/old.service\n1:name=systemd:/x\n0::/", "old.service"),
        ("4:cpu,memory:/user.slice/user-0.slice/session-1.scope", "session-1.scope"),
        ("0::/", ""),
        ("0::/user.slice", ""),
        ("0::/docker/0123", ""),
        ("0::/a/b.service", ""),
        ("0::/system.slice/getty@.service", ""),
        ("0::/system.slice/@x.service", ""),
        ("0::/system.slice/.service", ""),
        ("0::/system.slice/a b.service", ""),
        ("0::/system.slice/a@b.slice", ""),
        ("0::/system.slice/x.unit", ""),
        ("0::/system.slice/" + "x" * 248 + ".service", ""),
        (r"0::/system.slice/x.service\012", ""),
        ("1:cpu:/x", ""),
    ],
)  # fmt: skip
def test_unit_of_a_cgroup(line: str, unit: str) -> None:
    facts = texts_of({"cgroup": os.fsencode(line) + b"\n"}, 1, "/proc/1")
    assert Keys("unit")(ProcessTotals(1, "read", **facts)) == unit
