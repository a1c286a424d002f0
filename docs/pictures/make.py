"""Make the pictures of the commands on a terminal, and of a page.

    sudo .venv/bin/python docs/pictures/make.py

needs rich, util-linux, tmux, Chromium and the right to create namespaces. The processes in the
pictures are real. They run in their own pid namespace, so that nothing else of the host is visible.
"""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

COLUMNS, ROWS = 104, 20
HERE = Path(__file__).parent

# Each service has private memory, and shares some with the processes that it forks.
SERVICE = """\
import os, random, time
private, shared, workers = map(int, os.environ["MIB"].split())
kept = b"x" * (shared << 20)
for _ in range(workers):
    if not os.fork():
        break
used = b"x" * int((private << 20) * random.uniform(0.8, 1.4))
time.sleep(3600)
"""
NAMES = ("shop", "snapshot", "indexer", "mailer", "thumbnails", "metrics")
# MIB: a process's private memory, the memory shared with its children, and their number.
SERVICES = """\
as() { user=$1; shift; setpriv --reuid $user --clear-groups "$@" & }
export MIB
MIB='410 0 0'; as root python3 indexer.py
MIB='60 180 3'; as www-data python3 shop.py --workers 3
MIB='24 40 1'; as backup python3 snapshot.py --to vault
MIB='33 0 0'; as www-data python3 thumbnails.py
MIB='17 0 0'; as mail python3 mailer.py --queue outgoing
MIB='9 0 0'; as nobody python3 metrics.py --port 9100
touch access.log; as www-data tail -F access.log
echo 'sleep 3600; echo' > nightly.sh; as root bash nightly.sh
sleep 3 # until all of them have allocated their memory
PATH=$BIN:$PATH python3 -m fastsmaps $ARGUMENTS
"""


@contextlib.contextmanager
def services(arguments: str) -> Iterator[tuple[list[str], str, dict[str, str]]]:
    """Yield what runs the services and the command: words, directory and environment."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        for name in NAMES:
            Path(directory, f"{name}.py").write_text(SERVICE)
        Path(directory, "services").write_text(SERVICES)
        yield (
            ["unshare", "--mount-proc", "--pid", "--kill-child", "sh", "services"],
            directory,
            {
                "PATH": "/usr/bin:/bin",
                "TERM": "xterm-256color",
                "LANG": "C.UTF-8",
                "BIN": str(Path(sys.executable).parent),
                "ARGUMENTS": arguments,
            },
        )


def output(arguments: str) -> str:
    """Return what the command prints on a terminal."""
    with services(arguments) as (words, directory, environment):
        master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (ROWS, COLUMNS))
        with subprocess.Popen(
            words, cwd=directory, env=environment, stdin=slave, stdout=slave, stderr=slave
        ) as process:
            os.close(slave)
            text = b""
            with contextlib.suppress(OSError), open(master, "rb", buffering=0) as terminal:
                while data := terminal.read(1 << 16):
                    text += data
    if process.returncode:
        sys.exit(text.decode(errors="replace"))
    return text.decode()


def screen(keys: str) -> str:
    """Return the live screen in tmux, a real terminal, after these keys."""
    tmux = ["tmux", "-L", "fastsmaps-pictures", "-f", "/dev/null"]
    with services("top") as (words, directory, environment):
        size = ["-x", str(COLUMNS), "-y", str(ROWS)]
        subprocess.run(
            [*tmux, "new-session", "-d", *size, *words], cwd=directory, env=environment, check=True
        )
        try:
            for key, shown in (("", "of a core"), *((key, "") for key in keys.split())):
                if key:
                    subprocess.run([*tmux, "send-keys", key], env=environment, check=True)
                time.sleep(20)  # some samples, after which what top takes is steady
                while shown not in (text := _pane(tmux, environment)):
                    time.sleep(0.2)
            return text
        finally:
            subprocess.run([*tmux, "kill-server"], env=environment, check=True)


def _pane(tmux: list[str], environment: dict[str, str]) -> str:
    command = [*tmux, "capture-pane", "-e", "-p"]
    return subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True
    ).stdout


def page() -> None:
    """Write the picture of a report's page."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "report.html")
        output(f"report -o {file}")
        file.write_text(file.read_text().replace(str(file), file.name))
        subprocess.run(
            [
                *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *("--window-size=1200,700", f"--screenshot={HERE / 'report.png'}"),
                f"{file.as_uri()}#Processes",
            ],
            check=True,
            env={**os.environ, "HOME": directory},
        )


def picture(title: str, text: str) -> str:
    """Return an SVG that loads nothing from the network."""
    console = Console(width=COLUMNS, record=True, file=io.StringIO(), force_terminal=True)
    # from_ansi() knows colours but no sequences that clear a part of the screen.
    console.print(Text.from_ansi(re.sub(r"\x1b\[[JK]", "", text.replace("\r", "")).rstrip()))
    svg = console.export_svg(
        title=title, theme=MONOKAI, unique_id="terminal", font_aspect_ratio=0.6
    )
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return svg.replace(
        "Fira Code, monospace", "Fira Code, Menlo, Consolas, DejaVu Sans Mono, monospace"
    )


def write(name: str, title: str, text: str) -> None:
    """Write a picture of a terminal."""
    (HERE / f"{name}.svg").write_text(picture(title, text))


write("ps", "fastsmaps ps --limit 12", output("ps --limit 12"))
write("top", "fastsmaps top", screen(""))
write("top-process", "fastsmaps top, Enter", screen("Enter"))
page()
