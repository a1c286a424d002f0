"""typing.get_type_hints() works on every public function and method, as frameworks need."""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Iterator
from types import FunctionType

import pytest

import fastsmaps


def functions_of(module: str) -> list[str]:
    imported = importlib.import_module(module)
    # vars() would lack the names that nothing has used yet.
    values = {name: getattr(imported, name) for name in dir(imported)}
    return [
        name
        for name, value in values.items()
        if inspect.isfunction(value)
        and not name.startswith("_")
        and value.__module__ in (module, "fastsmaps")
    ]


def test_type_hints_of_functions() -> None:
    names = functions_of("fastsmaps")
    assert {"totals", "mappings", "scan", "libs", "diff", "parse", "load", "capture"} <= set(names)
    for name in names:
        function = getattr(fastsmaps, name)
        hints = typing.get_type_hints(function)
        assert hints.keys() == {*inspect.signature(function).parameters, "return"}
    assert typing.get_type_hints(fastsmaps.totals)["return"] is fastsmaps.Totals


# Only these classes are constructed by users.
CONSTRUCTED = (fastsmaps.Process, fastsmaps.Sampler, fastsmaps.Watch, fastsmaps.open_capture)


def methods_of(public: type) -> Iterator[tuple[str, FunctionType]]:
    """Yield the public methods and properties of a class and of its bases in this package."""
    for base in public.__mro__:
        if not base.__module__.startswith("fastsmaps"):
            continue
        for name, value in vars(base).items():
            function = value.fget if isinstance(value, property) else value
            function = getattr(function, "__func__", function)  # a class method's function
            wanted = not name.startswith("_") or (name == "__init__" and public in CONSTRUCTED)
            if wanted and inspect.isfunction(function) and function.__annotations__:
                yield name, function


def test_type_hints_of_methods() -> None:
    found = set()
    for class_name in fastsmaps.__all__:
        public = getattr(fastsmaps, class_name)
        if inspect.isclass(public):
            for name, method in methods_of(public):
                hints = typing.get_type_hints(method)
                parameters = inspect.signature(method).parameters.keys() - {"self", "cls"}
                assert hints.keys() == {*parameters, "return"}, (class_name, name)
                found.add(f"{class_name}.{name}")
    assert {"Mappings.top", "Totals.get", "Totals.uss", "Process.from_pidfd"} <= found
    assert {"Watch.peak", "Sampler.sweep", "Scan.group_by", "Sampler.__init__"} <= found
    assert typing.get_type_hints(fastsmaps.Process.totals)["return"] is fastsmaps.Totals


@pytest.mark.parametrize("module", ["fastsmaps.plot", "fastsmaps.parquet"])
def test_type_hints_of_extras(module: str) -> None:
    pytest.importorskip(module, exc_type=ImportError)
    names = functions_of(module)
    assert names
    for name in names:
        assert "return" in typing.get_type_hints(getattr(importlib.import_module(module), name))


def test_type_hints_of_classes() -> None:
    for name in fastsmaps.__all__:
        public = getattr(fastsmaps, name)
        if inspect.isclass(public):
            typing.get_type_hints(public)  # NameError if a name is only known to type checkers
    assert typing.get_type_hints(fastsmaps.ProcessTotals)["pid"] is int
