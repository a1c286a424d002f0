"""The advice for a reader without enough rights, for each combination of facts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastsmaps._source.rights import Rights, enough, enough_against_hidepid, hidden_by, own_rights
from support import linux, processes

PTRACE, ADMIN, PERFMON = 1 << 19, 1 << 21, 1 << 38
ALL = (1 << 41) - 1


def rights(
    effective: int = 0,
    bounding: int = ALL,
    initial: bool = True,
    modules: tuple[str, ...] | None = None,
) -> Rights:
    return Rights(effective, bounding, initial, modules)


def test_an_ordinary_user_is_advised_cap_sys_ptrace() -> None:
    text = enough(rights())
    assert text.startswith("CAP_SYS_PTRACE would be enough, and CAP_PERFMON on newer kernels")
    assert "only in its bounding set, not effective" in text
    assert "same user and group" in text
    assert "CAP_PERFMON" not in enough(rights(), perfmon=False)


def test_a_permitted_capability_is_not_advised() -> None:
    has_it = Rights(0, ALL, True, permitted=PTRACE)
    for advice in (enough(has_it), enough_against_hidepid(has_it)):
        assert advice.startswith(
            "this reader has CAP_SYS_PTRACE, but only permitted, not effective"
        )
        assert "would be enough" not in advice
    without = Rights(0, ALL, True, permitted=PERFMON)
    assert enough(without) == enough(rights())


def test_advice_mentions_the_bounding_set() -> None:
    assert "only in its bounding set" in enough(rights())
    text = enough(rights(bounding=ALL & ~PTRACE))
    assert "not in the bounding set either" in text


@pytest.mark.parametrize(("held", "name"), [(PERFMON, "CAP_PERFMON"), (ADMIN, "CAP_SYS_ADMIN")])
def test_a_held_capability_is_not_advised(held: int, name: str) -> None:
    text = enough(rights(held))
    assert f"{name}, which this reader has, is not enough on this kernel" in text
    assert text.startswith("CAP_SYS_PTRACE would be enough")
    assert "on newer kernels" not in text
    assert "counts only in its own user namespace" in enough(rights(held, initial=False))


def test_with_ptrace_the_advice_names_security_modules() -> None:
    for advice in (enough(rights(ALL)), enough_against_hidepid(rights(PTRACE))):
        assert "would be enough" not in advice
        assert "a security module (AppArmor, SELinux, Landlock or another)" in advice
    assert "a security module (Landlock)" in enough(rights(PTRACE, modules=("Landlock",)))
    confined = Rights(PTRACE, ALL, True, ("AppArmor",), "docker-default (enforce)")
    text = "a security module (AppArmor), which confines this reader as docker-default (enforce)"
    assert text in enough(confined)
    # mm_access() does not ask the module if the reader has CAP_PERFMON.
    assert "CAP_PERFMON" in enough(rights(PTRACE))
    assert "CAP_PERFMON" not in enough(rights(PTRACE | PERFMON))


def test_capabilities_of_a_user_namespace_are_not_enough() -> None:
    for advice in (enough, enough_against_hidepid):
        with_ptrace = advice(rights(ALL, initial=False))
        assert "only in its own user namespace" in with_ptrace
        assert "would be enough" not in with_ptrace
        assert "outside of this reader's user namespace" in advice(rights(initial=False))


def test_against_hidepid_only_ptrace_is_advised() -> None:
    text = enough_against_hidepid(rights())
    assert text.startswith("CAP_SYS_PTRACE would be enough")
    assert text.endswith("the group of the mount option gid alone would not")
    assert "CAP_PERFMON" not in enough_against_hidepid(rights(PERFMON))


def test_unknown_rights_get_the_full_advice() -> None:
    """The reader has no /proc of its own."""
    assert enough(Rights()) == (
        "CAP_SYS_PTRACE would be enough, and CAP_PERFMON on newer kernels; without them only a "
        "process of the same user and group that is dumpable can be read"
    )


def test_own_rights_are_current() -> None:
    mask = next(
        int(line.split()[1], 16)
        for line in Path("/proc/thread-self/status").read_text().splitlines()
        if line.startswith("CapEff:")
    )
    assert own_rights().effective == mask

    def without() -> tuple[int | None, int | None]:
        linux.keep_capabilities()
        return own_rights().effective, own_rights().permitted

    assert processes.run_in_child(without) == (0, 0)


def test_an_ordinary_directory_hides_nothing(tmp_path: Path) -> None:
    assert hidden_by(str(tmp_path)) is None
    assert hidden_by("/nowhere") is None
    if not linux.hides_processes():
        assert hidden_by("/proc") is None


@pytest.mark.parametrize(
    ("options", "hides"),
    [
        ("hidepid=0", False),
        ("hidepid=1,gid=4321", False),
        ("hidepid=2,gid=4321", True),
        ("hidepid=4", True),
    ],
)
def test_hidepid_of_the_mount_is_reported(options: str, hides: bool) -> None:
    def inside() -> tuple[str | None, str | None]:
        def stranger() -> str | None:
            linux.become(linux.NOBODY if os.geteuid() == 0 else 0)
            return hidden_by("/proc")

        return hidden_by("/proc"), processes.run_in_child(stranger)

    try:
        with_ptrace, without = processes.run_in_namespaces(inside, options)
    except linux.Unavailable as error:
        pytest.skip(f"no /proc with {options}: {error}")
    assert with_ptrace is None
    assert (without is not None) == hides
    assert without is None or without.startswith("hidepid=")


def test_a_user_namespace_does_not_lift_hidepid() -> None:
    """All capabilities inside the namespace show no process outside, nor does group 0."""
    is_root = os.geteuid() == 0

    def inside() -> str | None:
        def stranger() -> str | None:
            if is_root:
                linux.become(linux.NOBODY)
                # Then its own files in /proc belong to it.
                linux.LIBC.prctl(linux.PR_SET_DUMPABLE, 1, 0, 0, 0)
            uid, gid = os.geteuid(), os.getegid()
            linux.call("unshare", linux.CLONE_NEWUSER)
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
            Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
            assert (own_rights().effective or 0) & PTRACE
            return hidden_by("/proc")

        return processes.run_in_child(stranger)

    try:
        hidden = processes.run_in_namespaces(inside, "hidepid=2")
    except linux.Unavailable as error:
        pytest.skip(f"no /proc with hidepid=2: {error}")
    assert hidden in ("hidepid=2", "hidepid=invisible")


def test_a_member_of_the_mounts_gid_sees_all() -> None:
    """The group is that of the option gid, which hidepid=4 ignores."""

    def inside() -> str | None:
        def member() -> str | None:
            linux.keep_capabilities()
            return hidden_by("/proc")

        return processes.run_in_child(member)

    # The group's id in the first user namespace is not known in another one.
    inner = os.geteuid() != 0
    for options, hides in ((f"hidepid=2,gid={os.getegid()}", inner), ("hidepid=4", True)):
        try:
            assert (processes.run_in_namespaces(inside, options) is not None) == hides
        except linux.Unavailable as error:
            pytest.skip(f"no /proc with {options}: {error}")
