# Sums by name over many processes: one process's rows at a time, names kept once for all.

cdef extern from "<sys/syscall.h>" nogil:
    long SYS_getdents64

cdef extern from "<unistd.h>" nogil:
    long syscall(long number, ...)
    long long lseek(int fd, long long offset, int whence)

cdef enum:
    # Where a process is in procfs's list: its number and this (fs/proc/base.c, TGID_OFFSET).
    LIST_OFFSET = 258
    ENTRY_NAME = 19         # of a linux_dirent64
    ENTRY_ROOM = 48         # for one of them with a number as its name


cdef bint is_listed(int root, int32_t pid, const char *digits, size_t length) noexcept nogil:
    """Whether the list has the number; where procfs counts otherwise, False.

    A thread's number opens though no list has it. Looking it up in its place takes 2 us, in the
    list of 1,000 processes 2 ms, and in a file of the process's 15 us.
    """
    cdef char[ENTRY_ROOM] entry
    lseek(root, <long long>pid + LIST_OFFSET, 0)
    if syscall(SYS_getdents64, root, entry, ENTRY_ROOM) < ENTRY_NAME + <long>length + 1:
        return False
    return memcmp(entry + ENTRY_NAME, digits, length) == 0 and entry[ENTRY_NAME + length] == 0


ADDING = "uses are added by one thread at a time"


cdef class Uses:
    """What uses each name; see _csmaps.pyi."""

    cdef Scan *s
    cdef Sums sums
    cdef uint32_t *users        # by name: how many processes
    cdef uint32_t *last         # by name: the number of the last process that has it
    cdef size_t users_room
    cdef uint32_t processes
    cdef int threads

    def __cinit__(self):
        self.s = <Scan *>malloc(sizeof(Scan))
        if self.s == NULL:
            raise MemoryError
        scan_init(self.s)
        memset(&self.sums, 0, sizeof(Sums))

    def __dealloc__(self):
        if self.s != NULL:
            scan_free(self.s)
            free(self.s)
        free(self.sums.cells)
        free(self.users)
        free(self.last)

    def add(self, int fd, size_t piece, int pieces):
        cdef bint whole = False
        cdef uint32_t c
        if not enter_alone(&self.threads):
            raise RuntimeError(ADDING)
        try:
            whole = read_whole(fd, piece, pieces, True, self.s) and self.s.count > 0
            if whole:
                with nogil:
                    whole = self.add_process()
                if not whole:
                    raise MemoryError
            return whole
        finally:
            # Rows of this process alone; the names stay, and what it had without kB if it counts.
            for c in range(self.s.columns):
                if whole and not self.s.column[c].sized:
                    self.s.column[c].bare = True
                self.s.column[c].sized = not self.s.column[c].bare
            self.s.count = self.s.wide_count = self.s.text_count = self.s.texts_used = 0
            self.s.place = self.s.slots = 0
            self.s.row = NULL
            self.s.row_texts = 0
            self.s.problem = FINE
            self.s.lines = 0
            leave_alone(&self.threads)

    def take(self, int root, int32_t pid, size_t piece, int pieces, bint listed):
        cdef char[32] name
        cdef char *path = pid_text(name + 16, pid)
        cdef int fd = -1
        with nogil:     # an open waits while the process calls exec
            if listed or is_listed(root, pid, path, name + 16 - path):
                memcpy(name + 16, b"/smaps", 7)
                fd = openat(root, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        if fd < 0:
            return False
        try:
            return self.add(fd, piece, pieces)
        except (OSError, _errors.ParseError):
            return False
        finally:
            close(fd)

    cdef bint add_process(self) noexcept nogil:
        cdef Scan *s = self.s
        cdef uint32_t *groups
        cdef uint32_t *block
        cdef size_t i, room
        cdef uint32_t name
        if s.names.count > self.users_room:
            room = s.names.count * 2
            block = <uint32_t *>realloc(self.users, room * sizeof(uint32_t))
            if block == NULL:
                return False
            self.users = block
            block = <uint32_t *>realloc(self.last, room * sizeof(uint32_t))
            if block == NULL:
                return False
            self.last = block
            memset(self.users + self.users_room, 0, (room - self.users_room) * sizeof(uint32_t))
            memset(self.last + self.users_room, 0, (room - self.users_room) * sizeof(uint32_t))
            self.users_room = room
        if not sums_grow(&self.sums, s.columns, self.users_room):
            return False
        groups = <uint32_t *>malloc((s.count + 1) * sizeof(uint32_t))
        if groups == NULL:
            return False
        self.processes += 1
        for i in range(s.count):
            name = row_at(s, i).name
            groups[i] = name
            if self.last[name] != self.processes:
                self.last[name] = self.processes
                self.users[name] += 1
        add_rows(&self.sums, s, s.count, groups)
        free(groups)
        return True

    def result(self):
        if not enter_alone(&self.threads):
            raise RuntimeError(ADDING)
        try:
            return self.sums_by_name()
        finally:
            leave_alone(&self.threads)

    cdef list sums_by_name(self):
        cdef tuple labels = labels_of(self.s)
        cdef tuple names = pool_texts(&self.s.names)
        # The columns of a table that nothing was added to.
        if not sums_grow(&self.sums, self.s.columns, len(names)):
            raise MemoryError
        return [
            (names[i], self.users[i], sums_result(&self.sums, self.s, labels, i))
            for i in range(len(names)) if i < self.users_room and self.users[i]
        ]


cdef bint sums_grow(Sums *sums, uint32_t columns, size_t groups) noexcept nogil:
    """Room for more columns and more groups; what was added stays."""
    cdef Sums old = sums[0]
    cdef size_t g
    if columns <= old.columns and groups <= old.groups:
        return True
    if columns < old.columns:
        columns = old.columns
    if groups < old.groups:
        groups = old.groups
    sums.cells = NULL
    if not sums_fit(sums, columns, groups):
        sums[0] = old
        return False
    for g in range(old.groups):
        memcpy(sums.cells + g * columns, old.cells + g * old.columns, old.columns * 8)
        memcpy(sums.seen + g * columns, old.seen + g * old.columns, old.columns * 8)
        memcpy(sums.low + g * columns, old.low + g * old.columns, old.columns * 8)
        memcpy(sums.high + g * columns, old.high + g * old.columns, old.columns * 8)
    if old.groups:
        memcpy(sums.sizes, old.sizes, old.groups * 2 * 8)
    free(old.cells)
    return True
