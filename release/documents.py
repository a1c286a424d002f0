"""The man page and the completion of shells, made from the command's own parser.

    python release/documents.py man completion [--into DIRECTORY]

writes them to release/share, from where pyproject.toml takes them into the sdist and the wheels.
They are made once for a release and not at each build, so that building needs no more than
setuptools and Cython, and runs nothing of the package. They are in no commit.
"""

from __future__ import annotations

import argparse
import os
from datetime import date
from pathlib import Path

import shtab
from argparse_manpage.manpage import Manpage

import fastsmaps
from fastsmaps.cli.main import COMMANDS, EXAMPLES, module_of, parser

SHELLS = {
    "bash": "bash-completion/completions/fastsmaps",
    "zsh": "zsh/site-functions/_fastsmaps",
    "fish": "fish/vendor_completions.d/fastsmaps.fish",
}

# Where an argument says with its metavar that it is a file, or a process, which may be a file.
FILES = {"FILE", "DIR", "DIR|CAPTURE"}
PROCESSES = {"PID", "OLD", "NEW", "PID|COMMAND"}
# shtab tells from "_file" in the name that spaces in what it gives need a backslash.
PROCESS = {
    "bash": "_fastsmaps_process_or_file",
    "zsh": "{_pids; _files}",
    "fish": "(__fish_complete_pids; __fish_complete_path (commandline -ct))",
    "preamble": {
        "bash": """\
_fastsmaps_process_or_file() {
  compgen -W "$(cd /proc && echo [0-9]*)" -- "$1"
  compgen -f -- "$1"
}""",
    },
}


def commands_of(top: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of a parser's commands, by name; to be changed in place."""
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            choices: dict[str, argparse.ArgumentParser] = action.choices
            return choices
    raise LookupError("no commands")


def whole_parser() -> argparse.ArgumentParser:
    """The command's parser with the arguments of all commands: it makes those of one at a time."""
    top = parser()
    commands = commands_of(top)
    for name in COMMANDS:
        commands[name] = commands_of(parser(name))[name]
        for action in commands[name]._actions:
            if action.dest == "workers":
                # It depends on the machine that this runs on.
                action.default = "the number of processors, at most 4"
    return top


# ---- man page


def roff(text: str) -> str:
    """Lines as they are."""
    lines = text.rstrip("\n").replace("\\", r"\e").replace("-", r"\-").splitlines()
    return "\n".join(["\\&" + line if line.startswith((".", "'")) else line for line in lines])


def man_page() -> str:
    """fastsmaps(1)."""
    # How wide the terminal is must not matter.
    os.environ["COLUMNS"] = "78"
    top = whole_parser()
    examples, _, notes = EXAMPLES.removeprefix("examples:\n").rpartition("\n\n")
    top.epilog = None
    top._positionals.title = "commands"
    for command in commands_of(top).values():
        # The line of the list of commands, and examples: told elsewhere.
        command.description = command.epilog = None
    page = Manpage(top, format="single-commands-section")
    page.source = f"fastsmaps {fastsmaps.__version__}"
    page.manual = "User Commands"
    page.description = "the memory of Linux processes, from smaps and smaps_rollup"
    # Hyphens of a date are no minus signs; SOURCE_DATE_EPOCH may have set it.
    page.date = f"{date.fromisoformat(page.date):%B %-d, %Y}"
    for name in COMMANDS:
        examples += f"\n\n{module_of(name).EXAMPLES}"
    page.add_section("examples", "=", f".nf\n{roff(examples)}\n.fi")
    page.add_section("notes", "=", roff(notes))
    page.add_section(
        "environment",
        "=",
        ".TP\nFASTSMAPS_BACKEND\n"
        + roff('"auto", "c" or "python": whether the compiled core is used (default: "auto").')
        + "\n.TP\nNO_COLOR\nNo colour on a terminal.",
    )
    page.add_section(
        "see also",
        "=",
        ".BR proc_pid_smaps (5),\n.BR proc_pid_maps (5),\n.BR pmap (1),\n.BR ps (1)",
    )
    return str(page)


# ---- completion


def completions() -> dict[str, str]:
    """The completion's text by shell."""
    top = whole_parser()
    for command in commands_of(top).values():
        for action in command._actions:
            if action.metavar in FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif action.metavar in PROCESSES:
                action.complete = PROCESS  # type: ignore[attr-defined]
    return {shell: shtab.complete(top, shell) for shell in SHELLS}


def documents(wanted: list[str]) -> dict[str, str]:
    """Texts by their place in a share directory."""
    made = {}
    if "man" in wanted:
        made["man/man1/fastsmaps.1"] = man_page()
    if "completion" in wanted:
        made.update({SHELLS[shell]: text for shell, text in completions().items()})
    return made


def main() -> None:
    """Writes what is asked for."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("wanted", nargs="+", choices=("man", "completion"))
    options.add_argument("--into", type=Path, default=Path(__file__).with_name("share"))
    args = options.parse_args()
    for place, text in documents(args.wanted).items():
        path: Path = args.into / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.rstrip("\n") + "\n")
        print(path)


if __name__ == "__main__":
    main()
