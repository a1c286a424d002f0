"""Run the harness on all inputs of some directories, without a fuzzer; then check for leaks."""

from __future__ import annotations

import argparse
import ctypes
import sys
from pathlib import Path

import harness

parser = argparse.ArgumentParser()
parser.add_argument("--every", type=int, default=1, help="run only every n-th input")
parser.add_argument("directories", type=Path, nargs="+")
args = parser.parse_args()
inputs = [path for directory in args.directories for path in sorted(directory.iterdir())]
inputs = inputs[:: args.every]
for path in inputs:
    harness.run_input(path.read_bytes())
print(f"{len(inputs)} inputs")
# Only if LeakSanitizer is loaded. It needs PYTHONMALLOC=malloc to follow pointers in objects.
if hasattr(ctypes.CDLL(None), "__lsan_do_recoverable_leak_check"):
    sys.exit(ctypes.CDLL(None).__lsan_do_recoverable_leak_check())
