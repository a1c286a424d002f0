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

    `cgroup` is the line of cgroup v2 or of v1's memory controller, as seen from any cgroup
    namespace. Sources: cgroups(7), systemd.slice(5), systemd's src/basic/cgroup-util.c.
    """
    if cgroup is None:
        return ""
    parts = cgroup.removesuffix(" (deleted)").split("/")
    names = [_unescaped(part) for part in parts if part not in ("", "..")]
    at = _after_slices(names, 0)
    unit = _unit_at(names, at)
    if not (_USER_MANAGER.fullmatch(unit) or _SESSION.fullmatch(unit)):
        return unit
    below = _unit_at(names, _after_slices(names, at + 1))
    return f"{unit}/{below}" if below else unit


def _unescaped(name: str) -> str:
    # systemd prefixes "_" to a name that a file of the kernel could have.
    return name.removeprefix("_")


def _after_slices(names: list[str], at: int) -> int:
    while at < len(names) and _SLICE.fullmatch(names[at]):
        at += 1
    return at


def _unit_at(names: list[str], at: int) -> str:
    if at >= len(names) or len(names[at]) > _MAX_NAME or not _UNIT.fullmatch(names[at]):
        return ""
    return names[at]
