/* Map and unmap memory without a pause, and print the latencies: mapper MAPPINGS.
 *
 * The process also has MAPPINGS other mappings of one written page each. For each line of its
 * input, a number of milliseconds, it works that long and prints "COUNT P50 P99 P999 MAX": the
 * number of calls of mmap and munmap, and latencies of one call in nanoseconds.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

enum { PAGE = 4096, BLOCK = 4 * PAGE, MAX_TIMES = 1 << 24 };

static uint32_t times[MAX_TIMES];

static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void *map(size_t size)
{
    void *block = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (block == MAP_FAILED)
        exit(1);
    return block;
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

static void work(uint64_t duration)
{
    size_t count = 0;
    uint64_t start = now(), before = start, after = start;

    while (after - start < duration && count < MAX_TIMES) {
        char *block = map(BLOCK);

        after = now();
        times[count++] = (uint32_t)(after - before);
        block[0] = block[PAGE] = 1;
        before = now();
        if (munmap(block, BLOCK) != 0)
            exit(1);
        after = now();
        times[count++] = (uint32_t)(after - before);
        before = after;
    }
    qsort(times, count, sizeof *times, by_size);
    printf("%zu %u %u %u %u\n", count, times[count / 2], times[count - count / 100 - 1],
           times[count - count / 1000 - 1], times[count - 1]);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    size_t mappings = argc > 1 ? strtoul(argv[1], 0, 10) : 0, i;
    unsigned long duration;
    char *region;

    /* With a huge page, the walk of a page table would be a single step. */
    if (prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) != 0)
        return 1;
    region = map((mappings + 1) * PAGE);
    for (i = 0; i < mappings; i++)
        region[i * PAGE] = 1;
    /* Neighbours with equal permissions would merge. */
    for (i = 0; i < mappings; i += 2)
        if (mprotect(region + i * PAGE, PAGE, PROT_READ) != 0)
            return 1;
    for (i = 0; i < MAX_TIMES; i += PAGE / sizeof *times)
        times[i] = 1;
    puts("ready");
    fflush(stdout);
    while (scanf("%lu", &duration) == 1)
        work((uint64_t)duration * 1000000);
    return 0;
}
