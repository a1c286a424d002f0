"""typing.get_type_hints() works on every public function: frameworks ask it."""

from __future__ import annotations

import importlib
import inspect
import typing

import pytest

import fastsmaps


def functions_of(module: str) -> list[str]:
    return [
        name
        for name, value in vars(importlib.import_module(module)).items()
        if inspect.isfunction(value)
        and not name.startswith("_")
        and value.__module__ in (module, "fastsmaps")
    ]


def test_functions() -> None:
    names = functions_of("fastsmaps")
    assert {"totals", "mappings", "scan", "libs", "diff", "parse", "load", "capture"} <= set(names)
    for name in names:
        function = getattr(fastsmaps, name)
        hints = typing.get_type_hints(function)
        assert hints.keys() == {*inspect.signature(function).parameters, "return"}
    assert typing.get_type_hints(fastsmaps.totals)["return"] is fastsmaps.Totals


@pytest.mark.parametrize("module", ["fastsmaps.plot", "fastsmaps.parquet"])
def test_functions_of_extras(module: str) -> None:
    pytest.importorskip(module, exc_type=ImportError)
    names = functions_of(module)
    assert names
    for name in names:
        assert "return" in typing.get_type_hints(getattr(importlib.import_module(module), name))
