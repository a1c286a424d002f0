# Texts kept once each, under an id: mapping names, devices, VmFlags lines, labels.
# Uses no other part.

cdef uint64_t[2] hash_key
hash_key[0] = int.from_bytes(_urandom(8), "little")
hash_key[1] = int.from_bytes(_urandom(8), "little")


cdef void pool_free(TextPool *pool) noexcept nogil:
    free(pool.bytes)
    free(pool.entries)
    free(pool.table)
    memset(pool, 0, sizeof(TextPool))


cdef void pool_fill_table(TextPool *pool) noexcept nogil:
    """Enter all texts into the empty table."""
    cdef uint32_t i, place
    for i in range(pool.count):
        place = <uint32_t>pool.entries[i].hash & pool.mask
        while pool.table[place] != 0:
            place = (place + 1) & pool.mask
        pool.table[place] = i + 1


cdef bint pool_grow_table(TextPool *pool) noexcept nogil:
    cdef uint32_t size = 32 if pool.table == NULL else (pool.mask + 1) * 2
    cdef uint32_t *table = <uint32_t *>calloc(size, sizeof(uint32_t))
    if table == NULL:
        return False
    free(pool.table)
    pool.table = table
    pool.mask = size - 1
    pool_fill_table(pool)
    return True


cdef void pool_shorten(TextPool *pool, size_t limit) noexcept nogil:
    """Shorten the texts above `limit` bytes and append "..."; each keeps its id."""
    cdef TextEntry *entry
    cdef size_t used = 0
    cdef uint32_t i
    for i in range(pool.count):
        entry = &pool.entries[i]
        if entry.length <= limit + ELLIPSIS_SIZE:
            memmove(pool.bytes + used, pool.bytes + entry.offset, entry.length)
        else:
            memmove(pool.bytes + used, pool.bytes + entry.offset, limit)
            memcpy(pool.bytes + used + limit, b"...", ELLIPSIS_SIZE)
            entry.length = limit + ELLIPSIS_SIZE
            entry.hash = hash_text(pool.bytes + used, entry.length, hash_key)
        entry.offset = used
        used += entry.length
    pool.used = used
    memset(pool.table, 0, (<size_t>pool.mask + 1) * sizeof(uint32_t))
    pool_fill_table(pool)


cdef char *grow_bytes(char *old, size_t *capacity, size_t needed) noexcept nogil:
    """Return the block with room for at least `needed` bytes; NULL leaves the old one valid."""
    cdef size_t size = capacity[0] * 2
    cdef char *block
    if size < needed:
        size = needed
    if size < 256:
        size = 256
    block = <char *>realloc(old, size)
    if block != NULL:
        capacity[0] = size
    return block


cdef bint pool_add(TextPool *pool, const char *text, size_t length, uint64_t hash_) noexcept nogil:
    cdef char *block
    cdef TextEntry *entries
    if pool.used + length > pool.capacity or pool.bytes == NULL:
        block = grow_bytes(pool.bytes, &pool.capacity, pool.used + length)
        if block == NULL:
            return False
        pool.bytes = block
    if pool.count == pool.entry_capacity:
        entries = <TextEntry *>realloc(
            pool.entries, (pool.entry_capacity * 2 + 8) * sizeof(TextEntry)
        )
        if entries == NULL:
            return False
        pool.entries = entries
        pool.entry_capacity = pool.entry_capacity * 2 + 8
    memcpy(pool.bytes + pool.used, text, length)
    pool.entries[pool.count].offset = pool.used
    pool.entries[pool.count].length = length
    pool.entries[pool.count].hash = hash_
    pool.used += length
    pool.count += 1
    return True


cdef inline uint32_t pool_place(
    TextPool *pool, const char *text, size_t length, uint64_t hash_
) noexcept nogil:
    """Return the text's place in the table, or the free place where it belongs."""
    cdef uint32_t place = <uint32_t>hash_ & pool.mask
    cdef TextEntry *entry
    while pool.table[place] != 0:
        entry = &pool.entries[pool.table[place] - 1]
        if (
            entry.hash == hash_
            and entry.length == length
            and memcmp(pool.bytes + entry.offset, text, length) == 0
        ):
            break
        place = (place + 1) & pool.mask
    return place


cdef bint pool_has(TextPool *pool, const char *text, size_t length) noexcept nogil:
    if pool.table == NULL:
        return False
    return pool.table[pool_place(pool, text, length, hash_text(text, length, hash_key))] != 0


cdef bint pool_id(TextPool *pool, const char *text, size_t length, uint32_t *id_) noexcept nogil:
    """Set `id_` to the text's id, a new one if need be; False if out of memory."""
    cdef uint64_t hash_ = hash_text(text, length, hash_key)
    cdef uint32_t place
    if pool.count * 2 >= pool.mask and not pool_grow_table(pool):
        return False
    place = pool_place(pool, text, length, hash_)
    if pool.table[place] != 0:
        id_[0] = pool.table[place] - 1
        return True
    if not pool_add(pool, text, length, hash_):
        return False
    id_[0] = pool.count - 1
    pool.table[place] = pool.count
    return True


cdef bytes pool_text(TextPool *pool, uint32_t id_):
    cdef TextEntry *entry = &pool.entries[id_]
    return PyBytes_FromStringAndSize(pool.bytes + entry.offset, entry.length)


cdef tuple pool_texts(TextPool *pool):
    cdef uint32_t i
    return tuple([pool_text(pool, i) for i in range(pool.count)])
