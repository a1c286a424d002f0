/* The baselines: what the kernel and memchr cost without parsing.
 *
 * Each function measures its own time, which leaves out the cost of ctypes (about a microsecond per
 * call), and returns nanoseconds, or -errno.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
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

/* Open, read(2) into 64 KiB until the end, close: what a plain reader does. */
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

/* The same with preadv into contiguous chunks of less than a page. seq_file then discards fewer
 * records that did not fit, so this is faster than bare_read: the lower limit for a parser. */
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

/* One pread(2), what is enough for a rollup. */
int64_t once_read(int fd, uint64_t *bytes)
{
    int64_t start = now();
    ssize_t got = pread(fd, buffer, 16384, 0);
    int error = errno;
    int64_t end = now();

    *bytes = got > 0 ? (uint64_t)got : 0;
    return got < 0 ? -error : end - start;
}

/* Open a file of a process, or fail if the number is a thread's. */
static int open_of_process(const char *path, int pid)
{
    if (syscall(SYS_tgkill, (long)pid, (long)pid, 0L) != 0)
        return -1;
    return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

/* struct procmap_query of uapi linux/fs.h; older headers lack it. */
struct query {
    uint64_t size, flags, address, start, end, vma_flags, page_size, offset, inode;
    uint32_t major, minor, name_size, id_size;
    uint64_t name, id;
};

/* The ioctl that finds the mapping of an address. */
int64_t query_kept(int fd, uint64_t address, uint64_t *bytes)
{
    struct query query = {.size = sizeof query, .address = address};
    int64_t start = now();

    query.name_size = 4096;
    query.name = (uint64_t)(uintptr_t)buffer;
    if (ioctl(fd, _IOWR('f', 17, struct query), &query) != 0)
        return -errno;
    *bytes = query.end - query.start;
    return now() - start;
}

/* The system calls of find(pid, address): is the number a process's, open, ioctl, close. */
int64_t query_new(const char *path, int pid, uint64_t address, uint64_t *bytes)
{
    int64_t start = now();
    int fd = open_of_process(path, pid);

    if (fd < 0)
        return -errno;
    int64_t result = query_kept(fd, address, bytes);
    close(fd);
    return result < 0 ? result : now() - start;
}

/* The system calls of totals(pid): is the number a process's, open, one pread, close. */
int64_t rollup_read(const char *path, int pid, uint64_t *bytes)
{
    int64_t start = now();
    int fd = open_of_process(path, pid);

    if (fd < 0)
        return -errno;
    ssize_t got = pread(fd, buffer, 16384, 0);
    int error = got < 0 ? errno : 0;
    close(fd);
    *bytes = (uint64_t)got;
    return error ? -error : now() - start;
}

/* Some files of many processes: open, read into 64 KiB until the end, close. */
struct scan {
    const int32_t *pids;
    const char *const *names; /* ends with a null pointer */
    size_t count;
    atomic_size_t next;
    atomic_uint_fast64_t bytes;
    atomic_int error;
};

static void *scan_rest(void *argument)
{
    struct scan *scan = argument;
    char path[64], block[BUFFER]; /* `buffer` is for one thread only */
    uint64_t total = 0;
    size_t i;

    while ((i = atomic_fetch_add(&scan->next, 1)) < scan->count) {
        for (const char *const *name = scan->names; *name; name++) {
            snprintf(path, sizeof path, "/proc/%d/%s", scan->pids[i], *name);
            int fd = open(path, O_RDONLY | O_CLOEXEC);
            ssize_t got = -1;
            while (fd >= 0 && (got = read(fd, block, BUFFER)) > 0)
                total += (uint64_t)got;
            if (got < 0)
                scan->error = errno;
            if (fd >= 0)
                close(fd);
        }
    }
    scan->bytes += total;
    return 0;
}

int64_t bare_scan(const int32_t *pids, size_t count, const char *const *names, int threads,
                  uint64_t *bytes)
{
    struct scan scan = {.pids = pids, .names = names, .count = count};
    pthread_t helpers[THREADS];
    int64_t start = now();
    int started = 0;

    if (threads < 1 || threads > THREADS)
        return -EINVAL;
    while (started < threads - 1) {
        int error = pthread_create(&helpers[started], 0, scan_rest, &scan);
        if (error) {
            scan.error = error;
            break;
        }
        started++;
    }
    scan_rest(&scan);
    while (started > 0)
        pthread_join(helpers[--started], 0);
    *bytes = scan.bytes;
    return scan.error ? -scan.error : now() - start;
}

/* One memchr per line: the least work that a parser of lines can do. */
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
