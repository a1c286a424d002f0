"""The kind of a mapping, by name and device: proc_pid_maps(5), fs/proc/task_mmu.c, mm/shmem.c."""

from __future__ import annotations

_DELETED = b" (deleted)"
_SHMEM = (b"/memfd:", b"/SYSV", b"/dev/shm/", b"/dev/ashmem/")
_DEVICE = (b"/dev/", b"/dmabuf:", b"anon_inode:", b"socket:")


def is_unnamed_device(dev: bytes) -> bool:
    """Whether the kernel made up the device number, as for file systems without a device.

    These are its own mounts, tmpfs, overlay, btrfs and NFS; their major number is 0.
    """
    return not dev.partition(b":")[0].strip(b"0")


def kind_of(name: bytes, shared: bool, hugetlb: bool, unnamed_device: bool) -> str:
    """One of hugetlb heap stack anon_named shmem special anon device file; the first that fits.

    `name` is the kernel's, `shared` whether the perms have "s", `hugetlb` whether VmFlags has
    "ht", `unnamed_device` the result of is_unnamed_device(). Special names have no slash, so a
    file called "[heap]" is a file.
    """
    plain = name.removesuffix(_DELETED)
    special = name.startswith(b"[") and name.endswith(b"]")
    if hugetlb or plain == b"/anon_hugepage":
        return "hugetlb"
    if name == b"[heap]":
        return "heap"
    if name == b"[stack]" or (special and name.startswith(b"[stack:")):
        return "stack"
    if special and name.startswith(b"[anon:"):
        return "anon_named"
    # Shared anonymous memory is a deleted /dev/zero; a private mapping of it is anonymous.
    if special and name.startswith(b"[anon_shmem:"):
        return "shmem"
    if name.startswith(_SHMEM) or (shared and plain == b"/dev/zero"):
        return "shmem"
    if special:
        return "special"
    if not name or plain == b"/dev/zero":
        return "anon"
    if name.startswith(_DEVICE):
        return "device"
    # Objects of the kernel's own mounts: "/drm mm object (deleted)". simple_dname() in fs/libfs.c
    # makes such names from a slash, the driver's name, and " (deleted)". They are mapped shared.
    # A program that was replaced in the root of a container (overlay) is mapped private.
    if shared and unnamed_device and name.endswith(_DELETED) and name.rfind(b"/") == 0:
        return "shmem"
    return "file"


def is_deleted(name: bytes, kind: str) -> bool:
    """Whether a file was removed; a file that is called "x (deleted)" looks the same."""
    return kind == "file" and name.endswith(_DELETED)


def file_name(name: bytes) -> bytes:
    r"""Undo the kernel's only escape, ``\012``, in a name, and remove " (deleted)"."""
    return name.removesuffix(_DELETED).replace(b"\\012", b"\n")
