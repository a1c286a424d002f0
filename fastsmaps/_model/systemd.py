"""The systemd unit that a cgroup belongs to, by systemd's own rules."""

from __future__ import annotations

import re

# systemd.unit(5): the characters of a unit's name, and its types. No process runs in a template
# ("user@.service"), so the instance is not empty.
_NAME = r"[0-9A-Za-z:_.\\-]+"
_UNIT = re.compile(
    rf"{_NAME}(?:@[0-9A-Za-z:_.\\@-]+)?"
    r"\.(?:service|scope|socket|target|device|mount|automount|swap|timer|path)"
)
_SLICE = re.compile(rf"{_NAME}\.slice")
_USER_MANAGER = re.compile(r"user@[0-9]+\.service|capsule@[^/]+\.service")
_SESSION = re.compile(r"session-[0-9A-Za-z]+\.scope")
_MAX_NAME = 255  # characters of a unit's name


def unit_of(cgroup: str | None) -> str:
    r"""Return the unit in a cgroup's path; "" if there is none.

    The unit comes after the slices, and manages the cgroups below it itself, whatever their names.
    Only a user's manager (user@1000.service) and a session have units below them: these are shown
    with their manager, "user@1000.service/dbus.service", since each user has a dbus.service and
    the system has one too. Escapes such as ``\x2d`` are part of a unit's name.

    `cgroup` is a path in the hierarchy that systemd manages. A path with ".." lies outside of the
    reader's cgroup namespace; what is above it is not known, so neither is its unit.
    Sources: cgroups(7), cgroup_namespaces(7), systemd.slice(5), systemd's
    src/basic/cgroup-util.c.
    """
    manager, _, names = below_slices(cgroup)
    unit = unit_at(names)
    return f"{manager}/{unit}" if manager and unit else manager or unit


def slice_of(cgroup: str | None) -> str:
    """Return the slice of the unit in a cgroup's path: "user-1000.slice"; "" if there is none.

    A slice's name contains those of the slices around it. Slices below a user's manager do not
    count. `cgroup` is as unit_of() takes it. Sources: systemd.slice(5).
    """
    slices, _ = _split(names_in(cgroup))
    return slices[-1] if slices else ""


def below_slices(cgroup: str | None) -> tuple[str, list[str], list[str]]:
    """Return the user's manager or session, or ""; the slices below it; the names after those.

    Without a manager or session, they are all slices of the path. There are no names if the path
    is not known or lies outside of the cgroup namespace.
    """
    slices, names = _split(names_in(cgroup))
    unit = unit_at(names)
    if _USER_MANAGER.fullmatch(unit) or _SESSION.fullmatch(unit):
        return unit, *_split(names[1:])
    return "", slices, names


def names_in(cgroup: str | None) -> list[str]:
    """Return the names in a path, unescaped; none if it leads out of the cgroup namespace."""
    parts = [] if cgroup is None else cgroup.removesuffix(" (deleted)").split("/")
    # systemd prefixes "_" to a name that a file of the kernel could have.
    return [] if ".." in parts else [part.removeprefix("_") for part in parts if part]


def unit_at(names: list[str]) -> str:
    """Return the first name if it is a unit's, otherwise ""."""
    if not names or len(names[0]) > _MAX_NAME or not _UNIT.fullmatch(names[0]):
        return ""
    return names[0]


def _split(names: list[str]) -> tuple[list[str], list[str]]:
    at = 0
    while at < len(names) and _SLICE.fullmatch(names[at]):
        at += 1
    return names[:at], names[at:]
