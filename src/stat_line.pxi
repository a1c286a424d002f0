# What /proc/<pid>/stat says of a process. Uses numbers.

cdef Outcome parse_stat(Process *process, const char *p, const char *end) noexcept nogil:
    """Parse the stat line; return READ for a process that should have memory of its own."""
    cdef const char *name
    cdef const char *stop = end
    cdef uint64_t flags, threads
    cdef bint good
    cdef char state
    name = <const char *>memchr(p, c'(', end - p)
    while stop > p and (stop - 1)[0] != c')':   # the last one: comm may hold any bytes
        stop -= 1
    if name == NULL or stop - 1 <= name or end - stop < 3 or stop - 2 - name > MAX_COMM:
        return OTHER
    process.comm_length = <uint8_t>(stop - 2 - name)
    memcpy(process.comm, name + 1, process.comm_length)
    p = stop + 1
    state = p[0]
    p = skip_words(p, end, 1)
    good = is_decimal(p, end)
    process.ppid = <int32_t>decimal(p, end)
    p = skip_words(p, end, 5)
    good = good and is_decimal(p, end)
    flags = decimal(p, end)
    p = skip_words(p, end, 11)
    good = good and is_decimal(p, end)
    threads = decimal(p, end)
    p = skip_words(p, end, 2)
    good = good and is_decimal(p, end)
    process.start_time = decimal(p, end)
    p = skip_words(p, end, 6)
    good = good and is_decimal(p, end)
    process.stack = decimal(p, end)
    p = skip_words(p, end, 10)
    if p == end or not good:
        return OTHER            # a damaged line: the caller reports it
    process.has_stat = True
    process.forked = flags & PF_FORKNOEXEC != 0
    if flags & PF_KTHREAD:
        return KERNEL_THREAD
    if state == c'Z' or state == c'X' or flags & PF_EXITING:
        return ZOMBIE if threads <= 1 else OTHER
    # exit_signal is -1 for a thread that is not its process's first: not a process's number.
    return OTHER if p[0] == c'-' else READ
