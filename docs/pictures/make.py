"""Make the pictures of the commands on a terminal, and of a page.

    sudo .venv/bin/python docs/pictures/make.py

needs rich, util-linux, Chromium and the right to create namespaces. The processes in the pictures
are real. They run in their own pid namespace, so that nothing else of the host is visible.
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
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

COLUMNS, ROWS = 88, 20
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


def screen(arguments: str) -> str:
    """Return the last screen that the command drew; q ends a command that keeps running."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        for name in NAMES:
            Path(directory, f"{name}.py").write_text(SERVICE)
        Path(directory, "services").write_text(SERVICES)
        master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (ROWS, COLUMNS))
        with subprocess.Popen(
            ["unshare", "--mount-proc", "--pid", "--kill-child", "sh", "services"],
            cwd=directory,
            env={
                "PATH": "/usr/bin:/bin",
                "TERM": "xterm-256color",
                "LANG": "C.UTF-8",
                "BIN": str(Path(sys.executable).parent),
                "ARGUMENTS": arguments,
            },
            stdin=slave,
            stdout=slave,
            stderr=slave,
        ) as process:
            os.close(slave)
            output = b""
            with contextlib.suppress(OSError), open(master, "r+b", buffering=0) as terminal:
                while data := terminal.read(1 << 16):
                    output += data
                    if output.count(b"\x1b[H") == 3:
                        terminal.write(b"q")
    if process.returncode:
        sys.exit(output.decode(errors="replace"))
    # top restores the previous screen at its end; each drawing begins at the upper left.
    return output.decode().split("\x1b[?25h")[0].split("\x1b[H")[-1]


def page() -> None:
    """Write the picture of a report's page."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "report.html")
        screen(f"report -o {file}")
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


for name, arguments in {"ps": "ps --limit 12", "top": "top"}.items():
    (HERE / f"{name}.svg").write_text(picture(f"fastsmaps {arguments}", screen(arguments)))
page()
