"""atheris (libFuzzer) on the harness; arguments are libFuzzer's."""

from __future__ import annotations

import sys

import atheris

# What the pure-Python twin goes through guides the fuzzer too: its branches are others.
with atheris.instrument_imports(
    include=[f"fastsmaps._backend._py{part}" for part in ("smaps", "lines", "table", "sweep")]
):
    import fastsmaps  # noqa: F401 - what is imported first is what stays

import harness

atheris.Setup(sys.argv, harness.one)
atheris.Fuzz()
