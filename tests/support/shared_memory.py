"""Processes that have their memory in common, for test_sharing.py: a C program of many families."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from support import processes
from support.linux import Unavailable

#: Of anonymous memory each family has so much, written to.
SIZE = 8 << 20
#: Of the program, so that its processes can be found beside those of other test runs.
NAME = f"family{os.getpid()}"

_PROGRAM = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE (8 << 20)
#define STACK (256 << 10)

static char stacks[4][STACK] __attribute__((aligned(64)));
static const char *role, *program;
static volatile pid_t below;

/* Whoever comes last says the pids of all, the eldest first. */
static void say(pid_t a, pid_t b, pid_t c)
{
    char line[100];
    int length = snprintf(line, sizeof line, "[%d, %d, %d]\n", a, b, c);
    if (write(1, line, length) != length)
        _exit(1);
}

static void stand_still(void)
{
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
    _exit(0);
}

/* One byte of standard input, then another program. */
static int then_exec(void *unused)
{
    char byte;
    (void)unused;
    say(syscall(SYS_getppid), syscall(SYS_getpid), 0);
    if (read(0, &byte, 1) == 1)
        execl(program, program, "still", (char *)0);
    _exit(1);
}

static int last(void *unused)
{
    (void)unused;
    stand_still();
    return 0;
}

static pid_t made(int (*child)(void *), int which, int flags)
{
    return clone(child, stacks[which] + STACK, flags | SIGCHLD, 0);
}

static int middle(void *unused)
{
    (void)unused;
    below = made(last, 1, CLONE_VM);
    if (strcmp(role, "orphan") == 0)
        _exit(0);
    stand_still();
    return 0;
}

static void *other_thread(void *unused)
{
    char state = 0, text[400], *end;
    (void)unused;
    while (state != 'Z') {      /* until the main thread has ended */
        FILE *file = fopen("/proc/self/stat", "r");
        if (file == 0 || fgets(text, sizeof text, file) == 0 || (end = strrchr(text, ')')) == 0)
            _exit(1);
        state = end[2];
        fclose(file);
    }
    below = made(last, 0, CLONE_VM);
    say(getpid(), below, 0);
    stand_still();
    return 0;
}

int main(int count, char **arguments)
{
    pid_t child;
    pthread_t thread;
    char *block = mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (count != 2 || block == MAP_FAILED)
        return 2;
    memset(block, 1, SIZE);
    program = arguments[0];
    role = arguments[1];
    if (strcmp(role, "still") == 0)
        say(getpid(), 0, 0);
    else if (strcmp(role, "vfork") == 0)
        made(then_exec, 0, CLONE_VM | CLONE_VFORK);
    else if (strcmp(role, "clone") == 0) {
        child = made(last, 0, CLONE_VM);
        say(getpid(), child, 0);
    } else if (strcmp(role, "chain") == 0) {
        child = made(middle, 0, CLONE_VM);
        while (below == 0)
            sched_yield();
        say(getpid(), child, below);
    } else if (strcmp(role, "orphan") == 0) {
        child = made(middle, 0, CLONE_VM);
        waitpid(child, 0, 0);
        say(getpid(), below, 0);
    } else if (strcmp(role, "siblings") == 0) {
        child = made(last, 0, CLONE_VM | CLONE_PARENT);
        say(getpid(), child, 0);
    } else if (strcmp(role, "parted") == 0) {
        /* Two that have it in common; their creator has another program since. */
        pid_t first = made(last, 0, CLONE_VM);
        pid_t second = made(last, 1, CLONE_VM);
        say(getpid(), first, second);
        execl("/bin/sleep", "sleep", "1000", (char *)0);
    } else if (strcmp(role, "fork") == 0) {
        child = fork();
        if (child == 0)
            stand_still();
        say(getpid(), child, 0);
    } else if (strcmp(role, "worker") == 0) {
        /* A fork that is between vfork and exec: its memory is in part its parent's. */
        child = fork();
        if (child == 0)
            made(then_exec, 0, CLONE_VM | CLONE_VFORK);
    } else if (strcmp(role, "left") == 0) {
        pthread_create(&thread, 0, other_thread, 0);
        pthread_exit(0);
    } else
        return 2;
    stand_still();
}
"""


def compiled(directory: Path) -> str:
    """The program; Refused without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise Unavailable("no C compiler")
    source, program = directory / "family.c", directory / NAME
    source.write_text(_PROGRAM)
    subprocess.run([compiler, "-O1", "-pthread", "-w", "-o", program, source], check=True)
    return str(program)


@contextlib.contextmanager
def sharing_processes(program: str, role: str) -> Iterator[list[int]]:
    """The pids of a family, the eldest first; it ends with its standard input."""
    with processes.running(program, role) as process:
        pids = [pid for pid in process.report if pid]
        yield pids
        if process.pid not in pids:
            pids.append(process.pid)
        assert process.popen.stdin is not None
        process.popen.stdin.close()
        process.popen.kill()
        # None of them may live on: tests count what there is.
        deadline = time.monotonic() + processes.TIMEOUT
        while any(_lives(pid) for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.001)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (
            b"Z",
            b"X",
        )
    except OSError:
        return False


def wait_for(program: str, pid: int) -> None:
    """Until it has called exec."""
    deadline = time.monotonic() + processes.TIMEOUT
    while Path(f"/proc/{pid}/comm").read_text() != f"{program}\n":
        assert time.monotonic() < deadline
        os.sched_yield()
