"""table.py CELL...: lines for docs/kernels.md, of a console on standard input, behind these cells.

There is a line for each who ran the tests, between BEGIN and END; the exit code is 1 where a test
failed, or where somebody never came to the end.
"""

import re
import sys

RUN = re.compile(r"^BEGIN (\w+)\n(.*?)(?:^(END) \1$|\Z)", re.MULTILINE | re.DOTALL)
SUMMARY = re.compile(r"^.* in [0-9.]+s\b.*$", re.MULTILINE)
COUNT = re.compile(r"([0-9]+) (passed|failed|error|skipped)")


def counts(output: str) -> dict[str, int]:
    """Of pytest's last line."""
    found = {"passed": 0, "failed": 0, "skipped": 0}
    for number, word in COUNT.findall((SUMMARY.findall(output) or [""])[-1]):
        found[{"error": "failed"}.get(word, word)] += int(number)
    return found


def main(cells: list[str]) -> int:
    """Prints the lines."""
    bad = 0
    runs = RUN.findall(sys.stdin.read())
    for who, output, end in runs:
        found = counts(output)
        if end and any(found.values()):
            bad += found["failed"]
            print("|", " | ".join([*cells, who, *map(str, found.values())]), "|")
        else:
            bad += 1
            print("|", " | ".join([*cells, who]), "| did not end | | |")
    return int(bad > 0 or not runs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
