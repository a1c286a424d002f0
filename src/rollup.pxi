# A process's rollup in one call: rollup(), and rollup_at() by the process's number.
# Uses rows, parse_lines, read_chunks, sums, table and proc_files.

cdef class Rollups:
    """A parser with the rollup parsed last, which the next one is compared with."""

    cdef Parser *parser
    cdef uint32_t fields
    cdef tuple labels
    cdef dict sums              # of the rollup parsed last, by label

    def __cinit__(self):
        self.parser = <Parser *>malloc(sizeof(Parser))
        if self.parser == NULL:
            raise MemoryError
        parser_init(self.parser)
        self.parser.sums_only = True

    def __dealloc__(self):
        if self.parser != NULL:
            parser_free(self.parser)
            free(self.parser)


# Taken out while it is in use, so that threads without a GIL never share it.
cdef void *spare_rollups = NULL


cdef bint is_alike(Parser *parser, size_t rows) noexcept nogil:
    """Whether all is one record of sizes below 4 TiB, in the order of the columns."""
    cdef uint32_t i
    if (
        parser.count != rows or parser.text_count != 0 or parser.wide_count != 0
        or parser.place != parser.slot_count or parser.slot_count != parser.column_count
    ):
        return False
    for i in range(parser.column_count):
        if parser.slots[i].column != <int32_t>i or parser.columns[i].kind == PAGE_SIZE_LABEL:
            return False
    return True


cdef bint parse_alike(Rollups rollups, const char *text, size_t length) noexcept nogil:
    """Parse a rollup as the record after the last one; False if its fields are others."""
    cdef Parser *parser = rollups.parser
    parser.base = text
    parser.base_offset = 0
    parser.lines = 0
    parser.count = 1
    parser.row = NULL           # a field before the header belongs to no record
    return (
        parse_lines(parser, text, text + length, True) != NULL
        and is_alike(parser, 2) and parser.column_count == rollups.fields
    )


cdef dict sums_of_rollup(const char *text, size_t length):
    """Return the sums by label, or raise ParseError."""
    cdef void *spare = exchange(&spare_rollups, NULL)
    cdef Rollups rollups
    cdef Parser *parser
    cdef uint32_t *cells
    cdef uint32_t *before
    cdef uint32_t i
    if spare != NULL:
        rollups = <Rollups>spare
        Py_XDECREF(<PyObject *>spare)
        if parse_alike(rollups, text, length):
            parser = rollups.parser
            before, cells = cells_of(row_at(parser, 0)), cells_of(row_at(parser, 1))
            for i in range(rollups.fields):
                if cells[i] != before[i]:
                    rollups.sums[rollups.labels[i]] = <uint64_t>cells[i] << 10
                    before[i] = cells[i]
            return keep_rollups(rollups)
    rollups = Rollups()
    parser = rollups.parser
    parser.text_size = length
    parser.base = text
    if parse_lines(parser, text, text + length, True) == NULL:
        raise_problem(parser)
    finish_text(parser)
    rollups.fields = parser.column_count
    rollups.labels = labels_of(parser)
    if not allocate_sums(&parser.sums, parser.column_count, 1):
        raise MemoryError
    add_rows(&parser.sums, parser, parser.count, NULL)
    rollups.sums = sums_result(&parser.sums, parser, rollups.labels, 0)[1]
    if is_alike(parser, 1) and <uint32_t>len(rollups.sums) == rollups.fields:
        return keep_rollups(rollups)
    return rollups.sums


cdef dict keep_rollups(Rollups rollups):
    cdef dict sums = rollups.sums.copy()
    Py_INCREF(rollups)
    Py_XDECREF(<PyObject *>exchange(&spare_rollups, <void *>rollups))
    return sums


def rollup(int fd):
    """See _csmaps.pyi."""
    cdef char[SMALL_FILE] text
    cdef ssize_t got
    while True:
        with nogil:
            got = pread(fd, text, SMALL_FILE, 0)
            if got < 0:
                got = -errno
        if got != -EINTR:
            break
        PyErr_CheckSignals()
    if got < 0:
        raise OSError(-got, _strerror(-got))
    if got == SMALL_FILE:       # no kernel's
        sums = total(fd, SMALL_FILE, 1)
        return None if sums is None else sums[1]
    return sums_of_rollup(text, got) if got > 0 else None


cdef int open_at(int32_t pid, const char *name) noexcept nogil:
    """Open a file of a process of /proc; -1 if that fails or the number may be a thread's."""
    cdef char[64] path
    cdef char *start = format_pid(path + 16, pid)
    if not is_process(pid):
        return -1
    memcpy(start - 6, b"/proc/", 6)
    path[16] = c'/'
    strcpy(path + 17, name)
    return open_file(AT_FDCWD, start - 6)


cdef int32_t plain_pid(object pid) except? -1:
    """Return the number of an int that may be a pid; 0 for anything else."""
    cdef int overflow = 0
    cdef long long number
    if not PyLong_CheckExact(pid):
        return 0
    number = PyLong_AsLongLongAndOverflow(pid, &overflow)
    return <int32_t>number if overflow == 0 and 0 < number < 1 << 31 else 0


def rollup_at(pid):
    """See _csmaps.pyi."""
    cdef char[SMALL_FILE] text
    cdef int32_t number = plain_pid(pid)
    cdef ssize_t got = 0
    cdef int fd
    if number == 0:
        return None
    with nogil:
        fd = open_at(number, b"smaps_rollup")
        if fd >= 0:
            got = pread(fd, text, SMALL_FILE, 0)
            close(fd)
    if got <= 0 or got == SMALL_FILE:
        return None
    try:
        return sums_of_rollup(text, got)
    except _errors.ParseError:
        return None


def read_at(pid, bint sizes, size_t chunk_size, int chunks):
    """See _csmaps.pyi."""
    cdef int32_t number = plain_pid(pid)
    cdef int fd
    if number == 0:
        return None
    with nogil:
        fd = open_at(number, b"smaps" if sizes else b"maps")
    if fd < 0:
        return None
    try:
        return read(fd, chunk_size, chunks)
    except (OSError, _errors.ParseError) as error:
        if _errors.is_foreign(error):
            raise
        return None
    finally:
        with nogil:
            close(fd)
