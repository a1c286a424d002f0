"""Processes that share one address space (CLONE_VM), for test_sharing.py: a C program."""

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

#: Bytes of anonymous memory that the first process of each role writes to.
SIZE = 8 << 20
#: Command name, unique to this test run so that parallel runs do not find its processes.
NAME = f"sharing{os.getpid()}"

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
static volatile pid_t grandchild;

/* The process that starts last reports all pids, oldest first. */
static void report(pid_t a, pid_t b, pid_t c)
{
    char line[100];
    int length = snprintf(line, sizeof line, "[%d, %d, %d]\n", a, b, c);
    if (write(1, line, length) != length)
        _exit(1);
}

static void wait_for_end_of_input(void)
{
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
    _exit(0);
}

/* Wait for a byte on standard input, then exec. */
static int exec_on_input(void *unused)
{
    char byte;
    (void)unused;
    report(syscall(SYS_getppid), syscall(SYS_getpid), 0);
    if (read(0, &byte, 1) == 1)
        execl(program, program, "wait", (char *)0);
    _exit(1);
}

static int leaf(void *unused)
{
    (void)unused;
    wait_for_end_of_input();
    return 0;
}

static pid_t start(int (*child)(void *), int which, int flags)
{
    return clone(child, stacks[which] + STACK, flags | SIGCHLD, 0);
}

static int middle(void *unused)
{
    (void)unused;
    grandchild = start(leaf, 1, CLONE_VM);
    if (strcmp(role, "orphan") == 0)
        _exit(0);
    wait_for_end_of_input();
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
    grandchild = start(leaf, 0, CLONE_VM);
    report(getpid(), grandchild, 0);
    wait_for_end_of_input();
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
    if (strcmp(role, "wait") == 0)
        report(getpid(), 0, 0);
    else if (strcmp(role, "vfork") == 0)
        start(exec_on_input, 0, CLONE_VM | CLONE_VFORK);
    else if (strcmp(role, "clone") == 0) {
        child = start(leaf, 0, CLONE_VM);
        report(getpid(), child, 0);
    } else if (strcmp(role, "chain") == 0) {
        child = start(middle, 0, CLONE_VM);
        while (grandchild == 0)
            sched_yield();
        report(getpid(), child, grandchild);
    } else if (strcmp(role, "orphan") == 0) {
        child = start(middle, 0, CLONE_VM);
        waitpid(child, 0, 0);
        report(getpid(), grandchild, 0);
    } else if (strcmp(role, "siblings") == 0) {
        child = start(leaf, 0, CLONE_VM | CLONE_PARENT);
        report(getpid(), child, 0);
    } else if (strcmp(role, "creator-exec") == 0) {
        /* Two processes that share memory; their creator has called exec since. */
        pid_t first = start(leaf, 0, CLONE_VM);
        pid_t second = start(leaf, 1, CLONE_VM);
        report(getpid(), first, second);
        execl("/bin/sleep", "sleep", "1000", (char *)0);
    } else if (strcmp(role, "fork") == 0) {
        child = fork();
        if (child == 0)
            wait_for_end_of_input();
        report(getpid(), child, 0);
    } else if (strcmp(role, "worker") == 0) {
        /* A child between vfork and exec; part of its memory is still its parent's. */
        child = fork();
        if (child == 0)
            start(exec_on_input, 0, CLONE_VM | CLONE_VFORK);
    } else if (strcmp(role, "main-exited") == 0) {
        pthread_create(&thread, 0, other_thread, 0);
        pthread_exit(0);
    } else
        return 2;
    wait_for_end_of_input();
}
"""


def compiled(directory: Path) -> str:
    """Compile the program and return its path; raise Unavailable without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise Unavailable("no C compiler")
    source, program = directory / "shared_memory.c", directory / NAME
    source.write_text(_PROGRAM)
    subprocess.run([compiler, "-O1", "-pthread", "-w", "-o", program, source], check=True)
    return str(program)


@contextlib.contextmanager
def sharing_processes(program: str, role: str) -> Iterator[list[int]]:
    """Start the processes of a role; yield their pids, oldest first."""
    with processes.running(program, role) as process:
        pids = [pid for pid in process.report if pid]
        yield pids
        if process.pid not in pids:
            pids.append(process.pid)
        assert process.popen.stdin is not None
        process.popen.stdin.close()
        process.popen.kill()
        # Wait until all have ended: later tests count processes.
        deadline = time.monotonic() + processes.TIMEOUT
        while any(_is_running(pid) for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.001)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (
            b"Z",
            b"X",
        )
    except OSError:
        return False


def wait_for_exec(program: str, pid: int) -> None:
    """Wait until the process runs `program`."""
    deadline = time.monotonic() + processes.TIMEOUT
    while Path(f"/proc/{pid}/comm").read_text() != f"{program}\n":
        assert time.monotonic() < deadline
        os.sched_yield()
