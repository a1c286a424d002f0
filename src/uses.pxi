# class Uses: sums by mapped file over many processes. The rows of one process at a time are
# kept, and the names of all.
# Uses text_pool, rows, sums, read_chunks, table and proc_files.

USES_IN_USE = "a Uses is for one thread at a time"


cdef bint grow_user_counts(UserCounts *users, size_t needed) noexcept nogil:
    cdef size_t capacity = needed * 2
    cdef uint32_t *block
    if needed <= users.capacity:
        return True
    block = <uint32_t *>realloc(users.count, capacity * sizeof(uint32_t))
    if block == NULL:
        return False
    users.count = block
    block = <uint32_t *>realloc(users.last, capacity * sizeof(uint32_t))
    if block == NULL:
        return False
    users.last = block
    memset(users.count + users.capacity, 0, (capacity - users.capacity) * sizeof(uint32_t))
    memset(users.last + users.capacity, 0, (capacity - users.capacity) * sizeof(uint32_t))
    users.capacity = capacity
    return True


cdef inline void count_user(UserCounts *users, uint32_t id_, uint32_t process) noexcept nogil:
    """Count the process as a user; it counts once, however many of its rows have this id."""
    if users.last[id_] != process:
        users.last[id_] = process
        users.count[id_] += 1


cdef class Uses:
    """Which files processes use; see _csmaps.pyi."""

    cdef Parser *parser
    cdef Sums sums              # by file
    cdef TextPool files         # FileKeys as texts
    cdef UserCounts of_name
    cdef UserCounts of_file
    cdef uint32_t processes
    cdef int threads            # see try_lock_exclusive()

    def __cinit__(self):
        self.parser = <Parser *>malloc(sizeof(Parser))
        if self.parser == NULL:
            raise MemoryError
        parser_init(self.parser)
        memset(&self.sums, 0, sizeof(Sums))
        memset(&self.files, 0, sizeof(TextPool))
        memset(&self.of_name, 0, sizeof(UserCounts))
        memset(&self.of_file, 0, sizeof(UserCounts))

    def __dealloc__(self):
        if self.parser != NULL:
            parser_free(self.parser)
            free(self.parser)
        free(self.sums.cells)
        pool_free(&self.files)
        free(self.of_name.count)
        free(self.of_name.last)
        free(self.of_file.count)
        free(self.of_file.last)

    def add(self, int fd, size_t chunk_size, int chunks):
        cdef bint complete = False
        if not try_lock_exclusive(&self.threads):
            raise RuntimeError(USES_IN_USE)
        try:
            complete = parse_fd(fd, chunk_size, chunks, self.parser) and self.parser.count > 0
            if complete:
                with nogil:
                    complete = self.add_process()
                if not complete:
                    raise MemoryError
            return complete
        finally:
            self.forget_rows(complete)
            unlock_exclusive(&self.threads)

    cdef void forget_rows(self, bint added) noexcept nogil:
        """Make the parser ready for the next process; names and labels stay.

        If the rows were added, remember which of their columns had values without kB.
        """
        cdef Parser *parser = self.parser
        cdef Column *column
        cdef uint32_t c
        for c in range(parser.column_count):
            column = &parser.columns[c]
            if added and not column.sized:
                column.was_bare = True
            column.sized = not column.was_bare
        parser.count = parser.wide_count = parser.text_count = parser.text_bytes_used = 0
        parser.place = parser.slot_count = 0
        parser.row = NULL
        parser.row_texts = 0
        parser.problem = NO_PROBLEM
        parser.lines = 0

    def take(self, int root, int32_t pid, size_t chunk_size, int chunks, bint listed):
        cdef char[32] name
        cdef char *path = format_pid(name + 16, pid)
        cdef int fd = -1
        with nogil:     # the open blocks while the process is in exec
            if listed or is_listed(root, pid, path, name + 16 - path):
                memcpy(name + 16, b"/smaps", 7)
                fd = open_file(root, path)
        if fd < 0:
            return False
        try:
            return self.add(fd, chunk_size, chunks)
        except (OSError, _errors.ParseError) as error:
            if _errors.is_foreign(error):
                raise
            return False
        finally:
            close(fd)

    cdef bint add_process(self) noexcept nogil:
        cdef uint32_t *groups = <uint32_t *>malloc((self.parser.count + 1) * sizeof(uint32_t))
        cdef bint done
        if groups == NULL:
            return False
        self.processes += 1
        done = self.number_files(groups) and grow_sums(
            &self.sums, self.parser.column_count, self.of_file.capacity
        )
        if done:
            add_rows(&self.sums, self.parser, self.parser.count, groups)
        free(groups)
        return done

    cdef bint number_files(self, uint32_t *groups) noexcept nogil:
        """Set each row's group to the id of its file, and count the process as its user."""
        cdef FileKey key
        cdef Row *row
        cdef size_t i
        cdef uint32_t file = 0
        if not grow_user_counts(&self.of_name, self.parser.names.count):
            return False
        for i in range(self.parser.count):
            row = row_at(self.parser, i)
            # Neighbouring rows are mostly of one file.
            if i == 0 or row.name != key.name or row.inode != key.inode or row.dev != key.dev:
                key.inode = row.inode
                key.dev = row.dev
                key.name = row.name
                if not pool_id(&self.files, <const char *>&key, sizeof(FileKey), &file):
                    return False
                if not grow_user_counts(&self.of_file, self.files.count):
                    return False
                count_user(&self.of_name, row.name, self.processes)
                count_user(&self.of_file, file, self.processes)
            groups[i] = file
        return True

    def result(self):
        if not try_lock_exclusive(&self.threads):
            raise RuntimeError(USES_IN_USE)
        try:
            return self.sums_by_file()
        finally:
            unlock_exclusive(&self.threads)

    cdef list sums_by_file(self):
        cdef tuple labels = labels_of(self.parser)
        cdef tuple names = pool_texts(&self.parser.names)
        cdef tuple devs = pool_texts(&self.parser.devs)
        cdef FileKey key
        cdef uint32_t i
        cdef dict found = {}
        # Columns of a table that was parsed but not added.
        if not grow_sums(&self.sums, self.parser.column_count, self.files.count):
            raise MemoryError
        for i in range(self.files.count):
            memcpy(&key, self.files.bytes + self.files.entries[i].offset, sizeof(FileKey))
            sums = sums_result(&self.sums, self.parser, labels, i)
            found.setdefault(key.name, []).append(
                (devs[key.dev], key.inode, self.of_file.count[i], sums)
            )
        return [(names[i], self.of_name.count[i], files) for i, files in found.items()]
