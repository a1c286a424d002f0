# Numbers and blanks in a line. Uses no other part.

cdef inline int hex_digit(char c) noexcept nogil:
    if c'0' <= c <= c'9':
        return c - c'0'
    if c'a' <= c <= c'f':
        return c - c'a' + 10
    return -1


cdef const char *parse_hex(
    const char *p, const char *end, int max_digits, uint64_t *number
) noexcept nogil:
    """Parse 1 to `max_digits` hex digits; return the end of them, or NULL."""
    cdef const char *q = p
    cdef uint64_t value = 0
    cdef int digit
    while q < end:
        digit = hex_digit(q[0])
        if digit < 0:
            break
        value = value << 4 | <uint64_t>digit
        q += 1
    if q == p or q - p > max_digits:
        return NULL
    number[0] = value
    return q


cdef inline const char *skip_blanks(const char *p, const char *end) noexcept nogil:
    while p < end and (p[0] == c' ' or p[0] == c'\t'):
        p += 1
    return p


cdef inline bint is_trailing(char c) noexcept nogil:
    """Whether the byte may follow the last word of a line."""
    return c == c' ' or c == c'\t' or c == c'\r'


cdef bint is_blank(const char *p, const char *end) noexcept nogil:
    while p < end and is_trailing(p[0]):
        p += 1
    return p == end


# ---- stat and statm: words with one space between them

cdef const char *skip_words(const char *p, const char *end, int count) noexcept nogil:
    while count > 0 and p < end:
        while p < end and p[0] != c' ':
            p += 1
        while p < end and p[0] == c' ':
            p += 1
        count -= 1
    return p


cdef uint64_t decimal(const char *p, const char *end) noexcept nogil:
    cdef uint64_t value = 0
    while p < end and c'0' <= p[0] <= c'9':
        value = value * 10 + <uint64_t>(p[0] - c'0')
        p += 1
    return value


cdef bint is_decimal(const char *p, const char *end) noexcept nogil:
    """Whether the word is a number of at most 18 digits, which is surely below 2**64."""
    cdef const char *start = p
    while p < end and c'0' <= p[0] <= c'9':
        p += 1
    return 0 < p - start <= 18 and (p == end or p[0] == c' ' or p[0] == c'\n')
