"""Write seeds and libFuzzer's dictionary, made from tests/data, into a directory."""

from __future__ import annotations

import re
import shutil
import sys
from hashlib import sha256
from pathlib import Path

from fastsmaps._fields import FLAGS, NAME, NUMBERS, PAGE_SIZES, SIZES

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import harness

from support.independent import texts

MAX_TEXT = 2000
HEADER = re.compile(rb"^(?=[0-9a-f]+-[0-9a-f]+ )", re.MULTILINE)
LABEL = re.compile(rb"^[A-Z][^:]*:", re.MULTILINE)
WORDS = [
    *(f"{label}:" for label in (*SIZES, *PAGE_SIZES, *NUMBERS, FLAGS, NAME)),
    *(" kB\n", " r-xp ", " rw-s ", " 00:00 0 ", " fd:01 77 ", "[heap]", " (deleted)", "\r\n"),
    *("       0 kB\n", "99999999 kB\n", "100000000 kB\n", "4294967294 kB\n", "4294967295 kB\n"),
    *("18014398509481983 kB\n", "18446744073709551614\n", "rd wr mr mw me ac \n"),
    *("08048000-08049000", "7f0000000000-7f0000001000", "ffffffffff600000-ffffffffff601000"),
]

HEAD = b"1-2 r--p 0 0:0 0\n"
#: Cases that no text of tests/data reaches: limits, repeated fields, many and large numbers.
CORNERS = [
    b"",
    b"9 8 7 6 0 0 0\n",
    HEAD * 300,
    b"1-2 r--S 0 0:0 0\n1-2 r--- 0 0:0 0\n",
    b" \n" * 9 + HEAD,
    b" \n",
    b"".join(HEAD + b"Name: n%d\n" % i for i in range(40)),
    HEAD + b"".join(b"L%d:1\n" % i for i in range(257)),
    HEAD + b"".join(b"T%d:x\n" % i for i in range(257)),
    HEAD + b"A:1\nA:2\n",
    HEAD + b"A:x\nA:2\n",
    HEAD + b"A:1\nA:x\n",
    HEAD + b"A:1\n" + HEAD + b"A:x\n" + HEAD + b"B:1\nA:1\n",
    HEAD + b"VmFlags: rd\nVmFlags: wr\n",
    HEAD + b"VmFlags: rd\nRss: 1 kB\nVmFlags: wr\n",
    HEAD + b"Name: a\nName: b\n",
    b"".join(HEAD + b"Rss: 1 kB\nPss: %d kB\nSwap: 4294967296 kB\n" % (1 << i) for i in range(54)),
    b"1-2 r--p 0 0:0 7 /a\nName: b\nNew: x\nRss: 1 kB\nRss: 2 kB\n",
    b"1-2 r--p 0 0:0 7 /a\nRss: 1 kB\nVmFlags: rd wr\nNew: x\n",
]


def runs(text: bytes) -> set[bytes]:
    """Cut runs of complete records for small inputs: both ends, and one record of each form."""
    records = HEADER.split(text)
    forms = {tuple(LABEL.findall(record)): i for i, record in enumerate(records)}
    starts = {0, max(len(records) - 3, 0), *forms.values()}
    return {b"".join(records[i : i + 3])[:MAX_TEXT] for i in starts}


def main(directory: Path) -> None:
    corpus = directory / "seeds"
    shutil.rmtree(corpus, ignore_errors=True)
    corpus.mkdir(parents=True)
    saved = {run for path in texts() for run in runs(path.read_bytes())}
    inputs = set()
    # The number of a check is taken modulo their count; from 128 on it also lengthens a name.
    lengthened = -(-128 // len(harness.CHECKS)) * len(harness.CHECKS)
    for check in range(len(harness.CHECKS)):
        for i, text in enumerate(sorted(saved)):
            inputs.add(text + bytes((check, i % 256, i % 64, i * 7 % 256)))
        for text in CORNERS:
            inputs |= {text + bytes((check, i, i, i * 11 % 256)) for i in range(0, 200, 9)}
        # The first name is made long.
        long = b"1-2 r--p 0 0:0 7 /a\nRss: 1 kB\n"
        inputs |= {long + bytes((check + lengthened, 99, i, 240 + i)) for i in range(16)}
    for data in inputs:
        corpus.joinpath(sha256(data).hexdigest()).write_bytes(data)
    lines = ["".join(f"\\x{byte:02x}" for byte in word.encode()) for word in WORDS]
    directory.joinpath("dictionary").write_text("".join(f'"{line}"\n' for line in lines))
    print(f"{len(inputs)} seeds of {len(saved) + len(CORNERS)} texts")


main(Path(sys.argv[1]))
