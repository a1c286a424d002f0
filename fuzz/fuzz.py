"""atheris (libFuzzer) on the harness; arguments are libFuzzer's."""

from __future__ import annotations

import sys

import atheris

# What the pure-Python twin goes through guides the fuzzer too: its branches are others.
with atheris.instrument_imports(
    include=["fastsmaps._pysmaps", "fastsmaps._pytable", "fastsmaps._pysweep"]
):
    import fastsmaps  # noqa: F401

import harness

atheris.Setup(sys.argv, harness.one)
atheris.Fuzz()
