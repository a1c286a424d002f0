# Slow path for a record's field lines. Uses numbers, text_pool and rows.

cdef ValueKind parse_value(const char *p, const char *end, uint64_t *number) noexcept nogil:
    """Parse the value [p, end) and return its kind; `number` is in bytes if it had kB."""
    cdef const char *q = p
    cdef uint64_t value = 0
    cdef uint32_t digit
    cdef bint too_large = False
    while q < end and c'0' <= q[0] <= c'9':
        digit = q[0] - c'0'
        if value > (<uint64_t>-2 - digit) // 10:    # 2**64 - 1 means absent
            too_large = True
        value = value * 10 + digit
        q += 1
    if q == p:
        return TEXT
    number[0] = value
    if q == end:
        return NUMBER_TOO_LARGE if too_large else BARE_NUMBER
    p = skip_blanks(q, end)
    if p == q or end - p != 2 or p[0] != c'k' or p[1] != c'B':
        return TEXT
    if too_large or value >> 54 != 0:
        return NUMBER_TOO_LARGE
    number[0] = value * 1024
    return KILOBYTES


cdef bint has_unit(const char *p, const char *end) noexcept nogil:
    """Whether a text value looks like a number with a unit."""
    cdef const char *start = p
    while p < end and c'0' <= p[0] <= c'9':
        p += 1
    if p == start:
        return False
    p = skip_blanks(p, end)
    return p < end and (c'A' <= p[0] <= c'Z' or c'a' <= p[0] <= c'z')


cdef inline bint label_is(
    Parser *parser, uint32_t column, const char *label, size_t length
) noexcept nogil:
    cdef TextEntry *entry = &parser.labels.entries[column]
    return entry.length == length and memcmp(parser.labels.bytes + entry.offset, label, length) == 0


cdef int find_column(Parser *parser, const char *label, size_t length) noexcept nogil:
    cdef int column
    cdef uint32_t i
    if parser.place < parser.slot_count:
        column = parser.slots[parser.place].column
        if column >= 0 and label_is(parser, column, label, length):
            return column
    for i in range(parser.column_count):
        if label_is(parser, i, label, length):
            return i
    return -1


cdef int find_known(const char *label, size_t length) noexcept nogil:
    cdef int i
    for i in range(known_label_count):
        if known_labels[i].length == length and memcmp(known_labels[i].text, label, length) == 0:
            return i
    return -1


cdef int add_column(
    Parser *parser, const char *label, size_t length,
    int known, LabelKind kind, ValueKind value_kind,
) noexcept nogil:
    cdef uint32_t id_ = 0
    if parser.column_count == MAX_LABELS:
        fail(parser, TOO_MANY)
        return -1
    if parser.column_count == parser.cells and not widen_rows(parser):
        return -1
    if not pool_id(&parser.labels, label, length, &id_):
        fail(parser, NO_MEMORY)
        return -1
    parser.columns[id_].kind = kind
    parser.columns[id_].known = known
    parser.columns[id_].unit = 1024 if value_kind == KILOBYTES else 1
    parser.columns[id_].sized = value_kind == KILOBYTES
    parser.columns[id_].was_bare = False
    # The pool's count and not one more: a buffer that changes while it is parsed may show a
    # label a second time.
    parser.column_count = parser.labels.count
    return id_


cdef bint has_text_field(Parser *parser, const char *label, size_t length) noexcept nogil:
    """Whether the current record already has a text field with this label."""
    cdef size_t i
    cdef TextField *text
    for i in range(parser.text_count - parser.row_texts, parser.text_count):
        text = &parser.text_fields[i]
        if (
            text.label_length == length
            and memcmp(parser.text_bytes + text.offset, label, length) == 0
        ):
            return True
    return False


cdef bint store_text(
    Parser *parser, const char *label, size_t label_length, const char *value, size_t length
) noexcept nogil:
    cdef size_t needed = parser.text_bytes_used + label_length + length
    cdef char *block
    cdef TextField *text
    if parser.row_texts == MAX_LABELS:
        return fail(parser, TOO_MANY)
    if needed > parser.text_bytes_capacity:
        block = grow_bytes(parser.text_bytes, &parser.text_bytes_capacity, needed)
        if block == NULL:
            return fail(parser, NO_MEMORY)
        parser.text_bytes = block
    if parser.text_count == parser.text_capacity:
        text = <TextField *>realloc(
            parser.text_fields, (parser.text_capacity * 2 + 4) * sizeof(TextField)
        )
        if text == NULL:
            return fail(parser, NO_MEMORY)
        parser.text_fields = text
        parser.text_capacity = parser.text_capacity * 2 + 4
    text = &parser.text_fields[parser.text_count]
    text.row = parser.count - 1
    text.offset = parser.text_bytes_used
    text.label_length = label_length
    text.value_length = length
    memcpy(parser.text_bytes + text.offset, label, label_length)
    memcpy(parser.text_bytes + text.offset + label_length, value, length)
    parser.text_bytes_used = needed
    parser.text_count += 1
    parser.row_texts += 1
    return True


cdef bint store_wide(Parser *parser, uint32_t column, uint64_t value) noexcept nogil:
    cdef WideValue *wide
    if parser.wide_count == parser.wide_capacity:
        wide = <WideValue *>realloc(
            parser.wide, (parser.wide_capacity * 2 + 4) * sizeof(WideValue)
        )
        if wide == NULL:
            return fail(parser, NO_MEMORY)
        parser.wide = wide
        parser.wide_capacity = parser.wide_capacity * 2 + 4
    parser.wide[parser.wide_count].row = parser.count - 1
    parser.wide[parser.wide_count].column = column
    parser.wide[parser.wide_count].value = value
    parser.wide_count += 1
    return True


cdef bint parse_flags_line(
    Parser *parser, const char *line, const char *eol, bint ended,
    const char *value, const char *end,
) noexcept nogil:
    cdef FlagsLine *recent
    if parser.place < parser.slot_count and parser.slots[parser.place].column != FLAGS_SLOT:
        forget_slots(parser)
    if parser.place == parser.slot_count:
        if parser.row.flags != MISSING:
            return fail(parser, TWICE)
        parser.slots[parser.place].column = FLAGS_SLOT
        parser.slots[parser.place].length = 0
        parser.slot_count += 1
    parser.place += 1
    if parser.sums_only:
        parser.row.flags = 0
    elif not pool_id(&parser.flags, value, end - value, &parser.row.flags):
        return fail(parser, NO_MEMORY)
    if ended and eol + 1 - line <= MAX_FLAGS_TEXT:
        recent = &parser.recent_flags[parser.next_recent % RECENT_FLAGS]
        parser.next_recent += 1
        recent.length = eol + 1 - line
        memcpy(recent.text, line, recent.length)
        recent.flags = parser.row.flags
    return True


cdef bint parse_name_line(
    Parser *parser, const char *label, const char *value, const char *end
) noexcept nogil:
    """Take Android's `Name:` as the mapping's name if the header has none, else as a text."""
    if parser.has_name_line:
        return fail(parser, TWICE)
    parser.has_name_line = True
    if parser.header_has_name:
        return store_text(parser, label, 4, value, end - value)
    if not parser.sums_only and not pool_id(&parser.names, value, end - value, &parser.row.name):
        return fail(parser, NO_MEMORY)
    return True


cdef void remember_slot(
    Parser *parser, const char *line, const char *eol, bint ended, bint narrow
) noexcept nogil:
    """Remember a number's line to compare the next record's line with it."""
    cdef Slot *slot = &parser.slots[parser.place]
    cdef size_t length = eol + 1 - line
    cdef uint32_t number = 0
    slot.length = 0
    slot.digits = 0
    if not ended or not narrow or length < 16 or length > MAX_SLOT_TEXT:
        return
    memcpy(slot.text, line, length)
    slot.length = <uint8_t>length
    # The kernel prints "%8lu kB". The byte before these eight must not be a digit: that would
    # be a longer number.
    if (
        memcmp(line + length - 4, b" kB\n", 4) == 0
        and (line[length - 13] == c' ' or line[length - 13] == c':')
        and eight_digits(line + length - 12, &number)
    ):
        slot.digits = <uint8_t>(length - 12)


cdef bint store_number(
    Parser *parser, const char *line, const char *eol, bint ended,
    int column, ValueKind value_kind, uint64_t value,
) noexcept nogil:
    cdef uint64_t narrow
    if parser.place < parser.slot_count and parser.slots[parser.place].column != column:
        forget_slots(parser)
    if parser.place == parser.slot_count and cells_of(parser.row)[column] != MISSING:
        return fail(parser, TWICE)
    if value_kind != KILOBYTES:
        parser.columns[column].sized = False
    narrow = value
    if parser.columns[column].unit == 1024:
        narrow = value >> 10
    if narrow < IS_WIDE and (value_kind == KILOBYTES) == (parser.columns[column].unit == 1024):
        cells_of(parser.row)[column] = <uint32_t>narrow
        remember_slot(parser, line, eol, ended, True)
    else:
        cells_of(parser.row)[column] = IS_WIDE
        if not store_wide(parser, column, value):
            return False
        remember_slot(parser, line, eol, ended, False)
    parser.slots[parser.place].column = column
    if parser.place == parser.slot_count:
        parser.slot_count += 1
    parser.place += 1
    return True


cdef bint parse_field_line(
    Parser *parser, const char *line, const char *end, const char *eol, bint ended
) noexcept nogil:
    """Parse the field [line, end); its line ends at `eol`, with a newline if `ended`."""
    cdef const char *colon = line + 1
    cdef const char *value
    cdef size_t length
    cdef int column
    cdef int known = -1
    cdef LabelKind kind
    cdef ValueKind value_kind
    cdef uint64_t number = 0
    if parser.row == NULL:
        return fail(parser, FIELD_FIRST)
    while colon < end and c' ' < colon[0] < 127 and colon[0] != c':':
        colon += 1
    if colon == end or colon[0] != c':':
        return fail(parser, NO_LABEL)
    length = colon - line
    value = skip_blanks(colon + 1, end)
    while end > value and is_trailing((end - 1)[0]):
        end -= 1

    column = find_column(parser, line, length)
    if column >= 0:
        kind = parser.columns[column].kind
    else:
        known = find_known(line, length)
        kind = known_labels[known].kind if known >= 0 else UNKNOWN_LABEL
    if kind == FLAGS_LABEL:
        return parse_flags_line(parser, line, eol, ended, value, end)
    if kind == NAME_LABEL:
        return parse_name_line(parser, line, value, end)
    value_kind = parse_value(value, end, &number)
    if value_kind == NUMBER_TOO_LARGE:
        return fail(parser, TOO_LARGE)
    if value_kind == TEXT and kind != UNKNOWN_LABEL:
        if not has_unit(value, end):
            return fail(parser, NO_NUMBER)
        return fail(parser, UNIT if kind == NUMBER_LABEL else OTHER_UNIT)
    if value_kind == BARE_NUMBER and (kind == SIZE_LABEL or kind == PAGE_SIZE_LABEL):
        return fail(parser, NO_UNIT)
    if value_kind == KILOBYTES and kind == NUMBER_LABEL:
        return fail(parser, UNIT)
    if value_kind == TEXT:
        if column >= 0:
            forget_slots(parser)
            if cells_of(parser.row)[column] != MISSING:
                return fail(parser, TWICE)
        if has_text_field(parser, line, length):
            return fail(parser, TWICE)
        return store_text(parser, line, length, value, end - value)
    if parser.row_texts > 0 and has_text_field(parser, line, length):
        return fail(parser, TWICE)
    if column < 0:
        column = add_column(parser, line, length, known, kind, value_kind)
        if column < 0:
            return False
    return store_number(parser, line, eol, ended, column, value_kind, number)
