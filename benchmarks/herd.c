/* Start many small processes: herd COUNT MAPPINGS [NAMES].
 *
 * Every child executes this file again, so that fork shares no memory that separate programs would
 * not share. It adds MAPPINGS anonymous mappings of one page to the some 22 of any dynamically
 * linked program and prints "ready PID". On SIGUSR1 it writes STEP bytes of new memory and prints
 * "grown PID". With NAMES, the children are called herd-0 to herd-(NAMES - 1), in turn. They all
 * block on the shared standard input and exit at its end, which also comes if the program that
 * started them is killed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STEP = 64 << 20 };

static void report(const char *event)
{
    char line[64];
    int length = snprintf(line, sizeof line, "%s %d\n", event, (int)getpid());

    if (write(1, line, (size_t)length) != length) /* atomic: shorter than PIPE_BUF */
        _exit(1);
}

static char *map(size_t size)
{
    char *region = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (region == MAP_FAILED)
        _exit(1);
    return region;
}

static void grow(int signal)
{
    int error = errno;

    (void)signal;
    memset(map(STEP), 1, STEP);
    report("grown");
    errno = error;
}

static int run(size_t mappings, const char *name)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char byte;

    /* Rss must not depend on whether a huge page is available. */
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    if (name)
        prctl(PR_SET_NAME, name, 0, 0, 0);
    signal(SIGUSR1, grow);
    if (mappings) {
        char *region = map(mappings * page);
        memset(region, 1, mappings * page);
        /* Neighbours with equal permissions would merge. */
        for (size_t i = 0; i < mappings; i += 2)
            if (mprotect(region + i * page, page, PROT_READ))
                return 1;
    }
    report("ready");
    while (read(0, &byte, 1) != 0)
        ;
    return 0;
}

int main(int argc, char **argv)
{
    long names = argc == 4 ? atol(argv[3]) : 0;

    if (argc >= 3 && !strcmp(argv[1], "run"))
        return run((size_t)atol(argv[2]), argv[3]);
    if (argc != 3 && names < 1)
        return 2;
    for (long i = atol(argv[1]); i > 0; i--) {
        pid_t child = fork();
        if (child == 0) {
            char name[16];
            snprintf(name, sizeof name, "herd-%ld", names ? i % names : 0);
            execl("/proc/self/exe", "herd", "run", argv[2], names ? name : (char *)0,
                  (char *)0);
            _exit(1);
        }
        if (child < 0) {
            perror("fork");
            break; /* the reader sees our output end early */
        }
    }
    close(1);
    while (wait(0) > 0)
        ;
    return 0;
}
