"""`import fastsmaps`: the backend it chooses, the modules it loads, where it fails."""

from __future__ import annotations

import ast
import importlib
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastsmaps

pytestmark = [pytest.mark.core, pytest.mark.thread_unsafe(reason="starts interpreters")]

PACKAGE = Path(fastsmaps.__file__).parent


@pytest.fixture
def extension(pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("--no-extension"):
        pytest.skip("the extension is not built")


@pytest.fixture
def pure(tmp_path: Path) -> Path:
    """Copy the package without the extension to a directory."""
    shutil.copytree(
        PACKAGE, tmp_path / "fastsmaps", ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    return tmp_path


def run(code: str, choice: str | None = None, where: Path = PACKAGE.parent) -> tuple[str, str]:
    """Run code without site-packages; return its output and its last line of errors."""
    variables = {key: value for key, value in os.environ.items() if key != "FASTSMAPS_BACKEND"}
    if choice is not None:
        variables["FASTSMAPS_BACKEND"] = choice
    done = subprocess.run(
        # -S: modules imported by .pth files would hide the imports under test.
        [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {str(where)!r})\n{code}"],
        env=variables,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert bool(done.returncode) == bool(done.stderr)
    return done.stdout, done.stderr.strip().rpartition("\n")[2]


SHOW = "import fastsmaps; print(fastsmaps.BACKEND, fastsmaps._backend.parse.__module__)"


@pytest.mark.usefixtures("extension")
@pytest.mark.parametrize("choice", [None, "auto", "c"])
def test_extension_is_the_default_backend(choice: str | None) -> None:
    assert run(SHOW, choice) == ("c fastsmaps._backend._csmaps\n", "")


@pytest.mark.parametrize("choice", ["python"])
def test_python_backend_on_request(choice: str) -> None:
    loaded = "import sys; print('fastsmaps._backend._csmaps' in sys.modules)"
    assert run(f"{SHOW}; {loaded}", choice) == ("python fastsmaps._backend._pysmaps\nFalse\n", "")


@pytest.mark.parametrize("choice", ["", "C", "cython", "1", "python ", "nonsense"])
def test_unknown_backend_is_an_error(choice: str) -> None:
    assert run(SHOW, choice) == (
        "",
        f"ImportError: FASTSMAPS_BACKEND must be auto, c or python, not {choice!r}",
    )


def test_missing_extension(pure: Path) -> None:
    for choice in (None, "auto", "python"):
        assert run(SHOW, choice, pure) == ("python fastsmaps._backend._pysmaps\n", "")
    out, error = run(SHOW, "c", pure)
    assert out == ""
    assert error.startswith("ImportError: FASTSMAPS_BACKEND=c, but the extension was not built")


def test_broken_extension_is_an_error(pure: Path) -> None:
    from importlib.machinery import EXTENSION_SUFFIXES

    (pure / "fastsmaps" / "_backend" / f"_csmaps{EXTENSION_SUFFIXES[0]}").write_bytes(b"no library")
    for choice in (None, "auto", "c"):
        out, error = run(SHOW, choice, pure)
        assert out == ""
        assert error.startswith("ImportError: ")
        assert "_csmaps" in error
    assert run(SHOW, "python", pure)[0] == "python fastsmaps._backend._pysmaps\n"


# "{}" is the code to run in a subinterpreter.
SUBINTERPRETER = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
second = interpreters.create()
run = getattr(interpreters, "exec", None) or interpreters.run_string
failure = run(second, {})
assert failure is None, failure
interpreters.destroy(second)
"""
USE = (
    "import fastsmaps, os\n"
    "from fastsmaps import _backend\n"
    "assert fastsmaps.totals(os.getpid()).rss and len(fastsmaps.mappings()) and fastsmaps.scan()\n"
    "print(fastsmaps.BACKEND, _backend.WHY_PYTHON is not None, flush=True)\n"
)


@pytest.mark.usefixtures("extension")
def test_subinterpreter_gets_python_backend() -> None:
    """The extension supports one interpreter per process, so others get pure Python."""
    code = f"import sys\nsys.path.insert(0, {str(PACKAGE.parent)!r})\n{USE}"
    second = SUBINTERPRETER.format(repr(code))
    assert run(f"{USE}{second}{USE}", "auto") == ("c False\npython True\nc False\n", "")
    assert run(f"{USE}{second}", "python") == ("python False\npython False\n", "")
    failing = (
        f"import sys\nsys.path.insert(0, {str(PACKAGE.parent)!r})\n"
        "try: import fastsmaps\nexcept ImportError: print('failed', flush=True)\n"
    )
    assert run(f"{USE}{SUBINTERPRETER.format(repr(failing))}", "c") == ("c False\nfailed\n", "")


@pytest.mark.parametrize("platform", ["darwin", "win32", "freebsd14"])
def test_import_fails_on_other_systems(platform: str) -> None:
    assert run(f"sys.platform = {platform!r}\nimport fastsmaps") == (
        "",
        f"ImportError: fastsmaps reads Linux's /proc/<pid>/smaps; there is none on {platform}",
    )


@pytest.mark.usefixtures("extension")
def test_android_counts_as_linux() -> None:
    assert run(f"sys.platform = 'android'\n{SHOW}") == ("c fastsmaps._backend._csmaps\n", "")


# 2 to 23 ms each; reading a process needs none of them.
SLOW = {
    *("typing", "re", "enum", "dataclasses", "pathlib", "threading", "inspect", "functools"),
    *("subprocess", "tempfile", "json", "argparse", "logging", "ctypes", "socket", "contextlib"),
    *("gzip", "bz2", "lzma", "importlib.util", "fastsmaps._backend._pysmaps", "fastsmaps.cli"),
}


def loaded_by(code: str, choice: str | None = None) -> set[str]:
    """Return the modules that the code imports, besides those of a bare interpreter."""
    new = "print(*sorted(set(sys.modules) - before))"
    out, error = run(f"import os; before = set(sys.modules)\n{code}\n{new}", choice)
    assert error == ""
    return set(out.rpartition("\n\n")[2].split())


@pytest.mark.usefixtures("extension")
def test_import_loads_the_backend_and_what_it_needs() -> None:
    loaded = loaded_by("import fastsmaps", "c")
    assert {name for name in loaded if name.startswith("fastsmaps")} == {
        "fastsmaps",
        "fastsmaps._backend",
        "fastsmaps._backend._csmaps",
        "fastsmaps._errors",
        "fastsmaps._fields",
        "fastsmaps._public",
        "fastsmaps._version",
    }
    assert not loaded & {*SLOW, "collections", "importlib"}


@pytest.mark.usefixtures("extension")
@pytest.mark.parametrize(
    "call", ["totals()", "mappings()", "parse(b'').totals()", "Process('self').totals()"]
)
def test_reading_a_process_loads_no_slow_modules(call: str) -> None:
    loaded = loaded_by(f"import fastsmaps; fastsmaps.{call}", "c")
    assert "fastsmaps._source" in loaded
    assert not loaded & {*SLOW, "fastsmaps._host", "fastsmaps._capture", "fastsmaps._output"}
    if call == "totals()":
        assert not loaded & {"array", "fastsmaps._model.mappings", "fastsmaps._source.process_dir"}


@pytest.mark.usefixtures("extension")
@pytest.mark.parametrize("arguments", [("totals", "self"), ("totals", "self", "--human"), ("ps",)])
def test_plain_commands_load_no_slow_modules(arguments: tuple[str, ...]) -> None:
    """In particular neither argparse (8 ms) nor signal and threading (5 ms)."""
    loaded = loaded_by(
        f"sys.argv[1:] = {arguments}; os._exit = sys.exit\n"
        "from fastsmaps.cli.main import entry\n"
        "try: entry()\nexcept SystemExit as end: assert not end.code\n"
        "sys.stdout.flush(); print()",
        "c",
    )
    assert f"fastsmaps.cli.commands.{arguments[0]}" in loaded
    slow = {*SLOW, "signal", "gettext", "locale", "shutil", "fastsmaps._capture"} - {
        "fastsmaps.cli"
    }
    if arguments[0] == "ps":  # which reads in several threads
        slow -= {"threading", "functools"}
    else:
        slow |= {"array", "fastsmaps._host", "fastsmaps._model.mappings"}
    assert not loaded & slow


def test_import_of_python_backend_loads_few_modules() -> None:
    loaded = loaded_by("import fastsmaps", "python")
    assert "fastsmaps._backend._pysmaps" in loaded
    # re imports enum and functools.
    assert not loaded & SLOW - {"re", "enum", "functools", "fastsmaps._backend._pysmaps"}


def test_import_opens_no_file_and_starts_no_thread() -> None:
    code = (
        "import os; before = os.listdir('/proc/self/fd'); import fastsmaps\n"
        "print(os.listdir('/proc/self/fd') == before, len(os.listdir('/proc/self/task')))"
    )
    assert run(code)[0] == "True 1\n"


# ---- names that are imported when they are first used


def names_for_type_checkers() -> dict[str, str]:
    """Return the names that the package imports at its top level, and their modules."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    blocks = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.If))]
    return {
        alias.name: node.module
        for node in itertools.chain(*blocks)
        if isinstance(node, ast.ImportFrom) and node.module and node.module != "__future__"
        for alias in node.names
    }


def test_type_checkers_see_the_names_that_exist() -> None:
    names = names_for_type_checkers()
    assert names.keys() - {"__version__"} == set(fastsmaps.__all__)
    for name, module in names.items():
        if name != "Outcome":
            assert getattr(importlib.import_module(module), name) is getattr(fastsmaps, name)


@pytest.mark.parametrize("name", sorted({*fastsmaps.__all__} - {"Outcome"}))
def test_each_name_alone(name: str) -> None:
    """Each name is found in a fresh interpreter, by all ways to import it."""
    out, error = run(
        f"import fastsmaps, pickle\nfirst = fastsmaps.{name}\n"
        f"from fastsmaps import {name}\nassert first is {name}\n"
        "if hasattr(first, '__module__') and hasattr(first, '__qualname__'):\n"
        "    assert first.__module__ == 'fastsmaps', first.__module__\n"
        "    assert pickle.loads(pickle.dumps(first)) is first\n"
        f"    assert vars(fastsmaps)[{name!r}] is first\n"
        "print('done')"
    )
    assert (out, error) == ("done\n", "")


def test_no_module_is_named_like_a_public_name() -> None:
    """Importing the module would replace the name."""
    modules = {entry.name.partition(".")[0] for entry in PACKAGE.iterdir()}
    assert modules.isdisjoint(fastsmaps.__all__)


def test_star_import_and_dir_have_all_names() -> None:
    code = "from fastsmaps import *; import fastsmaps\n"
    code += "print(set(fastsmaps.__all__) <= set(globals()), dir(fastsmaps) == sorted(["
    code += "*fastsmaps.__all__, '__version__']))"
    assert run(code) == ("True True\n", "")


def test_missing_name_is_an_attribute_error() -> None:
    code = "import fastsmaps; print(hasattr(fastsmaps, 'typo'))\nfrom fastsmaps import typo"
    out, error = run(code)
    assert out == "False\n"
    assert error.startswith("ImportError: cannot import name 'typo' from 'fastsmaps'")


def test_a_name_that_was_replaced_stays_replaced() -> None:
    code = "import fastsmaps; fastsmaps.parse = 5; fastsmaps.load; print(fastsmaps.parse)"
    assert run(code) == ("5\n", "")


def test_names_of_a_package_imported_twice() -> None:
    code = (
        "import fastsmaps; first = fastsmaps.Totals; del sys.modules['fastsmaps']\n"
        "import fastsmaps; print(fastsmaps.Totals is first, fastsmaps.Error.__name__)"
    )
    assert run(code) == ("True Error\n", "")


def test_threads_import_the_same_objects() -> None:
    code = (
        "import fastsmaps, threading\nstart = threading.Barrier(8); found = []\n"
        "def look():\n    start.wait()\n"
        "    found.append([getattr(fastsmaps, name) for name in reversed(fastsmaps.__all__)])\n"
        "threads = [threading.Thread(target=look) for _ in range(8)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
        "print(len(found), all(other == found[0] for other in found))"
    )
    assert run(code) == ("8 True\n", "")


@pytest.mark.parametrize("name", ["Change", "Sample", "ProcessTotals", "Mapping", "Totals"])
def test_type_hints_of_a_class_before_others_are_used(name: str) -> None:
    code = f"import typing, fastsmaps; print(len(typing.get_type_hints(fastsmaps.{name})) > 0)"
    assert run(code) == ("True\n", "")


def test_all_names_have_docstrings() -> None:
    for name in fastsmaps.__all__:
        value = getattr(fastsmaps, name)
        if name not in ("ABSENT", "BACKEND", "Outcome"):
            assert value.__doc__
