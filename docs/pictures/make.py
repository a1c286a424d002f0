"""Makes the pictures of the README: the commands as they look on a terminal.

    sudo .venv/bin/python docs/pictures/make.py

wants rich, util-linux and the right to make namespaces: the processes in the pictures are real and
are started here, in a namespace of their own, so that nothing else of the host is to be seen.
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

# Processes of any program look like these: some own memory, some share it with who forked them.
SERVICE = """\
import os, random, time
own, shared, workers = map(int, os.environ["MIB"].split())
kept = b"x" * (shared << 20)
for _ in range(workers):
    if not os.fork():
        break
used = b"x" * int((own << 20) * random.uniform(0.8, 1.4))
time.sleep(3600)
"""
NAMES = ("shop", "snapshot", "indexer", "mailer", "thumbnails", "metrics")
# MIB: a process's own memory, what it shares with those that it forks, and how many these are.
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
sleep 3 # for all of them to be there
PATH=$BIN:$PATH python3 -m fastsmaps $ARGUMENTS
"""


def screen(arguments: str) -> str:
    """Return the last screen that the command drew; q ends a command that runs on."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        for name in NAMES:
            Path(directory, f"{name}.py").write_text(SERVICE)
        Path(directory, "services").write_text(SERVICES)
        here, there = pty.openpty()
        termios.tcsetwinsize(there, (ROWS, COLUMNS))
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
            stdin=there,
            stdout=there,
            stderr=there,
        ) as process:
            os.close(there)
            seen = b""
            with contextlib.suppress(OSError), open(here, "r+b", buffering=0) as terminal:
                while data := terminal.read(1 << 16):
                    seen += data
                    if seen.count(b"\x1b[H") == 3:
                        terminal.write(b"q")
    if process.returncode:
        sys.exit(seen.decode(errors="replace"))
    # What top leaves behind is the screen as it was before; a drawing begins at its upper left.
    return seen.decode().split("\x1b[?25h")[0].split("\x1b[H")[-1]


def picture(title: str, text: str) -> str:
    """Draw an SVG that loads nothing from the network."""
    console = Console(width=COLUMNS, record=True, file=io.StringIO(), force_terminal=True)
    # from_ansi() knows colours, and none of the sequences that clear what is not there.
    console.print(Text.from_ansi(re.sub(r"\x1b\[[JK]", "", text.replace("\r", "")).rstrip()))
    svg = console.export_svg(
        title=title, theme=MONOKAI, unique_id="terminal", font_aspect_ratio=0.6
    )
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return svg.replace(
        "Fira Code, monospace", "Fira Code, Menlo, Consolas, DejaVu Sans Mono, monospace"
    )


for name, arguments in {"ps": "ps --human --limit 12", "top": "top"}.items():
    (HERE / f"{name}.svg").write_text(picture(f"fastsmaps {arguments}", screen(arguments)))
