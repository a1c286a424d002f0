# statm of many processes, again and again: statms(), pids_between().
# Uses numbers and proc_files.

cdef double thread_seconds() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cdef int parse_statm(StatmRow *row, const char *p, const char *end) noexcept nogil:
    """Store the values; return whether they changed, or -EINVAL if they are none."""
    cdef int64_t[3] found
    cdef int k
    for k in range(3):
        p = skip_words(p, end, 1)
        if not is_decimal(p, end):
            return -EINVAL
        found[k] = <int64_t>decimal(p, end)
    if found[0] == row.resident and found[1] == row.shared and found[2] == row.text:
        return STATM_EQUAL
    row.resident, row.shared, row.text = found[0], found[1], found[2]
    return STATM_MOVED


cdef int open_statm(StatmRow *row, int root, bint *same) noexcept nogil:
    """Return the descriptor, or -errno. `same` is false if the inode is not the row's."""
    cdef char[32] name
    cdef struct_stat status
    cdef int fd
    cdef int error
    memcpy(name + 16, b"/statm", 7)
    fd = open_file(root, format_pid(name + 16, <int32_t>row.pid))
    if fd < 0:
        return -errno
    if fstat(fd, &status) != 0:
        error = errno
        close(fd)
        return -error
    same[0] = row.inode == 0 or row.inode == <int64_t>status.st_ino
    if row.inode == 0:
        row.inode = <int64_t>status.st_ino
    return fd


cdef int read_statm(StatmRow *row, int root, bint keep) noexcept nogil:
    """Read one statm; return what happened."""
    cdef char[256] text
    cdef ssize_t got
    cdef bint same = True
    cdef int fd = <int>row.fd
    cdef int result
    if fd < 0:
        fd = open_statm(row, root, &same)
        if fd < 0:
            return fd
    got = pread(fd, text, 256, 0) if same else 0
    if got < 0:
        result = -errno
    elif same:
        result = parse_statm(row, text, text + got)
    else:
        result = STATM_OTHER_INODE
    if row.fd < 0:
        if keep and result >= 0 and same:
            row.fd = fd
        else:
            close(fd)
    return result


cdef size_t read_statms(
    int root, StatmRow *rows, const uint32_t *slots, size_t count, int max_kept, double seconds,
    StatmEvent *events, size_t *event_count, int *kept,
) noexcept nogil:
    cdef double end = thread_seconds() + seconds
    cdef StatmRow *row
    cdef size_t i
    cdef int result
    cdef bint was_open
    for i in range(count):
        # Asking costs a third of a read.
        if i % 8 == 7 and thread_seconds() >= end:
            return i
        row = &rows[slots[i]]
        if row.pid <= 0:
            continue
        was_open = row.fd >= 0
        result = read_statm(row, root, kept[0] < max_kept)
        if not was_open and row.fd >= 0:
            kept[0] += 1
        if result != STATM_EQUAL:
            events[event_count[0]].slot = slots[i]
            events[event_count[0]].what = result
            event_count[0] += 1
    return count


def statms(int root, table, slots, int max_kept, double seconds):
    """See _csmaps.pyi."""
    cdef Py_buffer rows_view
    cdef Py_buffer slots_view
    cdef const uint32_t *numbers
    cdef StatmEvent *events
    cdef size_t i, count, size
    cdef size_t done = 0
    cdef size_t event_count = 0
    cdef int kept = 0
    PyObject_GetBuffer(table, &rows_view, PyBUF_WRITABLE)
    try:
        PyObject_GetBuffer(slots, &slots_view, PyBUF_SIMPLE)
        try:
            numbers = <const uint32_t *>slots_view.buf
            count = slots_view.len // sizeof(uint32_t)
            size = rows_view.len // sizeof(StatmRow)
            for i in range(count):
                if numbers[i] >= size:
                    raise IndexError(numbers[i])
            events = <StatmEvent *>malloc((count + 1) * sizeof(StatmEvent))
            if events == NULL:
                raise MemoryError
            try:
                with nogil:
                    done = read_statms(
                        root, <StatmRow *>rows_view.buf, numbers, count, max_kept, seconds,
                        events, &event_count, &kept,
                    )
                return done, kept, [
                    (events[i].slot, events[i].what) for i in range(event_count)
                ]
            finally:
                free(events)
        finally:
            PyBuffer_Release(&slots_view)
    finally:
        PyBuffer_Release(&rows_view)


def pids_between(int root, int32_t after, int32_t last):
    """See _csmaps.pyi."""
    cdef char[LISTING] entries
    cdef list found = []
    cdef long got
    cdef long at
    cdef int64_t pid
    cdef uint16_t length
    cdef const char *name
    cdef const char *end
    # A kernel that numbers its entries by one less (before 3.17) lists one pid more, no fewer.
    lseek(root, <long long>after + PID_OFFSET, 0)
    while True:
        with nogil:
            got = syscall(SYS_getdents64, root, entries, LISTING)
        if got < 0:
            raise OSError(errno, _strerror(errno))
        if got == 0:
            return found
        at = 0
        while at < got:
            memcpy(&length, entries + at + DIRENT_LENGTH, sizeof(length))
            name = entries + at + DIRENT_NAME
            end = name + strlen(name)
            at += length
            if not is_decimal(name, end):
                continue
            pid = <int64_t>decimal(name, end)
            if pid > last:
                return found
            if pid > after:
                found.append(pid)
