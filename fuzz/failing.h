/* Included first (-include) in builds for fuzzing: lets the harness choose which allocation or read
 * of the extension fails. */
#ifndef FAILING_H
#define FAILING_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

/* The n-th call from now fails, 0 for none; and the errno of a failing read. */
__attribute__((visibility("default"))) int failing_allocation = 0;
__attribute__((visibility("default"))) int failing_read = 0;
__attribute__((visibility("default"))) int failing_errno = EIO;

static inline int fails(int *countdown)
{
    return *countdown > 0 && --*countdown == 0;
}

#define malloc(size) (fails(&failing_allocation) ? NULL : malloc(size))
#define calloc(count, size) (fails(&failing_allocation) ? NULL : calloc(count, size))
#define realloc(old, size) (fails(&failing_allocation) ? NULL : realloc(old, size))
#define pread(fd, buffer, size, offset) \
    (fails(&failing_read) ? (errno = failing_errno, -1) : pread(fd, buffer, size, offset))
#define preadv(fd, chunks, count, offset) \
    (fails(&failing_read) ? (errno = failing_errno, -1) : preadv(fd, chunks, count, offset))

#endif
