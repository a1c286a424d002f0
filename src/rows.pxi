# What the scanner works on, and its rows.

cdef enum:
    MOST_LABELS = 256
    MOST_KNOWN = 64
    TEMPLATE = 32           # a line that is compared whole is at most this long
    FLAGS_TEMPLATE = 96
    TAIL_TEMPLATE = 256     # dev, inode and name of a header
    RECENT = 4              # flag lines: a process has few, and neighbours differ
    FLAGS_SLOT = -1

cdef enum Kind:             # what a label's value must be
    SIZE_KIND
    PAGE_SIZE_KIND
    NUMBER_KIND
    FLAGS_KIND
    NAME_KIND
    ANY_KIND                # a label nobody has seen yet

cdef enum Shape:            # what a value is
    IN_KB
    BARE
    TEXT
    OVER

cdef enum Problem:          # the order of errors.PROBLEMS
    NO_LINE
    NO_HEADER
    BACKWARDS
    FIELD_FIRST
    NO_LABEL
    NO_NUMBER
    NO_UNIT
    OTHER_UNIT
    UNIT
    TOO_LARGE
    TWICE
    TOO_MANY
    NO_MEMORY
    FINE

cdef uint32_t NOTHING = 0xFFFFFFFF      # a cell: the record has no such field; an id: no such line
cdef uint32_t IN_WIDE = 0xFFFFFFFE      # a cell: the value is in the list of wide ones

cdef struct Row:            # cells (uint32_t) follow
    uint64_t start
    uint64_t end
    uint64_t offset
    uint64_t inode
    uint32_t perms          # r 1, w 2, x 4, s 8, neither s nor p 16
    uint32_t dev
    uint32_t name
    uint32_t flags

cdef struct Wide:
    size_t row
    uint32_t column
    uint64_t value          # as handed out: in bytes where the line has kB

cdef struct Text:           # a field whose value is text
    size_t row
    size_t at               # in texts: the label, then the value
    size_t label_length
    size_t length

cdef struct Column:
    Kind kind
    int known               # its place among the known labels, -1 for none
    uint32_t unit           # of its cells: 1024 or 1
    bint sized              # every value had kB
    bint bare               # some had not, in a process that was added before (Uses)

cdef struct Slot:           # a line of the record before
    char text[TEMPLATE]
    uint8_t length          # with its newline; 0 for the general way
    uint8_t digits          # where "%8lu kB\n" begins, 0 where it does not
    int32_t column

cdef struct Recent:
    char text[FLAGS_TEMPLATE]
    size_t length
    uint32_t flags

cdef struct Known:
    char text[TEMPLATE]
    size_t length
    Kind kind

cdef struct Sums:           # figures over rows, one set for each group
    uint64_t *cells         # by group and column: sums of cells, in their column's unit
    uint64_t *seen          # how many records have the field
    uint64_t *low           # sums of wide values: of their lower halves, of their upper ones
    uint64_t *high
    uint64_t *sizes         # by group: end - start, halves as well
    uint32_t columns
    size_t groups

cdef struct Scan:
    # the rows, one block; what a table takes over at the end
    char *rows
    size_t block            # bytes
    size_t stride
    size_t count
    uint32_t columns
    uint32_t cells          # room for columns in a row
    Column column[MOST_LABELS]
    Pool labels
    Pool names
    Pool devs
    Pool flags
    Wide *wide
    size_t wide_count
    size_t wide_room
    Text *text
    size_t text_count
    size_t text_room
    char *texts
    size_t texts_used
    size_t texts_room
    # the record at hand
    Row *row
    uint32_t place          # the next slot; == slots while lines are added
    uint32_t row_texts      # text fields so far
    bint named              # by its header
    bint name_line
    # what the record before looked like
    Slot slot[MOST_LABELS + 1]
    uint32_t slots
    size_t width            # hex digits of an address
    char tail[TAIL_TEMPLATE]
    size_t tail_length
    uint32_t tail_dev
    uint32_t tail_name
    uint64_t tail_inode
    Recent recent[RECENT]
    uint32_t recent_next
    # the text
    bint crlf
    bint sums_only          # rows are added up and forgotten; names, flags and texts too
    Sums sums
    size_t text_size        # 0 where it is not known
    const char *base        # where the bytes at hand begin, and which byte of the text that is
    size_t base_offset
    size_t lines
    Problem problem
    const char *bad_line
    size_t bad_length

cdef Known[MOST_KNOWN] known
cdef int known_count = 0


cdef void scan_init(Scan *s) noexcept nogil:
    # Slots and recent lines are written before they are read: clearing their 11 KB would
    # cost more than a rollup's whole parse.
    s.rows = NULL
    s.block = s.count = 0
    s.columns = 0
    s.cells = 40
    s.stride = sizeof(Row) + s.cells * sizeof(uint32_t)
    memset(&s.labels, 0, sizeof(Pool))
    memset(&s.names, 0, sizeof(Pool))
    memset(&s.devs, 0, sizeof(Pool))
    memset(&s.flags, 0, sizeof(Pool))
    s.wide = NULL
    s.wide_count = s.wide_room = 0
    s.text = NULL
    s.text_count = s.text_room = 0
    s.texts = NULL
    s.texts_used = s.texts_room = 0
    s.row = NULL
    s.place = s.slots = 0
    s.row_texts = 0
    s.width = 12
    s.tail_length = 0
    s.recent_next = 0
    for i in range(RECENT):
        s.recent[i].length = 0
    s.crlf = s.sums_only = False
    memset(&s.sums, 0, sizeof(Sums))
    s.text_size = 0
    s.base = NULL
    s.base_offset = 0
    s.lines = 0
    s.problem = FINE


cdef void scan_free(Scan *s) noexcept nogil:
    free(s.rows)
    free(s.wide)
    free(s.text)
    free(s.texts)
    free(s.sums.cells)
    pool_free(&s.labels)
    pool_free(&s.names)
    pool_free(&s.devs)
    pool_free(&s.flags)


cdef inline bint fail(Scan *s, Problem problem) noexcept nogil:
    s.problem = problem
    return False


cdef inline uint32_t *cells_of(Row *row) noexcept nogil:
    return <uint32_t *>(row + 1)


cdef inline Row *row_at(Scan *s, size_t i) noexcept nogil:
    return <Row *>(s.rows + i * s.stride)


# ---- rows

cdef bint grow_rows(Scan *s, const char *line) noexcept nogil:
    cdef size_t block = s.block * 2 if s.block < 1 << 20 else s.block + s.block // 2
    cdef size_t done = s.base_offset + <size_t>(line - s.base)
    cdef size_t expected
    cdef char *rows
    if block == 0:
        block = 64 * s.stride
    elif s.text_size > done:
        # The text's length is known: guess from the records so far, a little more.
        expected = <size_t>(<double>s.count * s.text_size / done * 1.02) + 2
        if expected * s.stride > s.block:
            block = expected * s.stride
    rows = <char *>realloc(s.rows, block)
    if rows == NULL:
        return fail(s, NO_MEMORY)
    s.rows = rows
    s.block = block
    return True


cdef bint begin_row(Scan *s, const char *line) noexcept nogil:
    """A new row after the last one, its cells and flags as in the row before it."""
    if s.count == 1:
        # Only now is it known how many fields a record has. Widths are even so that a row's
        # 64-bit members stay aligned.
        s.cells = (s.columns + 1) & ~<uint32_t>1
        s.stride = sizeof(Row) + s.cells * sizeof(uint32_t)
    if (s.count + 1) * s.stride > s.block and not grow_rows(s, line):
        return False
    s.row = row_at(s, s.count)
    if s.count == 0:
        memset(s.row, 0xFF, s.stride)
    else:
        memcpy(s.row, row_at(s, s.count - 1), s.stride)
    s.count += 1
    return True


cdef bint widen_rows(Scan *s) noexcept nogil:
    """Room for more columns in each row: a field that earlier records lack."""
    cdef uint32_t cells = s.cells + s.cells // 4 + 4 & ~<uint32_t>1
    cdef size_t stride = sizeof(Row) + cells * sizeof(uint32_t)
    cdef size_t room = s.block // s.stride
    cdef char *rows = <char *>malloc(room * stride)
    cdef size_t i
    if rows == NULL:
        return fail(s, NO_MEMORY)
    for i in range(s.count):
        memcpy(rows + i * stride, s.rows + i * s.stride, s.stride)
        memset(rows + i * stride + s.stride, 0xFF, stride - s.stride)
    free(s.rows)
    s.rows = rows
    s.block = room * stride
    s.stride = stride
    s.cells = cells
    s.row = row_at(s, s.count - 1)
    return True


cdef void cut_slots(Scan *s) noexcept nogil:
    """The record at hand differs from the one before from here on."""
    cdef uint32_t i
    for i in range(s.place, s.slots):
        if s.slot[i].column == FLAGS_SLOT:
            s.row.flags = NOTHING
        else:
            cells_of(s.row)[s.slot[i].column] = NOTHING
    s.slots = s.place
