"""Build the extension; everything else is in pyproject.toml.

With FASTSMAPS_BUILD_EXTENSION=1 a failed build is an error; =0 leaves the extension out. By
default a failed build prints a warning and makes a pure wheel instead.

With pip's --no-build-isolation the installed setuptools and Cython run this. Older ones fail at the
metadata and directives with messages that do not name the cause, so their versions come first.
"""

from __future__ import annotations

import glob
import os
import sys

import setuptools
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, ExecError, PlatformError

# As in pyproject.toml, [build-system]. setuptools 77 is the first to read `license = "MIT"`.
SETUPTOOLS = 77
CYTHON = (3, 1)
ADVICE = 'upgrade it with pip install "{name}>={version}", or leave out --no-build-isolation'


class BuildError(Exception):
    """The compiler or Cython is missing or too old, or it failed."""


class BuildExtension(build_ext):
    """build_ext, with one exception for every way in which a compiler fails."""

    def run(self) -> None:
        try:
            super().run()
        except (CCompilerError, ExecError, PlatformError, OSError, ValueError) as error:
            raise BuildError(str(error)) from error


def extensions() -> list[Extension]:
    import Cython
    from Cython.Build import cythonize

    if tuple(map(int, Cython.__version__.split(".")[:2])) < CYTHON:
        advice = ADVICE.format(name="Cython", version=".".join(map(str, CYTHON)))
        raise BuildError(f"Cython {Cython.__version__} is too old: {advice}")
    extension = Extension(
        "fastsmaps._backend._csmaps",
        ["src/_csmaps.pyx"],
        depends=["src/csmaps.h", *sorted(glob.glob("src/*.px[di]"))],
        include_dirs=["src"],
        extra_compile_args=["-O3"],
    )
    directives = {
        "language_level": 3,
        "boundscheck": False,
        "wraparound": False,
        "initializedcheck": False,
        "cdivision": True,
        "freethreading_compatible": True,
    }
    # So that debuggers, sanitizers and coverage name lines of src/*.pxi, not of 69,000 lines of C.
    return cythonize([extension], compiler_directives=directives, emit_linenums=True)


def build(with_extension: bool) -> None:
    setup(
        ext_modules=extensions() if with_extension else [],
        cmdclass={"build_ext": BuildExtension},
    )


if int(setuptools.__version__.split(".")[0]) < SETUPTOOLS:
    advice = ADVICE.format(name="setuptools", version=SETUPTOOLS)
    sys.exit(f"fastsmaps: setuptools {setuptools.__version__} is too old to build this: {advice}")
choice = os.environ.get("FASTSMAPS_BUILD_EXTENSION", "auto")
if choice not in ("auto", "0", "1"):
    sys.exit(f"FASTSMAPS_BUILD_EXTENSION must be 0 or 1, or unset, not {choice!r}")
try:
    build(with_extension=choice != "0")
except (BuildError, ImportError) as error:
    if choice == "1":
        raise
    print(
        f"fastsmaps: the extension could not be built ({error});\n"
        "fastsmaps: going on in pure Python: the same results, several times slower.",
        file=sys.stderr,
    )
    build(with_extension=False)
