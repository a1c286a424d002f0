# Sums by file over many processes: one process's rows at a time, names kept once for all.

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

cdef struct FileKey:        # a file: one path may lead to several
    uint64_t inode
    uint32_t dev
    uint32_t name

cdef struct Users:          # by number: how many processes have it
    uint32_t *count
    uint32_t *last          # the number of the last process that has it
    size_t room


cdef bint users_grow(Users *users, size_t needed) noexcept nogil:
    cdef size_t room = needed * 2
    cdef uint32_t *block
    if needed <= users.room:
        return True
    block = <uint32_t *>realloc(users.count, room * sizeof(uint32_t))
    if block == NULL:
        return False
    users.count = block
    block = <uint32_t *>realloc(users.last, room * sizeof(uint32_t))
    if block == NULL:
        return False
    users.last = block
    memset(users.count + users.room, 0, (room - users.room) * sizeof(uint32_t))
    memset(users.last + users.room, 0, (room - users.room) * sizeof(uint32_t))
    users.room = room
    return True


cdef inline void users_add(Users *users, uint32_t number, uint32_t process) noexcept nogil:
    """Counts the process once, however many rows it has of this."""
    if users.last[number] != process:
        users.last[number] = process
        users.count[number] += 1


cdef class Uses:
    """What uses each file; see _csmaps.pyi."""

    cdef Scan *s
    cdef Sums sums              # by file
    cdef Pool files             # FileKeys as texts
    cdef Users of_name
    cdef Users of_file
    cdef uint32_t processes
    cdef int threads

    def __cinit__(self):
        self.s = <Scan *>malloc(sizeof(Scan))
        if self.s == NULL:
            raise MemoryError
        scan_init(self.s)
        memset(&self.sums, 0, sizeof(Sums))
        memset(&self.files, 0, sizeof(Pool))
        memset(&self.of_name, 0, sizeof(Users))
        memset(&self.of_file, 0, sizeof(Users))

    def __dealloc__(self):
        if self.s != NULL:
            scan_free(self.s)
            free(self.s)
        free(self.sums.cells)
        pool_free(&self.files)
        free(self.of_name.count)
        free(self.of_name.last)
        free(self.of_file.count)
        free(self.of_file.last)

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
        except (OSError, _errors.ParseError) as error:
            if _errors.is_foreign(error):
                raise
            return False
        finally:
            close(fd)

    cdef bint add_process(self) noexcept nogil:
        cdef uint32_t *groups = <uint32_t *>malloc((self.s.count + 1) * sizeof(uint32_t))
        cdef bint done
        if groups == NULL:
            return False
        self.processes += 1
        done = self.number_files(groups) and sums_grow(
            &self.sums, self.s.columns, self.of_file.room
        )
        if done:
            add_rows(&self.sums, self.s, self.s.count, groups)
        free(groups)
        return done

    cdef bint number_files(self, uint32_t *groups) noexcept nogil:
        """The number of each row's file; and counts the process as a user of each."""
        cdef FileKey key
        cdef Row *row
        cdef size_t i
        cdef uint32_t file = 0
        if not users_grow(&self.of_name, self.s.names.count):
            return False
        for i in range(self.s.count):
            row = row_at(self.s, i)
            # Neighbours are mostly parts of one file.
            if i == 0 or row.name != key.name or row.inode != key.inode or row.dev != key.dev:
                key.inode = row.inode
                key.dev = row.dev
                key.name = row.name
                if not pool_id(&self.files, <const char *>&key, sizeof(FileKey), &file):
                    return False
                if not users_grow(&self.of_file, self.files.count):
                    return False
                users_add(&self.of_name, row.name, self.processes)
                users_add(&self.of_file, file, self.processes)
            groups[i] = file
        return True

    def result(self):
        if not enter_alone(&self.threads):
            raise RuntimeError(ADDING)
        try:
            return self.sums_by_file()
        finally:
            leave_alone(&self.threads)

    cdef list sums_by_file(self):
        cdef tuple labels = labels_of(self.s)
        cdef tuple names = pool_texts(&self.s.names)
        cdef tuple devs = pool_texts(&self.s.devs)
        cdef FileKey key
        cdef uint32_t i
        cdef dict found = {}
        # The columns of a table that nothing was added to.
        if not sums_grow(&self.sums, self.s.columns, self.files.count):
            raise MemoryError
        for i in range(self.files.count):
            memcpy(&key, self.files.bytes + self.files.entries[i].at, sizeof(FileKey))
            sums = sums_result(&self.sums, self.s, labels, i)
            found.setdefault(key.name, []).append(
                (devs[key.dev], key.inode, self.of_file.count[i], sums)
            )
        return [(names[i], self.of_name.count[i], files) for i, files in found.items()]


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
