# One process of a sweep: its stat, texts, number of mappings and rollup, read through one
# descriptor of its directory.
# Uses numbers, text_pool, rows, parse_lines, read_chunks, proc_files and stat_line.

cdef void shorten_texts(SweepState *sweep, int file) noexcept nogil:
    """Shorten the longest of a file's texts until all need half of what is allowed."""
    cdef TextPool *pool = &sweep.texts[file]
    cdef size_t limit = sweep.text_limit[file]
    cdef size_t needed
    cdef uint32_t i
    if limit > MIN_TEXT:
        limit //= 2
    while limit > MIN_TEXT:
        needed = 0
        for i in range(pool.count):
            needed += pool.entries[i].length if pool.entries[i].length < limit else limit
        if needed <= MAX_TEXTS // 2:
            break
        limit //= 2
    pool_shorten(pool, limit)
    sweep.text_limit[file] = limit
    # With very many texts even the shortest limit may need more.
    sweep.pool_limit[file] = 2 * pool.used if 2 * pool.used > MAX_TEXTS else MAX_TEXTS


cdef bint keep_text(SweepState *sweep, int file, size_t length, uint32_t *id_) noexcept nogil:
    """Keep the text in the buffer, shortened to the limit; False if out of memory."""
    cdef size_t limit = sweep.text_limit[file]
    if length > limit + ELLIPSIS_SIZE:
        length = limit + ELLIPSIS_SIZE
        memcpy(sweep.buffer.bytes + limit, b"...", ELLIPSIS_SIZE)
    if not pool_id(&sweep.texts[file], sweep.buffer.bytes, length, id_):
        return False
    if sweep.texts[file].used > sweep.pool_limit[file]:
        shorten_texts(sweep, file)
    return True


cdef inline Outcome outcome_of(ssize_t negative_errno) noexcept nogil:
    return DENIED if negative_errno == -EACCES or negative_errno == -EPERM else OTHER


cdef Outcome read_rollup(SweepState *sweep, Process *process, int directory) noexcept nogil:
    cdef Parser *parser = sweep.parser
    cdef size_t before = parser.count
    cdef const char *text
    cdef const char *rest
    cdef ssize_t got = read_small_file(&sweep.buffer, directory, b"smaps_rollup", False)
    if got <= 0 or <size_t>got == sweep.buffer.size:
        return outcome_of(got)
    text = sweep.buffer.bytes
    parser.base = text
    parser.base_offset = 0
    parser.lines = 0
    parser.row = NULL           # a field before the header must not go to the last process
    parser.problem = NO_PROBLEM
    rest = parse_lines(parser, text, text + got, True)
    finish_text(parser)
    # If the text is not one rollup, its rows stay in the table and no process refers to them.
    if rest == NULL or parser.count != before + 1:
        return OTHER
    process.record = <uint32_t>before
    return READ


cdef Outcome count_mappings(SweepState *sweep, Process *process, int maps) noexcept nogil:
    """Count the lines of maps; LARGE if there are too many to read in one go.

    READ if they were counted, and also if they cannot be counted here.
    """
    cdef Reader reader
    cdef ReadStatus status = MORE
    memset(&reader, 0, sizeof(Reader))
    reader.fd = maps
    reader.buffer = sweep.buffer.bytes
    reader.chunk_size = min(sweep.maps_chunk, sweep.buffer.size)
    reader.chunks = MAX_CHUNKS
    if reader.chunk_size * MAX_CHUNKS > sweep.buffer.size:
        reader.chunks = <int>(sweep.buffer.size // reader.chunk_size)
    while status == MORE or status == INTERRUPTED:
        status = count_chunks(&reader, 1)
        if reader.lines > MAX_MAPS_LINES:
            return LARGE
    if status == COMPLETE:
        process.mappings = <uint32_t>reader.lines
    return READ


cdef bint shares_parents_memory(SweepState *sweep, Process *process) noexcept nogil:
    """Whether the process is known to have all of its memory in common with its parent.

    After an exec a process has its own memory for good. A process that shares its parent's
    memory may get its own at any moment, but never the reverse. So this is asked before the
    memory is read: after a "no", what is read belongs to this process alone.
    """
    cdef int answer
    if not sweep.compare or not process.forked:
        return False
    answer = kcmp_vm(process.pid, process.ppid)
    process.own_memory = answer > 0
    return answer == 0


cdef Outcome read_memory(SweepState *sweep, Process *process, int directory) noexcept nogil:
    """Read the rollup, and count the mappings if asked to."""
    cdef Outcome outcome
    cdef char byte
    cdef int maps
    if sweep.maps_chunk == 0:
        return read_rollup(sweep, process, directory)
    # maps is opened before and checked after the rollup is read. An exec ends the text of the
    # open descriptor, so if it still gives a byte, the count and the rollup are of one program.
    maps = open_file(directory, b"maps")
    if maps < 0 and (errno == EMFILE or errno == ENFILE):
        return OTHER
    if maps < 0:
        return read_rollup(sweep, process, directory)
    outcome = count_mappings(sweep, process, maps)
    if outcome == READ:
        if process.resident <= sweep.max_pages:
            outcome = read_rollup(sweep, process, directory)
        else:
            outcome = OUTSIDE
        if process.mappings != MISSING and pread(maps, &byte, 1, 0) <= 0:
            process.mappings = MISSING
    close(maps)
    return outcome


cdef Outcome check_resident(SweepState *sweep, Process *process, int directory) noexcept nogil:
    """Read statm; READ if the process is within the limits."""
    cdef ssize_t got = read_small_file(&sweep.buffer, directory, b"statm", False)
    cdef const char *end
    cdef const char *number
    if got <= 0:
        return outcome_of(got)
    end = sweep.buffer.bytes + got
    number = skip_words(sweep.buffer.bytes, end, 1)
    if not is_decimal(number, end):
        return OTHER
    process.resident = decimal(number, end)
    if process.resident < sweep.min_pages:
        return OUTSIDE
    if process.resident > sweep.max_pages:
        return OUTSIDE if sweep.maps_chunk == 0 else READ   # its mappings are counted
    return LARGE if process.resident > sweep.large_pages else READ


cdef Outcome read_files(SweepState *sweep, Process *process, int directory) noexcept nogil:
    cdef Buffer *buffer = &sweep.buffer
    cdef struct_stat owner
    cdef ssize_t got
    cdef Outcome outcome
    cdef int i
    # The directory's owner is the effective uid, also for a process that is not dumpable, whose
    # files say 0. The directory of a reaped process says 0 as well, so what is read next must
    # succeed.
    if fstat(directory, &owner) != 0:
        return OTHER
    process.uid = owner.st_uid
    got = read_small_file(buffer, directory, b"stat", False)
    if got <= 0:
        return outcome_of(got)
    outcome = parse_stat(process, buffer.bytes, buffer.bytes + got)
    if outcome != READ and outcome != ZOMBIE and outcome != KERNEL_THREAD:
        return outcome
    for i in range(sweep.file_count):
        if sweep.is_link[i]:
            got = readlinkat(directory, sweep.files[i], buffer.bytes, buffer.size)
        else:
            got = read_small_file(buffer, directory, sweep.files[i], True)
        if got == -EMFILE or got == -ENFILE:
            return OTHER        # the file is there, but no descriptor is left
        if got >= 0 and not keep_text(sweep, i, got, &process.texts[i]):
            return OTHER
    if outcome == READ and sweep.read_rollups and sweep.read_statm:
        outcome = check_resident(sweep, process, directory)
    if outcome != READ:
        return outcome
    if shares_parents_memory(sweep, process):
        return SHARED
    return read_memory(sweep, process, directory) if sweep.read_rollups else READ


cdef bint read_process(SweepState *sweep, int root, int32_t pid) noexcept nogil:
    """Append the process and read it; False if out of memory."""
    cdef Process *processes
    cdef Process *process
    cdef char[16] name
    cdef int directory
    cdef int i
    if sweep.count == sweep.capacity:
        processes = <Process *>realloc(
            sweep.processes, (sweep.capacity * 2 + 64) * sizeof(Process)
        )
        if processes == NULL:
            return False
        sweep.processes = processes
        sweep.capacity = sweep.capacity * 2 + 64
    process = &sweep.processes[sweep.count]
    memset(process, 0, sizeof(Process))
    process.pid = pid
    process.record = process.mappings = MISSING
    for i in range(MAX_FILES):
        process.texts[i] = MISSING
    sweep.count += 1
    name[15] = 0
    directory = openat(root, format_pid(name + 15, pid), O_PATH | O_CLOEXEC | O_DIRECTORY)
    if directory < 0:
        process.outcome = OTHER     # ended, hidden, or no descriptor left: the caller finds out
        return True
    process.outcome = read_files(sweep, process, directory)
    close(directory)
    return True
