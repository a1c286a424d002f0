"""fastsmaps top, and other commands on a terminal."""

from __future__ import annotations

import re
import signal
import sys
import termios
from collections.abc import Callable
from types import ModuleType

import pytest

from support import processes
from support.commands import ZOO, Job, json_rows, on_terminal, run

#: Leave the alternate screen and show the cursor; take the alternate screen.
RESTORED = "\x1b[?1049l\x1b[?25h"
TAKEN = "\x1b[?1049h"

# Calls main() as a program may, and compares the signal handlers before and after.
CALLER = """
import signal, sys, threading
from fastsmaps.cli.main import main

handlers = list(map(signal.getsignal, sorted(signal.valid_signals())))
arguments = ["top", "--iterations", "1"]
if sys.argv[1:]:
    thread = threading.Thread(target=main, args=[arguments])
    thread.start()
    thread.join()
else:
    assert main(arguments) == 0
assert list(map(signal.getsignal, sorted(signal.valid_signals()))) == handlers
print("as before")
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


def drawn(job: Job, begun: int = 0) -> Callable[[], bool]:
    """Return a condition: the list was drawn after so many characters."""
    return lambda: "COMMAND" in job.text[begun:]


def test_live_screen_and_quit() -> None:
    with Job("top") as job:
        job.until(drawn(job))
        assert TAKEN in job.text
        job.press("q")
        assert job.read_line() == "ended 0", job.text
        assert job.modes() == job.initial_modes
    assert RESTORED in job.text


def test_no_color() -> None:
    """The tests set NO_COLOR: Textual wrote black on black."""
    with Job("top") as job:
        job.until(drawn(job))
        job.press("q")
        assert job.read_line() == "ended 0", job.text
    styles = re.findall(r"\x1b\[([0-9;]*)m", job.text)
    assert {number for style in styles for number in style.split(";")} <= set("01279") | {
        "39",
        "49",
        "",
    }


@pytest.mark.parametrize("begin", ["", "h"])
def test_ctrl_c_ends_the_screen(begin: str) -> None:
    """As SIGINT would, though the terminal sends only a key; also above a dialog."""
    with Job("top", "--interval", "3600") as job:
        job.until(drawn(job))
        job.press(begin)
        job.press("\x03")
        assert job.read_line() == "ended 130", job.text
        assert job.modes() == job.initial_modes


@pytest.mark.parametrize(
    "numbers",
    [[signal.SIGINT], [signal.SIGTERM], [signal.SIGHUP], [signal.SIGINT, signal.SIGTERM]],
)
def test_signal_restores_terminal(numbers: list[signal.Signals]) -> None:
    """The terminal is restored, even if a second signal arrives meanwhile."""
    with Job("top", "--interval", "3600") as job:
        job.until(drawn(job))
        for number in numbers:
            job.signal(number)
        # Of signals that are pending together, the kernel may deliver either first.
        assert job.read_line() in [f"ended {128 + number}" for number in numbers], job.text
        assert job.modes() == job.initial_modes
    assert RESTORED in job.text
    assert "Traceback" not in job.text


def test_top_ends_when_terminal_closes() -> None:
    with Job("top", "--interval", "3600") as job:
        job.until(drawn(job))
        job.hang_up()
        assert job.read_line() == "ended 0"


def test_top_ends_when_the_shell_of_a_closed_terminal_ends() -> None:
    """The kernel sends SIGHUP and SIGCONT: what is drawn then cannot be written."""
    with Job("top", "--interval", "3600") as job:
        job.until(drawn(job))
        job.hang_up()
        job.end_shell()


# ---- stopped and continued, another size


def test_ctrl_z_and_continue() -> None:
    """Ctrl-Z restores the terminal until the command is in the foreground again; bg does not."""
    with Job("top", "--interval", "3600") as job:
        job.until(drawn(job))
        own = job.modes()
        assert own != job.initial_modes
        for again in (1, 2):
            job.press("\x1a")
            assert job.read_line() == f"stopped {signal.SIGSTOP:d}"
            assert job.modes() == job.initial_modes
            begun = len(job.text)
            assert RESTORED in job.text[-200:]
            if again == 2:
                job.resume("bg")
                assert job.read_line().startswith("stopped")
                assert job.modes() == job.initial_modes
            job.resume("fg")
            job.until(drawn(job, begun))
            assert TAKEN in job.text[begun:]
            job.until(lambda: job.modes() == own)
        job.press("q")
        assert job.read_line() == "ended 0", job.text
        assert job.modes() == job.initial_modes


def test_sigstop_and_continue() -> None:
    """The shell restores the terminal; after fg the command takes it and redraws."""
    with Job("top", "--interval", "3600") as job:
        job.until(drawn(job))
        own = job.modes()
        begun = len(job.text)
        job.signal(signal.SIGSTOP)
        assert job.read_line() == f"stopped {signal.SIGSTOP:d}"
        termios.tcsetattr(job.terminal, termios.TCSANOW, job.initial_modes)
        job.resume("fg")
        job.until(drawn(job, begun))
        job.until(lambda: job.modes() == own)
        job.press("q")
        assert job.read_line() == "ended 0", job.text
        assert job.modes() == job.initial_modes


def test_modes_are_restored_if_no_shell_did() -> None:
    """After SIGSTOP and SIGCONT without a shell, Textual takes its own modes for the first."""
    with Job("top", "--interval", "3600") as job:
        job.until(drawn(job))
        begun = len(job.text)
        job.signal(signal.SIGSTOP)
        assert job.read_line() == f"stopped {signal.SIGSTOP:d}"
        job.resume("fg")
        job.until(drawn(job, begun))
        job.press("q")
        assert job.read_line() == "ended 0", job.text
        assert job.modes() == job.initial_modes


def test_ignored_sigtstp_stays_ignored() -> None:
    """SIGTSTP that was ignored at the start stays ignored, the key included."""
    ignoring = "import signal\nsignal.signal(signal.SIGTSTP, signal.SIG_IGN)\n"
    command = [sys.executable, "-c", ignoring + "from fastsmaps.cli.main import entry\nentry()"]
    with Job("top", "--interval", "3600", command=command) as job:
        job.until(drawn(job))
        job.signal(signal.SIGTSTP)
        job.press("\x1aR")
        job.until(lambda: "RSS▼" in job.text)
        assert RESTORED not in job.text
        job.press("q")
        assert job.read_line() == "ended 0"


def test_terminal_resize_redraws() -> None:
    with Job("top", "--interval", "3600") as job:
        job.until(drawn(job))
        wide = re.compile(r"kernel \d+")  # the last part of the host's memory
        assert not wide.search(plain(job.text))
        termios.tcsetwinsize(job.terminal, (30, 150))
        job.until(lambda: wide.search(plain(job.text)) is not None)
        job.press("q")
        assert job.read_line() == "ended 0"


@pytest.mark.parametrize("thread", [False, True])
def test_signal_handlers_are_restored(thread: bool) -> None:
    """In a thread, which cannot set signal handlers, top prints tables."""
    with Job(command=[sys.executable, "-c", CALLER, *["thread"] * thread]) as job:
        job.until(drawn(job))
        assert (TAKEN in job.text) == (not thread)
        assert job.read_line() == "ended 0", job.text
    assert job.text.rstrip().endswith("as before")


# ---- without a screen


def test_last_table_stays_after_iterations() -> None:
    """The alternate screen is gone when the terminal is restored."""
    text = on_terminal("top", "--iterations", "2", "--interval", "0.1")
    assert TAKEN in text
    after = plain(text.rpartition("\x1b[?1049l")[2])
    assert after.count("COMMAND") == 1
    assert "processes read" in after
    assert len(after.splitlines()) <= 30


@pytest.mark.parametrize("reason", ["TERM=dumb", "TERM", "without Textual", "ASCII"])
def test_tables_where_no_screen_is_possible(reason: str) -> None:
    """Tables one below the other, each as long as the terminal; endless until Ctrl-C."""
    settings = {
        "TERM=dumb": 'os.environ["TERM"] = "dumb"',
        "TERM": 'os.environ.pop("TERM")',
        "without Textual": 'sys.modules["textual"] = None',
        "ASCII": 'sys.stdout.reconfigure(encoding="ascii")',
    }
    code = f"import os, sys\n{settings[reason]}\nfrom fastsmaps.cli.main import entry\nentry()"
    with Job("top", "--interval", "0.1", command=[sys.executable, "-c", code]) as job:
        job.until(lambda: plain(job.text).count("COMMAND") == 3)
        job.signal(signal.SIGINT)
        assert job.read_line() == "ended 130", job.text
    assert TAKEN not in job.text
    tables = plain(job.text).split("COMMAND")
    assert max(len(table.splitlines()) for table in tables) <= 40
    hint = 'the live screen needs Textual: pip install "textual>=8"'
    assert (hint in job.text) == (reason == "without Textual")


def test_replay_of_a_capture(saved: str, idle: processes.Process) -> None:
    with Job("top", "--procfs", saved) as job:
        job.until(drawn(job))
        assert str(idle.pid) in plain(job.text)
        job.press("q")
        assert job.read_line() == "ended 0"


@pytest.mark.parametrize("sort", ["-pid", "+command", "swap"])
def test_sort_option(saved: str, sort: str) -> None:
    with Job("top", "--procfs", saved, f"--sort={sort}") as job:
        job.until(drawn(job))
        name = sort.lstrip("+-").upper()
        assert f"{name}{'▲' if sort[0] == '+' else '▼'}" in job.text
        job.press("q")
        assert job.read_line() == "ended 0"


def test_error_of_the_first_sweep_is_one_line() -> None:
    with Job("top", "--procfs", "/dev") as job:
        assert job.read_line() == "ended 1"
    assert "Traceback" not in job.text
    assert "neither a procfs nor a capture" in plain(job.text)


# ---- for programs


def test_top_json_and_csv(backend: ModuleType, idle: processes.Process) -> None:
    rows = {row["pid"]: row for row in json_rows("top")}
    assert rows[idle.pid]["estimated"] is False
    assert rows[idle.pid]["age"] >= 0
    text = run("top", "--iterations", "2", "--interval", "0", "--limit", "1").stdout
    assert text.count("COMMAND") == 2
