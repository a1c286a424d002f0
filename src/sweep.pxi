# class Sweep: many processes, a row each. Uses text_pool, read_chunks, table and read_process.

SWEEP_IN_USE = "a Sweep takes processes in one thread at a time, and cannot be read meanwhile"


cdef class Sweep:
    """Many processes, a row each; see _csmaps.pyi."""

    cdef SweepState state
    cdef Table _table
    cdef list _names            # owns the bytes of state.files
    cdef int threads            # see try_lock_shared()

    def __cinit__(
        self, tuple texts=(), min_pages=0, max_pages=2**64 - 1, large_pages=2**64 - 1,
        bint statm=False, bint rollups=True, size_t maps_chunk=0, bint compare=False,
    ):
        memset(&self.state, 0, sizeof(SweepState))
        if len(texts) > MAX_FILES:
            raise ValueError(f"texts: {MAX_FILES} at most")
        self._table = new_table()
        set_labels(self._table)
        self._names = [text.encode("ascii") for text in texts]
        self.state.parser = self._table.parser
        self.state.file_count = len(texts)
        for i in range(MAX_FILES):
            self.state.text_limit[i], self.state.pool_limit[i] = MAX_TEXT, MAX_TEXTS
        for i in range(len(texts)):
            self.state.files[i] = PyBytes_AS_STRING(self._names[i])
            self.state.is_link[i] = texts[i] == "exe"
        self.state.min_pages, self.state.max_pages = min_pages, max_pages
        self.state.large_pages = large_pages
        self.state.read_statm, self.state.read_rollups = statm, rollups
        self.state.maps_chunk = maps_chunk
        self.state.compare = compare
        self.state.buffer.bytes = <char *>malloc(SMALL_FILE)
        if self.state.buffer.bytes == NULL:
            raise MemoryError
        self.state.buffer.size = SMALL_FILE

    def __dealloc__(self):
        free(self.state.processes)
        free(self.state.buffer.bytes)
        for i in range(MAX_FILES):
            pool_free(&self.state.texts[i])

    def __len__(self):
        return self.state.count

    def take(self, int root, pids, double seconds):
        cdef Py_buffer view
        cdef const int32_t *numbers
        cdef size_t i = 0
        cdef size_t count
        cdef double end
        cdef bint good = True
        PyObject_GetBuffer(pids, &view, PyBUF_SIMPLE)
        try:
            if not try_lock_exclusive(&self.threads):
                raise RuntimeError(SWEEP_IN_USE)
            try:
                numbers = <const int32_t *>view.buf
                count = view.len // sizeof(int32_t)
                with nogil:
                    end = seconds_now() + seconds
                    while i < count:
                        good = read_process(&self.state, root, numbers[i])
                        i += 1
                        if not good or seconds_now() >= end:
                            break
                set_labels(self._table)
            finally:
                unlock_exclusive(&self.threads)
        finally:
            PyBuffer_Release(&view)
        if not good:
            raise MemoryError
        return i

    @property
    def table(self):
        return self._table

    def outcomes(self, size_t start=0):
        cdef size_t i
        if not try_lock_shared(&self.threads):
            raise RuntimeError(SWEEP_IN_USE)
        try:
            return bytes([
                self.state.processes[i].outcome for i in range(start, self.state.count)
            ])
        finally:
            unlock_shared(&self.threads)

    def row(self, size_t i):
        if not try_lock_shared(&self.threads):
            raise RuntimeError(SWEEP_IN_USE)
        try:
            if i >= self.state.count:
                raise IndexError(i)
            return self.make_row(&self.state.processes[i])
        finally:
            unlock_shared(&self.threads)

    @property
    def forked(self):
        cdef bint any_forked = False
        cdef size_t i
        if not try_lock_shared(&self.threads):
            raise RuntimeError(SWEEP_IN_USE)
        for i in range(self.state.count):
            any_forked |= self.state.processes[i].forked
        unlock_shared(&self.threads)
        return any_forked

    def members(self):
        cdef list found = []
        cdef Process *process
        cdef size_t i
        if not try_lock_shared(&self.threads):
            raise RuntimeError(SWEEP_IN_USE)
        try:
            for i in range(self.state.count):
                process = &self.state.processes[i]
                if process.outcome == READ or process.outcome == SHARED:
                    found.append((
                        i, process.pid, process.ppid, process.start_time,
                        bool(process.forked), process.stack,
                        process.outcome == READ, bool(process.own_memory),
                    ))
            return found
        finally:
            unlock_shared(&self.threads)

    cdef tuple make_row(self, Process *process):
        return (
            process.pid,
            process.outcome,
            process.record if process.record != MISSING else None,
            process.resident,
            tuple([self.text(k, process.texts[k]) for k in range(self.state.file_count)]),
            (
                process.comm[:process.comm_length], process.ppid, process.uid,
                process.start_time, bool(process.forked), process.stack,
                bool(process.own_memory),
            )
            if process.has_stat else None,
            process.mappings if process.mappings != MISSING else None,
        )

    cdef object text(self, int file, uint32_t id_):
        return pool_text(&self.state.texts[file], id_) if id_ != MISSING else None
