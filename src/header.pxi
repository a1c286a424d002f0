# A record's header: start-end perms offset dev inode name.

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


cdef bint rare_permissions(const char *p, uint32_t *perms) noexcept nogil:
    """Also S, which kernels without an MMU print, and "-" where p or s belongs (early WSL1)."""
    cdef char[4] usual
    memcpy(usual, p, 4)
    if p[3] == c'S':
        usual[3] = c's'
    elif p[3] == c'-':
        usual[3] = c'p'
    if not is_permissions(usual, perms):
        return False
    if p[3] == c'-':
        perms[0] |= 16
    return True


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
        if p == line or end - p < 4 or not rare_permissions(p, &perms):
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
