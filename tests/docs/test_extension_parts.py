"""The extension's .pxi parts use only earlier parts, and each header comment names them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "src"
PARTS = re.findall(r'^include "(\w+)\.pxi"', (SOURCES / "_csmaps.pyx").read_text(), re.MULTILINE)
TEXTS = {part: (SOURCES / f"{part}.pxi").read_text() for part in PARTS}
# A function or class, or a variable of the module.
DEFINITION = re.compile(
    r"^(?:cdef class|def|cdef (?:\w+ )*[\w*\[\] ]*?)[ *](\w+)(?:\(|:)"
    r"|^cdef [\w\[\] *]*?(\w+)(?:$| =)|^(\w+) = ",
    re.MULTILINE,
)
DEFINED = {
    part: {name for names in DEFINITION.findall(text) for name in names if name}
    for part, text in TEXTS.items()
}


def names_in(text: str) -> set[str]:
    code = re.sub(r'"""(?s:.*?)"""|#.*', "", text)
    return set(re.findall(r"(?<![\w.])[A-Za-z_]\w*", code))


def named_in_head(text: str) -> set[str]:
    head = " ".join(re.findall(r"\A(?:#.*\n)+", text)[0].replace("#", "").split())
    uses = re.search(r"Uses (?:no other part|([^.]*))\.", head)
    assert uses, f"no 'Uses ...' in {head!r}"
    return set(re.findall(r"\w+", uses[1] or "")) - {"and"}


def test_all_parts_are_included() -> None:
    assert sorted(PARTS) == sorted(path.stem for path in SOURCES.glob("*.pxi"))
    # DEFINITION finds classes, functions and variables.
    assert {"pool_id", "hash_key"} <= DEFINED["text_pool"]
    assert {"Table", "parse", "known_label_texts", "new_table"} <= DEFINED["table"]
    assert {"known_label_count", "row_at", "begin_row"} <= DEFINED["rows"]
    assert {"Uses", "USES_IN_USE"} <= DEFINED["uses"]


@pytest.mark.parametrize("part", PARTS)
def test_part_header_names_the_parts_it_uses(part: str) -> None:
    names = names_in(TEXTS[part])
    used = {other for other in PARTS if other != part and DEFINED[other] & names}
    assert named_in_head(TEXTS[part]) == used
    assert used <= set(PARTS[: PARTS.index(part)])


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_no_warning_in_a_line_of_ours(compiler: str) -> None:
    """A comparison of signed with unsigned numbers has hidden errors elsewhere."""
    generated = SOURCES / "_csmaps.c"
    headers = Path(sysconfig.get_path("include"))
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    if not generated.exists() or not (headers / "Python.h").exists():
        pytest.skip("needs src/_csmaps.c, which a build leaves there, and Python's headers")
    done = subprocess.run(
        [compiler, "-fsyntax-only", "-Wall", "-Wextra", "-Wsign-compare", f"-I{SOURCES}"]
        + [f"-I{headers}", generated],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Lines of Cython's and Python's own may have others.
    ours = re.compile(r"^(?:\S*/)?(?:\w+\.px[di]|csmaps\.h|_csmaps\.pyx):.* warning: .*", re.M)
    assert ours.findall(done.stderr) == []
