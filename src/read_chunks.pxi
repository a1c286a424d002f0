# Read a descriptor in chunks: parse its text, or count its lines.
# Uses rows, parse_lines and sums.

# A buffer that is kept between calls: 49 fresh pages would make reading a small process 10 %
# slower.
cdef void *spare_buffer = NULL


cdef long context_switches() noexcept nogil:
    """Return how often this thread has waited for something (voluntary switches)."""
    cdef rusage usage
    usage.ru_nvcsw = 0
    getrusage(RUSAGE_THREAD, &usage)
    return usage.ru_nvcsw


cdef void yield_to_process(Reader *reader) noexcept nogil:
    """Pause if the process switches for its mmap lock.

    Each chunk takes the lock anew. A process that switches for it has not woken up before the next
    chunk has the lock again. It gets the lock only after 4 ms, when the kernel hands it over
    (kernel/locking/rwsem.c), and then this thread switches. So once this thread has waited, it
    pauses after each call for long enough that the process can take the lock.
    """
    cdef timespec pause
    cdef long switches = context_switches()
    if switches != reader.switches and reader.switches != 0:
        reader.contended = True
    if reader.contended:
        pause.tv_sec = 0
        pause.tv_nsec = YIELD_NANOSECONDS
        nanosleep(&pause, NULL)
        switches = context_switches()
    reader.switches = switches


cdef ReadStatus read_chunks(Reader *reader, Parser *parser, int calls) noexcept nogil:
    """Read and parse until the end, with at most `calls` calls.

    seq_file makes the text: it fills a page with whole records, and a record that does not fit
    is made twice. Asking for a page less one record avoids that. A vector of such chunks makes
    the kernel loop over them in one call (17-19 % less kernel time on 400 mappings of 1 MiB;
    docs/performance.md). Explicit offsets continue where the last call ended, as fast as a
    shared file position, and leave that position alone.
    """
    cdef iovec[MAX_CHUNKS] iov
    cdef const char *rest
    cdef char *block
    cdef char byte
    cdef ssize_t got
    cdef int count, limit
    for _ in range(calls):
        # The call that finds the end needs few chunks as well.
        limit = reader.chunks if reader.filled or reader.chunks < FIRST_CHUNKS else FIRST_CHUNKS
        if reader.buffer_size - reader.carry < reader.chunk_size:
            # A line longer than the buffer: names have no limit.
            block = <char *>realloc(reader.buffer, reader.buffer_size * 2 + reader.chunk_size)
            if block == NULL:
                parser.problem = NO_MEMORY
                return PARSE_FAILED
            reader.buffer = block
            reader.buffer_size = reader.buffer_size * 2 + reader.chunk_size
        count = 0
        while (
            count < limit
            and (count + 1) * reader.chunk_size <= reader.buffer_size - reader.carry
        ):
            iov[count].iov_base = reader.buffer + reader.carry + count * reader.chunk_size
            iov[count].iov_len = reader.chunk_size
            count += 1
        got = preadv(reader.fd, iov, count, reader.offset)
        if got < 0:
            if errno == EINTR:
                return INTERRUPTED
            reader.error = errno
            return READ_FAILED
        reader.filled = <size_t>got == count * reader.chunk_size
        reader.since_yield += got
        if got > 0 and reader.since_yield >= YIELD_BYTES:
            reader.since_yield = 0
            yield_to_process(reader)
        if got > 0 and memchr(reader.buffer + reader.carry, c'\n', got) == NULL:
            # Still the same line. Searching it from its start at each call would be quadratic
            # in its length.
            reader.carry += got
            reader.offset += got
            if reader.carry > MAX_LINE:
                parser.base = parser.bad_line = reader.buffer
                parser.base_offset = reader.offset - reader.carry
                parser.bad_length = MAX_LINE_SHOWN
                parser.problem = NO_LINE
                return PARSE_FAILED
            continue
        parser.base = reader.buffer
        parser.base_offset = reader.offset - reader.carry
        rest = parse_lines(parser, reader.buffer, reader.buffer + reader.carry + got, got == 0)
        if rest == NULL:
            return PARSE_FAILED
        if got == 0:
            got = pread(reader.fd, &byte, 1, 0)
            if got < 0:
                reader.error = errno
                return READ_FAILED
            return COMPLETE if got > 0 else INCOMPLETE
        reader.offset += got
        reader.carry = reader.buffer + reader.carry + got - rest
        memmove(reader.buffer, rest, reader.carry)
        # A short read means that the kernel has nothing more buffered. If the last record is
        # that of x86's vsyscall page, the text is complete: the kernel writes it after all
        # others, and above every address that a process can map (arch/x86/entry/vsyscall). That
        # saves the check after the end: 7 us of 160.
        if not reader.filled and reader.carry == 0 and parser.row != NULL:
            if parser.row.start == VSYSCALL:
                return COMPLETE
        if parser.sums_only and not sum_and_drop_rows(parser, False):
            return PARSE_FAILED
    return MORE


cdef double seconds_now() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cdef int check_chunks(size_t chunk_size, int chunks) except -1:
    if not 1 <= chunks <= MAX_CHUNKS or chunk_size < 1:
        raise ValueError(f"chunks: 1 to {MAX_CHUNKS} of 1 byte or more")
    return 0


cdef int raise_problem(Parser *parser) except -1:
    if parser.problem == NO_MEMORY:
        raise MemoryError
    raise _errors.ParseError(
        _errors.PROBLEMS[<int>parser.problem],
        offset=parser.base_offset + <size_t>(parser.bad_line - parser.base),
        line_number=parser.lines + 1,
        line=PyBytes_FromStringAndSize(parser.bad_line, parser.bad_length),
    )


cdef int parse_fd(
    int fd, size_t chunk_size, int chunks, Parser *parser, double deadline = 0
) except -1:
    """Parse all of the descriptor's text; False if it is empty or torn."""
    cdef Reader reader
    cdef int turn = CALLS_PER_TURN if deadline == 0 else 1
    cdef ReadStatus status = MORE
    check_chunks(chunk_size, chunks)
    reader.fd = fd
    reader.carry = 0
    reader.offset = 0
    reader.chunk_size = chunk_size
    reader.chunks = chunks
    reader.filled = False
    reader.since_yield = 0
    reader.contended = False
    reader.switches = 0
    reader.error = 0
    reader.buffer_size = READ_BUFFER
    reader.buffer = <char *>exchange(&spare_buffer, NULL)
    if reader.buffer == NULL:
        reader.buffer = <char *>malloc(reader.buffer_size)
        if reader.buffer == NULL:
            raise MemoryError
    try:
        while status == MORE or status == INTERRUPTED:
            PyErr_CheckSignals()
            if deadline != 0 and seconds_now() >= deadline:
                raise TimeoutError(ETIMEDOUT, "deadline reached")
            with nogil:
                status = read_chunks(&reader, parser, turn)
        if status == READ_FAILED:
            raise OSError(reader.error, _strerror(reader.error))
        if status == PARSE_FAILED:
            raise_problem(parser)
        finish_text(parser)
        return status == COMPLETE
    finally:
        if reader.buffer_size == READ_BUFFER:
            reader.buffer = <char *>exchange(&spare_buffer, reader.buffer)
        free(reader.buffer)


cdef ReadStatus count_chunks(Reader *reader, int calls) noexcept nogil:
    """Count lines until the end, with at most `calls` calls; nothing is kept."""
    cdef iovec[MAX_CHUNKS] iov
    cdef const char *p
    cdef const char *end
    cdef char byte
    cdef ssize_t got
    cdef int i
    for i in range(reader.chunks):
        iov[i].iov_base = reader.buffer + i * reader.chunk_size
        iov[i].iov_len = reader.chunk_size
    for _ in range(calls):
        got = preadv(reader.fd, iov, reader.chunks, reader.offset)
        if got == 0:
            # A process that ends or calls exec ends its text early.
            got = pread(reader.fd, &byte, 1, 0)
            if got >= 0:
                return COMPLETE if got > 0 else INCOMPLETE
        if got < 0:
            if errno == EINTR:
                return INTERRUPTED
            reader.error = errno
            return READ_FAILED
        reader.offset += got
        reader.carry = 0 if memchr(reader.buffer, c'\n', got) != NULL else reader.carry + got
        if reader.carry > MAX_LINE:
            return INCOMPLETE
        reader.since_yield += got
        if reader.since_yield >= YIELD_BYTES:
            reader.since_yield = 0
            yield_to_process(reader)
        p = reader.buffer
        end = p + got
        while True:
            p = <const char *>memchr(p, c'\n', end - p)
            if p == NULL:
                break
            reader.lines += 1
            p += 1
    return MORE
