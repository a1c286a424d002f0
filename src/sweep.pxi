# Many processes: of each the stat line and the rollup, through one directory descriptor.

from posix.fcntl cimport O_CLOEXEC, O_DIRECTORY, O_NONBLOCK, O_RDONLY
from posix.stat cimport fstat, struct_stat
from posix.unistd cimport close

cdef extern from "<fcntl.h>" nogil:
    int O_PATH
    int openat(int directory, const char *name, int flags)

cdef extern from "<unistd.h>" nogil:
    ssize_t readlinkat(int directory, const char *name, char *buffer, size_t room)

cdef enum Fate:             # the order of fastsmaps._host.sweeper.FATES
    READ
    DENIED
    KERNEL_THREAD
    ZOMBIE
    OUTSIDE                 # its Rss is not between the limits
    LARGE                   # not to be read in one go
    OTHER                   # anything else: whoever asked has to look for himself
    SHARED                  # all of its memory is its parent's too

cdef enum:
    MOST_COMM = 64          # TASK_COMM_LEN is 16; of kernel workers stat shows more
    MOST_KEPT = 3           # texts beside
    ROLLUP_ROOM = 16384     # a rollup has about 700 bytes, stat 300
    MOST_LINES = 1 << 16    # of maps in one go: 24 ms
    MOST_TEXT = 131072      # these four as in fastsmaps/_host/texts.py
    LEAST_TEXT = 64
    MOST_TEXTS = 8388608
    MARK = 3                # bytes of "..."
    PF_EXITING = 0x4
    PF_FORKNOEXEC = 0x40
    PF_KTHREAD = 0x00200000

cdef struct Task:
    int32_t pid
    int32_t ppid
    uint32_t uid
    uint32_t record         # its place among the rollups' rows
    uint64_t start          # ticks since boot
    uint64_t stack          # where it begins
    uint64_t resident       # pages, by statm
    uint32_t mappings       # lines of maps
    uint32_t kept[MOST_KEPT]
    uint8_t fate
    uint8_t has_stat
    uint8_t forked          # and has called no exec since
    uint8_t apart           # by kcmp(2): has other memory than its parent
    uint8_t comm_length
    char comm[MOST_COMM]

cdef struct Sweeper:
    Scan *s
    Task *tasks
    size_t count
    size_t room
    Pool kept[MOST_KEPT]
    size_t limit[MOST_KEPT]     # longer texts are cut
    size_t allowed[MOST_KEPT]   # bytes of all of them
    const char *names[MOST_KEPT]
    bint is_link[MOST_KEPT]
    int names_count
    bint sized              # statm is read
    uint64_t least
    uint64_t most
    uint64_t large
    bint rollups
    bint compare            # the pids are those of our own namespace
    size_t piece            # in which maps is read, 0 where its lines are not counted
    char *buffer
    size_t buffer_room


cdef const char *skip_fields(const char *p, const char *end, int count) noexcept nogil:
    while count > 0 and p < end:
        while p < end and p[0] != c' ':
            p += 1
        while p < end and p[0] == c' ':
            p += 1
        count -= 1
    return p


cdef uint64_t decimal(const char *p, const char *end) noexcept nogil:
    cdef uint64_t value = 0
    while p < end and c'0' <= p[0] <= c'9':
        value = value * 10 + <uint64_t>(p[0] - c'0')
        p += 1
    return value


cdef bint is_number(const char *p, const char *end) noexcept nogil:
    """Whether a number stands there, and one that is surely below 2**64: 18 digits."""
    cdef const char *start = p
    while p < end and c'0' <= p[0] <= c'9':
        p += 1
    return 0 < p - start <= 18 and (p == end or p[0] == c' ' or p[0] == c'\n')


cdef Fate stat_fate(Task *task, const char *p, const char *end) noexcept nogil:
    """What the stat line says; READ for a process that should have memory of its own."""
    cdef const char *name
    cdef const char *stop = end
    cdef uint64_t flags, threads
    cdef bint good
    cdef char state
    name = <const char *>memchr(p, c'(', end - p)
    while stop > p and (stop - 1)[0] != c')':   # comm may hold anything: after the last one
        stop -= 1
    if name == NULL or stop - 1 <= name or end - stop < 3 or stop - 2 - name > MOST_COMM:
        return OTHER
    task.comm_length = <uint8_t>(stop - 2 - name)
    memcpy(task.comm, name + 1, task.comm_length)
    p = stop + 1
    state = p[0]
    p = skip_fields(p, end, 1)
    good = is_number(p, end)
    task.ppid = <int32_t>decimal(p, end)
    p = skip_fields(p, end, 5)
    good = good and is_number(p, end)
    flags = decimal(p, end)
    p = skip_fields(p, end, 11)
    good = good and is_number(p, end)
    threads = decimal(p, end)
    p = skip_fields(p, end, 2)
    good = good and is_number(p, end)
    task.start = decimal(p, end)
    p = skip_fields(p, end, 6)
    good = good and is_number(p, end)
    task.stack = decimal(p, end)
    p = skip_fields(p, end, 10)
    if p == end or not good:
        return OTHER            # damage is for Process to report
    task.has_stat = True
    task.forked = flags & PF_FORKNOEXEC != 0
    if flags & PF_KTHREAD:
        return KERNEL_THREAD
    if state == c'Z' or state == c'X' or flags & PF_EXITING:
        return ZOMBIE if threads <= 1 else OTHER
    # Of a thread that is not the first one exit_signal is -1: its number is no process's.
    return OTHER if p[0] == c'-' else READ


cdef ssize_t small_file(Sweeper *w, int directory, const char *name, bint whole) noexcept nogil:
    """Bytes of the file in the buffer; -errno. Without `whole` one read must give all of it."""
    # O_NONBLOCK: as fastsmaps._backend.descriptors.OPEN.
    cdef int fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    cdef ssize_t got
    cdef size_t used = 0
    cdef char *block
    if fd < 0:
        return -errno
    while True:
        got = pread(fd, w.buffer + used, w.buffer_room - used, used)
        if got < 0:
            got = -errno
            break
        used += got
        if got == 0 or not whole:
            got = used
            break
        if used == w.buffer_room:
            if used > MOST_TEXT + MARK:
                got = used
                break
            block = <char *>realloc(w.buffer, w.buffer_room * 2)
            if block == NULL:
                got = -ENOMEM
                break
            w.buffer = block
            w.buffer_room *= 2
    close(fd)
    return got


cdef void lower_limit(Sweeper *w, int kind) noexcept nogil:
    """Cuts the longest texts, so that all of them need half of what is allowed."""
    cdef Pool *pool = &w.kept[kind]
    cdef size_t limit = w.limit[kind]
    cdef size_t needed
    cdef uint32_t i
    if limit > LEAST_TEXT:
        limit //= 2
    while limit > LEAST_TEXT:
        needed = 0
        for i in range(pool.count):
            needed += pool.entries[i].length if pool.entries[i].length < limit else limit
        if needed <= MOST_TEXTS // 2:
            break
        limit //= 2
    pool_cut(pool, limit)
    w.limit[kind] = limit
    # With very many texts even the shortest limit may need more.
    w.allowed[kind] = 2 * pool.used if 2 * pool.used > MOST_TEXTS else MOST_TEXTS


cdef bint keep_file(Sweeper *w, int kind, size_t length, uint32_t *id_) noexcept nogil:
    """Keeps the text that is in the buffer, cut at the limit; False where there is no memory."""
    cdef size_t limit = w.limit[kind]
    if length > limit + MARK:
        length = limit + MARK
        memcpy(w.buffer + limit, b"...", MARK)
    if not pool_id(&w.kept[kind], w.buffer, length, id_):
        return False
    if w.kept[kind].used > w.allowed[kind]:
        lower_limit(w, kind)
    return True


cdef inline Fate refused(ssize_t got) noexcept nogil:
    return DENIED if got == -EACCES or got == -EPERM else OTHER


cdef Fate take_rollup(Sweeper *w, Task *task, int directory) noexcept nogil:
    cdef Scan *s = w.s
    cdef size_t before = s.count
    cdef const char *rest
    cdef ssize_t got = small_file(w, directory, b"smaps_rollup", False)
    if got <= 0 or <size_t>got == w.buffer_room:
        return refused(got)
    s.base = w.buffer
    s.base_offset = 0
    s.lines = 0
    s.row = NULL                # a field before any header is not the last process's
    s.problem = FINE
    rest = scan(s, w.buffer, w.buffer + got, True)
    finish(s)
    # A row that is not one rollup's stays in the table, and nobody refers to it.
    if rest == NULL or s.count != before + 1:
        return OTHER
    task.record = <uint32_t>before
    return READ


cdef Fate count_mappings(Sweeper *w, Task *task, int maps) noexcept nogil:
    """READ where the count is known or cannot be had here, LARGE for too many in one go."""
    cdef Reader r
    cdef Outcome outcome = MORE
    memset(&r, 0, sizeof(Reader))
    r.fd = maps
    r.buffer = w.buffer
    r.piece = w.piece if w.piece < w.buffer_room else w.buffer_room
    r.pieces = MOST_PIECES
    if r.piece * MOST_PIECES > w.buffer_room:
        r.pieces = <int>(w.buffer_room // r.piece)
    r.waits = waits_so_far()
    while outcome == MORE or outcome == INTERRUPTED:
        outcome = count_pieces(&r, 1)
        if r.lines > MOST_LINES:
            return LARGE
    if outcome == WHOLE:
        task.mappings = <uint32_t>r.lines
    return READ


cdef bint has_parents_memory(Sweeper *w, Task *task) noexcept nogil:
    """Whether that is known.

    What has called exec since its fork has memory of its own for good, and what has its parent's
    may get its own at any moment, but not the reverse. So it is asked before the reading: where
    it says no, what is read is nobody else's.
    """
    cdef int answer
    if not w.compare or not task.forked:
        return False
    answer = kcmp_vm(task.pid, task.ppid)
    task.apart = answer > 0
    return answer == 0


cdef Fate take_memory(Sweeper *w, Task *task, int directory) noexcept nogil:
    """The rollup, and how many mappings there are."""
    cdef Fate fate
    cdef char byte
    cdef int maps
    if w.piece == 0:
        return take_rollup(w, task, directory)
    # Opened first and looked at last: an exec meanwhile ends this text. As long as it gives a
    # byte the count and the rollup are of the same program.
    maps = openat(directory, b"maps", O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    if maps < 0 and (errno == EMFILE or errno == ENFILE):
        return OTHER
    if maps < 0:
        return take_rollup(w, task, directory)
    fate = count_mappings(w, task, maps)
    if fate == READ:
        fate = take_rollup(w, task, directory) if task.resident <= w.most else OUTSIDE
        if task.mappings != NOTHING and pread(maps, &byte, 1, 0) <= 0:
            task.mappings = NOTHING
    close(maps)
    return fate


cdef Fate take_files(Sweeper *w, Task *task, int directory) noexcept nogil:
    cdef struct_stat owner
    cdef ssize_t got
    cdef const char *number
    cdef Fate fate
    cdef int i
    # Of a process that is not dumpable the directory keeps the effective uid, its files say 0;
    # of one that was reaped the directory says 0 too, so what is read next must succeed.
    if fstat(directory, &owner) != 0:
        return OTHER
    task.uid = owner.st_uid
    got = small_file(w, directory, b"stat", False)
    if got <= 0:
        return refused(got)
    fate = stat_fate(task, w.buffer, w.buffer + got)
    if fate != READ and fate != ZOMBIE and fate != KERNEL_THREAD:
        return fate
    for i in range(w.names_count):
        if w.is_link[i]:
            got = readlinkat(directory, w.names[i], w.buffer, w.buffer_room)
        else:
            got = small_file(w, directory, w.names[i], True)
        if got == -EMFILE or got == -ENFILE:
            return OTHER        # it is there, but no descriptor is left
        if got >= 0 and not keep_file(w, i, got, &task.kept[i]):
            return OTHER
    if fate != READ:
        return fate
    if not w.rollups:
        return SHARED if has_parents_memory(w, task) else READ
    if w.sized:
        got = small_file(w, directory, b"statm", False)
        if got <= 0:
            return refused(got)
        number = skip_fields(w.buffer, w.buffer + got, 1)
        if not is_number(number, w.buffer + got):
            return OTHER
        task.resident = decimal(number, w.buffer + got)
        if task.resident < w.least or (task.resident > w.most and w.piece == 0):
            return OUTSIDE
        if w.large < task.resident <= w.most:
            return LARGE
    return SHARED if has_parents_memory(w, task) else take_memory(w, task, directory)


cdef char *pid_text(char *end, int32_t pid) noexcept nogil:
    """The number's digits, up to `end`; where they begin. None below 1, which is no process."""
    while pid > 0:
        end -= 1
        end[0] = <char>(c'0' + pid % 10)
        pid = pid // 10
    return end


cdef bint take_process(Sweeper *w, int root, int32_t pid) noexcept nogil:
    cdef Task *tasks
    cdef Task *task
    cdef char[16] name
    cdef int directory
    cdef int i
    if w.count == w.room:
        tasks = <Task *>realloc(w.tasks, (w.room * 2 + 64) * sizeof(Task))
        if tasks == NULL:
            return False
        w.tasks = tasks
        w.room = w.room * 2 + 64
    task = &w.tasks[w.count]
    memset(task, 0, sizeof(Task))
    task.pid = pid
    task.record = task.mappings = NOTHING
    for i in range(MOST_KEPT):
        task.kept[i] = NOTHING
    w.count += 1
    name[15] = 0
    directory = openat(root, pid_text(name + 15, pid), O_PATH | O_CLOEXEC | O_DIRECTORY)
    if directory < 0:
        task.fate = OTHER       # gone, hidden, or no descriptor left: Process decides
        return True
    task.fate = take_files(w, task, directory)
    close(directory)
    return True


IN_USE = "a sweep is taken by one thread at a time, and not looked at meanwhile"


cdef class Sweep:
    """Many processes, a row each; see _csmaps.pyi."""

    cdef Sweeper w
    cdef Table _table
    cdef list _names
    cdef int threads

    def __cinit__(
        self, tuple texts=(), least=0, most=2**64 - 1, large=2**64 - 1, bint sized=False,
        bint rollups=True, size_t mappings=0, bint compare=False,
    ):
        memset(&self.w, 0, sizeof(Sweeper))
        if len(texts) > MOST_KEPT:
            raise ValueError(f"texts: {MOST_KEPT} at most")
        self._table = new_table()
        name_columns(self._table)
        self._names = [text.encode("ascii") for text in texts]
        self.w.s = self._table.s
        self.w.names_count = len(texts)
        for i in range(MOST_KEPT):
            self.w.limit[i], self.w.allowed[i] = MOST_TEXT, MOST_TEXTS
        for i in range(len(texts)):
            self.w.names[i] = PyBytes_AS_STRING(self._names[i])
            self.w.is_link[i] = texts[i] == "exe"
        self.w.least, self.w.most, self.w.large = least, most, large
        self.w.sized, self.w.rollups, self.w.piece = sized, rollups, mappings
        self.w.compare = compare
        self.w.buffer = <char *>malloc(ROLLUP_ROOM)
        if self.w.buffer == NULL:
            raise MemoryError
        self.w.buffer_room = ROLLUP_ROOM

    def __dealloc__(self):
        free(self.w.tasks)
        free(self.w.buffer)
        for i in range(MOST_KEPT):
            pool_free(&self.w.kept[i])

    def __len__(self):
        return self.w.count

    def take(self, int root, pids, double seconds):
        cdef Py_buffer view
        cdef const int32_t *numbers
        cdef size_t i = 0
        cdef size_t count
        cdef double end
        cdef bint good = True
        PyObject_GetBuffer(pids, &view, PyBUF_SIMPLE)
        try:
            if not enter_alone(&self.threads):
                raise RuntimeError(IN_USE)
            try:
                numbers = <const int32_t *>view.buf
                count = view.len // sizeof(int32_t)
                with nogil:
                    end = seconds_now() + seconds
                    while i < count:
                        good = take_process(&self.w, root, numbers[i])
                        i += 1
                        if not good or seconds_now() >= end:
                            break
                name_columns(self._table)
            finally:
                leave_alone(&self.threads)
        finally:
            PyBuffer_Release(&view)
        if not good:
            raise MemoryError
        return i

    @property
    def table(self):
        return self._table

    def fates(self, size_t start=0):
        if not enter(&self.threads):
            raise RuntimeError(IN_USE)
        try:
            return bytes([self.w.tasks[i].fate for i in range(start, self.w.count)])
        finally:
            leave(&self.threads)

    def row(self, size_t i):
        if not enter(&self.threads):
            raise RuntimeError(IN_USE)
        try:
            if i >= self.w.count:
                raise IndexError(i)
            return self.task(i)
        finally:
            leave(&self.threads)

    @property
    def forked(self):
        cdef bint some = False
        cdef size_t i
        if not enter(&self.threads):
            raise RuntimeError(IN_USE)
        for i in range(self.w.count):
            some |= self.w.tasks[i].forked
        leave(&self.threads)
        return some

    def members(self):
        cdef list found = []
        cdef Task *task
        cdef size_t i
        if not enter(&self.threads):
            raise RuntimeError(IN_USE)
        try:
            for i in range(self.w.count):
                task = &self.w.tasks[i]
                if task.fate == READ or task.fate == SHARED:
                    found.append((
                        i, task.pid, task.ppid, task.start, bool(task.forked), task.stack,
                        task.fate == READ, bool(task.apart),
                    ))
            return found
        finally:
            leave(&self.threads)

    cdef tuple task(self, size_t i):
        cdef Task *task = &self.w.tasks[i]
        return (
            task.pid,
            task.fate,
            task.record if task.record != NOTHING else None,
            task.resident,
            tuple([self.text(k, task.kept[k]) for k in range(self.w.names_count)]),
            (
                task.comm[:task.comm_length], task.ppid, task.uid, task.start,
                bool(task.forked), task.stack, bool(task.apart),
            )
            if task.has_stat else None,
            task.mappings if task.mappings != NOTHING else None,
        )

    cdef object text(self, int kind, uint32_t id_):
        cdef Entry *entry
        if id_ == NOTHING:
            return None
        entry = &self.w.kept[kind].entries[id_]
        return PyBytes_FromStringAndSize(self.w.kept[kind].bytes + entry.at, entry.length)


def statms(fds, out):
    """See _csmaps.pyi."""
    cdef Py_buffer view
    cdef Py_buffer into
    cdef const int32_t *numbers
    cdef uint64_t *pages
    cdef size_t i, count
    cdef int k
    cdef ssize_t got
    cdef char[256] text
    cdef const char *p
    cdef const char *end
    PyObject_GetBuffer(fds, &view, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(out, &into, PyBUF_WRITABLE)
        try:
            count = view.len // sizeof(int32_t)
            if <size_t>into.len != count * 3 * sizeof(uint64_t):
                raise ValueError("out: three 64-bit numbers for each descriptor")
            numbers = <const int32_t *>view.buf
            pages = <uint64_t *>into.buf
            with nogil:
                for i in range(count):
                    got = pread(numbers[i], text, 256, 0)
                    p = text
                    end = p + (got if got > 0 else 0)
                    for k in range(3):
                        p = skip_fields(p, end, 1)
                        if not is_number(p, end):
                            pages[3 * i] = pages[3 * i + 1] = pages[3 * i + 2] = <uint64_t>-1
                            break
                        pages[3 * i + k] = decimal(p, end)
        finally:
            PyBuffer_Release(&into)
    finally:
        PyBuffer_Release(&view)
