# Which processes have all of their memory in common: clone(CLONE_VM) without CLONE_THREAD.

cdef extern from "csmaps.h" nogil:
    int kcmp_vm "fsm_kcmp_vm"(int a, int b)

cdef enum:
    MOST_SORTS = 8          # one more whenever a process ends meanwhile

cdef int sort_by_memory(
    const int32_t *pids, uint32_t *order, uint32_t *spare, size_t count
) noexcept nogil:
    """Sorts places by the kernel's order of the memory; how many comparisons failed.

    A merge sort: whatever the answers are, it ends and keeps every place. Asking of each two would
    take 10 s of 10,000 forks, this takes 60 ms.
    """
    cdef size_t width = 1
    cdef size_t start, i, j, middle, end, k
    cdef int failed = 0
    cdef int answer
    while width < count:
        start = 0
        while start < count:
            middle = start + width if start + width < count else count
            end = middle + width if middle + width < count else count
            i, j, k = start, middle, start
            while i < middle and j < end:
                answer = kcmp_vm(pids[order[j]], pids[order[i]])
                failed += answer < 0
                if answer == 1:     # the second is less
                    spare[k] = order[j]
                    j += 1
                else:
                    spare[k] = order[i]
                    i += 1
                k += 1
            memcpy(spare + k, order + i, (middle - i) * sizeof(uint32_t))
            k += middle - i
            memcpy(spare + k, order + j, (end - j) * sizeof(uint32_t))
            start = end
        memcpy(order, spare, count * sizeof(uint32_t))
        width *= 2
    return failed


cdef void compare_memory(
    const int32_t *pids, uint32_t *order, uint32_t *spare, int64_t *first, size_t count
) noexcept nogil:
    cdef size_t i
    cdef size_t able = 0
    cdef int failed = 1
    for _ in range(MOST_SORTS):
        # Without those that ended, or that may not be compared: no order has a place for them.
        able = 0
        for i in range(count):
            first[i] = -1
            if kcmp_vm(pids[i], pids[i]) == 0:
                first[i] = <int64_t>i
                order[able] = <uint32_t>i
                able += 1
        failed = sort_by_memory(pids, order, spare, able) if able > 1 else 0
        if not failed:
            break
    else:
        able = 0
        for i in range(count):
            first[i] = -1
    # Equal ones are neighbours, in the order of their places: the sort is stable.
    for i in range(1, able):
        if kcmp_vm(pids[order[i - 1]], pids[order[i]]) == 0:
            first[order[i]] = first[order[i - 1]]


def same_memory(pids):
    """See _csmaps.pyi."""
    cdef Py_buffer view
    cdef uint32_t *order = NULL
    cdef uint32_t *spare = NULL
    cdef int64_t *first = NULL
    cdef size_t count
    PyObject_GetBuffer(pids, &view, PyBUF_SIMPLE)
    try:
        count = view.len // sizeof(int32_t)
        order = <uint32_t *>malloc((count + 1) * sizeof(uint32_t))
        spare = <uint32_t *>malloc((count + 1) * sizeof(uint32_t))
        first = <int64_t *>malloc((count + 1) * sizeof(int64_t))
        if order == NULL or spare == NULL or first == NULL:
            raise MemoryError
        with nogil:
            compare_memory(<const int32_t *>view.buf, order, spare, first, count)
        return [first[i] if first[i] >= 0 else None for i in range(count)]
    finally:
        free(order)
        free(spare)
        free(first)
        PyBuffer_Release(&view)
