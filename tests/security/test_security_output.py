"""Output: on terminals, and in files in directories of other users."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import shutil
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import fastsmaps
from fastsmaps._output.files import atomic_file
from support import commands, linux, processes
from support.independent import DATA

pytestmark = pytest.mark.usefixtures("no_leak")

# ---- terminals

# Colours, a title, a query to the terminal, another writing direction, the CSI and OSC of C1,
# bytes that are not UTF-8, a carriage return, a newline, rich's tags.
EVIL = b"\x1b[31m\x1b]0;owned\x07\x1b[6n\xe2\x80\xae\xc2\x9b31m\xc2\x9d\x90\xff\r\t\x08[red]x[/red]"
#: No command may print any of these.
FORBIDDEN = ("\x1b[31m", "\x1b]0;", "\x1b[6n", "\u202e", "\x9b", "\x9d", "\x90", "\x07", "\x08")


#: The same as a file name.
NAME = os.fsdecode(EVIL.replace(b"/", b"|"))


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a capture in which every name is hostile, its directory's too."""
    root = tmp_path_factory.mktemp("evil") / NAME
    shutil.copytree(DATA / "captures/7.2-amd64/zoo", root / "7", copy_function=shutil.copyfile)
    header = b"7fffffff0000-7fffffff1000 r--p 0 0:0 5 /tmp/" + EVIL + b"\n"
    for name in ("maps", "smaps"):
        (root / "7" / name).write_bytes((root / "7" / name).read_bytes() + header)
    (root / "7/cmdline").write_bytes(EVIL + b"\0" + EVIL + b"\0")
    (root / "7/cgroup").write_bytes(b"0::/" + EVIL + b"\n")
    stat = (root / "7/stat").read_bytes()
    (root / "7/stat").write_bytes(b"7 (" + EVIL[:15] + b")" + stat.rpartition(b")")[2])
    (root / "8").mkdir()
    (root / "8/smaps").write_bytes(EVIL + b"\n")
    (root / "fastsmaps.json").write_text(
        '{"host": "\\u001b[31m\\u202e", "processes":'
        ' {"9": {"outcome": "denied", "error": "\\u001b[31m\\u0007\\u009b"}}}'
    )
    (root / "9").mkdir()
    return root


#: {} is the capture; the status is 1 if a named process or file cannot be read.
SHOWING: list[tuple[int, tuple[str, ...]]] = [
    (0, ("ps", "--procfs", "{}")),
    (0, ("ps", "--by", "comm", "--procfs", "{}")),
    (0, ("libs", "--procfs", "{}")),
    (0, ("maps", "7", "--procfs", "{}")),
    (0, ("maps", "7", "--by", "path", "--procfs", "{}")),
    (0, ("totals", "7", "--procfs", "{}")),
    (0, ("diff", "{}/7/smaps", "{}/7/smaps_rollup")),
    (0, ("top", "--iterations", "1", "--procfs", "{}")),
    (1, ("totals", "8", "9", "--procfs", "{}")),
    (1, ("maps", "8", "--procfs", "{}")),
    (1, ("maps", "{}/8/smaps")),
    (1, ("ps", "--procfs", "{}/nothing")),
    (1, ("ps", "--procfs", "{}/8/smaps")),
    (2, ("ps", "--sort", "{}")),
    (2, ("{}",)),
]


def plain(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize(
    ("status", "arguments"),
    SHOWING,
    ids=lambda x: " ".join(x)[:30] if isinstance(x, tuple) else None,
)
def test_no_escape_reaches_a_terminal(
    backend: ModuleType, evil: Path, status: int, arguments: tuple[str, ...]
) -> None:
    """No command prints one, in any format, on a terminal or not, on standard output or error."""
    words = [word.replace("{}", str(evil)) for word in arguments]
    forms: tuple[tuple[str, ...], ...] = ((), ("--json",), ("--csv",))
    for form in forms if status != 2 else forms[:1]:
        done = commands.run(*words, *form, status=status)
        assert plain(done.stdout), form
        assert plain(done.stderr), form
    with commands.Job(*words) as job:
        if arguments[0] == "top":
            job.until(lambda: "COMMAND" in job.text)
            job.press("q")
        assert job.read_line() == f"ended {status}", job.text
        text = job.text.replace("\x1b]22;default\x07", "")  # Textual: the form of the pointer
        assert not [what for what in FORBIDDEN if what in text]


def test_no_escape_from_a_capture_or_a_report(
    backend: ModuleType, evil: Path, tmp_path: Path
) -> None:
    words = [str(evil), str(tmp_path / NAME)]
    for arguments, status in (
        (("capture", "-o", f"{words[1]}.tar", "--procfs", words[0]), 0),
        (("capture", "-o", f"{words[1]}", "--procfs", words[0], "7", "8"), 1),
        (("export", "--once", "--by", "pid,cgroup", "--procfs", words[0]), 0),
        (("watch", "7", "--for", "0.01", "--procfs", words[0]), 0),
        (("watch", "7", "--for", "0.01", "--csv", f"{words[1]}/x/y", "--procfs", words[0]), 1),
    ):
        done = commands.run(*arguments, status=status)
        assert plain(done.stdout), arguments
        assert plain(done.stderr), arguments


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.REGTYPE])
def test_no_escape_from_a_refused_member(backend: ModuleType, tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / NAME
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo(f"../{NAME}")
        member.type, member.linkname = kind, "x"
        archive.addfile(member, io.BytesIO())
    done = commands.run("ps", "--procfs", str(path), status=1)
    assert "not unpacked" in done.stderr
    assert plain(done.stderr)


# ---- files


def write(path: Path) -> None:
    with atomic_file(path) as file:
        file.write(b"ours")


def capture(path: Path) -> None:
    fastsmaps.capture(path, [os.getpid()])


WRITERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "file": (write, "out"),
    "tar": (capture, "out.tar.gz"),
    "directory": (capture, "out"),
}
OBSTACLES = ("link", "dangling link", "link to a directory", "FIFO", "socket", "device")


@pytest.mark.parametrize("obstacle", OBSTACLES)
@pytest.mark.parametrize("writer", WRITERS)
def test_links_and_fifos_at_the_target_are_refused(
    tmp_path: Path, writer: str, obstacle: str
) -> None:
    """A link is not followed and a FIFO not waited for: refused, and nothing is left behind."""
    act, name = WRITERS[writer]
    path = tmp_path / name
    (tmp_path / "victim").write_text("kept")
    (tmp_path / "victims").mkdir()
    if obstacle == "FIFO":
        os.mkfifo(path)
    elif obstacle == "socket":
        with contextlib.chdir(tmp_path), socket.socket(socket.AF_UNIX) as server:
            server.bind(name)
    elif obstacle == "device":
        try:
            os.mknod(path, 0o20666, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("only root makes devices")
    else:
        targets = {"link": "victim", "dangling link": "new", "link to a directory": "victims"}
        path.symlink_to(targets[obstacle])
    before = sorted(os.listdir(tmp_path)), path.lstat()
    with pytest.raises(OSError, match=r"not a regular file|not a directory"):
        act(path)
    assert (sorted(os.listdir(tmp_path)), path.lstat()) == before
    assert (tmp_path / "victim").read_text() == "kept"


@pytest.mark.parametrize("writer", ["file", "tar"])
def test_hard_link_is_replaced_not_written_through(tmp_path: Path, writer: str) -> None:
    """The name of a hard link gets the new file; the old file is unchanged."""
    act, name = WRITERS[writer]
    (tmp_path / "victim").write_text("kept")
    os.link(tmp_path / "victim", tmp_path / name)
    act(tmp_path / name)
    assert (tmp_path / "victim").read_text() == "kept"
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_link_made_meanwhile_is_replaced_not_written_through(tmp_path: Path) -> None:
    """A link that wins the race is replaced, never followed."""
    path = tmp_path / "out"
    (tmp_path / "victim").write_text("kept")
    before = os.umask(0)
    try:
        with atomic_file(path) as file:
            (temporary,) = (name for name in os.listdir(tmp_path) if name != "victim")
            status = (tmp_path / temporary).stat()
            assert (status.st_mode & 0o777, status.st_size) == (0o600, 0)
            file.write(b"ours")
            path.symlink_to("victim")
    finally:
        os.umask(before)
    assert (tmp_path / "victim").read_text() == "kept"
    assert (path.is_symlink(), path.read_bytes()) == (False, b"ours")
    assert sorted(os.listdir(tmp_path)) == ["out", "victim"]


def test_errors_on_a_full_disk_stay_what_they_are(tmp_path: Path) -> None:
    """The error is not that of flushing the buffer, and nothing is left behind."""

    def stopped() -> None:
        with atomic_file(tmp_path / "out") as file:
            file.write(b"some")
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        processes.run_in_child(stopped)
    assert os.listdir(tmp_path) == []


def test_memory_error_for_a_buffer_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_memory(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("builtins.open", without_memory)
    with pytest.raises(MemoryError), atomic_file(tmp_path / "out"):
        pass
    monkeypatch.undo()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("writer", WRITERS)
def test_another_users_file_in_a_sticky_directory_stays(
    tmp_path_factory: pytest.TempPathFactory, writer: str
) -> None:
    """As in /tmp, another user's file stays; writing is refused, and nothing is left behind."""
    if os.geteuid() != 0:
        pytest.skip("only root has another user's files")
    act, name = WRITERS[writer]
    directory = tmp_path_factory.mktemp("sticky")
    # pytest's own; a worker of pytest-xdist has one more.
    depth = 3 if "PYTEST_XDIST_WORKER" in os.environ else 2
    for parent in (directory, *directory.parents[:depth]):
        os.chmod(parent, 0o711)
    os.chmod(directory, 0o1777)
    path = directory / name
    if writer == "directory":
        path.mkdir()
    else:
        path.write_text("theirs")
    os.chmod(path, 0o777)

    def as_nobody() -> str:
        linux.become(linux.NOBODY)
        try:
            act(path)
        except OSError as error:
            return error.strerror or ""
        return "written"

    assert "not permitted" in processes.run_in_child(as_nobody)
    assert os.listdir(directory) == [name]
    if writer != "directory":
        assert path.read_text() == "theirs"
