# Sums over rows. A cell's sum cannot overflow (32-bit cells, fewer than 2**32 of them); that
# of end - start and of wide values could, so their halves are added apart.

cdef bint sums_fit(Sums *sums, uint32_t columns, size_t groups) noexcept nogil:
    """Makes room; figures of fewer columns (then of one group) are kept."""
    cdef uint64_t *old = sums.cells
    cdef uint64_t *block
    cdef uint32_t had = sums.columns
    cdef size_t size = groups * columns
    cdef uint32_t i
    if old != NULL and columns <= had:
        return True
    block = <uint64_t *>calloc(4 * size + 2 * groups, sizeof(uint64_t))
    if block == NULL:
        return False
    if old != NULL:
        for i in range(4):
            memcpy(block + i * size, old + i * had, had * sizeof(uint64_t))
        memcpy(block + 4 * size, old + 4 * had, 2 * sizeof(uint64_t))
        free(old)
    sums.cells = block
    sums.seen = block + size
    sums.low = block + 2 * size
    sums.high = block + 3 * size
    sums.sizes = block + 4 * size
    sums.columns = columns
    sums.groups = groups
    return True


cdef void add_rows(Sums *sums, Scan *s, size_t count, const uint32_t *groups) noexcept nogil:
    """Adds the first `count` rows, each to its group; all to the first where groups is NULL."""
    cdef size_t i, at
    cdef size_t group = 0
    cdef uint32_t c
    cdef Row *row
    cdef uint32_t *cells
    cdef uint64_t *into
    cdef uint64_t *seen
    for i in range(count):
        if groups != NULL:
            group = groups[i]
            if group >= sums.groups:
                continue
        row = row_at(s, i)
        sums.sizes[2 * group] += <uint32_t>(row.end - row.start)
        sums.sizes[2 * group + 1] += (row.end - row.start) >> 32
        cells = cells_of(row)
        into = sums.cells + group * sums.columns
        seen = sums.seen + group * sums.columns
        for c in range(s.columns):
            into[c] += cells[c] if cells[c] < IN_WIDE else 0
            seen[c] += cells[c] != NOTHING
    for i in range(s.wide_count):
        if s.wide[i].row >= count:
            break
        if groups != NULL:
            group = groups[s.wide[i].row]
            if group >= sums.groups:
                continue
        at = group * sums.columns + s.wide[i].column
        sums.low[at] += <uint32_t>s.wide[i].value
        sums.high[at] += s.wide[i].value >> 32


cdef bint forget_rows(Scan *s, bint all_) noexcept nogil:
    """Adds the rows to the scan's sums and drops them, all or all but the record at hand."""
    cdef size_t count = s.count if all_ else s.count - 1
    cdef size_t i, kept
    if s.count == 0:
        return True
    if not sums_fit(&s.sums, s.columns if s.columns > 32 else 32, 1):
        return fail(s, NO_MEMORY)
    add_rows(&s.sums, s, count, NULL)
    kept = 0
    for i in range(s.wide_count):
        if s.wide[i].row >= count:
            s.wide[kept] = s.wide[i]
            s.wide[kept].row = 0
            kept += 1
    s.wide_count = kept
    if not all_ and count > 0:
        memmove(s.rows, s.row, s.stride)
        s.row = row_at(s, 0)
        s.count = 1
    return True


cdef tuple sums_result(Sums *sums, Scan *s, tuple labels, size_t group):
    """end - start over a group, and {label: sum} of the sizes that some record of it has."""
    cdef uint32_t c
    cdef size_t at
    cdef dict figures = {}
    for c in range(s.columns):
        at = group * sums.columns + c
        if sums.seen[at] == 0 or not s.column[c].sized or s.column[c].kind == PAGE_SIZE_KIND:
            continue
        if (sums.low[at] | sums.high[at]) == 0 and sums.cells[at] >> 54 == 0:
            figures[labels[c]] = sums.cells[at] << 10
        else:
            figures[labels[c]] = (
                (<object>sums.cells[at] << 10) + (<object>sums.high[at] << 32)
                + <object>sums.low[at]
            )
    return (<object>sums.sizes[2 * group + 1] << 32) + <object>sums.sizes[2 * group], figures
