"""group_by("use") on programs that report what they made."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import fastsmaps
from support import processes
from support.linux import PAGE

# Sanitizers and valgrind map much themselves.
pytestmark = pytest.mark.uninstrumented(reason="they map memory and start threads")

THREADS = 6

C_PROGRAM = r"""
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

static char zeros[300000], words[5000] = "data";
static const char constants[5000] = "constants";
static char *const relocated[] = {words, zeros};
static pthread_barrier_t barrier;

static void show(const char *name, const void *address)
{
    printf("[\"%s\", %lu], ", name, (unsigned long)address);
}

static void *work(void *number)
{
    char local = 1, *block = malloc(1000);
    memset(block, 1, 1000);
    pthread_mutex_t *mutex = number;
    pthread_mutex_lock(mutex);
    show("thread stacks", &local);
    show("malloc arenas", block);
    pthread_mutex_unlock(mutex);
    pthread_barrier_wait(&barrier);
    for (;;)
        pause();
    return 0;
}

int main(int count, char **arguments)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    int threads = atoi(arguments[1]);
    int flags = MAP_PRIVATE | MAP_ANONYMOUS, all = PROT_READ | PROT_WRITE | PROT_EXEC;
    char local;
    /* An arena for each thread, however few processors there are. */
    mallopt(M_ARENA_MAX, threads + 1);
    pthread_barrier_init(&barrier, 0, threads + 1);
    char *block = malloc(1000), *large = malloc(8 << 20);
    char *code = mmap(0, 65536, all, flags, -1, 0);
    char *shared = mmap(0, 65536, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *reserved = mmap(0, 1 << 24, PROT_NONE, flags, -1, 0);
    memset(large, 1, 8 << 20);
    zeros[sizeof zeros / 2] = 1;
    printf("{\"places\": [");
    for (int i = 0; i < threads; i++) {
        pthread_t thread;
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        if (i % 2)
            pthread_attr_setstacksize(&attributes, 512 << 10);
        if (pthread_create(&thread, &attributes, work, &mutex))
            return 1;
    }
    pthread_barrier_wait(&barrier);
    show("main stack", &local);
    show("main heap", block);
    show("large allocations?", large);
    show("JIT code", code);
    show("shared memory", shared);
    show("no access", reserved);
    /* PR_SET_VMA, PR_SET_VMA_ANON_NAME; Linux may be built without names. */
    char *named = mmap(0, 65536, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (!prctl(0x53564d41, 0, named, 65536, "worker 7"))
        show("[anon:worker #]", named);
    show("text", (void *)main);
    show("read-only data", constants + 2500);
    show("relocations", relocated);
    show("writable data", words + 2500);
    printf("[\"writable data\", %lu]], ", (unsigned long)(zeros + sizeof zeros / 2));
    char *report;
    size_t size;
    FILE *file = open_memstream(&report, &size);
    malloc_info(0, file);
    fclose(file);
    int arenas = -1;
    for (char *place = report; (place = strstr(place, "<heap nr=")); place++)
        arenas++;
    printf("\"arenas\": %d}\n", arenas);
    fflush(stdout);
    while (read(0, &local, 1) > 0)
        ;
    return 0;
}
"""


def count_of(table: fastsmaps.Mappings, use: str) -> int:
    return table.uses().count(use)


def has_plain_guards() -> bool:
    """Whether the C library is a glibc that maps the guard of a stack (before 2.42)."""
    name, version = platform.libc_ver()
    return name == "glibc" and [*map(int, version.split("."))] < [2, 42]


@pytest.fixture(scope="module")
def c_program(tmp_path_factory: pytest.TempPathFactory) -> str:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or not has_plain_guards():
        pytest.skip("needs a C compiler and a glibc before 2.42")
    directory = tmp_path_factory.mktemp("uses")
    (directory / "uses.c").write_text(C_PROGRAM)
    command = [compiler, "-O0", "-fPIE", "-pie", "-Wl,-z,relro,-z,now,-z,separate-code", "-pthread"]
    subprocess.run([*command, "-o", directory / "uses", directory / "uses.c"], check=True)
    return str(directory / "uses")


@pytest.mark.parametrize("sizes", [True, False], ids=["smaps", "maps"])
def test_uses_of_a_c_program(c_program: str, backend: ModuleType, sizes: bool) -> None:
    with processes.running(c_program, str(THREADS)) as child:
        table = fastsmaps.mappings(child.pid, sizes=sizes)
        places, arenas = child.report["places"], child.report["arenas"]
    use_of = dict(zip(table.column("start"), table.uses(), strict=True))
    found = []
    for use, address in places:
        mapping = table.find(address)
        assert mapping is not None
        found.append((use, use_of[mapping.start]))
    assert found == [(use, use) for use, _ in places]
    assert arenas == THREADS
    assert count_of(table, "malloc arenas") == 2 * arenas
    assert count_of(table, "thread stacks") == 2 * THREADS
    stacks = table.group_by("use")["thread stacks"].totals.size
    assert stacks is not None
    assert stacks >= THREADS * ((512 << 10) + PAGE)


def test_threads_of_python(backend: ModuleType) -> None:
    if not has_plain_guards():
        pytest.skip("needs a glibc before 2.42")
    code = (
        "import sys, threading\n"
        "ready = threading.Barrier(6)\n"
        "def work():\n"
        "    ready.wait()\n"
        "    threading.Event().wait()\n"
        "for _ in range(5):\n"
        "    threading.Thread(target=work, daemon=True).start()\n"
        "ready.wait()\n"
        "print(1, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with processes.running(sys.executable, "-c", code) as child:
        table = fastsmaps.mappings(child.pid)
        threads = len(os.listdir(f"/proc/{child.pid}/task"))
    assert threads == 6
    assert sum(use.startswith("thread stacks") for use in table.uses()) == 2 * (threads - 1)
    groups = table.group_by("use")
    for use in ("text", "read-only data", "writable data", "relocations", "main heap"):
        assert groups[use].totals.rss, use


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"there is no {name}")
    return path


def test_heap_stacks_and_code_of_java(tmp_path: Path, backend: ModuleType) -> None:
    java, javac = tool("java"), tool("javac")
    (tmp_path / "Uses.java").write_text(
        "public class Uses {\n"
        "    static byte[][] kept = new byte[16][];\n"
        "    public static void main(String[] arguments) throws Exception {\n"
        "        for (int i = 0; i < kept.length; i++) {\n"
        "            kept[i] = new byte[1 << 20];\n"
        "            java.util.Arrays.fill(kept[i], (byte) 1);\n"
        "        }\n"
        "        System.out.println(1);\n"
        "        System.in.read();\n"
        "    }\n"
        "}\n"
    )
    subprocess.run([javac, "-d", tmp_path, tmp_path / "Uses.java"], check=True)
    command = (java, "-Xmx128m", "-XX:+UseSerialGC", "-cp", str(tmp_path), "Uses")
    with processes.running(*command) as child:
        table = fastsmaps.mappings(child.pid)
        threads = len(os.listdir(f"/proc/{child.pid}/task"))
    groups = table.group_by("use")
    assert next(iter(groups)) == "Java heap?"
    heap = groups["Java heap?"].totals
    assert heap.rss is not None
    assert 16 << 20 < heap.rss < 128 << 20
    assert heap.size is not None
    assert heap.size >= 128 << 20
    assert groups["JIT code"].totals.rss
    if has_plain_guards():
        # A thread may have started or ended since.
        stacks = sum(use.startswith("thread stacks") for use in table.uses()) // 2
        assert abs(stacks - (threads - 1)) <= 2


def test_heap_of_node(backend: ModuleType) -> None:
    node = tool("node")
    code = "globalThis.kept = Array.from({length: 500000}, (_, i) => ({i}));console.log(1);"
    with processes.running(node, "-e", code + "process.stdin.resume()") as child:
        table = fastsmaps.mappings(child.pid)
        threads = len(os.listdir(f"/proc/{child.pid}/task"))
    groups = table.group_by("use")
    if any("dc" in (row.vm_flags or ()) for row in table):  # as most builds mark the heap
        assert next(iter(groups)) == "JavaScript heap?"
    assert groups["JIT code"].totals.rss
    if has_plain_guards():
        stacks = sum(use.startswith("thread stacks") for use in table.uses()) // 2
        assert abs(stacks - (threads - 1)) <= 2


def test_heap_of_go(tmp_path: Path, backend: ModuleType) -> None:
    go = tool("go")
    (tmp_path / "uses.go").write_text(
        'package main\nimport ("fmt"; "os")\n'
        "func main() {\n"
        "    kept := make([]byte, 32<<20)\n"
        "    for i := range kept { kept[i] = 1 }\n"
        "    fmt.Println(1)\n"
        "    os.Stdin.Read(make([]byte, 1))\n"
        "    fmt.Fprintln(os.Stderr, len(kept))\n"
        "}\n"
    )
    environment = os.environ | {
        "GOCACHE": str(tmp_path / "cache"), "GO111MODULE": "off", "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0", "GOPATH": str(tmp_path / "path"),
    }  # fmt: skip
    program = str(tmp_path / "uses")
    command = [go, "build", "-o", program, str(tmp_path / "uses.go")]
    built = subprocess.run(command, env=environment, capture_output=True, text=True)
    if built.returncode:
        pytest.skip(f"go cannot build: {built.stderr}")
    with processes.running(program) as child:
        table = fastsmaps.mappings(child.pid)
    groups = table.group_by("use")
    version = subprocess.run([go, "version"], capture_output=True, text=True).stdout
    if "Go heap" not in groups and not re.search(r"go1\.(1\d|2[0-5])\b", version):
        pytest.skip("since 1.26 the heap's address is random, and Linux was built without names")
    assert next(iter(groups)) == "Go heap"
    heap = groups["Go heap"].totals.rss
    assert heap is not None
    assert 32 << 20 <= heap < 64 << 20
    assert groups["text"].totals.rss
    assert "malloc arenas" not in groups
    assert not [use for use in groups if re.match("relocations|thread stacks", use)]
