"""Short names for people: a program's base name, and the script that an interpreter runs."""

from __future__ import annotations

import os

import pytest

import fastsmaps
from fastsmaps._model.grouping import process_label, short_command
from fastsmaps._model.sizes import change, human


def row_of(*words: str, comm: str | None = "comm", end: bytes = b"\0") -> fastsmaps.ProcessTotals:
    """Return a process with this command line."""
    cmdline = b"\0".join(map(os.fsencode, words)) + end if words else b""
    return fastsmaps.ProcessTotals(7, "read", comm=comm, cmdline=cmdline)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["/usr/bin/python3", "-m", "foo"], "python3 -m foo"),
        (["/opt/venv/bin/python", "/srv/app/worker.py", "--x"], "python /srv/app/worker.py --x"),
        (["bin/tool", "a/b"], "tool a/b"),
        (["./tool"], "tool"),
        (["tool"], "tool"),
        (["-bash"], "-bash"),
        (["/opt/My App/bin/My Viewer", "/tmp/x"], "My Viewer /tmp/x"),
        (["/usr/bin/", "x"], "/usr/bin/ x"),
        # Titles that a process wrote over its arguments.
        (["nginx: master process /usr/sbin/nginx -g daemon off;"],
         "nginx: master process /usr/sbin/nginx -g daemon off;"),
        (["sshd: /usr/sbin/sshd -D [listener]"], "sshd: /usr/sbin/sshd -D [listener]"),
        (["/opt/chrome/chrome --type=gpu --dir=/tmp/x"], "chrome --type=gpu --dir=/tmp/x"),
        (["postgres: writer", "", ""], "postgres: writer  "),
        (["\udcff/\udcfe"], "\udcfe"),
    ],
)  # fmt: skip
def test_program_is_shown_by_its_base_name(words: list[str], shown: str) -> None:
    assert short_command(row_of(*words)) == shown
    assert short_command(row_of(*words), full=True) == " ".join(words)


def test_comm_decides_whether_a_path_has_blanks() -> None:
    path = "/opt/My App/bin/My Viewer of pictures"
    assert short_command(row_of(path, comm="My Viewer of pi")) == "My Viewer of pictures"
    assert short_command(row_of(path, comm="other")) == "My App/bin/My Viewer of pictures"


def test_short_command_without_arguments() -> None:
    assert short_command(row_of(comm="kworker/0:1")) == "[kworker/0:1]"
    assert short_command(row_of(comm=None)) == "?"
    assert short_command(row_of("", "", comm="x")) == "[x]"
    assert short_command(row_of("/bin/title", end=b"")) == "title"


def test_short_command_is_cut() -> None:
    assert short_command(row_of("/bin/é" + "ü" * 99, "x"), 5) == "éüüüü..."
    assert short_command(row_of("/bin/abcde"), 5) == "abcde"


@pytest.mark.parametrize(
    ("words", "label"),
    [
        (["/usr/bin/python3", "-m", "http.server", "8000"], "http.server"),
        (["/usr/bin/python3.11", "-u", "/srv/app.py", "--fast"], "app.py"),
        (["python", "-W", "error", "-X", "dev", "-um", "pip", "list"], "pip"),
        (["python3", "/usr/bin/gunicorn", "x:app"], "gunicorn"),
        (["python3", "-c", "import x", "y.py"], "comm"),
        (["python3", "-cimport x", "y.py"], "comm"),
        (["python3"], "comm"),
        (["python3", "-m"], "comm"),
        (["node", "--max-old-space-size=99", "-r", "dotenv", "srv/index.js"], "index.js"),
        (["node", "-e", "1", "2"], "comm"),
        (["/bin/sh", "/etc/init.d/x", "start"], "x"),
        (["bash", "-euo", "pipefail", "run.sh"], "run.sh"),
        (["bash", "/dev/fd/63"], "comm"),
        (["python3", "/proc/self/fd/11"], "comm"),
        (["bash", "-lc", "make all"], "comm"),
        (["-bash"], "comm"),
        (["perl", "-w", "-I", "lib", "bin/scan.pl"], "scan.pl"),
        (["perl", "-lne", "print"], "comm"),
        (["ruby", "-r", "set", "/srv/puma"], "puma"),
        (["php8.2", "-f", "/srv/a.php"], "a.php"),
        (["java", "-Xmx1g", "-jar", "/opt/shop.jar", "--port=1"], "shop.jar"),
        (["java", "-cp", "a.jar:b.jar", "-Dx=y", "org.apache.Bootstrap", "start"], "Bootstrap"),
        (["/usr/sbin/nginx", "-g", "x"], "comm"),
        ([], "comm"),
        ([""], "comm"),
    ],
)  # fmt: skip
def test_process_is_labelled_by_its_script(words: list[str], label: str) -> None:
    assert process_label(row_of(*words)) == label


def test_label_of_an_unknown_process() -> None:
    assert process_label(fastsmaps.ProcessTotals(7, "denied")) == "?"


@pytest.mark.parametrize(
    ("size", "text", "difference"),
    [
        (None, "-", "-"),
        (0, "0", "0"),
        (1, "1 B", "+1 B"),
        (-1, "-1 B", "-1 B"),
        (1023, "1023 B", "+1023 B"),
        (1024, "1 KiB", "+1 KiB"),
        (1536, "1.5 KiB", "+1.5 KiB"),
        (-(900 << 10), "-900 KiB", "-900 KiB"),
        (1 << 20, "1.0 MiB", "+1.0 MiB"),
        ((1 << 20) - 1024, "1023 KiB", "+1023 KiB"),
        ((1 << 20) - 1, "1.0 MiB", "+1.0 MiB"),
        (5 << 50, "5120.0 TiB", "+5120.0 TiB"),
    ],
)
def test_sizes_for_people(size: int | None, text: str, difference: str) -> None:
    assert human(size) == text
    assert change(size) == difference
