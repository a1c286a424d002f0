# Slow path for a record's header: start-end perms offset dev inode name.
# Uses numbers, text_pool and rows.

cdef inline bint parse_permissions(const char *p, uint32_t *perms) noexcept nogil:
    cdef bint r = p[0] == c'r'
    cdef bint w = p[1] == c'w'
    cdef bint x = p[2] == c'x'
    cdef bint s = p[3] == c's'
    perms[0] = r | w << 1 | x << 2 | s << 3
    return (
        (r | (p[0] == c'-')) & (w | (p[1] == c'-')) & (x | (p[2] == c'-')) & (s | (p[3] == c'p'))
    )


cdef bint parse_rare_permissions(const char *p, uint32_t *perms) noexcept nogil:
    """Also accept S (kernels without an MMU) and "-" in the place of p or s (early WSL1)."""
    cdef char[4] usual
    memcpy(usual, p, 4)
    if p[3] == c'S':
        usual[3] = c's'
    elif p[3] == c'-':
        usual[3] = c'p'
    if not parse_permissions(usual, perms):
        return False
    if p[3] == c'-':
        perms[0] |= 16
    return True


cdef bint parse_tail(Parser *parser, const char *p, const char *end) noexcept nogil:
    """Parse dev, inode and name, and remember them: the next header often has the same."""
    cdef const char *dev = p
    cdef const char *q
    cdef uint64_t number = 0
    cdef uint64_t inode = 0
    cdef uint32_t digit
    cdef bint too_large = False
    parser.tail_length = 0
    q = parse_hex(p, end, 8, &number)
    if q == NULL or q == end or q[0] != c':':
        return fail(parser, NO_HEADER)
    q = parse_hex(q + 1, end, 8, &number)
    if q == NULL or q == end or (q[0] != c' ' and q[0] != c'\t'):
        return fail(parser, NO_HEADER)
    if parser.sums_only:
        parser.tail_dev = 0
    elif not pool_id(&parser.devs, dev, q - dev, &parser.tail_dev):
        return fail(parser, NO_MEMORY)
    p = q = skip_blanks(q, end)
    while q < end and c'0' <= q[0] <= c'9':
        digit = q[0] - c'0'
        if inode > (<uint64_t>-1 - digit) // 10:
            too_large = True
        inode = inode * 10 + digit
        q += 1
    if q == p:
        return fail(parser, NO_HEADER)
    p = q
    q = skip_blanks(p, end)
    if end - q == 1 and q[0] == c'\r':
        q = end                 # a Windows line end, not a name
    elif p == q and q < end:
        return fail(parser, NO_HEADER)
    if too_large:
        return fail(parser, TOO_LARGE)
    parser.header_has_name = q < end
    if parser.sums_only:
        parser.tail_name = 0
    elif not pool_id(&parser.names, q, end - q, &parser.tail_name):
        return fail(parser, NO_MEMORY)
    parser.tail_inode = inode
    if end - dev <= MAX_TAIL:
        memcpy(parser.tail, dev, end - dev)
        parser.tail_length = end - dev
    return True


cdef bint parse_header_line(Parser *parser, const char *p, const char *end) noexcept nogil:
    cdef const char *line = p
    cdef size_t digits = parser.address_digits
    cdef size_t size = end - p
    cdef uint64_t start = 0
    cdef uint64_t stop = 0
    cdef uint64_t offset = 0
    cdef uint32_t perms = 0
    if parser.count > 0 and parser.place < parser.slot_count:
        forget_slots(parser)    # the record before ended early

    if likely(
        size > 2 * digits + 17
        and p[digits] == c'-'
        and p[2 * digits + 1] == c' '
        and fixed_hex(p, digits, &start)
        and fixed_hex(p + digits + 1, digits, &stop)
    ):
        p += 2 * digits + 1
    else:
        p = parse_hex(p, end, 16, &start)
        if p == NULL or p == end or p[0] != c'-':
            return fail(parser, NO_HEADER)
        digits = p - line
        p = parse_hex(p + 1, end, 16, &stop)
        if p == NULL:
            return fail(parser, NO_HEADER)
        if 8 <= digits <= 16:
            parser.address_digits = digits

    if likely(
        end - p > 16
        and p[0] == c' '
        and parse_permissions(p + 1, &perms)
        and p[5] == c' '
        and p[14] == c' '
        and p[15] != c' '
        and p[15] != c'\t'
        and eight_hex_digits(p + 6, &offset)
    ):
        p += 15
    else:
        line = p
        p = skip_blanks(p, end)
        if p == line or end - p < 4 or not parse_rare_permissions(p, &perms):
            return fail(parser, NO_HEADER)
        line = p + 4
        p = skip_blanks(line, end)
        if p == line:
            return fail(parser, NO_HEADER)
        p = line = parse_hex(p, end, 16, &offset)
        if p == NULL:
            return fail(parser, NO_HEADER)
        p = skip_blanks(p, end)
        if p == line:
            return fail(parser, NO_HEADER)

    if (
        parser.tail_length == 0
        or parser.tail_length != <size_t>(end - p)
        or memcmp(p, parser.tail, end - p) != 0
    ):
        if not parse_tail(parser, p, end):
            return False
    if stop < start:
        return fail(parser, BACKWARDS)
    if not begin_row(parser, parser.bad_line):
        return False
    parser.row.start = start
    parser.row.end = stop
    parser.row.offset = offset
    parser.row.inode = parser.tail_inode
    parser.row.perms = perms
    parser.row.dev = parser.tail_dev
    parser.row.name = parser.tail_name
    parser.place = 0
    parser.row_texts = 0
    parser.has_name_line = False
    if parser.sums_only:
        parser.text_count = parser.text_bytes_used = 0
    return True
