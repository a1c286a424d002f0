# Sums over rows, in total or by group. Uses rows.
#
# A sum of cells cannot overflow 64 bits: cells have 32 bits, and there are fewer than 2**32 of
# them. Sums of end - start and of wide values could, so their halves are summed separately.

cdef bint allocate_sums(Sums *sums, uint32_t columns, size_t groups) noexcept nogil:
    """Make room for these columns and groups; False if out of memory.

    Sums that are there are kept if there is only one group.
    """
    cdef uint64_t *old = sums.cells
    cdef uint64_t *block
    cdef uint32_t old_columns = sums.columns
    cdef size_t size = groups * columns
    cdef uint32_t i
    if old != NULL and columns <= old_columns:
        return True
    block = <uint64_t *>calloc(4 * size + 2 * groups, sizeof(uint64_t))
    if block == NULL:
        return False
    if old != NULL:
        for i in range(4):
            memcpy(block + i * size, old + i * old_columns, old_columns * sizeof(uint64_t))
        memcpy(block + 4 * size, old + 4 * old_columns, 2 * sizeof(uint64_t))
        free(old)
    sums.cells = block
    sums.seen = block + size
    sums.low = block + 2 * size
    sums.high = block + 3 * size
    sums.sizes = block + 4 * size
    sums.columns = columns
    sums.groups = groups
    return True


cdef bint grow_sums(Sums *sums, uint32_t columns, size_t groups) noexcept nogil:
    """Make room for more columns and groups and keep all sums; False if out of memory."""
    cdef Sums old = sums[0]
    cdef size_t g
    if columns <= old.columns and groups <= old.groups:
        return True
    if columns < old.columns:
        columns = old.columns
    if groups < old.groups:
        groups = old.groups
    sums.cells = NULL
    if not allocate_sums(sums, columns, groups):
        sums[0] = old
        return False
    for g in range(old.groups):
        memcpy(sums.cells + g * columns, old.cells + g * old.columns, old.columns * 8)
        memcpy(sums.seen + g * columns, old.seen + g * old.columns, old.columns * 8)
        memcpy(sums.low + g * columns, old.low + g * old.columns, old.columns * 8)
        memcpy(sums.high + g * columns, old.high + g * old.columns, old.columns * 8)
    if old.groups:
        memcpy(sums.sizes, old.sizes, old.groups * 2 * 8)
    free(old.cells)
    return True


cdef void add_rows(
    Sums *sums, Parser *parser, size_t count, const uint32_t *groups
) noexcept nogil:
    """Add the first `count` rows, each to its group; with `groups` NULL all to the first."""
    cdef size_t i, place
    cdef size_t group = 0
    cdef uint32_t c
    cdef Row *row
    cdef uint32_t *cells
    cdef uint64_t *cell_sums
    cdef uint64_t *seen
    for i in range(count):
        if groups != NULL:
            group = groups[i]
            if group >= sums.groups:
                continue
        row = row_at(parser, i)
        sums.sizes[2 * group] += <uint32_t>(row.end - row.start)
        sums.sizes[2 * group + 1] += (row.end - row.start) >> 32
        cells = cells_of(row)
        cell_sums = sums.cells + group * sums.columns
        seen = sums.seen + group * sums.columns
        for c in range(parser.column_count):
            cell_sums[c] += cells[c] if cells[c] < IS_WIDE else 0
            seen[c] += cells[c] != MISSING
    for i in range(parser.wide_count):
        if parser.wide[i].row >= count:
            break
        if groups != NULL:
            group = groups[parser.wide[i].row]
            if group >= sums.groups:
                continue
        place = group * sums.columns + parser.wide[i].column
        sums.low[place] += <uint32_t>parser.wide[i].value
        sums.high[place] += parser.wide[i].value >> 32


cdef bint sum_and_drop_rows(Parser *parser, bint all_) noexcept nogil:
    """Add the rows to the parser's sums and drop them: all, or all but the current record."""
    cdef size_t count = parser.count if all_ else parser.count - 1
    cdef size_t i, kept
    if parser.count == 0:
        return True
    if not allocate_sums(&parser.sums, parser.column_count if parser.column_count > 32 else 32, 1):
        return fail(parser, NO_MEMORY)
    add_rows(&parser.sums, parser, count, NULL)
    kept = 0
    for i in range(parser.wide_count):
        if parser.wide[i].row >= count:
            parser.wide[kept] = parser.wide[i]
            parser.wide[kept].row = 0
            kept += 1
    parser.wide_count = kept
    if not all_ and count > 0:
        memmove(parser.rows, parser.row, parser.stride)
        parser.row = row_at(parser, 0)
        parser.count = 1
    return True


cdef tuple sums_result(Sums *sums, Parser *parser, tuple labels, size_t group):
    """Return a group's sum of end - start, and {label: sum} of the sizes that it has."""
    cdef uint32_t c
    cdef size_t place
    cdef Column *column
    cdef dict totals = {}
    for c in range(parser.column_count):
        place = group * sums.columns + c
        column = &parser.columns[c]
        if sums.seen[place] == 0 or not column.sized or column.kind == PAGE_SIZE_LABEL:
            continue
        if (sums.low[place] | sums.high[place]) == 0 and sums.cells[place] >> 54 == 0:
            totals[labels[c]] = sums.cells[place] << 10
        else:
            totals[labels[c]] = (
                (<object>sums.cells[place] << 10) + (<object>sums.high[place] << 32)
                + <object>sums.low[place]
            )
    return (<object>sums.sizes[2 * group + 1] << 32) + <object>sums.sizes[2 * group], totals
