# Processes that have all of their memory in common: clone(CLONE_VM) without CLONE_THREAD.
# Uses no other part.

cdef int sort_by_memory(
    const int32_t *pids, uint32_t *order, uint32_t *spare, size_t count
) noexcept nogil:
    """Sort indexes by the kernel's order of the memories; return how many comparisons failed.

    A merge sort ends and keeps every index, whatever the kernel answers. For 10,000 forks it
    takes 60 ms; comparing each with each would take 10 s.
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
                if answer == 1:     # the one from the second half comes first
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
    """Set `first` of each process to the index of the first with the same memory, or to -1."""
    cdef size_t i
    cdef size_t comparable = 0
    cdef int failed = 1
    for _ in range(MAX_SORTS):
        # Leave out processes that have ended or may not be compared: they have no order.
        comparable = 0
        for i in range(count):
            first[i] = -1
            if kcmp_vm(pids[i], pids[i]) == 0:
                first[i] = <int64_t>i
                order[comparable] = <uint32_t>i
                comparable += 1
        failed = sort_by_memory(pids, order, spare, comparable) if comparable > 1 else 0
        if not failed:
            break
    else:
        comparable = 0
        for i in range(count):
            first[i] = -1
    # Equal ones are neighbours, in the order of their indexes: the sort is stable.
    for i in range(1, comparable):
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
