"""What all commands print: colours, wide letters, the names of files."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

from fastsmaps._output.display import cell_width, cut_cells
from fastsmaps.cli.output import plain_lines, wrapped
from support.commands import COMMAND, ZOO, environment, on_terminal, run
from support.metrics import write_process

ESC = "\x1b["
SELF = str(os.getpid())


def plain_text(text: str) -> str:
    """Return what a terminal shows of a text."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\r", "")


def printed(*options: str, terminal: bool = False, **variables: str) -> str:
    """Return the output of `ps` with these environment variables."""
    plain = {"NO_COLOR": "", "FORCE_COLOR": "", "TERM": "xterm", **variables}
    if not terminal:
        return run("ps", SELF, *options, env=environment(**plain)).stdout
    setting = [f"{name}={value}" for name, value in plain.items()]
    return on_terminal("ps", SELF, *options, command=["env", *setting, *COMMAND])


@pytest.mark.parametrize("terminal", [False, True])
def test_color(backend: ModuleType, terminal: bool) -> None:
    def coloured(*options: str, **variables: str) -> bool:
        return ESC in printed(*options, terminal=terminal, **variables)

    assert coloured() is coloured("--color=auto") is terminal
    assert coloured("--color=always", NO_COLOR="1", TERM="dumb")
    assert not coloured("--color=never", FORCE_COLOR="1")
    assert coloured(FORCE_COLOR="1")
    assert not coloured(FORCE_COLOR="1", NO_COLOR="1")
    assert not coloured(TERM="dumb")
    assert ESC not in printed("--color=always", "--json", terminal=terminal)


def test_color_is_checked(backend: ModuleType) -> None:
    assert "invalid choice: 'red'" in run("ps", "--color=red", status=2).stderr


# ---- wide letters


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("abc", 3),
        ("", 0),
        ("é", 1),
        ("e\u0301", 1),
        ("日本", 4),
        ("🎉!", 3),
        ("\uff57", 2),
        ("·", 1),
    ],
)
def test_cells_of_a_text(text: str, width: int) -> None:
    assert cell_width(text) == width
    assert cut_cells(text, width) == text
    assert cut_cells(text, None) == text
    assert cell_width(cut_cells(text, width - 1)) < max(width, 1)


def test_wide_letters_are_aligned_and_cut() -> None:
    rows = [["日本", "日本語"], ["ab", "x"]]
    assert plain_lines(["A", "B"], rows, ["A", "B"], None) == ["A     B", "日本  日本語", "ab    x"]
    assert plain_lines(["A", "B"], rows, [], None) == [
        "   A       B", "日本  日本語", "  ab       x"
    ]  # fmt: skip
    # Half a letter does not fit.
    rows = [["日本", "日本語日本語"], ["ab", "x"]]
    assert plain_lines(["A", "B"], rows, ["A", "B"], 15)[1:] == ["日本  日本語日", "ab    x"]


@pytest.mark.parametrize("without_rich", [False, True])
def test_wide_names_fit_the_terminal(
    backend: ModuleType, tmp_path: Path, without_rich: bool
) -> None:
    write_process(tmp_path / "host", 7)
    (tmp_path / "host/7/cmdline").write_bytes("/bin/木\0{}\0".format("森" * 200).encode())
    text = on_terminal("ps", "--procfs", str(tmp_path / "host"), without_rich=without_rich)
    (line,) = [line for line in text.splitlines() if "木" in line]
    assert 60 < cell_width(line.split("\x1b[")[0].rstrip()) <= 100


@pytest.mark.parametrize("without_rich", [False, True])
def test_numbers_are_never_cut(backend: ModuleType, without_rich: bool) -> None:
    """With so many fields only the last column could be cut, and the terminal wraps the lines."""
    names = "pss,uss,rss,swap,locked,pss_dirty,pss_anon,pss_file,private_clean,private_dirty,ppid"
    text = on_terminal("ps", SELF, "--fields", names, without_rich=without_rich)
    head, first, *_ = plain_text(text).splitlines()
    assert "…" not in head + first.partition("python")[0]
    assert head.split() == ["PID", "USER", *names.upper().split(","), "COMMAND"]
    assert str(os.getppid()) in first.split()


def test_long_texts_are_cut_before_the_last_column(backend: ModuleType, tmp_path: Path) -> None:
    write_process(tmp_path / "host", 7)
    (tmp_path / "host/7/cmdline").write_bytes(b"/opt/%b/program\0--option\0" % (b"x" * 50))
    (tmp_path / "host/7/cgroup").write_text("0::/%s\n" % ("group" * 30))
    where = ("ps", "--procfs", str(tmp_path / "host"))
    head, row, *_ = plain_text(on_terminal(*where, "--cgroup")).splitlines()
    assert head.split()[-2:] == ["CGROUP", "COMMAND"]
    assert len(row) <= 100
    assert row.endswith("… program --option")
    # The program's path, in the last column.
    head, row, *_ = plain_text(on_terminal(*where, "--fields", "cmdline,pss")).splitlines()
    assert head.split() == ["PID", "USER", "PSS", "COMMAND"]
    assert " /opt/xxx" in row
    assert len(row) <= 100
    head, row, *_ = run(*where, "--fields", "cmdline,pss").stdout.splitlines()
    assert head.split() == ["PID", "USER", "PSS", "KiB", "COMMAND"]
    assert row.endswith("xx/program --option")


def test_lines_of_errors_and_notes_end_between_words(backend: ModuleType) -> None:
    text = plain_text(
        on_terminal(command=["sh", "-c", shlex.join([*COMMAND, "ps", "--sort", "x"]) + " || true"])
    )
    lines = text.splitlines()
    assert len(lines) > 3
    assert max(map(len, lines)) <= 100
    assert " ".join(lines) + "\n" == run("ps", "--sort", "x", status=2).stderr
    assert wrapped("a --b-c d", 5) == "a\n--b-c\nd"


# ---- files


def test_last_line_names_the_files(backend: ModuleType, tmp_path: Path) -> None:
    page, capture = tmp_path / "page.html", tmp_path / "host.tar"
    done = run("maps", ZOO, "--plot", str(page))
    assert done.stderr == f"Wrote {page}\n"
    assert done.stdout == run("maps", ZOO).stdout
    done = run("capture", SELF, "-o", str(capture))
    assert done.stderr == f"Wrote {capture}\n"
    assert done.stdout.endswith("1 of 1 processes read\n")
    saved = [str(tmp_path / "x.csv"), "--", "true"]
    done = run("watch", "--csv", *saved)
    assert done.stderr.endswith(f"\nWrote {saved[0]}\n")
    # With -o standard error is the command's alone.
    assert run("watch", "-o", str(tmp_path / "report"), "--csv", *saved).stderr == ""
    done = run("maps", ZOO, "--plot", str(tmp_path / "\x1b[1m"))
    assert done.stderr == f"Wrote {tmp_path}/\\x1b[1m\n"
    done = run("maps", ZOO, "--plot", str(tmp_path / "nowhere/x"), status=1)
    assert "Wrote" not in done.stderr
