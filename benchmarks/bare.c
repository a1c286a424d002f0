/* The baselines: what the kernel and memchr cost when nothing is parsed.
 *
 * Each function takes the time itself, so that ctypes' own cost (about a microsecond a call) is
 * not counted in the baseline's favour or against it. Returns nanoseconds, or -errno.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 64 * 1024, CHUNK_SIZE = 3000, CHUNKS = 64, THREADS = 64 };

static char buffer[BUFFER];
static char chunks[CHUNKS * CHUNK_SIZE];

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* open, read(2) into 64 KiB until the end, close: how a plain reader does it. */
int64_t bare_read(const char *path, uint64_t *bytes)
{
    int64_t start = now();
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got;
    uint64_t total = 0;

    if (fd < 0)
        return -errno;
    while ((got = read(fd, buffer, BUFFER)) > 0)
        total += (uint64_t)got;
    int error = got < 0 ? errno : 0;
    close(fd);
    *bytes = total;
    return error ? -error : now() - start;
}

/* The same with preadv in chunks of less than a page, laid end to end. seq_file then throws away
 * fewer records that did not fit, so this is below bare_read: the floor for a reader that parses. */
int64_t chunks_read(const char *path, uint64_t *bytes)
{
    int64_t start = now();
    struct iovec iov[CHUNKS];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got;
    uint64_t total = 0;

    if (fd < 0)
        return -errno;
    for (int i = 0; i < CHUNKS; i++)
        iov[i] = (struct iovec){chunks + i * CHUNK_SIZE, CHUNK_SIZE};
    while ((got = preadv(fd, iov, CHUNKS, (off_t)total)) > 0)
        total += (uint64_t)got;
    int error = got < 0 ? errno : 0;
    close(fd);
    *bytes = total;
    return error ? -error : now() - start;
}

/* Many processes: of each, some files, opened, read into 64 KiB until the end and closed. */
struct sweep {
    const int32_t *pids;
    const char *const *names; /* ends in a null pointer */
    size_t count;
    atomic_size_t next;
    atomic_uint_fast64_t bytes;
    atomic_int error;
};

static void *sweep_some(void *argument)
{
    struct sweep *sweep = argument;
    char path[64], block[BUFFER]; /* the buffer above is one thread's */
    uint64_t total = 0;
    size_t i;

    while ((i = atomic_fetch_add(&sweep->next, 1)) < sweep->count) {
        for (const char *const *name = sweep->names; *name; name++) {
            snprintf(path, sizeof path, "/proc/%d/%s", sweep->pids[i], *name);
            int fd = open(path, O_RDONLY | O_CLOEXEC);
            ssize_t got = -1;
            while (fd >= 0 && (got = read(fd, block, BUFFER)) > 0)
                total += (uint64_t)got;
            if (got < 0)
                sweep->error = errno;
            if (fd >= 0)
                close(fd);
        }
    }
    sweep->bytes += total;
    return 0;
}

int64_t bare_sweep(const int32_t *pids, size_t count, const char *const *names, int threads,
                   uint64_t *bytes)
{
    struct sweep sweep = {.pids = pids, .names = names, .count = count};
    pthread_t others[THREADS];
    int64_t start = now();
    int started = 0;

    if (threads < 1 || threads > THREADS)
        return -EINVAL;
    while (started < threads - 1) {
        int error = pthread_create(&others[started], 0, sweep_some, &sweep);
        if (error) {
            sweep.error = error;
            break;
        }
        started++;
    }
    sweep_some(&sweep);
    while (started > 0)
        pthread_join(others[--started], 0);
    *bytes = sweep.bytes;
    return sweep.error ? -sweep.error : now() - start;
}

/* One memchr a line: the least that any parser of lines can do. */
int64_t count_newlines(const char *text, uint64_t length, uint64_t *count)
{
    int64_t start = now();
    const char *end = text + length;
    uint64_t lines = 0;

    while (text < end && (text = memchr(text, '\n', (size_t)(end - text)))) {
        lines++;
        text++;
    }
    *count = lines;
    return now() - start;
}
