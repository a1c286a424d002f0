"""table KERNEL ARCH: the lines of docs/kernels.md, out of a machine's console on standard input."""

import re
import sys

COUNTS = re.compile(r"([0-9]+) (passed|failed|errors?|skipped)\b")


def lines(console: str, kernel: str, arch: str) -> list[str]:
    """A line for each who ran the tests; who never came to the end is told too."""
    version = re.search(r"^KERNEL (\S+)", console, re.MULTILINE)
    found = []
    for who in ("root", "watcher"):
        part = console.partition(f"BEGIN {who}\n")[2].partition(f"END {who}\n")
        last = [line for line in part[0].splitlines() if re.search(r" in [0-9.]+s", line)]
        counts: dict[str, int] = {}
        for number, word in COUNTS.findall(last[-1] if last and part[1] else ""):
            kind = "failed" if word.startswith("error") else word
            counts[kind] = counts.get(kind, 0) + int(number)
        figures = [counts.get(kind, 0) for kind in ("passed", "failed", "skipped")]
        cells = figures if counts else ["did not end", "", ""]
        found.append(
            f"| {version[1] if version else kernel} | {arch} | {who} | "
            + " | ".join(map(str, cells))
            + " |"
        )
    return found


if __name__ == "__main__":
    result = lines(sys.stdin.read(), *sys.argv[1:])
    print("\n".join(result))
    # Something failed, or was never seen to end.
    sys.exit(any(line.split(" | ")[4] != "0" for line in result))
