"""The comparison of processes' memory in pure Python; ``_csmaps.pyi`` documents its export."""

from __future__ import annotations

import os
import sys

from fastsmaps._errors import is_foreign

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# The numbers of kcmp(2), which Python does not export, on 64-bit machines. Elsewhere no memory is
# compared.
_KCMP = {
    "aarch64": 272, "loongarch64": 272, "ppc64": 354, "ppc64le": 354, "riscv64": 272, "s390x": 343,
    "x86_64": 312,
}  # fmt: skip
_KCMP_VM = 1
_MAX_SORTS = 8
_kcmp: list[Callable[[int, int], int]] = []


def kcmp_vm() -> Callable[[int, int], int]:
    """Return a function of two pids like fsm_kcmp_vm() in src/csmaps.h."""
    if not _kcmp:
        number = _KCMP.get(os.uname().machine)
        try:
            if number is None or sys.maxsize < 2**32:
                raise ImportError
            import ctypes  # 8 ms, and only needed for a fork that has not called exec

            call = ctypes.CDLL(None).syscall
        except (ImportError, OSError, AttributeError) as error:
            if is_foreign(error):
                raise
            _kcmp.append(lambda *_: -1)
        else:
            zero = ctypes.c_long(0)
            head, kind = ctypes.c_long(number), ctypes.c_long(_KCMP_VM)
            long = ctypes.c_long
            _kcmp.append(lambda a, b: call(head, long(a), long(b), kind, zero, zero))
    return _kcmp[0]


def same_memory(pids: memoryview) -> list[int | None]:
    from functools import cmp_to_key  # 2 ms
    from itertools import pairwise

    numbers = pids.cast("B").cast("i").tolist()
    kcmp = kcmp_vm()
    failed = [True]

    def order(i: int, j: int) -> int:
        answer = kcmp(numbers[i], numbers[j])
        if answer < 0:
            failed.append(True)
        return -1 if answer == 1 else int(answer > 1)

    for _ in range(_MAX_SORTS):
        # See compare_memory() in src/same_memory.pxi.
        comparable = [i for i, number in enumerate(numbers) if kcmp(number, number) == 0]
        first: list[int | None] = [None] * len(numbers)
        failed.clear()
        comparable.sort(key=cmp_to_key(order))
        if not failed:
            break
    else:
        return [None] * len(numbers)
    for i in comparable:
        first[i] = i
    for before, i in pairwise(comparable):
        if kcmp(numbers[before], numbers[i]) == 0:
            first[i] = first[before]
    return first
