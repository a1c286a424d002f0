"""The package's version, modules, man page and shell completions."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import pty
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastsmaps
from fastsmaps.cli.parser import COMMANDS, make_parser
from support import processes

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with all generated documents, as for a release."""
    into = tmp_path_factory.mktemp("share")
    generate(into, "man", "completion")
    return into


def generate(into: Path, *wanted: str, **environment: str) -> None:
    subprocess.run(
        [sys.executable, ROOT / "release/documents.py", *wanted, "--into", into],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        check=True,
    )


def arguments_of(name: str) -> list[argparse.Action]:
    """Arguments of a command's parser."""
    for action in make_parser(name)._actions:
        if isinstance(action, argparse._SubParsersAction):
            command: argparse.ArgumentParser = action.choices[name]
            return command._actions
    raise LookupError(name)


def test_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == fastsmaps.__version__
    assert importlib.metadata.version("fastsmaps") == fastsmaps.__version__
    assert f"## [{fastsmaps.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_install_hints_match_the_extras() -> None:
    """A hint names the package itself, so that it works without a package index of ours."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = {name for names in project["optional-dependencies"].values() for name in names}
    hints = {
        hint
        for path in (ROOT / "fastsmaps").rglob("*.py")
        for hint in re.findall(r'pip install "([^"]+)"', path.read_text())
    }
    assert len(hints) >= 2
    assert hints <= required


def test_every_module_is_packaged() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
        "packages"
    ]
    directories = {path.parent for path in (ROOT / "fastsmaps").rglob("*.py")}
    assert {ROOT / name.replace(".", "/") for name in packages} == directories


def test_every_file_beside_the_modules_is_packaged() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
        "package-data"
    ]
    packaged = {
        path
        for package, patterns in data.items()
        for pattern in patterns
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    listed = subprocess.run(
        ["git", "ls-files", "fastsmaps"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    files = {ROOT / name for name in listed if not name.endswith(".py")}
    assert files <= packaged
    assert ROOT / "fastsmaps/_output/page.js" in packaged


# ---- building with tools that are too old


def only(package: str, into: Path) -> dict[str, str]:
    """Install a package from the index; return the environment in which Python imports it."""
    options = ["-q", "--no-deps", "--target", str(into)]
    pip = [sys.executable, "-m", "pip", "install", *options, package]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"pip cannot install {package}: {done.stderr[-300:]}")
    return {**os.environ, "PYTHONPATH": str(into)}


@pytest.mark.slow  # downloads a package
@pytest.mark.parametrize(
    "package", ["setuptools==66.1.1", "Cython==0.29.32"], ids=["setuptools", "Cython"]
)
def test_build_tools_of_debian_12_are_named_as_too_old(package: str, tmp_path: Path) -> None:
    """With --no-build-isolation pip builds with what is installed."""
    name, version = package.split("==")
    environment = only(package, tmp_path / "old") | {"FASTSMAPS_BUILD_EXTENSION": "1"}
    if name == "Cython":
        # A virtual environment has an older one, or none.
        only("setuptools", tmp_path / "old")
    project = tmp_path / "project"
    project.mkdir()
    for file in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, project)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", project],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"{name} {version} is too old" in done.stdout + done.stderr
    assert f'pip install "{name}>=' in done.stdout + done.stderr


def test_setup_requires_the_versions_in_pyproject() -> None:
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    text = (ROOT / "setup.py").read_text()
    assert requires == ["setuptools>=77", "Cython>=3.1"]
    assert "SETUPTOOLS = 77\n" in text
    assert "CYTHON = (3, 1)\n" in text


# ---- the man page


def man_section(text: str, name: str) -> str:
    """Section of a command in the man page."""
    return text.partition(f"\n.SS \\fBfastsmaps {name}\\fR\n")[2].partition("\n.S")[0]


def test_man_page_lists_every_command_and_option(share: Path) -> None:
    text = (share / "man/man1/fastsmaps.1").read_text()
    for name, summary in COMMANDS.items():
        section = man_section(text, name).replace(r"\-", "-")
        assert summary in section
        for action in arguments_of(name):
            # The usage and a note mention --help.
            for option in action.option_strings[:1] or [str(action.metavar)]:
                assert option in section, (name, option)
    assert "COMMAND --help" in text.replace(r"\-", "-")


@pytest.mark.uninstrumented(reason="groff is checked too and fails")
@pytest.mark.parametrize(
    "command",
    [
        ["man", "-l", "--warnings", "-E", "UTF-8"],
        ["groff", "-mandoc", "-ww", "-z", "-Tutf8"],
        ["mandoc", "-Tlint", "-W", "warning"],
    ],
    ids=lambda command: command[0],
)
def test_man_page_renders_without_warnings(share: Path, command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(
        [*command, share / "man/man1/fastsmaps.1"],
        env={**os.environ, "MANROFFSEQ": "", "MANWIDTH": "100", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    if command[0] == "man":
        assert "fastsmaps capture -o host7.tar.gz" in done.stdout
    else:
        assert done.stdout == ""


def test_documents_are_reproducible(share: Path, tmp_path: Path) -> None:
    environment = {"SOURCE_DATE_EPOCH": "1700000000", "COLUMNS": "200", "LC_ALL": "C"}
    generate(tmp_path / "a", "man", "completion", **environment)
    generate(tmp_path / "b", "man", "completion", **{**environment, "COLUMNS": "40"})
    files = [path.relative_to(share) for path in share.rglob("*") if path.is_file()]
    assert len(files) == 4
    for file in files:
        assert (tmp_path / "a" / file).read_text() == (tmp_path / "b" / file).read_text()
    assert "November 14, 2023" in (tmp_path / "a/man/man1/fastsmaps.1").read_text()


# ---- completion


class Shell:
    """An interactive bash on a terminal, with only our completion loaded."""

    def __init__(self, script: Path, cwd: Path) -> None:
        self._controller, terminal = pty.openpty()
        self._output = ""
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-i"],
            stdin=terminal, stdout=terminal, stderr=terminal, cwd=cwd, start_new_session=True,
            env={"PATH": os.environ["PATH"], "TERM": "dumb", "INPUTRC": os.devnull,
                 "HISTFILE": "", "PS1": "READY>", "HOME": str(cwd)},
        )  # fmt: skip
        os.close(terminal)
        self._until("READY>")
        # Completed lines are printed, not run.
        self.line(f"fastsmaps() {{ printf '<%s>' \"$@\"; }}; . '{script}'")

    def close(self) -> None:
        self._bash.kill()
        self._bash.wait()
        os.close(self._controller)

    def _until(self, text: str) -> str:
        deadline = time.monotonic() + processes.TIMEOUT
        while text not in self._output:
            assert time.monotonic() < deadline, self._output
            if processes.readable(self._controller, timeout=1):
                self._output += os.read(self._controller, 1 << 16).decode()
        before, _, self._output = self._output.partition(text)
        return before

    def line(self, keys: str) -> str:
        """Type a line with its tabs and return the output."""
        os.write(self._controller, f"{keys}\n".encode())
        return self._until("READY>")

    def completed(self, keys: str) -> list[str]:
        """Complete a line with tabs and return the resulting arguments."""
        return re.findall("<(.*?)>", self.line(f"fastsmaps {keys}").rpartition("\n")[2])


@pytest.fixture
def shell(share: Path, tmp_path: Path) -> Iterator[Shell]:
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    shell = Shell(share / "bash-completion/completions/fastsmaps", tmp_path)
    with contextlib.closing(shell):
        yield shell


def test_bash_completes_commands(shell: Shell) -> None:
    assert shell.completed("m\t") == ["maps"]
    assert shell.completed("cap\t") == ["capture"]
    assert shell.completed("--ver\t") == ["--version"]


def test_bash_completes_options_and_their_choices(shell: Shell) -> None:
    assert shell.completed("maps --fie\t") == ["maps", "--fields"]
    assert shell.completed("maps --by k\t") == ["maps", "--by", "kind"]
    assert shell.completed("ps --json --max\t64G --wor\t2 --cs\t") == [
        *("ps", "--json", "--max-rss", "64G", "--workers", "2", "--csv")
    ]


def test_bash_completes_files(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "saved of host.smaps").touch()
    (tmp_path / "captured").mkdir()
    assert shell.completed("maps sav\t") == ["maps", "saved of host.smaps"]
    assert shell.completed("diff sav\t sav\t") == ["diff", *["saved of host.smaps"] * 2]
    assert shell.completed("ps --procfs cap\t") == ["ps", "--procfs", "captured/"]


def test_bash_completes_processes(shell: Shell) -> None:
    own_pid = shell.line("_fastsmaps_process_or_file $$ | grep -x $$ | sed 's/^/<pid/;s/$/>/'")
    assert re.search("<pid[0-9]+>", own_pid)
    assert "<pid1>" in shell.line("_fastsmaps_process_or_file 1 | sed 's/^/<pid/;s/$/>/'")


@pytest.mark.parametrize(
    ("shell_name", "file"),
    [
        ("bash", "bash-completion/completions/fastsmaps"),
        ("zsh", "zsh/site-functions/_fastsmaps"),
        ("fish", "fish/vendor_completions.d/fastsmaps.fish"),
    ],
)
def test_completion_scripts_have_valid_syntax(share: Path, shell_name: str, file: str) -> None:
    text = (share / file).read_text()
    for name in COMMANDS:
        assert re.search(rf"\b{name}\b", text)
        for action in arguments_of(name):
            for option in action.option_strings:
                assert option.lstrip("-") in text, (name, option)
    if shutil.which(shell_name) is None:
        pytest.skip(f"{shell_name} is not installed")
    done = subprocess.run(
        [shell_name, "-n", share / file], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
