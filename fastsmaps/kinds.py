"""What a mapping is, by its name: proc_pid_maps(5), fs/proc/task_mmu.c, mm/shmem.c."""

from __future__ import annotations

_DELETED = b" (deleted)"
_SHMEM = (b"/memfd:", b"/SYSV", b"/dev/shm/", b"/dev/ashmem/")
_DEVICE = (b"/dev/", b"/dmabuf:", b"anon_inode:", b"socket:")


def kind_of(name: bytes, shared: bool, hugetlb: bool) -> str:
    """One of hugetlb heap stack anon_named shmem special anon device file; the first that fits.

    `name` is the kernel's, `shared` the perms' "s", `hugetlb` whether VmFlags has "ht". A real
    special name has no slash, so a file called "[heap]" is a file.
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
    return "file"


def is_deleted(name: bytes, kind: str) -> bool:
    """Whether a file was removed. A file really called "x (deleted)" cannot be told apart."""
    return kind == "file" and name.endswith(_DELETED)


def file_name(name: bytes) -> bytes:
    r"""The name with the kernel's one escape, ``\012``, undone, and " (deleted)" taken off."""
    return name.removesuffix(_DELETED).replace(b"\\012", b"\n")
