/* Many small processes, each a program of its own: herd COUNT MAPPINGS [NAMES].
 *
 * Every child executes this file anew, so that nothing is shared by fork that separate programs
 * would not share. It adds MAPPINGS anonymous ones of a page to the some 22 of any dynamic program
 * and says "ready PID"; at SIGUSR1 it writes STEP bytes of new memory and says "grown PID". With
 * NAMES they are called herd-0 to herd-(NAMES - 1), in turn. All read one standard input, into
 * which nobody writes: at its end, also where whoever started them was killed, they end.
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

static void say(const char *what)
{
    char line[64];
    int length = snprintf(line, sizeof line, "%s %d\n", what, (int)getpid());

    if (write(1, line, (size_t)length) != length) /* shorter than PIPE_BUF: never mixed */
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
    say("grown");
    errno = error;
}

static int stand(size_t mappings, const char *name)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char byte;

    /* Rss must not depend on whether there is a huge page to be had. */
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    if (name)
        prctl(PR_SET_NAME, name, 0, 0, 0);
    signal(SIGUSR1, grow);
    if (mappings) {
        char *region = map(mappings * page);
        memset(region, 1, mappings * page);
        /* Neighbours with equal protection would merge into one. */
        for (size_t i = 0; i < mappings; i += 2)
            if (mprotect(region + i * page, page, PROT_READ))
                return 1;
    }
    say("ready");
    while (read(0, &byte, 1) != 0)
        ;
    return 0;
}

int main(int count, char **arguments)
{
    long names = count == 4 ? atol(arguments[3]) : 0;

    if (count >= 3 && !strcmp(arguments[1], "stand"))
        return stand((size_t)atol(arguments[2]), arguments[3]);
    if (count != 3 && names < 1)
        return 2;
    for (long i = atol(arguments[1]); i > 0; i--) {
        pid_t child = fork();
        if (child == 0) {
            char name[16];
            snprintf(name, sizeof name, "herd-%ld", names ? i % names : 0);
            execl("/proc/self/exe", "herd", "stand", arguments[2], names ? name : (char *)0,
                  (char *)0);
            _exit(1);
        }
        if (child < 0) {
            perror("fork");
            break; /* whoever waits for them learns it from the end of our output */
        }
    }
    close(1);
    while (wait(0) > 0)
        ;
    return 0;
}
