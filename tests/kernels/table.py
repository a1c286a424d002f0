"""table.py CELL...: print table rows for docs/kernels.md from a console log on standard input.

Each row begins with the given cells. Each user who ran the tests (between BEGIN and END) has a row.
The exit status is 1 if a test failed or a run did not reach its end.
"""

import re
import sys

RUN = re.compile(r"^BEGIN (\w+)\n(.*?)(?:^(END) \1$|\Z)", re.MULTILINE | re.DOTALL)
SUMMARY = re.compile(r"^.* in [0-9.]+s\b.*$", re.MULTILINE)
COUNT = re.compile(r"([0-9]+) (passed|failed|error|skipped)")


def counts(output: str) -> dict[str, int]:
    """Parse the counts in pytest's last line."""
    totals = {"passed": 0, "failed": 0, "skipped": 0}
    for number, word in COUNT.findall((SUMMARY.findall(output) or [""])[-1]):
        totals[{"error": "failed"}.get(word, word)] += int(number)
    return totals


def main(cells: list[str]) -> int:
    """Print the rows; return the exit status."""
    failures = 0
    runs = RUN.findall(sys.stdin.read())
    for user, output, end in runs:
        totals = counts(output)
        if end and any(totals.values()):
            failures += totals["failed"]
            print("|", " | ".join([*cells, user, *map(str, totals.values())]), "|")
        else:
            failures += 1
            print("|", " | ".join([*cells, user]), "| did not end | | |")
    return int(failures > 0 or not runs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
