# 64-bit columns request of rows. Memory decides the speed here, so all columns that are asked for
# are filled in one pass over the rows. Uses no other part.

cdef inline uint32_t cell_at(Parser *parser, size_t i, ColumnRequest *request) noexcept nogil:
    return (<uint32_t *>(parser.rows + i * parser.stride + request.offset))[0]


cdef void fill_field(
    Parser *parser, ColumnRequest *request, size_t start, size_t stop
) noexcept nogil:
    """Fill in a field's values. Most fields are 0 in all rows; their memory is not touched."""
    cdef uint64_t *values = <uint64_t *>request.values
    cdef uint32_t cell = 0
    cdef size_t i
    if request.all_zero:
        for i in range(start, stop):
            cell |= cell_at(parser, i, request)
        if cell == 0:
            return
        memset(values, 0, start * sizeof(uint64_t))
        request.all_zero = False
    for i in range(start, stop):
        cell = cell_at(parser, i, request)
        values[i] = cell * request.unit if cell < IS_WIDE else <uint64_t>-1
        request.absent += cell == MISSING


cdef void fill_header(
    Parser *parser, ColumnRequest *request, size_t start, size_t stop
) noexcept nogil:
    """Fill in values of the header, or the ids of its texts."""
    cdef char *value = parser.rows + start * parser.stride + request.offset
    cdef uint64_t *numbers = <uint64_t *>request.values
    cdef uint32_t *ids = <uint32_t *>request.values
    cdef size_t i
    if request.width == sizeof(uint64_t):
        for i in range(start, stop):
            numbers[i] = (<uint64_t *>value)[0]
            value += parser.stride
    elif request.width == sizeof(uint32_t):
        for i in range(start, stop):
            ids[i] = (<uint32_t *>value)[0]
            request.absent += ids[i] == MISSING
            value += parser.stride
    else:
        for i in range(start, stop):
            request.values[i] = <char>(<uint32_t *>value)[0]
            value += parser.stride


cdef void fill_columns(
    Parser *parser, ColumnRequest *requests, size_t count, size_t rows
) noexcept nogil:
    cdef size_t start = 0, stop, c, i
    while start < rows:
        stop = min(start + ROWS_AT_ONCE, rows)
        for c in range(count):
            if requests[c].unit:
                fill_field(parser, &requests[c], start, stop)
            else:
                fill_header(parser, &requests[c], start, stop)
        start = stop
    for i in range(parser.wide_count):
        for c in range(count):
            if requests[c].unit and requests[c].column == parser.wide[i].column:
                (<uint64_t *>requests[c].values)[parser.wide[i].row] = parser.wide[i].value
