"""The grammar of one line, for the pure-Python backend: header, field, number."""

from __future__ import annotations

import re
from functools import lru_cache

from fastsmaps import _errors as errors
from fastsmaps._fields import ABSENT, FLAGS, NAME, NUMBERS, PAGE_SIZES, SIZES

# [0-9] and [ \t], not \d and \s, which match other bytes too.
HEADER = re.compile(
    rb"([0-9a-f]{1,16})-([0-9a-f]{1,16})[ \t]+([r-][w-][x-][sSp-])[ \t]+([0-9a-f]{1,16})[ \t]+"
    rb"([0-9a-f]{1,8}:[0-9a-f]{1,8})[ \t]+([0-9]+)(?:[ \t]+(.*)|\r)?",
    re.DOTALL,
).fullmatch
_LABEL = re.compile(rb"([A-Z][!-9;-~]*):").match
_UNIT = re.compile(rb"[0-9]+[ \t]*[A-Za-z]").match
_NUMBER = re.compile(rb"([0-9]+)(?:[ \t]+(kB))?").fullmatch

HEADER_START = frozenset(b"0123456789abcdef")
FIELD_START = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_SHARING = {b"p": 0, b"s": 8, b"S": 8, b"-": 16}  # S without an MMU, "-" on early WSL1
PERMS = {
    bytes((b"-r"[i & 1], b"-w"[i >> 1 & 1], b"-x"[i >> 2])) + letter: i | bits
    for i in range(8)
    for letter, bits in _SHARING.items()
}
_KINDS = {
    **dict.fromkeys(SIZES, "size"),
    **dict.fromkeys(PAGE_SIZES, "size"),
    **dict.fromkeys(NUMBERS, "number"),
    FLAGS: "flags",
    NAME: "name",
}


class Problem(Exception):
    """A fault in a line; the parser adds the place."""


def integer(digits: bytes) -> int:
    """Convert the digits; 2**64 for any number above 20 digits, since int() refuses 4,300."""
    if len(digits) > 20:
        digits = digits.lstrip(b"0") or b"0"
    return int(digits) if len(digits) <= 20 else 2**64


def _number(value: bytes) -> tuple[int, bool] | None:
    """Return the number (in bytes if it had kB) and whether it had kB; None for a text."""
    match = _NUMBER(value)
    if match is None:
        return None
    digits, unit = match.groups()
    number = integer(digits)
    if unit:
        number *= 1024
    if number >= ABSENT:
        raise Problem(errors.TOO_LARGE)
    return number, unit is not None


def field(line: bytes) -> tuple[str, str, bytes, tuple[int, bool] | None]:
    """Return a field line's label, the label's kind, the value, and the value as a number."""
    # Only short lines are cached: a line may have any length.
    return _short_field(line) if len(line) <= 128 else _any_field(line)


def _any_field(line: bytes) -> tuple[str, str, bytes, tuple[int, bool] | None]:
    match = _LABEL(line)
    if match is None:
        raise Problem(errors.NO_LABEL)
    label = match[1].decode("ascii")
    # Not in the regular expression, which would be quadratic in a long run of spaces.
    value = line[match.end() :].lstrip(b" \t").rstrip(b" \t\r")
    kind = _KINDS.get(label, "any")
    if kind in ("flags", "name"):
        return label, kind, value, None
    number = _number(value)
    if kind != "any":
        if number is None:
            if not _UNIT(value):
                raise Problem(errors.NO_NUMBER)
            raise Problem(errors.UNIT if kind == "number" else errors.OTHER_UNIT)
        if kind == "size" and not number[1]:
            raise Problem(errors.NO_UNIT)
        if kind == "number" and number[1]:
            raise Problem(errors.UNIT)
    return label, kind, value, number


# Most lines of one read occur again in another: a hit takes 0.1 us instead of 2. 1.5 MB at most.
_short_field = lru_cache(maxsize=4096)(_any_field)
