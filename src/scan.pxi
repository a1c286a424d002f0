# The scanner: lines into rows.

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
    uint32_t perms          # r 1, w 2, x 4, s 8
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


# ---- headers

cdef inline int hex_digit(char c) noexcept nogil:
    if c'0' <= c <= c'9':
        return c - c'0'
    if c'a' <= c <= c'f':
        return c - c'a' + 10
    return -1


cdef const char *hex_number(
    const char *p, const char *end, int most, uint64_t *number
) noexcept nogil:
    """Reads 1 to `most` hex digits; returns what follows them, or NULL."""
    cdef const char *q = p
    cdef uint64_t value = 0
    cdef int digit
    while q < end:
        digit = hex_digit(q[0])
        if digit < 0:
            break
        value = value << 4 | <uint64_t>digit
        q += 1
    if q == p or q - p > most:
        return NULL
    number[0] = value
    return q


cdef inline const char *blanks(const char *p, const char *end) noexcept nogil:
    while p < end and (p[0] == c' ' or p[0] == c'\t'):
        p += 1
    return p


cdef inline bint is_trailing(char c) noexcept nogil:
    return c == c' ' or c == c'\t' or c == c'\r'


cdef inline bint is_permissions(const char *p, uint32_t *perms) noexcept nogil:
    cdef bint r = p[0] == c'r'
    cdef bint w = p[1] == c'w'
    cdef bint x = p[2] == c'x'
    cdef bint s = p[3] == c's'
    perms[0] = r | w << 1 | x << 2 | s << 3
    return (
        (r | (p[0] == c'-')) & (w | (p[1] == c'-')) & (x | (p[2] == c'-')) & (s | (p[3] == c'p'))
    )


cdef bint read_tail(Scan *s, const char *p, const char *end) noexcept nogil:
    """The end of a header: dev, inode and name; kept to compare the next one with."""
    cdef const char *dev = p
    cdef const char *q
    cdef uint64_t number = 0
    cdef uint64_t inode = 0
    cdef uint32_t digit
    cdef bint over = False
    s.tail_length = 0
    q = hex_number(p, end, 8, &number)
    if q == NULL or q == end or q[0] != c':':
        return fail(s, NO_HEADER)
    q = hex_number(q + 1, end, 8, &number)
    if q == NULL or q == end or (q[0] != c' ' and q[0] != c'\t'):
        return fail(s, NO_HEADER)
    if s.sums_only:
        s.tail_dev = 0
    elif not pool_id(&s.devs, dev, q - dev, &s.tail_dev):
        return fail(s, NO_MEMORY)
    p = q = blanks(q, end)
    while q < end and c'0' <= q[0] <= c'9':
        digit = q[0] - c'0'
        if inode > (<uint64_t>-1 - digit) // 10:
            over = True
        inode = inode * 10 + digit
        q += 1
    if q == p:
        return fail(s, NO_HEADER)
    p = q
    q = blanks(p, end)
    if end - q == 1 and q[0] == c'\r':
        q = end                 # the line end of Windows: no name is only that
    elif p == q and q < end:
        return fail(s, NO_HEADER)
    if over:
        return fail(s, TOO_LARGE)
    s.named = q < end
    if s.sums_only:
        s.tail_name = 0
    elif not pool_id(&s.names, q, end - q, &s.tail_name):
        return fail(s, NO_MEMORY)
    s.tail_inode = inode
    if end - dev <= TAIL_TEMPLATE:
        memcpy(s.tail, dev, end - dev)
        s.tail_length = end - dev
    return True


cdef bint header_line(Scan *s, const char *p, const char *end) noexcept nogil:
    cdef const char *line = p
    cdef size_t width = s.width
    cdef size_t size = end - p
    cdef uint64_t start = 0
    cdef uint64_t stop = 0
    cdef uint64_t offset = 0
    cdef uint32_t perms = 0
    if s.count > 0 and s.place < s.slots:
        cut_slots(s)            # the record before ended early

    if likely(
        size > 2 * width + 17
        and p[width] == c'-'
        and p[2 * width + 1] == c' '
        and wide_hex(p, width, &start)
        and wide_hex(p + width + 1, width, &stop)
    ):
        p += 2 * width + 1
    else:
        p = hex_number(p, end, 16, &start)
        if p == NULL or p == end or p[0] != c'-':
            return fail(s, NO_HEADER)
        width = p - line
        p = hex_number(p + 1, end, 16, &stop)
        if p == NULL:
            return fail(s, NO_HEADER)
        if 8 <= width <= 16:
            s.width = width

    if likely(
        end - p > 16
        and p[0] == c' '
        and is_permissions(p + 1, &perms)
        and p[5] == c' '
        and p[14] == c' '
        and p[15] != c' '
        and p[15] != c'\t'
        and eight_hex(p + 6, &offset)
    ):
        p += 15
    else:
        line = p
        p = blanks(p, end)
        if p == line or end - p < 4 or not is_permissions(p, &perms):
            return fail(s, NO_HEADER)
        line = p + 4
        p = blanks(line, end)
        if p == line:
            return fail(s, NO_HEADER)
        p = line = hex_number(p, end, 16, &offset)
        if p == NULL:
            return fail(s, NO_HEADER)
        p = blanks(p, end)
        if p == line:
            return fail(s, NO_HEADER)

    if s.tail_length == 0 or s.tail_length != <size_t>(end - p) or memcmp(p, s.tail, end - p) != 0:
        if not read_tail(s, p, end):
            return False
    if stop < start:
        return fail(s, BACKWARDS)
    if not begin_row(s, s.bad_line):
        return False
    s.row.start = start
    s.row.end = stop
    s.row.offset = offset
    s.row.inode = s.tail_inode
    s.row.perms = perms
    s.row.dev = s.tail_dev
    s.row.name = s.tail_name
    s.place = 0
    s.row_texts = 0
    s.name_line = False
    if s.sums_only:
        s.text_count = s.texts_used = 0
    return True


# ---- fields

cdef Shape value_of(const char *p, const char *end, uint64_t *number) noexcept nogil:
    """What the value [p, end) is; a number of kB is given in bytes."""
    cdef const char *q = p
    cdef uint64_t value = 0
    cdef uint32_t digit
    cdef bint over = False
    while q < end and c'0' <= q[0] <= c'9':
        digit = q[0] - c'0'
        if value > (<uint64_t>-2 - digit) // 10:    # 2**64 - 1 means absent
            over = True
        value = value * 10 + digit
        q += 1
    if q == p:
        return TEXT
    number[0] = value
    if q == end:
        return OVER if over else BARE
    p = blanks(q, end)
    if p == q or end - p != 2 or p[0] != c'k' or p[1] != c'B':
        return TEXT
    if over or value >> 54 != 0:
        return OVER
    number[0] = value * 1024
    return IN_KB


cdef inline bint label_is(
    Scan *s, uint32_t column, const char *label, size_t length
) noexcept nogil:
    cdef Entry *entry = &s.labels.entries[column]
    return entry.length == length and memcmp(s.labels.bytes + entry.at, label, length) == 0


cdef int find_column(Scan *s, const char *label, size_t length) noexcept nogil:
    cdef uint32_t i
    if s.place < s.slots:
        if s.slot[s.place].column >= 0 and label_is(s, s.slot[s.place].column, label, length):
            return s.slot[s.place].column
    for i in range(s.columns):
        if label_is(s, i, label, length):
            return i
    return -1


cdef int find_known(const char *label, size_t length) noexcept nogil:
    cdef int i
    for i in range(known_count):
        if known[i].length == length and memcmp(known[i].text, label, length) == 0:
            return i
    return -1


cdef int add_column(
    Scan *s, const char *label, size_t length, int known_as, Kind kind, Shape shape
) noexcept nogil:
    cdef uint32_t id_ = 0
    if s.columns == MOST_LABELS:
        fail(s, TOO_MANY)
        return -1
    if s.columns == s.cells and not widen_rows(s):
        return -1
    if not pool_id(&s.labels, label, length, &id_):
        fail(s, NO_MEMORY)
        return -1
    s.column[id_].kind = kind
    s.column[id_].known = known_as
    s.column[id_].unit = 1024 if shape == IN_KB else 1
    s.column[id_].sized = shape == IN_KB
    # Not one more: a text that changes meanwhile may show a label a second time.
    s.columns = s.labels.count
    return id_


cdef bint text_seen(Scan *s, const char *label, size_t length) noexcept nogil:
    """Whether the record at hand has this label with a text already."""
    cdef size_t i
    cdef Text *text
    for i in range(s.text_count - s.row_texts, s.text_count):
        text = &s.text[i]
        if text.label_length == length and memcmp(s.texts + text.at, label, length) == 0:
            return True
    return False


cdef bint keep_text(
    Scan *s, const char *label, size_t label_length, const char *value, size_t length
) noexcept nogil:
    cdef char *block
    cdef Text *text
    if s.row_texts == MOST_LABELS:
        return fail(s, TOO_MANY)
    if s.texts_used + label_length + length > s.texts_room:
        block = grow_bytes(s.texts, &s.texts_room, s.texts_used + label_length + length)
        if block == NULL:
            return fail(s, NO_MEMORY)
        s.texts = block
    if s.text_count == s.text_room:
        text = <Text *>realloc(s.text, (s.text_room * 2 + 4) * sizeof(Text))
        if text == NULL:
            return fail(s, NO_MEMORY)
        s.text = text
        s.text_room = s.text_room * 2 + 4
    text = &s.text[s.text_count]
    text.row = s.count - 1
    text.at = s.texts_used
    text.label_length = label_length
    text.length = length
    memcpy(s.texts + text.at, label, label_length)
    memcpy(s.texts + text.at + label_length, value, length)
    s.texts_used += label_length + length
    s.text_count += 1
    s.row_texts += 1
    return True


cdef bint keep_wide(Scan *s, uint32_t column, uint64_t value) noexcept nogil:
    cdef Wide *wide
    if s.wide_count == s.wide_room:
        wide = <Wide *>realloc(s.wide, (s.wide_room * 2 + 4) * sizeof(Wide))
        if wide == NULL:
            return fail(s, NO_MEMORY)
        s.wide = wide
        s.wide_room = s.wide_room * 2 + 4
    s.wide[s.wide_count].row = s.count - 1
    s.wide[s.wide_count].column = column
    s.wide[s.wide_count].value = value
    s.wide_count += 1
    return True


cdef bint flags_line(
    Scan *s, const char *line, const char *eol, bint ended, const char *value, const char *end
) noexcept nogil:
    cdef Recent *recent
    if s.place < s.slots and s.slot[s.place].column != FLAGS_SLOT:
        cut_slots(s)
    if s.place == s.slots:
        if s.row.flags != NOTHING:
            return fail(s, TWICE)
        s.slot[s.place].column = FLAGS_SLOT
        s.slot[s.place].length = 0
        s.slots += 1
    s.place += 1
    if s.sums_only:
        s.row.flags = 0
    elif not pool_id(&s.flags, value, end - value, &s.row.flags):
        return fail(s, NO_MEMORY)
    if ended and eol + 1 - line <= FLAGS_TEMPLATE:
        recent = &s.recent[s.recent_next % RECENT]
        s.recent_next += 1
        recent.length = eol + 1 - line
        memcpy(recent.text, line, recent.length)
        recent.flags = s.row.flags
    return True


cdef bint name_line(Scan *s, const char *label, const char *value, const char *end) noexcept nogil:
    """Android's `Name:`: the mapping's name where the header has none."""
    if s.name_line:
        return fail(s, TWICE)
    s.name_line = True
    if s.named:
        return keep_text(s, label, 4, value, end - value)
    if not s.sums_only and not pool_id(&s.names, value, end - value, &s.row.name):
        return fail(s, NO_MEMORY)
    return True


cdef void keep_slot(
    Scan *s, const char *line, const char *eol, bint ended, bint narrow
) noexcept nogil:
    """Remembers a number's line, so that the next record's can be compared with it."""
    cdef Slot *slot = &s.slot[s.place]
    cdef size_t length = eol + 1 - line
    cdef uint32_t number = 0
    slot.length = 0
    slot.digits = 0
    if not ended or not narrow or length < 16 or length > TEMPLATE:
        return
    memcpy(slot.text, line, length)
    slot.length = <uint8_t>length
    # "%8lu kB": a longer number pushes the rest to the right, and its first digits would
    # lie before these eight.
    if (
        memcmp(line + length - 4, b" kB\n", 4) == 0
        and (line[length - 13] == c' ' or line[length - 13] == c':')
        and eight_digits(line + length - 12, &number)
    ):
        slot.digits = <uint8_t>(length - 12)


cdef bint number_line(
    Scan *s, const char *line, const char *eol, bint ended,
    int column, Shape shape, uint64_t value,
) noexcept nogil:
    cdef uint64_t narrow
    if s.place < s.slots and s.slot[s.place].column != column:
        cut_slots(s)
    if s.place == s.slots and cells_of(s.row)[column] != NOTHING:
        return fail(s, TWICE)
    narrow = value
    if s.column[column].unit == 1024:
        narrow = value >> 10
    if narrow < IN_WIDE and (shape == IN_KB) == (s.column[column].unit == 1024):
        cells_of(s.row)[column] = <uint32_t>narrow
        keep_slot(s, line, eol, ended, True)
    else:
        cells_of(s.row)[column] = IN_WIDE
        if shape != IN_KB:
            s.column[column].sized = False
        if not keep_wide(s, column, value):
            return False
        keep_slot(s, line, eol, ended, False)
    s.slot[s.place].column = column
    if s.place == s.slots:
        s.slots += 1
    s.place += 1
    return True


cdef bint field_line(
    Scan *s, const char *line, const char *end, const char *eol, bint ended
) noexcept nogil:
    """The general way for a field; [line, end) without its line end, which is at eol."""
    cdef const char *colon = line + 1
    cdef const char *value
    cdef size_t length
    cdef int column
    cdef int known_as = -1
    cdef Kind kind
    cdef Shape shape
    cdef uint64_t number = 0
    if s.count == 0:
        return fail(s, FIELD_FIRST)
    while colon < end and c' ' < colon[0] < 127 and colon[0] != c':':
        colon += 1
    if colon == end or colon[0] != c':':
        return fail(s, NO_LABEL)
    length = colon - line
    value = blanks(colon + 1, end)
    while end > value and is_trailing((end - 1)[0]):
        end -= 1

    column = find_column(s, line, length)
    if column >= 0:
        kind = s.column[column].kind
    else:
        known_as = find_known(line, length)
        kind = known[known_as].kind if known_as >= 0 else ANY_KIND
    if kind == FLAGS_KIND:
        return flags_line(s, line, eol, ended, value, end)
    if kind == NAME_KIND:
        return name_line(s, line, value, end)
    shape = value_of(value, end, &number)
    if shape == OVER:
        return fail(s, TOO_LARGE)
    if shape == TEXT and kind != ANY_KIND:
        return fail(s, NO_NUMBER)
    if shape == BARE and (kind == SIZE_KIND or kind == PAGE_SIZE_KIND):
        return fail(s, NO_UNIT)
    if shape == IN_KB and kind == NUMBER_KIND:
        return fail(s, UNIT)
    if shape == TEXT:
        if column >= 0:
            cut_slots(s)
            if cells_of(s.row)[column] != NOTHING:
                return fail(s, TWICE)
        if text_seen(s, line, length):
            return fail(s, TWICE)
        return keep_text(s, line, length, value, end - value)
    if s.row_texts > 0 and text_seen(s, line, length):
        return fail(s, TWICE)
    if column < 0:
        column = add_column(s, line, length, known_as, kind, shape)
        if column < 0:
            return False
    return number_line(s, line, eol, ended, column, shape, number)


# ---- lines

cdef bint is_blank(const char *p, const char *end) noexcept nogil:
    while p < end and is_trailing(p[0]):
        p += 1
    return p == end


cdef const char *match_slots(Scan *s, const char *p, const char *end) noexcept nogil:
    """Takes the lines that are as the record before had them, but for their numbers."""
    cdef uint32_t *cells = cells_of(s.row)
    cdef Slot *slot = &s.slot[s.place]
    cdef Slot *last = &s.slot[s.slots]
    cdef Recent *recent
    cdef uint32_t i
    cdef uint32_t number = 0
    while slot != last and end - p >= TEMPLATE:
        if likely(slot.length != 0):
            if same16(p, slot.text):
                if same16(p + slot.length - 16, slot.text + slot.length - 16):
                    p += slot.length
                    slot += 1
                    continue
            elif slot.digits == 16:
                break
            if (
                slot.digits != 0
                and (slot.digits == 16 or memcmp(p, slot.text, slot.digits) == 0)
                and same4(p + slot.length - 4, slot.text + slot.length - 4)
                and eight_digits(p + slot.digits, &number)
            ):
                cells[slot.column] = number
                memcpy(slot.text + slot.digits, p + slot.digits, 8)
                p += slot.length
                slot += 1
                continue
            break
        if slot.column != FLAGS_SLOT:
            break
        for i in range(RECENT):
            recent = &s.recent[i]
            if (
                recent.length != 0
                and <size_t>(end - p) >= recent.length
                and memcmp(p, recent.text, recent.length) == 0
            ):
                s.row.flags = recent.flags
                p += recent.length
                slot += 1
                break
        else:
            break
    s.lines += (slot - s.slot) - s.place
    s.place = slot - s.slot
    return p


cdef const char *scan(Scan *s, const char *p, const char *end, bint last) noexcept nogil:
    """Takes the lines of [p, end); returns where the first incomplete one begins, or NULL.

    The last line of a text may lack its newline.
    """
    cdef const char *eol
    cdef const char *stop
    cdef bint ended, good
    while p < end:
        if s.place < s.slots and s.row_texts == 0:
            p = match_slots(s, p, end)
            if p == end:
                break
        eol = <const char *>memchr(p, c'\n', end - p)
        ended = eol != NULL
        if not ended:
            if not last:
                break
            eol = end
        stop = eol
        if s.crlf and stop > p and (stop - 1)[0] == c'\r':
            stop -= 1
        s.bad_line = p
        # A text may change meanwhile: that the line is not empty, its bounds must say.
        if p < stop and c'A' <= p[0] <= c'Z':
            good = field_line(s, p, stop, eol, ended)
        elif p < stop and hex_digit(p[0]) >= 0:
            good = header_line(s, p, stop)
        else:
            good = is_blank(p, stop) or fail(s, NO_LINE)
        if not good:
            s.bad_length = stop - p
            return NULL
        s.lines += 1
        p = eol + 1 if ended else end
    return p
