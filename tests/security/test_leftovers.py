"""Files left behind after signals and kills: none, or the next run removes them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import fastsmaps
from fastsmaps._output.temporary import UNFINISHED, UNPACKED, Temporary
from support import processes
from support.captures import SMAPS, smem, tar
from support.commands import environment

pytestmark = pytest.mark.thread_unsafe(reason="forks, and sets where to unpack")

# The command; it gets signals just after it made a temporary file. `meanwhile` runs first.
SIGNALLED = """
import os, signal, sys
import fastsmaps.cli.main
from fastsmaps._output import temporary

numbers = [int(number) for number in sys.argv.pop(1).split(",")]
make, delete = temporary.Temporary._make, temporary._delete
left = int(sys.argv.pop(1))

def made(self, directory):
    global left
    make(self, directory)
    left -= 1
    if not left:
        os.kill(os.getpid(), numbers[0])

def deleted(path, directory):
    for number in numbers[1:]:
        os.kill(os.getpid(), number)
    delete(path, directory)

temporary.Temporary._make, temporary._delete = made, deleted
fastsmaps.cli.main.entry()
"""

# Each command, and the number of its first temporary file that holds data.
COMMANDS = {
    "ps --procfs {capture}": 1,
    "totals 7 --procfs {capture}": 1,
    "maps 7 --procfs {capture}": 1,
    "libs --procfs {capture}": 1,
    "diff {capture} {capture}": 2,
    "top --procfs {capture}": 1,
    "export --listen 127.0.0.1:0 --procfs {capture}": 1,
    "watch 7 --procfs {capture}": 1,
    "capture -o {out}/d": 1,
    "capture -o {out}/d.tar": 1,
    "capture -o {out}/d.tar.gz": 1,
    "capture -o {out}/d.tar.xz": 1,
    "capture -o {out}/d.tar --procfs {capture}": 2,
    "maps self --parquet {out}/p": 2,
    "maps self --plot {out}/p": 2,
    "report -o {out}/r --procfs {capture}": 2,
    "watch self --for 0 --csv {out}/w": 2,
    "watch -o {out}/w -- true": 2,
    "watch --parquet {out}/w -- true": 2,
}
NEEDS = {"--parquet": "pyarrow", "export": "prometheus_client"}


@pytest.fixture
def place(tmp_path: Path) -> dict[str, str]:
    """Make a capture, a directory for unpacking, and one for output."""
    for name in ("unpacked", "out"):
        (tmp_path / name).mkdir()
    capture = tar(tmp_path / "c.tar", smem())
    return {"capture": str(capture), "out": f"{tmp_path}/out", "unpacked": f"{tmp_path}/unpacked"}


def left(place: dict[str, str]) -> list[str]:
    return [*os.listdir(place["unpacked"]), *os.listdir(place["out"])]


def signalled(
    command: str, place: dict[str, str], *numbers: int, after: int = 1, code: str = SIGNALLED
) -> tuple[int, bytes, bytes]:
    for option, module in NEEDS.items():
        if option in command:
            pytest.importorskip(module)
    words = [word.format(**place) for word in command.split()]
    done = subprocess.run(
        [sys.executable, "-c", code, ",".join(map(str, map(int, numbers))), str(after), *words],
        capture_output=True, check=False, env=environment(TMPDIR=place["unpacked"]),
        timeout=processes.TIMEOUT,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def status_of(number: int) -> int:
    """Return the exit status of a command that such a signal ended."""
    return 128 + number if number == signal.SIGINT else -number


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("command", COMMANDS)
def test_signal_leaves_no_files(
    backend: ModuleType, place: dict[str, str], command: str, number: signal.Signals
) -> None:
    status, _, error = signalled(command, place, number, after=COMMANDS[command])
    assert (status, error) == (status_of(number), b"")
    assert left(place) == []


@pytest.mark.parametrize(
    "name",
    ["SIGQUIT", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGVTALRM", "SIGPROF", "SIGXCPU", "SIGIO",
     "SIGPWR"],
)  # fmt: skip
def test_every_fatal_signal_leaves_no_files(place: dict[str, str], name: str) -> None:
    number = signal.Signals[name]
    for command in ("ps --procfs {capture}", "capture -o {out}/d.tar"):
        assert signalled(command, place, number)[0] == -number
        assert left(place) == []


@pytest.mark.parametrize("command", ["ps --procfs {capture}", "capture -o {out}/d"])
def test_more_signals_during_cleanup(place: dict[str, str], command: str) -> None:
    numbers = (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    for first in (signal.SIGTERM, signal.SIGINT):
        status, _, error = signalled(command, place, first, *numbers)
        assert (status, error) == (status_of(first), b"")
        assert left(place) == []


def test_ignored_signals_stay_ignored(place: dict[str, str]) -> None:
    """As nohup needs it for SIGHUP."""
    code = f"import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n{SIGNALLED}"
    for command in ("ps --procfs {capture}", "capture -o {out}/d"):
        assert signalled(command, place, signal.SIGHUP, code=code)[0] == 0
    assert left(place) == ["d"]


SWALLOWING = """
import os, signal, sys, time
import fastsmaps.cli.main
from fastsmaps._output import temporary
from fastsmaps.cli import signals

signals._GRACE_PERIOD = 0.3

def main():
    for beginning, directory in ((temporary.UNPACKED, True), (temporary.UNFINISHED, False)):
        made = temporary.Temporary(sys.argv[3], beginning, directory=directory)
        kept.append(made)
    again = [int(sys.argv[1])]
    while True:
        try:
            while again:
                os.kill(os.getpid(), again.pop())
            time.sleep(3600)
        except BaseException:
            pass

kept = []
fastsmaps.cli.main.main = main
fastsmaps.cli.main.entry()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_code_that_swallows_exceptions_still_ends(
    place: dict[str, str], number: signal.Signals
) -> None:
    status, _, error = signalled("{unpacked}", place, number, code=SWALLOWING)
    assert (status, error) == (128 + number, b"")
    assert left(place) == []


LOSING = """
import os, signal, sys, time
import fastsmaps.cli.main
from fastsmaps._output import temporary

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[1]))
        time.sleep(3600)

def main():
    kept.append(temporary.Temporary(sys.argv[3], temporary.UNPACKED, directory=True))
    Finalized()
    with open(os.pipe()[0], "rb") as silent:
        silent.read()

kept = []
fastsmaps.cli.main.main = main
fastsmaps.cli.main.entry()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_in_a_finalizer_still_ends_the_process(
    place: dict[str, str], number: signal.Signals
) -> None:
    """In a finalizer Python prints the exception and goes on, so it is raised again."""
    status, _, error = signalled("{unpacked}", place, number, code=LOSING)
    assert (status, error) == (status_of(number), b"")
    assert left(place) == []


LOST_BEFORE_THE_WAIT = """
import os, signal, sys
import fastsmaps.cli.main
from fastsmaps.cli.commands import export

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), number)
        for _ in range(1000):
            pass

class Time:
    def sleep(self, seconds):
        Finalized()
        time.sleep(seconds)

number = int(sys.argv.pop(1))
del sys.argv[1]
time, export.time = export.time, Time()
fastsmaps.cli.main.entry()
"""


def test_ctrl_c_just_before_the_exporter_waits(place: dict[str, str]) -> None:
    command = "export --listen 127.0.0.1:0"
    code = LOST_BEFORE_THE_WAIT
    status, _, error = signalled(command, place, signal.SIGINT, code=code)
    assert status == 128 + signal.SIGINT
    # A sweep may have ended meanwhile, which prints how much it read.
    assert all(b" processes read" in line for line in error.splitlines())


# ---- orphans

KILLED = """
import os, signal, sys
from fastsmaps._output.temporary import Temporary
kept = [
    Temporary(sys.argv[1], beginning, directory=directory)
    for beginning in ("fastsmaps-", ".fastsmaps-") for directory in (False, True)
]
for temporary in kept:
    if os.path.isdir(temporary.path):
        os.mkdir(temporary.path + "/7")
        open(temporary.path + "/7/cmdline", "w").write("secret")
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(directory: Path) -> list[str]:
    """Make the leftovers of a killed process."""
    before = set(os.listdir(directory))
    done = subprocess.run([sys.executable, "-c", KILLED, directory], check=False)
    assert done.returncode == -signal.SIGKILL
    return sorted(set(os.listdir(directory)) - before)


def test_orphans_are_removed(place: dict[str, str]) -> None:
    unpacked, out = Path(place["unpacked"]), Path(place["out"])
    for directory in (unpacked, out):
        assert len(killed(directory)) == 4
    environ = environment(TMPDIR=str(unpacked))
    for arguments in (("ps", "--procfs", place["capture"]), ("capture", "-o", f"{out}/d.tar")):
        command = [sys.executable, "-m", "fastsmaps", *arguments]
        subprocess.run(command, check=True, env=environ, stdout=subprocess.DEVNULL)
    # Each removes its own kind: unpacked directories, or unfinished files next to a target.
    assert {name[0] for name in os.listdir(unpacked)} == {"."}
    assert sorted(name[0] for name in os.listdir(out)) == ["d", "f", "f"]


def test_files_that_are_not_orphans_stay(tmp_path: Path) -> None:
    """Files of a live process, of another program, or with other modes."""
    with subprocess.Popen(
        [sys.executable, "-c", KILLED.replace("os.kill(os.getpid(), signal.SIGKILL)",
         "print('made', flush=True); sys.stdin.read()"), tmp_path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as other:  # fmt: skip
        assert other.stdout is not None
        assert other.stdout.readline() == b"made\n"
        living_ones = set(os.listdir(tmp_path))
        shutil.copytree(tmp_path, tmp_path / "elsewhere")
        first = killed(tmp_path)
        directory = next(name for name in first if (tmp_path / name).is_dir() and name[0] == "f")
        stay = set()
        stem, random = directory[:-32], directory[-32:]
        for i, mode in enumerate((0o755, 0o700, 0o500)):
            # A different name, whatever its first digit is.
            name = f"{stem}{int(random[0], 16) ^ (i + 1):x}{random[1:]}"
            if mode == 0o700:
                name = f"fastsmaps-{'0' * 8}-{random}"  # from another host
            (tmp_path / name).mkdir(mode=0o700)
            (tmp_path / name).chmod(mode)
            stay.add(name)
        for name in ("fastsmaps-abcdefgh", "fastsmaps-", f"{stem}{random}x", f"{stem}{'g' * 32}"):
            (tmp_path / name).mkdir(mode=0o700)
            stay.add(name)
        link, fifo = f"{stem}{'a' * 32}", f"{stem}{'b' * 32}"
        (tmp_path / link).symlink_to(tmp_path / "elsewhere")
        os.mkfifo(tmp_path / fifo, 0o600)
        Temporary(str(tmp_path), UNPACKED, directory=True).remove()
        Temporary(str(tmp_path), UNFINISHED).remove()
        found = set(os.listdir(tmp_path))
        assert found == living_ones | stay | {link, fifo, "elsewhere"}
        assert len(list((tmp_path / "elsewhere").iterdir())) == 4
        other.kill()


def test_another_users_orphan_stays(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("nobody but root can make files of another user")
    (directory,) = (
        name for name in killed(tmp_path) if (tmp_path / name).is_dir() and name[0] != "."
    )
    os.chown(tmp_path / directory, 12345, 12345)
    Temporary(str(tmp_path), UNPACKED, directory=True).remove()
    assert directory in os.listdir(tmp_path)


def test_parallel_processes_keep_their_own_files(tmp_path: Path) -> None:
    """A file that was just made and is not locked yet is not taken for an orphan."""
    code = (
        "import sys; from fastsmaps._output.temporary import Temporary\n"
        "for _ in range(200):\n"
        "    temporary = Temporary(sys.argv[1], 'fastsmaps-', directory=True)\n"
        "    open(temporary.path + '/file', 'x').close()\n"
        "    temporary.remove()\n"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path], stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    assert [child.communicate(timeout=processes.TIMEOUT)[1] for child in children] == [b""] * 4
    assert [child.returncode for child in children] == [0] * 4
    assert os.listdir(tmp_path) == []


# ---- in a program


def test_fork_removes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tar(tmp_path / "a", {"7/smaps": SMAPS})
    (tmp_path / "unpacked").mkdir()
    monkeypatch.setattr("tempfile.tempdir", f"{tmp_path}/unpacked")
    capture = fastsmaps.open_capture(path)
    with capture as directory:

        def leave() -> bool:
            capture.__exit__(None, None, None)
            return os.path.isdir(directory)

        assert processes.run_in_child(leave)
        assert os.listdir(directory) == ["7"]
    assert os.listdir(tmp_path / "unpacked") == []


def test_library_sets_no_signal_handler(tmp_path: Path) -> None:
    code = (
        "import signal, sys, fastsmaps\n"
        "def handlers(): return [signal.getsignal(n) for n in signal.valid_signals()]\n"
        "before = handlers()\n"
        "fastsmaps.capture(sys.argv[1], ['self'] and [__import__('os').getpid()])\n"
        "with fastsmaps.open_capture(sys.argv[1]): assert handlers() == before\n"
        "assert signal.set_wakeup_fd(-1) == -1\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.tar"], check=True)


def test_interpreter_exit_removes_what_is_unpacked(tmp_path: Path) -> None:
    """The program never leaves the block, as with sys.exit() in a suspended generator."""
    code = (
        "import sys, tempfile, fastsmaps\n"
        "tempfile.tempdir = sys.argv[2]\n"
        "opened = fastsmaps.open_capture(sys.argv[1])\n"
        "opened.__enter__()\n"
        "opened.cycle = opened\n"
        "sys.exit()\n"
    )
    path = tar(tmp_path / "a", {"7/smaps": SMAPS})
    (tmp_path / "unpacked").mkdir()
    subprocess.run([sys.executable, "-c", code, path, tmp_path / "unpacked"], check=True)
    assert os.listdir(tmp_path / "unpacked") == []
