# Texts kept once each: mapping names, devices, flag lines, field labels.

cdef struct Entry:
    size_t at
    size_t length
    uint64_t hash

cdef struct Pool:
    char *bytes             # the texts, end to end
    size_t used
    size_t room
    Entry *entries          # by id, in the order first seen
    uint32_t count
    uint32_t entry_room
    uint32_t *table         # open addressing: id + 1, 0 where free
    uint32_t mask

cdef uint64_t[2] hash_key
hash_key[0] = int.from_bytes(_urandom(8), "little")
hash_key[1] = int.from_bytes(_urandom(8), "little")


cdef void pool_free(Pool *pool) noexcept nogil:
    free(pool.bytes)
    free(pool.entries)
    free(pool.table)
    memset(pool, 0, sizeof(Pool))


cdef void pool_fill_table(Pool *pool) noexcept nogil:
    """Enters all texts into the table, which is empty."""
    cdef uint32_t i, at
    for i in range(pool.count):
        at = <uint32_t>pool.entries[i].hash & pool.mask
        while pool.table[at] != 0:
            at = (at + 1) & pool.mask
        pool.table[at] = i + 1


cdef bint pool_grow_table(Pool *pool) noexcept nogil:
    cdef uint32_t size = 32 if pool.table == NULL else (pool.mask + 1) * 2
    cdef uint32_t *table = <uint32_t *>calloc(size, sizeof(uint32_t))
    if table == NULL:
        return False
    free(pool.table)
    pool.table = table
    pool.mask = size - 1
    pool_fill_table(pool)
    return True


cdef void pool_cut(Pool *pool, size_t limit) noexcept nogil:
    """Cuts the texts that are longer, with "..." behind them; each keeps its number."""
    cdef Entry *entry
    cdef size_t at = 0
    cdef uint32_t i
    for i in range(pool.count):
        entry = &pool.entries[i]
        if entry.length <= limit + 3:
            memmove(pool.bytes + at, pool.bytes + entry.at, entry.length)
        else:
            memmove(pool.bytes + at, pool.bytes + entry.at, limit)
            memcpy(pool.bytes + at + limit, b"...", 3)
            entry.length = limit + 3
            entry.hash = hash_of(pool.bytes + at, entry.length, hash_key)
        entry.at = at
        at += entry.length
    pool.used = at
    memset(pool.table, 0, (<size_t>pool.mask + 1) * sizeof(uint32_t))
    pool_fill_table(pool)


cdef char *grow_bytes(char *old, size_t *room, size_t needed) noexcept nogil:
    """The block with room for `needed` bytes at least, or NULL (the old one still stands)."""
    cdef size_t size = room[0] * 2
    cdef char *block
    if size < needed:
        size = needed
    if size < 256:
        size = 256
    block = <char *>realloc(old, size)
    if block != NULL:
        room[0] = size
    return block


cdef bint pool_add(Pool *pool, const char *text, size_t length, uint64_t hash_) noexcept nogil:
    cdef char *block
    cdef Entry *entries
    if pool.used + length > pool.room or pool.bytes == NULL:
        block = grow_bytes(pool.bytes, &pool.room, pool.used + length)
        if block == NULL:
            return False
        pool.bytes = block
    if pool.count == pool.entry_room:
        entries = <Entry *>realloc(
            pool.entries, (pool.entry_room * 2 + 8) * sizeof(Entry)
        )
        if entries == NULL:
            return False
        pool.entries = entries
        pool.entry_room = pool.entry_room * 2 + 8
    memcpy(pool.bytes + pool.used, text, length)
    pool.entries[pool.count].at = pool.used
    pool.entries[pool.count].length = length
    pool.entries[pool.count].hash = hash_
    pool.used += length
    pool.count += 1
    return True


cdef inline uint32_t pool_place(
    Pool *pool, const char *text, size_t length, uint64_t hash_
) noexcept nogil:
    """Where in the table the text is, or where it would be: a free place."""
    cdef uint32_t at = <uint32_t>hash_ & pool.mask
    cdef Entry *entry
    while pool.table[at] != 0:
        entry = &pool.entries[pool.table[at] - 1]
        if (
            entry.hash == hash_
            and entry.length == length
            and memcmp(pool.bytes + entry.at, text, length) == 0
        ):
            break
        at = (at + 1) & pool.mask
    return at


cdef bint pool_has(Pool *pool, const char *text, size_t length) noexcept nogil:
    if pool.table == NULL:
        return False
    return pool.table[pool_place(pool, text, length, hash_of(text, length, hash_key))] != 0


cdef bint pool_id(Pool *pool, const char *text, size_t length, uint32_t *id_) noexcept nogil:
    """The text's number, a new one if it is new; False where there is no memory."""
    cdef uint64_t hash_ = hash_of(text, length, hash_key)
    cdef uint32_t at
    if pool.count * 2 >= pool.mask and not pool_grow_table(pool):
        return False
    at = pool_place(pool, text, length, hash_)
    if pool.table[at] != 0:
        id_[0] = pool.table[at] - 1
        return True
    if not pool_add(pool, text, length, hash_):
        return False
    id_[0] = pool.count - 1
    pool.table[at] = pool.count
    return True


cdef tuple pool_texts(Pool *pool):
    cdef uint32_t i
    return tuple([
        PyBytes_FromStringAndSize(pool.bytes + pool.entries[i].at, pool.entries[i].length)
        for i in range(pool.count)
    ])
