/* The baselines: what the kernel and memchr cost when nothing is parsed.
 *
 * Each function takes the time itself, so that ctypes' own cost (about a microsecond a call) is
 * not counted in the baseline's favour or against it. Returns nanoseconds, or -errno.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 64 * 1024, PIECE = 3000, PIECES = 64 };

static char buffer[BUFFER];
static char pieces[PIECES * PIECE];

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

/* The same with preadv in pieces of less than a page, laid end to end. seq_file then throws away
 * fewer records that did not fit, so this is below bare_read: the floor for a reader that parses. */
int64_t pieces_read(const char *path, uint64_t *bytes)
{
    int64_t start = now();
    struct iovec piece[PIECES];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got;
    uint64_t total = 0;

    if (fd < 0)
        return -errno;
    for (int i = 0; i < PIECES; i++)
        piece[i] = (struct iovec){pieces + i * PIECE, PIECE};
    while ((got = preadv(fd, piece, PIECES, (off_t)total)) > 0)
        total += (uint64_t)got;
    int error = got < 0 ? errno : 0;
    close(fd);
    *bytes = total;
    return error ? -error : now() - start;
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
