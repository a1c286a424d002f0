# Reading: a descriptor's bytes, in pieces, to the scanner.

from posix.time cimport CLOCK_MONOTONIC, clock_gettime, nanosleep, timespec

cdef extern from "<sys/resource.h>" nogil:
    cdef struct rusage:
        long ru_nvcsw
    int RUSAGE_THREAD
    int getrusage(int who, rusage *usage)

cdef enum:
    MOST_PIECES = 64
    SPARE_SIZE = 200000     # 64 pieces of 3,000 bytes and room for what is carried over
    GIVE_WAY = 120000       # bytes between two looks at whether the process waits
    FIRST_PIECES = 16       # enough for most processes: 64 cost a small read 1.6 us more
    TURN = 64               # calls between two looks for signals: 12 MB, about 45 ms
    PAUSE = 50000           # nanoseconds
    MOST_LINE = 16777216    # bytes of a line that is read: /dev/zero may be mounted over a file
    MOST_SHOWN = 4096       # of these, in the error

# x86's gate, whose record the kernel writes after all others: above every address that a process
# can map, so nobody else's record begins there (arch/x86/entry/vsyscall).
cdef uint64_t VSYSCALL = 0xFFFFFFFFFF600000

cdef enum Outcome:
    MORE
    WHOLE
    NOT_WHOLE               # no byte at offset 0 after the end: nothing there, or torn
    INTERRUPTED
    FAILED                  # errno
    UNREADABLE              # the scanner's problem

cdef struct Reader:
    int fd
    char *buffer
    size_t room
    size_t carry            # bytes of a line that is not complete, at the buffer's start
    long long offset        # in the file
    size_t piece
    int pieces
    bint confirm
    size_t lines            # where they are counted, not scanned
    bint filled             # by the last call, all its pieces
    size_t unlooked         # bytes since the last look at what follows
    bint contended          # the process wants to change its map meanwhile
    long waits              # this thread's, until then
    int error

# A buffer that stays warm: 49 fresh pages would cost a small process's read a tenth more.
cdef void *spare_buffer = NULL


cdef long waits_so_far() noexcept nogil:
    """How often this thread waited for something."""
    cdef rusage usage
    usage.ru_nvcsw = 0
    getrusage(RUSAGE_THREAD, &usage)
    return usage.ru_nvcsw


cdef void give_way(Reader *r) noexcept nogil:
    """A pause, where the process waits for its map.

    Each piece takes the map's lock anew, but before a process that waits for it has woken, the
    next piece has it again: it gets its turn after 4 ms, when the kernel hands the lock over
    (kernel/locking/rwsem.c), and then this thread waits. Where it did, it lets go for long enough
    after each call.
    """
    cdef timespec pause
    cdef long waits = waits_so_far()
    if waits != r.waits:
        r.contended = True
    if r.contended:
        pause.tv_sec = 0
        pause.tv_nsec = PAUSE
        nanosleep(&pause, NULL)
        waits = waits_so_far()
    r.waits = waits


cdef Outcome read_pieces(Reader *r, Scan *s, int calls) noexcept nogil:
    """Reads and scans until the end, at most `calls` times.

    seq_file, which makes the text, fills a page with whole records, and a record that does
    not fit is made twice. Asking for a page less a record avoids that, and a vector of such
    pieces makes the kernel loop over them in one call (17-19 % less kernel time on 400
    mappings of 1 MiB; docs/performance.md). Explicit offsets go on where the last call ended
    as fast as a shared file position, and need none.
    """
    cdef iovec[MOST_PIECES] iov
    cdef const char *rest
    cdef char *block
    cdef char byte
    cdef ssize_t got
    cdef int count, most
    cdef bint ended = False
    for _ in range(calls):
        # The call that finds the end needs few, too.
        most = r.pieces if r.filled or r.pieces < FIRST_PIECES else FIRST_PIECES
        if r.room - r.carry < r.piece:
            # A line longer than the buffer: names have no limit.
            block = <char *>realloc(r.buffer, r.room * 2 + r.piece)
            if block == NULL:
                s.problem = NO_MEMORY
                return UNREADABLE
            r.buffer = block
            r.room = r.room * 2 + r.piece
        count = 0
        while count < most and (count + 1) * r.piece <= r.room - r.carry:
            iov[count].iov_base = r.buffer + r.carry + count * r.piece
            iov[count].iov_len = r.piece
            count += 1
        got = 0
        if not ended:
            got = preadv(r.fd, iov, count, r.offset)
        if got < 0:
            if errno == EINTR:
                return INTERRUPTED
            r.error = errno
            return FAILED
        r.filled = <size_t>got == count * r.piece
        r.unlooked += got
        if got > 0 and r.unlooked >= GIVE_WAY:
            r.unlooked = 0
            give_way(r)
        if got > 0 and memchr(r.buffer + r.carry, c'\n', got) == NULL:
            # Still the same line: looking for its end from its start at each call would be
            # quadratic in its length.
            ended = not r.confirm and not r.filled
            r.carry += got
            r.offset += got
            if r.carry > MOST_LINE:
                s.base = s.bad_line = r.buffer
                s.base_offset = r.offset - r.carry
                s.bad_length = MOST_SHOWN
                s.problem = NO_LINE
                return UNREADABLE
            continue
        s.base = r.buffer
        s.base_offset = r.offset - r.carry
        rest = scan(s, r.buffer, r.buffer + r.carry + got, got == 0)
        if rest == NULL:
            return UNREADABLE
        if got == 0:
            if not r.confirm:
                return WHOLE if r.offset > 0 else NOT_WHOLE
            got = pread(r.fd, &byte, 1, 0)
            if got < 0:
                r.error = errno
                return FAILED
            return WHOLE if got > 0 else NOT_WHOLE
        # A rollup comes in one go, so a short read is its end: one call less, 0.5 us.
        ended = not r.confirm and not r.filled
        r.offset += got
        r.carry = r.buffer + r.carry + got - rest
        memmove(r.buffer, rest, r.carry)
        # After a short read the kernel holds nothing back. With the gate's record as its last the
        # text is whole, and no reading after the end need show it: 7 us of 160.
        if r.confirm and not r.filled and r.carry == 0 and s.row != NULL:
            if s.row.start == VSYSCALL:
                return WHOLE
        if s.sums_only and not forget_rows(s, False):
            return UNREADABLE
    return MORE


cdef double seconds_now() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cdef int read_whole(
    int fd, size_t piece, int pieces, bint confirm, Scan *s, double until = 0
) except -1:
    """Scans all of the descriptor's text; False where it is empty or torn."""
    cdef Reader r
    cdef int turn = TURN if until == 0 else 1
    cdef Outcome outcome = MORE
    check_pieces(piece, pieces)
    r.fd = fd
    r.carry = 0
    r.offset = 0
    r.piece = piece
    r.pieces = pieces
    r.confirm = confirm
    r.filled = False
    r.unlooked = 0
    r.contended = False
    r.waits = waits_so_far()
    r.error = 0
    r.room = SPARE_SIZE
    r.buffer = <char *>exchange(&spare_buffer, NULL)
    if r.buffer == NULL:
        r.buffer = <char *>malloc(r.room)
        if r.buffer == NULL:
            raise MemoryError
    try:
        while outcome == MORE or outcome == INTERRUPTED:
            PyErr_CheckSignals()
            if until != 0 and seconds_now() >= until:
                raise TimeoutError(ETIMEDOUT, "the time is over")
            with nogil:
                outcome = read_pieces(&r, s, turn)
        if outcome == FAILED:
            raise OSError(r.error, _strerror(r.error))
        if outcome == UNREADABLE:
            raise_problem(s)
        finish(s)
        return outcome == WHOLE
    finally:
        if r.room == SPARE_SIZE:
            r.buffer = <char *>exchange(&spare_buffer, r.buffer)
        free(r.buffer)


cdef Outcome count_pieces(Reader *r, int calls) noexcept nogil:
    """Counts lines until the end, at most `calls` times; nothing of them is kept."""
    cdef iovec[MOST_PIECES] iov
    cdef const char *p
    cdef const char *end
    cdef char byte
    cdef ssize_t got
    cdef int i
    for i in range(r.pieces):
        iov[i].iov_base = r.buffer + i * r.piece
        iov[i].iov_len = r.piece
    for _ in range(calls):
        got = preadv(r.fd, iov, r.pieces, r.offset)
        if got == 0:
            # As in read_pieces(): a process that has gone or called exec ends its text early.
            got = pread(r.fd, &byte, 1, 0)
            if got >= 0:
                return WHOLE if got > 0 else NOT_WHOLE
        if got < 0:
            if errno == EINTR:
                return INTERRUPTED
            r.error = errno
            return FAILED
        r.offset += got
        r.carry = 0 if memchr(r.buffer, c'\n', got) != NULL else r.carry + got
        if r.carry > MOST_LINE:
            return NOT_WHOLE
        r.unlooked += got
        if r.unlooked >= GIVE_WAY:
            r.unlooked = 0
            give_way(r)
        p = r.buffer
        end = p + got
        while True:
            p = <const char *>memchr(p, c'\n', end - p)
            if p == NULL:
                break
            r.lines += 1
            p += 1
    return MORE


def lines(int fd, size_t piece, int pieces, double until=0):
    """See _csmaps.pyi."""
    cdef Reader r
    cdef int turn = TURN if until == 0 else 1
    cdef Outcome outcome = MORE
    check_pieces(piece, pieces)
    memset(&r, 0, sizeof(Reader))
    r.fd = fd
    r.piece = piece
    r.pieces = pieces
    r.waits = waits_so_far()
    r.buffer = <char *>malloc(piece * pieces)
    if r.buffer == NULL:
        raise MemoryError
    try:
        while outcome == MORE or outcome == INTERRUPTED:
            PyErr_CheckSignals()
            if until != 0 and seconds_now() >= until:
                raise TimeoutError("the time is over")
            with nogil:
                outcome = count_pieces(&r, turn)
        if outcome == FAILED:
            raise OSError(r.error, _strerror(r.error))
        return r.lines if outcome == WHOLE else None
    finally:
        free(r.buffer)


cdef int check_pieces(size_t piece, int pieces) except -1:
    if not 1 <= pieces <= MOST_PIECES or piece < 1:
        raise ValueError(f"pieces: 1 to {MOST_PIECES} of 1 byte or more")
    return 0


cdef int raise_problem(Scan *s) except -1:
    if s.problem == NO_MEMORY:
        raise MemoryError
    raise _errors.ParseError(
        _errors.PROBLEMS[<int>s.problem],
        offset=s.base_offset + <size_t>(s.bad_line - s.base),
        line_number=s.lines + 1,
        line=PyBytes_FromStringAndSize(s.bad_line, s.bad_length),
    )


cdef void finish(Scan *s) noexcept nogil:
    """After the last line: the last record may be shorter than the one before."""
    if s.place < s.slots:
        cut_slots(s)
