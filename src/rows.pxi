# A Parser's rows, and the slots that remember the record before. Uses text_pool.

# fastsmaps._fields's labels, filled by table.pxi.
cdef KnownLabel[MAX_KNOWN_LABELS] known_labels
cdef int known_label_count = 0


cdef void parser_init(Parser *parser) noexcept nogil:
    # Slots and remembered lines are written before they are read. Clearing their 11 KB would
    # cost more than parsing a whole rollup.
    parser.rows = NULL
    parser.block_size = parser.count = 0
    parser.column_count = 0
    parser.cells = 40
    parser.stride = sizeof(Row) + parser.cells * sizeof(uint32_t)
    memset(&parser.labels, 0, sizeof(TextPool))
    memset(&parser.names, 0, sizeof(TextPool))
    memset(&parser.devs, 0, sizeof(TextPool))
    memset(&parser.flags, 0, sizeof(TextPool))
    parser.wide = NULL
    parser.wide_count = parser.wide_capacity = 0
    parser.text_fields = NULL
    parser.text_count = parser.text_capacity = 0
    parser.text_bytes = NULL
    parser.text_bytes_used = parser.text_bytes_capacity = 0
    parser.row = NULL
    parser.place = parser.slot_count = 0
    parser.row_texts = 0
    parser.address_digits = 12
    parser.tail_length = 0
    parser.next_recent = 0
    for i in range(RECENT_FLAGS):
        parser.recent_flags[i].length = 0
    parser.crlf = parser.sums_only = False
    memset(&parser.sums, 0, sizeof(Sums))
    parser.text_size = 0
    parser.base = NULL
    parser.base_offset = 0
    parser.lines = 0
    parser.problem = NO_PROBLEM


cdef void parser_free(Parser *parser) noexcept nogil:
    free(parser.rows)
    free(parser.wide)
    free(parser.text_fields)
    free(parser.text_bytes)
    free(parser.sums.cells)
    pool_free(&parser.labels)
    pool_free(&parser.names)
    pool_free(&parser.devs)
    pool_free(&parser.flags)


cdef inline bint fail(Parser *parser, Problem problem) noexcept nogil:
    parser.problem = problem
    return False


cdef inline uint32_t *cells_of(Row *row) noexcept nogil:
    return <uint32_t *>(row + 1)


cdef inline Row *row_at(Parser *parser, size_t i) noexcept nogil:
    return <Row *>(parser.rows + i * parser.stride)


cdef bint grow_rows(Parser *parser, const char *line) noexcept nogil:
    cdef size_t size = parser.block_size
    cdef size_t block = size * 2 if size < 1 << 20 else size + size // 2
    cdef size_t done = parser.base_offset + <size_t>(line - parser.base)
    cdef size_t expected
    cdef char *rows
    if block == 0:
        block = 64 * parser.stride
    elif parser.text_size > done:
        # The text's length is known: extrapolate from the records so far, plus 2 %.
        expected = <size_t>(<double>parser.count * parser.text_size / done * 1.02) + 2
        if expected * parser.stride > size:
            block = expected * parser.stride
    rows = <char *>realloc(parser.rows, block)
    if rows == NULL:
        return fail(parser, NO_MEMORY)
    parser.rows = rows
    parser.block_size = block
    return True


cdef bint begin_row(Parser *parser, const char *line) noexcept nogil:
    """Append a row with the cells and flags of the row before it."""
    if parser.count == 1:
        # The first record is complete, so the number of its fields is known. It is rounded up
        # to an even number, so that the 64-bit members of each row stay aligned.
        parser.cells = (parser.column_count + 1) & ~<uint32_t>1
        parser.stride = sizeof(Row) + parser.cells * sizeof(uint32_t)
    if (parser.count + 1) * parser.stride > parser.block_size and not grow_rows(parser, line):
        return False
    parser.row = row_at(parser, parser.count)
    if parser.count == 0:
        memset(parser.row, 0xFF, parser.stride)
    else:
        memcpy(parser.row, row_at(parser, parser.count - 1), parser.stride)
    parser.count += 1
    return True


cdef bint widen_rows(Parser *parser) noexcept nogil:
    """Make room for more columns in each row, for a field that earlier records lack."""
    cdef uint32_t cells = parser.cells + parser.cells // 4 + 4 & ~<uint32_t>1
    cdef size_t stride = sizeof(Row) + cells * sizeof(uint32_t)
    cdef size_t capacity = parser.block_size // parser.stride
    cdef char *rows = <char *>malloc(capacity * stride)
    cdef size_t i
    if rows == NULL:
        return fail(parser, NO_MEMORY)
    for i in range(parser.count):
        memcpy(rows + i * stride, parser.rows + i * parser.stride, parser.stride)
        memset(rows + i * stride + parser.stride, 0xFF, stride - parser.stride)
    free(parser.rows)
    parser.rows = rows
    parser.block_size = capacity * stride
    parser.stride = stride
    parser.cells = cells
    parser.row = row_at(parser, parser.count - 1)
    return True


cdef void forget_slots(Parser *parser) noexcept nogil:
    """Forget the slots from the current place on: from there the records differ.

    What the row copied for these fields from the row before is cleared.
    """
    cdef uint32_t i
    for i in range(parser.place, parser.slot_count):
        if parser.slots[i].column == FLAGS_SLOT:
            parser.row.flags = MISSING
        else:
            cells_of(parser.row)[parser.slots[i].column] = MISSING
    parser.slot_count = parser.place


cdef void finish_text(Parser *parser) noexcept nogil:
    """Complete the last record, which may be shorter than the record before it."""
    if parser.place < parser.slot_count:
        forget_slots(parser)
