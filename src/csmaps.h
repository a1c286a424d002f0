/* What Cython cannot express: loads of several bytes at once and arithmetic on them, hashing,
 * kcmp(2), tgkill(2) and locks. Plain C99 with GCC's and Clang's builtins. Nothing depends on the
 * byte order, and nothing needs vector instructions. */
#ifndef CSMAPS_H
#define CSMAPS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define FSM_MISSING UINT32_C(0xffffffff)
#define FSM_IS_WIDE UINT32_C(0xfffffffe)
#define FSM_VSYSCALL UINT64_C(0xffffffffff600000)

#define FSM_LIKELY(x) __builtin_expect(!!(x), 1)
#define FSM_UNLIKELY(x) __builtin_expect(!!(x), 0)

#define FSM_BYTES(b) (UINT64_C(0x0101010101010101) * (b))

/* Eight bytes as a number; the first byte is the lowest. */
static inline uint64_t fsm_load8(const char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

static inline int fsm_equal4(const char *a, const char *b)
{
    uint32_t x, y;
    memcpy(&x, a, 4);
    memcpy(&y, b, 4);
    return x == y;
}

static inline int fsm_equal16(const char *a, const char *b)
{
#if defined(__SSE2__)
    __m128i x = _mm_loadu_si128((const __m128i *)a);
    __m128i y = _mm_loadu_si128((const __m128i *)b);
    return _mm_movemask_epi8(_mm_cmpeq_epi8(x, y)) == 0xffff;
#else
    uint64_t x[2], y[2];
    memcpy(x, a, 16);
    memcpy(y, b, 16);
    return ((x[0] ^ y[0]) | (x[1] ^ y[1])) == 0;
#endif
}

/* Parses a number of up to eight digits in eight bytes, right-aligned with spaces before it, as
 * "%8lu" prints it. Returns 0 if the bytes are anything else. */
static inline int fsm_eight_digits(const char *p, uint32_t *number)
{
    uint64_t v = fsm_load8(p);
    /* Bit 4 is set in '0'-'9' (0x30-0x39) and clear in ' ' (0x20): 0xff for each byte where it is
     * clear. */
    uint64_t spaces = ((~v >> 4) & FSM_BYTES(1)) * 0xff;
    uint64_t digits = (v ^ FSM_BYTES(0x30)) & ~spaces;

    if (FSM_UNLIKELY((spaces & (spaces + 1)) != 0           /* only before digits */
                     || spaces == UINT64_MAX                /* at least one digit */
                     || ((v ^ FSM_BYTES(0x20)) & spaces) != 0
                     || (((digits + FSM_BYTES(0x76)) | digits) & FSM_BYTES(0x80)) != 0))
        return 0;
    digits = digits * 10 + (digits >> 8);
    *number = (uint32_t)(((digits & UINT64_C(0x000000ff000000ff)) * UINT64_C(0x000f424000000064)
                          + ((digits >> 16) & UINT64_C(0x000000ff000000ff))
                                * UINT64_C(0x0000271000000001))
                         >> 32);
    return 1;
}

/* Parses eight lower-case hex digits. Returns 0 if a byte is not one. */
static inline int fsm_eight_hex_digits(const char *p, uint64_t *number)
{
    uint64_t v = fsm_load8(p);
    uint64_t letters = (v >> 6) & FSM_BYTES(1); /* 'a'-'f' are 0x61-0x66 */
    uint64_t x = (v & FSM_BYTES(0x0f)) + letters * 9;

    /* The upper half of a byte must be 3 (6 for a letter), and its value below 10 (from 10
     * to 15 for a letter). */
    if (FSM_UNLIKELY((v & FSM_BYTES(0xf0)) != FSM_BYTES(0x30) + letters * 0x30
                     || ((x + FSM_BYTES(6)) & FSM_BYTES(0x10)) != letters << 4
                     || (x & FSM_BYTES(0x10)) != 0))
        return 0;
    x = (x << 4 | x >> 8) & UINT64_C(0x00ff00ff00ff00ff);
    x = (x << 8 | x >> 16) & UINT64_C(0x0000ffff0000ffff);
    *number = (x << 16 | x >> 32) & UINT64_C(0xffffffff);
    return 1;
}

/* Parses a hex number of exactly `digits` digits, 8 to 16, as two overlapping halves. */
static inline int fsm_fixed_hex(const char *p, size_t digits, uint64_t *number)
{
    uint64_t high, low;
    if (!fsm_eight_hex_digits(p, &high) || !fsm_eight_hex_digits(p + digits - 8, &low))
        return 0;
    *number = high << (4 * (digits - 8)) | low;
    return 1;
}

/* SipHash-1-3 (Aumasson, Bernstein). A process chooses the names of its mappings. With a hash
 * whose collisions it can compute, it could make reading it take quadratic time. */
#define FSM_ROTATE(x, b) ((x) << (b) | (x) >> (64 - (b)))
#define FSM_ROUND                                                                          \
    do {                                                                                   \
        v0 += v1; v1 = FSM_ROTATE(v1, 13); v1 ^= v0; v0 = FSM_ROTATE(v0, 32);              \
        v2 += v3; v3 = FSM_ROTATE(v3, 16); v3 ^= v2;                                       \
        v0 += v3; v3 = FSM_ROTATE(v3, 21); v3 ^= v0;                                       \
        v2 += v1; v1 = FSM_ROTATE(v1, 17); v1 ^= v2; v2 = FSM_ROTATE(v2, 32);              \
    } while (0)

static inline uint64_t fsm_hash_text(const char *p, size_t length, const uint64_t key[2])
{
    uint64_t v0 = key[0] ^ UINT64_C(0x736f6d6570736575), v1 = key[1] ^ UINT64_C(0x646f72616e646f6d);
    uint64_t v2 = key[0] ^ UINT64_C(0x6c7967656e657261), v3 = key[1] ^ UINT64_C(0x7465646279746573);
    uint64_t word, last = (uint64_t)length << 56;
    size_t i;

    for (i = 0; i + 8 <= length; i += 8) {
        word = fsm_load8(p + i);
        v3 ^= word;
        FSM_ROUND;
        v0 ^= word;
    }
    for (; i < length; i++)
        last |= (uint64_t)(unsigned char)p[i] << (8 * (i & 7));
    v3 ^= last;
    FSM_ROUND;
    v0 ^= last;
    v2 ^= 0xff;
    FSM_ROUND;
    FSM_ROUND;
    FSM_ROUND;
    return v0 ^ v1 ^ v2 ^ v3;
}

/* Swaps the value of a place that threads share. */
static inline void *fsm_exchange(void **place, void *value)
{
    return __atomic_exchange_n(place, value, __ATOMIC_ACQ_REL);
}

/* The value that was published in a place, or NULL. */
static inline void *fsm_load_published(void **place)
{
    return __atomic_load_n(place, __ATOMIC_ACQUIRE);
}

/* Publishes a value for good; returns 0 if another thread has published one before. */
static inline int fsm_publish_once(void **place, void *value)
{
    void *expected = NULL;
    return __atomic_compare_exchange_n(place, &expected, value, 0, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
}

/* Compares the memory of two processes with kcmp(2), KCMP_VM: 0 is the same, 1 and 2 are less and
 * greater in an order that lasts until the next boot, -1 is an error or no right to compare. Two
 * processes without memory are the same. */
static inline int fsm_kcmp_vm(int a, int b)
{
#ifdef SYS_kcmp
    return (int)syscall(SYS_kcmp, (long)a, (long)b, 1L, 0L, 0L);
#else
    (void)a;
    (void)b;
    return -1;
#endif
}

/* Whether a number of our own pid namespace is surely a process's and not another thread's. Signal
 * 0 has no effect. A thread's number gives ESRCH, as its process has another; EPERM may come from
 * a filter of system calls that looked at nothing (kernel/signal.c, do_send_specific). A tenth of
 * pidfd_open(2) and close(2). */
static inline int fsm_is_process(int pid)
{
    return syscall(SYS_tgkill, (long)pid, (long)pid, 0L) == 0;
}

/* A readers-writer lock that never waits: `threads` counts the readers, and is -1 while a writer
 * has it. The try functions return 0 if the lock cannot be had now. */
static inline int fsm_try_lock_shared(int *threads)
{
    int count = __atomic_load_n(threads, __ATOMIC_RELAXED);
    while (count >= 0)
        if (__atomic_compare_exchange_n(threads, &count, count + 1, 1, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED))
            return 1;
    return 0;
}

static inline void fsm_unlock_shared(int *threads)
{
    __atomic_sub_fetch(threads, 1, __ATOMIC_RELEASE);
}

static inline int fsm_try_lock_exclusive(int *threads)
{
    int expected = 0;
    return __atomic_compare_exchange_n(threads, &expected, -1, 0, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

static inline void fsm_unlock_exclusive(int *threads)
{
    __atomic_store_n(threads, 0, __ATOMIC_RELEASE);
}

/* The ioctl of /proc/<pid>/maps that finds a mapping by an address (Linux 6.11): struct
 * procmap_query and PROCMAP_QUERY in uapi linux/fs.h, which older headers lack. */
struct fsm_procmap_query {
    uint64_t size;
    uint64_t query_flags;
    uint64_t query_addr;
    uint64_t vma_start;
    uint64_t vma_end;
    uint64_t vma_flags;
    uint64_t vma_page_size;
    uint64_t vma_offset;
    uint64_t inode;
    uint32_t dev_major;
    uint32_t dev_minor;
    uint32_t vma_name_size;
    uint32_t build_id_size;
    uint64_t vma_name_addr;
    uint64_t build_id_addr;
};

#define FSM_PROCMAP_QUERY _IOWR('f', 17, struct fsm_procmap_query)

#endif
