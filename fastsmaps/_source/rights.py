"""The reader's rights, and the advice in errors and lists on what would allow more.

Sources: ptrace(2) ("Ptrace access mode checking"), capabilities(7), user_namespaces(7), proc(5)
(mount options); mm_access() in kernel/fork.c for CAP_PERFMON.
"""

from __future__ import annotations

import os

from fastsmaps._errors import is_foreign
from fastsmaps._model.values import Value

# Bits of the masks in status: include/uapi/linux/capability.h.
_PTRACE, _ADMIN, _PERFMON = 19, 21, 38
# The inode of the first user namespace: PROC_USER_INIT_INO in include/linux/proc_ns.h.
_FIRST_USER_NAMESPACE = 0xEFFFFFFD
# Security modules that can refuse a reader: unlike yama they check PTRACE_MODE_READ.
_MODULES = {
    "apparmor": "AppArmor",
    "selinux": "SELinux",
    "smack": "Smack",
    "landlock": "Landlock",
    "bpf": "BPF LSM",
}
# ioctl_nsfs(2).
_NS_GET_USERNS, _NS_GET_PARENT = 0xB701, 0xB702
#: The reason of a refusal by hidepid=1.
HIDEPID_FORBIDS = "the mount option hidepid forbids it"
_HIDING = (b"2", b"invisible", b"4", b"ptraceable")


class Rights(Value):
    """A thread's rights, as far as the kernel reports them.

    ``effective``, ``permitted`` and ``bounding`` are masks of capabilities, ``initial`` is whether
    the thread is in the first user namespace, ``modules`` names the security modules that may
    refuse, ``label`` is the thread's own label if one of them confines it. A value that could not
    be read is None.
    """

    __slots__ = ("bounding", "effective", "initial", "label", "modules", "permitted")

    effective: int | None
    bounding: int | None
    initial: bool | None
    modules: tuple[str, ...] | None
    label: str | None
    permitted: int | None

    def __init__(
        self,
        effective: int | None = None,
        bounding: int | None = None,
        initial: bool | None = None,
        modules: tuple[str, ...] | None = None,
        label: str | None = None,
        permitted: int | None = None,
    ) -> None:
        super().__init__(
            effective=effective,
            bounding=bounding,
            initial=initial,
            modules=modules,
            label=label,
            permitted=permitted,
        )

    def has(self, capability: int) -> bool:
        """Whether the capability is effective; being in the bounding set is not enough."""
        return self.effective is not None and bool(self.effective >> capability & 1)


def own_rights() -> Rights:
    """Return the current rights of the calling thread; this takes 150 us."""
    masks: list[int | None] = [None, None, None]
    try:
        # Capabilities belong to a thread, not to the process.
        with open("/proc/thread-self/status", "rb") as file:
            status = file.read()
        for i, label in enumerate((b"\nCapEff:", b"\nCapBnd:", b"\nCapPrm:")):
            masks[i] = int(status.partition(label)[2].split(maxsplit=1)[0], 16)
    except (OSError, ValueError, IndexError) as error:
        if is_foreign(error):
            raise
    initial: bool | None = None
    try:
        initial = os.stat("/proc/self/ns/user").st_ino == _FIRST_USER_NAMESPACE
    except FileNotFoundError:
        initial = True if masks[0] is not None else None  # a kernel without user namespaces
    except OSError as error:
        if is_foreign(error):
            raise
    return Rights(masks[0], masks[1], initial, _active_modules(), _own_label(), masks[2])


def _own_label() -> str | None:
    """Return the label of AppArmor, SELinux or Smack that confines this thread; None if none does.

    A container often cannot list the modules, but its profile has a name: docker-default (enforce).
    """
    try:
        with open("/proc/thread-self/attr/current", "rb") as file:
            label = file.read().decode("ascii", "replace").strip("\0\n ")
    except OSError as error:  # EINVAL without such a module
        if is_foreign(error):
            raise
        return None
    return None if not label or "unconfined" in label else label


def _active_modules() -> tuple[str, ...] | None:
    try:
        with open("/sys/kernel/security/lsm", encoding="ascii", errors="replace") as text:
            active = text.read().strip().split(",")
    except OSError as error:
        if is_foreign(error):
            raise
        return None
    return tuple(name for key, name in _MODULES.items() if key in active)


# ---- what would help


def enough(rights: Rights, *, perfmon: bool = True) -> str:
    """Return advice on what would allow a read that was refused, given the reader's rights.

    `perfmon` is for maps, smaps and smaps_rollup, which CAP_PERFMON opens on newer kernels (and
    CAP_SYS_ADMIN, which includes it).
    """
    if rights.has(_PTRACE):
        return _not_a_capability(rights, perfmon)
    if rights.permitted is not None and rights.permitted >> _PTRACE & 1:
        return _NOT_EFFECTIVE
    text = "CAP_SYS_PTRACE would be enough"
    held = [
        name
        for name, bit in (("CAP_PERFMON", _PERFMON), ("CAP_SYS_ADMIN", _ADMIN))
        if rights.has(bit)
    ]
    if perfmon and held and rights.initial is False:
        text += f" ({held[0]} of this reader counts only in its own user namespace)"
    elif perfmon and held:
        text += f" ({held[0]}, which this reader has, is not enough on this kernel)"
    elif perfmon:
        text += ", and CAP_PERFMON on newer kernels"
    text += _where_it_has_to_be(rights)
    if perfmon:
        text += (
            "; without them only a process of the same user and group that is dumpable can be read"
        )
    return text


# A capability that a program dropped, or that setcap gave without the flag e.
_NOT_EFFECTIVE = (
    "this reader has CAP_SYS_PTRACE, but only permitted, not effective: raise it with capset(2), "
    "or give the program the file capability cap_sys_ptrace+ep"
)


def _where_it_has_to_be(rights: Rights) -> str:
    if rights.initial is False:
        return ", held outside of this reader's user namespace"
    if rights.bounding is None:
        return ""
    if not rights.bounding >> _PTRACE & 1:
        return "; it is not in the bounding set either, so what starts the reader has to grant it"
    return (
        "; this reader has it only in its bounding set, not effective: run it as uid 0, or give it "
        "an ambient or a file capability"
    )


def _not_a_capability(rights: Rights, perfmon: bool) -> str:
    """Return advice for a reader that has CAP_SYS_PTRACE and was refused."""
    if rights.initial is False:
        return (
            "CAP_SYS_PTRACE of this reader counts only in its own user namespace; to read other "
            "processes, run the reader outside of it, with CAP_SYS_PTRACE there"
        )
    if rights.modules:
        modules = f"a security module ({', '.join(rights.modules)})"
    else:
        modules = "a security module (AppArmor, SELinux, Landlock or another)"
    text = f"this reader has CAP_SYS_PTRACE, so something else refuses, most likely {modules}"
    if rights.label:
        text += f", which confines this reader as {rights.label}"
    if perfmon and not rights.has(_PERFMON):
        text += "; newer kernels do not ask it if the reader has CAP_PERFMON"
    return text


def enough_against_hidepid(rights: Rights) -> str:
    """Return advice on what would show a process that the mount option hidepid hides or locks."""
    # Members of the group in the option gid see the process under hidepid=1 and 2 too, but need
    # the right to its memory as without hidepid; hidepid=4 ignores the group (all seen on 6.18).
    if rights.has(_PTRACE):
        return _not_a_capability(rights, perfmon=False)
    if rights.permitted is not None and rights.permitted >> _PTRACE & 1:
        return _NOT_EFFECTIVE
    return (
        "CAP_SYS_PTRACE would be enough"
        f"{_where_it_has_to_be(rights)}; the group of the mount option gid alone would not"
    )


# ---- hidden processes


def _traces_all(procfs: str, rights: Rights) -> bool:
    """Whether CAP_SYS_PTRACE of this reader counts for all processes of the procfs.

    Outside the first user namespace a capability counts only for processes of its own namespace
    and of those below.
    """
    if not rights.has(_PTRACE):
        return False
    return rights.initial is not False or _is_below_us(procfs)


def _is_below_us(procfs: str) -> bool:
    """Whether our user namespace, or one inside it, owns the pid namespace of the procfs."""
    import fcntl

    fd = -1
    try:
        own = os.stat("/proc/thread-self/ns/user").st_ino
        # The first process of the procfs; EACCES if we may not trace it.
        fd = os.open(f"{procfs}/1/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        question = _NS_GET_USERNS
        while True:
            # EPERM for a namespace outside of ours.
            fd, last = fcntl.ioctl(fd, question), fd
            os.close(last)
            if os.fstat(fd).st_ino == own:
                return True
            question = _NS_GET_PARENT
    except OSError:
        return False
    finally:
        if fd >= 0:
            os.close(fd)


def mounts() -> list[tuple[list[bytes], list[bytes]]]:
    """Return the mounts in this thread's namespace, none if they cannot be read.

    Each is the words before " - " (the device, the root and the mount point are 2, 3 and 4) and
    those after it (the type, the source, the superblock's options): proc_pid_mountinfo(5).
    """
    try:
        # The thread's: the main thread may have exited.
        with open("/proc/thread-self/mountinfo", "rb") as file:
            lines = file.read().splitlines()
    except OSError as error:
        if is_foreign(error):
            raise
        return []
    parts = (line.partition(b" - ") for line in lines)
    return [(mount.split(b" "), kind.split(b" ")) for mount, _, kind in parts]


def mount_options(device: int) -> dict[bytes, bytes] | None:
    """Return the options of the procfs mounted with this device; None if none is.

    They belong to the superblock. A procfs mounted only in another mount namespace is not found.
    """
    number = b"%d:%d" % (os.major(device), os.minor(device))
    for mount, kind in mounts():
        if mount[2:3] == [number] and kind[0] == b"proc":
            return dict(option.partition(b"=")[::2] for option in kind[-1].split(b","))
    return None


def hidden_by(procfs: str) -> str | None:
    """Return the mount option that hides processes from this reader, as "hidepid=invisible".

    None means that all are listed, or that it is not known. Under hidepid=2 (invisible) and 4
    (ptraceable) a process that the reader may not trace is not listed, so that a scan looks
    complete but is not.
    """
    try:
        options = mount_options(os.stat(procfs).st_dev) or {}
    except OSError as error:
        if is_foreign(error):
            raise
        return None
    value = options.get(b"hidepid", b"0")
    if value not in _HIDING:
        return None
    rights = own_rights()
    if _traces_all(procfs, rights):
        return None
    group = int(options.get(b"gid", b"0"))
    in_group = group == os.getegid() or group in os.getgroups()
    # The option is a group id of the first user namespace, and hidepid=4 ignores it.
    if in_group and rights.initial is not False and value in _HIDING[:2]:
        return None
    return f"hidepid={value.decode('ascii')}"
