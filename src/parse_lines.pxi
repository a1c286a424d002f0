# The fast path, and the loop over lines: bytes into rows.
# Uses numbers, rows, header_line and field_line.

cdef const char *match_slots(Parser *parser, const char *p, const char *end) noexcept nogil:
    """Take the lines that differ from the record before in eight digits at most."""
    cdef uint32_t *cells = cells_of(parser.row)
    cdef Slot *slot = &parser.slots[parser.place]
    cdef Slot *last = &parser.slots[parser.slot_count]
    cdef FlagsLine *recent
    cdef uint32_t i
    cdef uint32_t number = 0
    while slot != last and end - p >= MAX_SLOT_TEXT:
        if likely(slot.length != 0):
            if equal16(p, slot.text):
                if equal16(p + slot.length - 16, slot.text + slot.length - 16):
                    p += slot.length
                    slot += 1
                    continue
            elif slot.digits == 16:
                break
            if (
                slot.digits != 0
                and (slot.digits == 16 or memcmp(p, slot.text, slot.digits) == 0)
                and equal4(p + slot.length - 4, slot.text + slot.length - 4)
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
        for i in range(<uint32_t>RECENT_FLAGS):
            recent = &parser.recent_flags[i]
            if (
                recent.length != 0
                and <size_t>(end - p) >= recent.length
                and memcmp(p, recent.text, recent.length) == 0
            ):
                parser.row.flags = recent.flags
                p += recent.length
                slot += 1
                break
        else:
            break
    parser.lines += (slot - parser.slots) - parser.place
    parser.place = slot - parser.slots
    return p


cdef const char *parse_lines(
    Parser *parser, const char *p, const char *end, bint last
) noexcept nogil:
    """Parse the lines of [p, end); return the start of the incomplete line, or NULL on failure.

    With `last` these are the text's last bytes, and the last line may lack its newline.
    """
    cdef const char *eol
    cdef const char *stop
    cdef bint ended, good
    while p < end:
        if parser.place < parser.slot_count and parser.row_texts == 0:
            p = match_slots(parser, p, end)
            if p == end:
                break
        eol = <const char *>memchr(p, c'\n', end - p)
        ended = eol != NULL
        if not ended:
            if not last:
                break
            eol = end
        stop = eol
        if parser.crlf and stop > p and (stop - 1)[0] == c'\r':
            stop -= 1
        parser.bad_line = p
        # The buffer may change meanwhile, so only the bounds say that the line is not empty.
        if p < stop and c'A' <= p[0] <= c'Z':
            good = parse_field_line(parser, p, stop, eol, ended)
        elif p < stop and hex_digit(p[0]) >= 0:
            good = parse_header_line(parser, p, stop)
        else:
            good = is_blank(p, stop) or fail(parser, NO_LINE)
        if not good:
            parser.bad_length = stop - p
            return NULL
        parser.lines += 1
        p = eol + 1 if ended else end
    return p
