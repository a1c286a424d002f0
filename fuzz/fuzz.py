"""Run the harness under atheris (libFuzzer); the arguments are libFuzzer's."""

from __future__ import annotations

import sys

import atheris

# The branches of the pure-Python backend guide the fuzzer too.
with atheris.instrument_imports(
    include=[f"fastsmaps._backend._py{part}" for part in ("smaps", "lines", "table", "sweep")]
):
    import fastsmaps  # noqa: F401 - must be imported under instrumentation

import harness

atheris.Setup(sys.argv, harness.run_input)
atheris.Fuzz()
