"""Make the man page and the shell completions from the command's parser.

    python release/documents.py man completion [--into DIRECTORY]

writes them to release/share; pyproject.toml includes them in the sdist and the wheels from there.
They are made once per release, not at each build: so a build needs only setuptools and Cython, and
runs no code of the package. They are not committed.
"""

from __future__ import annotations

import argparse
import os
from datetime import date
from pathlib import Path

import shtab
from argparse_manpage.manpage import Manpage

import fastsmaps
from fastsmaps.cli.command import command_module
from fastsmaps.cli.parser import COMMANDS, EXAMPLES, make_parser

SHELLS = {
    "bash": "bash-completion/completions/fastsmaps",
    "zsh": "zsh/site-functions/_fastsmaps",
    "fish": "fish/vendor_completions.d/fastsmaps.fish",
}

# Metavars of arguments that are files, and of those that are processes or files.
FILES = {"FILE", "DIR", "DIR|CAPTURE"}
PROCESSES = {"PID", "OLD", "NEW", "PID|COMMAND"}
# The "_file" in the name tells shtab to escape spaces.
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
    """Return the parsers of the commands by name; changes to the dict change the parser."""
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            choices: dict[str, argparse.ArgumentParser] = action.choices
            return choices
    raise LookupError("no commands")


def whole_parser() -> argparse.ArgumentParser:
    """Return the parser with the arguments of all commands; make_parser() adds those of one."""
    top = make_parser()
    commands = commands_of(top)
    for name in COMMANDS:
        commands[name] = commands_of(make_parser(name))[name]
        for action in commands[name]._actions:
            if action.dest == "workers":
                # The default depends on the build machine.
                action.default = "the number of processors, at most 4"
    return top


# ---- man page


def roff(text: str) -> str:
    """Escape lines for roff."""
    lines = text.rstrip("\n").replace("\\", r"\e").replace("-", r"\-").splitlines()
    return "\n".join(["\\&" + line if line.startswith((".", "'")) else line for line in lines])


def man_page() -> str:
    """Return fastsmaps(1)."""
    # The terminal's width must not matter.
    os.environ["COLUMNS"] = "78"
    top = whole_parser()
    examples, _, notes = EXAMPLES.removeprefix("examples:\n").rpartition("\n\n")
    top.epilog = None
    top._positionals.title = "commands"
    for command in commands_of(top).values():
        # Summaries and examples have their own places.
        command.description = command.epilog = None
    page = Manpage(top, format="single-commands-section")
    page.source = f"fastsmaps {fastsmaps.__version__}"
    page.manual = "User Commands"
    page.description = "the memory of Linux processes, from smaps and smaps_rollup"
    # A date's hyphens would become minus signs; SOURCE_DATE_EPOCH may have set the date.
    page.date = f"{date.fromisoformat(page.date):%B %-d, %Y}"
    for name in COMMANDS:
        examples += f"\n\n{command_module(name).EXAMPLES}"
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
    """Return the completion scripts by shell."""
    top = whole_parser()
    for command in commands_of(top).values():
        for action in command._actions:
            if action.metavar in FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif action.metavar in PROCESSES:
                action.complete = PROCESS  # type: ignore[attr-defined]
    return {shell: shtab.complete(top, shell) for shell in SHELLS}


def documents(wanted: list[str]) -> dict[str, str]:
    """Return the texts by their paths in a share directory."""
    made = {}
    if "man" in wanted:
        made["man/man1/fastsmaps.1"] = man_page()
    if "completion" in wanted:
        made.update({SHELLS[shell]: text for shell, text in completions().items()})
    return made


def main() -> None:
    """Write the requested documents."""
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
