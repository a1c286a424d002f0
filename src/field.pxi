# A record's fields, the general way.

cdef Shape value_of(const char *p, const char *end, uint64_t *number) noexcept nogil:
    """What the value [p, end) is; a number of kB is given in bytes."""
    cdef const char *q = p
    cdef uint64_t value = 0
    cdef uint32_t digit
    cdef bint over = False
    while q < end and c'0' <= q[0] <= c'9':
        digit = q[0] - c'0'
        if value > (<uint64_t>-2 - digit) // 10:    # 2**64 - 1 means absent
            over = True
        value = value * 10 + digit
        q += 1
    if q == p:
        return TEXT
    number[0] = value
    if q == end:
        return OVER if over else BARE
    p = blanks(q, end)
    if p == q or end - p != 2 or p[0] != c'k' or p[1] != c'B':
        return TEXT
    if over or value >> 54 != 0:
        return OVER
    number[0] = value * 1024
    return IN_KB


cdef bint has_unit(const char *p, const char *end) noexcept nogil:
    """Whether a value that is no number begins with one, and a letter follows it."""
    cdef const char *start = p
    while p < end and c'0' <= p[0] <= c'9':
        p += 1
    if p == start:
        return False
    p = blanks(p, end)
    return p < end and (c'A' <= p[0] <= c'Z' or c'a' <= p[0] <= c'z')


cdef inline bint label_is(
    Scan *s, uint32_t column, const char *label, size_t length
) noexcept nogil:
    cdef Entry *entry = &s.labels.entries[column]
    return entry.length == length and memcmp(s.labels.bytes + entry.at, label, length) == 0


cdef int find_column(Scan *s, const char *label, size_t length) noexcept nogil:
    cdef uint32_t i
    if s.place < s.slots:
        if s.slot[s.place].column >= 0 and label_is(s, s.slot[s.place].column, label, length):
            return s.slot[s.place].column
    for i in range(s.columns):
        if label_is(s, i, label, length):
            return i
    return -1


cdef int find_known(const char *label, size_t length) noexcept nogil:
    cdef int i
    for i in range(known_count):
        if known[i].length == length and memcmp(known[i].text, label, length) == 0:
            return i
    return -1


cdef int add_column(
    Scan *s, const char *label, size_t length, int known_as, Kind kind, Shape shape
) noexcept nogil:
    cdef uint32_t id_ = 0
    if s.columns == MOST_LABELS:
        fail(s, TOO_MANY)
        return -1
    if s.columns == s.cells and not widen_rows(s):
        return -1
    if not pool_id(&s.labels, label, length, &id_):
        fail(s, NO_MEMORY)
        return -1
    s.column[id_].kind = kind
    s.column[id_].known = known_as
    s.column[id_].unit = 1024 if shape == IN_KB else 1
    s.column[id_].sized = shape == IN_KB
    s.column[id_].bare = False
    # Not one more: a text that changes meanwhile may show a label a second time.
    s.columns = s.labels.count
    return id_


cdef bint text_seen(Scan *s, const char *label, size_t length) noexcept nogil:
    """Whether the record at hand has this label with a text already."""
    cdef size_t i
    cdef Text *text
    for i in range(s.text_count - s.row_texts, s.text_count):
        text = &s.text[i]
        if text.label_length == length and memcmp(s.texts + text.at, label, length) == 0:
            return True
    return False


cdef bint keep_text(
    Scan *s, const char *label, size_t label_length, const char *value, size_t length
) noexcept nogil:
    cdef char *block
    cdef Text *text
    if s.row_texts == MOST_LABELS:
        return fail(s, TOO_MANY)
    if s.texts_used + label_length + length > s.texts_room:
        block = grow_bytes(s.texts, &s.texts_room, s.texts_used + label_length + length)
        if block == NULL:
            return fail(s, NO_MEMORY)
        s.texts = block
    if s.text_count == s.text_room:
        text = <Text *>realloc(s.text, (s.text_room * 2 + 4) * sizeof(Text))
        if text == NULL:
            return fail(s, NO_MEMORY)
        s.text = text
        s.text_room = s.text_room * 2 + 4
    text = &s.text[s.text_count]
    text.row = s.count - 1
    text.at = s.texts_used
    text.label_length = label_length
    text.length = length
    memcpy(s.texts + text.at, label, label_length)
    memcpy(s.texts + text.at + label_length, value, length)
    s.texts_used += label_length + length
    s.text_count += 1
    s.row_texts += 1
    return True


cdef bint keep_wide(Scan *s, uint32_t column, uint64_t value) noexcept nogil:
    cdef Wide *wide
    if s.wide_count == s.wide_room:
        wide = <Wide *>realloc(s.wide, (s.wide_room * 2 + 4) * sizeof(Wide))
        if wide == NULL:
            return fail(s, NO_MEMORY)
        s.wide = wide
        s.wide_room = s.wide_room * 2 + 4
    s.wide[s.wide_count].row = s.count - 1
    s.wide[s.wide_count].column = column
    s.wide[s.wide_count].value = value
    s.wide_count += 1
    return True


cdef bint flags_line(
    Scan *s, const char *line, const char *eol, bint ended, const char *value, const char *end
) noexcept nogil:
    cdef Recent *recent
    if s.place < s.slots and s.slot[s.place].column != FLAGS_SLOT:
        cut_slots(s)
    if s.place == s.slots:
        if s.row.flags != NOTHING:
            return fail(s, TWICE)
        s.slot[s.place].column = FLAGS_SLOT
        s.slot[s.place].length = 0
        s.slots += 1
    s.place += 1
    if s.sums_only:
        s.row.flags = 0
    elif not pool_id(&s.flags, value, end - value, &s.row.flags):
        return fail(s, NO_MEMORY)
    if ended and eol + 1 - line <= FLAGS_TEMPLATE:
        recent = &s.recent[s.recent_next % RECENT]
        s.recent_next += 1
        recent.length = eol + 1 - line
        memcpy(recent.text, line, recent.length)
        recent.flags = s.row.flags
    return True


cdef bint name_line(Scan *s, const char *label, const char *value, const char *end) noexcept nogil:
    """Android's `Name:`: the mapping's name where the header has none."""
    if s.name_line:
        return fail(s, TWICE)
    s.name_line = True
    if s.named:
        return keep_text(s, label, 4, value, end - value)
    if not s.sums_only and not pool_id(&s.names, value, end - value, &s.row.name):
        return fail(s, NO_MEMORY)
    return True


cdef void keep_slot(
    Scan *s, const char *line, const char *eol, bint ended, bint narrow
) noexcept nogil:
    """Remembers a number's line, so that the next record's can be compared with it."""
    cdef Slot *slot = &s.slot[s.place]
    cdef size_t length = eol + 1 - line
    cdef uint32_t number = 0
    slot.length = 0
    slot.digits = 0
    if not ended or not narrow or length < 16 or length > TEMPLATE:
        return
    memcpy(slot.text, line, length)
    slot.length = <uint8_t>length
    # "%8lu kB": a longer number pushes the rest to the right, and its first digits would
    # lie before these eight.
    if (
        memcmp(line + length - 4, b" kB\n", 4) == 0
        and (line[length - 13] == c' ' or line[length - 13] == c':')
        and eight_digits(line + length - 12, &number)
    ):
        slot.digits = <uint8_t>(length - 12)


cdef bint number_line(
    Scan *s, const char *line, const char *eol, bint ended,
    int column, Shape shape, uint64_t value,
) noexcept nogil:
    cdef uint64_t narrow
    if s.place < s.slots and s.slot[s.place].column != column:
        cut_slots(s)
    if s.place == s.slots and cells_of(s.row)[column] != NOTHING:
        return fail(s, TWICE)
    if shape != IN_KB:
        s.column[column].sized = False
    narrow = value
    if s.column[column].unit == 1024:
        narrow = value >> 10
    if narrow < IN_WIDE and (shape == IN_KB) == (s.column[column].unit == 1024):
        cells_of(s.row)[column] = <uint32_t>narrow
        keep_slot(s, line, eol, ended, True)
    else:
        cells_of(s.row)[column] = IN_WIDE
        if not keep_wide(s, column, value):
            return False
        keep_slot(s, line, eol, ended, False)
    s.slot[s.place].column = column
    if s.place == s.slots:
        s.slots += 1
    s.place += 1
    return True


cdef bint field_line(
    Scan *s, const char *line, const char *end, const char *eol, bint ended
) noexcept nogil:
    """The general way for a field; [line, end) without its line end, which is at eol."""
    cdef const char *colon = line + 1
    cdef const char *value
    cdef size_t length
    cdef int column
    cdef int known_as = -1
    cdef Kind kind
    cdef Shape shape
    cdef uint64_t number = 0
    if s.row == NULL:
        return fail(s, FIELD_FIRST)
    while colon < end and c' ' < colon[0] < 127 and colon[0] != c':':
        colon += 1
    if colon == end or colon[0] != c':':
        return fail(s, NO_LABEL)
    length = colon - line
    value = blanks(colon + 1, end)
    while end > value and is_trailing((end - 1)[0]):
        end -= 1

    column = find_column(s, line, length)
    if column >= 0:
        kind = s.column[column].kind
    else:
        known_as = find_known(line, length)
        kind = known[known_as].kind if known_as >= 0 else ANY_KIND
    if kind == FLAGS_KIND:
        return flags_line(s, line, eol, ended, value, end)
    if kind == NAME_KIND:
        return name_line(s, line, value, end)
    shape = value_of(value, end, &number)
    if shape == OVER:
        return fail(s, TOO_LARGE)
    if shape == TEXT and kind != ANY_KIND:
        if not has_unit(value, end):
            return fail(s, NO_NUMBER)
        return fail(s, UNIT if kind == NUMBER_KIND else OTHER_UNIT)
    if shape == BARE and (kind == SIZE_KIND or kind == PAGE_SIZE_KIND):
        return fail(s, NO_UNIT)
    if shape == IN_KB and kind == NUMBER_KIND:
        return fail(s, UNIT)
    if shape == TEXT:
        if column >= 0:
            cut_slots(s)
            if cells_of(s.row)[column] != NOTHING:
                return fail(s, TWICE)
        if text_seen(s, line, length):
            return fail(s, TWICE)
        return keep_text(s, line, length, value, end - value)
    if s.row_texts > 0 and text_seen(s, line, length):
        return fail(s, TWICE)
    if column < 0:
        column = add_column(s, line, length, known_as, kind, shape)
        if column < 0:
            return False
    return number_line(s, line, eol, ended, column, shape, number)
