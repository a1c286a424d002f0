"""fastsmaps top, and other commands on a terminal."""

from __future__ import annotations

import re
import signal
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import fastsmaps
from fastsmaps._model.grouping import command_of
from fastsmaps.cli.terminal import Terminal
from support import processes
from support.commands import SCREEN, ZOO, Job, json_rows, on_terminal, run

#: Show the cursor and leave the alternate screen, or the reverse.
RESTORED = "\x1b[?25h\x1b[?1049l"
TAKEN = "\x1b[?1049h\x1b[?25l"

# Calls main() as a program may, and compares the signal handlers before and after.
CALLER = """
import signal, sys, threading
from fastsmaps.cli.main import main

handlers = list(map(signal.getsignal, sorted(signal.valid_signals())))
arguments = ["top", "--interval", "3600"]
if sys.argv[1:]:
    thread = threading.Thread(target=main, args=[arguments])
    thread.start()
    thread.join()
else:
    assert main(arguments) == 0
assert list(map(signal.getsignal, sorted(signal.valid_signals()))) == handlers
print("as before")
"""


# Sends itself a signal in the first wait; no Python code runs between the signal and select().
RACE = """
import ctypes, functools, operator, select, sys
from fastsmaps.cli.main import entry

number = int(sys.argv.pop(1))
real_select = select.select

def wait(*arguments):
    select.select = real_select
    send = functools.partial(ctypes.CDLL(None)["raise"], number)
    return list(map(operator.call, [send, functools.partial(real_select, *arguments)]))[1]

select.select = wait
entry()
"""


def plain(text: str) -> str:
    """Remove the control sequences of terminals."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


@pytest.mark.parametrize("without_rich", [False, True])
def test_tables_on_a_terminal(backend: ModuleType, without_rich: bool) -> None:
    for arguments in (("ps",), ("maps", ZOO, "--by", "kind"), ("totals", ZOO)):
        text = on_terminal(*arguments, without_rich=without_rich)
        assert "\x1b[1" in text
        assert max(map(len, plain(text).splitlines())) <= 100
    assert "\x1b" not in run("ps").stdout


@pytest.mark.parametrize("without_rich", [False, True])
def test_top_screen_and_keys(backend: ModuleType, without_rich: bool) -> None:
    text = on_terminal("top", "--interval", "3600", keys="rRcq", without_rich=without_rich)
    for word in (
        "by pss",
        "by rss",
        "by command",
        "q quits",
        "COMMAND",
        "budget 1.0%",
        "ascending",
    ):
        assert word in text
    assert text.rstrip().endswith("\x1b[?1049l")
    assert "\x1b[?25h" in text


@pytest.mark.parametrize(
    ("sort", "keys", "descending", "title"),
    [
        ("pid", "q", False, "by pid:"),
        ("pid", "Rq", True, "by pid descending:"),
        ("+pid", "q", False, "by pid:"),
        ("-pid", "q", True, "by pid descending:"),
        ("-pid", "Rq", False, "by pid:"),
        ("command", "q", False, "by command:"),
        ("+command", "q", False, "by command:"),
        ("-command", "q", True, "by command descending:"),
        ("-pid", "cq", False, "by command:"),
        ("pss", "cRq", True, "by command descending:"),
        ("+pss", "q", False, "by pss ascending:"),
        ("+pss", "Rq", True, "by pss:"),
    ],
)
def test_sort_keys_and_reverse(
    saved: str, sort: str, keys: str, descending: bool, title: str
) -> None:
    """Orders as --sort does; R reverses the order, another sort key resets it."""
    with fastsmaps.open_capture(saved) as procfs:
        scan = fastsmaps.scan(procfs=procfs, cmdline=True)
    by = title.split()[1].rstrip(":")
    keyed = {row.pid: command_of(row) if by == "command" else row.as_dict()[by] for row in scan}
    text = on_terminal("top", "--procfs", saved, f"--sort={sort}", "--interval", "3600", keys=keys)
    last = plain(text.split(SCREEN)[len(keys) - 1])
    assert title in last
    pids = [int(pid) for pid in re.findall(r"^ *([0-9]+)", last, re.MULTILINE)]
    assert pids == sorted(keyed, key=keyed.__getitem__, reverse=descending)


@pytest.mark.parametrize(
    "numbers",
    [[signal.SIGINT], [signal.SIGTERM], [signal.SIGHUP], [signal.SIGINT, signal.SIGTERM]],
)
def test_signal_restores_terminal(backend: ModuleType, numbers: list[signal.Signals]) -> None:
    """The terminal is restored, even if a second signal arrives meanwhile."""
    with Job("top", "--interval", "3600") as job:
        job.until(lambda: job.screens == 1)
        job.signal(signal.SIGSTOP)
        assert job.read_line() == f"stopped {signal.SIGSTOP:d}"
        for number in numbers:
            job.signal(number)
        job.resume("fg")
        assert job.read_line() == f"ended {128 + numbers[0]}", job.text
        assert job.modes() == job.initial_modes
    assert job.text.rstrip().endswith(RESTORED)
    assert "Traceback" not in job.text


def test_top_ends_when_terminal_closes(backend: ModuleType, tmp_path: Path) -> None:
    shell = f'exec {sys.executable} -m fastsmaps "$@" 2>{tmp_path}/errors'
    with Job("top", "--interval", "3600", command=["sh", "-c", shell, "sh"]) as job:
        job.until(lambda: job.screens == 1)
        job.hang_up()
        assert job.read_line() == "ended 0"
    assert (tmp_path / "errors").read_text() == ""


# ---- stopped and continued, another size


def test_screen_is_drawn_once_per_sample(backend: ModuleType) -> None:
    text = on_terminal("top", "--iterations", "2", "--interval", "0.2")
    assert text.count(SCREEN) == 2


def test_ctrl_z_and_continue(backend: ModuleType) -> None:
    """Ctrl-Z restores the terminal until the command is in the foreground again; bg does not."""
    with Job("top", "--interval", "3600") as job:
        job.until(lambda: job.screens == 1)
        own = job.modes()
        assert own != job.initial_modes
        for again in (1, 2):
            job.press("\x1a")
            assert job.read_line() == f"stopped {signal.SIGTSTP:d}"
            assert job.modes() == job.initial_modes
            assert job.text.rstrip().endswith(RESTORED)
            if again == 2:
                job.resume("bg")
                assert job.read_line() == f"stopped {signal.SIGTTOU:d}"
                assert job.modes() == job.initial_modes
                assert job.text.rstrip().endswith(RESTORED)
            job.resume("fg")
            job.until(lambda: SCREEN in job.text.rpartition(RESTORED)[2])
            assert TAKEN in job.text.rpartition(RESTORED)[2]
            assert job.modes() == own
        job.press("q")
        assert job.read_line() == "ended 0", job.text
        assert job.modes() == job.initial_modes
    assert job.text.rstrip().endswith(RESTORED)


def test_sigstop_and_continue(backend: ModuleType) -> None:
    """The shell restores the terminal; after fg the command takes it and redraws."""
    with Job("top", "--interval", "3600") as job:
        job.until(lambda: job.screens == 1)
        own = job.modes()
        job.signal(signal.SIGSTOP)
        assert job.read_line() == f"stopped {signal.SIGSTOP:d}"
        termios.tcsetattr(job.terminal, termios.TCSANOW, job.initial_modes)
        job.resume("fg")
        job.until(lambda: job.screens > 1)
        assert job.modes() == own
        job.press("q")
        assert job.read_line() == "ended 0", job.text
        assert job.modes() == job.initial_modes


@pytest.mark.parametrize("first", ["\x1a", "bg"])
def test_signal_ends_stopped_top(backend: ModuleType, first: str) -> None:
    """As with a shell's kill %1: it does not stop again for a terminal it does not own."""
    with Job("top", "--interval", "3600") as job:
        job.until(lambda: job.screens == 1)
        job.press("\x1a")
        assert job.read_line() == f"stopped {signal.SIGTSTP:d}"
        if first == "bg":
            job.resume("bg")
            assert job.read_line() == f"stopped {signal.SIGTTOU:d}"
        job.signal(signal.SIGTERM)
        job.resume("bg")
        assert job.read_line() == f"ended {128 + signal.SIGTERM}", job.text
        assert job.modes() == job.initial_modes
    assert "Traceback" not in job.text


def test_ignored_sigtstp_stays_ignored(backend: ModuleType) -> None:
    """SIGTSTP that was ignored at the start stays ignored."""
    ignoring = "import signal\nsignal.signal(signal.SIGTSTP, signal.SIG_IGN)\n"
    command = [sys.executable, "-c", ignoring + "from fastsmaps.cli.main import entry\nentry()"]
    with Job("top", "--interval", "3600", command=command) as job:
        job.until(lambda: job.screens == 1)
        job.press("\x1ar")
        job.until(lambda: "by rss" in job.text)
        assert RESTORED not in job.text
        job.press("q")
        assert job.read_line() == "ended 0"


def test_terminal_resize_redraws(backend: ModuleType) -> None:
    with Job("top", "--interval", "3600") as job:
        for screens, (lines, columns) in enumerate([(30, 100), (5, 60), (20, 120)], 1):
            termios.tcsetwinsize(job.terminal, (lines, columns))
            job.until(lambda screens=screens: job.screens >= screens)  # type: ignore[misc]
        _, small, last = [plain(text).split("\n") for text in job.text.split(SCREEN)[:3]]
        assert len(small) == 5 < len(last) <= 20
        assert max(len(line.rstrip()) for line in small) <= 60
        job.press("q")
        assert job.read_line() == "ended 0"


@pytest.mark.parametrize("number", [signal.SIGWINCH, signal.SIGTERM])
def test_signal_just_before_waiting_is_not_lost(
    backend: ModuleType, number: signal.Signals
) -> None:
    """It comes too late for Python to run the handler first and too early to end the wait."""
    with Job(
        "top", "--interval", "3600", command=[sys.executable, "-c", RACE, str(+number)]
    ) as job:
        if number == signal.SIGWINCH:
            job.until(lambda: job.screens == 2)
            job.press("q")
            assert job.read_line() == "ended 0"
        else:
            assert job.read_line() == f"ended {128 + number}"


@pytest.mark.parametrize("thread", [False, True])
def test_signal_handlers_are_restored(backend: ModuleType, thread: bool) -> None:
    """Also after a call in a thread, which cannot set signal handlers."""
    command = [sys.executable, "-c", CALLER, *["thread"] * thread]
    text = on_terminal(keys="pq", command=command)
    assert text.rstrip().endswith("as before")


# ---- for programs


def test_top_json_and_csv(backend: ModuleType, idle: processes.Process) -> None:
    rows = {row["pid"]: row for row in json_rows("top")}
    assert rows[idle.pid]["estimated"] is False
    assert rows[idle.pid]["age"] >= 0
    text = run("top", "--iterations", "2", "--interval", "0", "--limit", "1").stdout
    assert text.count("COMMAND") == 2


def test_sigcont_during_the_first_instruction_of_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python checks for signals when a handler begins: SIGCONT's ran inside SIGTERM's."""
    taken: list[object] = []
    monkeypatch.setattr(Terminal, "take", lambda self: taken.append(self))
    terminal = Terminal.__new__(Terminal)

    def interrupted(function: Callable[..., object]) -> Any:
        return SimpleNamespace(f_code=function.__code__)

    terminal.resume(signal.SIGCONT, interrupted(Terminal.end))
    assert taken == []
    terminal.resume(signal.SIGCONT, interrupted(Terminal.stop))
    terminal.resume(signal.SIGCONT, None)
    assert taken == [terminal, terminal]
