# The mapping at an address, asked of the kernel: find(), find_at().
# Uses rollup.

cdef object answer_of(ProcmapQuery *query, const char *name, const unsigned char *id_):
    """Return a row as maps gives it, and the build ID; False if maps would show another name."""
    cdef char[32] device
    cdef int length
    cdef size_t i
    cdef size_t size = query.vma_name_size - 1 if query.vma_name_size > 0 else 0
    # maps escapes a newline, and its parser drops blanks at the end.
    for i in range(size):
        if <unsigned char>name[i] < c' ':
            return False
    if size > 0 and name[size - 1] == c' ':
        return False
    if (query.dev_major | query.dev_minor) == 0:
        memcpy(device, b"00:00", 5)     # anonymous memory; printing takes 0.1 us
        length = 5
    else:
        length = snprintf(device, sizeof(device), b"%02x:%02x", query.dev_major, query.dev_minor)
    return (
        (
            query.vma_start,
            query.vma_end,
            query.vma_offset,
            query.inode,
            query.vma_flags & 0xf,      # r 1, w 2, x 4, s 8, as in a row
            PyBytes_FromStringAndSize(device, length),
            PyBytes_FromStringAndSize(name, size),
            None,
            None,
        ),
        id_[:query.build_id_size] if query.build_id_size > 0 else None,
    )


cdef int ask(int fd, uint64_t address, bint build_id, ProcmapQuery *query, char *name,
             unsigned char *id_) noexcept nogil:
    """Return 0 or errno."""
    memset(query, 0, sizeof(ProcmapQuery))
    query.size = sizeof(ProcmapQuery)
    query.query_addr = address
    query.vma_name_size = MAX_NAME
    query.vma_name_addr = <uint64_t><size_t>name
    if build_id:
        query.build_id_size = MAX_BUILD_ID
        query.build_id_addr = <uint64_t><size_t>id_
    return 0 if ioctl(fd, PROCMAP_QUERY, query) == 0 else errno


cdef inline bint has_gate_page(uint64_t address) noexcept nogil:
    """Whether maps may show a page there that has no VMA: x86's vsyscall, vectors of 32-bit Arm."""
    return address >= VSYSCALL or address >> 16 == 0xffff


cdef object find_result(int error, ProcmapQuery *query, const char *name, const unsigned char *id_):
    if error == 0:
        return answer_of(query, name, id_)
    if error == ENOENT:
        return None if not has_gate_page(query.query_addr) else False
    if error == ESRCH:
        raise OSError(ESRCH, _strerror(ESRCH))
    return False        # ENOTTY before Linux 6.11, ENAMETOOLONG, or a filter of system calls


cdef int is_reaped(int directory) noexcept nogil:
    """Return ESRCH if the process of an open directory is reaped, else 0.

    The query answers as long as anybody has the memory, such as a child of vfork(). This takes as
    long as the query, and a read of one byte of maps one and a half times that.
    """
    return ESRCH if faccessat(directory, b".", X_OK, 0) != 0 and errno == ESRCH else 0


def find(int fd, uint64_t address, bint build_id, int directory):
    """See _csmaps.pyi."""
    cdef ProcmapQuery query
    cdef char[MAX_NAME] name
    cdef unsigned char[MAX_BUILD_ID] id_
    cdef int error
    if address >= VSYSCALL:     # the kernel's page has no VMA, but maps shows it
        return False
    with nogil:
        error = ask(fd, address, build_id, &query, name, id_)
        if error == 0 and directory >= 0:
            error = is_reaped(directory)
    return find_result(error, &query, name, id_)


def find_at(pid, uint64_t address, bint build_id):
    """See _csmaps.pyi."""
    cdef ProcmapQuery query
    cdef char[MAX_NAME] name
    cdef unsigned char[MAX_BUILD_ID] id_
    cdef int32_t number = plain_pid(pid)
    cdef int error = ESRCH
    cdef int fd
    if number == 0 or address >= VSYSCALL:
        return False
    with nogil:
        fd = open_at(number, b"maps")
        if fd >= 0:
            error = ask(fd, address, build_id, &query, name, id_)
            close(fd)
    return find_result(error, &query, name, id_) if error != ESRCH else False


def find_many(int fd, addresses, bint build_id, int directory):
    """See _csmaps.pyi."""
    cdef Py_buffer view
    cdef const uint64_t *numbers
    cdef list results = []
    cdef object last = None
    cdef uint64_t start = 0
    cdef uint64_t end = 0
    cdef size_t i
    PyObject_GetBuffer(addresses, &view, PyBUF_SIMPLE)
    try:
        numbers = <const uint64_t *>view.buf
        for i in range(view.len // sizeof(uint64_t)):
            # Neighbours are often in one mapping.
            if not start <= numbers[i] < end:
                last = find(fd, numbers[i], build_id, -1)
                start = end = 0
                if last:
                    start, end = last[0][0], last[0][1]
            results.append(last)
            if i % 1024 == 1023:
                PyErr_CheckSignals()
        if directory >= 0 and is_reaped(directory):
            raise OSError(ESRCH, _strerror(ESRCH))
        return results
    finally:
        PyBuffer_Release(&view)
