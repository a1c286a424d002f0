# Small files of processes, below an open /proc; statms(). Uses numbers.

cdef inline int open_file(int directory, const char *name) noexcept nogil:
    # O_NONBLOCK: a FIFO may be mounted over a file, and opening it would block for ever.
    return openat(directory, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK)


cdef ssize_t read_small_file(
    Buffer *buffer, int directory, const char *name, bint whole
) noexcept nogil:
    """Read the file into the buffer and return its size, or -errno.

    With `whole` read on until the end, or until there is more than MAX_TEXT; otherwise read once.
    """
    cdef int fd = open_file(directory, name)
    cdef ssize_t got
    cdef size_t used = 0
    cdef char *block
    if fd < 0:
        return -errno
    while True:
        got = pread(fd, buffer.bytes + used, buffer.size - used, used)
        if got < 0:
            got = -errno
            break
        used += got
        if got == 0 or not whole:
            got = used
            break
        if used == buffer.size:
            if used > MAX_TEXT + ELLIPSIS_SIZE:
                got = used
                break
            block = <char *>realloc(buffer.bytes, buffer.size * 2)
            if block == NULL:
                got = -ENOMEM
                break
            buffer.bytes = block
            buffer.size *= 2
    close(fd)
    return got


cdef char *format_pid(char *end, int32_t pid) noexcept nogil:
    """Write the digits so that they stop at `end`; return their start.

    A number below 1, which no process has, gives no digits.
    """
    while pid > 0:
        end -= 1
        end[0] = <char>(c'0' + pid % 10)
        pid = pid // 10
    return end


cdef bint is_listed(int root, int32_t pid, const char *digits, size_t length) noexcept nogil:
    """Whether the directory lists the number; False if it numbers its entries otherwise.

    A thread's number can be opened, but is not listed. Reading the directory at the number's
    offset takes 2 us. Reading all of it takes 2 ms for 1,000 processes, and the process's stat
    takes 15 us.
    """
    cdef char[DIRENT_SIZE] entry
    lseek(root, <long long>pid + PID_OFFSET, 0)
    if syscall(SYS_getdents64, root, entry, DIRENT_SIZE) < DIRENT_NAME + <long>length + 1:
        return False
    return memcmp(entry + DIRENT_NAME, digits, length) == 0 and entry[DIRENT_NAME + length] == 0


def statms(fds, out):
    """See _csmaps.pyi."""
    cdef Py_buffer fds_view
    cdef Py_buffer out_view
    cdef const int32_t *numbers
    cdef uint64_t *pages
    cdef size_t i, count
    cdef int k
    cdef ssize_t got
    cdef char[256] text
    cdef const char *p
    cdef const char *end
    PyObject_GetBuffer(fds, &fds_view, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(out, &out_view, PyBUF_WRITABLE)
        try:
            count = fds_view.len // sizeof(int32_t)
            if <size_t>out_view.len != count * 3 * sizeof(uint64_t):
                raise ValueError("out: three 64-bit numbers for each descriptor")
            numbers = <const int32_t *>fds_view.buf
            pages = <uint64_t *>out_view.buf
            with nogil:
                for i in range(count):
                    got = pread(numbers[i], text, 256, 0)
                    p = text
                    end = p + (got if got > 0 else 0)
                    for k in range(3):
                        p = skip_words(p, end, 1)
                        if not is_decimal(p, end):
                            pages[3 * i] = pages[3 * i + 1] = pages[3 * i + 2] = <uint64_t>-1
                            break
                        pages[3 * i + k] = decimal(p, end)
        finally:
            PyBuffer_Release(&out_view)
    finally:
        PyBuffer_Release(&fds_view)
