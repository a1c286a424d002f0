# The scanner: lines into rows, the quick way where it can be.

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
