r"""Lenient parsing: the certain part of a pasted text, in a form that the backends parse.

A saved smaps may start with a shell prompt, be quoted in a mail, or end in the middle of a line.
`Cleaned` keeps the lines that surely belong to a mapping, without other text before and after them,
and counts the lines that it leaves out, by kind. Its rules:

- A mapping begins with a line that holds a complete header. The text before the header is the
  line's *prefix*: indent, ``> ``, line numbers, a file's name from grep, a table's ``|``.
- A field belongs to the mapping above it as long as each line follows the one before, and has the
  same prefix except for a line number, which must go up by one. Any other text ends the mapping:
  lines between it and the next header are left out.
- A folded header is joined again if the Size below proves that both parts are the mapping's.
- A repeated label means that a header is missing in between, so the rest is left out too.
- A damaged field is left out by itself, and is unknown. A number in another unit is damaged.
- A text may have been cut anywhere. In a last line without newline, a size counts only with its
  ``kB``, and a header only if its name has a closing mark; a first line counts only with all its
  digits.
"""

from __future__ import annotations

import re

from fastsmaps import _errors as errors
from fastsmaps._backend._pylines import FIELD_START, HEADER, HEADER_START, Problem, field, integer
from fastsmaps._fields import FLAGS, MAX_LABELS, NAME, NUMBERS, PAGE_SIZES, SIZES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastsmaps._backend import Table

OTHER = "other text"
HEADLESS = "fields without their mapping's header"
DAMAGED = "damaged"
CUT = "cut off"

_FIND_HEADER = re.compile(
    rb"(?<![0-9A-Za-z])[0-9a-f]{1,16}-[0-9a-f]{1,16}[ \t]+[r-][w-][x-][sSp-][ \t]+[0-9a-f]{1,16}"
    rb"[ \t]+[0-9a-f]{1,8}:[0-9a-f]{1,8}[ \t]+[0-9]"
).search
_FLAGS = re.compile(rb"(?:[ \t]*[a-z0-9?]{2}(?=[ \t]|$))*[ \t]*").fullmatch
_FIELDS_IN_LINE = re.compile(rb"\b[A-Z]\w{0,30}:[ \t]{1,30}[0-9]{1,20} kB").findall
_CAPITAL = re.compile(rb"[A-Z]").finditer
_KNOWN_LABELS = frozenset((*SIZES, *PAGE_SIZES, *NUMBERS))
_KNOWN_START = re.compile(b"(?:%s)\\b" % "|".join([*_KNOWN_LABELS, FLAGS]).encode("ascii")).match

# Text that terminals, web pages and mail programs insert into a line.
_ESCAPES = re.compile(
    rb"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][0-9A-B]|[=>])"
)
_TAG = re.compile(rb"</?[A-Za-z][^<>]{0,200}>").sub
_LAST_TAG = re.compile(rb"</?[A-Za-z][^<>]{0,200}>[ \t]*").fullmatch
_ENTITIES = {
    b"&gt;": b">", b"&lt;": b"<", b"&quot;": b'"', b"&#39;": b"'", b"&nbsp;": b" ", b"&amp;": b"&",
}  # fmt: skip
_BLANKS = (b"\xc2\xa0", b"\xe2\x80\xaf", b"\xe2\x80\x87")  # UTF-8 of non-breaking spaces
_BREAKS = (b"<br>", b"<br/>", b"<br />")
_INVISIBLE = (b"\xe2\x80\x8b", b"\xef\xbb\xbf")
_DASHES = (b"\xe2\x80\x90", b"\xe2\x80\x91", b"\xe2\x80\x93")

# The prefixes with line numbers: "12:", "   12\t", "a/smaps:12:", "a/smaps-12-".
_NUMBERED = re.compile(rb"([ \t>|]*?)[ \t]*([0-9]+)[ \t]*[:|.)\t -][ \t]*").fullmatch
_NUMBERED_FILE = re.compile(rb"(.*?)(?::([0-9]+):|-([0-9]+)-)", re.DOTALL).fullmatch
_TIME = re.compile(rb"[0-9]+(?::[0-9]{2})+(?:[.,][0-9]+)?|\[ *[0-9]+\.[0-9]+\]").sub
_LETTER = re.compile(rb"[A-Za-z]").search
_PADDED = re.compile(rb" kB[ \t]+\r?\n").search
_AFTER_SIZES = re.compile(rb"[0-9] kB[ \t]*([^\n]{0,64})").findall
_SIZE_IN_KB = re.compile(rb"[ \t>|]*Size:[ \t]*([0-9]{1,20}) kB").match
_QUOTES = b"\"'"
_MAX_PREFIX = 256
_MAX_BORDERS = 16


def decoded(data: bytes, errors: str = "strict") -> bytes | None:
    """Return the text in UTF-8 without its byte order mark; None if it has no such mark.

    Raises UnicodeDecodeError if a text in UTF-16 or UTF-32 is damaged, or ends in the middle of a
    character.
    """
    if data.startswith(b"\xef\xbb\xbf"):
        return data[3:]
    for mark, code in _MARKS:
        if data.startswith(mark):
            # PowerShell's > writes such files.
            return data[len(mark) :].decode(code, errors).encode()
    return None


_MARKS = (
    (b"\xff\xfe\0\0", "utf-32-le"), (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"),
)  # fmt: skip


def wide(data: bytes) -> str | None:
    """Return the encoding of a text in UTF-16 without byte order mark: every other byte is 0."""
    start = data[:512]
    if len(start) >= 8:
        if not any(start[1::2]) and all(start[::2]):
            return "utf-16-le"
        if not any(start[::2]) and all(start[1::2]):
            return "utf-16-be"
    return None


def in_utf8(data: bytes) -> bytes:
    """Return the text in UTF-8; bytes that cannot be decoded become U+FFFD, never a digit."""
    code = wide(data)
    if code is not None:
        return data.decode(code, "replace").encode()
    text = decoded(data, "replace")
    return data if text is None else text


def is_surely_whole(text: bytes, table: Table) -> bool:
    """Whether the table that a backend made of this text can be used as it is."""
    if table.extra or not _KNOWN_LABELS.issuperset(table.labels):
        return False  # lines of another file, status for example, may follow the last mapping
    first = text.lstrip(b" \t\r\n").partition(b"\n")[0]
    if _is_cut_in_front(first) or (text and not text.endswith(b"\n") and not _ends_well(text)):
        return False
    # The kernel's names never start like this, but coloured ones do; its names rarely end like
    # this, but pasted lines often do.
    return not any(
        name.startswith((b"\x1b", *_BLANKS))
        or name.endswith((b"\r", b"$", b" ", b">"))
        or _runs_on(name)
        for name in table.names
    )


def _runs_on(name: bytes) -> bool:
    """Whether a name contains fields, because lines were joined into one."""
    return len(_FIELDS_IN_LINE(name)) > 1


def _is_cut_in_front(header: bytes) -> bool:
    """Whether digits of the start may be missing: it has fewer than the end, which is rare."""
    start, _, rest = header.partition(b"-")
    end = rest.partition(b" ")[0]
    return len(start) < len(end) and not header.rstrip().endswith(b"[rollup]")


def _ends_well(text: bytes) -> bool:
    """Whether the last line, which has no newline, is surely complete."""
    return not text.endswith(b"\r") and _is_closed(text[text.rfind(b"\n") + 1 :])


def _is_closed(line: bytes) -> bool:
    if not line.strip():
        return True
    if line[0] in HEADER_START:
        return line.endswith((b"]", b" (deleted)"))
    try:
        number = field(line)[3]
    except Problem:
        return False
    return number is not None and number[1]


class Cleaned:
    """The certain lines of a text, and how many of each kind were left out."""

    def __init__(self, text: bytes) -> None:
        if b"\n" not in text:
            text = text.replace(b"\r", b"\n")  # line ends of old Macs
        if b"&gt;" in text or b"&lt;" in text:
            text = _without_entities(text)
        self.skipped: dict[str, int] = {}
        self.records = _records(text, self.skipped)
        if not self.records and b"\\n" in text and text.count(b"\n") < 2:
            # A text inside a text, as in JSON or a repr().
            inner: dict[str, int] = {}
            records = _records(text.replace(b"\\n", b"\n").replace(b"\\t", b"\t"), inner)
            if records:
                self.records, self.skipped = records, inner

    @property
    def text(self) -> bytes:
        """The certain lines as one text, for the backends."""
        return b"".join([b"".join(record) for record in self.records])


def _records(text: bytes, skipped: dict[str, int]) -> list[list[bytes]]:
    coloured = text.startswith(b"\x1b") or b"\n\x1b" in text or b" \x1b[" in text
    scanner = _Scanner(skipped, coloured=coloured)
    last = text.count(b"\n")
    # A name may end in CR: it belongs to the line end if most lines have it. cat -A adds "$".
    ends = [end for end in (b"\r", b"$") if 2 * text.count(end + b"\n") > last]
    if _PADDED(text):
        ends.append(b" \t")  # not the kernel's: lines were padded to a terminal's width
    border = _border(text)
    lines = text.split(b"\n")
    for i, line in enumerate(lines):
        for end in ends:
            line = line.rstrip(end)
        if border and line.endswith(border):
            line = line.removesuffix(border).rstrip(b" \t")
        lines[i] = line
    for i, line in enumerate(_joined(lines)):
        if line and not line.isspace():
            scanner.line(line, ended=i < last)
    return scanner.result()


def _border(text: bytes) -> bytes:
    """Return the text that follows most sizes, such as <br> or a box's border; b"" if none does."""
    after = [rest.rstrip(b"\r$ \t") for rest in _AFTER_SIZES(text)]
    common = max(set(after), key=after.count) if len(set(after)) <= _MAX_BORDERS and after else b""
    if common[-1:].isalnum() or 2 * after.count(common) <= len(after):
        return b""
    return common


def _joined(lines: list[bytes]) -> list[bytes]:
    """Join folded headers; b"" takes the place of the second part.

    Mail programs fold before the name, terminals at their width. Joining is certain if the next
    line is a Size, which comes right below a header, and is that of this address range.
    """
    width = 0
    for i in range(len(lines) - 2):
        size = _SIZE_IN_KB(lines[i + 2])
        if size is None or _SIZE_IN_KB(lines[i + 1]) is not None:
            continue
        header, rest = lines[i], lines[i + 1].lstrip(b" \t>|")
        found = _FIND_HEADER(header)
        if found is None or found.start() > _MAX_PREFIX or not rest:
            continue
        match = HEADER(header[found.start() :])
        if match is None or int(match[2], 16) - int(match[1], 16) != int(size[1]) << 10:
            continue
        width = width or max(len(line) for line in lines if _FIND_HEADER(line) is not None)
        if not match[7]:
            if not _may_be_a_name(rest):
                continue
            header += b" "
        elif len(header) != width or _FIND_HEADER(rest) is not None:
            continue
        # Mail's quoted-printable folds with "=", a shell with a backslash.
        lines[i], lines[i + 1] = header.removesuffix(b"=").removesuffix(b"\\") + rest, b""
    return lines


class _Scanner:
    """Collects lines into records."""

    def __init__(self, skipped: dict[str, int], *, coloured: bool) -> None:
        self._skipped = skipped
        self._coloured = coloured
        self._labels: set[str] = set()
        self._found: list[tuple[bytes, bool, list[bytes]]] = []  # key, has words, lines
        self._uses: dict[bytes, int] = {}  # lines by key
        # The current record.
        self._record: list[bytes] | None = None
        self._key = b""
        self._number: int | None = None
        self._seen: set[str] = set()
        self._nameless = False  # the line before is a header without a name
        self._follows = False  # the line before belongs to a record

    def skip(self, kind: str, count: int = 1) -> None:
        self._skipped[kind] = self._skipped.get(kind, 0) + count

    def result(self) -> list[list[bytes]]:
        """Return the records; one with a prefix of words counts if other lines have it too."""
        kept = []
        for key, has_words, lines in self._found:
            if has_words and self._uses[key] < 2:
                self.skip(OTHER, len(lines))
            else:
                kept.append(lines)
        return kept

    # ---- lines

    def line(self, line: bytes, *, ended: bool) -> None:
        if self._coloured or line[0] == 0x1B:
            line = _ESCAPES.sub(b"", line)
            if not line.strip():
                return
        kind = self._take(line, ended)
        if kind is not None:
            plain = _plain(line)
            if plain != line and plain.strip():
                kind = self._take(plain, ended)
        if kind is None:
            return
        self.skip(kind)
        if kind == DAMAGED:
            return
        if self._nameless and _may_be_a_name(line):
            # A long line was folded, and the mapping may not have this name.
            self.skip(DAMAGED, len(self._found.pop()[2]))
        if kind != CUT or self._record is None:
            self._close()
        self._follows = False

    def _close(self) -> None:
        self._record = None
        self._nameless = False

    def _take(self, line: bytes, ended: bool) -> str | None:
        """Take the line and return None, or return the reason why it is left out."""
        if self._record is not None:
            at = self._field_at(line)
            if at is not None:
                return self._field(line, at, ended)
        found = _FIND_HEADER(line)
        if found is not None and found.start() <= _MAX_PREFIX:
            return self._header(line, found.start(), ended)
        start = line.lstrip(b" \t>|")
        if start[:1] and start[0] in HEADER_START and _looks_like_header(start):
            self._close()
            return DAMAGED if ended else CUT
        if _KNOWN_START(start) is not None:
            if self._record is None:
                return HEADLESS
            return DAMAGED if ended else CUT
        return OTHER

    def _header(self, line: bytes, at: int, ended: bool) -> str | None:
        prefix, header = line[:at], line[at:]
        self._nameless = False
        header = _without_end(header, prefix)
        if prefix in (b"-", b"+"):  # a diff, and it is not known which side counts
            self._close()
            return OTHER
        match = HEADER(header)
        if match is None or _is_backwards(match[1], match[2]) or integer(match[6]) >= 2**64:
            self._close()
            return DAMAGED if ended else CUT
        name = match[7] or b""
        if name.startswith(_BLANKS):
            return OTHER  # _plain() replaces them by spaces
        if _runs_on(name):
            self._close()
            return DAMAGED
        if (not self._follows and _is_cut_in_front(header)) or not (ended or _is_closed(header)):
            self._close()
            return CUT
        self._key, self._number = _key_of(prefix)
        self._record = [header + b"\n"]
        self._seen = set()
        self._nameless = not name
        self._follows = True
        has_words = len(prefix.split()) > 1 and _LETTER(prefix) is not None
        has_words |= prefix[-1:].isspace() and _LETTER(prefix) is not None
        self._found.append((self._key, has_words, self._record))
        self._uses[self._key] = self._uses.get(self._key, 0) + 1
        return None

    def _field_at(self, line: bytes) -> int | None:
        """Return the place of a field of this record in the line; None if there is none."""
        if not self._key and self._number is None and line[0] in FIELD_START:
            return 0
        for capital in _CAPITAL(line):
            at = capital.start()
            if at > _MAX_PREFIX:
                return None
            key, number = _key_of(line[:at])
            if key != self._key:
                continue
            if (number is None) != (self._number is None):
                continue
            if number is not None and self._number is not None and number != self._number + 1:
                return None
            return at
        return None

    def _field(self, line: bytes, at: int, ended: bool) -> str | None:
        content = line[at:]
        content = _without_end(content, line[:at])
        try:
            label, kind, value, number = field(content)
        except Problem as problem:
            if problem.args[0] == errors.NO_LABEL and _KNOWN_START(content) is None:
                return OTHER
            self._count(line, at)
            return DAMAGED if ended else CUT
        if number is None and not (
            (kind == "flags" and _FLAGS(value)) or (kind == "name" and value.startswith(b"["))
        ):
            if label != FLAGS or FLAGS in self._seen:
                return OTHER
            self._count(line, at)
            return DAMAGED if ended else CUT
        if label in self._seen or (FLAGS in self._seen and label != NAME):
            # A header is missing in between; VmFlags is always the last field.
            self._close()
            return HEADLESS if label in _KNOWN_LABELS or label == FLAGS else OTHER
        self._count(line, at)
        self._seen.add(label)
        if not ended and not _is_closed(content):
            return CUT
        if label not in self._labels and len(self._labels) == MAX_LABELS:
            return DAMAGED
        self._labels.add(label)
        assert self._record is not None
        self._record.append(content + b"\n")
        self._uses[self._key] += 1
        self._nameless = False
        return None

    def _count(self, line: bytes, at: int) -> None:
        self._number = _key_of(line[:at])[1]


def _is_backwards(start: bytes, end: bytes) -> bool:
    return int(end, 16) < int(start, 16)


def _looks_like_header(line: bytes) -> bool:
    start, dash, rest = line.partition(b"-")
    return bool(dash) and len(start) >= 6 and _is_hex(start) and _is_hex(rest.split(b" ")[0][:6])


def _is_hex(text: bytes) -> bool:
    return bool(text) and not text.translate(None, b"0123456789abcdef")


def _may_be_a_name(line: bytes) -> bool:
    text = line.strip(b" \t\r>|")
    return text.startswith(b"/") or (text.startswith(b"[") and text.endswith(b"]"))


def _key_of(prefix: bytes) -> tuple[bytes, int | None]:
    """Return what the prefixes of a mapping's lines have in common, and the line number."""
    prefix = _TAG(b"", prefix.replace(b"\r", b""))
    if not prefix.strip():
        return b"", None  # any indent
    match = _NUMBERED(prefix)
    if match is not None:
        return match[1].strip() + b"#", int(match[2])
    match = _NUMBERED_FILE(prefix)
    if match is not None:
        return match[1] + b"#", int(match[2] or match[3])
    if prefix[-1:] in b":-" and len(prefix) > 1:
        return prefix[:-1] + b":", None  # grep puts ":" in matching lines, "-" in those around
    return b"".join(_TIME(b"T", prefix).split()), None


def _plain(line: bytes) -> bytes:
    """Undo what terminals, web pages and mail programs do to a line."""
    line = _without_entities(_ESCAPES.sub(b"", line))
    line = _without_tags(line)
    for texts, character in ((_BLANKS, b" "), (_INVISIBLE, b""), (_DASHES, b"-")):
        for text in texts:
            line = line.replace(text, character)
    return line


def _without_entities(text: bytes) -> bytes:
    if b"&" in text:
        for entity, character in _ENTITIES.items():
            text = text.replace(entity, character)
    return text


def _without_end(text: bytes, prefix: bytes) -> bytes:
    """Remove from a line's end what belongs to its prefix: a border, a quote, HTML's tags."""
    before = prefix[-1:]
    if before and before in _QUOTES and before in text:
        return text[: text.rindex(before)].removesuffix(b"\\n")
    if b"|" in prefix:
        return text.rstrip(b" \t").removesuffix(b"|").rstrip(b" \t")
    return _without_tags(text) if b"<" in prefix or text.endswith(_BREAKS) else text


def _without_tags(text: bytes) -> bytes:
    for _ in range(8):
        at = text.rfind(b"<")
        if at < 0 or _LAST_TAG(text, at) is None:
            break
        text = text[:at]
    return text
