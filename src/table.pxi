# class Table, and the functions that make one or only count: parse(), read(), total(), lines().
# Uses text_pool, rows, parse_lines, sums, read_chunks and columns.

# The known labels' str objects: making them anew would cost a rollup 1.5 us.
cdef list known_label_texts = []


cdef int add_known_label(str label, LabelKind kind) except -1:
    global known_label_count
    cdef bytes text = label.encode("ascii")
    if known_label_count == MAX_KNOWN_LABELS or len(text) > MAX_SLOT_TEXT:
        raise ImportError("fastsmaps._fields and its extension do not fit; build it again")
    memcpy(known_labels[known_label_count].text, PyBytes_AS_STRING(text), len(text))
    known_labels[known_label_count].length = len(text)
    known_labels[known_label_count].kind = kind
    known_label_count += 1
    known_label_texts.append(label)
    return 0


for _label in SIZES:
    add_known_label(_label, SIZE_LABEL)
for _label in PAGE_SIZES:
    add_known_label(_label, PAGE_SIZE_LABEL)
for _label in NUMBERS:
    add_known_label(_label, NUMBER_LABEL)
add_known_label(FLAGS, FLAGS_LABEL)
add_known_label(NAME, NAME_LABEL)
if _MAX_LABELS != MAX_LABELS or len(_errors.PROBLEMS) != NO_MEMORY:
    raise ImportError("fastsmaps and its extension are of different versions; build it again")


cdef tuple labels_of(Parser *parser):
    cdef uint32_t c
    cdef list labels = []
    for c in range(parser.column_count):
        if parser.columns[c].known >= 0:
            labels.append(known_label_texts[parser.columns[c].known])
        else:
            # ASCII, unless the buffer changed while it was parsed.
            labels.append(pool_text(&parser.labels, c).decode("latin-1"))
    return tuple(labels)


cdef void publish_object(void **place, object made) noexcept:
    """Keep the object there, unless another thread has stored its own meanwhile.

    Without the GIL, replacing an attribute while another thread reads it could free the object
    under that thread. A published object stays until its table is freed.
    """
    if publish_once(place, <void *>made):
        Py_INCREF(made)


cdef tuple published_texts(void **place, TextPool *pool):
    if load_published(place) == NULL:
        publish_object(place, pool_texts(pool))
    return <tuple>load_published(place)


cdef object published_text(void **place, TextPool *pool, uint32_t i):
    """Return one text; a Sweep's table may have grown since the tuple of texts was made."""
    cdef tuple texts = published_texts(place, pool)
    if i < <uint32_t>len(texts):
        return texts[i]
    return pool_text(pool, i)


# The members of a Row, and the memoryview formats by width.
cdef tuple LONGS = ("start", "end", "offset", "inode")
cdef tuple INTS = ("perms", "dev", "name", "flags")
cdef dict FORMATS = {1: "B", 4: "I", 8: "Q"}


cdef class Table:
    """The columns of one text; see _csmaps.pyi."""

    cdef Parser *parser
    cdef size_t count
    cdef readonly tuple labels
    cdef readonly tuple sized
    # Made at the first request, perhaps by several threads at once: see publish_object().
    cdef void *_names
    cdef void *_devs
    cdef void *_flags
    cdef void *_extra

    def __cinit__(self):
        self.parser = <Parser *>malloc(sizeof(Parser))
        if self.parser == NULL:
            raise MemoryError
        parser_init(self.parser)

    def __dealloc__(self):
        Py_XDECREF(<PyObject *>self._names)
        Py_XDECREF(<PyObject *>self._devs)
        Py_XDECREF(<PyObject *>self._flags)
        Py_XDECREF(<PyObject *>self._extra)
        if self.parser != NULL:
            parser_free(self.parser)
            free(self.parser)

    def __init__(self):
        raise TypeError("tables come from parse() and read()")

    def __len__(self):
        return self.count

    @property
    def names(self):
        return published_texts(&self._names, &self.parser.names)

    @property
    def devs(self):
        return published_texts(&self._devs, &self.parser.devs)

    @property
    def flags(self):
        return published_texts(&self._flags, &self.parser.flags)

    def has_name(self, bytes name not None):
        return pool_has(&self.parser.names, PyBytes_AS_STRING(name), len(name))

    @property
    def extra(self):
        if load_published(&self._extra) == NULL:
            publish_object(&self._extra, self.make_extra())
        return <dict>load_published(&self._extra)

    cdef dict make_extra(self):
        cdef size_t i
        cdef TextField *text
        cdef char *label
        cdef char *value
        cdef dict extra = {}
        for i in range(self.parser.text_count):
            text = &self.parser.text_fields[i]
            label = self.parser.text_bytes + text.offset
            value = label + text.label_length
            extra.setdefault(text.row, {})[label[:text.label_length].decode("latin-1")] = (
                value[:text.value_length].decode("utf-8", "surrogateescape")
            )
        return extra

    def column(self, str key not None):
        return self.columns((key,))[0][0]

    def columns(self, keys not None):
        cdef size_t count = len(keys), block_size = 0, c, start, stop
        cdef bytes block
        cdef char *values
        cdef ColumnRequest *requests
        cdef ColumnRequest *zeros = NULL
        cdef list found = []
        requests = <ColumnRequest *>calloc(count + 1, sizeof(ColumnRequest))
        if requests == NULL:
            raise MemoryError
        try:
            for c in range(count):
                self.locate(keys[c], &requests[c])
                requests[c].block_offset = block_size
                block_size += (self.count * requests[c].width + 63) & ~<size_t>63
            block = PyBytes_FromStringAndSize(NULL, block_size)
            values = PyBytes_AS_STRING(block)
            for c in range(count):
                requests[c].values = values + requests[c].block_offset
            with nogil:
                fill_columns(self.parser, requests, count, self.count)
                # All columns of zeros share the first one's memory.
                for c in range(count):
                    if requests[c].all_zero:
                        if zeros == NULL:
                            zeros = &requests[c]
                            memset(zeros.values, 0, self.count * sizeof(uint64_t))
                        requests[c].block_offset = zeros.block_offset
            view = memoryview(block)
            for c in range(count):
                start = requests[c].block_offset
                stop = start + self.count * requests[c].width
                column = view[start:stop].cast(FORMATS[requests[c].width])
                found.append((column, requests[c].absent))
            return found
        finally:
            free(requests)

    cdef int locate(self, str key, ColumnRequest *request) except -1:
        """Find the column's values in a row; KeyError if there is no such column."""
        if key in LONGS:
            request.width = sizeof(uint64_t)
            request.offset = LONGS.index(key) * sizeof(uint64_t)
        elif key in INTS:
            request.width = 1 if key == "perms" else sizeof(uint32_t)
            request.offset = len(LONGS) * sizeof(uint64_t) + INTS.index(key) * sizeof(uint32_t)
        elif key in self.labels:
            request.column = self.labels.index(key)
            request.width = sizeof(uint64_t)
            request.offset = sizeof(Row) + request.column * sizeof(uint32_t)
            request.unit = self.parser.columns[request.column].unit
            request.all_zero = True
        else:
            raise KeyError(key)
        return 0

    def row(self, size_t i):
        cdef uint32_t c
        cdef list values = self.head(i)
        for c in range(self.parser.column_count):
            values.append(self.field(i, c))
        return tuple(values)

    def row_into(self, size_t i, dict into, tuple names, /):
        cdef uint32_t c
        cdef list values = self.head(i)
        if <size_t>len(names) != self.parser.column_count:
            raise ValueError("names: one for each label")
        for c in range(self.parser.column_count):
            into[names[c]] = self.field(i, c)
        return tuple(values)

    cdef list head(self, size_t i):
        """Return the members of a row before its fields."""
        cdef Parser *parser = self.parser
        cdef Row *row
        if i >= self.count:
            raise IndexError(i)
        row = row_at(parser, i)
        return [
            row.start, row.end, row.offset, row.inode, row.perms,
            published_text(&self._devs, &parser.devs, row.dev),
            published_text(&self._names, &parser.names, row.name),
            None if row.flags == MISSING
            else published_text(&self._flags, &parser.flags, row.flags),
            self.extra.get(i) if parser.text_count else None,
        ]

    cdef object field(self, size_t i, uint32_t c):
        """Return a row's value of a field."""
        cdef Parser *parser = self.parser
        cdef uint32_t cell = cells_of(row_at(parser, i))[c]
        cdef size_t low, high, middle
        if cell < IS_WIDE:
            return <uint64_t>cell * parser.columns[c].unit
        if cell == MISSING:
            return None
        low, high = 0, parser.wide_count    # they are in the order of rows
        while low < high:
            middle = (low + high) // 2
            if parser.wide[middle].row < i:
                low = middle + 1
            else:
                high = middle
        while parser.wide[low].column != c:
            low += 1
        return parser.wide[low].value

    def sums(self, groups=None, size_t count=1):
        cdef Sums sums
        cdef Py_buffer view
        cdef size_t group
        memset(&sums, 0, sizeof(Sums))
        if not allocate_sums(&sums, self.parser.column_count, count):
            raise MemoryError
        try:
            if groups is None:
                with nogil:
                    add_rows(&sums, self.parser, self.count, NULL)
            else:
                PyObject_GetBuffer(groups, &view, PyBUF_SIMPLE)
                try:
                    if <size_t>view.len != self.count * sizeof(uint32_t):
                        raise ValueError("groups: one 32-bit number for each row")
                    with nogil:
                        add_rows(&sums, self.parser, self.count, <const uint32_t *>view.buf)
                finally:
                    PyBuffer_Release(&view)
            return [sums_result(&sums, self.parser, self.labels, group) for group in range(count)]
        finally:
            free(sums.cells)


cdef Table new_table():
    return Table.__new__(Table)


cdef int finish_table(Table table) except -1:
    """Free the memory that the rows do not need, and set the labels."""
    cdef Parser *parser = table.parser
    cdef char *rows
    cdef size_t used = parser.count * parser.stride
    # A large block keeps its size. Its end was never touched, so it takes no memory. And glibc's
    # allocator then keeps such a block for the next call, which otherwise pays 2 us for each
    # fresh page, 1.4 ms for 20,000 rows.
    if parser.block_size < 1 << 20 and parser.block_size - used > parser.block_size // 8:
        rows = <char *>realloc(parser.rows, used + 1)
        if rows != NULL:
            parser.rows = rows
            parser.block_size = used + 1
    return set_labels(table)


cdef int set_labels(Table table) except -1:
    cdef Parser *parser = table.parser
    cdef uint32_t c
    table.count = parser.count
    table.labels = labels_of(parser)
    table.sized = tuple([bool(parser.columns[c].sized) for c in range(parser.column_count)])
    return 0


def parse(data, bint crlf=False):
    """See _csmaps.pyi."""
    cdef Table table = new_table()
    cdef Py_buffer view
    cdef const char *rest
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        table.parser.crlf = crlf
        table.parser.text_size = view.len
        table.parser.base = <const char *>view.buf
        with nogil:
            rest = parse_lines(
                table.parser, table.parser.base, table.parser.base + view.len, True
            )
        if rest == NULL:
            raise_problem(table.parser)
        finish_text(table.parser)
    finally:
        PyBuffer_Release(&view)
    finish_table(table)
    return table


def read(int fd, size_t chunk_size, int chunks):
    """See _csmaps.pyi."""
    cdef Table table = new_table()
    if not parse_fd(fd, chunk_size, chunks, table.parser):
        return None
    finish_table(table)
    return table


def total(int fd, size_t chunk_size, int chunks, double deadline=0):
    """See _csmaps.pyi."""
    cdef Parser *parser = <Parser *>malloc(sizeof(Parser))
    if parser == NULL:
        raise MemoryError
    parser_init(parser)
    try:
        parser.sums_only = True
        if not parse_fd(fd, chunk_size, chunks, parser, deadline):
            return None
        if not allocate_sums(&parser.sums, parser.column_count, 1):
            raise MemoryError
        if not sum_and_drop_rows(parser, True):
            raise MemoryError
        return sums_result(&parser.sums, parser, labels_of(parser), 0)
    finally:
        parser_free(parser)
        free(parser)


def lines(int fd, size_t chunk_size, int chunks, double deadline=0):
    """See _csmaps.pyi."""
    cdef Reader reader
    cdef int turn = CALLS_PER_TURN if deadline == 0 else 1
    cdef ReadStatus status = MORE
    check_chunks(chunk_size, chunks)
    memset(&reader, 0, sizeof(Reader))
    reader.fd = fd
    reader.chunk_size = chunk_size
    reader.chunks = chunks
    reader.buffer = <char *>malloc(chunk_size * chunks)
    if reader.buffer == NULL:
        raise MemoryError
    try:
        while status == MORE or status == INTERRUPTED:
            PyErr_CheckSignals()
            if deadline != 0 and seconds_now() >= deadline:
                raise TimeoutError("deadline reached")
            with nogil:
                status = count_chunks(&reader, turn)
        if status == READ_FAILED:
            raise OSError(reader.error, _strerror(reader.error))
        return reader.lines if status == COMPLETE else None
    finally:
        free(reader.buffer)
