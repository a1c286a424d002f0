"""`import fastsmaps`: the backend it chooses, the modules it loads, where it fails."""

from __future__ import annotations

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


# 2 to 23 ms each (array imports collections, 1 ms); reading a process needs none of them.
SLOW = {
    *("typing", "re", "enum", "dataclasses", "pathlib", "threading", "inspect", "functools"),
    *("subprocess", "tempfile", "json", "argparse", "logging", "ctypes", "socket"),
    *("gzip", "bz2", "lzma", "importlib.util", "fastsmaps._backend._pysmaps", "fastsmaps.cli"),
}


@pytest.mark.usefixtures("extension")
def test_import_loads_no_slow_modules() -> None:
    code = (
        "before = set(sys.modules); import fastsmaps; print(*sorted(set(sys.modules) - before))\n"
        "fastsmaps.totals(); fastsmaps.mappings(); fastsmaps.parse(b'').totals()\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    out, error = run(code, "c")
    assert error == ""
    at_import, after_use = (set(line.split()) for line in out.splitlines())
    assert "fastsmaps._backend._csmaps" in at_import
    assert not at_import & SLOW
    assert not after_use & SLOW


def test_import_of_python_backend_loads_few_modules() -> None:
    code = "before = set(sys.modules); import fastsmaps; print(*sorted(set(sys.modules) - before))"
    out, _ = run(code, "python")
    loaded = set(out.split())
    assert "fastsmaps._backend._pysmaps" in loaded
    # re imports enum and functools.
    assert not loaded & SLOW - {"re", "enum", "functools", "fastsmaps._backend._pysmaps"}


def test_import_opens_no_file_and_starts_no_thread() -> None:
    code = (
        "import os; before = os.listdir('/proc/self/fd'); import fastsmaps\n"
        "print(os.listdir('/proc/self/fd') == before, len(os.listdir('/proc/self/task')))"
    )
    assert run(code)[0] == "True 1\n"


def test_all_names_have_docstrings() -> None:
    for name in fastsmaps.__all__:
        value = getattr(fastsmaps, name)
        if name not in ("ABSENT", "BACKEND", "Outcome"):
            assert value.__doc__
