# Columns out of rows: all that are asked for in one pass over memory, which decides the speed.

cdef size_t ROWS_AT_ONCE = 64       # 9 kB: they stay in the first-level cache

cdef struct Wanted:
    size_t at               # in a row
    size_t width            # of a value
    uint64_t unit           # of a cell; 0 for what is none
    uint32_t column
    bint zero               # nothing but zeros so far, and nothing written
    size_t absent           # rows that lack it
    size_t place            # of its values in the block
    char *values


cdef inline uint32_t cell_at(Scan *s, size_t i, Wanted *out) noexcept nogil:
    return (<uint32_t *>(s.rows + i * s.stride + out.at))[0]


cdef void some_cells(Scan *s, Wanted *out, size_t start, size_t stop) noexcept nogil:
    """Values of a field. Most fields are 0 in all rows: their memory is not even touched."""
    cdef uint64_t *values = <uint64_t *>out.values
    cdef uint32_t cell = 0
    cdef size_t i
    if out.zero:
        for i in range(start, stop):
            cell |= cell_at(s, i, out)
        if cell == 0:
            return
        memset(values, 0, start * sizeof(uint64_t))
        out.zero = False
    for i in range(start, stop):
        cell = cell_at(s, i, out)
        values[i] = cell * out.unit if cell < IN_WIDE else <uint64_t>-1
        out.absent += cell == NOTHING


cdef void some_values(Scan *s, Wanted *out, size_t start, size_t stop) noexcept nogil:
    """Values of the header, or numbers of its texts."""
    cdef char *at = s.rows + start * s.stride + out.at
    cdef uint64_t *longs = <uint64_t *>out.values
    cdef uint32_t *ints = <uint32_t *>out.values
    cdef size_t i
    if out.width == sizeof(uint64_t):
        for i in range(start, stop):
            longs[i] = (<uint64_t *>at)[0]
            at += s.stride
    elif out.width == sizeof(uint32_t):
        for i in range(start, stop):
            ints[i] = (<uint32_t *>at)[0]
            out.absent += ints[i] == NOTHING
            at += s.stride
    else:
        for i in range(start, stop):
            out.values[i] = <char>(<uint32_t *>at)[0]
            at += s.stride


cdef void take_columns(Scan *s, Wanted *wanted, size_t count, size_t rows) noexcept nogil:
    cdef size_t start = 0, stop, c, i
    while start < rows:
        stop = min(start + ROWS_AT_ONCE, rows)
        for c in range(count):
            if wanted[c].unit:
                some_cells(s, &wanted[c], start, stop)
            else:
                some_values(s, &wanted[c], start, stop)
        start = stop
    for i in range(s.wide_count):
        for c in range(count):
            if wanted[c].unit and wanted[c].column == s.wide[i].column:
                (<uint64_t *>wanted[c].values)[s.wide[i].row] = s.wide[i].value
