"""Plain command lines: parsed as argparse does, and what a signal leaves."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsmaps.cli import plain
from fastsmaps.cli.options import UsageError
from fastsmaps.cli.parser import COMMANDS, make_parser
from support import processes
from support.commands import Job, environment


def options_of(name: str) -> list[str]:
    """Return all options of a command."""
    for action in make_parser(name)._actions:
        if isinstance(action, argparse._SubParsersAction):
            return [option for a in action.choices[name]._actions for option in a.option_strings]
    raise LookupError(name)


OPTIONS = sorted({option for name in COMMANDS for option in options_of(name)})
# Texts that resemble a pid or an option.
WORDS = ["1", "self", "0", "00", "99999999999999999999", "-", "--", "", " ", "٣", "²", "1.5", "x"]
WORDS += ["--js", "--json=", "--json=1", "-1", "--limit=3", "./1", "self "]
argvs = st.builds(
    lambda name, pids, rest: [name, *pids, *rest],
    st.sampled_from([*COMMANDS, "nosuch"]),
    st.lists(st.sampled_from(["1", "self", "27"]), max_size=3),
    st.lists(st.sampled_from([*OPTIONS, *WORDS]), max_size=2),
)


@given(argvs)
def test_plain_command_lines_are_parsed_as_by_argparse(argv: list[str]) -> None:
    if not plain.is_plain(argv):
        return
    ours = plain.parse(argv)
    if ours is None:
        return
    theirs = make_parser(argv[0]).parse_args(argv)
    assert vars(ours) == vars(theirs)


@pytest.mark.parametrize(
    "line",
    ["ps", "ps --json", "ps 1 2 --tree", "ps --cgroup", "totals 1", "totals self 1 --human",
     "maps 1 --csv", "maps self", "libs", "libs 1 --json"],
)  # fmt: skip
def test_usual_command_lines_are_plain(line: str) -> None:
    argv = line.split()
    assert plain.is_plain(argv)
    parsed = plain.parse(argv)
    assert parsed is not None
    assert vars(parsed) == vars(make_parser(argv[0]).parse_args(argv))


@pytest.mark.parametrize(
    "line",
    ["", "--version", "--json", "top", "watch 1", "capture", "export", "diff 1", "ps --limit 3",
     "ps --limit=3", "ps --json 1", "ps --json --tree", "maps saved.smaps", "totals -",
     "totals ./1", "ps -h", "maps 1 --by path", "totals 1 --procfs /proc"],
)  # fmt: skip
def test_other_command_lines_are_not_plain(line: str) -> None:
    argv = line.split()
    assert not plain.is_plain(argv) or plain.parse(argv) is None


@pytest.mark.parametrize("line", ["totals", "maps", "maps 1 2", "ps --nosuch", "ps --limit"])
def test_usage_errors_are_left_to_argparse(line: str) -> None:
    argv = line.split()
    assert plain.parse(argv) is None
    with pytest.raises(UsageError):
        make_parser(argv[0]).parse_args(argv)


# The command, after a function that runs when it reads a process.
_READING = """
import os, signal, sys, time
import fastsmaps.cli.main
from fastsmaps.cli import process_argument

def meanwhile(*_):
    ...

process_argument.read_totals = meanwhile
fastsmaps.cli.main.entry()
"""


def run_while_reading(code: str) -> subprocess.CompletedProcess[bytes]:
    """Run `fastsmaps totals` of this process; it runs the code instead of reading."""
    return subprocess.run(
        [sys.executable, "-c", _READING.replace("...", code), "totals", str(os.getpid())],
        capture_output=True, check=False, env=environment(), timeout=processes.TIMEOUT,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGALRM"])
def test_signals_end_a_plain_command(name: str) -> None:
    done = run_while_reading(f"os.kill(os.getpid(), signal.{name}); time.sleep(3600)")
    number = signal.Signals[name]
    assert (done.returncode, done.stdout, done.stderr) == (-number, b"", b"")


@pytest.mark.parametrize(
    "code",
    [
        "os.kill(os.getpid(), signal.SIGINT); time.sleep(3600)",
        "os.kill(os.getpid(), signal.SIGINT); os.kill(os.getpid(), signal.SIGINT)",
        "type('F', (), {'__del__': lambda _: os.kill(os.getpid(), signal.SIGINT)})(); 1 / 0",
    ],
)
def test_sigint_ends_a_plain_command(code: str) -> None:
    done = run_while_reading(code)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, b"", b"")


def test_ignored_sigint_stays_ignored_in_a_plain_command() -> None:
    shell = f"trap '' INT; {sys.executable} -c \"$0\" totals $$"
    code = _READING.replace("...", "os.kill(os.getpid(), signal.SIGINT); os._exit(7)")
    done = subprocess.run(
        ["bash", "-c", shell, code], capture_output=True, check=False, env=environment()
    )
    assert (done.returncode, done.stderr) == (7, b"")


def test_sigterm_shows_the_cursor_again(tmp_path: Path) -> None:
    """With a progress bar on the terminal, whose cursor rich hides."""
    pytest.importorskip("rich")
    code = (
        "import time\nimport fastsmaps\nfrom fastsmaps.cli.main import entry\n"
        "def scan(*_, progress, **__):\n    progress(1, 2)\n    time.sleep(3600)\n"
        "fastsmaps.scan = scan\nentry()"
    )
    with Job("ps", "--json", command=[sys.executable, "-c", code]) as job:
        job.until(lambda: "1/2" in job.text)
        job.signal(signal.SIGTERM)
        assert job.read_line() == f"ended -{signal.SIGTERM}"
        assert job.text.rfind("\x1b[?25h") > job.text.rfind("\x1b[?25l") >= 0


def test_init_process_handles_signals(backend: ModuleType) -> None:
    """The kernel drops a signal to a container's init process that has no handler for it."""
    code = _READING.replace("...", "os.kill(1, signal.SIGTERM); time.sleep(3600)")
    done = subprocess.run(
        ["unshare", "-m", "-p", "-f", "--mount-proc", sys.executable, "-c", code, "totals", "1"],
        capture_output=True, check=False, env=environment(), timeout=processes.TIMEOUT,
    )  # fmt: skip
    if b"unshare: " in done.stderr:
        pytest.skip(done.stderr.decode())
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, b"")
