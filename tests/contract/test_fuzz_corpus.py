"""The fuzzer's corpus: each input covers code that the others do not."""

from __future__ import annotations

import importlib
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

FUZZ = Path(__file__).parents[2] / "fuzz"


@pytest.mark.skipif(not FUZZ.exists(), reason="the fuzzer is in checkouts alone")
def test_every_input_of_the_corpus_passes(
    twins: tuple[ModuleType, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(FUZZ))
    harness = importlib.import_module("harness")
    done = 0
    with tarfile.open(FUZZ / "corpus.tar.xz") as corpus:
        for member in corpus:
            file = corpus.extractfile(member)
            assert file is not None
            harness.run_input(file.read())
            done += 1
    assert done > 100
