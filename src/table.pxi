# What Python sees.

from fastsmaps._fields import FLAGS, MOST_LABELS as _MOST_LABELS, NAME, NUMBERS, PAGE_SIZES, SIZES

# The known labels' str objects: making them anew would cost a rollup 1.5 us.
cdef list known_labels = []


cdef int know(str label, Kind kind) except -1:
    global known_count
    cdef bytes text = label.encode("ascii")
    if known_count == MOST_KNOWN or len(text) > TEMPLATE:
        raise ImportError("fastsmaps._fields and its extension do not fit; build it again")
    memcpy(known[known_count].text, PyBytes_AS_STRING(text), len(text))
    known[known_count].length = len(text)
    known[known_count].kind = kind
    known_count += 1
    known_labels.append(label)
    return 0


for _label in SIZES:
    know(_label, SIZE_KIND)
for _label in PAGE_SIZES:
    know(_label, PAGE_SIZE_KIND)
for _label in NUMBERS:
    know(_label, NUMBER_KIND)
know(FLAGS, FLAGS_KIND)
know(NAME, NAME_KIND)
if _MOST_LABELS != MOST_LABELS or len(_errors.PROBLEMS) != NO_MEMORY:
    raise ImportError("fastsmaps and its extension are of different versions; build it again")


cdef tuple labels_of(Scan *s):
    cdef uint32_t c
    cdef Entry *entry
    cdef char *text
    cdef list labels = []
    for c in range(s.columns):
        if s.column[c].known >= 0:
            labels.append(known_labels[s.column[c].known])
        else:
            # ASCII, but for a buffer that changed while it was parsed.
            entry = &s.labels.entries[c]
            text = s.labels.bytes + entry.at
            labels.append(text[:entry.length].decode("latin-1"))
    return tuple(labels)


cdef void made_once(void **place, object made) noexcept:
    """Keeps it there, unless another thread has kept its own meanwhile.

    Without the GIL an attribute that is replaced while another thread reads it would be read
    after it was freed; what is published here stays until its table goes.
    """
    if publish(place, <void *>made):
        Py_INCREF(made)


cdef tuple texts_once(void **place, Pool *pool):
    if published(place) == NULL:
        made_once(place, pool_texts(pool))
    return <tuple>published(place)


cdef object text_once(void **place, Pool *pool, uint32_t i):
    """One of them; also where the table, a Sweep's, has grown since they were made."""
    cdef tuple texts = texts_once(place, pool)
    if i < <uint32_t>len(texts):
        return texts[i]
    return PyBytes_FromStringAndSize(pool.bytes + pool.entries[i].at, pool.entries[i].length)


# The fields of a Row, and how memoryviews name what is as wide.
cdef tuple LONGS = ("start", "end", "offset", "inode")
cdef tuple INTS = ("perms", "dev", "name", "flags")
cdef dict FORMATS = {1: "B", 4: "I", 8: "Q"}


cdef class Table:
    """The columns of one text; see _csmaps.pyi."""

    cdef Scan *s
    cdef size_t count
    cdef readonly tuple labels
    cdef readonly tuple sized
    # Made at the first request, by several threads at once perhaps: see made_once().
    cdef void *_names
    cdef void *_devs
    cdef void *_flags
    cdef void *_extra

    def __cinit__(self):
        self.s = <Scan *>malloc(sizeof(Scan))
        if self.s == NULL:
            raise MemoryError
        scan_init(self.s)

    def __dealloc__(self):
        Py_XDECREF(<PyObject *>self._names)
        Py_XDECREF(<PyObject *>self._devs)
        Py_XDECREF(<PyObject *>self._flags)
        Py_XDECREF(<PyObject *>self._extra)
        if self.s != NULL:
            scan_free(self.s)
            free(self.s)

    def __init__(self):
        raise TypeError("tables come from parse() and read()")

    def __len__(self):
        return self.count

    @property
    def names(self):
        return texts_once(&self._names, &self.s.names)

    @property
    def devs(self):
        return texts_once(&self._devs, &self.s.devs)

    @property
    def flags(self):
        return texts_once(&self._flags, &self.s.flags)

    def has_name(self, bytes name not None):
        return pool_has(&self.s.names, PyBytes_AS_STRING(name), len(name))

    @property
    def extra(self):
        if published(&self._extra) == NULL:
            made_once(&self._extra, self.extras())
        return <dict>published(&self._extra)

    cdef dict extras(self):
        cdef size_t i
        cdef Text *text
        cdef char *at
        cdef dict extra = {}
        for i in range(self.s.text_count):
            text = &self.s.text[i]
            at = self.s.texts + text.at
            extra.setdefault(text.row, {})[at[:text.label_length].decode("latin-1")] = (
                at[text.label_length:text.label_length + text.length]
                .decode("utf-8", "surrogateescape")
            )
        return extra

    def column(self, str key not None):
        return self.columns((key,))[0][0]

    def columns(self, keys not None):
        cdef size_t count = len(keys), room = 0, c, at, size
        cdef bytes block
        cdef char *start
        cdef Wanted *wanted = <Wanted *>calloc(count + 1, sizeof(Wanted))
        cdef Wanted *zeros = NULL
        cdef list found = []
        if wanted == NULL:
            raise MemoryError
        try:
            for c in range(count):
                self.look_up(keys[c], &wanted[c])
                wanted[c].place = room
                room += (self.count * wanted[c].width + 63) & ~<size_t>63
            block = PyBytes_FromStringAndSize(NULL, room)
            start = PyBytes_AS_STRING(block)
            for c in range(count):
                wanted[c].values = start + wanted[c].place
            with nogil:
                take_columns(self.s, wanted, count, self.count)
                # Columns of zeros are one.
                for c in range(count):
                    if wanted[c].zero:
                        if zeros == NULL:
                            zeros = &wanted[c]
                            memset(zeros.values, 0, self.count * sizeof(uint64_t))
                        wanted[c].place = zeros.place
            whole = memoryview(block)
            for c in range(count):
                at = wanted[c].place
                size = self.count * wanted[c].width
                found.append((whole[at:at + size].cast(FORMATS[wanted[c].width]), wanted[c].absent))
            return found
        finally:
            free(wanted)

    cdef int look_up(self, str key, Wanted *out) except -1:
        if key in LONGS:
            out.width = sizeof(uint64_t)
            out.at = LONGS.index(key) * sizeof(uint64_t)
        elif key in INTS:
            out.width = 1 if key == "perms" else sizeof(uint32_t)
            out.at = len(LONGS) * sizeof(uint64_t) + INTS.index(key) * sizeof(uint32_t)
        elif key in self.labels:
            out.column = self.labels.index(key)
            out.width = sizeof(uint64_t)
            out.at = sizeof(Row) + out.column * sizeof(uint32_t)
            out.unit = self.s.column[out.column].unit
            out.zero = True
        else:
            raise KeyError(key)
        return 0

    def row(self, size_t i):
        cdef Scan *s = self.s
        cdef Row *row
        cdef uint32_t c, cell
        cdef size_t low, high, middle
        cdef list values
        if i >= self.count:
            raise IndexError(i)
        row = row_at(s, i)
        values = [
            row.start, row.end, row.offset, row.inode, row.perms,
            text_once(&self._devs, &s.devs, row.dev),
            text_once(&self._names, &s.names, row.name),
            None if row.flags == NOTHING else text_once(&self._flags, &s.flags, row.flags),
            self.extra.get(i) if s.text_count else None,
        ]
        for c in range(s.columns):
            cell = cells_of(row)[c]
            if cell < IN_WIDE:
                values.append(<uint64_t>cell * s.column[c].unit)
            elif cell == NOTHING:
                values.append(None)
            else:
                low, high = 0, s.wide_count     # in the order of the rows
                while low < high:
                    middle = (low + high) // 2
                    if s.wide[middle].row < i:
                        low = middle + 1
                    else:
                        high = middle
                while s.wide[low].column != c:
                    low += 1
                values.append(s.wide[low].value)
        return tuple(values)

    def sums(self, groups=None, size_t count=1):
        cdef Sums sums
        cdef Py_buffer view
        cdef size_t group
        memset(&sums, 0, sizeof(Sums))
        if not sums_fit(&sums, self.s.columns, count):
            raise MemoryError
        try:
            if groups is None:
                with nogil:
                    add_rows(&sums, self.s, self.count, NULL)
            else:
                PyObject_GetBuffer(groups, &view, PyBUF_SIMPLE)
                try:
                    if <size_t>view.len != self.count * sizeof(uint32_t):
                        raise ValueError("groups: one 32-bit number for each row")
                    with nogil:
                        add_rows(&sums, self.s, self.count, <const uint32_t *>view.buf)
                finally:
                    PyBuffer_Release(&view)
            return [sums_result(&sums, self.s, self.labels, group) for group in range(count)]
        finally:
            free(sums.cells)


cdef Table new_table():
    return Table.__new__(Table)


cdef int fill_table(Table table) except -1:
    """After the scan: gives back what rows do not need, and names the columns."""
    cdef Scan *s = table.s
    cdef char *rows
    # A large block is left as it is: its end was never touched, so it takes no memory; and
    # allocators that learn (glibc's) then keep such a block at hand for the next call, which
    # otherwise pays 2 us for each fresh page, 1.4 ms for 20,000 rows.
    if s.block < 1 << 20 and s.block - s.count * s.stride > s.block // 8:
        rows = <char *>realloc(s.rows, s.count * s.stride + 1)
        if rows != NULL:
            s.rows = rows
            s.block = s.count * s.stride + 1
    return name_columns(table)


cdef int name_columns(Table table) except -1:
    cdef Scan *s = table.s
    cdef uint32_t c
    table.count = s.count
    table.labels = labels_of(s)
    table.sized = tuple([bool(s.column[c].sized) for c in range(s.columns)])
    return 0


def parse(data, bint crlf=False):
    cdef Table table = new_table()
    cdef Py_buffer view
    cdef const char *rest
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        table.s.crlf = crlf
        table.s.text_size = view.len
        table.s.base = <const char *>view.buf
        with nogil:
            rest = scan(table.s, table.s.base, table.s.base + view.len, True)
        if rest == NULL:
            raise_problem(table.s)
        finish(table.s)
    finally:
        PyBuffer_Release(&view)
    fill_table(table)
    return table


def read(int fd, size_t piece, int pieces):
    cdef Table table = new_table()
    if not read_whole(fd, piece, pieces, True, table.s):
        return None
    fill_table(table)
    return table


def total(int fd, size_t piece, int pieces, bint confirm, double until=0):
    cdef Scan *s = <Scan *>malloc(sizeof(Scan))
    if s == NULL:
        raise MemoryError
    scan_init(s)
    try:
        s.sums_only = True
        if not read_whole(fd, piece, pieces, confirm, s, until):
            return None
        if not sums_fit(&s.sums, s.columns, 1) or not forget_rows(s, True):
            raise MemoryError
        return sums_result(&s.sums, s, labels_of(s), 0)
    finally:
        scan_free(s)
        free(s)
